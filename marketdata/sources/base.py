"""The contract every public market source keeps, and the values that cross it. Knows no Django.

A source answers four questions about public data: which products there are, what their candles were, what they cost
now and what rests in the book. It keeps nothing; the candle store and the price cache do. A source that cannot answer
raises ``VenueUnavailable``: half an answer is no answer, and what is unknown is left out, never given as zero (F34).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from marketdata.series import Candles
from marketdata.timeframes import Timeframe

__all__ = ["PERPETUAL", "Book", "BookLevel", "MarketSource", "ProductInfo", "Quote"]

PERPETUAL: Final = "-PERP"
"""How the names of perpetuals end: ``BTC-USDT-PERP``."""
TWO = Decimal(2)


@dataclass(frozen=True, slots=True)
class ProductInfo:
    """A product as its venue describes it. Increments and minimums are above zero; ``volume_24h`` is in base.

    The last three are a perpetual's, None where its venue does not say: the highest leverage, the margin below which a
    position is liquidated (percent of its value), and how many hours lie between two fundings.
    """

    symbol: str
    base: str
    quote: str
    price_increment: Decimal
    base_increment: Decimal
    quote_increment: Decimal
    min_base: Decimal
    min_quote: Decimal
    status: str = "online"
    kind: str = "spot"
    volume_24h: float | None = None
    price_change_24h: float | None = None
    max_leverage: int | None = None
    maintenance_pct: Decimal | None = None
    funding_hours: int | None = None

    def __post_init__(self) -> None:
        for name in ("price_increment", "base_increment", "quote_increment"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{self.symbol}: {name} is not above zero")
        for name in ("min_base", "min_quote"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{self.symbol}: {name} is below zero")


class Quote(NamedTuple):
    """What a product costs at one moment, in quote currency.

    ``volume_24h`` is base traded in the last 24 hours, ``change_24h`` a percentage; None means not known.
    ``traded_base``, ``low`` and ``high`` describe the last closed candle and are given by recordings only: they are
    all that is known there about how much of a resting order could have been filled.
    """

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal
    at: datetime
    volume_24h: float | None = None
    change_24h: float | None = None
    traded_base: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None

    @property
    def mark(self) -> Decimal:
        """The mid of best bid and best ask."""
        return (self.bid + self.ask) / TWO

    @property
    def spread_pct(self) -> Decimal:
        """Distance of ask and bid in percent of the mark."""
        return (self.ask - self.bid) / self.mark * 100


@dataclass(frozen=True, slots=True)
class BookLevel:
    """``size`` base offered or wanted at ``price``."""

    price: Decimal
    size: Decimal


@dataclass(frozen=True, slots=True)
class Book:
    """Resting orders of others, best price first on both sides."""

    symbol: str
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    at: datetime


class MarketSource(ABC):
    """Public market data of one market. Implementations are thread-safe and hold no state that matters."""

    slug: str
    native_timeframes: Sequence[Timeframe]
    """Timeframes the market answers by itself; the store builds the others from these."""

    @abstractmethod
    def products(self) -> list[ProductInfo]:
        """Return the complete product list. Raises VenueUnavailable when it is not certain to be complete."""

    @abstractmethod
    def candles(self, symbol: str, timeframe: Timeframe, start: int, end: int) -> Candles:
        """Return the closed candles opening in [start, end), Unix seconds, oldest first.

        ``timeframe`` is one of :attr:`native_timeframes`. Periods without a trade may be missing. The forming candle
        is never among them (F40). Raises VenueUnavailable, NotFound.
        """

    @abstractmethod
    def tickers(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """Return quotes by symbol; a symbol whose price is not known is absent. Raises VenueUnavailable."""

    def price_list(self) -> dict[str, Decimal]:
        """Return the last price of every product that has one, in as few requests as the market offers, for what has to
        be valued rather than traded. Raises VenueUnavailable.

        By default: the last prices of all products that are online.
        """
        online = [product.symbol for product in self.products() if product.status == "online"]
        return {symbol: quote.last for symbol, quote in self.tickers(online).items()}

    @abstractmethod
    def book(self, symbol: str, depth: int = 50) -> Book:
        """Return the best ``depth`` levels of each side. Raises VenueUnavailable, NotFound."""

    def funding_rate(self, symbol: str, at: datetime) -> Decimal:
        """Return the funding of a perpetual that falls due at ``at``, as a fraction of a position's value.

        Above zero longs pay shorts, below zero the other way round. A market that charges none (recordings hold no
        rates) says zero; one that charges and cannot say raises VenueUnavailable.
        """
        return Decimal(0)
