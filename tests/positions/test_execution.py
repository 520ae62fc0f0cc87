"""The order protocol at the real paper venue, and at an exchange that fails in every way a network offers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import close_old_connections, connections, transaction
from django.db.models import ProtectedError

from accounts.models import PaperBalance, PaperEntry
from bots.models import Bot
from positions import booking, execution
from positions.booking import ref_of
from positions.execution import Intent
from positions.intents import means, writing
from positions.models import Fill, Order, Position
from positions.states import (
    WORKING,
    Direction,
    ExitReason,
    OrderStatus,
    OrderType,
    PositionStatus,
    Purpose,
    Side,
)
from tests.factories import AccountFactory, BotFactory, ProductFactory
from tests.positions.conftest import MOMENT, Desk
from tests.positions.outside import Fault, Killed
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, OrderRefused, VenueRejected, VenueUnavailable, VenueUnknown
from tradebot.core.models import GlobalSettings
from tradebot.core.money import amount_total
from tradebot.core.scoping import ForeignRow, acting_for_account, detached


def refused(code: str) -> Any:
    """Expect a refusal with this code."""
    return pytest.raises(OrderRefused, check=lambda error: error.code == code)


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


def test_limits_and_slots_count_each_direction_for_itself(paper: Desk) -> None:
    paper.open("100")
    short = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=Decimal("0.01"))
    order = paper.intend_open(intent=short, direction=Direction.SHORT, expected_active=0)
    assert (order.position.slot, order.side) == (0, Side.SELL)
    with refused("deal_limit"):
        paper.intend_open(intent=short, direction=Direction.SHORT)
    with refused("duplicate_intent"):
        paper.intend_open(intent=short, direction=Direction.SHORT, expected_active=0, max_active_deals=2)
    with refused("pair_deal_limit"):
        paper.intend_open(intent=short, direction=Direction.SHORT, expected_active=1, max_active_deals=2)
    another = paper.intend_open("100", expected_active=1, max_active_deals=2, max_deals_per_pair=2)
    assert another.position.slot == 1


def test_f36_an_entry_leaves_alone_what_open_deals_hold(paper: Desk) -> None:
    long = paper.open("100")
    coins = PaperBalance.objects.get(currency="BTC").total
    everything = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=coins)
    with refused("insufficient_balance"):
        paper.intend_open(intent=everything, direction=Direction.SHORT)
    rest = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=coins - long.base_held)
    assert paper.intend_open(intent=rest, direction=Direction.SHORT).base_size == coins - long.base_held


def test_a_close_that_rests_is_not_counted_twice(paper: Desk) -> None:
    """What it holds is not free already; the rest of the deal's base is not free because it is the deal's (F31)."""
    long = paper.open("100")
    coins = PaperBalance.objects.get(currency="BTC").total
    paper.place(long, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=Decimal(900_000))
    rest = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=coins - long.base_held)
    assert paper.intend_open(intent=rest, direction=Direction.SHORT).base_size == coins - long.base_held


def test_an_entry_leaves_alone_what_open_shorts_buy_back_with(paper: Desk) -> None:
    intent = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=Decimal("0.1"))
    short = execution.submit(paper.intend_open(intent=intent, direction=Direction.SHORT)).position
    free = PaperBalance.objects.get(currency="USD").free
    need = max(Decimal("0.1") * (booking.mark_of(short) or 0) * Decimal("1.006"), short.quote_received)
    with refused("insufficient_balance"):
        paper.intend_open(str(free / Decimal("1.007")))
    assert paper.intend_open(str((free - need) / Decimal("1.007"))).status == OrderStatus.INTENDED


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


# Doubles --------------------------------------------------------------------------------------------------------------


def test_f1_the_same_decision_is_acted_on_once(paper: Desk) -> None:
    position = paper.open()
    add = Intent(purpose=Purpose.SAFETY_ORDER, sequence=1, quote_size=Decimal(50))
    first = execution.intend(position, add)
    with refused("duplicate_intent"):
        execution.intend(position, add)
    execution.submit(first)
    with refused("duplicate_intent"):  # the second dispatch comes late: the first one's order is filled already
        execution.intend(position, add)
    assert position.orders.filter(purpose=Purpose.SAFETY_ORDER).count() == 1


def test_f1_two_dispatches_of_one_opening_decision_open_one_deal(paper: Desk) -> None:
    limits = {"max_active_deals": 5, "max_deals_per_pair": 5, "expected_active": 0}
    paper.open(**limits)
    with refused("duplicate_intent"):
        paper.intend_open(**limits)
    assert paper.open(**{**limits, "expected_active": 1}).slot == 1


def test_f1_an_order_is_sent_by_whoever_marks_it(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open()
    twin = Order.objects.get(pk=order.pk)
    execution.submit(order)
    execution.submit(twin)
    assert outside.venue.arrivals == [order.client_order_id]
    assert twin.status == OrderStatus.FILLED


def test_f3_a_persisting_signal_places_one_close(outside: Desk) -> None:
    position = outside.open()
    sell = {"order_type": OrderType.LIMIT, "limit_price": Decimal(110)}
    outside.place(position, Purpose.TAKE_PROFIT, 1, **sell)
    for purpose, sequence in ((Purpose.TAKE_PROFIT, 1), (Purpose.TAKE_PROFIT, 2), (Purpose.STOP_LOSS, 1)):
        with refused("duplicate_intent"):
            execution.intend(position, Intent(purpose=purpose, sequence=sequence))
    assert position.orders.filter(status__in=WORKING).count() == 1


def test_f3_the_database_refuses_a_second_close_without_breaking_the_outer_transaction(outside: Desk) -> None:
    position = outside.open()
    outside.ask()
    first = execution.intend(position, Intent(purpose=Purpose.TAKE_PROFIT, sequence=1))
    values = {name: getattr(first, name) for name in ("account", "position", "side", "order_type", "base_size")}
    with transaction.atomic():
        with refused("duplicate_intent"), writing._duplicates_refused():
            Order.objects.create(
                **values,
                purpose=Purpose.STOP_LOSS,
                sequence=1,
                client_order_id=execution.client_order_id(position.uid, Purpose.STOP_LOSS, 1),
            )
        assert position.orders.count() == 2  # the connection is still usable


def test_f9_client_ids_are_unique_by_construction_and_stable(outside: Desk) -> None:
    position = outside.open()
    ids = {
        execution.client_order_id(position.uid, purpose, sequence) for purpose in Purpose for sequence in range(1, 50)
    }
    assert len(ids) == len(Purpose) * 49
    again = execution.client_order_id(position.uid, Purpose.BASE_ORDER, 1)
    assert position.orders.get().client_order_id == again


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(number)`` in threads that start together; return results, refusals among them."""
    gate, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        close_old_connections()
        try:
            gate.wait(timeout=20)
            results[number] = work(number)
        except OrderRefused as refusal:
            results[number] = refusal
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


@pytest.mark.usefixtures("many_connections")
def test_f10_parallel_opens_share_one_slot() -> None:
    account = AccountFactory(balances={"USD": 10_000})
    desk = Desk(account, BotFactory(account=account, status=Bot.Status.RUNNING), ProductFactory())
    products = [desk.product, *(ProductFactory(symbol=symbol) for symbol in ("ETH-USD", "SOL-USD", "LTC-USD"))]

    def work(number: int) -> Order:
        with acting_for_account(account.pk):
            bot = Bot.objects.get(pk=desk.bot.pk)
            return execution.submit(desk.intend_open(bot=bot, product=products[number]))

    results = in_threads(4, work)
    orders = [result for result in results if isinstance(result, Order)]
    assert len(orders) == 1, results
    assert {result.code for result in results if isinstance(result, OrderRefused)} == {"deal_limit"}


@pytest.mark.usefixtures("many_connections")
def test_f10_parallel_opens_share_one_free_balance() -> None:
    account = AccountFactory(balances={"USD": 250})
    bots = [BotFactory(account=account, status=Bot.Status.RUNNING) for _ in range(4)]
    desk = Desk(account, bots[0], ProductFactory())

    def work(number: int) -> Order:
        with acting_for_account(account.pk):
            return desk.intend_open("100", bot=Bot.objects.get(pk=bots[number].pk))  # intended, not sent: our hold

    results = in_threads(4, work)
    assert sum(isinstance(result, Order) for result in results) == 2, results
    assert {result.code for result in results if isinstance(result, OrderRefused)} == {"insufficient_balance"}


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


# Sizes and prices -----------------------------------------------------------------------------------------------------


def test_f24_sizes_and_buy_prices_are_floored_and_sell_prices_raised(outside: Desk) -> None:
    order = outside.open_limit("1.0009999", "90.019")
    assert (order.base_size, order.limit_price) == (Decimal("1"), Decimal("90.01"))
    assert outside.venue is not None
    outside.venue.fill(order.client_order_id, "1")
    report = outside.venue.find(ref_of(order))
    assert report is not None
    execution.apply_report(order, report)
    sell = {"order_type": OrderType.LIMIT, "limit_price": Decimal("110.001"), "base_size": Decimal("0.5559")}
    close = outside.place(order.position, Purpose.TAKE_PROFIT, **sell)
    assert (close.base_size, close.limit_price) == (Decimal("0.555"), Decimal("110.01"))


def test_f24_whole_number_increments_are_floored_too(outside: Desk) -> None:
    with detached("test data"):
        outside.product.base_increment = outside.product.min_base = Decimal(1)
        outside.product.save()
    assert outside.open_limit("7.99", "90").base_size == 7


def test_f25_a_fee_taken_in_base_makes_the_last_sell_smaller(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.fee_in_base = True
    position = outside.open("100")
    assert position.base_held == Decimal("0.994")
    order = outside.place(position, Purpose.TAKE_PROFIT)
    assert (order.base_size, order.status) == (Decimal("0.994"), OrderStatus.FILLED)
    assert (order.position.status, outside.venue.wallet["BTC"]) == ("closed", 0)


def test_a_wallet_with_a_little_less_sells_what_there_is_and_notes_it(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.wallet["BTC"] -= Decimal("0.004")
    order = outside.place(position, Purpose.STOP_LOSS)
    assert order.filled_base == Decimal("0.996")
    position = order.position
    assert (position.error_code, position.status) == ("wallet_short", "closed")  # the rest is below the minimum
    assert position.dust_price == 100


def test_an_unknown_balance_holds_no_close_up(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open("100")
    with clock.at(MOMENT + timedelta(seconds=1)):
        position = execution.submit(order).position
        outside.venue.fail("balances", VenueUnavailable())  # so what is known is older than the deal's coins
        assert outside.place(position, Purpose.STOP_LOSS).position.status == PositionStatus.CLOSED


def test_money_is_spent_on_a_recent_word_of_the_exchange_only(outside: Desk) -> None:
    assert outside.venue is not None
    outside.ask()
    outside.venue.fail("balances", VenueUnavailable())
    with clock.at(MOMENT + means.ENTRY_AGE + timedelta(seconds=1)), refused("balance_unknown"):
        outside.intend_open()


def test_f10_what_was_ordered_since_the_exchange_was_asked_is_not_free(outside: Desk) -> None:
    """Filled, resting or unanswered: the answer that is known shows none of it."""
    assert outside.venue is not None
    outside.venue.wallet = {"USD": Decimal(1000)}
    outside.ask()
    many = {"max_active_deals": 9, "max_deals_per_pair": 9}
    with clock.at(MOMENT + timedelta(seconds=1)):
        outside.venue.faults["balances"] = deque(Fault(VenueUnavailable(), False) for _ in range(9))
        outside.open("300", **many)
        outside.open_limit("3", "90", **many)
        outside.venue.fail("place", VenueUnknown())
        outside.open("200", **many)
        with refused("insufficient_balance"):
            outside.intend_open("240", **many)
        free = execution.free_balance(outside.account, "USD")
        assert 1000 - 300 - 270 - 200 - 10 < free < 1000 - 300 - 270 - 200


def test_an_unknown_balance_means_no_new_order(outside: Desk) -> None:
    assert outside.venue is not None
    for call in ("balances", "fees"):
        outside.venue.fail(call, VenueUnavailable())
        with refused("balance_unknown"):
            outside.intend_open()
    assert not Position.objects.exists()


def test_an_unknown_price_means_no_new_order(outside: Desk) -> None:
    intent = Intent(purpose=Purpose.BASE_ORDER, sequence=1, quote_size=Decimal(100))
    with refused("missing_price"):
        outside.intend_open(intent=intent)


def test_f27_an_amount_below_the_minimum_is_refused_with_the_numbers(outside: Desk) -> None:
    with pytest.raises(OrderRefused) as caught:
        outside.intend_open("4.99")
    assert (caught.value.code, caught.value.detail) == (
        "below_minimum",
        {"asked": Decimal("4.99"), "minimum": Decimal(5), "currency": "USD"},
    )
    small = Intent(
        purpose=Purpose.BASE_ORDER, sequence=1, base_size=Decimal("0.0099"), reference_price=Decimal(100_000)
    )
    with pytest.raises(OrderRefused, check=lambda error: error.detail["currency"] == "BTC"):
        outside.intend_open(intent=small)
    assert not Order.objects.exists()
    assert not Position.objects.exists()


def test_f28_realised_profit_is_net_of_both_fees(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.price = Decimal("100.5")  # half a percent gross, 1.2 percent of fees
    order = outside.place(position, Purpose.TAKE_PROFIT)
    assert order.position.realised_quote == Decimal("100.5") * Decimal("0.994") - Decimal("100.6")
    assert order.position.realised_quote < 0


def test_f29_a_remainder_too_small_to_trade_closes_at_its_current_value(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.price = Decimal(4)  # one BTC is now worth less than the smallest order
    with refused("closed_as_dust"):
        execution.intend(position, Intent(purpose=Purpose.STOP_LOSS, sequence=1, reference_price=outside.venue.price))
    position.refresh_from_db()
    assert (position.status, position.exit_reason, position.dust_price) == ("closed", "dust", 4)
    assert position.realised_quote == Decimal(4) - Decimal("100.6")
    assert position.realised_pct is not None
    assert Decimal("-97") < position.realised_pct < Decimal("-96")
    assert len(outside.venue.arrivals) == 1


def test_f29_what_a_close_leaves_below_the_minimum_is_valued_not_written_off(outside: Desk) -> None:
    position = outside.open("100")
    order = outside.place(position, Purpose.TAKE_PROFIT, base_size=Decimal("0.995"))
    position = order.position
    assert (position.status, position.exit_reason) == (PositionStatus.CLOSED, ExitReason.TAKE_PROFIT)
    assert (position.base_held, position.dust_price) == (Decimal("0.005"), 100)
    assert position.realised_quote == Decimal("99.5") * Decimal("0.994") + Decimal("0.5") - Decimal("100.6")


def test_f20_a_later_close_sells_only_what_is_left(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    first = outside.place(position, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=Decimal(110))
    outside.venue.fill(first.client_order_id, "0.7")
    execution.cancel(first, "bot")
    assert first.position.status == PositionStatus.OPEN
    last = outside.place(position, Purpose.TAKE_PROFIT, 2, base_size=Decimal(1))
    assert (last.base_size, last.position.status) == (Decimal("0.3"), PositionStatus.CLOSED)


def test_f19_a_fill_that_races_with_the_cancel_is_booked(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    order = outside.place(position, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=Decimal(110))
    outside.venue.fill(order.client_order_id, "1")
    execution.cancel(order, "bot")
    assert (order.status, order.position.status) == (OrderStatus.FILLED, PositionStatus.CLOSED)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("limit_price", {"order_type": OrderType.LIMIT, "base_size": Decimal(1), "limit_price": Decimal("NaN")}),
        ("limit_price", {"order_type": OrderType.LIMIT, "base_size": Decimal(1), "limit_price": Decimal(-1)}),
        ("limit_price", {"order_type": OrderType.LIMIT, "base_size": Decimal(1)}),
        ("limit_price", {"base_size": Decimal(1), "limit_price": Decimal(1)}),
        ("base_size", {"base_size": Decimal(0)}),
        ("base_size", {}),
        ("quote_size", {"base_size": Decimal(1), "quote_size": Decimal(1)}),
        ("side", {"base_size": Decimal(1), "side": Side.SELL}),
        (
            "expires_at",
            {"order_type": OrderType.LIMIT, "base_size": Decimal(1), "limit_price": Decimal(90), "expires_at": MOMENT},
        ),
    ],
)
def test_f23_an_impossible_order_is_refused_with_its_field(outside: Desk, field: str, values: dict[str, Any]) -> None:
    intent = Intent(purpose=Purpose.BASE_ORDER, sequence=1, reference_price=Decimal(100), **values)
    with pytest.raises(InvalidInput, check=lambda error: error.field == field):
        outside.intend_open(intent=intent)


# Slots and switches ---------------------------------------------------------------------------------------------------


def test_slots_are_counted_per_bot_and_per_pair(paper: Desk) -> None:
    limits = {"max_active_deals": 3, "max_deals_per_pair": 2}
    assert [paper.open(**limits).slot for _ in range(2)] == [0, 1]
    with refused("pair_deal_limit"):
        paper.intend_open(**limits)
    other = ProductFactory(symbol="ETH-USD")
    first_eth = paper.open(product=other, **limits)
    with refused("deal_limit"):
        paper.intend_open(product=other, **limits)
    paper.place(first_eth, Purpose.STOP_LOSS)
    paper.place(Position.objects.get(slot=0, product=paper.product), Purpose.STOP_LOSS)
    assert paper.open(**limits).slot == 0


def test_a_paused_installation_opens_nothing_and_still_closes(paper: Desk) -> None:
    position = paper.open()
    GlobalSettings.load()
    GlobalSettings.objects.update(trading_paused=True)
    with refused("trading_paused"):
        paper.intend_open(max_active_deals=5, max_deals_per_pair=5)
    assert paper.place(position, Purpose.STOP_LOSS).position.status == PositionStatus.CLOSED


def test_a_bot_stopped_meanwhile_opens_nothing(paper: Desk) -> None:
    Bot.objects.filter(pk=paper.bot.pk).update(status=Bot.Status.STOPPED)
    with refused("bot_stopped"):
        paper.intend_open()


def test_a_product_that_stopped_trading_is_not_bought(paper: Desk) -> None:
    product = ProductFactory(symbol="SOL-USD", status="delisted")
    with refused("product_not_trading"):
        paper.intend_open(product=product)


def test_orders_on_their_way_count_against_the_balance(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.wallet["USD"] = Decimal(250)
    limits = {"max_active_deals": 5, "max_deals_per_pair": 5}
    outside.venue.fail("place", VenueUnknown())
    execution.submit(outside.intend_open("100", **limits))
    outside.intend_open("100", **limits)
    with pytest.raises(OrderRefused) as caught:
        outside.intend_open("100", **limits)
    assert caught.value.detail == {"needed": Decimal("100.6"), "free": Decimal("48.8"), "currency": "USD"}


def test_entries_wait_for_the_base_order_and_for_a_working_close(outside: Desk) -> None:
    order = outside.open_limit("1", "90")
    add = Intent(purpose=Purpose.SAFETY_ORDER, sequence=1, quote_size=Decimal(50), reference_price=Decimal(100))
    with refused("position_not_open"):
        execution.intend(order.position, add)
    with refused("nothing_to_close"):
        execution.intend(order.position, Intent(purpose=Purpose.STOP_LOSS, sequence=1))
    execution.cancel(order, "bot")
    with refused("position_ended"):
        execution.intend(order.position, add)
    position = outside.open("100")
    outside.place(position, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=Decimal(110))
    with refused("exit_working"):
        execution.intend(position, add)


def test_funds_added_by_hand_respect_the_ceiling(outside: Desk) -> None:
    position = outside.open("100", budget_quote=Decimal(150))
    with pytest.raises(OrderRefused, check=lambda error: error.detail["remaining"] == 50):
        outside.place(position, Purpose.MANUAL_ADD, quote_size=Decimal(60))
    order = outside.place(position, Purpose.MANUAL_ADD, quote_size=Decimal(50), actor="ann@example.com")
    assert (order.position.quote_spent, order.actor) == (150, "ann@example.com")
    assert outside.events("order_fill")[-1].payload["fill_type"] == "manual"


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


# Isolation and history ------------------------------------------------------------------------------------------------


def test_nothing_is_intended_on_a_foreign_account(paper: Desk) -> None:
    position = paper.open()
    stranger = AccountFactory()
    close = Intent(purpose=Purpose.STOP_LOSS, sequence=1)
    with detached("test acts for somebody else"), acting_for_account(stranger.pk), pytest.raises(ForeignRow):
        execution.intend(position, close)


def test_deal_numbers_run_over_all_accounts_of_an_owner(paper: Desk) -> None:
    paper.open()
    second = AccountFactory(owner=paper.account.owner, balances={"USD": 1000})
    desk = Desk(second, BotFactory(account=second, status=Bot.Status.RUNNING), paper.product)
    stranger = AccountFactory(balances={"USD": 1000})
    foreign = Desk(stranger, BotFactory(account=stranger, status=Bot.Status.RUNNING), paper.product)
    with detached("test acts for several accounts"):
        assert desk.open().deal_number == 2
        assert foreign.open().deal_number == 1


def test_f56_money_rows_survive_what_they_belonged_to(paper: Desk) -> None:
    position = paper.open()
    order = position.orders.get()
    for row in (position, order, paper.account):
        with pytest.raises(ProtectedError):
            row.delete()
    name = paper.bot.name
    paper.bot.delete()
    position = Position.objects.get(pk=position.pk)
    assert (position.bot_id, position.bot_name, position.fills.count()) == (None, name, 1)


def test_f58_ids_are_not_reused_after_a_delete(outside: Desk) -> None:
    order = outside.intend_open()
    gone = (order.pk, order.position_id, order.client_order_id)
    position = order.position
    order.delete()
    position.delete()
    again = outside.intend_open()
    assert again.pk > gone[0]
    assert again.position_id > gone[1]
    assert again.client_order_id != gone[2]


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


def test_a_report_is_applied_with_few_queries(outside: Desk, django_assert_max_num_queries: Any) -> None:
    assert outside.venue is not None
    order = outside.open_limit("1", "90")
    outside.venue.fill(order.client_order_id, "1")
    report = outside.venue.find(ref_of(order))
    assert report is not None
    with django_assert_max_num_queries(25):
        execution.apply_report(order, report)
