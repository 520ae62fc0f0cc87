"""One pair of a backtest: its candles on the common clock, its prices as money, and the market view of a moment. Pure.

A look is the close of a candle; looks are numbered from 0 on a grid that all pairs share. ``offset`` is the number of
the look at which the pair's first candle closes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from bots.backtest.spec import Pair
from bots.conditions import Condition, StateArray
from bots.strategies.base import InMemoryMarketView
from bots.strategies.heard import HeardView
from marketdata.series import BoolArray, Candles, FloatArray, IntArray, traded_in_a_day
from marketdata.sources.base import Quote
from marketdata.terms import ProductTerms
from marketdata.timeframes import Timeframe
from positions.states import Direction
from tradebot.core.decimals import MONEY, from_float

__all__ = ["Track", "View", "first_and_last_look", "moment_of"]


class View:
    """The market view of one pair at one look; moved by :meth:`Track.show`. Shows only what is closed by then."""

    __slots__ = ("_track", "index", "product", "quote")

    def __init__(self, track: Track) -> None:
        self._track = track
        self.product: ProductTerms = track.terms
        self.quote: Quote | None = None
        self.index = -1

    def series(self, timeframe: Timeframe) -> Candles:
        """Return the closed candles."""
        return self._track.full.series(timeframe).upto(self._track.closed(timeframe, self.index))

    def newest(self, timeframe: Timeframe) -> int | None:
        """Return the opening time of the last closed candle, None when there is none."""
        return self._track.newest(timeframe, self.index)

    def indicator(
        self, timeframe: Timeframe, name: str, params: Mapping[str, float], output: str | None = None
    ) -> FloatArray:
        """Return the indicator at each closed candle."""
        whole = self._track.full.indicator(timeframe, name, params, output)
        return whole[: self._track.closed(timeframe, self.index)]

    def states(self, condition: Condition) -> StateArray:
        """Return the state of the condition at each closed candle."""
        return self._track.states(condition)[: self._track.closed(condition.timeframe, self.index)]


class Track:
    """A pair with everything that is worked out once for a run."""

    __slots__ = (
        "_closed",
        "_mark",
        "_marked",
        "_shown",
        "_signed",
        "_states",
        "_worst",
        "candles",
        "close",
        "full",
        "last",
        "number",
        "offset",
        "pair",
        "step",
        "terms",
        "timeframe",
        "view",
        "with_range",
    )

    def __init__(self, number: int, pair: Pair, timeframe: Timeframe, first_look: int, *, with_range: bool) -> None:
        self.with_range = with_range  # whether quotes carry the low and high of their candle
        self.number, self.pair, self.terms, self.timeframe = number, pair, pair.terms, timeframe
        self.candles = pair.candles[timeframe]
        self.step = timeframe.seconds
        self.offset = (int(self.candles.time[0]) + self.step - first_look) // self.step
        self.last = self.offset + len(self.candles) - 1
        self.close: FloatArray = self.candles.close
        self.full = HeardView(InMemoryMarketView(pair.terms, pair.candles, cache=pair.cache), pair.heard)
        self.view = View(self)
        self._closed: dict[Timeframe, IntArray] = {}
        self._states: dict[str, StateArray] = {}
        self._signed: FloatArray | None = None
        self._worst: FloatArray | None = None
        self._shown = self._marked = -1
        self._mark = Decimal(0)

    def has_price(self, look: int) -> bool:
        """Return whether the pair has a price at this look: before and after its candles it has none."""
        return self.offset <= look <= self.last

    def closed(self, timeframe: Timeframe, index: int) -> int:
        """Return how many candles of ``timeframe`` are closed when the pair's own candle ``index`` closes."""
        if timeframe is self.timeframe:
            return index + 1
        counts = self._closed.get(timeframe)
        if counts is None:
            counts = self._closed[timeframe] = self._count(timeframe)
        return int(counts[index]) if index >= 0 else 0

    def _count(self, timeframe: Timeframe) -> IntArray:
        moments = self.candles.time + self.step
        series = self.full.series(timeframe)
        closes = series.time + timeframe.seconds
        return np.searchsorted(closes, moments, side="right").astype(np.int64)

    def judged(self, timeframe: Timeframe, look: int) -> int | None:
        """Return the opening time of the last candle of ``timeframe`` closed at ``look``; None when there is none."""
        return self.newest(timeframe, min(look - self.offset, len(self.candles) - 1))

    def newest(self, timeframe: Timeframe, index: int) -> int | None:
        """Return the opening time of the last candle of ``timeframe`` closed when the own candle ``index`` closes."""
        count = self.closed(timeframe, index)
        if count <= 0:
            return None
        return (self.candles if timeframe is self.timeframe else self.full.series(timeframe)).time.item(count - 1)

    def states(self, condition: Condition) -> StateArray:
        """Return the state of the condition at every candle of the run."""
        found = self._states.get(condition.key)
        if found is None:
            found = self._states[condition.key] = self.full.states(condition)
        return found

    def signed(self, direction: Direction) -> FloatArray:
        """Return the closes so that larger is better for a deal of this direction."""
        if direction is Direction.LONG:
            return self.close
        if self._signed is None:
            self._signed = -self.close
        return self._signed

    def worst(self, direction: Direction) -> FloatArray:
        """Return the worst price of each candle for a deal of this direction, signed like :meth:`signed`."""
        if not self.with_range:
            return self.signed(direction)
        if direction is Direction.LONG:
            return self.candles.low
        if self._worst is None:
            self._worst = -self.candles.high
        return self._worst

    def price(self, look: int) -> Decimal:
        """Return the close at ``look`` as money."""
        return from_float(float(self.close[look - self.offset]), self.terms.price_increment)

    def mark(self, look: int) -> Decimal:
        """Return the mid of bid and ask at ``look``, which for a recording is its close."""
        if self._marked != look:
            self._mark, self._marked = self.price(look), look
        return self._mark

    def volume_24h(self, look: int) -> Decimal:
        """Return what was traded in the day before ``look``, in quote at its price."""
        index = look - self.offset
        traded = traded_in_a_day(self.candles.volume[: index + 1], self.timeframe)
        return MONEY.multiply(Decimal(repr(traded)), self.mark(look))

    def show(self, look: int, moment: datetime) -> View:
        """Move the view to ``look`` and return it."""
        if self._shown != look:
            price = self.mark(look)
            self.view.index = look - self.offset
            low = high = None
            if self.with_range:
                index, step = self.view.index, self.terms.price_increment
                low = from_float(float(self.candles.low[index]), step)
                high = from_float(float(self.candles.high[index]), step)
            self.view.quote = Quote(self.terms.symbol, price, price, price, moment, low=low, high=high)
            self._shown = look
        return self.view

    def mask_of(self, mask: BoolArray) -> IntArray:
        """Return the looks at which ``mask`` (one value per candle of the pair) is true, ascending."""
        return np.flatnonzero(mask) + self.offset


def first_and_last_look(pairs: tuple[Pair, ...], timeframe: Timeframe) -> tuple[int, int]:
    """Return the closes (Unix seconds) of the first and of the last candle of all pairs."""
    series = [pair.candles[timeframe] for pair in pairs]
    step = timeframe.seconds
    return min(int(s.time[0]) for s in series) + step, max(int(s.time[-1]) for s in series) + step


def moment_of(seconds: int) -> datetime:
    """Return Unix seconds as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)
