"""What everything on a market costs, for looking at: one request to the venue for all of it, kept for everybody.

For portfolios, where a person may hold a hundred coins that no bot trades. Decisions never use it: the engine and the
paper venue ask :mod:`marketdata.market`, whose quotes have bid, ask and an age of seconds.

The list is public, so its key names the market alone: ``pricelist:coinbase`` (F47). A list younger than :data:`FRESH`
is not asked for again. When the venue does not answer, the last list is used until it is :data:`USABLE` old, and the
venue is left alone for :data:`PAUSE`. Without a list there are no prices; nothing here raises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from marketdata import market, sources
from marketdata.conversion import Rates
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, TradebotError

__all__ = ["FRESH", "USABLE", "PriceList", "kept", "key", "price_list"]

log = structlog.get_logger(__name__)

FRESH: Final = timedelta(seconds=30)
USABLE: Final = market.OLDEST_USABLE
PAUSE: Final = timedelta(seconds=15)
ASKING_SECONDS: Final = 20
"""How long others use the last list while somebody asks for a new one."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of a market at one moment, by symbol; ``at`` is None and there are no prices when none are known."""

    exchange: str
    at: datetime | None
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    rates: Rates = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", Rates(self.prices))

    def rate(self, currency: str, into: str) -> Decimal | None:
        """Return what one ``currency`` is worth in ``into``, None when that is not known."""
        return self.rates.rate(currency, into)


def key(exchange: str) -> str:
    """Return the cache key of a market's price list."""
    return f"pricelist:{exchange}"


def price_list(exchange: str) -> PriceList:
    """Return what everything on ``exchange`` costs now, asking the market at most once."""
    if exchange in _HERE:
        return _HERE[exchange](exchange)
    now = clock.now()
    last = kept(exchange)
    if last.at is not None and now - last.at <= FRESH:
        return last
    if not _may_ask(exchange, urgent=last.at is None):
        return last
    try:
        found = PriceList(exchange, now, sources.get(exchange).price_list())
    except TradebotError as error:
        log.warning("pricelist.failed", exchange=exchange, code=error.code, error=error.message)
        _set(f"{key(exchange)}:pause", 1, PAUSE.total_seconds())
        return last
    finally:
        _delete(f"{key(exchange)}:asking")
    _set(key(exchange), _packed(found), USABLE.total_seconds())
    return found


def kept(exchange: str) -> PriceList:
    """Return the last list that is not too old to be used, without asking anybody."""
    if exchange in _HERE:
        return _HERE[exchange](exchange)
    found = _unpacked(exchange, _get(key(exchange)))
    return found if found.at is not None and found.at >= clock.now() - USABLE else PriceList(exchange, None)


def _computed(exchange: str) -> PriceList:
    return PriceList(exchange, clock.now(), sources.get(exchange).price_list())


def _nothing(exchange: str) -> PriceList:
    return PriceList(exchange, None)


_HERE: Final = {sources.SIMULATED: _computed, sources.REPLAY: _nothing}
"""Markets that nobody has to be asked about: simulated prices are worked out, and a recording is another time's."""


def _may_ask(exchange: str, *, urgent: bool) -> bool:
    """Whether this caller asks the venue: not while it is left alone, and one at a time where a list is there."""
    if _get(f"{key(exchange)}:pause") is not None:
        return False
    try:
        sources.get(exchange)
    except InvalidInput:
        return False
    return _add(f"{key(exchange)}:asking", 1, ASKING_SECONDS) or urgent


def _packed(found: PriceList) -> str:
    assert found.at is not None
    return json.dumps([found.at.isoformat(), {symbol: str(price) for symbol, price in found.prices.items()}])


def _unpacked(exchange: str, value: Any) -> PriceList:
    if value is None:
        return PriceList(exchange, None)
    try:
        at, prices = json.loads(str(value))
        return PriceList(
            exchange, datetime.fromisoformat(at), {symbol: Decimal(price) for symbol, price in prices.items()}
        )
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        log.warning("pricelist.unreadable", exchange=exchange)
        return PriceList(exchange, None)


# A cache that cannot be reached keeps nothing and stops nobody ------------------------------------------------------


def _get(name: str) -> Any:
    try:
        return cache.get(name)
    except (RedisError, OSError) as error:
        log.error("pricelist.cache_unavailable", error=str(error))
        return None


def _set(name: str, value: Any, seconds: float) -> None:
    try:
        cache.set(name, value, timeout=int(seconds))
    except (RedisError, OSError) as error:
        log.error("pricelist.cache_unavailable", error=str(error))


def _add(name: str, value: Any, seconds: float) -> bool:
    try:
        return bool(cache.add(name, value, timeout=int(seconds)))
    except (RedisError, OSError):
        return True


def _delete(name: str) -> None:
    try:
        cache.delete(name)
    except (RedisError, OSError) as error:
        log.error("pricelist.cache_unavailable", error=str(error))
