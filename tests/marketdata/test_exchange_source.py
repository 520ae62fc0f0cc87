"""Public data of exchanges over ccxt, from the fake venue's second dialect."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from marketdata import market, services, sources
from marketdata.models import Product
from marketdata.sources.base import MarketSource
from marketdata.sources.limiter import AddressLimiter
from marketdata.timeframes import Timeframe
from marketdata.wire import venues
from tests.accounts.live import fake_venue
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.errors import NotFound, VenueThrottled, VenueUnavailable


@pytest.fixture
def fake() -> Iterator[FakeVenue]:
    sources._exchange.cache_clear()
    with fake_venue() as venue:
        yield venue
    sources._exchange.cache_clear()


@pytest.fixture
def binance(fake: FakeVenue) -> MarketSource:
    source = sources.get("binance")
    source.limiter = AddressLimiter(fake.url, 10_000)  # type: ignore[attr-defined]
    return source


def test_every_exchange_is_a_market() -> None:
    assert set(venues.LIVE) <= set(sources.SLUGS)
    for slug in venues.LIVE:
        assert sources.get(slug).slug == slug
        assert Timeframe.D1 in sources.get(slug).native_timeframes or slug == "okx"


def test_products_come_with_their_terms(binance: MarketSource, fake: FakeVenue) -> None:
    found = {product.symbol: product for product in binance.products()}
    doge = found["DOGE-USDT"]
    assert (doge.base, doge.quote, doge.status) == ("DOGE", "USDT", "online")
    assert (doge.price_increment, doge.base_increment) == (Decimal("0.00001"), Decimal("0.1"))
    assert (doge.min_base, doge.min_quote) == (Decimal("0.1"), Decimal("0.1"))
    assert not [seen for seen in fake.requests if seen.account], "public data is asked for without keys"


def test_f26_a_change_of_terms_is_seen_when_products_are_listed_again(binance: MarketSource, fake: FakeVenue) -> None:
    binance.products()
    fake.control.set_product("DOGE-USDT", base_increment="1", trading_disabled=True)
    binance._markets_at -= 2  # type: ignore[attr-defined] (a moment later)
    doge = next(product for product in binance.products() if product.symbol == "DOGE-USDT")
    assert (doge.base_increment, doge.status) == (1, "offline")


def test_f66_an_empty_or_failed_list_is_no_list(binance: MarketSource, fake: FakeVenue) -> None:
    fake.control.fail("status", "exchangeInfo", status=500, count=None)
    with pytest.raises(VenueUnavailable):
        binance.products()
    fake.control.clear_faults()
    fake.engine.products.clear()
    with pytest.raises(VenueUnavailable):
        binance.products()


def test_f40_f41_candles_are_closed_and_oldest_first_page_by_page(binance: MarketSource, fake: FakeVenue) -> None:
    minute = int(time.time()) // 60 * 60
    rows = [[minute - 60 * back, 1 + back, 2 + back, 1, 1 + back, 5] for back in range(2500, -1, -1)]
    fake.control.set_candles("BTC-USDT", 60, rows)
    found = binance.candles("BTC-USDT", Timeframe.M1, minute - 60 * 2500, minute + 3600)
    assert found.time.tolist() == [row[0] for row in rows[:-1]], "the forming candle is not among them"
    assert found.open.tolist() == [float(row[1]) for row in rows[:-1]]
    assert len(fake.sent("/klines")) == 3


def test_tickers_are_asked_for_at_once(binance: MarketSource, fake: FakeVenue) -> None:
    quotes = binance.tickers(["BTC-USDT", "ETH-USDT", "NIX-USDT"])
    assert set(quotes) == {"BTC-USDT", "ETH-USDT"}
    assert (quotes["BTC-USDT"].bid, quotes["BTC-USDT"].ask) == (Decimal(60000), Decimal("60000.01"))
    assert len(fake.sent("/ticker/24hr")) == 1


@pytest.mark.parametrize(("slug", "symbol"), [("binance", "ETH-USDT"), ("coinbase", "ETH-USD")])
def test_the_price_of_everything_is_one_request(slug: str, symbol: str, fake: FakeVenue) -> None:
    source = sources.get(slug)
    source.tickers([])
    binance_products = len(fake.sent("exchangeInfo"))
    before = len(fake.requests)
    prices = source.price_list()
    assert prices[symbol] == Decimal(3000)
    assert len(prices) == len(fake.engine.products)
    assert len(fake.requests) == before + 1
    assert len(fake.sent("exchangeInfo")) == binance_products


def test_by_default_a_price_list_is_the_last_prices_of_what_is_online() -> None:
    simulated = sources.get("simulated")
    prices = simulated.price_list()
    online = {product.symbol for product in simulated.products() if product.status == "online"}
    assert set(prices) == online
    assert all(price > 0 for price in prices.values())


def test_the_book_is_best_first_and_exact(binance: MarketSource, fake: FakeVenue) -> None:
    fake.control.set_book("BTC-USDT", [["9.5", "1.00000001"], ["10", "2"]], [["11", "1"], ["10.5", "3"]])
    book = binance.book("BTC-USDT", depth=2)
    assert [(level.price, level.size) for level in book.bids] == [(10, 2), (Decimal("9.5"), Decimal("1.00000001"))]
    assert [level.price for level in book.asks] == [Decimal("10.5"), 11]


def test_what_is_not_listed_is_not_found(binance: MarketSource) -> None:
    with pytest.raises(NotFound):
        binance.book("NIX-USDT")


def test_a_429_pauses_the_address(binance: MarketSource, fake: FakeVenue) -> None:
    binance.products()
    fake.control.fail("status", "depth", status=429, headers={"Retry-After": "60"})
    with pytest.raises(VenueThrottled):
        binance.book("BTC-USDT")
    asked = len(fake.requests)
    with pytest.raises(VenueThrottled):
        binance.book("BTC-USDT")
    assert len(fake.requests) == asked


@pytest.mark.django_db
def test_prices_of_every_exchange_are_cached_and_read_from_there(binance: MarketSource, fake: FakeVenue) -> None:
    assert market.quotes("binance", ["BTC-USDT"]) == {}
    assert services.refresh_prices("binance", ["BTC-USDT"]) == 1
    asked = len(fake.requests)
    assert market.quote("binance", "BTC-USDT").last == Decimal(60000)  # type: ignore[union-attr]
    assert len(fake.requests) == asked
    assert set(market.fresh_quotes("binance", ["BTC-USDT", "ETH-USDT"])) == {"BTC-USDT", "ETH-USDT"}
    assert len(fake.requests) == asked + 1


@pytest.mark.django_db
def test_a_product_list_is_fetched_at_once_for_a_new_market_and_then_once_in_a_while(fake: FakeVenue) -> None:
    hour, start = timedelta(hours=1), clock.now()
    services.refresh_product_lists(["coinbase"], hour)
    asked = len(fake.requests)
    services.refresh_product_lists(["coinbase"], hour)
    assert asked
    assert len(fake.requests) == asked
    with clock.at(start + timedelta(minutes=61)):
        services.refresh_product_lists(["coinbase"], hour)
        assert len(fake.requests) > asked
    fake.control.fail("status", "products", status=400, count=None)
    with clock.at(start + timedelta(minutes=130)):
        with pytest.raises(VenueUnavailable):
            services.refresh_product_lists(["coinbase"], hour)
        asked = len(fake.requests)
        services.refresh_product_lists(["coinbase"], hour)
        assert len(fake.requests) == asked, "a market that has just failed is left alone"


@pytest.mark.django_db
def test_f67_a_market_that_does_not_answer_does_not_stop_the_others(binance: MarketSource, fake: FakeVenue) -> None:
    fake.control.fail("status", "exchangeInfo", status=400, count=None)
    services.refresh_product_lists(["binance", "coinbase"])
    assert set(Product.objects.values_list("exchange", flat=True)) == {"coinbase"}
    assert services.MarketStatus.objects.get(exchange="binance", feed="products").consecutive_failures == 1
    with pytest.raises(VenueUnavailable):
        services.refresh_product_lists(["binance"])
