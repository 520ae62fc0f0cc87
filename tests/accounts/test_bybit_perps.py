"""Bybit's perpetuals: what is set before an order and what is refused, what is put on the wire, what is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from accounts.exchanges.base import NewOrder, OrderRef
from accounts.models import Account
from tests.accounts.live import fake_venue, live_account, ref_of, unhurried
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.errors import VenueDenied, VenueRejected, VenueThrottled, VenueUnavailable, VenueUnknown
from tradebot.core.scoping import acting_for_account
from tradebot.core.words import MarginMode, OrderStatus, OrderType, Side

pytestmark = pytest.mark.django_db
D = Decimal
PERP = "BTC-USDT-PERP"
LATELY = timedelta(minutes=5)


@dataclass
class Bybit:
    """Ann's account, which holds 10,000 USDT and trades by a key for everything."""

    fake: FakeVenue
    account: Account
    venue: Any

    def sent(self, ending: str, method: str = "POST") -> list[dict[str, Any]]:
        return [seen.body for seen in self.fake.sent(ending, method)]

    def fail(self, action: str, path: str, **settings: Any) -> None:
        self.fake.control.fail(action, path, **settings)


@pytest.fixture
def bybit() -> Iterator[Bybit]:
    with fake_venue() as fake:
        yield from _bybit(fake)


def _bybit(fake: FakeVenue, **permissions: bool) -> Iterator[Bybit]:
    key = fake.add_account("ann", {"USDT": "10000", "BTC": "1"}, algorithm="HMAC", **permissions)
    account = live_account(key, "bybit")
    venue = unhurried(account, fake.url)
    with acting_for_account(account.pk):
        yield Bybit(fake, account, venue)


def opening(side: Side = Side.BUY, base: str = "0.02", **fields: Any) -> NewOrder:
    kind = OrderType.LIMIT if "limit_price" in fields else OrderType.MARKET
    given = {"leverage": 5, "margin_mode": MarginMode.CROSS, **fields}
    return NewOrder(uuid4(), PERP, side, kind, D(base), **given)


def reducing(side: Side = Side.SELL, base: str = "0.02", **fields: Any) -> NewOrder:
    kind = OrderType.LIMIT if "limit_price" in fields else OrderType.MARKET
    return NewOrder(uuid4(), PERP, side, kind, D(base), reduce_only=True, **fields)


# On the wire ----------------------------------------------------------------------------------------------------------


def test_orders_are_put_digit_for_digit_in_the_category_of_their_product(bybit: Bybit) -> None:
    entry = opening(base="0.0200", limit_price=D("60000.10"))
    stop = reducing(trigger_price=D("59000.50"))
    cover = reducing(Side.BUY, base="0.01", trigger_price=D(61_000))
    profit = reducing(limit_price=D(62_000))
    for order in (entry, stop, profit):
        bybit.venue.place(order)
    bybit.venue.place(reducing())
    bybit.venue.place(opening(Side.SELL, "0.01"))
    bybit.venue.place(cover)
    spot = NewOrder(uuid4(), "BTC-USDT", Side.BUY, OrderType.MARKET, quote_size=D(100))
    bybit.venue.place(spot)
    sent = {row["orderLinkId"]: row for row in bybit.sent("/order/create")}
    common = {"category": "linear", "symbol": "BTCUSDT", "positionIdx": 0}
    assert sent[str(entry.client_order_id)] == {
        **common,
        "side": "Buy",
        "orderType": "Limit",
        "qty": "0.02",
        "price": "60000.1",
        "timeInForce": "GTC",
        "reduceOnly": False,
        "orderLinkId": str(entry.client_order_id),
    }
    assert sent[str(stop.client_order_id)] == {
        **common,
        "side": "Sell",
        "orderType": "Market",
        "qty": "0.02",
        "reduceOnly": True,
        "triggerPrice": "59000.5",
        "triggerDirection": 2,
        "triggerBy": "LastPrice",
        "orderLinkId": str(stop.client_order_id),
    }
    assert sent[str(cover.client_order_id)]["triggerDirection"] == 1
    assert sent[str(profit.client_order_id)]["reduceOnly"] is True
    assert sent[str(spot.client_order_id)] == {
        "category": "spot",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "orderType": "Market",
        "qty": "100",
        "marketUnit": "quoteCoin",
        "orderLinkId": str(spot.client_order_id),
    }


def test_a_pair_and_a_contract_of_the_same_name_are_kept_apart(bybit: Bybit) -> None:
    contract = opening(limit_price=D(50_000))
    pair = NewOrder(uuid4(), "BTC-USDT", Side.BUY, OrderType.LIMIT, D("0.01"), limit_price=D(50_000))
    for order in (contract, pair):
        bybit.venue.place(order)
    assert {row.client_order_id: row.symbol for row in bybit.venue.open_orders()} == {
        contract.client_order_id: PERP,
        pair.client_order_id: "BTC-USDT",
    }
    assert bybit.venue.find(replace(ref_of(contract), symbol="BTC-USDT")) is None
    balance = bybit.venue.balances()["USDT"]
    assert (balance.total, balance.held) == (10_000, D(500) + D(50_000) * D("0.02") / 5)
    for order in (contract, pair):
        assert bybit.venue.cancel(ref_of(order)).status is OrderStatus.CANCELLED
    assert bybit.venue.open_orders() == []


# Leverage and margin mode ---------------------------------------------------------------------------------------------


def test_leverage_is_set_before_an_order_where_it_differs_and_not_otherwise(bybit: Bybit) -> None:
    bybit.venue.place(opening(leverage=5))
    assert bybit.sent("/set-leverage") == [
        {"category": "linear", "symbol": "BTCUSDT", "buyLeverage": "5", "sellLeverage": "5"}
    ]
    paths = [seen.path for seen in bybit.fake.requests if seen.method == "POST"]
    assert paths == ["/v5/position/set-leverage", "/v5/order/create"]
    bybit.venue.place(reducing())
    bybit.venue.place(opening(Side.SELL, leverage=5))
    assert len(bybit.sent("/set-leverage")) == 1
    assert not bybit.sent("/set-margin-mode")


def test_leverage_that_is_not_modified_is_success(bybit: Bybit) -> None:
    order = opening(
        leverage=10, margin_mode=MarginMode.ISOLATED
    )  # another mode may have another leverage, so it is set
    assert bybit.venue.place(order).status is OrderStatus.FILLED  # although it is answered with 110043
    assert len(bybit.sent("/set-leverage")) == 1


def test_a_leverage_that_bybit_does_not_grant_places_nothing(bybit: Bybit) -> None:
    with pytest.raises(VenueRejected) as refused:
        bybit.venue.place(opening(leverage=101))
    assert refused.value.code == "bad_leverage"
    assert not bybit.sent("/order/create")


def test_the_margin_mode_is_set_while_nothing_is_open(bybit: Bybit) -> None:
    bybit.venue.place(opening(margin_mode=MarginMode.ISOLATED))
    assert bybit.sent("/set-margin-mode") == [{"setMarginMode": "ISOLATED_MARGIN"}]
    assert bybit.fake.contracts.terms_of("ann").margin_mode == "ISOLATED_MARGIN"
    assert bybit.venue.positions()[0].base == D("0.02")


@pytest.mark.parametrize("open_at", ["position", "order", "refusal", "portfolio"])
def test_a_margin_mode_that_cannot_be_set_is_refused_saying_what_to_change(bybit: Bybit, open_at: str) -> None:
    control = bybit.fake.control
    if open_at == "position":
        control.trade_contract("ann", "ETH-USDT-PERP", "Buy", "1")
    elif open_at == "order":
        contract = bybit.fake.contracts.contracts["ETH-USDT-PERP"]
        bybit.fake.contracts.place("ann", contract, "Buy", D(1), price=D(2000))
    elif open_at == "refusal":
        control.set_contract_terms("ann", is_mode_locked=True)
    else:
        control.set_contract_terms("ann", margin_mode="PORTFOLIO_MARGIN")
    with pytest.raises(VenueRejected) as refused:
        bybit.venue.place(opening(margin_mode=MarginMode.ISOLATED))
    assert refused.value.code == "margin_mode_differs"
    set_there = "portfolio" if open_at == "portfolio" else "cross"
    assert f"margin mode at Bybit is {set_there}" in refused.value.message
    assert "Choose isolated margin at Bybit" in refused.value.message
    assert not bybit.sent("/order/create")
    assert len(bybit.sent("/set-margin-mode")) == (open_at == "refusal")


def test_hedge_mode_is_refused_saying_what_to_change(bybit: Bybit) -> None:
    bybit.fake.control.set_contract_terms("ann", is_hedged=True)
    with pytest.raises(VenueRejected) as refused:
        bybit.venue.place(opening())
    assert refused.value.code == "hedge_mode"
    assert "Switch its position mode to one-way" in refused.value.message
    assert not bybit.sent("/order/create")
    with pytest.raises(VenueRejected, check=lambda error: error.code == "hedge_mode"):
        bybit.venue.place(reducing())  # Bybit's own no


def test_a_position_made_at_bybit_is_not_netted_away(bybit: Bybit) -> None:
    bybit.fake.control.trade_contract("ann", PERP, "Sell", "0.5")
    with pytest.raises(VenueRejected) as refused:
        bybit.venue.place(opening())
    assert refused.value.code == "other_position"
    assert bybit.fake.control.contract_position("ann", PERP)["size"] == "-0.5"


@pytest.mark.parametrize(
    ("path", "method"), [("position/list", "GET"), ("account/info", "GET"), ("set-leverage", "POST")]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_fails_before_an_order_means_that_nothing_was_sent(
    bybit: Bybit, path: str, method: str, when: str
) -> None:
    bybit.fail("status", path, status=502, when=when, method=method, count=None)
    with pytest.raises(VenueThrottled) as failed:
        bybit.venue.place(opening())
    assert failed.value.outcome_known
    assert not bybit.sent("/order/create")
    if method == "POST":
        assert len(bybit.sent("/set-leverage")) == 1  # a write is sent once
        assert "The order was not sent" in failed.value.message
    bybit.fake.control.clear_faults()
    assert bybit.venue.place(opening()).status is OrderStatus.FILLED


# Orders ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [opening(), reducing(trigger_price=D(59_000))], ids=["opening", "stop"])
def test_f5_a_time_out_after_acceptance_is_found_and_never_sent_again(bybit: Bybit, order: NewOrder) -> None:
    if order.reduce_only:
        bybit.venue.place(opening())
    before = len(bybit.sent("/order/create"))
    bybit.fail("timeout", "order/create", when="after")
    with pytest.raises(VenueUnknown):
        bybit.venue.place(order)
    found = bybit.venue.find(ref_of(order))
    assert found.status is (OrderStatus.OPEN if order.reduce_only else OrderStatus.FILLED)
    assert bybit.venue.place(order).venue_order_id == found.venue_order_id
    assert len(bybit.sent("/order/create")) == before + 1


def test_f7_an_order_that_is_filled_before_its_trades_are_listed_is_doubted(bybit: Bybit) -> None:
    bybit.fail("late_fills", "order/create", looks=1)
    order = opening()
    assert bybit.venue.place(order).trades == ()
    assert len(bybit.venue.find(ref_of(order)).trades) == 1


def test_a_stop_that_the_market_has_passed_is_a_clear_no(bybit: Bybit) -> None:
    bybit.venue.place(opening())
    with pytest.raises(VenueRejected) as refused:
        bybit.venue.place(reducing(trigger_price=D(60_500)))
    assert refused.value.code == "would_trigger_at_once"


def test_an_order_with_leverage_on_a_pair_is_refused(bybit: Bybit) -> None:
    with pytest.raises(VenueRejected, check=lambda error: error.code == "bad_order"):
        bybit.venue.place(replace(opening(), symbol="BTC-USDT"))
    assert not bybit.sent("/order/create")


# Lists ----------------------------------------------------------------------------------------------------------------


def test_executions_of_both_categories_are_one_list_without_funding(bybit: Bybit) -> None:
    since = clock.now() - LATELY
    contract, pair = opening(), NewOrder(uuid4(), "BTC-USDT", Side.SELL, OrderType.MARKET, D("0.01"))
    for order in (contract, pair):
        bybit.venue.place(order)
    bybit.fake.control.fund(PERP, "0.0001")
    bybit.fake.control.liquidate("ann", PERP, "50000")
    rows = bybit.venue.trades_since(since)
    assert [(row.symbol, row.is_forced, row.trade.fee_currency) for row in rows] == [
        (PERP, False, "USDT"),
        ("BTC-USDT", False, "USDT"),
        (PERP, True, "USDT"),
    ]


def test_contracts_that_we_do_not_list_are_told_by_bybits_name(bybit: Bybit) -> None:
    since = clock.now() - LATELY
    bybit.venue.products()
    bybit.venue.dialect.prepare(bybit.venue.connection)  # its products are known from before
    bybit.fake.contracts.add("NEW-USDT-PERP", "10")
    order_id = bybit.fake.control.trade_contract("ann", "NEW-USDT-PERP", "Buy", "2")
    contract = bybit.fake.contracts.contracts["NEW-USDT-PERP"]
    resting = bybit.fake.contracts.place("ann", contract, "Buy", D(1), price=D(9))
    (row,) = bybit.venue.trades_since(since)
    assert (row.symbol, row.venue_order_id, row.trade.base) == ("linear:NEWUSDT", order_id, 2)
    assert [one.symbol for one in bybit.venue.positions()] == ["linear:NEWUSDT"]
    assert [one.venue_order_id for one in bybit.venue.open_orders()] == [resting.order_id]
    assert bybit.venue.find(OrderRef(None, row.symbol, order_id)).status is OrderStatus.FILLED


def test_long_lists_are_read_to_their_end(bybit: Bybit) -> None:
    since = clock.now() - LATELY
    bybit.venue.place(opening())
    for _ in range(120):
        bybit.fake.control.fund(PERP, "0.000001")
    assert len(bybit.venue.funding_since(since)) == 120
    bybit.fail("status", "transaction-log", status=500, count=None, skip=1)
    with pytest.raises(VenueUnavailable):
        bybit.venue.funding_since(since)


def test_lists_longer_than_a_week_are_asked_for_week_by_week(bybit: Bybit) -> None:
    bybit.venue.place(opening())
    bybit.fake.control.fund(PERP, "0.0001")
    long_ago = clock.now() - timedelta(days=20)
    assert len(bybit.venue.funding_since(long_ago)) == 1
    assert len(bybit.venue.trades_since(long_ago)) == 1
    assert bybit.venue.forced_closes_since(long_ago) == []


@pytest.mark.parametrize("symbol", [PERP, "BTC-USDT"])
def test_the_trades_of_an_order_that_rests_for_weeks_are_all_asked_for(bybit: Bybit, symbol: str) -> None:
    control, month = bybit.fake.control, timedelta(days=30).total_seconds()
    control.shift_time(-month)
    order = opening(limit_price=D(50_000))
    if symbol != PERP:
        order = NewOrder(uuid4(), symbol, Side.BUY, OrderType.LIMIT, D("0.02"), limit_price=D(50_000))
    bybit.venue.place(order)
    if symbol == PERP:
        bybit.fake.contracts.fill(bybit.fake.contracts.orders[0], D(50_000), D("0.005"), is_maker=True)
    else:
        control.fill(control.order(str(order.client_order_id))["order_id"], "0.005")
    control.shift_time(0)
    found = bybit.venue.find(ref_of(order))
    assert (found.status, [trade.base for trade in found.trades]) == (OrderStatus.PARTIALLY_FILLED, [D("0.005")])
    ended = bybit.venue.cancel(ref_of(order))
    assert (ended.status, len(ended.trades)) == (OrderStatus.CANCELLED, 1)


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_liquidation_in_parts_is_told_when_all_of_it_is_there(bybit: Bybit, *, taken_over: bool) -> None:
    since = clock.now() - LATELY
    bybit.venue.place(opening())
    control = bybit.fake.control
    order_id = control.liquidate("ann", PERP, "50000", part="0.012", taken_over=taken_over)
    assert bybit.venue.forced_closes_since(since) == []
    control.finish_liquidation(order_id)
    (forced,) = bybit.venue.forced_closes_since(since)
    assert (forced.side, forced.base, forced.report.venue_order_id) == (Side.SELL, D("0.02"), order_id)
    assert [trade.base for trade in forced.report.trades] == [D("0.012"), D("0.008")]
    later = forced.report.trades[1].at
    assert bybit.venue.forced_closes_since(later) == [forced]  # what was before the moment belongs to it


def test_half_an_answer_is_none(bybit: Bybit) -> None:
    bybit.venue.place(opening())
    bybit.fail("half", "position/list", count=None)
    with pytest.raises(VenueUnavailable):
        bybit.venue.positions()


# Keys -----------------------------------------------------------------------------------------------------------------


def test_a_key_for_spot_alone_trades_spot_as_ever() -> None:
    with fake_venue() as fake:
        for bybit in _bybit(fake, can_trade_contracts=False):
            since = clock.now() - LATELY
            pair = NewOrder(uuid4(), "BTC-USDT", Side.BUY, OrderType.LIMIT, D("0.01"), limit_price=D(50_000))
            bybit.venue.place(pair)
            bybit.venue.place(NewOrder(uuid4(), "BTC-USDT", Side.SELL, OrderType.MARKET, D("0.01")))
            for _ in range(3):
                assert [row.client_order_id for row in bybit.venue.open_orders()] == [pair.client_order_id]
                assert len(bybit.venue.trades_since(since)) == 1
            denied = [seen for seen in fake.requests if "category=linear" in seen.query and seen.account]
            assert len(denied) == 1, "a refusal is remembered"
            for ask in (bybit.venue.positions, lambda: bybit.venue.funding_since(since)):  # noqa: B023
                with pytest.raises(VenueDenied):
                    ask()
            with pytest.raises(VenueDenied, check=lambda error: error.code == "not_permitted"):
                bybit.venue.place(opening())
