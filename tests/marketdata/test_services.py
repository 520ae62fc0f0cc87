"""The loops of public market data: nothing is removed on half an answer, one bad product stops nobody."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from marketdata import market, services, sources
from marketdata.models import CandleSeries, MarketStatus, Product
from marketdata.services import MarketCondition
from tests.marketdata.factories import make_product
from tests.marketdata.venue import Venue, cut, product_row, reply, status
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, MissingInformation, VenueUnavailable

pytestmark = pytest.mark.django_db


def statuses() -> dict[str, str]:
    return dict(Product.objects.filter(exchange="coinbase").values_list("symbol", "status"))


def test_f26_increments_come_from_the_venue_and_are_refreshed(venue: Venue, moment: datetime) -> None:
    venue.products = [product_row("NEW-USD", base_increment="1")]
    assert services.refresh_products("coinbase") == 1
    product = Product.objects.get(symbol="NEW-USD")
    assert product.terms.base_increment == 1
    venue.products = [product_row("NEW-USD", base_increment="0.1", quote_min_size="7")]
    services.refresh_products("coinbase")
    product.refresh_from_db()
    assert (product.terms.base_increment, product.terms.min_quote) == (Decimal("0.1"), Decimal(7))
    assert product.refreshed_at == moment


def test_f66_an_empty_product_list_changes_nothing(venue: Venue, moment: datetime) -> None:
    services.refresh_products("coinbase")
    for empty in ({"products": []}, {"products": [{"product_id": "half"}]}):
        venue.faults = [lambda request, body=empty: reply(body)]
        with pytest.raises(MissingInformation):
            services.refresh_products("coinbase")
    for fault in (status(500), cut, status(403)):
        venue.faults = [fault] * 3
        with pytest.raises(VenueUnavailable):
            services.refresh_products("coinbase")
        venue.faults = []
    assert statuses() == {"BTC-USD": "online", "ETH-USD": "online"}
    row = MarketStatus.objects.get(exchange="coinbase", feed="products")
    assert row.consecutive_failures == 5
    assert row.last_success_at == moment


def test_f66_a_list_that_lost_half_is_not_believed(venue: Venue, moment: datetime) -> None:
    venue.products = [product_row(f"C{n}-USD") for n in range(10)]
    services.refresh_products("coinbase")
    venue.products = venue.products[:3]
    services.refresh_products("coinbase")
    assert set(statuses().values()) == {"online"}


def test_f66_delisted_products_are_marked_and_no_longer_asked_for(venue: Venue, moment: datetime) -> None:
    venue.products = [product_row(f"C{n}-USD") for n in range(4)]
    services.refresh_products("coinbase")
    venue.products = venue.products[:3]
    services.refresh_products("coinbase")
    assert statuses()["C3-USD"] == "delisted"
    asked = len(venue.asked)
    result = services.refresh_candles("coinbase", {"C3-USD": {"1h": 10}})
    assert result.failed == {"C3-USD": "not listed"}
    assert len(venue.asked) == asked
    venue.products.append(product_row("C3-USD"))
    services.refresh_products("coinbase")
    assert statuses()["C3-USD"] == "online"


def test_markets_do_not_touch_each_others_products(venue: Venue, moment: datetime) -> None:
    replayed = make_product("ADA-BTC", exchange="replay")
    services.refresh_products("simulated")
    services.refresh_products("coinbase")
    assert services.refresh_products("replay") == 1
    replayed.refresh_from_db()
    assert replayed.status == "online"
    assert Product.objects.filter(exchange="simulated", status="online").count() >= 8


def test_f67_one_bad_product_does_not_stop_the_others(venue: Venue, moment: datetime) -> None:
    for symbol in ("BAD-USD", "BTC-USD", "ETH-USD"):
        make_product(symbol)
    bad = {"candles": [{"start": "1", "open": "x"}]}
    venue.faults = [lambda request: reply(bad)]
    result = services.refresh_candles(
        "coinbase",
        {"BAD-USD": {"1h": 10}, "BTC-USD": {"1h": 10, "5m": 10}, "ETH-USD": {"1h": 10, "no such": 10}},
    )
    assert set(result.failed) == {"BAD-USD", "ETH-USD"}
    assert result.refreshed == 3
    assert CandleSeries.objects.count() == 3
    assert MarketStatus.objects.get(exchange="coinbase", feed="candles").consecutive_failures == 0


def test_f67_one_bad_price_does_not_stop_the_others(venue: Venue, moment: datetime) -> None:
    venue.prices["ETH-USD"] = ("", "", "")
    assert services.refresh_prices("coinbase", ["ETH-USD", "NO-USD", "BTC-USD"]) == 1
    assert set(market.quotes("coinbase", ["ETH-USD", "NO-USD", "BTC-USD"])) == {"BTC-USD"}


def test_candles_held_are_not_asked_for_again(venue: Venue, moment: datetime, django_assert_max_num_queries) -> None:
    wanted = {f"C{n}-USD": {"5m": 10, "1h": 10} for n in range(4)}
    venue.products = [product_row(symbol) for symbol in wanted]
    services.refresh_products("coinbase")
    services.refresh_candles("coinbase", wanted)
    asked = len(venue.asked)
    with django_assert_max_num_queries(8):
        assert services.refresh_candles("coinbase", wanted).received == 0
    assert len(venue.asked) == asked


def test_the_state_of_a_market_is_told(venue: Venue, moment: datetime, settings) -> None:
    settings.PRICE_MAX_AGE_SECONDS = 60
    assert services.status("simulated").condition is MarketCondition.SIMULATED
    assert services.status("replay").condition is MarketCondition.REPLAY
    assert services.status("coinbase").condition is MarketCondition.UNKNOWN
    services.refresh_prices("coinbase", ["BTC-USD"])
    assert services.status("coinbase").is_live
    venue.faults = [status(500)] * 10
    with clock.at(moment + timedelta(minutes=2)):
        assert services.refresh_prices("coinbase", ["BTC-USD"]) == 0
        state = services.status("coinbase")
    assert (state.condition, state.since) == (MarketCondition.STALE, moment)
    assert "2024-04-24 12:00:40" in state.message
    assert "500" in state.message


def test_auto_takes_coinbase_when_it_answers_and_the_simulated_market_otherwise(
    venue: Venue, settings, unused_tcp_port: int
) -> None:
    from django.core.cache import cache

    settings.MARKET = "auto"
    assert sources.default_market() == "coinbase"
    cache.clear()
    settings.COINBASE_URL = f"http://127.0.0.1:{unused_tcp_port}"
    assert sources.default_market() == "simulated"
    settings.MARKET = "coinbase"
    assert sources.default_market() == "coinbase"
    settings.MARKET = "nowhere"
    with pytest.raises(InvalidInput):
        sources.default_market()


def test_a_chart_shows_what_is_held_when_the_venue_is_silent(venue: Venue, moment: datetime) -> None:
    from marketdata.timeframes import Timeframe

    product = make_product("BTC-USD")
    assert len(services.chart_candles(product, Timeframe.H1, 5)) == 5
    venue.faults = [status(500)] * 10
    with clock.at(moment + timedelta(hours=2)):
        assert len(services.chart_candles(product, Timeframe.H1, 5)) == 5
