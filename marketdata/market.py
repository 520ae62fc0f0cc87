"""What a product costs at a moment, whatever market it trades on. The engine and the paper venue ask here.

* an exchange: the price cache, kept fresh by the price loop;
* simulated: computed, at any moment;
* replay: the last candle closed at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.conf import settings

from marketdata import prices, sources
from marketdata.sources.base import Book, Quote
from tradebot.core import clock
from tradebot.core.errors import NotFound, VenueUnavailable

__all__ = ["OLDEST_USABLE", "book", "fresh_quotes", "funding_rate", "quote", "quotes"]

OLDEST_USABLE: Final = timedelta(seconds=300)
"""A protective exit acts on a price of this age; nothing else does."""


def quotes(
    exchange: str, symbols: Iterable[str], now: datetime | None = None, max_age: timedelta | None = None
) -> dict[str, Quote]:
    """Return quotes by symbol at ``now`` (default: the clock's moment). Asks no venue and never waits.

    A product whose price is unknown or older than ``max_age`` (default ``settings.PRICE_MAX_AGE_SECONDS``) is absent
    (F34). :data:`OLDEST_USABLE` is for callers that judge the age themselves.
    """
    moment = now or clock.now()
    if exchange in sources.EXCHANGES:
        limit = max_age or timedelta(seconds=settings.PRICE_MAX_AGE_SECONDS)
        return prices.cached(exchange, symbols, moment, limit)
    with clock.at(moment):
        return sources.get(exchange).tickers(symbols)


def quote(exchange: str, symbol: str, now: datetime | None = None, max_age: timedelta | None = None) -> Quote | None:
    """Return the quote of one product, or None when its price is not known."""
    return quotes(exchange, [symbol], now, max_age).get(symbol)


def fresh_quotes(exchange: str, symbols: Iterable[str]) -> dict[str, Quote]:
    """Return quotes by symbol, asking the venue for those the cache does not have.

    For a person waiting for an answer, not for loops. What cannot be had is absent.
    """
    wanted = list(dict.fromkeys(symbols))
    found = quotes(exchange, wanted)
    missing = [symbol for symbol in wanted if symbol not in found]
    if missing and exchange in sources.EXCHANGES:
        try:
            fetched = sources.get(exchange).tickers(missing)
        except (VenueUnavailable, NotFound):
            return found
        prices.remember(exchange, fetched.values())
        found |= fetched
    return found


def book(exchange: str, symbol: str, depth: int = 50, now: datetime | None = None) -> Book:
    """Return the order book at ``now``. A recording has one level on each side: the last close, and what traded.

    Raises VenueUnavailable, NotFound, MissingInformation (a recording without a candle at that moment).
    """
    with clock.at(now or clock.now()):
        return sources.get(exchange).book(symbol, depth)


def funding_rate(exchange: str, symbol: str, at: datetime) -> Decimal:
    """Return the funding of a perpetual that falls due at ``at``, a fraction of a position's value; longs pay it.

    Raises VenueUnavailable, NotFound.
    """
    return sources.get(exchange).funding_rate(symbol, at)
