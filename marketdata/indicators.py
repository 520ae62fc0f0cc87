"""The indicators that conditions compare: one registry for the engine, the forms and the schema (F42). Pure.

Each entry is causal: the value at candle i from the whole series equals the value from the first i + 1 candles, so an
array computed once serves a replay at every index without looking ahead. Values are float64, oldest first, NaN where
there is not enough history. Formulas are TA-Lib's unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Final, cast

import numpy as np
import talib

from marketdata.series import Candles, FloatArray, IntArray
from marketdata.signals import SignalKind, Signals, signal_values
from marketdata.timeframes import DAY_SECONDS, Timeframe
from tradebot.core.errors import InvalidInput

Params = Mapping[str, float]
Compute = Callable[[Candles, Params, str], FloatArray]
Hear = Callable[[Signals, IntArray, int, Params, str], FloatArray]
"""(signals, closes in Unix seconds, seconds of a candle, parameters, line) to values."""

LEAST_HISTORY: Final = 200
"""Closed candles that are always kept ready, whatever the indicator needs."""

FORGOTTEN: Final = 1e-6
"""A smoothed average is settled once the weight of everything before its window is below this."""


class Unit(StrEnum):
    """What an indicator's value is measured in. It sets the scale of the noise band of crossings."""

    POINTS = "points"
    PERCENT = "percent"
    PRICE = "price"
    RATIO = "ratio"
    SIGNAL = "signal"


class Mirroring(StrEnum):
    """What a value becomes when a long's condition is turned into a short's."""

    NONE = "none"
    NEGATE = "negate"
    FROM_HUNDRED = "from_hundred"
    OPPOSITE = "opposite"
    """Another indicator or another line, named by the entry: a buy becomes a sell."""


@dataclass(frozen=True, slots=True)
class IndicatorParam:
    """A parameter: its default and allowed range. ``whole`` parameters are numbers of candles."""

    name: str
    label: str
    default: float
    minimum: float
    maximum: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class IndicatorSpec:
    """One indicator.

    ``needs(params)`` is the number of candles before the first value exists, ``settles(params)`` the number after
    which the value no longer depends on where the series began. ``outputs`` lists the lines, the default first.
    ``of_the_day`` says that every candle since 00:00 UTC counts as well. ``hear`` is set where the values follow from
    what one bot is told rather than from candles: they are private, have no value in a shared view, and are laid over
    it for that bot alone. ``opposite`` and ``opposite_outputs`` name indicator and lines of the other direction.
    """

    name: str
    label: str
    help: str
    params: tuple[IndicatorParam, ...]
    outputs: tuple[str, ...]
    unit: Unit
    mirroring: Mirroring
    needs: Callable[[Params], int]
    settles: Callable[[Params], int]
    compute: Compute
    of_the_day: bool = False
    hear: Hear | None = None
    opposite: str = ""
    opposite_outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_private(self) -> bool:
        """Return whether the values belong to one bot and must not be shared."""
        return self.hear is not None

    def complete(self, given: Params) -> dict[str, float]:
        """Return ``given`` with defaults for what is missing, in the declared order.

        Raises InvalidInput (``invalid_indicator_params``) for unknown names and values that are out of range or, where
        whole numbers are asked for, not whole.
        """
        unknown = set(given) - {param.name for param in self.params}
        if unknown:
            raise _refused(f"{self.label} has no parameter {min(unknown)!r}")
        result: dict[str, float] = {}
        for param in self.params:
            value = float(given.get(param.name, param.default))
            if not param.minimum <= value <= param.maximum:
                raise _refused(
                    f"{self.label}: {param.label} is {value:g}, allowed are {param.minimum:g} to {param.maximum:g}"
                )
            if param.whole and value != int(value):
                raise _refused(f"{self.label}: {param.label} is {value:g}, a whole number is needed")
            result[param.name] = int(value) if param.whole else value
        if "fast" in result and result["fast"] >= result["slow"]:
            raise _refused(f"{self.label}: fast ({result['fast']:g}) must be below slow ({result['slow']:g})")
        return result

    def values(self, candles: Candles, params: Params, output: str | None = None) -> FloatArray:
        """Return the value at each candle; ``params`` are complete, ``output`` defaults to the first."""
        line = output or self.outputs[0]
        if line not in self.outputs:
            raise InvalidInput(
                "unknown_output", f"{self.label} has no line {line!r}, only {', '.join(self.outputs)}", field="output"
            )
        if len(candles) < self.needs(params):
            return np.full(len(candles), np.nan)
        return self.compute(candles, params, line)

    def heard(
        self, signals: Signals, candles: Candles, timeframe: Timeframe, params: Params, output: str | None = None
    ) -> FloatArray:
        """Return the value at each candle of a private indicator, from what its bot was told."""
        if self.hear is None:
            raise ValueError(f"{self.name} follows from candles, not from signals")
        closes = candles.time + timeframe.seconds
        return self.hear(signals, closes, timeframe.seconds, params, output or self.outputs[0])


def _refused(message: str) -> InvalidInput:
    return InvalidInput("invalid_indicator_params", message, field="params")


# Prices are divided by the first close before they go into TA-Lib, which takes differences below 1e-14 for zero: a coin
# quoted at 1e-9 BTC would otherwise have no RSI. Scaling by the first candle keeps the computation causal.


def _scaled(candles: Candles) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    scale = float(candles.close[0])
    return candles.high / scale, candles.low / scale, candles.close / scale, scale


def _whole(params: Params, name: str) -> int:
    return int(params[name])


def _array(values: object) -> FloatArray:
    return cast(FloatArray, values)


RESOLUTION: Final = 1e6
"""What an RSI's source is scaled to, so that TA-Lib does not take the fading of old moves for zero (and RSI for 0)."""


def _wilder(source: FloatArray, period: int) -> FloatArray:
    """Return the RSI of ``source`` (around 1), 50 where nothing has moved for as long as the RSI remembers.

    Neither gains nor losses are favoured then. Without that a market without trades would keep for ever the value its
    last move left, in a long series, and be at 50 in a shorter one.
    """
    index = np.arange(len(source))
    moved = np.concatenate(([False], np.diff(source) != 0))
    latest = np.maximum.accumulate(np.where(moved, index, 0))
    still = (latest == 0) | (index - latest >= _wilder_tail(period))
    values = _array(talib.RSI(source * RESOLUTION, period))
    return np.where(still & ~np.isnan(values), 50.0, values)


def _rsi(candles: Candles, params: Params, _: str) -> FloatArray:
    return _wilder(_scaled(candles)[2], _whole(params, "period"))


def _macd(candles: Candles, params: Params, output: str) -> FloatArray:
    close, scale = _scaled(candles)[2:]
    fast, slow, signal = (_whole(params, name) for name in ("fast", "slow", "signal"))
    line, average, histogram = talib.MACD(close, fast, slow, signal)
    return _array({"histogram": histogram, "line": line, "signal": average}[output]) * scale


def _bb_percent(candles: Candles, params: Params, _: str) -> FloatArray:
    close = _scaled(candles)[2]
    upper, _middle, lower = talib.BBANDS(close, _whole(params, "period"), params["deviations"], params["deviations"])
    width = upper - lower
    equal = width <= 1e-12 * close
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(equal, 50.0, (close - lower) / np.where(equal, 1.0, width) * 100.0)


def _average(kind: Callable[[FloatArray, int], object]) -> Compute:
    def compute(candles: Candles, params: Params, _: str) -> FloatArray:
        close, scale = _scaled(candles)[2:]
        return (close - _array(kind(close, _whole(params, "period")))) * scale

    return compute


def _average_cross(kind: Callable[[FloatArray, int], object]) -> Compute:
    def compute(candles: Candles, params: Params, _: str) -> FloatArray:
        close, scale = _scaled(candles)[2:]
        fast, slow = (_array(kind(close, _whole(params, name))) for name in ("fast", "slow"))
        return (fast - slow) * scale

    return compute


def _stochastic(candles: Candles, params: Params, _: str) -> FloatArray:
    high, low, close, _scale = _scaled(candles)
    period, smooth = _whole(params, "period"), _whole(params, "smooth")
    highest, lowest = _array(talib.MAX(high, period)), _array(talib.MIN(low, period))
    width = highest - lowest
    flat = width <= 1e-12 * close
    raw = np.where(flat, 50.0, (close - lowest) / np.where(flat, 1.0, width) * 100.0)
    result = np.full(len(candles), np.nan)
    result[period - 1 :] = _mean(raw[period - 1 :], smooth)
    return result


def _mean(values: FloatArray, period: int) -> FloatArray:
    """Return the mean of the last ``period`` values, NaN before. Summed window by window: causal to the bit."""
    result = np.full(len(values), np.nan)
    if len(values) >= period:
        windows = np.lib.stride_tricks.sliding_window_view(values, period)
        result[period - 1 :] = windows.mean(axis=1)
    return result


def _atr_percent(candles: Candles, params: Params, _: str) -> FloatArray:
    high, low, close, _scale = _scaled(candles)
    return _array(talib.ATR(high, low, close, _whole(params, "period"))) / close * 100.0


def _volume_ratio(candles: Candles, params: Params, _: str) -> FloatArray:
    """Last volume / mean of the ``period`` volumes before it; 0 when nothing was traded in all of them."""
    period = _whole(params, "period")
    mean = np.full(len(candles), np.nan)
    mean[1:] = _mean(candles.volume, period)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mean == 0, 0.0, candles.volume / mean)


def _volume_rsi(candles: Candles, params: Params, _: str) -> FloatArray:
    return _wilder(candles.volume / (float(candles.volume[0]) or 1.0), _whole(params, "period"))


def _price_change(candles: Candles, params: Params, _: str) -> FloatArray:
    count = _whole(params, "candles")
    result = np.full(len(candles), np.nan)
    result[count:] = (candles.close[count:] / candles.close[:-count] - 1.0) * 100.0
    return result


def _gap_fill(candles: Candles, params: Params, _: str) -> FloatArray:
    return _mean(candles.synthetic.astype(np.float64), _whole(params, "window")) * 100.0


def _vwap(candles: Candles, _params: Params, _: str) -> FloatArray:
    """Close against the day's volume-weighted average of (high + low + close) / 3; 0 before the day's first trade.

    A day counts from 00:00 UTC. One that the series does not show from its beginning has no value.
    """
    result = np.full(len(candles), np.nan)
    typical = (candles.high + candles.low + candles.close) / 3.0
    day = candles.time // DAY_SECONDS
    starts = np.flatnonzero(np.diff(day, prepend=day[0] - 1))
    for first, after in pairwise([*starts.tolist(), len(candles)]):
        if candles.time[first] % DAY_SECONDS == 0:
            volume, close = candles.volume[first:after], candles.close[first:after]
            traded, paid = np.cumsum(volume), np.cumsum(typical[first:after] * volume)
            average = np.where(traded > 0, paid / np.where(traded > 0, traded, 1.0), close)
            result[first:after] = (close / average - 1.0) * 100.0
    return result


# Bull flag: a pole of rising candles, a pull-back, and the candle that ends the pull-back.
POLE_CANDLES: Final = (3, 50)
PULL_BACK_CANDLES: Final = (2, 8)
LEAST_RED: Final = 2
LEAST_POLE_PCT: Final = 3.0
MOST_RETRACED_PCT: Final = 50.0
ROUNDING: Final = 1e-9
"""A float that is meant to be 3 % may come out this much less."""


def bull_flag_stops(candles: Candles) -> FloatArray:
    """Return the low of the pull-back at each candle that completes a bull flag, NaN at all others.

    Going back from a candle that closes above its open and above that low: a pull-back of 2 to 8 candles, at least 2 of
    them red, that begins where the pole ends; before it the pole, all candles in a row that close above their open, 3
    to 50 of them. The pole gains at least 3 % from its lowest low to its highest high, the pull-back gives back at most
    half of that and trades less per candle than the pole. Where several pull-backs fit, the shortest counts. The next
    rising candle may complete the same flag again, this one being part of the pull-back then.

    The price at which the flag is entered is the candle's close, the risk is close minus stop.
    """
    shortest, longest = POLE_CANDLES
    index = np.arange(len(candles))
    green, red = candles.close > candles.open, candles.close < candles.open
    pole_start = np.maximum.accumulate(np.where(green, -1, index)) + 1
    pole_start = np.maximum(pole_start, index - longest + 1)
    is_pole = green & (index - pole_start + 1 >= shortest)
    reds = np.concatenate(([0], np.cumsum(red)))
    stops = np.full(len(candles), np.nan)
    for length in range(PULL_BACK_CANDLES[0], PULL_BACK_CANDLES[1] + 1):
        at = index[length + shortest :]
        back = at - length
        at = at[
            is_pole[back - 1] & ~green[back] & green[at] & (reds[at] - reds[back] >= LEAST_RED) & np.isnan(stops[at])
        ]
        if len(at):
            at, low = _flags(candles, pole_start[at - length - 1], at - length, at)
            stops[at] = low
    return stops


def _flags(candles: Candles, pole: IntArray, back: IntArray, at: IntArray) -> tuple[IntArray, FloatArray]:
    """Return which flags are ones by their prices and volumes, and the lows of their pull-backs.

    The pole reaches from ``pole`` to before ``back``, the pull-back from there to before ``at``.
    """
    bottom, top = _each(np.minimum, candles.low, pole, back), _each(np.maximum, candles.high, pole, back)
    low = _each(np.minimum, candles.low, back, at)
    volume_before = _each(np.add, candles.volume, pole, back) / (back - pole)
    volume_after = _each(np.add, candles.volume, back, at) / (at - back)
    fits = (top / bottom - 1.0) * 100.0 >= LEAST_POLE_PCT - ROUNDING
    fits &= (top - low) * 100.0 <= (top - bottom) * (MOST_RETRACED_PCT + ROUNDING)
    fits &= (volume_after < volume_before) & (candles.close[at] > low)
    return at[fits], low[fits]


def _each(ufunc: np.ufunc, values: FloatArray, first: IntArray, after: IntArray) -> FloatArray:
    """Return ``ufunc`` over ``values[first:after]`` for each pair; no span may reach the end of ``values``."""
    return cast(FloatArray, ufunc.reduceat(values, np.column_stack((first, after)).ravel())[::2])


SHORTEST_FLAG: Final = POLE_CANDLES[0] + PULL_BACK_CANDLES[0] + 1


def _bull_flag(candles: Candles, _params: Params, _: str) -> FloatArray:
    result = np.isfinite(bull_flag_stops(candles)).astype(np.float64)
    result[: SHORTEST_FLAG - 1] = np.nan
    return result


# Signals: what one bot is told. A view that everybody shares knows nothing of them.


def _unheard(candles: Candles, _params: Params, _: str) -> FloatArray:
    return np.full(len(candles), np.nan)


def _hear(signals: Signals, closes: IntArray, step: int, params: Params, output: str) -> FloatArray:
    return signal_values(
        signals,
        closes,
        params["valid_candles"] * step,
        least_confidence=params.get("min_confidence", 0.0),
        action=output if output in ("buy", "sell") else "",
    )


# How many candles ---------------------------------------------------------------------------------------------------


def _ema_tail(period: float) -> int:
    """Return after how many candles an exponential average has forgotten its seed."""
    return math.ceil(math.log(FORGOTTEN) / math.log(1 - 2 / (period + 1))) if period > 1 else 1


def _wilder_tail(period: float) -> int:
    """Return after how many candles a Wilder average has forgotten its seed."""
    return math.ceil(math.log(FORGOTTEN) / math.log(1 - 1 / period)) if period > 1 else 1


def _count(name: str, extra: int = 0) -> Callable[[Params], int]:
    return lambda params: int(params[name]) + extra


def _always(count: int) -> Callable[[Params], int]:
    return lambda _params: count


def _settled(needs: Callable[[Params], int], name: str, tail: Callable[[float], int]) -> Callable[[Params], int]:
    return lambda params: needs(params) + tail(params[name])


def _macd_needs(params: Params) -> int:
    return int(params["slow"]) + int(params["signal"]) - 1


def _macd_settles(params: Params) -> int:
    return _macd_needs(params) + _ema_tail(params["slow"]) + _ema_tail(params["signal"])


def _stochastic_needs(params: Params) -> int:
    return int(params["period"]) + int(params["smooth"]) - 1


def _period(default: int, label: str = "period", minimum: int = 2, maximum: int = 500) -> IndicatorParam:
    return IndicatorParam("period", label, default, minimum, maximum)


_FAST_SLOW: Final = (
    IndicatorParam("fast", "fast period", 20, 2, 499),
    IndicatorParam("slow", "slow period", 50, 3, 500),
)
_VALUE: Final = ("value",)
_VALID: Final = IndicatorParam("valid_candles", "candles it stays valid", 1, 1, 500)
_CONFIDENCE: Final = IndicatorParam("min_confidence", "least confidence", 60, 0, 100, whole=False)


def _opinion(kind: SignalKind, label: str, word: str, opposite: SignalKind) -> IndicatorSpec:
    return IndicatorSpec(
        kind.value,
        label,
        f"1 when a model of yours has told this bot to {word} within the last candles, with at least that confidence,"
        " else 0; unknown until a first such signal has come",
        (_VALID, _CONFIDENCE),
        _VALUE,
        Unit.SIGNAL,
        Mirroring.OPPOSITE,
        _always(1),
        _always(1),
        _unheard,
        hear=_hear,
        opposite=opposite.value,
    )


_SPECS: Final = (
    IndicatorSpec(
        "rsi",
        "RSI",
        "Wilder's relative strength index, 0 to 100",
        (_period(14),),
        _VALUE,
        Unit.POINTS,
        Mirroring.FROM_HUNDRED,
        _count("period", 1),
        _settled(_count("period", 1), "period", _wilder_tail),
        _rsi,
    ),
    IndicatorSpec(
        "macd",
        "MACD",
        "Histogram, line or signal of the moving average convergence divergence, in quote currency",
        (
            IndicatorParam("fast", "fast period", 12, 2, 199),
            IndicatorParam("slow", "slow period", 26, 3, 200),
            IndicatorParam("signal", "signal period", 9, 1, 200),
        ),
        ("histogram", "line", "signal"),
        Unit.PRICE,
        Mirroring.NEGATE,
        _macd_needs,
        _macd_settles,
        _macd,
    ),
    IndicatorSpec(
        "bb_percent",
        "Bollinger %B",
        "Where the price is between the Bollinger bands: 0 at the lower, 100 at the upper",
        (_period(20), IndicatorParam("deviations", "standard deviations", 2, 0.1, 10, whole=False)),
        _VALUE,
        Unit.POINTS,
        Mirroring.FROM_HUNDRED,
        _count("period"),
        _count("period"),
        _bb_percent,
    ),
    IndicatorSpec(
        "ema",
        "Price − EMA",
        "Price minus its exponential average; crossing 0 is crossing the average",
        (_period(50),),
        _VALUE,
        Unit.PRICE,
        Mirroring.NEGATE,
        _count("period"),
        _settled(_count("period"), "period", _ema_tail),
        _average(talib.EMA),
    ),
    IndicatorSpec(
        "sma",
        "Price − SMA",
        "Price minus its simple average; crossing 0 is crossing the average",
        (_period(50),),
        _VALUE,
        Unit.PRICE,
        Mirroring.NEGATE,
        _count("period"),
        _count("period"),
        _average(_mean),
    ),
    IndicatorSpec(
        "ema_cross",
        "EMA fast − slow",
        "Fast minus slow exponential average; crossing 0 is the averages crossing",
        _FAST_SLOW,
        _VALUE,
        Unit.PRICE,
        Mirroring.NEGATE,
        _count("slow"),
        _settled(_count("slow"), "slow", _ema_tail),
        _average_cross(talib.EMA),
    ),
    IndicatorSpec(
        "sma_cross",
        "SMA fast − slow",
        "Fast minus slow simple average; crossing 0 is the averages crossing",
        _FAST_SLOW,
        _VALUE,
        Unit.PRICE,
        Mirroring.NEGATE,
        _count("slow"),
        _count("slow"),
        _average_cross(_mean),
    ),
    IndicatorSpec(
        "stochastic",
        "Stochastic",
        "Slow %K: where the close is between the lowest low and the highest high, averaged",
        (_period(14), IndicatorParam("smooth", "smoothing", 3, 1, 100)),
        _VALUE,
        Unit.POINTS,
        Mirroring.FROM_HUNDRED,
        _stochastic_needs,
        _stochastic_needs,
        _stochastic,
    ),
    IndicatorSpec(
        "atr_percent",
        "ATR %",
        "Average true range in percent of the price",
        (_period(14),),
        _VALUE,
        Unit.PERCENT,
        Mirroring.NONE,
        _count("period", 1),
        _settled(_count("period", 1), "period", _wilder_tail),
        _atr_percent,
    ),
    IndicatorSpec(
        "volume_ratio",
        "Volume ratio",
        "The last candle's volume divided by the mean of those before it",
        (_period(20, minimum=1),),
        _VALUE,
        Unit.RATIO,
        Mirroring.NONE,
        _count("period", 1),
        _count("period", 1),
        _volume_ratio,
    ),
    IndicatorSpec(
        "volume_rsi",
        "Volume RSI",
        "Wilder's relative strength index of the volumes",
        (_period(14),),
        _VALUE,
        Unit.POINTS,
        Mirroring.NONE,
        _count("period", 1),
        _settled(_count("period", 1), "period", _wilder_tail),
        _volume_rsi,
    ),
    IndicatorSpec(
        "price_change",
        "Price change %",
        "Change of the close over a number of candles, in percent",
        (IndicatorParam("candles", "candles", 1, 1, 500),),
        _VALUE,
        Unit.PERCENT,
        Mirroring.NEGATE,
        _count("candles", 1),
        _count("candles", 1),
        _price_change,
    ),
    IndicatorSpec(
        "gap_fill",
        "Gaps %",
        "Share of candles without any trade in the window, in percent",
        (IndicatorParam("window", "window", 100, 1, 500),),
        _VALUE,
        Unit.PERCENT,
        Mirroring.NONE,
        _count("window"),
        _count("window"),
        _gap_fill,
    ),
    IndicatorSpec(
        "vwap",
        "Price − VWAP %",
        "Price against the volume-weighted average price of the day (from 00:00 UTC), in percent of that average",
        (),
        _VALUE,
        Unit.PERCENT,
        Mirroring.NEGATE,
        _always(1),
        _always(1),
        _vwap,
        of_the_day=True,
    ),
    IndicatorSpec(
        "bull_flag",
        "Bull flag",
        "1 when the candle completes a bull flag, else 0: a pole of 3 or more rising candles gaining 3 % or more, a"
        " pull-back of 2 to 8 candles giving back at most half of it on less volume, and a rising candle",
        (),
        _VALUE,
        Unit.SIGNAL,
        Mirroring.NONE,
        _always(SHORTEST_FLAG),
        _always(POLE_CANDLES[1] + PULL_BACK_CANDLES[1] + 1),
        _bull_flag,
    ),
    IndicatorSpec(
        SignalKind.WEBHOOK.value,
        "Webhook",
        "1 when an alert has reached this bot's hook within the last candles, else 0; unknown until a first one has"
        " come. Lines: any alert, or those alone that say buy or sell",
        (_VALID,),
        ("any", "buy", "sell"),
        Unit.SIGNAL,
        Mirroring.OPPOSITE,
        _always(1),
        _always(1),
        _unheard,
        hear=_hear,
        opposite=SignalKind.WEBHOOK.value,
        opposite_outputs={"buy": "sell", "sell": "buy"},
    ),
    _opinion(SignalKind.AI_BUY, "AI buy", "buy", SignalKind.AI_SELL),
    _opinion(SignalKind.AI_SELL, "AI sell", "sell", SignalKind.AI_BUY),
)

INDICATORS: Final[dict[str, IndicatorSpec]] = {spec.name: spec for spec in _SPECS}


def spec_of(name: str) -> IndicatorSpec:
    """Return the indicator called ``name``. Raises InvalidInput (``unknown_indicator``)."""
    try:
        return INDICATORS[name]
    except KeyError:
        raise InvalidInput(
            "unknown_indicator", f"{name!r} is no indicator; known are {', '.join(INDICATORS)}", field="indicator"
        ) from None


def candles_wanted(name: str, params: Params, timeframe: Timeframe) -> int:
    """Return how many closed candles to keep ready for the indicator: at least 200, more for slow averages."""
    spec = spec_of(name)
    of_the_day = math.ceil(DAY_SECONDS / timeframe.seconds) if spec.of_the_day else 0
    return max(LEAST_HISTORY, spec.settles(params), of_the_day)
