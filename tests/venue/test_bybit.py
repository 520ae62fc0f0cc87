"""The third dialect, asked by a client that is not ours: ccxt's own Bybit, which knows the documented answers."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest

from tests.venue.client import ccxt_bybit
from tests.venue.server import FakeVenue

PERP = "BTC/USDT:USDT"


@pytest.fixture
def ann(venue: FakeVenue) -> Any:
    return ccxt_bybit(venue, venue.add_account("ann", {"USDT": "10000", "BTC": "1"}, algorithm="HMAC"))


def test_markets_tickers_and_books_are_read(ann: Any) -> None:
    markets = ann.load_markets()
    assert (markets["BTC/USDT"]["spot"], markets[PERP]["linear"], markets[PERP]["settle"]) == (True, True, "USDT")
    assert (markets[PERP]["precision"]["amount"], markets[PERP]["limits"]["leverage"]["max"]) == (0.001, 100)
    assert ann.fetch_ticker(PERP)["ask"] == 60000.1
    assert ann.fetch_ticker("BTC/USDT")["ask"] == 60000.01
    assert ann.fetch_order_book(PERP, 5)["bids"][0][0] == 60000


def test_a_position_is_opened_shown_funded_and_stopped(ann: Any, venue: FakeVenue) -> None:
    ann.set_leverage(5, PERP)
    order = ann.create_order(PERP, "market", "buy", 0.02)
    (position,) = ann.fetch_positions([PERP])
    assert (position["side"], position["contracts"], position["entryPrice"]) == ("long", 0.02, 60000.1)
    assert (position["leverage"], position["initialMargin"]) == (5, pytest.approx(240.0004))
    (trade,) = ann.fetch_my_trades(PERP)
    assert (trade["order"], trade["fee"]["cost"]) == (order["id"], pytest.approx(7.200012))
    assert ann.fetch_balance()["USDT"]["used"] == pytest.approx(240.0004)
    venue.control.fund("BTC-USDT-PERP", "0.0001")
    stop = {"reduceOnly": True, "triggerPrice": 59000, "triggerDirection": "descending"}
    placed = ann.create_order(PERP, "market", "sell", 0.02, None, stop)
    assert ann.fetch_open_orders(PERP)[0]["triggerPrice"] == 59000
    venue.control.set_price("BTC-USDT-PERP", "58990")
    assert ann.fetch_order(placed["id"], PERP, {"acknowledged": True})["status"] == "closed"
    assert ann.fetch_positions([PERP])[0]["contracts"] in (0, None)


def test_the_log_has_funding_with_its_sign(ann: Any, venue: FakeVenue) -> None:
    ann.create_order(PERP, "market", "sell", 0.02)
    venue.control.fund("BTC-USDT-PERP", "0.0001")
    (entry,) = ann.fetch_ledger("USDT", None, None, {"type": "SETTLEMENT"})
    assert (entry["info"]["funding"], entry["info"]["feeRate"]) == ("0.12", "-0.0001")


def test_what_is_refused_is_refused_in_its_words(ann: Any, venue: FakeVenue) -> None:
    with pytest.raises(ccxt.InvalidOrder, match="110017"):
        ann.create_order(PERP, "market", "sell", 0.02, None, {"reduceOnly": True})
    with pytest.raises(ccxt.InsufficientFunds):
        ann.create_order(PERP, "market", "buy", 5)
    with pytest.raises(ccxt.BadRequest, match="110043"):
        ann.set_leverage(10, PERP)
    with pytest.raises(ccxt.BadRequest, match="7 days"):
        ann.fetch_my_trades(PERP, 1_600_000_000_000, None, {"until": 1_700_000_000_000})
    venue.control.revoke(ann.apiKey)
    with pytest.raises(ccxt.AuthenticationError):
        ann.fetch_balance()


def test_a_signature_and_a_clock_that_are_wrong_are_refused(ann: Any, venue: FakeVenue) -> None:
    venue.control.set_clock_skew(60)
    with pytest.raises(ccxt.InvalidNonce):
        ann.fetch_balance()
    venue.control.set_clock_skew(0)
    ann.secret = "another"
    with pytest.raises(ccxt.AuthenticationError):
        ann.fetch_balance()
