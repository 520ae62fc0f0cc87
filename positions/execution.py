"""The order protocol: everything that places, cancels or books an order goes through here.

1. Intend (:mod:`positions.intents`): the order is written down, with its hold, before the venue hears of it.
2. Submit: the order is marked ``submitted`` and that is committed *before* anything is sent. Whoever changes the mark
   sends; nobody else does (F1). Then the venue is asked to place it under the order's own client id.
   A clear acceptance is applied as a report. A clear rejection ends the order, releases its hold, and fails a deal that
   has no fill (F6). Anything else (time-out, dropped connection, 5xx, process death) leaves it ``submitted``: it may
   exist, so it is asked for by client id and never sent again blindly (F5).
3. Apply reports (:mod:`positions.booking`): the only writer of fills.
4. Reconcile (:mod:`positions.reconcile`): every order that is not final is asked for until it is.

Nothing that talks to a venue runs inside a transaction: what is committed before the call must survive it.
"""

from __future__ import annotations

from dataclasses import replace

import structlog
from django.db import transaction

from accounts.exchanges.base import NewOrder, OrderReport, Venue
from accounts.exchanges.factory import venue_of
from positions.booking import (
    apply_report,
    close_as_dust,
    conclude,
    lock_order,
    recompute,
    ref_of,
    remaining_base,
    totals_by_position,
    totals_of,
    write,
)
from positions.intents import Intent, PerpsOpening, client_order_id, free_balance, intend, intend_open, next_sequence
from positions.models import Order, PerpsTerms
from positions.states import EXIT_PURPOSES, FINAL, MACHINES, OrderStatus, OrderType, Side
from tradebot.core import clock, once
from tradebot.core.errors import MissingInformation, VenueDenied, VenueError, VenueRejected, VenueThrottled
from tradebot.core.words import MarginMode

__all__ = [
    "Intent",
    "PerpsOpening",
    "apply_report",
    "as_placed",
    "cancel",
    "client_order_id",
    "close_as_dust",
    "free_balance",
    "intend",
    "intend_open",
    "next_sequence",
    "recompute",
    "remaining_base",
    "send",
    "submit",
    "totals_by_position",
    "totals_of",
]

log = structlog.get_logger(__name__)


def submit(order: Order) -> Order:
    """Send an intended order to its account's venue and return it as it is then (``order.position`` included).

    An order that is not ``intended`` any more is returned untouched: somebody else has sent or cancelled it. Raises
    RuntimeError inside a transaction, because the mark must be committed before the call.
    """
    with transaction.atomic(durable=True):
        claimed = Order.objects.filter(pk=order.pk, status=OrderStatus.INTENDED).update(
            status=OrderStatus.SUBMITTED, submitted_at=clock.now()
        )
    order.refresh_from_db(from_queryset=Order.objects.select_related("account", "position__product"))
    return send(order) if claimed else order


def send(order: Order) -> Order:
    """Put a ``submitted`` order to the venue under its client id. For :func:`submit` and reconciliation only."""
    try:
        venue = venue_of(order.account)
    except (MissingInformation, VenueDenied) as error:  # there is nothing to send it with
        conclude(order, OrderStatus.REJECTED, error.code, error.message)
        return order
    try:
        report = venue.place(as_placed(order))
    except (VenueRejected, VenueThrottled) as error:  # both mean that nothing was placed
        log.info("order.rejected", order=order.pk, code=error.code)
        conclude(order, OrderStatus.REJECTED, error.code, error.message)
    except VenueError as error:
        log.warning("order.outcome_unknown", order=order.pk, code=error.code)
    except Exception:  # whatever happened, the venue may have the order (F5)
        log.exception("order.outcome_unknown", order=order.pk)
    else:
        apply_report(order, report)
    return order


def as_placed(order: Order) -> NewOrder:
    """Return the order in the words of the venue contract."""
    placed = NewOrder(
        client_order_id=order.client_order_id,
        symbol=order.position.product.symbol,
        side=Side(order.side),
        order_type=OrderType(order.order_type),
        base_size=order.base_size,
        quote_size=order.quote_size,
        limit_price=order.limit_price,
        expires_at=order.expires_at,
        reference_price=order.reference_price,
    )
    if not order.position.product.is_perpetual:
        return placed
    if order.purpose in EXIT_PURPOSES:
        return replace(placed, reduce_only=True, trigger_price=order.trigger_price)
    terms = PerpsTerms.objects.get(position_id=order.position_id)
    return replace(placed, leverage=terms.leverage, margin_mode=MarginMode(terms.margin_mode))


def cancel(order: Order, actor: str) -> Order:
    """Ask the venue to cancel and return the order as it is then; final only when the venue has said so.

    Fills that raced with the cancel are booked first (F19). An order that was never sent is simply ended. The answer
    may be unknown: then the order keeps working, is marked as asked to cancel, and reconciliation goes on.
    """
    if not _request_cancel(order, actor):
        return order
    try:
        report = _cancel_at(venue_of(order.account), order)
    except VenueError as error:
        log.warning("cancel.outcome_unknown", order=order.pk, code=error.code)
    except Exception:  # the cancel may have been carried out: reconciliation finds out
        log.exception("cancel.outcome_unknown", order=order.pk)
    else:
        if report is not None:
            apply_report(order, report)
    return order


def _request_cancel(order: Order, actor: str) -> bool:
    """Note that ``order`` is to be cancelled; return whether the venue has to be asked."""
    with transaction.atomic(durable=True):
        lock_order(order)
        if order.status not in FINAL and (not order.cancel_actor or order.cancel_actor in MACHINES):
            write(order, cancel_actor=actor[:254])
            once.acted("cancel", order.pk)
        if order.status == OrderStatus.INTENDED:
            conclude(order, OrderStatus.CANCELLED, "", f"Cancelled by {actor} before it was sent.")
        elif order.status not in FINAL:
            write(order, cancel_requested_at=clock.now(), error_text=f"Cancelled by {order.cancel_actor}."[:300])
    return order.status not in FINAL


def _cancel_at(venue: Venue, order: Order) -> OrderReport | None:
    try:
        return venue.cancel(ref_of(order))
    except VenueRejected:
        return venue.find(ref_of(order))  # final already, or not known (yet)
