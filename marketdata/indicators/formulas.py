"""The arithmetic of the indicators, over arrays: TA-Lib's formulas unless said otherwise, each of them causal.

Prices are divided by the first close before they go into TA-Lib, which takes differences below 1e-14 for zero: a coin
quoted at 1e-9 BTC would otherwise have no RSI. Scaling by the first candle keeps the computation causal.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final, cast

import numpy as np
import talib

from marketdata.indicators.settling import wilder_tail
from marketdata.indicators.spec import Compute, Params
from marketdata.series import Candles, FloatArray, IntArray
from marketdata.signals import Signals, signal_values
from marketdata.timeframes import DAY_SECONDS

RESOLUTION: Final = 1e6
"""What an RSI's source is scaled to, so that TA-Lib does not take the fading of old moves for zero (and RSI for 0)."""


def rsi(candles: Candles, params: Params, _: str) -> FloatArray:
    return _wilder(_scaled(candles)[2], _whole(params, "period"))


def volume_rsi(candles: Candles, params: Params, _: str) -> FloatArray:
    return _wilder(candles.volume / (float(candles.volume[0]) or 1.0), _whole(params, "period"))


def _wilder(source: FloatArray, period: int) -> FloatArray:
    """Return the RSI of ``source`` (around 1), 50 where nothing has moved for as long as the RSI remembers.

    Neither gains nor losses are favoured then. Without that a market without trades would keep for ever the value its
    last move left, in a long series, and be at 50 in a shorter one.
    """
    index = np.arange(len(source))
    moved = np.concatenate(([False], np.diff(source) != 0))
    latest = np.maximum.accumulate(np.where(moved, index, 0))
    still = (latest == 0) | (index - latest >= wilder_tail(period))
    values = _array(talib.RSI(source * RESOLUTION, period))
    return np.where(still & ~np.isnan(values), 50.0, values)


def macd(candles: Candles, params: Params, output: str) -> FloatArray:
    close, scale = _scaled(candles)[2:]
    fast, slow, signal = (_whole(params, name) for name in ("fast", "slow", "signal"))
    line, average, histogram = talib.MACD(close, fast, slow, signal)
    return _array({"histogram": histogram, "line": line, "signal": average}[output]) * scale


def bb_percent(candles: Candles, params: Params, _: str) -> FloatArray:
    close = _scaled(candles)[2]
    upper, _middle, lower = talib.BBANDS(close, _whole(params, "period"), params["deviations"], params["deviations"])
    width = upper - lower
    equal = width <= 1e-12 * close
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(equal, 50.0, (close - lower) / np.where(equal, 1.0, width) * 100.0)


def price_off_average(kind: Callable[[FloatArray, int], object]) -> Compute:
    """Return what computes the price minus its average of this kind."""

    def compute(candles: Candles, params: Params, _: str) -> FloatArray:
        close, scale = _scaled(candles)[2:]
        return (close - _array(kind(close, _whole(params, "period")))) * scale

    return compute


def average_cross(kind: Callable[[FloatArray, int], object]) -> Compute:
    """Return what computes the fast minus the slow average of this kind."""

    def compute(candles: Candles, params: Params, _: str) -> FloatArray:
        close, scale = _scaled(candles)[2:]
        fast, slow = (_array(kind(close, _whole(params, name))) for name in ("fast", "slow"))
        return (fast - slow) * scale

    return compute


def stochastic(candles: Candles, params: Params, _: str) -> FloatArray:
    high, low, close, _scale = _scaled(candles)
    period, smooth = _whole(params, "period"), _whole(params, "smooth")
    highest, lowest = _array(talib.MAX(high, period)), _array(talib.MIN(low, period))
    width = highest - lowest
    flat = width <= 1e-12 * close
    raw = np.where(flat, 50.0, (close - lowest) / np.where(flat, 1.0, width) * 100.0)
    result = np.full(len(candles), np.nan)
    result[period - 1 :] = rolling_mean(raw[period - 1 :], smooth)
    return result


def rolling_mean(values: FloatArray, period: int) -> FloatArray:
    """Return the mean of the last ``period`` values, NaN before. Summed window by window: causal to the bit."""
    result = np.full(len(values), np.nan)
    if len(values) >= period:
        windows = np.lib.stride_tricks.sliding_window_view(values, period)
        result[period - 1 :] = windows.mean(axis=1)
    return result


def atr_percent(candles: Candles, params: Params, _: str) -> FloatArray:
    high, low, close, _scale = _scaled(candles)
    return _array(talib.ATR(high, low, close, _whole(params, "period"))) / close * 100.0


def volume_ratio(candles: Candles, params: Params, _: str) -> FloatArray:
    """Last volume / mean of the ``period`` volumes before it; 0 when nothing was traded in all of them."""
    period = _whole(params, "period")
    mean = np.full(len(candles), np.nan)
    mean[1:] = rolling_mean(candles.volume, period)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mean == 0, 0.0, candles.volume / mean)


def price_change(candles: Candles, params: Params, _: str) -> FloatArray:
    count = _whole(params, "candles")
    result = np.full(len(candles), np.nan)
    result[count:] = (candles.close[count:] / candles.close[:-count] - 1.0) * 100.0
    return result


def gap_fill(candles: Candles, params: Params, _: str) -> FloatArray:
    return rolling_mean(candles.synthetic.astype(np.float64), _whole(params, "window")) * 100.0


def vwap(candles: Candles, _params: Params, _: str) -> FloatArray:
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


def _scaled(candles: Candles) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    scale = float(candles.close[0])
    return candles.high / scale, candles.low / scale, candles.close / scale, scale


def _whole(params: Params, name: str) -> int:
    return int(params[name])


def _array(values: object) -> FloatArray:
    return cast(FloatArray, values)


def unheard(candles: Candles, _params: Params, _: str) -> FloatArray:
    """Return no value: a view that everybody shares knows nothing of what one bot is told."""
    return np.full(len(candles), np.nan)


def hear(signals: Signals, closes: IntArray, step: int, params: Params, output: str) -> FloatArray:
    """Return what the signals of one bot come to at each close."""
    return signal_values(
        signals,
        closes,
        params["valid_candles"] * step,
        least_confidence=params.get("min_confidence", 0.0),
        action=output if output in ("buy", "sell") else "",
    )
