"""The state tables: what may follow what, and that nothing follows the end."""

from __future__ import annotations

import pytest

from positions.states import (
    EXIT_PURPOSES,
    EXIT_REASON_OF,
    FINAL,
    POSITION_FINAL,
    POSITION_TRANSITIONS,
    TRANSITIONS,
    WORKING,
    Direction,
    OrderStatus,
    PositionStatus,
    Purpose,
    Side,
    can_move,
    position_can_move,
    side_of,
)

ORDER = OrderStatus
DEAL = PositionStatus


def test_every_state_is_in_its_table_and_final_ones_lead_nowhere() -> None:
    assert set(TRANSITIONS) == set(OrderStatus)
    assert set(POSITION_TRANSITIONS) == set(PositionStatus)
    assert {ORDER.FILLED, ORDER.CANCELLED, ORDER.EXPIRED, ORDER.REJECTED} == FINAL
    assert {ORDER.INTENDED, ORDER.SUBMITTED, ORDER.OPEN, ORDER.PARTIALLY_FILLED} == WORKING
    assert {DEAL.CLOSED, DEAL.CANCELLED, DEAL.FAILED} == POSITION_FINAL


@pytest.mark.parametrize("status", OrderStatus)
def test_an_order_never_moves_backwards_or_to_where_it_is(status: OrderStatus) -> None:
    reachable, todo = set(), list(TRANSITIONS[status])
    while todo:
        state = todo.pop()
        if state not in reachable:
            reachable.add(state)
            todo += TRANSITIONS[state]
    assert status not in reachable
    assert not can_move(status, status)
    assert status in FINAL or reachable & FINAL


def test_an_order_is_submitted_before_the_venue_can_say_anything() -> None:
    assert can_move(ORDER.INTENDED, ORDER.SUBMITTED)
    assert not can_move(ORDER.INTENDED, ORDER.FILLED)
    assert not can_move(ORDER.PARTIALLY_FILLED, ORDER.REJECTED)


def test_f6_a_failed_deal_was_never_open() -> None:
    assert position_can_move(DEAL.PENDING, DEAL.FAILED)
    assert not position_can_move(DEAL.OPEN, DEAL.FAILED)
    assert not position_can_move(DEAL.FAILED, DEAL.OPEN)


def test_a_close_that_did_not_fill_gives_the_deal_back() -> None:
    assert position_can_move(DEAL.CLOSING, DEAL.OPEN)
    assert position_can_move(DEAL.CLOSING, DEAL.CLOSED)


def test_every_exit_has_a_reason() -> None:
    assert set(EXIT_REASON_OF) == EXIT_PURPOSES


def test_f45_sides_follow_the_direction() -> None:
    assert side_of(Direction.LONG, Purpose.SAFETY_ORDER) is Side.BUY
    assert side_of(Direction.LONG, Purpose.STOP_LOSS) is Side.SELL
    assert side_of(Direction.SHORT, Purpose.SAFETY_ORDER) is Side.SELL
    assert side_of(Direction.SHORT, Purpose.STOP_LOSS) is Side.BUY
    assert (Direction.LONG.sign, Direction.SHORT.sign) == (1, -1)
