"""What a person does to a deal by hand, and the honest answer to it.

Closing at market:

1. A market close that is already on its way is not doubled: the answer says that it is working.
2. Every working order of the deal is cancelled and its final state known before anything is sold (F19, F21). If the
   venue does not confirm a cancel, nothing is sold and the answer says so.
3. What then remains is closed, really at market. A remainder too small to trade closes as dust (F29).
4. The answer is what the venue said: closed, or sent and not confirmed yet. A refusal is raised, never reported as
   success.

Cancelling a deal cancels its orders (F22) and keeps the coins. Everything leaves an audit entry with the deal's owner.
The functions never run inside a transaction, because venues are called.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

import structlog
from django.db import transaction

from accounts.exchanges.factory import venue_of
from accounts.exchanges.paper_fills import walked
from marketdata import market
from positions import execution, ledger
from positions.booking import announce_position, is_dust, lock_account, totals_of, write
from positions.execution import Intent
from positions.models import Order, Position
from positions.reconcile import reconcile_account
from positions.states import (
    EXIT_PURPOSES,
    EXIT_REASON_OF,
    FINAL,
    POSITION_FINAL,
    WORKING,
    Direction,
    ExitReason,
    OrderStatus,
    OrderType,
    PositionStatus,
    Purpose,
)
from tradebot.core import audit, clock
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.errors import InvalidInput, MissingInformation, OrderRefused, TradebotError

__all__ = [
    "CloseFailure",
    "ClosePreview",
    "CloseState",
    "Closing",
    "cancel_deal",
    "close_all",
    "close_at_market",
    "close_preview",
    "set_note",
]

log = structlog.get_logger(__name__)
NOTE_LENGTH: Final = 5000


class CloseState(StrEnum):
    """How a close stands when the person gets an answer."""

    CLOSED = "closed"
    DUST = "dust"
    WORKING = "working"
    NOTHING_HELD = "nothing_held"


_MESSAGES: Final = {
    CloseState.CLOSED: "The deal is closed.",
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


@dataclass(frozen=True, slots=True)
class ClosePreview:
    """What closing at market now would come to. Amounts are in quote, ``base`` in base.

    ``expected_price`` is the average over the book's levels, ``slippage_pct`` its distance from the best one.
    ``is_dust`` says that the remainder is too small to trade.
    """

    bid: Decimal
    ask: Decimal
    base: Decimal
    expected_price: Decimal
    slippage_pct: Decimal
    fee_quote: Decimal
    value_quote: Decimal
    profit_quote: Decimal
    profit_pct: Decimal
    is_dust: bool


def close_at_market(position: Position, actor: str, purpose: Purpose = Purpose.MANUAL_CLOSE) -> Closing:
    """Close the deal at market (steps above). ``actor`` is the person's e-mail, or the part of the system.

    Raises OrderRefused: ``position_ended``, ``cancel_unconfirmed``, the refusals of :func:`execution.intend`, or the
    venue's own code when it rejects the close.
    """
    _refresh(position)
    if position.status in POSITION_FINAL:
        raise OrderRefused("position_ended", f"This deal is {position.status} already.", status=str(position.status))
    if (order := _market_close_under_way(position)) is not None:
        return Closing(position, CloseState.CLOSED if position.status in POSITION_FINAL else CloseState.WORKING, order)
    _stop_orders(position, actor)
    if position.status in POSITION_FINAL:  # a fill that raced with the cancel ended it, or it never held anything
        held = position.status == PositionStatus.CLOSED
        return _answer(position, actor, CloseState.CLOSED if held else CloseState.NOTHING_HELD)
    intent = Intent(
        purpose=purpose,
        sequence=execution.next_sequence(position, purpose),
        exit_reason=EXIT_REASON_OF[purpose],
        actor=actor,
    )
    try:
        order = execution.intend(position, intent)
    except OrderRefused as refusal:
        if refusal.code != "closed_as_dust":
            raise
        return _answer(position, actor, CloseState.DUST)
    execution.submit(order)
    _refresh(position)
    if order.status in FINAL and position.status not in POSITION_FINAL and order.status != OrderStatus.FILLED:
        message = order.error_text or f"The venue ended the close as {order.status}."
        raise OrderRefused(order.error_code or str(order.status), message, order=order.pk)
    closed = position.status in POSITION_FINAL
    return _answer(position, actor, CloseState.CLOSED if closed else CloseState.WORKING, order)


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

    Raises OrderRefused: ``position_ended``, or ``cancel_unconfirmed`` when an order may still be filled.
    """
    _refresh(position)
    if position.status in POSITION_FINAL:
        raise OrderRefused("position_ended", f"This deal is {position.status} already.", status=str(position.status))
    _stop_orders(position, actor)
    with transaction.atomic():
        lock_account(position.account_id)
        _refresh(position)
        if position.status == PositionStatus.CLOSED:
            raise OrderRefused("position_ended", "Its close was filled before it could be cancelled.", status="closed")
        if position.orders.filter(status__in=WORKING).exists():
            raise OrderRefused("cancel_unconfirmed", "An order was placed meanwhile. Nothing was changed.")
        if position.status not in POSITION_FINAL:
            write(
                position,
                status=PositionStatus.CANCELLED,
                exit_reason=ExitReason.CANCELLED,
                closed_at=clock.now(),
            )
            announce_position(position)
        _record(position, actor, "deal_cancelled", base_kept=execution.remaining_base(position))
    return position


def set_note(position: Position, text: str, actor: str) -> Position:
    """Keep a note with the deal. Raises InvalidInput when it is too long."""
    note = text.strip()
    if len(note) > NOTE_LENGTH:
        raise InvalidInput("too_long", f"A note has at most {NOTE_LENGTH} characters.", field="notes")
    with transaction.atomic():
        write(position, notes=note)
        _record(position, actor, "deal_note")
    return position


def close_preview(position: Position) -> ClosePreview:
    """Return what closing at market now would come to, from the order book.

    Raises OrderRefused (``nothing_to_close``); MissingInformation and VenueUnavailable when a price, the book or the
    fees are not known.
    """
    product, direction = position.product, Direction(position.direction)
    totals = totals_of(position)
    base = totals.remaining_base
    if position.status in POSITION_FINAL or base <= ZERO:
        raise OrderRefused("nothing_to_close", "This deal holds nothing.")
    exchange = position.account.exchange
    quote = market.fresh_quotes(exchange, [product.symbol]).get(product.symbol)
    if quote is None:
        raise MissingInformation("missing_price", f"There is no current price of {product.symbol}.")
    book = market.book(exchange, product.symbol)
    levels = book.bids if direction is Direction.LONG else book.asks
    if not levels:
        raise MissingInformation("empty_book", f"Nobody trades {product.symbol} at the moment.")
    price = walked(levels, base=base)
    best = levels[0].price
    taker = venue_of(position.account).fee_rates()[1]
    result = ledger.unrealised(totals, price, taker)
    return ClosePreview(
        bid=quote.bid,
        ask=quote.ask,
        base=base,
        expected_price=price,
        slippage_pct=(best - price) * direction.sign / best * HUNDRED,
        fee_quote=base * price * taker,
        value_quote=result.value,
        profit_quote=result.profit,
        profit_pct=result.pct,
        is_dust=is_dust(position, base, price),
    )


# Parts ----------------------------------------------------------------------------------------------------------------


def _refresh(position: Position) -> None:
    position.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))


def _market_close_under_way(position: Position) -> Order | None:
    """Return the deal's market close that is on its way, after one more look at it; None when there is none."""
    order = position.orders.filter(
        status__in=WORKING, purpose__in=EXIT_PURPOSES, order_type=OrderType.MARKET, cancel_requested_at=None
    ).first()
    if order is None:
        return None
    _look(position)
    order.refresh_from_db()
    return order if order.status in WORKING or position.status in POSITION_FINAL else None


def _look(position: Position) -> None:
    """Ask the venue about the account's working orders; what cannot be known now stays as it is."""
    try:
        reconcile_account(position.account_id)
    except TradebotError as error:
        log.info("manual.venue_not_reached", account=position.account_id, code=error.code)
    _refresh(position)


def _stop_orders(position: Position, actor: str) -> None:
    """Cancel every working order and know its final state. Raises OrderRefused (``cancel_unconfirmed``) otherwise."""
    orders = list(position.orders.filter(status__in=WORKING).select_related("account", "position__product"))
    for order in orders:
        execution.cancel(order, actor)
    if any(order.status in WORKING for order in orders):
        _look(position)
    if position.orders.filter(status__in=WORKING).exists():
        raise OrderRefused(
            "cancel_unconfirmed",
            "The venue has not confirmed that the deal's orders are cancelled. Nothing was sold; try again soon.",
        )
    _refresh(position)


def _answer(position: Position, actor: str, state: CloseState, order: Order | None = None) -> Closing:
    detail = {"state": str(state), "order": order.pk if order is not None else None}
    _record(position, actor, "deal_closed_by_hand", **detail)
    return Closing(position, state, order)


def _record(position: Position, actor: str, action: str, **detail: object) -> None:
    name = f"deal {position.deal_number}" if position.deal_number else f"attempt {position.attempt_number}"
    target = f"{name} {position.product.symbol}"
    audit.record(position.account.owner_id, actor, action, target, position_id=position.pk, **detail)
