"""Writing an order down: one decision is acted on once, within its slots and switches, on its own account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.db.models import ProtectedError

from bots.models import Bot
from positions import execution
from positions.execution import Intent
from positions.intents import writing
from positions.models import Order, Position
from positions.states import WORKING, Direction, OrderStatus, OrderType, PositionStatus, Purpose, Side
from tests.factories import AccountFactory, BotFactory, ProductFactory
from tests.positions.conftest import MOMENT, Desk
from tests.positions.helpers import in_threads, refused
from tradebot.core.errors import InvalidInput, OrderRefused
from tradebot.core.models import GlobalSettings
from tradebot.core.scoping import ForeignRow, acting_for_account, detached

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


# Slots and switches ---------------------------------------------------------------------------------------------------


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
