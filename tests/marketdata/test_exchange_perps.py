"""Perpetuals of an exchange as products: terms, prices, candles, book, funding; spot beside them as ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from marketdata import services, sources
from marketdata.models import Product
from marketdata.sources.base import MarketSource
from marketdata.sources.exchange import pair_of, symbol_of
from marketdata.sources.limiter import AddressLimiter
from marketdata.timeframes import Timeframe
from tests.accounts.live import fake_venue
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.errors import NotFound, VenueUnavailable

D = Decimal
PERP = "BTC-USDT-PERP"


@pytest.fixture
def fake() -> Iterator[FakeVenue]:
    sources._exchange.cache_clear()
    with fake_venue() as venue:
        yield venue
    sources._exchange.cache_clear()


@pytest.fixture
def bybit(fake: FakeVenue) -> MarketSource:
    source = sources.get("bybit")
    source.limiter = AddressLimiter(fake.url, 10_000)  # type: ignore[attr-defined]
    return source


@pytest.mark.parametrize(("symbol", "pair"), [("ETH-BTC", "ETH/BTC"), (PERP, "BTC/USDT:USDT")])
def test_names_are_told_both_ways(symbol: str, pair: str) -> None:
    assert (pair_of(symbol), symbol_of(pair)) == (pair, symbol)


def test_perpetuals_come_with_their_terms(bybit: MarketSource, fake: FakeVenue) -> None:
    found = {product.symbol: product for product in bybit.products()}
    btc = found[PERP]
    assert (btc.base, btc.quote, btc.kind, btc.status) == ("BTC", "USDT", "perpetual", "online")
    assert (btc.price_increment, btc.base_increment) == (D("0.1"), D("0.001"))
    assert (btc.min_base, btc.min_quote) == (D("0.001"), D(5))
    assert (btc.max_leverage, btc.funding_hours) == (100, 8)
    assert btc.maintenance_pct == 2  # half a percent by its leverage: the cautious two are taken
    wif = found["WIF-USDT-PERP"]
    assert (wif.max_leverage, wif.maintenance_pct) == (12, 4)
    assert not [seen for seen in fake.requests if seen.account], "public data is asked for without keys"


def test_only_perpetuals_settled_in_usdt_are_listed(bybit: MarketSource, fake: FakeVenue) -> None:
    fake.contracts.add("BTC-USDC-PERP", "60000")
    names = {product.symbol for product in bybit.products()}
    assert "BTC-USDC-PERP" not in names
    assert {"BTC-USDC", "BTC-USDT", PERP} <= names


def test_spot_of_the_same_name_is_what_it_was(bybit: MarketSource) -> None:
    btc = {product.symbol: product for product in bybit.products()}["BTC-USDT"]
    assert (btc.kind, btc.price_increment, btc.base_increment) == ("spot", D("0.01"), D("0.00000001"))
    assert (btc.max_leverage, btc.maintenance_pct, btc.funding_hours) == (None, None, None)


def test_both_kinds_are_priced_at_once(bybit: MarketSource, fake: FakeVenue) -> None:
    fake.control.set_price(PERP, "60500")
    found = bybit.tickers([PERP, "BTC-USDT", "NIX-USDT-PERP"])
    assert set(found) == {PERP, "BTC-USDT"}
    assert (found[PERP].bid, found[PERP].ask) == (D(60_500), D("60500.1"))
    assert (found["BTC-USDT"].bid, found["BTC-USDT"].ask) == (D(60_000), D("60000.01"))
    assert bybit.price_list()["BTC-USDT"] == 60_000
    assert PERP not in bybit.price_list()


def test_candles_and_book_are_those_of_the_contract(bybit: MarketSource, fake: FakeVenue) -> None:
    minute = int(time.time()) // 60 * 60
    rows = [[minute - 60 * back, 1, 20, 1, 1 + back, 5] for back in range(10, 0, -1)]
    fake.control.set_candles("BTC-USDT", 60, rows)
    found = bybit.candles(PERP, Timeframe.M1, minute - 600, minute)
    assert found.close.tolist() == [float(1 + back) for back in range(10, 0, -1)]
    assert "category=linear" in fake.sent("/kline")[0].query
    book = bybit.book(PERP, 3)
    assert [level.price for level in book.bids] == [D(60_000), D("59999.9"), D("59999.8")]
    assert [level.price for level in book.asks] == [D("60000.1"), D("60000.2"), D("60000.3")]
    with pytest.raises(NotFound):
        bybit.book("NIX-USDT-PERP")


def test_f34_funding_is_what_the_history_says_of_that_moment_or_unknown(bybit: MarketSource, fake: FakeVenue) -> None:
    fake.control.fund(PERP, "-0.000125")
    at = fake.contracts.contracts[PERP].rates[0][0]
    assert bybit.funding_rate(PERP, at) == D("-0.000125")
    for moment in (at + timedelta(hours=8), at - timedelta(hours=8), clock.now() + timedelta(hours=1)):
        with pytest.raises(VenueUnavailable):
            bybit.funding_rate(PERP, moment)


@pytest.mark.django_db
def test_they_are_written_down_as_products(bybit: MarketSource) -> None:
    services.refresh_products("bybit")
    row = Product.objects.get(exchange="bybit", symbol=PERP)
    assert row.is_perpetual
    assert (row.max_leverage, row.funding_hours) == (100, 8)
    assert Product.objects.get(exchange="bybit", symbol="BTC-USDT").kind == Product.Kind.SPOT
