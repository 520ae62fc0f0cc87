"""The bull flag: a pole of rising candles, a pull-back, and the candle that ends the pull-back."""

from __future__ import annotations

from typing import Final, cast

import numpy as np

from marketdata.indicators.spec import Params
from marketdata.series import Candles, FloatArray, IntArray

POLE_CANDLES: Final = (3, 50)
PULL_BACK_CANDLES: Final = (2, 8)
SHORTEST_FLAG: Final = POLE_CANDLES[0] + PULL_BACK_CANDLES[0] + 1
LEAST_RED: Final = 2
LEAST_POLE_PCT: Final = 3.0
MOST_RETRACED_PCT: Final = 50.0
ROUNDING: Final = 1e-9
"""A float that is meant to be 3 % may come out this much less."""


def bull_flag(candles: Candles, _params: Params, _: str) -> FloatArray:
    """Return 1 at each candle that completes a flag, 0 at all others, NaN before there could be one."""
    result = np.isfinite(bull_flag_stops(candles)).astype(np.float64)
    result[: SHORTEST_FLAG - 1] = np.nan
    return result


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
