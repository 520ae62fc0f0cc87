"""The value of the simulated account at every look, worked out from its fills at the end. Pure; float64, for charts.

Exact figures come from the ledger; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from bots.backtest.spec import SimulatedFill
from bots.backtest.tracks import Track
from marketdata.series import FloatArray
from positions.states import Side

__all__ = ["Curves", "Deltas"]


@dataclass(frozen=True, slots=True)
class Curves:
    """Values in quote at each look: everything, what is in deals at the price paid, and buy-and-hold."""

    equity: FloatArray
    invested: FloatArray
    held: FloatArray


class Deltas:
    """What the fills changed: cash, base per pair, and what is invested, by look."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._tracks = tracks
        self._cash: list[tuple[int, float]] = []
        self._base: dict[int, list[tuple[int, float]]] = {track.number: [] for track in tracks}
        self._invested: list[tuple[int, float]] = []

    def add(self, look: int, number: int, fill: SimulatedFill, invested: Decimal) -> None:
        """Note a fill and by how much it changed what its deal has invested."""
        sign = 1.0 if fill.side is Side.BUY else -1.0
        cash, base = -sign * float(fill.quote), sign * float(fill.base)
        if fill.fee_currency == self._tracks[number].terms.base:
            base -= float(fill.fee)
        else:
            cash -= float(fill.fee)
        self._cash.append((look, cash))
        self._base[number].append((look, base))
        self._invested.append((look, float(invested)))

    def end(self, look: int, invested: Decimal) -> None:
        """Note that a deal has ended with ``invested`` still in a remainder too small to trade."""
        if invested:
            self._invested.append((look, -float(invested)))

    def curves(self, first: int, last: int, balances: Mapping[str, Decimal], quote: str) -> Curves:
        """Return the curves from look ``first`` to ``last``, both included."""
        size = max(last - first + 1, 0)
        equity = _running(self._cash, first, size, float(balances.get(quote, Decimal(0))))
        held = np.zeros(size)
        opening = equity[0] if not self._cash else float(balances.get(quote, Decimal(0)))
        prices = [_prices(track, first, size) for track in self._tracks]
        shares = _opening_base(self._tracks, balances)
        for track, price in zip(self._tracks, prices, strict=True):
            start = shares.get(track.number, 0.0)
            if start:
                opening += start * _first_price(price)
            if start or self._base[track.number]:
                equity += _running(self._base[track.number], first, size, start) * np.nan_to_num(price)
        each = opening / len(self._tracks) if self._tracks else 0.0
        for price in prices:
            entry = _first_price(price)
            held += each if not entry else np.where(np.isnan(price), each, each / entry * price)
        return Curves(equity, _running(self._invested, first, size, 0.0), held)


def _running(changes: Sequence[tuple[int, float]], first: int, size: int, start: float) -> FloatArray:
    steps = np.zeros(size)
    if size:
        steps[0] = start
        if changes:
            looks = np.fromiter((look - first for look, _ in changes), np.int64, len(changes))
            np.add.at(steps, looks, np.fromiter((amount for _, amount in changes), np.float64, len(changes)))
    result: FloatArray = np.cumsum(steps)
    return result


def _prices(track: Track, first: int, size: int) -> FloatArray:
    """Return the pair's price at each look: NaN before its first candle, its last close after its last."""
    if track.offset <= first and track.last >= first + size - 1:
        return track.close[first - track.offset : first - track.offset + size]
    index = np.arange(first, first + size) - track.offset
    prices: FloatArray = np.where(index < 0, np.nan, track.close[np.clip(index, 0, len(track.close) - 1)])
    return prices


def _first_price(prices: FloatArray) -> float:
    known = prices[~np.isnan(prices)] if len(prices) and np.isnan(prices[0]) else prices
    return float(known[0]) if len(known) else 0.0


def _opening_base(tracks: Sequence[Track], balances: Mapping[str, Decimal]) -> dict[int, float]:
    """Return the base that is there from the beginning, by track; a currency of several pairs counts once."""
    found: dict[int, float] = {}
    seen: set[str] = set()
    for track in tracks:
        base = track.terms.base
        if base in balances and base not in seen:
            seen.add(base)
            found[track.number] = float(balances[base])
    return found
