"""Closing a deal at a price of one's own: placing, changing and cancelling the one limit close that a deal may have.

Placing (:func:`place`): what is asked for is checked first, so that a mistake costs nothing (F23). Then every other
working order of the deal is cancelled and its final state known, the machine's resting take profit among them, because
while a close rests nothing is added and nothing else sells (F3). What then remains, or the part asked for, is placed.

Changing (:func:`change`): the resting order is cancelled, its final state is known with every fill that raced with the
cancel, and only what it had not sold yet is placed anew (F19, F20). Without a confirmed cancel nothing is placed.

Whether it fills, expires or disappears while nobody looks is settled by reconciliation (F18). The functions never run
inside a transaction, because venues are called.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from positions import execution, handling
from positions.execution import Intent
from positions.handling import LARGEST, TimeInForce
from positions.models import Order, Position
from positions.states import (
    POSITION_FINAL,
    WORKING,
    ExitReason,
    OrderStatus,
    OrderType,
    PositionStatus,
    Purpose,
)
from tradebot.core.decimals import ZERO, for_money, plain
from tradebot.core.errors import InvalidInput, OrderRefused

__all__ = ["LimitClosing", "LimitState", "cancel", "change", "place", "resting"]


class LimitState(StrEnum):
    """How a limit close stands when the person gets an answer."""

    RESTING = "resting"
    SENT = "sent"
    REDUCED = "reduced"
    CLOSED = "closed"
    DUST = "dust"
    CANCELLED = "cancelled"


_MESSAGES: Final = {
    LimitState.RESTING: "The limit close waits in the order book.",
    LimitState.SENT: "The limit close has been sent. The venue has not confirmed it yet.",
    LimitState.REDUCED: "The limit close is filled. The rest of the deal goes on.",
    LimitState.CLOSED: "The limit close is filled and the deal is closed.",
    LimitState.DUST: "What was left is too small to trade, so the deal is closed with it.",
    LimitState.CANCELLED: "The limit close is cancelled.",
}


@dataclass(frozen=True, slots=True)
class LimitClosing:
    """The answer about a limit close. ``order`` is the newest one; ``raced``: it filled before it was cancelled."""

    position: Position
    state: LimitState
    order: Order | None = None
    raced: bool = False

    @property
    def message(self) -> str:
        """Return the answer in words."""
        if not self.raced:
            return _MESSAGES[self.state]
        if self.order is None:
            return "Another close of the deal was filled first: the deal is closed."
        if self.state is LimitState.CANCELLED and self.order is not None:
            sold, base = plain(self.order.filled_base), self.position.product.base
            return f"The limit close is cancelled; {sold} {base} of it had been filled."
        return f"It was filled before it could be cancelled. {_MESSAGES[self.state]}"


def resting(position: Position) -> Order | None:
    """Return the deal's limit close that was placed by hand and still works, None when there is none."""
    found: Order | None = (
        position.orders.filter(status__in=WORKING, purpose=Purpose.LIMIT_CLOSE).order_by("-id").first()
    )
    return found


def place(
    position: Position,
    actor: str,
    price: Decimal,
    *,
    base: Decimal | None = None,
    share_pct: Decimal | None = None,
    time_in_force: TimeInForce = TimeInForce.GTC,
    expires_at: datetime | None = None,
) -> LimitClosing:
    """Place a limit close of everything that is left, or of ``base`` or ``share_pct`` of it.

    Raises InvalidInput naming the field (``price``, ``base``, ``share_pct``, ``expires_at``); OrderRefused:
    ``position_ended``, ``sale_is_final``, ``use_take_profit`` (a perpetual), ``nothing_to_close``,
    ``limit_close_working`` (change that one), ``close_working`` (a market close is on its way), ``cancel_unconfirmed``,
    the refusals of :func:`execution.intend`, or the venue's own code.
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    handling.refuse_sale(position)
    if position.product.is_perpetual:
        raise OrderRefused("use_take_profit", "A perpetual closes at a limit by its take profit. Change that one.")
    sequence = execution.next_sequence(position, Purpose.LIMIT_CLOSE)  # of two requests at once one is carried out
    price = _price(position, price)
    until = handling.valid_until(time_in_force, expires_at)
    if position.status == PositionStatus.PENDING or execution.remaining_base(position) <= ZERO:
        raise OrderRefused("nothing_to_close", "This deal holds nothing.")
    handling.part_to_close(position, base, share_pct, price)  # before any order is touched
    if resting(position) is not None:
        raise OrderRefused("limit_close_working", "This deal has a limit close already. Change or cancel that one.")
    if handling.market_close_under_way(position) is not None:
        raise OrderRefused("close_working", "A close of this deal is on its way already.")
    handling.stop_orders(position, actor, "Nothing was placed", spare_market_close=True)
    if handling.market_close_under_way(position) is not None:  # written down meanwhile
        raise OrderRefused("close_working", "A close of this deal is on its way already.")
    if position.status in POSITION_FINAL:
        return _answer(position, actor, "limit_close_placed", LimitState.CLOSED, None, raced=True)
    size = handling.part_to_close(position, base, share_pct, price)
    size_field = "base" if share_pct is None else "share_pct"
    return _send(position, actor, "limit_close_placed", price, until, size, size_field, sequence)


def change(
    position: Position,
    actor: str,
    *,
    price: Decimal | None = None,
    time_in_force: TimeInForce | None = None,
    expires_at: datetime | None = None,
) -> LimitClosing:
    """Replace the resting limit close by one at another price or with another end, for what it has not sold yet.

    What is left out stays. Raises InvalidInput naming the field; OrderRefused: ``position_ended``, ``no_limit_close``,
    ``cancel_unconfirmed`` (nothing was placed), or what refused the new order: then the deal has no limit close.
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    order = _required(position)
    if price is None and time_in_force is None and expires_at is None:
        raise InvalidInput("required", "Give another price, or another end.", field="price")
    wanted = order.limit_price if price is None else _price(position, price)
    if wanted is None:
        raise OrderRefused("no_limit_close", "This deal has no limit close.")
    until = order.expires_at
    if time_in_force is not None or expires_at is not None:
        until = handling.valid_until(time_in_force or TimeInForce.GTD, expires_at)
    if (wanted, until) == (order.limit_price, order.expires_at) and order.status != OrderStatus.INTENDED:
        return LimitClosing(position, _state_of(position, order), order)
    ended = _end(position, actor, order, pk=order.pk)
    with for_money():
        left = min((ended.base_size or ZERO) - ended.filled_base, execution.remaining_base(position))
    if position.status in POSITION_FINAL or ended.status == OrderStatus.FILLED or left <= ZERO:
        return _answer(position, actor, "limit_close_changed", _state_of(position, ended), ended, raced=True)
    try:
        size = handling.part_to_close(position, left, None, wanted)
        return _send(
            position, actor, "limit_close_changed", wanted, until, size, "price", order.sequence + 1, order.limit_price
        )
    except (InvalidInput, OrderRefused) as error:
        error.field = error.field and "price"
        error.message = f"The old limit close is cancelled, but the new one was not placed: {error.message}"
        raise


def cancel(position: Position, actor: str) -> LimitClosing:
    """Cancel the resting limit close and say what became of it: it may have been filled at that moment (F19).

    Raises OrderRefused: ``position_ended``, ``no_limit_close``, ``cancel_unconfirmed`` (it may still be filled).
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    ended = _end(position, actor, _required(position), purpose=Purpose.LIMIT_CLOSE)
    filled = position.status in POSITION_FINAL or ended.status == OrderStatus.FILLED
    state = _state_of(position, ended) if filled else LimitState.CANCELLED
    return _answer(position, actor, "limit_close_cancelled", state, ended, raced=bool(ended.filled_base))


# Parts ----------------------------------------------------------------------------------------------------------------


def _required(position: Position) -> Order:
    order = resting(position)
    if order is None:
        raise OrderRefused("no_limit_close", "This deal has no limit close.")
    return order


def _price(position: Position, price: Decimal) -> Decimal:
    """Return the price if an order for the whole deal can be written down at it. Raises InvalidInput."""
    handling.checked_amount(price, "price")
    with for_money():
        if price * execution.remaining_base(position) >= LARGEST:
            raise InvalidInput("out_of_range", "No order can be that large.", field="price")
    return price


def _end(position: Position, actor: str, order: Order, **wanted: Any) -> Order:
    """Cancel the ``wanted`` orders, ``order`` among them, know their final state, and return it as it is then."""
    handling.stop_orders(position, actor, "Nothing was changed", **wanted)
    order.refresh_from_db()
    return order


def _send(
    position: Position,
    actor: str,
    action: str,
    price: Decimal,
    until: datetime | None,
    size: Decimal | None,
    size_field: str,
    sequence: int,
    was: Decimal | None = None,
) -> LimitClosing:
    intent = Intent(
        purpose=Purpose.LIMIT_CLOSE,
        sequence=sequence,
        order_type=OrderType.LIMIT,
        base_size=size,
        limit_price=price,
        expires_at=until,
        exit_reason=ExitReason.LIMIT_CLOSE,
        actor=actor,
    )
    handling.ask_for_funds(position)
    try:
        order = execution.intend(position, intent)
    except InvalidInput as error:
        error.field = {"limit_price": "price"}.get(error.field or "", error.field)
        raise
    except OrderRefused as refusal:
        if refusal.code == "closed_as_dust":
            return _answer(position, actor, action, LimitState.DUST, None)
        raise handling.blame(refusal, size_field if size is not None else "price") from refusal
    execution.submit(order)
    handling.refresh(position)
    if position.status not in POSITION_FINAL:
        handling.require_carried_out(order)
    return _answer(position, actor, action, _state_of(position, order), order, was=was)


def _state_of(position: Position, order: Order) -> LimitState:
    if position.status in POSITION_FINAL:
        return LimitState.CLOSED
    if order.status == OrderStatus.FILLED:
        return LimitState.REDUCED
    return LimitState.RESTING if order.status in (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED) else LimitState.SENT


def _answer(
    position: Position,
    actor: str,
    action: str,
    state: LimitState,
    order: Order | None,
    *,
    raced: bool = False,
    was: Decimal | None = None,
) -> LimitClosing:
    detail: dict[str, object] = {"state": str(state)}
    if order is not None:
        detail |= {"order": order.pk, "price": order.limit_price, "base": order.base_size, "until": order.expires_at}
    if was is not None:
        detail["was"] = was
    handling.record(position, actor, action, **detail)
    return LimitClosing(position, state, order, raced)
