"""Closing at a limit by hand: one at most, changed without losing a fill, settled whatever happened meanwhile."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from marketdata import market
from positions import limit_close, manual, reconcile
from positions.handling import TimeInForce
from positions.limit_close import LimitState
from positions.models import Order, Position
from positions.states import OrderStatus, OrderType, PositionStatus, Purpose
from tests.positions.conftest import Desk
from tests.positions.helpers import refused
from tests.positions.outside import OutsideVenue
from tests.positions.test_manual import ANN, audit, wrong
from tradebot.core import clock
from tradebot.core.errors import VenueRejected, VenueUnknown
from tradebot.core.scoping import detached

D = Decimal


@pytest.fixture
def venue(outside: Desk) -> OutsideVenue:
    assert outside.venue is not None
    return outside.venue


@pytest.fixture
def deal(outside: Desk) -> Position:
    """A long deal that holds 1 BTC, bought at 100."""
    return outside.open("100")


def orders(position: Position) -> list[tuple[str, str, Decimal | None]]:
    """The deal's closes: state, size."""
    rows = Order.objects.filter(position=position).exclude(purpose=Purpose.BASE_ORDER).order_by("id")
    return [(str(order.purpose), str(order.status), order.base_size) for order in rows]


# Placing ------------------------------------------------------------------------------------------------------------


def test_a_limit_close_of_everything_rests_and_then_closes_the_deal(
    outside: Desk, venue: OutsideVenue, deal: Position
) -> None:
    answer = limit_close.place(deal, ANN, D("130.001"))
    order = answer.order
    assert order is not None
    assert (answer.state, order.purpose, order.order_type, order.actor) == ("resting", "limit_close", "limit", ANN)
    assert (order.base_size, order.limit_price, order.expires_at) == (D(1), D("130.01"), None)  # F24: up to a step
    assert deal.status == PositionStatus.CLOSING
    assert audit() == [(ANN, "limit_close_placed", "deal 1 BTC-USD")]
    venue.fill(order.client_order_id, "1")
    reconcile.reconcile_account(outside.account.pk)
    deal.refresh_from_db()
    assert (deal.status, deal.exit_reason) == ("closed", "limit_close")


def test_f20_a_limit_close_of_a_part_leaves_the_rest_open(outside: Desk, venue: OutsideVenue, deal: Position) -> None:
    answer = limit_close.place(deal, ANN, D(130), share_pct=D(25))
    assert answer.order is not None
    assert answer.order.base_size == D("0.25")
    venue.fill(answer.order.client_order_id, "0.25")
    reconcile.reconcile_account(outside.account.pk)
    deal.refresh_from_db()
    assert (deal.status, deal.base_held) == (PositionStatus.OPEN, D("0.75"))
    again = limit_close.place(deal, ANN, D(140))
    assert again.order is not None
    assert again.order.base_size == D("0.75")


def test_f3_a_deal_has_one_limit_close_at_most(venue: OutsideVenue, deal: Position) -> None:
    limit_close.place(deal, ANN, D(130))
    with refused("limit_close_working"):
        limit_close.place(deal, ANN, D(131))
    assert orders(deal) == [("limit_close", "open", D(1))]
    assert len(venue.arrivals) == 2


def test_f3_the_machines_resting_take_profit_makes_way(outside: Desk, venue: OutsideVenue, deal: Position) -> None:
    machines = outside.place(deal, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=D(110))
    venue.fill(machines.client_order_id, "0.3")  # not noticed by us yet
    answer = limit_close.place(deal, ANN, D(130))
    assert answer.order is not None
    assert orders(deal) == [("take_profit", "cancelled", D(1)), ("limit_close", "open", D("0.7"))]


def test_f3_resting_safety_orders_make_way_too(outside: Desk, deal: Position) -> None:
    outside.place(deal, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=D(1), limit_price=D(90), levels=1)
    limit_close.place(deal, ANN, D(130))
    assert orders(deal) == [("safety_order", "cancelled", D(1)), ("limit_close", "open", D(1))]


def test_f19_a_take_profit_that_fills_at_that_moment_ends_it(
    outside: Desk, venue: OutsideVenue, deal: Position
) -> None:
    machines = outside.place(deal, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=D(110))
    venue.fill(machines.client_order_id, "1")
    answer = limit_close.place(deal, ANN, D(130))
    assert (answer.state, answer.order, answer.raced) == (LimitState.CLOSED, None, True)
    assert "filled first" in answer.message
    assert len(venue.arrivals) == 2


def test_f19_without_a_confirmed_cancel_nothing_is_placed(outside: Desk, venue: OutsideVenue, deal: Position) -> None:
    outside.place(deal, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=D(110))
    for _ in range(2):
        venue.fail("cancel", VenueUnknown("timeout"))
    with refused("cancel_unconfirmed"):
        limit_close.place(deal, ANN, D(130))
    assert len(venue.arrivals) == 2


def test_a_market_close_on_its_way_is_not_overtaken(venue: OutsideVenue, deal: Position) -> None:
    venue.fail("place", VenueUnknown("timeout"))
    manual.close_at_market(deal, ANN)
    with refused("close_working"):
        limit_close.place(deal, ANN, D(130))


def test_a_limit_close_whose_outcome_is_unknown_is_called_sent(venue: OutsideVenue, deal: Position) -> None:
    venue.fail("place", VenueUnknown("timeout"), done=True)
    assert limit_close.place(deal, ANN, D(130)).state == LimitState.SENT


def test_a_limit_close_that_the_venue_rejects_is_an_error(venue: OutsideVenue, deal: Position) -> None:
    venue.fail("place", VenueRejected("halted", "Trading is halted."))
    with refused("halted"):
        limit_close.place(deal, ANN, D(130))
    deal.refresh_from_db()
    assert deal.status == PositionStatus.OPEN


def test_nothing_is_closed_where_nothing_is_held(outside: Desk) -> None:
    order = outside.open_limit("1", "90")
    with refused("nothing_to_close"):
        limit_close.place(order.position, ANN, D(130))


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"price": D(0)}, "price"),
        ({"price": D(-1)}, "price"),
        ({"price": D("NaN")}, "price"),
        ({"price": D("Infinity")}, "price"),
        ({"price": D("1e400")}, "price"),
        ({"base": D("1.5")}, "base"),
        ({"base": D("0.005")}, "base"),  # below the smallest order
        ({"share_pct": D(101)}, "share_pct"),
        ({"base": D("0.5"), "share_pct": D(50)}, "share_pct"),
        ({"time_in_force": TimeInForce.GTD}, "expires_at"),
        ({"time_in_force": TimeInForce.GTD, "expires_at": timedelta(seconds=-1)}, "expires_at"),
        ({"time_in_force": TimeInForce.GTD, "expires_at": timedelta(0)}, "expires_at"),
        ({"time_in_force": TimeInForce.GTD, "expires_at": timedelta(days=4000)}, "expires_at"),
        ({"expires_at": timedelta(hours=1)}, "expires_at"),  # good till cancelled has no end
    ],
)
def test_f23_what_cannot_be_placed_names_its_field_and_changes_nothing(
    outside: Desk, deal: Position, asked: dict[str, Any], field: str
) -> None:
    machines = outside.place(deal, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=D(110))
    values = {name: clock.now() + value if isinstance(value, timedelta) else value for name, value in asked.items()}
    with wrong(field):
        limit_close.place(deal, ANN, values.pop("price", D(130)), **values)
    machines.refresh_from_db()
    assert machines.status == OrderStatus.OPEN


# Changing -----------------------------------------------------------------------------------------------------------


def test_f19_a_change_keeps_the_fill_that_raced_and_places_the_rest(venue: OutsideVenue, deal: Position) -> None:
    first = limit_close.place(deal, ANN, D(130)).order
    assert first is not None
    venue.fill(first.client_order_id, "0.4")  # at the moment of the cancel
    answer = limit_close.change(deal, ANN, price=D(120))
    assert answer.order is not None
    assert (answer.state, answer.order.limit_price) == (LimitState.RESTING, D(120))
    assert orders(deal) == [("limit_close", "cancelled", D(1)), ("limit_close", "open", D("0.6"))]
    assert deal.base_held == D("0.6")


def test_f20_the_change_of_a_part_stays_a_part(venue: OutsideVenue, deal: Position) -> None:
    first = limit_close.place(deal, ANN, D(130), base=D("0.5")).order
    assert first is not None
    venue.fill(first.client_order_id, "0.2")
    limit_close.change(deal, ANN, price=D(120))
    assert orders(deal)[-1] == ("limit_close", "open", D("0.3"))


def test_f19_a_change_after_the_last_fill_says_that_it_was_filled(venue: OutsideVenue, deal: Position) -> None:
    first = limit_close.place(deal, ANN, D(130)).order
    assert first is not None
    venue.fill(first.client_order_id, "1")
    answer = limit_close.change(deal, ANN, price=D(120))
    assert (answer.state, answer.raced, deal.status) == (LimitState.CLOSED, True, PositionStatus.CLOSED)
    assert "filled before" in answer.message
    assert len(venue.arrivals) == 2


def test_f19_without_a_confirmed_cancel_nothing_is_replaced(venue: OutsideVenue, deal: Position) -> None:
    limit_close.place(deal, ANN, D(130))
    for _ in range(2):
        venue.fail("cancel", VenueUnknown("timeout"))
    with refused("cancel_unconfirmed"):
        limit_close.change(deal, ANN, price=D(120))
    assert len(venue.arrivals) == 2
    answer = limit_close.change(deal, ANN, price=D(120))  # a moment later
    assert answer.state == LimitState.RESTING


def test_f29_a_change_that_leaves_dust_closes_the_deal_with_it(venue: OutsideVenue, deal: Position) -> None:
    first = limit_close.place(deal, ANN, D(130)).order
    assert first is not None
    venue.fill(first.client_order_id, "0.995")
    answer = limit_close.change(deal, ANN, price=D(120))
    assert (deal.status, len(venue.arrivals)) == (PositionStatus.CLOSED, 2)
    assert answer.state == LimitState.CLOSED


def test_a_new_price_that_is_refused_says_that_the_old_one_is_gone(venue: OutsideVenue, deal: Position) -> None:
    limit_close.place(deal, ANN, D(130))
    venue.fail("place", VenueRejected("halted", "Trading is halted."))
    with refused("halted") as caught:
        limit_close.change(deal, ANN, price=D(120))
    assert "cancelled, but the new one was not placed: Trading is halted." in caught.value.message
    deal.refresh_from_db()
    assert deal.status == PositionStatus.OPEN


def test_a_rest_of_a_part_that_is_too_small_says_that_the_order_is_gone(venue: OutsideVenue, deal: Position) -> None:
    first = limit_close.place(deal, ANN, D(130), base=D("0.5")).order
    assert first is not None
    venue.fill(first.client_order_id, "0.495")
    with wrong("price") as caught:
        limit_close.change(deal, ANN, price=D(120))
    assert (
        "The old limit close is cancelled, but the new one was not placed: 0.005 BTC is below" in caught.value.message
    )
    assert orders(deal) == [("limit_close", "cancelled", D("0.5"))]
    assert (deal.status, deal.base_held) == (PositionStatus.OPEN, D("0.505"))


def test_only_the_end_is_changed_when_only_that_is_asked_for(deal: Position) -> None:
    limit_close.place(deal, ANN, D(130))
    until = clock.now() + timedelta(hours=2)
    answer = limit_close.change(deal, ANN, expires_at=until)
    assert answer.order is not None
    assert (answer.order.limit_price, answer.order.expires_at) == (D(130), until)
    answer = limit_close.change(deal, ANN, price=D(131))
    assert answer.order is not None
    assert answer.order.expires_at == until
    answer = limit_close.change(deal, ANN, time_in_force=TimeInForce.GTC)
    assert answer.order is not None
    assert (answer.order.limit_price, answer.order.expires_at) == (D(131), None)


def test_a_change_to_what_it_is_already_keeps_its_place_in_the_book(venue: OutsideVenue, deal: Position) -> None:
    first = limit_close.place(deal, ANN, D(130)).order
    answer = limit_close.change(deal, ANN, price=D(130))
    assert (answer.order, len(venue.arrivals)) == (first, 2)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "price"),
        ({"price": D(0)}, "price"),
        ({"price": D("NaN")}, "price"),
        ({"expires_at": timedelta(seconds=-5)}, "expires_at"),
        ({"time_in_force": TimeInForce.GTD}, "expires_at"),
    ],
)
def test_f23_a_change_that_is_not_possible_leaves_the_order_alone(
    deal: Position, asked: dict[str, Any], field: str
) -> None:
    limit_close.place(deal, ANN, D(130))
    values = {name: clock.now() + value if isinstance(value, timedelta) else value for name, value in asked.items()}
    with wrong(field):
        limit_close.change(deal, ANN, **values)
    assert orders(deal) == [("limit_close", "open", D(1))]


def test_there_is_nothing_to_change_without_a_limit_close(outside: Desk, deal: Position) -> None:
    outside.place(deal, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=D(110))
    with refused("no_limit_close"):
        limit_close.change(deal, ANN, price=D(120))
    with refused("no_limit_close"):  # the machine's own order is not the person's
        limit_close.cancel(deal, ANN)


# Cancelling ---------------------------------------------------------------------------------------------------------


def test_a_cancelled_limit_close_leaves_the_deal_open(deal: Position) -> None:
    limit_close.place(deal, ANN, D(130))
    answer = limit_close.cancel(deal, ANN)
    assert (answer.state, answer.message) == (LimitState.CANCELLED, "The limit close is cancelled.")
    assert (deal.status, deal.base_held) == (PositionStatus.OPEN, D(1))
    assert [action for _, action, _ in audit()] == ["limit_close_placed", "limit_close_cancelled"]


def test_f20_a_cancel_after_a_partial_fill_says_what_was_sold(venue: OutsideVenue, deal: Position) -> None:
    first = limit_close.place(deal, ANN, D(130)).order
    assert first is not None
    venue.fill(first.client_order_id, "0.4")
    answer = limit_close.cancel(deal, ANN)
    assert (answer.state, answer.raced, deal.base_held) == (LimitState.CANCELLED, True, D("0.6"))
    assert "0.4 BTC of it had been filled" in answer.message
    closed = manual.close_at_market(deal, ANN)
    assert closed.order is not None
    assert closed.order.base_size == D("0.6")


def test_f19_a_cancel_that_comes_too_late_says_so(venue: OutsideVenue, deal: Position) -> None:
    first = limit_close.place(deal, ANN, D(130)).order
    assert first is not None
    venue.fill(first.client_order_id, "1")
    answer = limit_close.cancel(deal, ANN)
    assert (answer.state, answer.raced, deal.status) == (LimitState.CLOSED, True, PositionStatus.CLOSED)


def test_f21_a_market_close_cancels_the_limit_close_first(venue: OutsideVenue, deal: Position) -> None:
    limit_close.place(deal, ANN, D(130))
    manual.close_at_market(deal, ANN)
    assert orders(deal) == [("limit_close", "cancelled", D(1)), ("manual_close", "filled", D(1))]


def test_f22_cancelling_the_deal_cancels_its_limit_close(deal: Position) -> None:
    limit_close.place(deal, ANN, D(130))
    manual.cancel_deal(deal, ANN)
    assert orders(deal) == [("limit_close", "cancelled", D(1))]


# Meanwhile ------------------------------------------------------------------------------------------------------------


def test_f18_a_fill_while_the_process_was_down_closes_the_deal(venue: OutsideVenue, deal: Position) -> None:
    order = limit_close.place(deal, ANN, D(130)).order
    assert order is not None
    venue.fill(order.client_order_id, "1")
    with detached("test runs the loop"):
        assert reconcile.reconcile_all().fills == 1
    deal.refresh_from_db()
    assert (deal.status, deal.exit_reason, deal.base_held) == ("closed", "limit_close", D(0))


def test_f18_a_cancel_at_the_venue_while_the_process_was_down_opens_the_deal_again(
    outside: Desk, venue: OutsideVenue, deal: Position
) -> None:
    order = limit_close.place(deal, ANN, D(130)).order
    assert order is not None
    venue.fill(order.client_order_id, "0.4")
    venue.orders[order.client_order_id].status = OrderStatus.CANCELLED
    with detached("test runs the loop"):
        reconcile.reconcile_all()
    deal.refresh_from_db()
    assert (deal.status, deal.base_held, limit_close.resting(deal)) == (PositionStatus.OPEN, D("0.6"), None)
    again = limit_close.place(deal, ANN, D(130)).order
    assert again is not None
    assert again.base_size == D("0.6")


def test_f18_an_order_that_never_arrived_leaves_the_deal_open(
    outside: Desk, venue: OutsideVenue, deal: Position
) -> None:
    venue.fail("place", VenueUnknown("timeout"))
    order = limit_close.place(deal, ANN, D(130)).order
    assert order is not None
    for seconds in (40, 120):
        with clock.at(clock.now() + timedelta(seconds=seconds)):
            reconcile.reconcile_account(outside.account.pk)
    order.refresh_from_db()
    deal.refresh_from_db()
    assert (order.status, deal.status) == (OrderStatus.REJECTED, PositionStatus.OPEN)


def test_an_order_that_reached_its_end_at_the_venue_leaves_the_deal_open(
    outside: Desk, venue: OutsideVenue, deal: Position
) -> None:
    until = clock.now() + timedelta(hours=1)
    order = limit_close.place(deal, ANN, D(130), time_in_force=TimeInForce.GTD, expires_at=until).order
    assert order is not None
    assert venue.orders[order.client_order_id].placed.expires_at == until
    venue.orders[order.client_order_id].status = OrderStatus.EXPIRED
    with clock.at(until + timedelta(seconds=1)), detached("test runs the loop"):
        reconcile.monitor_resting()
    order.refresh_from_db()
    deal.refresh_from_db()
    assert (order.status, deal.status) == (OrderStatus.EXPIRED, PositionStatus.OPEN)


def test_a_limit_close_on_paper_expires_by_itself(paper: Desk) -> None:
    deal = paper.open("100")
    quote = market.quote("simulated", "BTC-USD")
    assert quote is not None
    until = clock.now() + timedelta(minutes=1)
    answer = limit_close.place(deal, ANN, quote.ask * 3, time_in_force=TimeInForce.GTD, expires_at=until)
    assert answer.state == LimitState.RESTING
    with clock.at(until + timedelta(seconds=1)), detached("test runs the loop"):
        reconcile.monitor_resting()
    deal.refresh_from_db()
    assert deal.status == PositionStatus.OPEN
    assert orders(deal)[-1][:2] == ("limit_close", "expired")
