"""When a DCA deal or a pair could next do something, so that a backtest need not ask at every candle. Pure.

Everything here is a *superset*: a look that is named may turn out to do nothing, a look that is not named must do
nothing. Prices are compared as float64 with a margin; the decision itself is always made by the strategy on exact
amounts. Prices are signed (``Track.signed``), so that larger is better for the deal whichever way it earns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from marketdata.series import FloatArray, IntArray

__all__ = ["Levels", "best_between", "next_trigger"]

MARGIN: Final = 1e-9
"""Relative slack of every comparison: far above what float64 loses, far below a price step."""
FIRST_WINDOW: Final = 64
WINDOW_GROWTH: Final = 4
NEVER: Final = -1


@dataclass(slots=True)
class Levels:
    """What a deal waits for, in signed prices; an infinite level is not waited for.

    ``profit``: at or above it something may close. ``close_looks``: with it, only at these looks. ``armed_peak`` and
    ``armed_keep``: an armed trail acts at or below the best price since times ``keep``. ``stop``: at or below it
    something may close. ``best`` and ``keep``: a trailing stop, likewise. ``rung``: at or below it something may be
    added, with ``add_looks`` only at these looks.
    """

    profit: float = math.inf
    conditional_profit: float = math.inf
    close_looks: IntArray | None = None
    armed_peak: float = -math.inf
    armed_keep: float = 0.0
    stop: float = -math.inf
    best: float = -math.inf
    keep: float = 0.0
    rung: float = -math.inf
    add_looks: IntArray | None = None

    @property
    def by_price(self) -> bool:
        """Return whether a price alone may make something happen, without conditions."""
        adds = self.add_looks is None and self.rung > -math.inf
        return adds or self.profit < math.inf or self.stop > -math.inf or self.trails

    @property
    def trails(self) -> bool:
        """Return whether the best price since matters."""
        return self.best > -math.inf or self.armed_peak > -math.inf


def _above(level: float) -> float:
    return level - abs(level) * MARGIN if math.isfinite(level) else level


def _below(level: float) -> float:
    return level + abs(level) * MARGIN if level > -math.inf else level


def next_trigger(prices: FloatArray, worst: FloatArray, start: int, levels: Levels, offset: int) -> int:
    """Return the index into ``prices`` from ``start`` at which ``levels`` may act next; -1 when there is none.

    ``prices`` are closes, ``worst`` the worst price of each candle, by which stops are hit. ``offset`` turns an index
    into a look, for the looks of conditions.
    """
    found = _by_conditions(prices, start, levels, offset)
    if not levels.by_price:
        return found
    upper = _above(levels.profit)
    stop_level = _below(levels.stop)
    rung = _below(levels.rung) if levels.add_looks is None else -math.inf
    end = len(prices) if found < 0 else found
    window = FIRST_WINDOW
    armed, best = levels.armed_peak, levels.best
    while start < end:
        stop = min(start + window, end)
        chunk, low = prices[start:stop], worst[start:stop]
        hit = chunk <= rung
        if stop_level > -math.inf:
            hit |= low <= stop_level
        if upper < math.inf:
            hit |= chunk >= upper
        if armed > -math.inf:
            peaks = np.maximum(np.maximum.accumulate(chunk), armed)
            hit |= chunk <= _margin_below(peaks * levels.armed_keep)
            armed = float(peaks[-1])
        if best > -math.inf:
            peaks = np.maximum(np.maximum.accumulate(chunk), best)
            hit |= low <= _margin_below(peaks * levels.keep)
            best = float(peaks[-1])
        first = int(hit.argmax())
        if hit[first]:
            return start + first
        start = stop
        window *= WINDOW_GROWTH
    return found


def _margin_below(levels: FloatArray) -> FloatArray:
    return levels + np.abs(levels) * MARGIN


def _by_conditions(prices: FloatArray, start: int, levels: Levels, offset: int) -> int:
    """Return the first index at which a condition holds together with its price, -1 when there is none."""
    closing = _first_of(levels.close_looks, prices, start, offset, above=levels.conditional_profit)
    adding = _first_of(levels.add_looks, prices, start, offset, below=levels.rung)
    return min((index for index in (closing, adding) if index >= 0), default=NEVER)


def _first_of(
    looks: IntArray | None,
    prices: FloatArray,
    start: int,
    offset: int,
    *,
    above: float | None = None,
    below: float | None = None,
) -> int:
    if looks is None:
        return NEVER
    at = int(looks.searchsorted(start + offset))
    if above == -math.inf and at < len(looks):
        return int(looks[at]) - offset
    window = FIRST_WINDOW
    while at < len(looks):
        indexes = looks[at : at + window] - offset
        values = prices[indexes]
        hit = values >= _above(above) if above is not None else values <= _below(below or 0.0)
        first = int(hit.argmax())
        if hit[first]:
            return int(indexes[first])
        at += window
        window *= WINDOW_GROWTH
    return NEVER


def best_between(prices: FloatArray, start: int, end: int) -> int:
    """Return the index of the best price in [start, end)."""
    return start + int(prices[start:end].argmax())


def next_of(looks: IntArray, look: int) -> int:
    """Return the first of ``looks`` (ascending) at or after ``look``, -1 when there is none."""
    at = int(looks.searchsorted(look))
    return int(looks[at]) if at < len(looks) else NEVER
