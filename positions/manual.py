"""Closing a deal by hand at market, giving it up, its note; and the honest answer to it.

Closing at market:

1. A market close that is already on its way is neither doubled nor cancelled: the answer says that it is working.
2. Every other working order of the deal is cancelled and its final state known before anything is sold (F19, F21). If
   the venue does not confirm a cancel, nothing is sold and the answer says so.
3. What then remains, or the part of it that was asked for, is closed, really at market. A remainder too small to trade
   closes as dust (F29).
4. The answer is what the venue said: closed, or sent and not confirmed yet. A refusal is raised, never reported as
   success.

A perpetual is settled and looked at first, so that a liquidation is not answered with a close; its take profit and stop
stay at the venue until the position is gone: they only reduce.

Cancelling a deal cancels its orders (F22) and keeps the coins. A perpetual that holds something cannot be given up so:
its position would stay at the venue. Everything leaves an audit entry with the deal's owner.
The functions never run inside a transaction, because venues are called. Closing at a limit is in
:mod:`positions.limit_close`, adding in :mod:`positions.funds`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

import structlog
from django.db import transaction

from positions import brackets, execution, handling, keeping
from positions.booking import announce_position, lock_account, write
from positions.execution import Intent
from positions.models import Order, PerpsTerms, Position
from positions.perps_loop import tend_account
from positions.perps_news import DIFFERS
from positions.states import (
    BRACKET_PURPOSES,
    EXIT_REASON_OF,
    POSITION_FINAL,
    WORKING,
    ExitReason,
    PositionStatus,
    Purpose,
)
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, OrderRefused, TradebotError

__all__ = [
    "NOTE_LENGTH",
    "CloseFailure",
    "CloseState",
    "Closing",
    "cancel_deal",
    "close_all",
    "close_at_market",
    "set_note",
]

log = structlog.get_logger(__name__)
NOTE_LENGTH: Final = 5000


class CloseState(StrEnum):
    """How a close stands when the person gets an answer."""

    CLOSED = "closed"
    REDUCED = "reduced"
    DUST = "dust"
    WORKING = "working"
    NOTHING_HELD = "nothing_held"


_MESSAGES: Final = {
    CloseState.CLOSED: "The deal is closed.",
    CloseState.REDUCED: "That part is closed. The rest of the deal goes on.",
    CloseState.DUST: "What was left is too small to trade, so the deal is closed with it.",
    CloseState.WORKING: "The close has been sent. The venue has not confirmed all of it yet.",
    CloseState.NOTHING_HELD: "The deal had bought nothing. Its orders are cancelled.",
}


@dataclass(frozen=True, slots=True)
class Closing:
    """The answer to a close. ``order`` is the order that closes it, if there was one."""

    position: Position
    state: CloseState
    order: Order | None = None

    @property
    def message(self) -> str:
        """Return the answer in words."""
        return _MESSAGES[self.state]


@dataclass(frozen=True, slots=True)
class CloseFailure:
    """A deal of a bulk close that could not be closed, and why."""

    position: Position
    code: str
    message: str


def close_at_market(
    position: Position,
    actor: str,
    purpose: Purpose = Purpose.MANUAL_CLOSE,
    *,
    base: Decimal | None = None,
    share_pct: Decimal | None = None,
) -> Closing:
    """Close the deal at market (steps above). ``actor`` is the person's e-mail, or the part of the system.

    ``base`` (an amount) or ``share_pct`` (of what is left) closes a part. Raises InvalidInput for such a size that is
    not possible; OrderRefused: ``position_ended``, ``sale_is_final``, ``cancel_unconfirmed``, the refusals of
    :func:`execution.intend`, or the venue's own code when it rejects the close.
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    handling.refuse_sale(position)
    if position.product.is_perpetual:
        _bring_up_to_date(position)
        if position.status in POSITION_FINAL:
            return _answer(position, actor, CloseState.CLOSED)
    sequence = execution.next_sequence(position, purpose)  # of two requests at the same moment one is carried out
    is_part = base is not None or share_pct is not None
    if is_part:  # before any order is touched
        handling.part_to_close(position, base, share_pct, handling.exit_price(position))
    if (order := handling.market_close_under_way(position, is_part=is_part)) is not None:
        return Closing(position, _state_of(position, order), order)
    kept = BRACKET_PURPOSES if position.product.is_perpetual else frozenset()
    wanted = sorted(frozenset(Purpose) - kept)
    handling.stop_orders(position, actor, spare_market_close=True, purpose__in=wanted)
    if (order := handling.market_close_under_way(position, is_part=is_part)) is not None:  # written down meanwhile
        return Closing(position, _state_of(position, order), order)
    if position.status in POSITION_FINAL:  # a fill that raced with the cancel ended it, or it never held anything
        held = position.status == PositionStatus.CLOSED
        return _answer(position, actor, CloseState.CLOSED if held else CloseState.NOTHING_HELD)
    size = handling.part_to_close(position, base, share_pct, handling.exit_price(position)) if is_part else None
    intent = Intent(
        purpose=purpose,
        sequence=sequence,
        base_size=size,
        exit_reason=EXIT_REASON_OF[purpose],
        actor=actor,
    )
    handling.ask_for_funds(position)
    try:
        order = execution.intend(position, intent)
    except OrderRefused as refusal:
        if refusal.code == "closed_as_dust":
            return _answer(position, actor, CloseState.DUST)
        if size is None:
            raise
        raise handling.blame(refusal, "base" if base is not None else "share_pct") from refusal
    execution.submit(order)
    if position.product.is_perpetual:
        brackets.sync(position)
        order.refresh_from_db(fields=["status"])
    handling.refresh(position)
    if position.status not in POSITION_FINAL:
        handling.require_carried_out(order)
    return _answer(position, actor, _state_of(position, order), order)


def _bring_up_to_date(position: Position) -> None:
    """Book what the venue did to the position by itself; whoever closes does not wait for a venue that cannot tell."""
    try:
        tend_account(position.account_id)
    except TradebotError as error:
        log.info("close.not_up_to_date", position=position.pk, code=error.code)
    handling.refresh(position)


def _state_of(position: Position, order: Order) -> CloseState:
    if position.status in POSITION_FINAL:
        return CloseState.CLOSED
    return CloseState.WORKING if order.status in WORKING else CloseState.REDUCED


def close_all(
    positions: Iterable[Position], actor: str, purpose: Purpose = Purpose.MANUAL_CLOSE
) -> list[Closing | CloseFailure]:
    """Close these deals at market, one after the other, and return an answer for each. One failure stops none."""
    answers: list[Closing | CloseFailure] = []
    for position in positions:
        try:
            answers.append(close_at_market(position, actor, purpose))
        except TradebotError as error:
            answers.append(CloseFailure(position, error.code, error.message))
        except Exception:  # the loop's edge: the other deals are to be closed all the same
            log.exception("close.failed", position=position.pk)
            answers.append(
                CloseFailure(position, "error", "Something went wrong here. The deal is unchanged or closing.")
            )
    return answers


def cancel_deal(position: Position, actor: str) -> Position:
    """Give the deal up without selling: its orders are cancelled, its coins stay in the account (F22).

    Raises OrderRefused: ``position_ended``, ``close_it`` (a perpetual that its venue still holds), or
    ``cancel_unconfirmed`` when an order may still be filled.
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    if position.product.is_perpetual and execution.remaining_base(position) and position.error_code != DIFFERS:
        raise OrderRefused(
            "close_it", "A position in a perpetual stays at its venue until it is closed. Close it instead."
        )
    handling.stop_orders(position, actor)
    with transaction.atomic():
        lock_account(position.account_id)
        handling.refresh(position)
        if position.status == PositionStatus.CLOSED:
            raise OrderRefused("position_ended", "Its close was filled before it could be cancelled.", status="closed")
        if position.orders.filter(status__in=WORKING).exists():
            raise OrderRefused("cancel_unconfirmed", "An order was placed meanwhile. Nothing was changed.")
        if position.status not in POSITION_FINAL:
            write(
                position,
                status=PositionStatus.CANCELLED,
                exit_reason=ExitReason.KEPT if keeping.is_kept(position) else ExitReason.CANCELLED,
                closed_at=clock.now(),
            )
            if position.product.is_perpetual:
                PerpsTerms.objects.filter(position=position).update(ended_at=clock.now())
            announce_position(position)
        handling.record(position, actor, "deal_cancelled", base_kept=execution.remaining_base(position))
    return position


def set_note(position: Position, text: str, actor: str) -> Position:
    """Keep a note with the deal. Raises InvalidInput when it is too long."""
    note = text.strip()
    if len(note) > NOTE_LENGTH:
        raise InvalidInput("too_long", f"A note has at most {NOTE_LENGTH} characters.", field="notes")
    with transaction.atomic():
        write(position, notes=note)
        handling.record(position, actor, "deal_note")
    return position


def _answer(position: Position, actor: str, state: CloseState, order: Order | None = None) -> Closing:
    detail: dict[str, object] = {"state": str(state), "order": order.pk if order is not None else None}
    if order is not None and state is CloseState.REDUCED:
        detail["base"] = order.filled_base
    handling.record(position, actor, "deal_closed_by_hand", **detail)
    return Closing(position, state, order)
