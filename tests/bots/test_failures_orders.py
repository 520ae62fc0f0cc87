"""Faults of resting orders, tried on the engine as it runs: floors, time-outs, a person's orders, races, remainders.

The market is a recording whose bid and ask lie two percent apart, so that the mark, the price that fills at once and a
target are different prices. A short sees the same recording mirrored at 100.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from accounts.exchanges.paper import match_resting
from marketdata import sources
from marketdata.sources.replay import ReplaySource
from positions import execution, manual
from positions.models import Order, Position
from positions.states import Direction, ExitReason, OrderStatus, OrderType, PositionStatus, Purpose, Side
from tests.bots.stepping import PAIR, PERSON, by_hand, seen_by, step, steps, thin
from tests.bots.world import World
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db(transaction=True)

RICH = {"USD": 10_000, "AAA": 50}
BOTH = pytest.mark.parametrize("direction", Direction)
LIMIT_PROFIT = {"take_profit_execution": "limit", "max_safety_orders": 0}


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bid and ask of recordings lie one percent on either side of the last close."""
    source = ReplaySource(spread_pct=Decimal(2))
    monkeypatch.setattr(sources, "_replay", lambda: source)


def world_of(direction: Direction, *prices: float, **more: Any) -> World:
    return World({PAIR: seen_by(direction, *prices)}, **{"balances": RICH, **more})


def told(world: World) -> list[tuple[str, str, str]]:
    return [(order.purpose, order.order_type, order.status) for order in world.orders()]


def last(world: World) -> Order:
    return world.orders()[-1]


def only_deal(world: World) -> Position:
    (deal,) = world.deals()
    return deal


def traded(world: World, side: Side) -> Decimal:
    with detached("test looks"):
        return sum((fill.base for fill in only_deal(world).fills.filter(side=side)), Decimal(0))


BASE = ("base_order", "market", "filled")


# F15: the floor holds at the very price that is asked for -------------------------------------------------------------


@BOTH
def test_f15_a_limit_take_profit_is_placed_at_the_mark_once_the_target_holds_there(
    wide: None, direction: Direction
) -> None:
    # Opens at 101 (a long pays the ask of 100): the target lies at 102.01.
    world = world_of(direction, 100, 100, 101.9, 102.5, 102.5)
    bot = world.bot(direction=direction.value, **LIMIT_PROFIT)
    steps(world, (1, 2), bot)
    assert told(world) == [BASE]
    step(world, 3, bot)
    close = last(world)
    assert told(world) == [BASE, ("take_profit", "limit", "open")]
    assert close.limit_price == Decimal(str(seen_by(direction, 102.5)[0]))
    assert only_deal(world).status == PositionStatus.CLOSING


@BOTH
def test_f15_a_market_take_profit_waits_until_the_price_it_would_get_reaches_the_target(
    wide: None, direction: Direction
) -> None:
    world = world_of(direction, 100, 100, 102.5, 102.8, 103.2, 103.2)
    bot = world.bot(direction=direction.value, max_safety_orders=0)
    steps(world, (1, 2, 3), bot)
    assert told(world) == [BASE]
    step(world, 4, bot)
    deal = only_deal(world)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.TAKE_PROFIT)
    assert deal.realised_pct >= 1


# F16: never below the target, except by a stop ------------------------------------------------------------------------


@BOTH
def test_f16_a_limit_close_whose_target_is_gone_is_left_resting_and_only_a_stop_goes_to_market(
    wide: None, direction: Direction
) -> None:
    world = world_of(direction, 100, 100, 102.5, 102, 100, 99, 101, 102.4, 90, 90)
    bot = world.bot(direction=direction.value, stop_loss="10", **LIMIT_PROFIT)
    steps(world, (1, 2), bot)
    resting = last(world)
    steps(world, range(3, 8), bot)  # five time-outs later
    assert told(world) == [BASE, ("take_profit", "limit", "open")]
    assert last(world).pk == resting.pk
    step(world, 8, bot)
    assert told(world) == [BASE, ("take_profit", "limit", "cancelled"), ("stop_loss", "market", "filled")]
    deal = only_deal(world)
    assert (deal.status, deal.exit_reason, deal.base_held) == (PositionStatus.CLOSED, ExitReason.STOP_LOSS, 0)
    cancelled, stop = world.orders()[1:]
    assert cancelled.finished_at <= stop.submitted_at


@BOTH
def test_f16_after_the_time_out_a_limit_close_moves_to_the_price_that_fills_at_once_while_the_target_holds_there(
    wide: None, direction: Direction
) -> None:
    world = world_of(direction, 100, 100, 104, 103.4, 103.4)
    bot = world.bot(direction=direction.value, **LIMIT_PROFIT)
    steps(world, (1, 2, 3), bot)
    assert told(world) == [BASE, ("take_profit", "limit", "cancelled"), ("take_profit", "limit", "filled")]
    deal = only_deal(world)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.TAKE_PROFIT)
    assert deal.realised_pct >= 1
    assert last(world).limit_price == Decimal("102.36" if direction is Direction.LONG else "97.57")


def test_f16_before_the_time_out_a_limit_close_is_not_moved(wide: None) -> None:
    world = World({PAIR: [100.0, 100.0, 104.0, 103.4, 103.4, 103.4]})
    bot = world.bot(limit_timeout_seconds=120, **LIMIT_PROFIT)
    steps(world, (1, 2, 3), bot)
    assert told(world) == [BASE, ("take_profit", "limit", "open")]
    step(world, 4, bot)
    assert told(world)[1:] == [("take_profit", "limit", "cancelled"), ("take_profit", "limit", "filled")]


# F17: what a person placed --------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("execution_of_profit", OrderType)
def test_f17_a_persons_limit_close_is_left_alone_until_a_stop(
    wide: None, direction: Direction, execution_of_profit: OrderType
) -> None:
    world = world_of(direction, 100, 100, 100, 105, 110, 104, 96, 95, 103, 88, 88)
    bot = world.bot(
        direction=direction.value,
        stop_loss="10",
        take_profit_execution=execution_of_profit.value,
        safety_order_execution=execution_of_profit.value,
        limit_timeout_seconds=10,
        price_deviation="2",
    )
    step(world, 1, bot)
    placed = by_hand(world, 1, only_deal(world), str(seen_by(direction, 120)[0]))
    before = (placed.client_order_id, placed.limit_price, placed.base_size, "open")
    for minute in range(2, 9):
        step(world, minute, bot)
        working = [order for order in world.orders() if order.status not in ("filled", "cancelled")]
        assert [(row.client_order_id, row.limit_price, row.base_size, row.status) for row in working] == [before]
    # While it rests, neither profit nor safety orders are traded.
    assert {order.purpose for order in world.orders() if order.status == OrderStatus.FILLED} == {"base_order"}
    step(world, 9, bot)
    assert [row for row in told(world) if row[0] in ("limit_close", "stop_loss")] == [
        ("limit_close", "limit", "cancelled"),
        ("stop_loss", "market", "filled"),
    ]
    assert only_deal(world).exit_reason == ExitReason.STOP_LOSS


def test_f17_a_take_profit_that_a_person_placed_is_theirs_whatever_it_is_called(wide: None) -> None:
    world = World({PAIR: [100.0, 100.0, 100.0, 104.0, 103.4, 103.4, 103.4]})
    bot = world.bot(**LIMIT_PROFIT)
    step(world, 1, bot)
    placed = by_hand(world, 1, only_deal(world), "130", Purpose.TAKE_PROFIT)
    steps(world, range(2, 6), bot)
    assert told(world) == [BASE, ("take_profit", "limit", "open")]
    assert last(world).pk == placed.pk


def test_f17_a_persons_waiting_buy_is_not_repriced_with_the_safety_orders(wide: None) -> None:
    world = World({PAIR: [100.0, 100.0, 100.0, 98.0, 99.5, 97.6, 97.6]})
    bot = world.bot(safety_order_execution="limit", deviation_reference="average")
    step(world, 1, bot)
    placed = by_hand(world, 1, only_deal(world), "80", Purpose.MANUAL_ADD, base_size=Decimal(1))
    steps(world, range(2, 6), bot)
    with detached("test looks"):
        placed.refresh_from_db()
    assert (placed.status, placed.limit_price, placed.cancel_requested_at) == (OrderStatus.OPEN, Decimal(80), None)


# F19: a fill that races with the cancel -------------------------------------------------------------------------------


@BOTH
def test_f19_a_repriced_close_asks_only_for_what_the_racing_fill_left(wide: None, direction: Direction) -> None:
    prices = seen_by(direction, 100, 100, 103.5, 103.6, 103.6)
    world = World({PAIR: prices}, balances=RICH)
    bot = world.bot(direction=direction.value, **LIMIT_PROFIT)
    steps(world, (1, 2), bot)
    resting = last(world)
    thin(prices, 2)
    with world.at(3) as now:  # the venue fills a part; nobody has told us when the cycle decides to move the order
        assert match_resting(sources.REPLAY, now, [world.account.pk])
    assert last(world).filled_base == 0
    world.look(3, bot)
    first, second = world.orders()[1:]
    assert (first.pk, first.status, first.filled_base) == (resting.pk, OrderStatus.CANCELLED, Decimal("0.5"))
    assert first.base_size is not None
    assert second.base_size == first.base_size - Decimal("0.5")
    deal = only_deal(world)
    assert (deal.status, deal.base_held) == (PositionStatus.CLOSED, 0)
    assert deal.base_bought == deal.base_sold == first.base_size


def test_f19_a_repriced_safety_order_that_filled_meanwhile_is_counted_and_not_bought_again(wide: None) -> None:
    """The rung moves because a person has bought; the venue fills it whole just before its cancel arrives."""
    prices = [100.0, 100.0, 100.0, 104.0, 97.0, 97.0]
    world = World({PAIR: prices})
    bot = world.bot(safety_order_execution="limit", deviation_reference="average", take_profit="20")
    steps(world, (1, 2), bot)
    rung = last(world)
    assert (rung.purpose, rung.status) == (Purpose.SAFETY_ORDER, OrderStatus.OPEN)
    with world.at(3):
        intent = execution.Intent(Purpose.MANUAL_ADD, 1, base_size=Decimal("0.5"), actor=PERSON)
        execution.submit(execution.intend(only_deal(world), intent))
    with world.at(4) as now:
        assert match_resting(sources.REPLAY, now, [world.account.pk])
    world.look(4, bot)
    with detached("test looks"):
        rung.refresh_from_db()
    assert (rung.status, rung.filled_base) == (OrderStatus.FILLED, rung.base_size)
    deal = only_deal(world)
    assert deal.safety_orders_filled == 1
    assert deal.base_held == sum(order.filled_base for order in world.orders())
    (working,) = (order for order in world.orders() if order.status == OrderStatus.OPEN)
    assert (working.purpose, working.sequence) == (Purpose.SAFETY_ORDER, 2)
    assert deal.average_price is not None
    assert working.limit_price == pytest.approx(deal.average_price * Decimal("0.96"), abs=Decimal("0.01"))


# F20: the rest, not the whole -----------------------------------------------------------------------------------------


@BOTH
def test_f20_a_stop_after_a_partial_limit_close_closes_only_the_rest(wide: None, direction: Direction) -> None:
    prices = seen_by(direction, 100, 100, 103.5, 103.6, 90, 90)
    world = World({PAIR: prices}, balances=RICH)
    bot = world.bot(direction=direction.value, stop_loss="10", limit_timeout_seconds=600, **LIMIT_PROFIT)
    steps(world, (1, 2), bot)
    thin(prices, 2)
    step(world, 3, bot)
    assert (last(world).status, last(world).filled_base) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.5"))
    step(world, 4, bot)
    base, close, stop = world.orders()
    assert (close.status, stop.purpose, stop.status) == (OrderStatus.CANCELLED, Purpose.STOP_LOSS, OrderStatus.FILLED)
    assert stop.filled_base == base.filled_base - Decimal("0.5")
    assert traded(world, direction.exit_side) == traded(world, direction.entry_side) == base.filled_base
    assert only_deal(world).base_held == 0


@BOTH
def test_f20_a_person_who_closes_after_a_partial_limit_close_closes_only_the_rest(
    wide: None, direction: Direction
) -> None:
    prices = seen_by(direction, 100, 100, 100, 103.6, 103, 103)
    world = World({PAIR: prices}, balances=RICH)
    bot = world.bot(direction=direction.value, take_profit="50", max_safety_orders=0)
    step(world, 1, bot)
    by_hand(world, 1, only_deal(world), str(seen_by(direction, 103.5)[0]))
    thin(prices, 2)
    step(world, 3, bot)
    assert last(world).filled_base == Decimal("0.5")
    with world.at(4):
        answer = manual.close_at_market(only_deal(world), PERSON)
    assert answer.state == manual.CloseState.CLOSED
    base, close, rest = world.orders()
    assert (close.status, rest.purpose) == (OrderStatus.CANCELLED, Purpose.MANUAL_CLOSE)
    assert rest.filled_base == base.filled_base - Decimal("0.5")
    assert traded(world, direction.exit_side) == base.filled_base
    with detached("test looks"):
        assert world.account.paper_balances.get(currency="AAA").total == RICH["AAA"]
