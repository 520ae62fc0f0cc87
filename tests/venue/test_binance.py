"""The second dialect through ccxt's unified calls, with the habits in which it differs from the first."""

from __future__ import annotations

import ccxt
import pytest
import requests

from tests.venue.client import Client, ccxt_binance
from tests.venue.server import FakeVenue


@pytest.fixture
def binance(venue: FakeVenue) -> ccxt.binance:
    venue.engine.add_account("anna", {"USDT": "10000", "BTC": "1"})
    exchange = ccxt_binance(venue, venue.add_key("anna", "HMAC"))
    exchange.load_markets()
    return exchange


def test_a_buy_pays_its_fee_in_base(venue: FakeVenue, binance: ccxt.binance) -> None:
    order = binance.create_order("BTC/USDT", "market", "buy", 0.1, None, {"newClientOrderId": "a-1"})
    assert (order["status"], order["filled"], order["fee"]["currency"]) == ("closed", 0.1, "BTC")
    (trade,) = binance.fetch_my_trades("BTC/USDT")
    assert (trade["amount"], trade["fee"]) == (0.1, {"currency": "BTC", "cost": 0.0006})
    assert venue.control.balances("anna")["BTC"]["total"] == "1.0994"
    assert binance.fetch_balance()["USDT"]["free"] == pytest.approx(10_000 - 6000.001)


def test_a_market_buy_by_quote_spends_it_before_fees(venue: FakeVenue, binance: ccxt.binance) -> None:
    order = binance.create_order("BTC/USDT", "market", "buy", 0, None, {"cost": 600})
    assert order["filled"] == 0.00999999  # 600 / 60000.01, cut to eight places


def test_orders_are_found_by_client_id_and_cancelled(binance: ccxt.binance) -> None:
    by_client = {"origClientOrderId": "a-1"}
    binance.create_order("BTC/USDT", "limit", "sell", 0.1, 70_000, {"newClientOrderId": "a-1"})
    assert binance.fetch_order(None, "BTC/USDT", by_client)["status"] == "open"
    assert [row["clientOrderId"] for row in binance.fetch_open_orders("BTC/USDT")] == ["a-1"]
    assert binance.cancel_order(None, "BTC/USDT", by_client)["status"] == "canceled"
    assert binance.fetch_balance()["BTC"]["used"] == 0
    with pytest.raises(ccxt.OrderNotFound):
        binance.cancel_order(None, "BTC/USDT", by_client)
    with pytest.raises(ccxt.OrderNotFound):
        binance.fetch_order("777", "BTC/USDT")


def test_a_client_id_is_unique_among_open_orders_only(venue: FakeVenue, binance: ccxt.binance) -> None:
    named = {"newClientOrderId": "a-1"}
    binance.create_order("BTC/USDT", "limit", "sell", 0.1, 70_000, named)
    with pytest.raises(ccxt.ExchangeError, match="Duplicate order"):
        binance.create_order("BTC/USDT", "limit", "sell", 0.1, 70_000, named)
    venue.control.trade_through("BTC-USDT", "70000")
    binance.create_order("BTC/USDT", "limit", "buy", 0.1, 50_000, named)
    assert [row["status"] for row in venue.control.orders()] == ["FILLED", "OPEN"]


@pytest.mark.parametrize(
    ("amount", "price", "error"),
    [(1, 50_000, ccxt.InsufficientFunds), (0.000001, 50_000, ccxt.ExchangeError), (0, 50_000, ccxt.InvalidOrder)],
)
def test_what_cannot_be_placed_is_refused(
    venue: FakeVenue, binance: ccxt.binance, amount: float, price: float, error: type[Exception]
) -> None:
    with pytest.raises(error):
        binance.create_order("BTC/USDT", "limit", "buy", amount, price)
    assert venue.control.orders() == []


def test_signatures_and_times_are_checked(venue: FakeVenue, binance: ccxt.binance) -> None:
    thief = ccxt_binance(venue, venue.add_key("anna", "HMAC"))
    thief.secret = "wrong"
    with pytest.raises(ccxt.ExchangeError, match="Signature"):
        thief.fetch_balance()
    venue.control.set_clock_skew(60)
    with pytest.raises(ccxt.InvalidNonce):
        binance.fetch_balance()
    venue.control.set_clock_skew(0)
    assert requests.get(f"{venue.url}/api/v3/account", timeout=5).status_code == 401


def test_a_coinbase_key_opens_no_binance_door_and_the_other_way_round(venue: FakeVenue, anna: Client) -> None:
    key = venue.add_key("anna", "HMAC")
    for path, name in (("account", anna.key.name), ("brokerage/accounts", key.name)):
        answer = requests.get(f"{venue.url}/api/v3/{path}", headers={"X-MBX-APIKEY": name}, timeout=5)
        assert answer.status_code == 401


def test_market_data(venue: FakeVenue, binance: ccxt.binance) -> None:
    venue.control.set_price("BTC-USDT", "61000")
    assert binance.fetch_ticker("BTC/USDT")["last"] == 61_000
    assert binance.fetch_order_book("BTC/USDT", 5)["bids"][0][0] == 61_000
    assert binance.fetch_ohlcv("BTC/USDT", "1m")[-1][4] == 61_000
    market = binance.market("BTC/USDT")
    assert (market["precision"]["amount"], market["limits"]["cost"]["min"]) == (1e-8, 0.1)


def test_faults_reach_this_dialect_too(venue: FakeVenue, binance: ccxt.binance) -> None:
    venue.control.fail("cut", "/api/v3/order$", method="POST", when="after")
    with pytest.raises(ccxt.NetworkError):
        binance.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000, {"newClientOrderId": "a-1"})
    assert binance.fetch_order(None, "BTC/USDT", {"origClientOrderId": "a-1"})["status"] == "open"
    venue.control.fail("race", share="0.5")
    binance.cancel_order(None, "BTC/USDT", {"origClientOrderId": "a-1"})
    assert binance.fetch_order(None, "BTC/USDT", {"origClientOrderId": "a-1"})["filled"] == 0.005
    venue.control.fail("status", status=429)
    with pytest.raises(ccxt.DDoSProtection):
        binance.fetch_balance()
