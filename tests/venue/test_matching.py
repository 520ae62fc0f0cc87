"""The matching engine, through the wire: prices, increments, minimums, holds, fees, partial fills, idempotency."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.venue.client import Client
from tests.venue.engine import Engine
from tests.venue.model import Ask, Refused, Status
from tests.venue.server import FakeVenue


def test_a_market_buy_spends_at_most_its_quote_size_fee_included(anna: Client) -> None:
    order = anna.order(anna.placed("a", "BUY", "BTC-USD", market_market_ioc={"quote_size": "100"}))
    assert (order["status"], order["size_inclusive_of_fees"]) == ("FILLED", True)
    base = Decimal(order["filled_size"])
    assert base == Decimal("0.00165672")  # 100 / 1.006 / 60000.01, cut to eight places
    assert Decimal(order["filled_value"]) == base * Decimal("60000.01")
    assert Decimal(order["total_fees"]) == Decimal(order["filled_value"]) * Decimal("0.006")
    assert Decimal(99) < Decimal(order["total_value_after_fees"]) <= 100
    assert anna.wallet("BTC") == (str(1 + base), "0")
    assert Decimal(anna.wallet("USD")[0]) == 10_000 - Decimal(order["total_value_after_fees"])


def test_fills_of_an_order_sized_in_quote_are_sized_in_quote(anna: Client) -> None:
    order_id = anna.placed("a", "BUY", "BTC-USD", market_market_ioc={"quote_size": "100"})
    (fill,) = anna.fills(order_ids=order_id)
    assert fill["size_in_quote"] is True
    assert Decimal(fill["size"]) / Decimal(fill["price"]) == Decimal("0.00165672")


def test_a_market_sell_is_sized_in_base_and_pays_its_fee_in_quote(anna: Client) -> None:
    order = anna.order(anna.placed("a", "SELL", "BTC-USD", market_market_ioc={"base_size": "0.5"}))
    assert (order["filled_value"], order["total_fees"]) == ("30000", "180")
    assert (anna.wallet("USD"), anna.wallet("BTC")) == (("39820", "0"), ("0.5", "0"))


def test_a_resting_buy_claims_price_and_dearer_fee_and_pays_the_maker_fee(anna: Client, venue: FakeVenue) -> None:
    order_id = anna.limit("a", "BUY", "0.1", "50000")
    assert anna.wallet("USD") == ("4970", "5030")
    venue.control.trade_through("BTC-USD", "50000.01")
    assert anna.order(order_id)["status"] == "OPEN"
    venue.control.trade_through("BTC-USD", "49999")
    order = anna.order(order_id)
    assert (order["status"], order["average_filled_price"], order["total_fees"]) == ("FILLED", "50000", "20")
    assert anna.wallet("USD") == ("4980", "0")
    assert anna.fills()[0]["liquidity_indicator"] == "MAKER"


def test_a_partial_fill_keeps_the_hold_of_the_rest(anna: Client, venue: FakeVenue) -> None:
    order_id = anna.limit("a", "SELL", "0.4", "70000")
    venue.control.trade_through("BTC-USD", "70000", "0.1")
    order = anna.order(order_id)
    assert (order["status"], order["filled_size"], order["completion_percentage"]) == ("OPEN", "0.1", "25")
    assert anna.wallet("BTC") == ("0.6", "0.3")
    assert anna.post("/orders/batch_cancel", {"order_ids": [order_id]})["results"][0]["success"]
    order = anna.order(order_id)
    assert (order["status"], order["filled_size"], anna.wallet("BTC")) == ("CANCELLED", "0.1", ("0.9", "0"))


def test_a_moving_price_fills_what_it_reaches(anna: Client, venue: FakeVenue) -> None:
    low, high = anna.limit("a", "BUY", "0.01", "55000"), anna.limit("b", "BUY", "0.01", "58000")
    venue.control.set_price("BTC-USD", "57000")
    assert (anna.order(high)["status"], anna.order(low)["status"]) == ("FILLED", "OPEN")
    assert anna.order(high)["average_filled_price"] == "58000"


def test_a_thin_book_fills_level_by_level_and_an_ioc_ends_with_its_rest(anna: Client, venue: FakeVenue) -> None:
    venue.control.set_book("BTC-USD", [["100", "1"]], [["101", "0.2"], ["102", "0.3"]])
    order = anna.order(anna.placed("a", "BUY", "BTC-USD", market_market_ioc={"base_size": "1"}))
    assert (order["status"], order["filled_size"], order["number_of_fills"]) == ("CANCELLED", "0.5", "2")
    assert order["average_filled_price"] == "101.6"
    assert anna.wallet("USD")[1] == "0"


def test_accounts_trade_with_each_other_and_never_with_themselves(anna: Client, ben: Client, venue: FakeVenue) -> None:
    venue.control.set_book("BTC-USD", [], [])
    own, theirs = anna.limit("a", "SELL", "0.1", "100"), ben.limit("b", "SELL", "0.1", "101")
    bought = anna.limit("c", "BUY", "0.1", "105")
    assert anna.order(own)["status"] == "OPEN"
    assert ben.order(theirs)["status"] == "FILLED"
    assert anna.order(bought)["average_filled_price"] == "101"


def test_repeating_a_client_id_returns_the_existing_order(anna: Client, ben: Client, venue: FakeVenue) -> None:
    first = anna.placed("same", "BUY", "BTC-USD", market_market_ioc={"quote_size": "100"})
    assert anna.placed("same", "BUY", "BTC-USD", market_market_ioc={"quote_size": "100"}) == first
    assert anna.placed("same", "SELL", "BTC-USD", market_market_ioc={"base_size": "1"}) == first
    assert len(venue.control.orders("anna")) == len(venue.control.fills("anna")) == 1
    assert ben.placed("same", "BUY", "BTC-USD", market_market_ioc={"quote_size": "100"}) != first


@pytest.mark.parametrize(
    ("reason", "side", "product_id", "configuration"),
    [
        ("INSUFFICIENT_FUND", "BUY", "BTC-USD", {"market_market_ioc": {"quote_size": "10000.01"}}),
        ("INSUFFICIENT_FUND", "SELL", "BTC-USD", {"market_market_ioc": {"base_size": "1.00000001"}}),
        ("INSUFFICIENT_FUND", "BUY", "BTC-USDC", {"market_market_ioc": {"quote_size": "501"}}),
        ("INVALID_ORDER_SIZE", "BUY", "BTC-USD", {"market_market_ioc": {"quote_size": "0.99"}}),
        ("INVALID_SIZE_PRECISION", "BUY", "BTC-USD", {"market_market_ioc": {"quote_size": "10.001"}}),
        ("INVALID_SIZE_PRECISION", "SELL", "BTC-USD", {"market_market_ioc": {"base_size": "0.000000001"}}),
        ("INVALID_PRICE_PRECISION", "BUY", "BTC-USD", {"limit_limit_gtc": {"base_size": "1", "limit_price": "1.001"}}),
        ("INVALID_PRODUCT_ID", "BUY", "NO-USD", {"market_market_ioc": {"quote_size": "10"}}),
        (
            "INVALID_LIMIT_PRICE_POST_ONLY",
            "BUY",
            "BTC-USD",
            {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "61000", "post_only": True}},
        ),
        (
            "INVALID_END_TIME",
            "BUY",
            "BTC-USD",
            {"limit_limit_gtd": {"base_size": "0.01", "limit_price": "50000", "end_time": "2020-01-01T00:00:00Z"}},
        ),
    ],
)
def test_what_cannot_be_placed_is_refused_and_leaves_nothing(
    anna: Client, venue: FakeVenue, reason: str, side: str, product_id: str, configuration: dict[str, Any]
) -> None:
    answer = anna.create("a", side, product_id, **configuration)
    assert (answer["success"], answer["error_response"]["error"]) == (False, reason)
    assert venue.control.orders() == []
    assert venue.control.balances("anna")["USD"] == {"total": "10000", "hold": "0"}


def test_dollar_and_usdc_share_a_book_and_keep_their_wallets(anna: Client, ben: Client, venue: FakeVenue) -> None:
    rows = {row["product_id"]: row for row in anna.get("/products")["products"]}
    assert (rows["BTC-USD"]["alias_to"], rows["BTC-USDC"]["alias"]) == (["BTC-USDC"], "BTC-USD")
    venue.control.set_book("BTC-USD", [], [])
    ben.limit("b", "SELL", "0.01", "20000", "BTC-USD")
    order = anna.order(anna.limit("a", "BUY", "0.01", "20000", "BTC-USDC"))
    assert (order["status"], order["product_id"]) == ("FILLED", "BTC-USDC")
    assert (anna.wallet("USDC"), anna.wallet("USD")) == (("298.8", "0"), ("10000", "0"))
    assert ben.wallet("USD") == ("10199.2", "0")


def test_an_edit_changes_price_size_and_hold_and_keeps_the_id(anna: Client, venue: FakeVenue) -> None:
    order_id = anna.limit("a", "BUY", "0.1", "50000")
    venue.control.fill(order_id, "0.04")
    answer = anna.post("/orders/edit", {"order_id": order_id, "price": "40000", "size": "0.2"})
    assert answer["success"]
    order = anna.order(order_id)
    assert (order["status"], order["filled_size"], len(order["edit_history"])) == ("OPEN", "0.04", 1)
    assert anna.wallet("USD")[1] == str(Decimal("0.16") * 40_000 * Decimal("1.006")).rstrip("0").rstrip(".")
    refused = anna.post("/orders/edit", {"order_id": order_id, "price": "40000", "size": "0.04"})
    assert refused["errors"][0]["edit_failure_reason"] == "CANNOT_EDIT_TO_BELOW_FILLED_SIZE"
    poor = anna.post("/orders/edit", {"order_id": order_id, "price": "40000", "size": "5"})
    assert poor["errors"][0]["edit_failure_reason"] == "INSUFFICIENT_FUND"
    assert anna.wallet("USD")[1] == "6438.4"


def test_cancels_are_answered_one_by_one(anna: Client, ben: Client) -> None:
    mine, done = anna.limit("a", "BUY", "0.01", "50000"), anna.limit("b", "BUY", "0.01", "61000")
    theirs = ben.limit("c", "BUY", "0.01", "50000")
    answer = anna.post("/orders/batch_cancel", {"order_ids": [mine, done, theirs, "nobody's"]})
    assert [(row["success"], row["failure_reason"]) for row in answer["results"]] == [
        (True, "UNKNOWN_CANCEL_FAILURE_REASON"),
        (False, "COMMANDER_REJECTED_CANCEL_ORDER"),
        (False, "UNKNOWN_CANCEL_ORDER"),
        (False, "UNKNOWN_CANCEL_ORDER"),
    ]
    assert ben.order(theirs)["status"] == "OPEN"


def test_good_till_date_ends_then(anna: Client, venue: FakeVenue) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    values = {"base_size": "0.01", "limit_price": "50000", "end_time": until, "post_only": False}
    order_id = anna.placed("a", "BUY", "BTC-USD", limit_limit_gtd=values)
    assert anna.order(order_id)["status"] == "OPEN"
    venue.control.shift_time(3601)
    assert (anna.order(order_id)["status"], anna.wallet("USD")) == ("EXPIRED", ("10000", "0"))


def test_listings_filter_and_turn_pages(anna: Client, ben: Client) -> None:
    ids = [anna.limit(f"a{number}", "BUY", "0.001", "50000") for number in range(5)]
    done = anna.limit("a9", "SELL", "0.001", "59000")
    ben.limit("b", "BUY", "0.001", "50000")
    page = anna.get("/orders/historical/batch", order_status="OPEN", limit=2)
    seen = [row["order_id"] for row in page["orders"]]
    while page["has_next"]:
        page = anna.get("/orders/historical/batch", order_status="OPEN", limit=2, cursor=page["cursor"])
        seen += [row["order_id"] for row in page["orders"]]
    assert seen == ids[::-1]
    (row,) = anna.get("/orders/historical/batch", order_ids=[ids[1]])["orders"]
    assert row["client_order_id"] == "a1"
    assert [row["order_id"] for row in anna.get("/orders/historical/batch", order_status="FILLED")["orders"]] == [done]
    assert anna.get("/orders/historical/batch", start_date="2990-01-01T00:00:00Z")["orders"] == []
    assert [row["order_id"] for row in anna.fills(product_ids="BTC-USD")] == [done]
    assert anna.fills(start_sequence_timestamp="2990-01-01T00:00:00Z") == []


def test_wallets_turn_pages_and_movements_are_listed(anna: Client, venue: FakeVenue) -> None:
    first = anna.get("/accounts", limit=2)
    second = anna.get("/accounts", limit=2, cursor=first["cursor"])
    assert (len(first["accounts"]), len(second["accounts"]), second["has_next"]) == (2, 1, False)
    venue.control.deposit("anna", "USD", "25")
    venue.control.deposit("anna", "USD", "-5")
    anna.limit("a", "SELL", "0.001", "59000")
    listing = anna.ask("GET", "/v2/accounts", limit=100).json()["data"]
    usd = next(row for row in listing if row["currency"]["code"] == "USD")
    rows = anna.ask("GET", f"/v2/accounts/{usd['id']}/transactions").json()["data"]
    assert [(row["type"], row["amount"]["amount"]) for row in rows] == [
        ("advanced_trade_fill", "59.64"),
        ("fiat_withdrawal", "-5"),
        ("fiat_deposit", "25"),
        ("fiat_deposit", "10000"),
    ]
    assert sum(Decimal(row["amount"]["amount"]) for row in rows) == Decimal(usd["balance"]["amount"])


def test_a_preview_says_what_it_would_come_to_and_places_nothing(anna: Client, venue: FakeVenue) -> None:
    body = {
        "product_id": "BTC-USD",
        "side": "BUY",
        "order_configuration": {"market_market_ioc": {"quote_size": "20000"}},
    }
    assert anna.post("/orders/preview", body)["errs"] == ["PREVIEW_INSUFFICIENT_FUND"]
    body["order_configuration"] = {"market_market_ioc": {"quote_size": "100"}}
    assert anna.post("/orders/preview", body)["errs"] == []
    assert venue.control.orders() == []


def test_candles_come_newest_first_and_three_hundred_at_most(anna: Client, venue: FakeVenue) -> None:
    venue.control.set_candles("ETH-USD", 60, [[60 * number, "1", "2", "0.5", "1.5", "9"] for number in range(400)])
    path = "/market/products/ETH-USDC/candles"
    rows = anna.get(path, granularity="ONE_MINUTE", start=0, end=60 * 330)["candles"]
    assert (len(rows), rows[0]["start"], rows[-1]["start"]) == (300, str(60 * 330), str(60 * 31))
    too_many = anna.ask("GET", "/api/v3/brokerage" + path, granularity="ONE_MINUTE", start=0, end=60 * 360)
    assert too_many.status_code == 400


def test_fees_and_permissions_are_told(anna: Client, venue: FakeVenue) -> None:
    tier = anna.get("/transaction_summary")["fee_tier"]
    assert (tier["maker_fee_rate"], tier["taker_fee_rate"]) == ("0.004", "0.006")
    permissions = anna.get("/key_permissions")
    assert (permissions["can_view"], permissions["can_trade"], permissions["can_transfer"]) == (True, True, False)
    assert permissions["portfolio_uuid"] == venue.engine.accounts["anna"].portfolio_id


amounts = st.integers(1, 5_000).map(lambda number: Decimal(number) / 1000)
prices = st.integers(9_000, 11_000).map(lambda number: Decimal(number) / 100)
asks = st.tuples(
    st.sampled_from(["anna", "ben"]), st.sampled_from(["BUY", "SELL"]), amounts, st.none() | prices, st.booleans()
)


@given(st.lists(asks, min_size=1, max_size=25), st.lists(prices, max_size=5))
def test_money_is_neither_made_nor_lost(orders: list[Any], moves: list[Decimal]) -> None:
    """Whatever is placed: wallets are the sum of their movements, holds those of working orders, nothing below zero."""
    engine = Engine()
    engine.add_product("BTC-USD", "100")
    for name in ("anna", "ben"):
        engine.add_account(name, {"USD": "2000", "BTC": "20"})
    for number, (name, side, base, price, is_cancelled) in enumerate(orders):
        in_force = "IOC" if price is None else "GTC"
        ask = Ask("BTC-USD", side, str(number), base_size=base, limit_price=price, time_in_force=in_force)
        try:
            order = engine.place(name, ask)
        except Refused:
            continue
        if is_cancelled:
            engine.cancel(order)
        if number < len(moves):
            engine.set_price("BTC-USD", moves[number])
    for name, account in engine.accounts.items():
        working = [row for row in engine.working.values() if row.account == name]
        for currency, wallet in account.wallets.items():
            moved = sum(row.amount for row in account.movements if row.currency == currency)
            held = sum(row.hold for row in working if (row.ask.side == "BUY") == (currency == "USD"))
            assert wallet.balance == moved
            assert wallet.hold == held
            assert wallet.available >= 0
    assert all(row.status is not Status.OPEN or row.remaining > 0 for row in engine.orders.values())
