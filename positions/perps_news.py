"""What a venue does to perpetual deals by itself: funding, liquidation, its positions. Books, never trades.

:func:`read` asks one account's venue and brings its perpetual deals up to date:

1. Liquidations become orders of the deal (purpose ``liquidation``), written down and reported through ``apply_report``
   like any other, once per venue order id. Everybody who may see the account is told.
2. Funding becomes a :class:`~positions.models.FundingPayment`, once per venue id; the deal's result is derived anew.
   A payment belongs to the deal that held a position in its product at that moment; money for positions of nobody
   here is not booked. Venues tell some payments late, after newer ones, so a day before the newest known is read again.
3. The venue's positions give margin and liquidation price. One whose size is not the deal's is noted, and believed at a
   second look a minute later (F12): then it is an alarm on the deal. Nothing is adopted and nothing is traded (F11).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Q

from accounts.access import people_of_account
from accounts.exchanges.base import ForcedClose, FundingMovement, VenuePosition, VenueTrade, perps_of
from accounts.exchanges.factory import venue_of
from accounts.models import Account
from notifications import outbox
from positions import booking
from positions.booking import announce, announce_position, apply_report, lock_account, write
from positions.execution import client_order_id, next_sequence
from positions.models import FundingPayment, Order, PerpsTerms, Position
from positions.states import (
    BRACKET_PURPOSES,
    WORKING,
    Direction,
    ExitReason,
    OrderStatus,
    OrderType,
    Purpose,
)
from tradebot.core import clock
from tradebot.core.decimals import ZERO, plain, quantize
from tradebot.core.money import amount_total

__all__ = ["DIFFERS", "LATE", "TERMS_DIFFER", "liquidates_ours", "read"]

log = structlog.get_logger(__name__)

DIFFERS: Final = "venue_differs"
TERMS_DIFFER: Final = "venue_terms_differ"
"""The deal's error code while the venue's position has another size."""
GRACE: Final = timedelta(seconds=60)
LATE: Final = timedelta(days=1)
"""How late a venue may tell: so far before the newest known payment is read again, and so long after a deal's end."""
OVERLAP: Final = timedelta(minutes=5)
"""How far apart the venue's clock and ours may be."""


def read(account_id: int) -> list[Position]:
    """Bring the account's perpetual deals up to what its venue says and return those that are live.

    In the account's scope, never inside a transaction. Raises VenueUnavailable, VenueDenied; what was read before is
    booked then.
    """
    now = clock.now()
    since = Q(ended_at=None) | Q(ended_at__gte=now - LATE)
    terms = list(PerpsTerms.objects.filter(since, account_id=account_id).select_related("position__account", "product"))
    if not terms:
        return []
    venue = perps_of(venue_of(Account.objects.get(pk=account_id)))
    # Executions can be many, so it takes a position that differs to look far back for a liquidation that was told late.
    forced_since = min(_asked_since(row, LATE if row.differs_since else OVERLAP) for row in terms)
    for forced in venue.forced_closes_since(forced_since):
        _book_forced(account_id, terms, forced)
    _book_funding(account_id, terms, venue.funding_since(min(_asked_since(row, LATE) for row in terms)))
    held = {position.symbol: position for position in venue.positions()}
    live = []
    for row in terms:
        row.refresh_from_db()
        if row.ended_at is None:
            _compare(row, held.get(row.product.symbol), now)
            _compare_terms(row, held.get(row.product.symbol))
            live.append(row.position)
    return live


def _asked_since(terms: PerpsTerms, back: timedelta) -> datetime:
    """Return from when on to ask for a deal: so far back from its newest known payment, but not before it began."""
    began = terms.position.created_at
    return max((terms.last_funding_at or began) - back, began - OVERLAP)


# Liquidation ----------------------------------------------------------------------------------------------------------


def _book_forced(account_id: int, terms: Iterable[PerpsTerms], forced: ForcedClose) -> None:
    with transaction.atomic():
        lock_account(account_id)
        if Order.objects.filter(account_id=account_id, venue_order_id=forced.report.venue_order_id).exists():
            return
        at = forced.report.trades[0].at if forced.report.trades else clock.now()
        row = _whose(terms, forced.symbol, at)
        if row is None or Direction(row.position.direction).exit_side is not forced.side:
            log.warning("liquidation.of_nobody", account=account_id, symbol=forced.symbol)
            return
        position = row.position
        sequence = next_sequence(position, Purpose.LIQUIDATION)
        order = Order.objects.create(
            account_id=account_id,
            position=position,
            client_order_id=client_order_id(position.uid, Purpose.LIQUIDATION, sequence),
            purpose=Purpose.LIQUIDATION,
            sequence=sequence,
            side=forced.side,
            order_type=OrderType.MARKET,
            base_size=forced.base,
            exit_reason=ExitReason.LIQUIDATION,
            status=OrderStatus.SUBMITTED,
            submitted_at=clock.now(),
            actor="venue",
        )
        apply_report(order, replace(forced.report, client_order_id=order.client_order_id))
        position.refresh_from_db()
        _tell(position, "liquidated", f"was liquidated by the venue: {plain(forced.base)} at {_price(forced)}.")


def liquidates_ours(account_id: int, trades: Sequence[VenueTrade]) -> set[str]:
    """Return the ids of those trades that are liquidations of deals here, booked or yet to be booked by :func:`read`.

    One query, none where no trade is forced.
    """
    forced = [row for row in trades if row.is_forced]
    if not forced:
        return set()
    rows = PerpsTerms.objects.filter(account_id=account_id, product__symbol__in={row.symbol for row in forced})
    terms = list(rows.select_related("position", "product"))
    found = set()
    for row in forced:
        whose = _whose(terms, row.symbol, row.trade.at)
        if whose is not None and Direction(whose.position.direction).exit_side is row.side:
            found.add(row.trade.trade_id)
    return found


def _price(forced: ForcedClose) -> str:
    base = sum((trade.base for trade in forced.report.trades), ZERO)
    quote = sum((trade.quote for trade in forced.report.trades), ZERO)
    return plain(quantize(quote / base, 8)) if base else "a price it has not told yet"


def _whose(terms: Iterable[PerpsTerms], symbol: str, at: datetime) -> PerpsTerms | None:
    """Return the terms of the deal that held a position in ``symbol`` at that moment."""
    for row in terms:
        opened, ended = row.position.opened_at, row.ended_at
        was_open = opened is not None and opened <= at and (ended is None or at <= ended)
        if row.product.symbol == symbol and was_open:
            return row
    return None


# Funding --------------------------------------------------------------------------------------------------------------


def _book_funding(account_id: int, terms: Sequence[PerpsTerms], movements: Iterable[FundingMovement]) -> None:
    found = list(movements)
    known = _known(account_id, found)
    fresh: dict[int, list[FundingMovement]] = {}
    for movement in found:
        row = _whose(terms, movement.symbol, movement.at)
        if movement.external_id not in known and row is not None:
            fresh.setdefault(row.pk, []).append(movement)
    for row in terms:
        if row.pk in fresh:
            _book_payments(row, fresh[row.pk])


def _known(account_id: int, movements: Iterable[FundingMovement]) -> set[str]:
    ids = [movement.external_id for movement in movements]
    rows = FundingPayment.objects.filter(account_id=account_id, venue_id__in=ids)
    return set(rows.values_list("venue_id", flat=True))


def _book_payments(terms: PerpsTerms, movements: Sequence[FundingMovement]) -> None:
    """Insert the payments that are not there yet and derive the deal's result from all of them."""
    position = terms.position
    with transaction.atomic():
        lock_account(terms.account_id)
        known = _known(terms.account_id, movements)
        FundingPayment.objects.bulk_create(
            FundingPayment(
                account_id=terms.account_id,
                position=position,
                venue_id=movement.external_id,
                amount=movement.amount,
                rate=movement.rate,
                at=movement.at,
            )
            for movement in movements
            if movement.external_id not in known
        )
        payments = FundingPayment.objects.filter(position=position)
        last = payments.order_by("-at").values_list("at", flat=True).first()
        write(terms, funding_quote=payments.aggregate(total=amount_total("amount"))["total"], last_funding_at=last)
        booking.recompute(position)
        announce_position(position)


# Positions ------------------------------------------------------------------------------------------------------------


def _compare(terms: PerpsTerms, held: VenuePosition | None, now: datetime) -> None:
    """Take the venue's figures in; note a size that differs, and alarm when it still does at a second look."""
    position = terms.position
    position.refresh_from_db()
    if held is not None and held.direction == position.direction:
        said = {
            "margin": _rounded(held.margin),
            "entry_price": _rounded(held.entry_price),
            "liquidation_price": _rounded(held.liquidation_price),
        }
        is_old = terms.checked_at is None or now - terms.checked_at >= GRACE
        if is_old or any(getattr(terms, name) != value for name, value in said.items()):
            write(terms, **said, checked_at=now)
    size = held.base * held.direction.sign if held is not None else ZERO
    under_way = position.orders.filter(status__in=WORKING).exclude(purpose__in=BRACKET_PURPOSES).exists()
    if size == position.base_held or under_way:
        if terms.differs_since is not None:
            write(terms, differs_since=None)
            if position.error_code == DIFFERS:
                write(position, error_code="", last_error="")
                announce_position(position)
        return
    if terms.differs_since is None:
        write(terms, differs_since=now)
        return
    if now - terms.differs_since < GRACE or position.error_code == DIFFERS:
        return
    unit = terms.product.base
    text = (
        f"The venue's position in {terms.product.symbol} is {plain(quantize(size))} {unit}, the deal records "
        f"{plain(quantize(position.base_held))} {unit}. Nothing was changed here."
    )
    with transaction.atomic():
        lock_account(terms.account_id)
        write(position, error_code=DIFFERS, last_error=text[:300])
        announce_position(position)
        _tell(position, DIFFERS, f"differs. {text}")


def _compare_terms(terms: PerpsTerms, held: VenuePosition | None) -> None:
    """Alarm once when leverage or margin mode were changed at the venue: the risk is another one than was chosen here.

    Calmed when they are what they were. What is wrong with the deal already is not covered up by it.
    """
    position = terms.position
    if held is None or held.direction != position.direction:
        return
    changed = []
    if held.leverage is not None and held.leverage != terms.leverage:
        changed.append(f"the leverage is {held.leverage}\u00d7 there, {terms.leverage}\u00d7 was chosen here")
    if held.margin_mode is not None and held.margin_mode != terms.margin_mode:
        changed.append(f"the margin is {held.margin_mode} there, {terms.margin_mode} was chosen here")
    text = f"Somebody changed it at the venue: {' and '.join(changed)}." if changed else ""
    told = position.last_error if position.error_code == TERMS_DIFFER else ""
    if text == told or position.error_code not in ("", TERMS_DIFFER):
        return
    with transaction.atomic():
        lock_account(terms.account_id)
        write(position, error_code=TERMS_DIFFER if text else "", last_error=text)
        announce_position(position)
        if text:
            _tell(position, TERMS_DIFFER, f"has other terms. {text}")


def _rounded(value: Decimal | None) -> Decimal | None:
    return None if value is None else quantize(value)


def _tell(position: Position, code: str, text: str) -> None:
    name = f"deal {position.deal_number}" if position.deal_number else f"attempt {position.attempt_number}"
    payload = {
        "code": code,
        "level": "error",
        "message": f"{position.account.name}: {name} on {position.product.symbol} {text}",
        "position_id": position.pk,
        "account_id": position.account_id,
    }
    people = people_of_account(position.account_id)
    announce(position.account_id, lambda: outbox.publish(people, "notification", payload, position.account_id))
