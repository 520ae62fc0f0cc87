"""The price cache and the one question of what a product costs."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.core.cache import cache

from marketdata import market, prices
from marketdata.sources.base import Quote
from tests.marketdata.venue import Venue, status
from tradebot.core import clock

MINUTE = timedelta(minutes=1)


def quote(symbol: str, at: datetime, last: str = "100.5") -> Quote:
    return Quote(symbol, Decimal("100"), Decimal("101"), Decimal(last), at, 12.5, -3.0)


def test_what_is_remembered_comes_back_exactly(moment: datetime) -> None:
    told = quote("BTC-USD", moment, "100.123456789012345678")
    prices.remember("coinbase", [told])
    assert prices.cached("coinbase", ["BTC-USD"], moment, MINUTE) == {"BTC-USD": told}


def test_f47_the_key_names_market_and_product(moment: datetime) -> None:
    prices.remember("coinbase", [quote("BTC-USD", moment)])
    assert cache.get("price:coinbase:BTC-USD") is not None
    assert prices.cached("simulated", ["BTC-USD"], moment, MINUTE) == {}


def test_f34_old_missing_and_unreadable_prices_are_absent(moment: datetime) -> None:
    prices.remember("coinbase", [quote("OLD-USD", moment - timedelta(seconds=61)), quote("NEW-USD", moment)])
    prices.remember("coinbase", [quote("ZERO-USD", moment, "0"), quote("AHEAD-USD", moment + MINUTE)])
    cache.set(prices.key("coinbase", "BAD-USD"), '["x"]')
    cache.set(prices.key("coinbase", "WORSE-USD"), '["nothing", "1", "1", "2024-04-24T12:00:40+00:00", null, null]')
    symbols = ["OLD-USD", "NEW-USD", "ZERO-USD", "AHEAD-USD", "BAD-USD", "WORSE-USD", "NONE-USD"]
    assert set(prices.cached("coinbase", symbols, moment, MINUTE)) == {"NEW-USD"}


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1/0"])
def test_f34_without_a_reachable_cache_prices_are_unknown(settings, moment: datetime, address: str) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": address}}
    prices.remember("coinbase", [quote("BTC-USD", moment)])
    assert market.quotes("coinbase", ["BTC-USD"]) == {}
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


def test_quotes_grow_old_by_the_moment_asked_for(settings, moment: datetime) -> None:
    settings.PRICE_MAX_AGE_SECONDS = 30
    prices.remember("coinbase", [quote("BTC-USD", moment)])
    assert set(market.quotes("coinbase", ["BTC-USD"], moment + timedelta(seconds=30))) == {"BTC-USD"}
    assert market.quotes("coinbase", ["BTC-USD"], moment + timedelta(seconds=31)) == {}


def test_loops_never_wait_for_a_venue(venue: Venue, moment: datetime) -> None:
    assert market.quotes("coinbase", ["BTC-USD"]) == {}
    assert venue.asked == []


def test_a_person_waiting_gets_a_price_from_the_venue(venue: Venue, moment: datetime) -> None:
    assert market.fresh_quotes("coinbase", ["BTC-USD"])["BTC-USD"].bid == Decimal("66367.58")
    assert market.quotes("coinbase", ["BTC-USD"])["BTC-USD"].ask == Decimal("66367.59")
    asked = len(venue.asked)
    market.fresh_quotes("coinbase", ["BTC-USD"])
    assert len(venue.asked) == asked


def test_a_person_waiting_for_a_silent_venue_gets_nothing(venue: Venue, moment: datetime) -> None:
    venue.faults = [status(500)] * 10
    assert market.fresh_quotes("coinbase", ["BTC-USD"]) == {}


def test_the_simulated_market_is_computed_at_the_moment(moment: datetime) -> None:
    now = market.quotes("simulated", ["BTC-USD", "NO-USD"])
    later = market.quotes("simulated", ["BTC-USD"], moment + timedelta(hours=1))
    assert set(now) == {"BTC-USD"}
    assert now["BTC-USD"].at == moment
    assert now["BTC-USD"].last != later["BTC-USD"].last
    with clock.at(moment + timedelta(hours=1)):
        assert market.quote("simulated", "BTC-USD") == later["BTC-USD"]
    assert market.book("simulated", "BTC-USD", 5).bids[0].price == now["BTC-USD"].bid
