"""What a tree says at the close of every candle of a series: the same rules as one look, over arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bots.conditions.evaluation import CATCH_UP_CANDLES
from bots.conditions.plan import Leaf, fold
from bots.conditions.states import MET, State, StateArray
from bots.conditions.tree import Tree
from marketdata.series import BoolArray, IntArray
from marketdata.timeframes import Timeframe

if TYPE_CHECKING:
    from bots.strategies.base import MarketView


def evaluate_array(tree: Tree, market: MarketView, timeframe: Timeframe) -> BoolArray:
    """Return what :func:`evaluate` says at the close of each candle of ``timeframe``, judged one candle after another.

    Conditions on other timeframes see the candles closed by then and nothing later (no look-ahead).
    """
    base = market.series(timeframe)
    if tree.is_empty:
        return np.ones(len(base), dtype=np.bool_)
    nothing = np.full(len(base), State.UNKNOWN, dtype=np.int8)
    states = fold(
        tree.plan,
        lambda leaf: _states_at(leaf, market, timeframe),
        np.minimum,
        np.maximum,
        lambda part: (MET - part).astype(np.int8),
        nothing,
    )
    return np.asarray(states == State.MET, dtype=np.bool_)


def _states_at(leaf: Leaf, market: MarketView, timeframe: Timeframe) -> StateArray:
    found, states, last = _found_at(leaf, market, timeframe)
    if not leaf.is_crossing or not len(states):
        return found
    before = np.concatenate(([-1], last[:-1]))
    # Nothing judged before: only the last candle counts. Otherwise those since, at most CATCH_UP_CANDLES.
    first = np.where(before < 0, last, np.maximum(before + 1, last + 1 - CATCH_UP_CANDLES))
    fired = _met_between(states, first, last)
    resting = np.where(found == State.UNKNOWN, State.UNKNOWN, State.UNMET)
    return np.where(fired, State.MET, resting).astype(np.int8)


def _found_at(leaf: Leaf, market: MarketView, timeframe: Timeframe) -> tuple[StateArray, StateArray, IntArray]:
    """Return the condition's state at the close of each candle of ``timeframe``, with its states at its own candles
    and the index of the last of these that is closed by then, -1 where there is none."""
    condition, base = leaf.condition, market.series(timeframe)
    states = market.states(condition)
    if not len(states):
        return np.full(len(base), State.UNKNOWN, dtype=np.int8), states, np.full(len(base), -1)
    if condition.timeframe is timeframe:
        return states, states, np.arange(len(base))
    closes = market.series(condition.timeframe).time + condition.timeframe.seconds
    last = np.searchsorted(closes, base.time + timeframe.seconds, side="right") - 1
    return np.where(last >= 0, states[last], State.UNKNOWN).astype(np.int8), states, last


def _met_between(states: StateArray, first: IntArray, last: IntArray) -> BoolArray:
    """Return where a state from ``first`` to ``last`` (both included) is met; nowhere while ``last`` is -1."""
    met = np.concatenate(([0], np.cumsum(states == State.MET)))
    found: BoolArray = (last >= 0) & (met[last + 1] - met[np.clip(first, 0, last + 1)] > 0)
    return found


def could_hold(tree: Tree, market: MarketView, timeframe: Timeframe) -> BoolArray:
    """Return at the close of which candles of ``timeframe`` the tree could be true, whatever has been judged before.

    Where it is false, :func:`evaluate` is false for any ``since``: a replay need not look there. A crossing may count
    for as long as it can be caught up with, and may always be spent already. When a condition's timeframe is shorter
    than ``timeframe``, the answer is for the closes alone, not for the moments in between.
    """
    base = market.series(timeframe)
    if tree.is_empty:
        return np.ones(len(base), dtype=np.bool_)
    unknown = np.full(len(base), State.UNKNOWN, dtype=np.int8)
    _least, most = fold(
        tree.plan,
        lambda leaf: _bounds_at(leaf, market, timeframe),
        lambda one, other: (np.minimum(one[0], other[0]), np.minimum(one[1], other[1])),
        lambda one, other: (np.maximum(one[0], other[0]), np.maximum(one[1], other[1])),
        lambda part: ((MET - part[1]).astype(np.int8), (MET - part[0]).astype(np.int8)),
        (unknown, unknown),
    )
    return np.asarray(most == State.MET, dtype=np.bool_)


def _bounds_at(leaf: Leaf, market: MarketView, timeframe: Timeframe) -> tuple[StateArray, StateArray]:
    """Return the least and the greatest state that the condition can have at each close of ``timeframe``."""
    found, states, last = _found_at(leaf, market, timeframe)
    if not leaf.is_crossing or not len(states):
        return found, found
    least = np.where(found == State.UNKNOWN, State.UNKNOWN, State.UNMET).astype(np.int8)
    fired = _met_between(states, last + 1 - CATCH_UP_CANDLES, last)
    return least, np.where(fired, State.MET, least).astype(np.int8)
