"""The order protocol at the real paper venue, and at an exchange that fails in every way a network offers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from accounts.models import PaperBalance, PaperEntry
from bots.models import Bot
from positions import booking, execution
from positions.booking import ref_of
from positions.execution import Intent
from positions.models import Fill, Order, Position
from positions.states import Direction, ExitReason, OrderStatus, OrderType, PositionStatus, Purpose, Side
from tests.factories import AccountFactory, BotFactory, ProductFactory
from tests.positions.conftest import MOMENT, Desk
from tests.positions.helpers import refused
from tests.positions.outside import Killed
from tradebot.core.errors import VenueRejected, VenueUnavailable, VenueUnknown
from tradebot.core.money import amount_total
from tradebot.core.scoping import acting_for_account

# A whole deal ---------------------------------------------------------------------------------------------------------


def test_a_deal_opens_adds_and_closes_at_the_paper_venue(paper: Desk) -> None:
    position = paper.open("100")
    assert position.status == PositionStatus.OPEN
    assert (position.deal_number, position.attempt_number) == (1, 1)
    assert position.opened_at == MOMENT
    assert Decimal("99.9") < position.quote_spent <= 100
    assert position.fees_quote == position.quote_spent * Decimal("0.006")
    paper.place(position, Purpose.SAFETY_ORDER, quote_size=Decimal(50), levels=2)
    position.refresh_from_db()
    assert position.safety_orders_filled == 2
    bought = position.base_held
    order = paper.place(position, Purpose.TAKE_PROFIT, exit_reason=ExitReason.TRAILING_TAKE_PROFIT)
    position = order.position
    assert (order.status, order.side, order.filled_base) == (OrderStatus.FILLED, Side.SELL, bought)
    assert position.status == PositionStatus.CLOSED
    assert position.exit_reason == ExitReason.TRAILING_TAKE_PROFIT
    assert (position.closed_at, position.base_held, position.dust_price) == (MOMENT, 0, None)
    assert position.realised_quote == position.quote_received - position.quote_spent - position.fees_quote
    assert not Order.objects.exclude(hold_amount=0).exists()
    # The paper venue's journal and our fills tell the same story.
    usd = PaperBalance.objects.get(currency="USD")
    assert usd.total == 10_000 + position.realised_quote
    assert PaperEntry.objects.filter(currency="USD").aggregate(t=amount_total("amount"))["t"] == usd.total


def test_a_short_deal_sells_first_and_buys_back(paper: Desk) -> None:
    intent = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=Decimal("0.01"))
    position = execution.submit(paper.intend_open(intent=intent, direction=Direction.SHORT)).position
    assert (position.base_held, position.base_sold) == (Decimal("-0.01"), Decimal("0.01"))
    order = paper.place(position, Purpose.STOP_LOSS)
    assert (order.side, order.filled_base) == (Side.BUY, Decimal("0.01"))
    position = order.position
    assert (position.status, position.base_held, position.exit_reason) == ("closed", 0, "stop_loss")
    assert position.realised_quote == position.quote_received - position.quote_spent - position.fees_quote
    assert [row.payload["fill_type"] for row in paper.events("order_fill")] == ["short_sell", "close_short"]


def test_limit_orders_hold_their_money_and_give_it_back(outside: Desk) -> None:
    order = outside.open_limit("1", "90")
    assert order.status == OrderStatus.OPEN
    assert order.hold_amount == Decimal("90.54")
    assert order.position.status == PositionStatus.PENDING
    assert outside.venue is not None
    outside.venue.fill(order.client_order_id, "0.4")
    found = outside.venue.find(ref_of(order))
    assert found is not None
    execution.apply_report(order, found)
    assert order.status == OrderStatus.PARTIALLY_FILLED
    assert order.hold_amount == Decimal("54.324")
    assert order.position.status == PositionStatus.OPEN
    execution.cancel(order, "ann@example.com")
    assert (order.status, order.hold_amount, order.filled_base) == (OrderStatus.CANCELLED, 0, Decimal("0.4"))
    assert order.error_text == "Cancelled by ann@example.com."


def test_f28_realised_profit_is_net_of_both_fees(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.price = Decimal("100.5")  # half a percent gross, 1.2 percent of fees
    order = outside.place(position, Purpose.TAKE_PROFIT)
    assert order.position.realised_quote == Decimal("100.5") * Decimal("0.994") - Decimal("100.6")
    assert order.position.realised_quote < 0


def test_recompute_rebuilds_the_stored_totals(paper: Desk) -> None:
    position = paper.open()
    paper.place(position, Purpose.SAFETY_ORDER, quote_size=Decimal("33.33"), levels=1)
    paper.place(position, Purpose.TAKE_PROFIT, base_size=Decimal("0.001"))
    derived = [
        "base_bought", "base_sold", "base_held", "quote_spent", "quote_received", "fees_quote", "average_price",
        "realised_quote", "realised_pct", "safety_orders_filled",
    ]  # fmt: skip
    stored = Position.objects.values(*derived).get(pk=position.pk)
    Position.objects.filter(pk=position.pk).update(base_held=5, realised_quote=7, safety_orders_filled=9)
    execution.recompute(position)
    assert Position.objects.values(*derived).get(pk=position.pk) == stored
    assert {name: getattr(position, name) for name in derived} == stored


# What the venue says --------------------------------------------------------------------------------------------------


def test_f4_a_report_without_an_order_id_is_not_a_fill(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open()
    outside.venue.fail("place", VenueUnknown(), done=True)
    execution.submit(order)
    report = outside.venue.find(ref_of(order))
    assert report is not None
    nameless = type(report)(report.client_order_id, "", report.status, report.trades)
    assert execution.apply_report(order, nameless) == []
    order.refresh_from_db()
    assert (order.status, Fill.objects.count(), order.position.status) == ("submitted", 0, "pending")


@pytest.mark.parametrize("arrived", [True, False])
def test_f5_a_timeout_on_submit_is_asked_for_not_resent(outside: Desk, arrived: bool) -> None:
    assert outside.venue is not None
    outside.venue.fail("place", VenueUnknown("timeout"), done=arrived)
    order = execution.submit(outside.intend_open())
    assert order.status == OrderStatus.SUBMITTED
    assert order.hold_amount > 0
    assert order.position.status == PositionStatus.PENDING
    execution.submit(order)
    assert len(outside.venue.arrivals) == arrived
    with refused("deal_limit"):  # it keeps its slot while nobody knows
        outside.intend_open()


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), KeyError("odd answer"), VenueUnavailable()])
def test_f5_any_surprise_while_placing_leaves_the_order_in_flight(outside: Desk, error: Exception) -> None:
    assert outside.venue is not None
    outside.venue.fail("place", error, done=True)
    assert execution.submit(outside.intend_open()).status == OrderStatus.SUBMITTED


def test_f5_the_mark_is_committed_before_the_wire(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open()
    outside.venue.fail("place", Killed())
    with pytest.raises(Killed):
        execution.submit(order)
    order.refresh_from_db()
    assert (order.status, order.submitted_at) == (OrderStatus.SUBMITTED, MOMENT)


@pytest.mark.django_db(transaction=True)
def test_submit_refuses_to_run_inside_a_transaction() -> None:
    account = AccountFactory(balances={"USD": 1000})
    desk = Desk(account, BotFactory(account=account, status=Bot.Status.RUNNING), ProductFactory())
    with acting_for_account(account.pk):
        order = desk.intend_open()
        with pytest.raises(RuntimeError), transaction.atomic():
            execution.submit(order)
        order.refresh_from_db()
        assert order.status == OrderStatus.INTENDED


def test_f6_a_failed_base_order_leaves_a_failed_deal_without_a_number(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.fail("place", VenueRejected("insufficient_funds", "Not enough."))
    order = execution.submit(outside.intend_open())
    position = order.position
    assert (order.status, order.error_code, order.hold_amount) == (OrderStatus.REJECTED, "insufficient_funds", 0)
    assert (position.status, position.deal_number, position.error_code) == ("failed", None, "insufficient_funds")
    assert (position.attempt_number, position.closed_at, position.last_error) == (1, MOMENT, "Not enough.")
    good = outside.open()  # the slot is free again, and the first deal is number one
    assert (good.deal_number, good.attempt_number) == (1, 2)


def test_f6_a_base_order_that_is_cancelled_without_a_fill_cancels_the_deal(outside: Desk) -> None:
    order = outside.open_limit("1", "90")
    execution.cancel(order, "bot")
    position = order.position
    assert (position.status, position.exit_reason, position.deal_number) == ("cancelled", "cancelled", None)


def test_f6_a_venue_that_cannot_trade_fails_the_deal(outside: Desk) -> None:
    from accounts.exchanges import factory

    order = outside.intend_open()
    factory.register("outside", None)
    execution.submit(order)
    assert (order.status, order.error_code, order.position.status) == ("rejected", "venue_unsupported", "failed")


def test_f7_an_early_look_books_nothing_and_looking_goes_on(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open(
        intent=Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=Decimal(1), reference_price=Decimal(100))
    )
    outside.venue.shown_trades[order.client_order_id] = 0  # "filled", but its trades are not listed yet
    execution.submit(order)
    assert (order.status, order.filled_base, order.position.status) == (OrderStatus.OPEN, 0, "pending")
    del outside.venue.shown_trades[order.client_order_id]
    report = outside.venue.find(ref_of(order))
    assert report is not None
    execution.apply_report(order, report)
    assert (order.status, order.filled_base, order.position.status) == (OrderStatus.FILLED, 1, "open")


def test_f7_filled_with_half_of_its_trades_is_not_final(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.open_limit("1", "90")
    outside.venue.fill(order.client_order_id, "0.4")
    outside.venue.fill(order.client_order_id, "0.6")
    outside.venue.shown_trades[order.client_order_id] = 1
    for shown, status in ((1, OrderStatus.PARTIALLY_FILLED), (2, OrderStatus.FILLED)):
        outside.venue.shown_trades[order.client_order_id] = shown
        report = outside.venue.find(ref_of(order))
        assert report is not None
        execution.apply_report(order, report)
        assert order.status == status
    assert order.position.base_held == 1


def test_f8_a_close_that_is_only_sent_closes_nothing(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open()
    held = position.base_held
    outside.venue.fail("place", VenueUnknown(), done=False)
    order = outside.place(position, Purpose.TAKE_PROFIT)
    position = order.position
    assert (order.status, position.status, position.base_held) == (OrderStatus.SUBMITTED, "closing", held)
    assert position.realised_quote == 0


def test_a_rejected_close_leaves_the_deal_open(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open()
    outside.venue.fail("place", VenueRejected("halted"))
    order = outside.place(position, Purpose.TAKE_PROFIT)
    assert (order.status, order.position.status) == (OrderStatus.REJECTED, PositionStatus.OPEN)


def test_f19_a_fill_that_races_with_the_cancel_is_booked(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    order = outside.place(position, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=Decimal(110))
    outside.venue.fill(order.client_order_id, "1")
    execution.cancel(order, "bot")
    assert (order.status, order.position.status) == (OrderStatus.FILLED, PositionStatus.CLOSED)


def test_a_partly_filled_safety_order_counts_its_levels_once_it_is_final(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    order = outside.place(
        position,
        Purpose.SAFETY_ORDER,
        order_type=OrderType.LIMIT,
        base_size=Decimal(1),
        limit_price=Decimal(90),
        levels=2,
    )
    outside.venue.fill(order.client_order_id, "0.1")
    report = outside.venue.find(ref_of(order))
    assert report is not None
    execution.apply_report(order, report)
    assert order.position.safety_orders_filled == 0
    execution.cancel(order, "bot")
    assert order.position.safety_orders_filled == 2


def test_a_deal_stays_until_its_last_order_is_final(outside: Desk) -> None:
    """An entry that fills after the close would otherwise leave coins in a closed deal."""
    assert outside.venue is not None
    position = outside.open("100")
    entry = outside.place(
        position, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=Decimal(1), limit_price=Decimal(90)
    )
    close = outside.place(position, Purpose.STOP_LOSS)
    assert (close.status, close.position.status, close.position.base_held) == ("filled", "open", 0)
    execution.cancel(entry, "bot")
    assert (entry.position.status, entry.position.exit_reason) == ("closed", "stop_loss")


def test_money_that_arrives_after_the_end_is_booked_and_told(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.open_limit("1", "90")
    outside.venue.shown_trades[order.client_order_id] = 0
    outside.venue.fill(order.client_order_id, "0.5")
    execution.cancel(order, "bot")
    assert order.position.status == PositionStatus.CANCELLED
    del outside.venue.shown_trades[order.client_order_id]
    report = outside.venue.find(ref_of(order))
    assert report is not None
    assert len(execution.apply_report(order, report)) == 1
    assert (order.status, order.position.status, order.position.base_held) == ("cancelled", "cancelled", Decimal("0.5"))
    assert outside.events("notification")[-1].payload["code"] == "late_fill"


def test_a_report_is_applied_with_few_queries(outside: Desk, django_assert_max_num_queries: Any) -> None:
    assert outside.venue is not None
    order = outside.open_limit("1", "90")
    outside.venue.fill(order.client_order_id, "1")
    report = outside.venue.find(ref_of(order))
    assert report is not None
    with django_assert_max_num_queries(25):
        execution.apply_report(order, report)


# Who is told ----------------------------------------------------------------------------------------------------------


def test_f13_a_failing_event_costs_no_fill(outside: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ConnectionError("the outbox is gone")

    monkeypatch.setattr(booking.outbox, "publish", broken)
    position = outside.open()
    assert (position.status, position.fills.count()) == (PositionStatus.OPEN, 1)


@pytest.mark.django_db(transaction=True)
def test_f13_a_failing_socket_costs_no_fill(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}
    account = AccountFactory(balances={"USD": 1000})
    desk = Desk(account, BotFactory(account=account, status=Bot.Status.RUNNING), ProductFactory())
    with acting_for_account(account.pk):
        position = desk.open()
    assert position.status == PositionStatus.OPEN
    assert [row.payload["fill_type"] for row in desk.events("order_fill")] == ["base_order"]


def test_a_fill_is_told_with_its_deal_and_its_profit(paper: Desk) -> None:
    position = paper.open()
    paper.place(position, Purpose.STOP_LOSS)
    opened, closed = (row.payload for row in paper.events("order_fill"))
    position.refresh_from_db()
    assert set(opened) == {
        "fill_type", "position_id", "deal_number", "bot", "bot_id", "account_id", "product", "side", "price",
        "base_amount", "quote_amount", "quote", "profit", "profit_percentage", "exit_reason", "is_paper", "at",
    }  # fmt: skip
    assert (opened["fill_type"], opened["profit"], opened["exit_reason"]) == ("base_order", None, None)
    assert (opened["bot"], opened["deal_number"], opened["is_paper"]) == (paper.bot.name, 1, True)
    assert (closed["fill_type"], closed["exit_reason"]) == ("sell", "stop_loss")
    assert Decimal(closed["profit"]) == position.realised_quote
    assert [row.payload["status"] for row in paper.events("position")] == ["pending", "open", "closing", "closed"]


def test_everybody_who_may_see_the_account_is_told(paper: Desk) -> None:
    from tests.factories import MembershipFactory

    observer = MembershipFactory(account=paper.account).user
    paper.open()
    told = {row.user_id for row in paper.events("order_fill")}
    assert told == {paper.account.owner_id, observer.pk}
