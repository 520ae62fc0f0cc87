"""Adding to a deal by hand, and how much it may spend at most.

An addition has the purpose ``manual_add`` and buys no ladder level, so it is no safety order. It stays within the
deal's ceiling; whoever wants more raises the ceiling with the same request, and both are carried out or neither. What
rests in the book to be bought counts as spent. The functions never run inside a transaction, because venues are called.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from django.db import transaction

from positions import execution, handling
from positions.booking import announce_position, lock_account, write
from positions.execution import Intent
from positions.handling import TimeInForce
from positions.models import Order, Position
from positions.states import ENTRY_PURPOSES, WORKING, Direction, OrderStatus, OrderType, PositionStatus, Purpose
from tradebot.core.decimals import ZERO, ceil_to, floor_to, for_money, plain, quantize
from tradebot.core.errors import InvalidInput, OrderRefused
from tradebot.core.words import Side

__all__ = ["AddState", "Addition", "Room", "add_funds", "cancel_add", "resting_add", "room_of", "set_ceiling"]


@dataclass(frozen=True, slots=True)
class Room:
    """What the deal may still spend, in quote: ``ceiling`` less what is ``spent`` and what its entries ``wait`` for.

    A deal without a ceiling has ``ceiling`` and ``left`` None.
    """

    ceiling: Decimal | None
    spent: Decimal
    waiting: Decimal

    @property
    def used(self) -> Decimal:
        """Return the least that the ceiling can be."""
        return self.spent + self.waiting

    @property
    def left(self) -> Decimal | None:
        """Return what is left under the ceiling, never below zero."""
        return None if self.ceiling is None else max(self.ceiling - self.used, ZERO)


class AddState(StrEnum):
    """How an addition stands when the person gets an answer."""

    FILLED = "filled"
    RESTING = "resting"
    SENT = "sent"
    CANCELLED = "cancelled"


_MESSAGES: Final = {
    AddState.FILLED: "The deal has been added to.",
    AddState.RESTING: "The order waits in the order book.",
    AddState.SENT: "The order has been sent. The venue has not confirmed all of it yet.",
    AddState.CANCELLED: "The order is cancelled.",
}


@dataclass(frozen=True, slots=True)
class Addition:
    """The answer to adding funds. ``raised_to`` is the new ceiling, if it was raised for this."""

    position: Position
    state: AddState
    order: Order
    raised_to: Decimal | None = None

    @property
    def message(self) -> str:
        """Return the answer in words."""
        more = ""
        if self.raised_to is not None:
            more = f" Its ceiling is {plain(self.raised_to)} {self.position.product.quote} now."
        if self.state is AddState.CANCELLED and self.order.filled_base:
            more = f" {plain(self.order.filled_base)} {self.position.product.base} of it had been filled."
        return _MESSAGES[self.state] + more


def room_of(position: Position) -> Room:
    """Return how much the deal may still spend."""
    spent = position.quote_spent if position.direction == Direction.LONG else position.quote_received
    waiting = ZERO
    with for_money():
        for order in position.orders.filter(status__in=WORKING, purpose__in=ENTRY_PURPOSES):
            price = order.limit_price or position.average_price or ZERO
            size = order.quote_size if order.quote_size is not None else (order.base_size or ZERO) * price
            waiting += max(size - order.filled_quote, ZERO)
    return Room(position.budget_quote or None, spent, quantize(waiting))


def resting_add(position: Position) -> Order | None:
    """Return the addition by hand that still works, None when there is none."""
    found: Order | None = position.orders.filter(status__in=WORKING, purpose=Purpose.MANUAL_ADD).order_by("-id").first()
    return found


def add_funds(
    position: Position,
    amount: Decimal,
    actor: str,
    *,
    price: Decimal | None = None,
    time_in_force: TimeInForce = TimeInForce.GTC,
    expires_at: datetime | None = None,
    raise_ceiling: bool = False,
) -> Addition:
    """Add ``amount`` of the quote currency to the deal: at market, or as a limit order at ``price``.

    ``raise_ceiling`` raises the ceiling as far as the amount needs. Raises InvalidInput naming the field (``amount``,
    ``price``, ``expires_at``); MissingInformation without a price; OrderRefused: ``position_ended``,
    ``position_not_open``, ``exit_working``, ``add_working``, the refusals of :func:`execution.intend`, or the venue's
    own code.
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    handling.refuse_sale(position)
    if position.product.is_perpetual:
        raise OrderRefused("not_added_to", "A position in a perpetual is opened by one order and not added to.")
    sequence = execution.next_sequence(position, Purpose.MANUAL_ADD)  # of two requests at once one is carried out
    handling.checked_amount(amount, "amount")
    if price is not None:
        handling.checked_amount(price, "price")
    elif time_in_force is not TimeInForce.GTC or expires_at is not None:
        raise InvalidInput("contradiction", "Only a limit order has an end.", field="expires_at")
    until = handling.valid_until(time_in_force, expires_at)
    if position.status == PositionStatus.CLOSING:
        raise OrderRefused("exit_working", "A close of this deal is working: nothing is added. Cancel it first.")
    if resting_add(position) is not None:
        raise OrderRefused("add_working", "An addition to this deal is working already. Cancel that one first.")
    intent = _intent(position, sequence, amount, actor, price, until)
    handling.ask_for_funds(position)
    with transaction.atomic():
        lock_account(position.account_id)
        handling.refresh(position)
        raised_to = _make_room(position, amount, raise_ceiling=raise_ceiling)
        try:
            order = execution.intend(position, intent)
        except InvalidInput as error:
            error.field = {"limit_price": "price"}.get(error.field or "", error.field)
            raise
        except OrderRefused as refusal:
            raise handling.blame(refusal, "amount") from refusal
        detail: dict[str, object] = {"order": order.pk, "amount": amount, "price": order.limit_price}
        if raised_to is not None:
            detail["raised_to"] = raised_to
        handling.record(position, actor, "deal_funds_added", **detail)
    execution.submit(order)
    handling.refresh(position)
    try:
        handling.require_carried_out(order)
    except OrderRefused as refusal:
        if raised_to is not None:
            refusal.message += f" The ceiling stays at {plain(raised_to)} {position.product.quote}."
        raise
    return Addition(position, _state_of(order), order, raised_to)


def cancel_add(position: Position, actor: str) -> Addition:
    """Cancel the addition that rests, and say what became of it.

    Raises OrderRefused: ``position_ended``, ``no_addition``, ``cancel_unconfirmed`` (it may still be filled).
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    order = resting_add(position)
    if order is None:
        raise OrderRefused("no_addition", "No addition to this deal is working.")
    handling.stop_orders(position, actor, "It may still be filled", purpose=Purpose.MANUAL_ADD)
    order.refresh_from_db()
    handling.record(position, actor, "deal_add_cancelled", order=order.pk, base_filled=order.filled_base)
    state = AddState.FILLED if order.status == OrderStatus.FILLED else AddState.CANCELLED
    return Addition(position, state, order)


def set_ceiling(position: Position, budget_quote: Decimal, actor: str) -> Position:
    """Set the most that the deal may spend, in quote: never less than what it has spent or is about to.

    Raises InvalidInput (``budget_quote``) with the numbers, OrderRefused (``position_ended``).
    """
    handling.checked_amount(budget_quote, "budget_quote")
    with transaction.atomic():
        lock_account(position.account_id)
        handling.refresh(position)
        handling.refuse_ended(position)
        room, quote = room_of(position), position.product.quote
        ceiling = floor_to(budget_quote, position.product.quote_increment)
        if ceiling < room.used or ceiling <= ZERO:
            waiting = f" and {plain(room.waiting)} wait in orders" if room.waiting else ""
            raise InvalidInput(
                "below_spent",
                f"The deal has spent {plain(room.spent)} {quote}{waiting}; its ceiling cannot be below that.",
                field="budget_quote",
                spent=room.spent,
                waiting=room.waiting,
                asked=budget_quote,
            )
        before = position.budget_quote
        if ceiling != before:
            write(position, budget_quote=ceiling)
            announce_position(position)
            handling.record(position, actor, "deal_ceiling", was=before, ceiling=ceiling)
    return position


# Parts ----------------------------------------------------------------------------------------------------------------


def _intent(
    position: Position, sequence: int, amount: Decimal, actor: str, price: Decimal | None, until: datetime | None
) -> Intent:
    """Return the order: a market buy is sized in quote, everything else in base at its price."""
    side = Direction(position.direction).entry_side
    base = quote = reference = None
    if price is None and side is Side.BUY:
        quote = amount
    else:
        if price is None:
            reference = handling.current_quote(position).bid
        with for_money():
            base = amount / (price or reference or ZERO)
        if base >= handling.LARGEST:
            raise InvalidInput("out_of_range", "At that price it is more than any order can be.", field="price")
    return Intent(
        purpose=Purpose.MANUAL_ADD,
        sequence=sequence,
        order_type=OrderType.MARKET if price is None else OrderType.LIMIT,
        base_size=base,
        quote_size=quote,
        limit_price=price,
        expires_at=until,
        actor=actor,
        reference_price=reference,
    )


def _make_room(position: Position, amount: Decimal, *, raise_ceiling: bool) -> Decimal | None:
    """Raise the ceiling if the amount needs it and that was asked for; return the new one. Raises InvalidInput."""
    room, product = room_of(position), position.product
    if room.left is None or amount <= room.left:
        return None
    if not raise_ceiling:
        raise InvalidInput(
            "ceiling_reached",
            f"The deal may spend {plain(room.left)} {product.quote} more, its ceiling is "
            f"{plain(room.ceiling or ZERO)} {product.quote}. Lower the amount, or raise the ceiling with it.",
            field="amount",
            remaining=room.left,
            ceiling=room.ceiling,
            asked=amount,
        )
    with for_money():
        raised = ceil_to(room.used + amount, product.quote_increment)
    write(position, budget_quote=raised)
    return raised


def _state_of(order: Order) -> AddState:
    if order.status == OrderStatus.FILLED:
        return AddState.FILLED
    resting = order.status in (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED) and order.order_type == OrderType.LIMIT
    return AddState.RESTING if resting else AddState.SENT
