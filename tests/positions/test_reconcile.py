"""Orders whose fate is not known are asked for until it is; what belongs to nobody is reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F

from accounts.exchanges.base import Trade, VenueTrade
from accounts.exchanges.paper import PaperVenue
from accounts.models import Account, PaperOrder, PaperTrade
from bots.models import Bot
from marketdata import market
from positions import execution, reconcile, tasks
from positions.booking import ref_of
from positions.execution import Intent
from positions.models import Fill, Order, Position, UnmatchedFill
from positions.reconcile import FRESH, GRACE, reconcile_account, reconcile_all
from positions.states import OrderStatus, OrderType, PositionStatus, Purpose, Side
from positions.strangers import TOO_FRESH, report_strangers
from tests.factories import AccountFactory, BotFactory, ExchangeCredentialFactory
from tests.positions.conftest import MOMENT, Desk
from tests.positions.outside import Killed
from tradebot.core import clock
from tradebot.core.errors import VenueRejected, VenueUnavailable, VenueUnknown
from tradebot.core.health import stale_loops
from tradebot.core.models import LoopState
from tradebot.core.scoping import acting_for_account, detached


@contextmanager
def later(seconds: float | timedelta) -> Iterator[datetime]:
    """The same, some time later."""
    gap = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
    with clock.at(MOMENT + gap) as moment:
        yield moment


def unknown(desk: Desk, *, arrived: bool) -> Order:
    """Place a base order whose answer is lost."""
    assert desk.venue is not None
    desk.venue.fail("place", VenueUnknown("timeout"), done=arrived)
    return execution.submit(desk.intend_open())


# The answer was lost --------------------------------------------------------------------------------------------------


def test_f5_an_order_whose_answer_was_lost_is_found_by_its_client_id(outside: Desk) -> None:
    assert outside.venue is not None
    order = unknown(outside, arrived=True)
    result = reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (result.finished, result.fills) == (1, 1)
    assert (order.status, order.position.status) == (OrderStatus.FILLED, PositionStatus.OPEN)
    assert len(outside.venue.arrivals) == 1


def test_a_venue_that_cannot_be_asked_leaves_everything_as_it_is(outside: Desk) -> None:
    assert outside.venue is not None
    order = unknown(outside, arrived=True)
    outside.venue.fail("find", VenueUnavailable("down"))
    with pytest.raises(VenueUnavailable):
        reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, order.not_found_at) == (OrderStatus.SUBMITTED, None)


def test_f12_not_found_is_believed_after_a_grace_period_and_a_second_look(outside: Desk) -> None:
    order = unknown(outside, arrived=False)
    looks = [
        (timedelta(0), OrderStatus.SUBMITTED),
        (GRACE - timedelta(seconds=1), OrderStatus.SUBMITTED),
        (GRACE, OrderStatus.REJECTED),
    ]
    for gap, status in looks:
        with later(gap):
            reconcile_account(outside.account.pk)
        order.refresh_from_db()
        assert order.status == status
    assert (order.error_code, order.position.status, order.hold_amount) == ("never_arrived", "failed", 0)


def test_f12_one_late_look_alone_is_not_believed(outside: Desk) -> None:
    order = unknown(outside, arrived=False)
    with later(3600):
        reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert order.status == OrderStatus.SUBMITTED


def test_f12_a_fresh_order_that_the_venue_shows_late_is_not_written_off(outside: Desk) -> None:
    assert outside.venue is not None
    order = unknown(outside, arrived=True)
    outside.venue.invisible.add(order.client_order_id)
    reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, order.not_found_at) == (OrderStatus.SUBMITTED, MOMENT)
    outside.venue.invisible.clear()
    with later(GRACE * 2):
        reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, order.not_found_at) == (OrderStatus.FILLED, None)
    assert len(outside.venue.arrivals) == 1


def test_where_the_lookup_is_definitive_a_young_order_is_put_again_under_the_same_id(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.capabilities = replace(outside.venue.capabilities, lookup_is_definitive=True)
    order = unknown(outside, arrived=False)
    with later(FRESH - timedelta(seconds=1)):
        reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, outside.venue.arrivals) == (OrderStatus.FILLED, [order.client_order_id])


def test_where_the_lookup_is_definitive_an_old_order_never_arrived(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.capabilities = replace(outside.venue.capabilities, lookup_is_definitive=True)
    order = unknown(outside, arrived=False)
    with later(FRESH):
        reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, order.error_code, outside.venue.arrivals) == (OrderStatus.REJECTED, "never_arrived", [])


def test_an_acknowledged_order_that_disappears_is_never_sent_again(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.capabilities = replace(outside.venue.capabilities, lookup_is_definitive=True)
    order = outside.open_limit("1", "90")
    outside.venue.orders.clear()
    reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, order.error_code, len(outside.venue.arrivals)) == (OrderStatus.CANCELLED, "vanished", 1)


# The process died -----------------------------------------------------------------------------------------------------


def test_an_order_that_was_written_but_never_sent_is_sent_while_it_is_fresh(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open()
    with later(FRESH - timedelta(seconds=1)):
        reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, len(outside.venue.arrivals)) == (OrderStatus.FILLED, 1)


def test_an_order_that_was_never_sent_is_ended_once_its_decision_is_stale(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open()
    with later(FRESH):
        reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, order.error_code, order.hold_amount) == (OrderStatus.CANCELLED, "stale_intent", 0)
    assert (order.position.status, order.position.error_code) == (PositionStatus.FAILED, "stale_intent")
    assert outside.venue.arrivals == []


def test_f14_a_kill_at_any_step_of_a_close_ends_in_one_close(outside: Desk) -> None:
    """Before the wire, after the wire, and while the answer is being booked."""
    assert outside.venue is not None
    outside.venue.capabilities = replace(outside.venue.capabilities, lookup_is_definitive=True)
    for done in (False, True):
        position = outside.open("100", max_active_deals=9, max_deals_per_pair=9)
        outside.ask()
        order = execution.intend(
            position, Intent(purpose=Purpose.STOP_LOSS, sequence=1, reference_price=outside.venue.price)
        )
        outside.venue.fail("place", Killed(), done=done)
        with pytest.raises(Killed):
            execution.submit(order)
        for _ in range(3):
            reconcile_account(outside.account.pk)
        position.refresh_from_db()
        order.refresh_from_db()
        assert (order.status, position.status, position.base_held) == ("filled", "closed", 0)
        assert outside.venue.arrivals.count(order.client_order_id) == 1
    assert Fill.objects.count() == 4


def test_f14_a_restart_with_open_deals_changes_nothing_and_sends_nothing(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    Position.objects.filter(pk=position.pk).update(trail={"armed": True, "peak": "120"})
    outside.place(
        position,
        Purpose.SAFETY_ORDER,
        order_type=OrderType.LIMIT,
        base_size=Decimal(1),
        limit_price=Decimal(90),
        levels=1,
    )
    outside.place(position, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=Decimal(130))
    rows = [list(model.objects.order_by("pk").values()) for model in (Position, Order, Fill)]
    arrivals = list(outside.venue.arrivals)
    for _ in range(3):
        reconcile_account(outside.account.pk)
    assert [list(model.objects.order_by("pk").values()) for model in (Position, Order, Fill)] == rows
    assert outside.venue.arrivals == arrivals


def test_f18_a_limit_close_that_filled_while_the_process_was_down_is_noticed(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    order = outside.place(position, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=Decimal(130))
    outside.venue.fill(order.client_order_id, "1")
    reconcile_account(outside.account.pk)
    position.refresh_from_db()
    assert (position.status, position.exit_reason) == (PositionStatus.CLOSED, "limit_close")


def test_f18_a_limit_close_that_was_cancelled_at_the_venue_is_noticed(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    order = outside.place(position, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=Decimal(130))
    outside.venue.cancel(ref_of(order))
    reconcile_account(outside.account.pk)
    position.refresh_from_db()
    order.refresh_from_db()
    assert (position.status, order.status) == (PositionStatus.OPEN, OrderStatus.CANCELLED)


# Cancels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [True, False])
def test_a_cancel_whose_answer_was_lost_is_asked_again(outside: Desk, done: bool) -> None:
    assert outside.venue is not None
    order = outside.open_limit("1", "90")
    outside.venue.fail("cancel", VenueUnknown("timeout"), done=done)
    execution.cancel(order, "ann@example.com")
    assert (order.status, order.cancel_requested_at) == (OrderStatus.OPEN, MOMENT)
    reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert order.status == OrderStatus.CANCELLED


def test_an_order_to_be_cancelled_that_never_arrived_is_not_sent_again(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.capabilities = replace(outside.venue.capabilities, lookup_is_definitive=True)
    order = unknown(outside, arrived=False)
    execution.cancel(order, "ann@example.com")
    assert order.status == OrderStatus.SUBMITTED
    reconcile_account(outside.account.pk)  # whoever marked it may be sending it at this moment
    order.refresh_from_db()
    assert order.status == OrderStatus.SUBMITTED
    with later(FRESH):
        reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, order.position.status, outside.venue.arrivals) == ("cancelled", "cancelled", [])


def test_an_order_that_was_never_sent_is_cancelled_without_the_venue(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open()
    outside.venue.fail("cancel", VenueRejected("must not be asked"))
    execution.cancel(order, "ann@example.com")
    assert (order.status, order.position.status) == (OrderStatus.CANCELLED, PositionStatus.CANCELLED)
    execution.submit(order)
    assert outside.venue.arrivals == []


def test_f22_entries_of_a_deal_that_a_close_has_emptied_are_cancelled(outside: Desk) -> None:
    position = outside.open("100")
    entry = outside.place(
        position, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=Decimal(1), limit_price=Decimal(90)
    )
    outside.place(position, Purpose.STOP_LOSS)
    reconcile_account(outside.account.pk)
    entry.refresh_from_db()
    position.refresh_from_db()
    assert (entry.status, position.status, position.exit_reason) == ("cancelled", "closed", "stop_loss")


# Many accounts --------------------------------------------------------------------------------------------------------


def test_f67_one_account_that_fails_does_not_stop_the_others(outside: Desk) -> None:
    assert outside.venue is not None
    mine = unknown(outside, arrived=True)
    broken = AccountFactory(kind=Account.Kind.EXCHANGE, exchange="nowhere")
    with detached("test data"):
        desk = Desk(broken, BotFactory(account=broken, status=Bot.Status.RUNNING), outside.product)
        order = Order.objects.get(pk=mine.pk)
        position = Position.objects.create(
            account=broken, bot=desk.bot, product=outside.product, attempt_number=1, budget_quote=1
        )
        Order.objects.create(
            account=broken,
            position=position,
            client_order_id=execution.client_order_id(position.uid, "base_order", 1),
            purpose=order.purpose,
            sequence=1,
            side=order.side,
            order_type=order.order_type,
            quote_size=1,
            status=OrderStatus.SUBMITTED,
            submitted_at=MOMENT,
        )
        result = reconcile_all()
    assert result.failed == {broken.pk: "venue_unsupported"}
    mine.refresh_from_db()
    assert mine.status == OrderStatus.FILLED


def test_replays_are_left_to_whoever_replays_them(outside: Desk) -> None:
    assert outside.venue is not None
    unknown(outside, arrived=True)
    with detached("test data"):
        Account.objects.filter(pk=outside.account.pk).update(exchange="replay")
        assert reconcile_all().accounts == 0


def test_an_account_costs_one_round_trip_whatever_the_number_of_orders(outside: Desk) -> None:
    assert outside.venue is not None
    for number in range(5):
        outside.open_limit("1", str(90 + number), max_active_deals=9, max_deals_per_pair=9)
    asked = outside.venue.asked
    reconcile_account(outside.account.pk)
    assert outside.venue.asked == asked + 1


def test_looking_at_resting_orders_without_news_costs_a_constant_number_of_queries(
    outside: Desk, django_assert_num_queries: Any
) -> None:
    for number in range(5):
        outside.open_limit("1", str(90 + number), max_active_deals=9, max_deals_per_pair=9)
    with django_assert_num_queries(3):
        reconcile_account(outside.account.pk)


# Executions of nobody -------------------------------------------------------------------------------------------------


def stranger(name: str, at: datetime) -> VenueTrade:
    trade = Trade(name, Decimal(100), Decimal(2), Decimal(200), Decimal(1), "USD", False, at)
    return VenueTrade(trade, "BTC-USD", Side.BUY)


def test_f11_executions_of_nobody_are_reported_once_and_never_adopted(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.strangers = [stranger("x1", MOMENT), stranger("x0", MOMENT - timedelta(days=2))]
    assert report_strangers(outside.account.pk) == []  # its order may be being written down
    with clock.at(MOMENT + TOO_FRESH):
        assert [row.venue_trade_id for row in report_strangers(outside.account.pk)] == ["x1"]
        assert report_strangers(outside.account.pk) == []
    assert UnmatchedFill.objects.count() == 1
    assert (Position.objects.count(), Fill.objects.count()) == (1, 1)
    position.refresh_from_db()
    assert position.base_held == 1
    assert [row.payload["code"] for row in outside.events("notification")] == ["unmatched_fill"]


def test_f11_a_late_execution_of_an_order_of_ours_is_booked_where_it_belongs(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.open_limit("1", "90")
    outside.venue.shown_trades[order.client_order_id] = 0
    outside.venue.fill(order.client_order_id, "0.5")
    execution.cancel(order, "bot")
    del outside.venue.shown_trades[order.client_order_id]
    assert report_strangers(outside.account.pk) == []
    order.refresh_from_db()
    assert order.filled_base == Decimal("0.5")


def test_f11_an_execution_whose_acceptance_was_lost_is_recognised_by_the_venues_own_id(outside: Desk) -> None:
    """The list of executions names the venue's order only, and that is an id we never got to know."""
    assert outside.venue is not None
    order = outside.intend_open("100")
    outside.venue.fail("place", VenueUnknown(), done=True)
    execution.submit(order)
    outside.venue.names_client_ids = False
    with clock.at(MOMENT + TOO_FRESH):
        assert report_strangers(outside.account.pk) == []
    order.refresh_from_db()
    assert (order.status, order.fills.count(), UnmatchedFill.objects.count()) == (OrderStatus.FILLED, 1, 0)


def test_f11_what_happened_while_nobody_asked_for_days_is_still_compared(outside: Desk) -> None:
    assert outside.venue is not None
    assert report_strangers(outside.account.pk) == []
    outside.venue.strangers = [stranger("x1", MOMENT + timedelta(days=1)), stranger("x2", MOMENT + timedelta(days=9))]
    with clock.at(MOMENT + timedelta(days=10)):
        assert len(report_strangers(outside.account.pk)) == 2


# Resting orders at the paper venue, and the tasks ---------------------------------------------------------------------


def test_a_resting_paper_order_is_matched_and_booked_by_the_monitor(paper: Desk) -> None:
    quote = market.quote("simulated", "BTC-USD")
    assert quote is not None
    order = paper.open_limit("0.001", str(quote.bid - 50))
    assert (order.status, order.position.status) == (OrderStatus.OPEN, PositionStatus.PENDING)
    with detached("test runs the loop"):
        assert reconcile.monitor_resting().fills == 0
    moment = next(
        MOMENT + timedelta(minutes=minute)
        for minute in range(1, 5000)
        if market.quote("simulated", "BTC-USD", MOMENT + timedelta(minutes=minute)).ask < order.limit_price  # type: ignore[union-attr,operator]
    )
    with clock.at(moment), detached("test runs the loop"):
        while Order.objects.filter(status__in=(OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)).exists():
            assert reconcile.monitor_resting().failed == {}
    order.refresh_from_db()
    assert (order.status, order.position.status, order.filled_base) == ("filled", "open", Decimal("0.001"))
    assert set(order.fills.values_list("price", flat=True)) == {order.limit_price}


def test_a_paper_order_whose_answer_was_lost_is_put_again_and_stays_one(paper: Desk) -> None:
    order = paper.intend_open()
    Order.objects.filter(pk=order.pk).update(status=OrderStatus.SUBMITTED, submitted_at=F("created_at"))
    reconcile_account(paper.account.pk)
    reconcile_account(paper.account.pk)
    order.refresh_from_db()
    assert (order.status, PaperOrder.objects.count(), PaperTrade.objects.count()) == (OrderStatus.FILLED, 1, 1)


def hanging(desk: Desk) -> Order:
    """An order that is marked as sent, while the call that sends it hangs on its way to the venue."""
    order = desk.intend_open()
    Order.objects.filter(pk=order.pk).update(status=OrderStatus.SUBMITTED, submitted_at=F("created_at"))
    order.refresh_from_db()
    return order


def test_a_paper_order_that_never_arrived_cannot_arrive_afterwards(paper: Desk) -> None:
    order = hanging(paper)
    with later(FRESH):
        reconcile_account(paper.account.pk)
        late = execution.send(Order.objects.get(pk=order.pk))  # the call that hung goes on
        with pytest.raises(VenueRejected) as refused:
            PaperVenue(paper.account).place(execution.as_placed(order))
        reconcile_account(paper.account.pk)
    assert (late.status, late.error_code, refused.value.code) == ("rejected", "never_arrived", "never_arrived")
    assert (late.position.status, late.hold_amount) == (PositionStatus.FAILED, 0)
    assert (PaperOrder.objects.get().status, PaperTrade.objects.count()) == (OrderStatus.REJECTED, 0)


def test_an_order_that_arrives_while_it_is_given_up_is_booked(paper: Desk) -> None:
    order = hanging(paper)
    venue = PaperVenue(paper.account)
    placed = venue.place(execution.as_placed(order))
    assert (venue.forget(execution.as_placed(order)), placed.status) == (placed, OrderStatus.FILLED)
    with later(FRESH):
        reconcile._settle_missing(order, venue)  # its lookup was answered before the order arrived
    order.refresh_from_db()
    assert (order.status, order.position.status, PaperTrade.objects.count()) == ("filled", "open", 1)


def test_a_kill_between_the_venue_and_us_leaves_an_id_that_is_given_up_for_good(paper: Desk) -> None:
    """The tombstone is committed, our own row is not: the next run ends what the first began."""
    order = hanging(paper)
    execution.cancel(order, "ann@example.com")
    assert PaperVenue(paper.account).forget(execution.as_placed(order)).error_code == "never_arrived"
    with later(FRESH):
        reconcile_account(paper.account.pk)
    order.refresh_from_db()
    assert (order.status, order.position.status, PaperTrade.objects.count()) == ("cancelled", "cancelled", 0)


@pytest.mark.django_db(transaction=True)
def test_the_tasks_run_without_a_scope_and_leave_their_mark() -> None:
    account = AccountFactory(balances={"USD": 1000})
    ExchangeCredentialFactory()  # an account that cannot be traded yet fails alone
    desk = Desk(account, BotFactory(account=account, status=Bot.Status.RUNNING), _product())
    with acting_for_account(account.pk):
        order = desk.intend_open()
    tasks.reconcile.delay()
    tasks.monitor_resting.delay()
    tasks.report_unmatched_fills.delay()
    tasks.ask_for_balances.delay()
    assert set(LoopState.objects.filter(failures=0).values_list("name", flat=True)) >= set(reconcile.LOOPS)
    assert not {name for name, _ in stale_loops()} & set(reconcile.LOOPS)
    with acting_for_account(account.pk):
        order.refresh_from_db()
        assert order.status == OrderStatus.FILLED


def _product() -> Any:
    from tests.factories import ProductFactory

    return ProductFactory()
