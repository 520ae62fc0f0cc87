"""Coinbase over HTTP: how orders are put and looked up, and what is believed of the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Account
from marketdata.models import Product
from tests.accounts.live import buy, fake_venue, live_account, ref_of, sell, venue_for
from tests.factories import ProductFactory
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.errors import (
    VenueDenied,
    VenueRejected,
    VenueThrottled,
    VenueUnavailable,
    VenueUnknown,
)
from tradebot.core.words import OrderStatus

pytestmark = pytest.mark.django_db

ORDERS = "/api/v3/brokerage/orders"


@pytest.fixture
def fake() -> Iterator[FakeVenue]:
    with fake_venue() as venue:
        yield venue


@pytest.fixture
def account(fake: FakeVenue) -> Account:
    return live_account(fake.add_account("ann", {"USD": "10000", "USDC": "5000", "BTC": "1"}))


@pytest.fixture
def venue(account: Account) -> Any:
    return venue_for(account)


def test_a_market_buy_in_quote_is_booked_with_its_fills_and_fees(fake, venue):
    order = buy(quote_size=Decimal(100))
    report = venue.place(order)
    (made,) = fake.control.fills("ann")
    assert report.status is OrderStatus.FILLED
    (trade,) = report.trades
    assert (trade.trade_id, trade.base, trade.quote, trade.fee, trade.fee_currency) == (
        made["trade_id"],
        Decimal(made["base"]),
        Decimal(made["quote"]),
        Decimal(made["fee"]),
        "USD",
    )


def test_a_fill_sized_in_quote_becomes_a_multiple_of_the_products_step(fake, venue):
    """SOME-USD costs a third of a dollar: its value says the amount only up to the step."""
    fake.engine.add_product("SOME-USD", "0.333333", price_increment="0.000001", base_increment="0.1")
    ProductFactory(exchange="coinbase", symbol="SOME-USD", base_increment=Decimal("0.1"))
    assert Product.objects.filter(symbol="SOME-USD").exists()
    (trade,) = venue.place(buy("SOME-USD", quote_size=Decimal(50))).trades
    (made,) = fake.control.fills("ann")
    assert trade.base == Decimal(made["base"])


def test_a_limit_order_rests_and_is_cancelled(fake, venue):
    order = buy(base_size=Decimal("0.01"), limit_price=Decimal(50000))
    assert venue.place(order).status is OrderStatus.OPEN
    assert venue.balances()["USD"].held > 0
    report = venue.cancel(ref_of(order))
    assert (report.status, report.trades) == (OrderStatus.CANCELLED, ())
    assert venue.balances()["USD"].held == 0


def test_what_is_put_on_the_wire(fake, venue):
    until = clock.now() + timedelta(hours=1)
    sold = sell(base_size=Decimal("1E-3"))
    limit = buy(base_size=Decimal("0.01"), limit_price=Decimal("50000.10"), expires_at=until)
    for order in (sold, limit):
        venue.place(order)
    bodies = [seen.body for seen in fake.sent(ORDERS, "POST")]
    assert bodies[0] == {
        "client_order_id": str(sold.client_order_id),
        "product_id": "BTC-USD",
        "side": "SELL",
        "order_configuration": {"market_market_ioc": {"base_size": "0.001"}},
    }
    configuration = bodies[1]["order_configuration"]["limit_limit_gtd"]
    assert configuration["limit_price"] == "50000.1"
    assert configuration["end_time"] == until.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_f5_an_order_whose_answer_was_lost_is_found_by_its_client_id(fake, venue):
    order = buy()
    fake.control.fail("cut", f"{ORDERS}$", when="after")
    with pytest.raises(VenueUnknown) as caught:
        venue.place(order)
    assert not caught.value.outcome_known
    report = venue.find(ref_of(order))
    assert report is not None
    assert report.status is OrderStatus.FILLED
    assert len(fake.sent(ORDERS, "POST")) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "cut", "when": "before"},
        {"action": "cut", "when": "after"},
        {"action": "timeout", "when": "before"},
        {"action": "timeout", "when": "after"},
        {"action": "half"},
        {"action": "status", "status": 500},
        {"action": "status", "status": 502, "when": "after"},
        {"action": "status", "status": 503, "when": "after"},
        {"action": "status", "status": 504},
        {"action": "status", "status": 408, "when": "after"},
    ],
    ids=lambda fault: " ".join(str(value) for value in fault.values()),
)
def test_f69_a_write_of_unknown_outcome_is_sent_once(fake, venue, fault):
    order = buy()
    fake.control.fail(path=f"{ORDERS}$", count=None, **fault)
    with pytest.raises(VenueUnknown):
        venue.place(order)
    assert len(fake.sent(ORDERS, "POST")) == 1


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ({"action": "status", "status": 429, "headers": {"Retry-After": "7"}}, VenueThrottled, "throttled"),
        ({"action": "status", "status": 401}, VenueDenied, "keys_refused"),
        ({"action": "status", "status": 403}, VenueDenied, "not_permitted"),
        ({"action": "status", "status": 400}, VenueRejected, "bad_request"),
    ],
    ids=["429", "401", "403", "400"],
)
def test_a_write_that_was_refused_is_known_not_to_have_happened(fake, venue, fault, error, code):
    fake.control.fail(path=f"{ORDERS}$", **fault)
    with pytest.raises(error) as caught:
        venue.place(buy())
    assert caught.value.code == code
    assert caught.value.outcome_known
    assert fake.control.orders() == []


def test_a_venue_that_cannot_be_reached_got_nothing(fake, venue):
    fake.stop()
    with pytest.raises(VenueThrottled) as caught:
        venue.place(buy())
    assert caught.value.code == "unreachable"
    with pytest.raises(VenueUnavailable):
        venue.balances()


def test_a_read_is_repeated_after_a_failure(fake, venue):
    fake.control.fail("status", "/accounts$", status=502)
    fake.control.fail("cut", "/accounts$")
    assert venue.balances()["USD"].total == 10000
    assert len(fake.sent("/accounts")) == 3


@pytest.mark.parametrize("body", [{"success": True}, {"success": True, "success_response": {"order_id": ""}}, {}, []])
def test_f4_an_acceptance_without_an_id_is_none(httpserver, body):
    from django.test import override_settings

    from tests.venue.keys import make_key

    httpserver.expect_request(ORDERS, method="POST").respond_with_json(body)
    with override_settings(COINBASE_URL=httpserver.url_for("")):
        venue = venue_for(live_account(make_key("ann")))
        with pytest.raises(VenueUnknown):
            venue.place(buy())
    assert len(httpserver.log) == 1


def test_a_no_says_why_with_the_numbers(fake, venue):
    cases = {
        "insufficient_funds": buy(base_size=Decimal(1), limit_price=Decimal(50000)),
        "bad_increment": buy(base_size=Decimal("0.01"), limit_price=Decimal("50000.001")),
        "below_minimum": buy(base_size=Decimal("0.00000002"), limit_price=Decimal(50000)),
        "unknown_product": buy("NIX-USD"),
        "bad_expiry": buy(
            base_size=Decimal("0.01"), limit_price=Decimal(50000), expires_at=clock.now() - timedelta(minutes=1)
        ),
    }
    for code, order in cases.items():
        with pytest.raises(VenueRejected) as caught:
            venue.place(order)
        assert caught.value.code == code
        assert caught.value.detail["symbol"] == order.symbol
        if order.limit_price is not None:
            assert caught.value.detail["limit_price"] == order.limit_price
    assert fake.control.orders() == []


def test_f12_an_order_that_cannot_be_seen_yet_is_not_reported_as_ended(fake, venue):
    order = buy()
    fake.control.fail("hidden", client_order_id=str(order.client_order_id), looks=2)
    report = venue.place(order)
    assert (report.status, report.trades) == (OrderStatus.OPEN, ())
    assert report.venue_order_id
    ref = ref_of(order)
    assert venue.find(ref) is None
    assert not venue.capabilities.lookup_is_definitive
    found = venue.find(ref)
    assert found is not None
    assert found.status is OrderStatus.FILLED


def test_f7_an_order_ends_when_all_of_its_trades_are_listed(fake, venue):
    """A cancelled order whose last fill is not listed yet still works: its remaining size is not known."""
    order = buy(base_size=Decimal("0.01"), limit_price=Decimal(50000))
    placed = venue.place(order)
    fake.control.fill(placed.venue_order_id, "0.004")
    fake.engine.orders[placed.venue_order_id].late_looks = 1
    report = venue.cancel(ref_of(order, placed.venue_order_id))
    assert (report.status, report.trades) == (OrderStatus.OPEN, ())
    report = venue.find(ref_of(order, placed.venue_order_id))
    assert report.status is OrderStatus.CANCELLED
    assert [trade.base for trade in report.trades] == [Decimal("0.004")]


def test_filled_without_a_trade_is_reported_as_it_is(fake, venue):
    order = buy()
    fake.control.fail("late_fills", client_order_id=str(order.client_order_id), looks=1)
    report = venue.place(order)
    assert (report.status, report.trades) == (OrderStatus.FILLED, ())
    assert len(venue.find(ref_of(order)).trades) == 1


def test_repeated_and_shuffled_trades_are_reported_once_and_in_order(fake, venue):
    order = buy(base_size=Decimal("0.01"), limit_price=Decimal(50000))
    placed = venue.place(order)
    for _ in range(5):
        fake.control.fill(placed.venue_order_id, "0.001")
    for action in ("duplicate", "reorder"):
        fake.control.fail(action, "fills$")
    report = venue.find(ref_of(order, placed.venue_order_id))
    assert [trade.trade_id for trade in report.trades] == [row["trade_id"] for row in fake.control.fills()]


def test_f26_f66_every_page_is_read_and_half_of_them_is_none(fake, venue):
    """Orders and fills come in pages; one that fails fails the whole."""
    placed = [buy(base_size=Decimal("0.001"), limit_price=Decimal(50000)) for _ in range(7)]
    for order in placed:
        venue.place(order)
    from accounts.exchanges.ccxt import coinbase

    before, coinbase.ROWS_PER_PAGE = coinbase.ROWS_PER_PAGE, 3
    try:
        found = venue.find_many([ref_of(order) for order in placed])
        assert set(found) == {order.client_order_id for order in placed}
        fake.control.fail("status", "historical/batch", status=500, skip=1, count=None)
        with pytest.raises(VenueUnavailable):
            venue.find_many([ref_of(order) for order in placed])
    finally:
        coinbase.ROWS_PER_PAGE = before


def test_many_orders_are_asked_for_in_one_list(fake, venue):
    placed = [buy(base_size=Decimal("0.001"), limit_price=Decimal(50000)) for _ in range(20)]
    reports = [venue.place(order) for order in placed]
    before = len(fake.requests)
    known = [ref_of(order, report.venue_order_id) for order, report in zip(placed[:15], reports, strict=False)]
    assert len(venue.find_many(known)) == 15
    assert len(fake.requests) == before + 1
    mixed = [*known, *(ref_of(order) for order in placed[15:])]
    assert len(venue.find_many(mixed)) == 20
    assert len(fake.requests) == before + 3


def test_orders_that_wait_to_be_opened_are_open_orders_too(fake, venue):
    order = buy(base_size=Decimal("0.01"), limit_price=Decimal(50000))
    fake.control.fail("pending", client_order_id=str(order.client_order_id), looks=10)
    venue.place(order)
    assert [row.client_order_id for row in venue.open_orders()] == [order.client_order_id]


def test_the_wallet_is_the_one_of_the_product_that_was_ordered(fake, venue):
    """USD and USDC pairs share a book and not a wallet."""
    order = buy("BTC-USDC")
    report = venue.place(order)
    assert (report.symbol, report.trades[0].fee_currency) == ("BTC-USDC", "USDC")
    balances = venue.balances()
    assert balances["USDC"].total < 5000
    assert balances["USD"].total == 10000
    found = venue.find(ref_of(order))
    assert found.symbol == "BTC-USDC"


def test_f19_a_fill_that_races_with_the_cancel_is_in_its_answer(fake, venue):
    order = buy(base_size=Decimal("0.01"), limit_price=Decimal(50000))
    venue.place(order)
    fake.control.fail("race", share="0.25")
    report = venue.cancel(ref_of(order))
    assert report.status is OrderStatus.CANCELLED
    assert [trade.base for trade in report.trades] == [Decimal("0.0025")]


def test_the_cancel_of_an_order_that_has_filled_returns_the_fill(fake, venue):
    order = buy(base_size=Decimal("0.01"), limit_price=Decimal(50000))
    placed = venue.place(order)
    fake.control.fill(placed.venue_order_id)
    assert venue.cancel(ref_of(order)).status is OrderStatus.FILLED


def test_a_cancel_of_nothing_is_refused(venue):
    with pytest.raises(VenueRejected) as caught:
        venue.cancel(ref_of(buy()))
    assert caught.value.code == "unknown_order"


def test_a_clock_that_differs_is_measured_once_and_then_right(fake, account):
    venue = venue_for(account)
    fake.control.set_clock_skew(-300)
    assert venue.balances()["USD"].total == 10000
    asked = len(fake.sent("/time"))
    assert asked == 1
    venue.place(buy())
    assert len(fake.sent("/time")) == asked


def test_an_order_refused_for_its_time_was_not_placed_and_the_next_one_is(fake, account):
    venue = venue_for(account)
    fake.control.set_clock_skew(300)
    with pytest.raises(VenueThrottled) as caught:
        venue.place(buy())
    assert caught.value.code == "clock_skew"
    assert fake.control.orders() == []
    assert venue.place(buy()).status is OrderStatus.FILLED


def test_keys_that_are_refused_are_for_a_person_and_do_not_ask_for_the_time_for_ever(fake, account):
    venue = venue_for(account)
    fake.control.revoke(next(iter(fake.keyring.keys)))
    for _ in range(3):
        with pytest.raises(VenueDenied):
            venue.balances()
    assert len(fake.sent("/time")) == 1


def test_an_edit_sends_size_and_price_and_reports_the_order(fake, venue):
    order = buy(base_size=Decimal("0.01"), limit_price=Decimal(50000))
    venue.place(order)
    report = venue.edit(ref_of(order), Decimal("0.02"), Decimal(51000))
    assert report.status is OrderStatus.OPEN
    assert fake.sent("/edit")[0].body == {
        "order_id": report.venue_order_id,
        "size": "0.02",
        "price": "51000",
    }
    with pytest.raises(VenueRejected):
        venue.edit(ref_of(order), Decimal(2), Decimal(51000))


def test_executions_name_our_orders_and_leave_others_nameless(fake, venue):
    order = buy()
    venue.place(order)
    stranger = {
        "client_order_id": "somebody-elses",
        "product_id": "BTC-USD",
        "side": "BUY",
        "order_configuration": {"market_market_ioc": {"quote_size": "50"}},
    }
    from tests.venue import coinbase_shapes

    fake.engine.place("ann", coinbase_shapes.read_ask(stranger))
    rows = venue.trades_since(clock.now() - timedelta(hours=1))
    assert [row.client_order_id for row in rows] == [order.client_order_id, None]
    assert rows == sorted(rows, key=lambda row: row.trade.at)


def test_deposits_and_withdrawals_are_movements_and_trades_are_not(fake, venue):
    since = clock.now() - timedelta(hours=1)
    fake.control.deposit("ann", "USD", "-250")
    venue.place(buy())
    moved = [(row.currency, row.amount) for row in venue.movements_since(since)]
    assert sorted(moved) == [
        ("BTC", Decimal(1)),
        ("USD", Decimal(-250)),
        ("USD", Decimal(10000)),
        ("USDC", Decimal(5000)),
    ]


def test_a_withdrawal_under_way_is_a_movement_and_a_deposit_under_way_is_none(fake, venue):
    since = clock.now() - timedelta(hours=1)
    rows = {status: fake.control.deposit("ann", "USD", "-250") for status in ("pending", "failed", "canceled")}
    for status, row in rows.items():
        fake.control.set_movement("ann", row, status)
    coming = fake.control.deposit("ann", "USD", "70")
    fake.control.set_movement("ann", coming, "pending")
    moved = {row.external_id: (row.amount, row.is_settled) for row in venue.movements_since(since)}
    assert moved[rows["pending"]] == (Decimal(-250), False)
    assert not {rows["failed"], rows["canceled"], coming} & set(moved)
    assert sum(not settled for _, settled in moved.values()) == 1


def test_permissions_and_fees_are_what_the_venue_says(fake, account, venue):
    permissions = venue.permissions()
    assert (permissions.can_view, permissions.can_trade, permissions.can_withdraw) == (True, True, False)
    assert permissions.portfolio == fake.engine.accounts["ann"].portfolio_id
    fake.control.set_fees("ann", "0.0015", "0.0025")
    assert venue.fee_rates() == (Decimal("0.0015"), Decimal("0.0025"))


def test_every_request_has_a_token_of_its_own_and_no_secret_shows(fake, account, venue, caplog):
    """The fake refuses a token that was used; what was logged tells neither key nor secret."""
    secret = next(iter(fake.keyring.keys.values())).secret
    for _ in range(3):
        venue.balances()
    fake.control.fail("status", ORDERS, status=500)
    with pytest.raises(VenueUnknown) as caught:
        venue.place(buy())
    body = secret.splitlines()[1]
    shown = caplog.text + repr(caught.value) + json.dumps(caught.value.detail, default=str)
    assert body not in shown
