"""Price lists: one request for everything, kept for a moment, and silence when the venue is silent."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.core.cache import cache

from marketdata import past, pricelist
from marketdata.sources.coinbase import CoinbaseSource
from tests.factories import ProductFactory
from tests.marketdata.venue import Venue, product_row, reply, status
from tradebot.core import clock

SECONDS = timedelta(seconds=1)


def test_one_request_has_the_prices_of_all_products(venue: Venue, moment: datetime) -> None:
    venue.products = [product_row(f"C{n}-USD", price=str(n + 1)) for n in range(135)]
    found = pricelist.price_list("coinbase")
    assert len(found.prices) == 135
    assert found.rate("C99", "USD") == 100
    assert [path for path, _ in venue.asked] == ["/api/v3/brokerage/market/products"]


def test_a_list_is_asked_for_again_after_thirty_seconds(venue: Venue, moment: datetime) -> None:
    pricelist.price_list("coinbase")
    with clock.at(moment + 30 * SECONDS):
        pricelist.price_list("coinbase")
    assert len(venue.asked) == 1
    venue.products = [product_row("BTC-USD", price="70000")]
    with clock.at(moment + 31 * SECONDS):
        assert pricelist.price_list("coinbase").rate("BTC", "USD") == 70_000
    assert len(venue.asked) == 2


def test_f34_products_without_a_price_have_none(coinbase: CoinbaseSource, venue: Venue) -> None:
    venue.products = [
        product_row("BTC-USD", price="66363.03"),
        product_row("NEW-USD", price=""),
        product_row("NIL-USD", price="0"),
        product_row("NAN-USD", price="NaN"),
        product_row("GONE-USD", price="5", status="delisted"),
        product_row("SHUT-USD", price="5", is_disabled=True),
        product_row("QUIET-USD", price="6", view_only=True),
    ]
    assert coinbase.price_list() == {"BTC-USD": Decimal("66363.03"), "QUIET-USD": Decimal(6)}


def test_without_an_answer_the_last_list_is_used_while_it_is_young(venue: Venue, moment: datetime) -> None:
    first = pricelist.price_list("coinbase")
    with clock.at(moment + 60 * SECONDS):
        venue.faults = [status(500)]
        assert pricelist.price_list("coinbase") == first  # its own moment says how old it is
        assert first.at == moment
    cache.delete("pricelist:coinbase:pause")
    with clock.at(moment + 301 * SECONDS):
        venue.faults = [status(500)]
        found = pricelist.price_list("coinbase")
        assert (found.at, dict(found.prices)) == (None, {})


def test_a_venue_that_does_not_answer_is_asked_once_and_then_left_alone(venue: Venue, moment: datetime) -> None:
    venue.faults = [status(503)] * 5
    for _ in range(3):
        assert pricelist.price_list("coinbase").at is None
    assert len(venue.asked) == 1


def test_half_an_answer_is_none(venue: Venue, moment: datetime) -> None:
    venue.faults = [lambda request: reply({"products": "?"})]
    assert pricelist.price_list("coinbase").prices == {}


def test_while_somebody_asks_others_use_the_last_list(venue: Venue, moment: datetime) -> None:
    pricelist.price_list("coinbase")
    cache.set("pricelist:coinbase:asking", 1, 20)
    with clock.at(moment + 60 * SECONDS):
        assert pricelist.price_list("coinbase").at == moment
    assert len(venue.asked) == 1


def test_kept_asks_nobody(venue: Venue, moment: datetime) -> None:
    assert pricelist.kept("coinbase").at is None
    assert venue.asked == []
    pricelist.price_list("coinbase")
    assert pricelist.kept("coinbase").rate("ETH", "USD") is not None
    assert len(venue.asked) == 1


@pytest.mark.parametrize("rubbish", ["", "{", "[]", '["x", {}]', '["2024-01-01T00:00:00+00:00", {"A-B": "x"}]'])
def test_what_cannot_be_read_is_no_list(moment: datetime, rubbish: str) -> None:
    cache.set(pricelist.key("coinbase"), rubbish)
    assert pricelist.kept("coinbase").at is None


def test_simulated_prices_are_worked_out_and_recordings_have_none(moment: datetime) -> None:
    assert pricelist.price_list("simulated").rate("LTC", "BTC") is not None
    assert cache.get(pricelist.key("simulated")) is None
    assert pricelist.price_list("replay").prices == {}


def test_a_market_that_nobody_knows_has_no_prices(moment: datetime) -> None:
    assert pricelist.price_list("nowhere").prices == {}


def test_a_simulated_list_agrees_with_its_quotes(moment: datetime) -> None:
    from marketdata import market

    listed = pricelist.price_list("simulated").prices
    quotes = market.quotes("simulated", listed)
    assert {symbol: quote.last for symbol, quote in quotes.items()} == dict(listed)


# The past ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_past_is_read_from_candles_of_the_pairs_that_lead_there(venue: Venue, moment: datetime) -> None:
    venue.products = [product_row("BTC-USD"), product_row("XYZ-USDC"), product_row("BTC-USDC")]
    for symbol in ("BTC-USD", "XYZ-USDC", "BTC-USDC", "ADA-USD"):
        ProductFactory(exchange="coinbase", symbol=symbol)
    rates = past.rates_at("coinbase", "XYZ", moment - timedelta(days=40))
    assert rates.rate("XYZ", "USD") is not None
    assert {path.split("/")[-2] for path, _ in venue.asked} == {"BTC-USD", "XYZ-USDC", "BTC-USDC"}


@pytest.mark.django_db
def test_f34_a_past_that_nobody_knows_has_no_rate(venue: Venue, moment: datetime) -> None:
    ProductFactory(exchange="coinbase", symbol="BTC-USD")
    assert past.rates_at("coinbase", "NEW", moment).rate("NEW", "USD") is None
    assert past.rates_at("nowhere", "BTC", moment).rate("BTC", "USD") is None
