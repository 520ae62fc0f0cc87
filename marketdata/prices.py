"""The price cache: what a product costs, written by whoever refreshes prices, read by everybody.

Prices are public, so the key names the market and the product and nothing else: ``price:coinbase:BTC-USD`` (F47).
A price that is missing, too old or unreadable is absent from the answer, because unknown is not zero (F34).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from marketdata.sources.base import Quote

__all__ = ["cached", "key", "remember"]

log = structlog.get_logger(__name__)

KEPT_SECONDS: Final = 24 * 3600
"""How long an old price stays readable for display; age is judged by the reader."""
CLOCK_SKEW: Final = timedelta(seconds=5)


def key(exchange: str, symbol: str) -> str:
    """Return the cache key of a product's price."""
    return f"price:{exchange}:{symbol}"


def remember(exchange: str, quotes: Iterable[Quote]) -> None:
    """Store quotes for everybody. Without a reachable cache they are simply not stored."""
    values = {key(exchange, quote.symbol): _packed(quote) for quote in quotes}
    if not values:
        return
    try:
        cache.set_many(values, timeout=KEPT_SECONDS)
    except (RedisError, OSError) as error:
        log.error("prices.cache_unavailable", exchange=exchange, error=str(error))


def cached(exchange: str, symbols: Iterable[str], now: datetime, max_age: timedelta) -> dict[str, Quote]:
    """Return the quotes not older than ``max_age`` at ``now``; others, and those from the future, are absent."""
    by_key = {key(exchange, symbol): symbol for symbol in symbols}
    if not by_key:
        return {}
    try:
        values = cache.get_many(by_key)
    except (RedisError, OSError) as error:
        log.error("prices.cache_unavailable", exchange=exchange, error=str(error))
        return {}
    found = {}
    for name, value in values.items():
        symbol = by_key[name]
        quote = _unpacked(symbol, value)
        if quote is not None and -CLOCK_SKEW <= now - quote.at <= max_age:
            found[symbol] = quote
    return found


def _packed(quote: Quote) -> str:
    return json.dumps(
        [str(quote.bid), str(quote.ask), str(quote.last), quote.at.isoformat(), quote.volume_24h, quote.change_24h]
    )


def _unpacked(symbol: str, value: object) -> Quote | None:
    try:
        bid, ask, last, at, volume, change = json.loads(str(value))
        quote = Quote(symbol, Decimal(bid), Decimal(ask), Decimal(last), datetime.fromisoformat(at), volume, change)
    except (ValueError, TypeError, ArithmeticError):
        log.warning("prices.unreadable", symbol=symbol)
        return None
    return quote if quote.bid > 0 and quote.ask > 0 and quote.last > 0 else None
