"""Every indicator there is, by name, and how many candles to keep ready for it."""

from __future__ import annotations

import math
from typing import Final

import talib

from marketdata.indicators import formulas
from marketdata.indicators.bull_flag import POLE_CANDLES, PULL_BACK_CANDLES, SHORTEST_FLAG, bull_flag
from marketdata.indicators.settling import (
    always,
    counted,
    ema_tail,
    macd_needs,
    macd_settles,
    settled,
    stochastic_needs,
    wilder_tail,
)
from marketdata.indicators.spec import IndicatorParam, IndicatorSpec, Mirroring, Params, Unit
from marketdata.signals import SignalKind
from marketdata.timeframes import DAY_SECONDS, Timeframe
from tradebot.core.errors import InvalidInput

LEAST_HISTORY: Final = 200
"""Closed candles that are always kept ready, whatever the indicator needs."""


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
        always(1),
        always(1),
        formulas.unheard,
        hear=formulas.hear,
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
        counted("period", 1),
        settled(counted("period", 1), "period", wilder_tail),
        formulas.rsi,
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
        macd_needs,
        macd_settles,
        formulas.macd,
    ),
    IndicatorSpec(
        "bb_percent",
        "Bollinger %B",
        "Where the price is between the Bollinger bands: 0 at the lower, 100 at the upper",
        (_period(20), IndicatorParam("deviations", "standard deviations", 2, 0.1, 10, whole=False)),
        _VALUE,
        Unit.POINTS,
        Mirroring.FROM_HUNDRED,
        counted("period"),
        counted("period"),
        formulas.bb_percent,
    ),
    IndicatorSpec(
        "ema",
        "Price − EMA",
        "Price minus its exponential average; crossing 0 is crossing the average",
        (_period(50),),
        _VALUE,
        Unit.PRICE,
        Mirroring.NEGATE,
        counted("period"),
        settled(counted("period"), "period", ema_tail),
        formulas.price_off_average(talib.EMA),
    ),
    IndicatorSpec(
        "sma",
        "Price − SMA",
        "Price minus its simple average; crossing 0 is crossing the average",
        (_period(50),),
        _VALUE,
        Unit.PRICE,
        Mirroring.NEGATE,
        counted("period"),
        counted("period"),
        formulas.price_off_average(formulas.rolling_mean),
    ),
    IndicatorSpec(
        "ema_cross",
        "EMA fast − slow",
        "Fast minus slow exponential average; crossing 0 is the averages crossing",
        _FAST_SLOW,
        _VALUE,
        Unit.PRICE,
        Mirroring.NEGATE,
        counted("slow"),
        settled(counted("slow"), "slow", ema_tail),
        formulas.average_cross(talib.EMA),
    ),
    IndicatorSpec(
        "sma_cross",
        "SMA fast − slow",
        "Fast minus slow simple average; crossing 0 is the averages crossing",
        _FAST_SLOW,
        _VALUE,
        Unit.PRICE,
        Mirroring.NEGATE,
        counted("slow"),
        counted("slow"),
        formulas.average_cross(formulas.rolling_mean),
    ),
    IndicatorSpec(
        "stochastic",
        "Stochastic",
        "Slow %K: where the close is between the lowest low and the highest high, averaged",
        (_period(14), IndicatorParam("smooth", "smoothing", 3, 1, 100)),
        _VALUE,
        Unit.POINTS,
        Mirroring.FROM_HUNDRED,
        stochastic_needs,
        stochastic_needs,
        formulas.stochastic,
    ),
    IndicatorSpec(
        "atr_percent",
        "ATR %",
        "Average true range in percent of the price",
        (_period(14),),
        _VALUE,
        Unit.PERCENT,
        Mirroring.NONE,
        counted("period", 1),
        settled(counted("period", 1), "period", wilder_tail),
        formulas.atr_percent,
    ),
    IndicatorSpec(
        "volume_ratio",
        "Volume ratio",
        "The last candle's volume divided by the mean of those before it",
        (_period(20, minimum=1),),
        _VALUE,
        Unit.RATIO,
        Mirroring.NONE,
        counted("period", 1),
        counted("period", 1),
        formulas.volume_ratio,
    ),
    IndicatorSpec(
        "volume_rsi",
        "Volume RSI",
        "Wilder's relative strength index of the volumes",
        (_period(14),),
        _VALUE,
        Unit.POINTS,
        Mirroring.NONE,
        counted("period", 1),
        settled(counted("period", 1), "period", wilder_tail),
        formulas.volume_rsi,
    ),
    IndicatorSpec(
        "price_change",
        "Price change %",
        "Change of the close over a number of candles, in percent",
        (IndicatorParam("candles", "candles", 1, 1, 500),),
        _VALUE,
        Unit.PERCENT,
        Mirroring.NEGATE,
        counted("candles", 1),
        counted("candles", 1),
        formulas.price_change,
    ),
    IndicatorSpec(
        "gap_fill",
        "Gaps %",
        "Share of candles without any trade in the window, in percent",
        (IndicatorParam("window", "window", 100, 1, 500),),
        _VALUE,
        Unit.PERCENT,
        Mirroring.NONE,
        counted("window"),
        counted("window"),
        formulas.gap_fill,
    ),
    IndicatorSpec(
        "vwap",
        "Price − VWAP %",
        "Price against the volume-weighted average price of the day (from 00:00 UTC), in percent of that average",
        (),
        _VALUE,
        Unit.PERCENT,
        Mirroring.NEGATE,
        always(1),
        always(1),
        formulas.vwap,
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
        always(SHORTEST_FLAG),
        always(POLE_CANDLES[1] + PULL_BACK_CANDLES[1] + 1),
        bull_flag,
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
        always(1),
        always(1),
        formulas.unheard,
        hear=formulas.hear,
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
