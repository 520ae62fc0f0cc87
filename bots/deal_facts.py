"""An active deal as the cycle knows it: its row, its orders, what its fills add up to, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from bots.strategies.base import Strategy, WorkingOrder
from positions import ledger
from positions.models import Order, Position
from positions.states import (
    EXIT_PURPOSES,
    MACHINES,
    MANUAL_PURPOSES,
    WORKING,
    Direction,
    OrderStatus,
    OrderType,
    Purpose,
)
from tradebot.core.decimals import ZERO, for_money

__all__ = ["Deal"]

AT_THE_VENUE: Final = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)
MISSED: Final = (OrderStatus.CANCELLED, OrderStatus.EXPIRED)


@dataclass(slots=True)
class Deal:
    """An active position with its orders and totals. Without a ``strategy`` its settings cannot be read."""

    position: Position
    orders: list[Order]
    totals: ledger.Totals
    strategy: Strategy | None = None
    settings: Any = None

    def next_sequence(self, purpose: Purpose) -> int:
        """Return 1 + the number of orders with this purpose."""
        return 1 + sum(order.purpose == purpose for order in self.orders)

    @property
    def direction(self) -> Direction:
        """Return which way the deal earns."""
        return self.totals.direction

    @property
    def working(self) -> list[Order]:
        """Return the orders that may still fill."""
        return [order for order in self.orders if order.status in WORKING]

    @property
    def working_orders(self) -> tuple[WorkingOrder, ...]:
        """Return the same as strategies see them."""
        return tuple(_working_order(order) for order in self.working)

    @property
    def missed_limit_exit(self) -> bool:
        """Return whether the machine's latest limit close ended unfilled and nothing of the deal has filled since.

        One that a person has cancelled was not missed, it was not wanted: the machine judges anew.
        """
        closes = (
            order
            for order in reversed(self.orders)
            if order.order_type == OrderType.LIMIT and order.purpose in EXIT_PURPOSES and not _by_person(order)
        )
        latest = next(closes, None)
        if latest is None or latest.status not in MISSED or latest.finished_at is None:
            return False
        if latest.cancel_actor and latest.cancel_actor not in MACHINES:
            return False
        filled_at = self.totals.last_fill_at
        return filled_at is None or filled_at <= latest.finished_at

    @property
    def rejections(self) -> tuple[int, datetime] | None:
        """Return how many of the machine's latest orders in a row were rejected, and when the last was; None: none."""
        count, at = 0, None
        for order in reversed(self.orders):
            if order.status != OrderStatus.REJECTED or _by_person(order):
                break
            count, at = count + 1, at or order.finished_at
        return None if at is None else (count, at)

    @property
    def opening_quote(self) -> Decimal:
        """Return what the unfilled part of a base order under way comes to in quote, as far as it is known."""
        with for_money():
            return sum((_to_come(order) for order in self.working if order.purpose == Purpose.BASE_ORDER), ZERO)


def _by_person(order: Order) -> bool:
    return order.actor not in MACHINES or order.purpose in MANUAL_PURPOSES


def _to_come(order: Order) -> Decimal:
    if order.limit_price is not None and order.base_size is not None:
        return (order.base_size - order.filled_base) * order.limit_price
    return order.hold_amount if order.side == "buy" else ZERO


def _working_order(order: Order) -> WorkingOrder:
    """Return the order as a strategy sees it."""
    return WorkingOrder(
        purpose=Purpose(order.purpose),
        order_type=OrderType(order.order_type),
        base_size=order.base_size if order.base_size is not None else order.filled_base,
        placed_at=order.submitted_at or order.created_at,
        filled_base=order.filled_base,
        limit_price=order.limit_price,
        levels=order.levels,
        by_person=_by_person(order),
        is_acknowledged=order.status in AT_THE_VENUE,
        is_cancelling=order.cancel_requested_at is not None,
    )
