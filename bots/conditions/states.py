"""The states of one condition over the candles of its timeframe."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from bots.conditions.tree import Condition, Operator
from marketdata.indicators import Unit
from marketdata.series import BoolArray, Candles, FloatArray

StateArray = npt.NDArray[np.int8]

NOISE: Final = 1e-9
"""Differences below this share of the value are no difference."""


class State(IntEnum):
    """The outcome of a condition. The order makes AND the least and OR the greatest of its parts."""

    UNMET = 0
    UNKNOWN = 1
    MET = 2


MET: Final = int(State.MET)
UNKNOWN: Final = int(State.UNKNOWN)
UNMET: Final = int(State.UNMET)
"""The same as plain numbers, which a look at every price computes with."""


def inverse(state: int) -> int:
    """Return the state of what is negated."""
    return MET - state


def condition_states(condition: Condition, candles: Candles, values: FloatArray) -> StateArray:
    """Return the state of ``condition`` (its negation left out) at each candle, judged by that candle and earlier ones.

    ``values`` are the indicator's, as long as ``candles``. A crossing is met at the one candle at which the value has
    reached the other side of the threshold; moving within the noise band is no crossing, and passing through it in
    several candles is one.
    """
    known = np.isfinite(values)
    scale = candles.close if condition.spec.unit is Unit.PRICE else 1.0
    threshold = condition.value or 0.0
    if condition.operator.is_change:
        met, known = _changes(condition.operator, threshold, values, scale)
    else:
        with np.errstate(invalid="ignore"):
            band = NOISE * np.maximum(np.maximum(np.abs(values), abs(threshold)), scale)
            side = np.where(values - threshold > band, 1, np.where(values - threshold < -band, -1, 0))
        if condition.operator.is_crossing:
            if condition.spec.unit is Unit.SIGNAL:
                side = _off_the_line(condition.operator, side)
            # What was never heard of was not signalled either, so the very first signal is a crossing.
            before = np.ones(len(known), dtype=np.bool_) if condition.spec.is_private else known
            known_before = np.concatenate(([False], before[:-1]))
            met = _crossings(condition.operator, side, known, known_before)
            known = known & known_before
        else:
            met = _COMPARED[condition.operator](side)
    return np.where(known, np.where(met, State.MET, State.UNMET), State.UNKNOWN).astype(np.int8)


_COMPARED: Final[dict[Operator, Callable[[npt.NDArray[np.int_]], BoolArray]]] = {
    Operator.GT: lambda side: side > 0,
    Operator.GTE: lambda side: side >= 0,
    Operator.LT: lambda side: side < 0,
    Operator.LTE: lambda side: side <= 0,
    Operator.EQ: lambda side: side == 0,
    Operator.NEQ: lambda side: side != 0,
}


def _changes(
    operator: Operator, least_pct: float, values: FloatArray, scale: FloatArray | float
) -> tuple[BoolArray, BoolArray]:
    before = np.concatenate(([np.nan], values[:-1]))
    with np.errstate(invalid="ignore"):
        change = values - before if operator is Operator.INCREASING else before - values
        least = np.abs(before) * least_pct / 100.0
        band = NOISE * np.maximum(np.maximum(np.abs(values), np.abs(before)), scale)
        met = change > band if least_pct == 0 else change >= np.maximum(least - band, band)
    return met, np.isfinite(values) & np.isfinite(before)


def _off_the_line(operator: Operator, side: npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
    """Return the sides of a signal, which has no way to pass through the line: 0 is where it rests, not in between."""
    wanted = 1 if operator is Operator.CROSSES_ABOVE else -1
    return np.where(side == wanted, wanted, -wanted)


def _crossings(operator: Operator, side: npt.NDArray[np.int_], known: BoolArray, known_before: BoolArray) -> BoolArray:
    """Return where the side changes to the operator's; on the line (0) the side it came from goes on.

    A series that begins on the line counts as coming from the other side.
    """
    wanted = 1 if operator is Operator.CROSSES_ABOVE else -1
    decided = np.where(known & (side != 0), np.arange(len(side)), -1)
    latest = np.maximum.accumulate(decided) if len(side) else decided
    carried = np.where(latest >= 0, side[latest], -wanted)
    came_from = np.concatenate(([wanted], carried[:-1]))
    crossed: BoolArray = known & known_before & (side == wanted) & (came_from != wanted)
    return crossed
