"""Adding to a deal by hand within its ceiling, and the ceiling itself."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from positions import funds, limit_close, manual, reconcile
from positions.execution import Intent
from positions.funds import AddState
from positions.handling import TimeInForce
from positions.models import Order, Position
from positions.states import Direction, OrderType, PositionStatus, Purpose
from tests.positions.conftest import Desk
from tests.positions.helpers import refused
from tests.positions.outside import OutsideVenue
from tests.positions.test_manual import ANN, audit, wrong
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, VenueRejected, VenueUnknown

D = Decimal


@pytest.fixture
def venue(quoted: Desk) -> OutsideVenue:
    assert quoted.venue is not None
    return quoted.venue


@pytest.fixture
def deal(quoted: Desk) -> Position:
    """A long deal that has spent 100 of its 1000 USD."""
    return quoted.open("100")


def test_funds_are_added_at_market_and_are_no_safety_order(quoted: Desk, deal: Position) -> None:
    quoted.tell(80)
    answer = funds.add_funds(deal, D(80), ANN)
    order = answer.order
    assert (answer.state, order.purpose, order.levels, order.actor) == (AddState.FILLED, "manual_add", 0, ANN)
    assert (deal.quote_spent, deal.base_held, deal.safety_orders_filled) == (D(180), D(2), 0)
    assert audit() == [(ANN, "deal_funds_added", "deal 1 BTC-USD")]


def test_funds_are_added_at_a_limit(quoted: Desk, deal: Position, venue: OutsideVenue) -> None:
    answer = funds.add_funds(deal, D(100), ANN, price=D("80.009"))
    order = answer.order
    assert (answer.state, order.limit_price, order.base_size) == (AddState.RESTING, D("80.00"), D("1.249"))
    venue.fill(order.client_order_id, order.base_size or D(0))
    reconcile.reconcile_account(quoted.account.pk)
    deal.refresh_from_db()
    assert deal.base_held == D("2.249")


@pytest.mark.parametrize(("price", "base"), [(None, "1"), (D(125), "0.8")])
def test_a_short_is_added_to_by_selling(quoted: Desk, venue: OutsideVenue, price: Decimal | None, base: str) -> None:
    venue.wallet["BTC"] = D(5)
    intent = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=D(1), reference_price=D(100))
    deal = quoted.open(direction=Direction.SHORT, intent=intent)
    order = funds.add_funds(deal, D(100), ANN, price=price).order
    assert (order.side, order.base_size) == ("sell", D(base))
    assert funds.room_of(deal).left == D(800)


def test_an_amount_above_the_ceiling_is_refused_with_what_is_left(deal: Position, venue: OutsideVenue) -> None:
    with wrong("amount") as caught:
        funds.add_funds(deal, D(901), ANN)
    assert "may spend 900 USD more, its ceiling is 1000 USD" in caught.value.message
    assert caught.value.detail["remaining"] == D(900)
    assert len(venue.arrivals) == 1
    assert funds.add_funds(deal, D(900), ANN).state == AddState.FILLED


def test_the_ceiling_is_raised_along_when_that_is_asked_for(deal: Position) -> None:
    answer = funds.add_funds(deal, D(1500), ANN, raise_ceiling=True)
    assert (answer.raised_to, deal.budget_quote, deal.quote_spent) == (D(1600), D(1600), D(1600))
    assert "Its ceiling is 1600 USD now." in answer.message
    deal.refresh_from_db()
    assert deal.budget_quote == D(1600)


def test_a_raise_that_is_not_needed_changes_nothing(deal: Position) -> None:
    answer = funds.add_funds(deal, D(100), ANN, raise_ceiling=True)
    assert (answer.raised_to, deal.budget_quote) == (None, D(1000))


def test_an_order_that_is_refused_does_not_raise_the_ceiling(deal: Position) -> None:
    with refused("insufficient_balance"):
        funds.add_funds(deal, D(50_000), ANN, raise_ceiling=True)
    deal.refresh_from_db()
    assert deal.budget_quote == D(1000)
    assert audit() == []


def test_what_rests_in_the_book_counts_as_spent(quoted: Desk, deal: Position) -> None:
    quoted.place(deal, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=D(5), limit_price=D(90), levels=1)
    room = funds.room_of(deal)
    assert (room.spent, room.waiting, room.left) == (D(100), D(450), D(450))
    with wrong("amount"):
        funds.add_funds(deal, D(451), ANN)


def test_a_deal_without_a_ceiling_takes_any_amount(deal: Position) -> None:
    Position.objects.filter(pk=deal.pk).update(budget_quote=0)
    deal.refresh_from_db()
    assert funds.room_of(deal).left is None
    assert funds.add_funds(deal, D(2000), ANN).state == AddState.FILLED


def test_nothing_is_added_while_a_close_rests(deal: Position) -> None:
    limit_close.place(deal, ANN, D(130))
    with refused("exit_working"):
        funds.add_funds(deal, D(100), ANN)


def test_one_addition_works_at_a_time_and_can_be_cancelled(deal: Position, venue: OutsideVenue) -> None:
    first = funds.add_funds(deal, D(100), ANN, price=D(80)).order
    with refused("add_working"):
        funds.add_funds(deal, D(100), ANN)
    venue.fill(first.client_order_id, "0.25")
    answer = funds.cancel_add(deal, ANN)
    assert (answer.state, deal.base_held) == (AddState.CANCELLED, D("1.25"))
    assert "0.25 BTC of it had been filled" in answer.message
    with refused("no_addition"):
        funds.cancel_add(deal, ANN)


def test_f19_an_addition_that_fills_as_it_is_cancelled_is_called_filled(deal: Position, venue: OutsideVenue) -> None:
    first = funds.add_funds(deal, D(100), ANN, price=D(80)).order
    venue.fill(first.client_order_id, "1.25")
    assert funds.cancel_add(deal, ANN).state == AddState.FILLED


def test_an_addition_whose_outcome_is_unknown_is_called_sent(deal: Position, venue: OutsideVenue) -> None:
    venue.fail("place", VenueUnknown("timeout"), done=True)
    assert funds.add_funds(deal, D(100), ANN).state == AddState.SENT


def test_an_addition_that_the_venue_rejects_is_an_error_and_says_where_the_ceiling_is(
    deal: Position, venue: OutsideVenue
) -> None:
    venue.fail("place", VenueRejected("halted", "Trading is halted."))
    with refused("halted") as caught:
        funds.add_funds(deal, D(1000), ANN, raise_ceiling=True)
    assert caught.value.message == "Trading is halted. The ceiling stays at 1100 USD."
    deal.refresh_from_db()
    assert deal.status == PositionStatus.OPEN


def test_nothing_is_added_to_what_is_not_open_yet(quoted: Desk) -> None:
    with refused("position_not_open"):
        funds.add_funds(quoted.open_limit("1", "90").position, D(100), ANN)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "-5"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "1e400"}, "amount"),
        ({"amount": "1"}, "amount"),  # below the smallest order
        ({"price": D(0)}, "price"),
        ({"price": D("-Infinity")}, "price"),
        ({"price": D("1e-18")}, "price"),
        ({"expires_at": timedelta(hours=1), "time_in_force": TimeInForce.GTD}, "expires_at"),  # at market
        ({"price": D(90), "expires_at": timedelta(seconds=-1), "time_in_force": TimeInForce.GTD}, "expires_at"),
    ],
)
def test_f23_what_cannot_be_added_names_its_field(deal: Position, asked: dict[str, Any], field: str) -> None:
    values = {name: clock.now() + value if isinstance(value, timedelta) else value for name, value in asked.items()}
    with wrong(field):
        funds.add_funds(deal, D(values.pop("amount", "100")), ANN, **values)
    assert Order.objects.filter(position=deal).count() == 1


# The ceiling --------------------------------------------------------------------------------------------------------


def test_the_ceiling_is_set_and_written_down(deal: Position) -> None:
    funds.set_ceiling(deal, D("250.019"), ANN)
    deal.refresh_from_db()
    assert deal.budget_quote == D("250.01")
    assert audit() == [(ANN, "deal_ceiling", "deal 1 BTC-USD")]
    funds.set_ceiling(deal, D("250.01"), ANN)  # nothing changes, nothing is written down
    assert len(audit()) == 1


def test_the_ceiling_cannot_be_below_what_is_spent(quoted: Desk, deal: Position) -> None:
    with wrong("budget_quote") as caught:
        funds.set_ceiling(deal, D("99.99"), ANN)
    assert "has spent 100 USD; its ceiling cannot be below that" in caught.value.message
    funds.set_ceiling(deal, D(100), ANN)
    funds.set_ceiling(deal, D(200), ANN)
    quoted.place(deal, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=D(1), limit_price=D(90), levels=1)
    with wrong("budget_quote") as caught:
        funds.set_ceiling(deal, D(150), ANN)
    assert "90 wait in orders" in caught.value.message


@pytest.mark.parametrize("ceiling", ["0", "-1", "NaN", "1e400"])
def test_f23_a_ceiling_that_is_no_amount_is_refused(deal: Position, ceiling: str) -> None:
    with pytest.raises(InvalidInput, check=lambda error: error.field == "budget_quote"):
        funds.set_ceiling(deal, D(ceiling), ANN)


def test_an_ended_deal_has_no_ceiling_to_set(deal: Position) -> None:
    manual.close_at_market(deal, ANN)
    with refused("position_ended"):
        funds.set_ceiling(deal, D(500), ANN)
    with refused("position_ended"):
        funds.add_funds(deal, D(50), ANN)
