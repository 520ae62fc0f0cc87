"""Asking the venue about every order that is not final, until it gives a final answer.

``reconcile_account``, for each working order of one account:

1. ``intended`` and young: nobody has sent it yet (a process died between writing and sending), so it is sent. Old: the
   decision behind it is stale, so it is ended as ``stale_intent``.
2. The others are asked for by client id in one round trip. What the venue knows is applied.
3. What it does not know: where its lookup is definitive, a young order is put again under the same client id, which
   cannot make a second one (F5), unless it is to be cancelled. An old one is given up at the venue first
   (``Venue.forget``), so that a call which hangs cannot make it an order afterwards; then it never arrived. Elsewhere
   "not found" is noted first, and believed only after a grace period and a second look (F12). An order that the venue
   had acknowledged before is never sent again.
4. An order that somebody asked to cancel is asked to cancel again.
5. Entries still working in a deal whose close has emptied it are cancelled (F22).

It runs at start-up before the first cycle, and all the time after that. Failures stay with the account they concern
(F67). Executions that belong to no order of ours are reported to the owner and never adopted (F11).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db import transaction

from accounts.access import people_of_account
from accounts.exchanges.base import NEVER_ARRIVED, OrderReport, Trade, Venue, VenueTrade
from accounts.exchanges.factory import venue_of
from accounts.models import Account
from notifications import outbox
from positions.booking import announce, apply_report, conclude, ref_of, remaining_base, write
from positions.execution import as_placed, cancel, send, submit
from positions.models import Fill, Order, UnmatchedFill
from positions.states import (
    ENTRY_PURPOSES,
    FINAL,
    POSITION_FINAL,
    WORKING,
    OrderStatus,
    OrderType,
    PositionStatus,
    Side,
)
from tradebot.core import clock, health
from tradebot.core.decimals import plain
from tradebot.core.errors import TradebotError
from tradebot.core.scoping import acting_for_account, acting_for_accounts, all_accounts

__all__ = [
    "FRESH",
    "GRACE",
    "LOOPS",
    "Reconciled",
    "monitor_resting",
    "reconcile_account",
    "reconcile_all",
    "report_all_unmatched_fills",
    "report_unmatched_fills",
]

log = structlog.get_logger(__name__)

FRESH: Final = timedelta(seconds=30)
"""An order younger than this is still worth sending."""
GRACE: Final = timedelta(seconds=60)
"""How long "not found" is doubted where the venue's lookup is not definitive."""
UNMATCHED_WINDOW: Final = timedelta(days=1)
REPLAY: Final = "replay"
"""A market with a clock of its own: whoever replays it reconciles its account too."""
RESTING: Final = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)

LOOPS: Final = {"reconcile": 30, "resting orders": 5, "unmatched fills": 300}
health.LOOPS.update(LOOPS)


@dataclass(slots=True)
class Reconciled:
    """What a run did: accounts visited, orders that became final, fills booked, and what failed, by account id."""

    accounts: int = 0
    finished: int = 0
    fills: int = 0
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, other: Reconciled) -> None:
        """Take the figures of one account in."""
        self.accounts += other.accounts
        self.finished += other.finished
        self.fills += other.fills
        self.failed |= other.failed


# One account --------------------------------------------------------------------------------------------------------


def reconcile_account(account_id: int) -> Reconciled:
    """Settle what can be settled of the account's working orders (see above).

    Never inside a transaction. Raises VenueUnavailable when the venue cannot be asked; orders are then as they were.
    """
    with acting_for_account(account_id):
        orders = _working_of(account_id)
        if not orders:
            return Reconciled(accounts=1)
        for order in orders:
            if order.status == OrderStatus.INTENDED:
                _settle_intended(order)
        sent = [order for order in orders if order.status in WORKING and order.submitted_at is not None]
        fills = _ask(account_id, sent)
        for order in sent:
            if order.status in WORKING and order.cancel_requested_at is not None:
                cancel(order, "system")
        _cancel_entries_of_empty_deals(account_id)
        finished = sum(order.status in FINAL for order in orders)
    return Reconciled(accounts=1, finished=finished, fills=fills)


def _working_of(account_id: int) -> list[Order]:
    return list(
        Order.objects.filter(account_id=account_id, status__in=WORKING)
        .select_related("account", "position__product")
        .order_by("id")
    )


def _settle_intended(order: Order) -> None:
    if clock.now() - order.created_at < FRESH:
        submit(order)
        return
    log.warning("order.stale_intent", order=order.pk)
    conclude(order, OrderStatus.CANCELLED, "stale_intent", "It was never sent, and the decision behind it is too old.")


def _ask(account_id: int, orders: Sequence[Order]) -> int:
    """Ask the venue about ``orders`` and settle each on its own; return how many fills were booked."""
    if not orders:
        return 0
    venue = venue_of(orders[0].account)
    reports = venue.find_many([ref_of(order) for order in orders])
    booked = _booked_ids(orders)
    fills = 0
    for order in orders:
        try:
            report = reports.get(order.client_order_id)
            if report is None or _is_forgotten(report):
                _settle_missing(order, venue)
            elif _is_news(order, report, booked[order.pk]):
                fills += len(apply_report(order, report))
        except Exception:  # one order must not keep the others from being settled (F67)
            log.exception("reconcile.order_failed", account=account_id, order=order.pk)
    return fills


def _booked_ids(orders: Iterable[Order]) -> dict[int, set[str]]:
    booked: dict[int, set[str]] = defaultdict(set)
    for pk, trade_id in Fill.objects.filter(order__in=list(orders)).values_list("order_id", "venue_trade_id"):
        booked[pk].add(trade_id)
    return booked


def _is_news(order: Order, report: OrderReport, booked: set[str]) -> bool:
    """Return whether the report says anything that is not written down yet; most looks at resting orders do not."""
    if order.not_found_at is not None or not order.venue_order_id:
        return True
    return report.status != order.status or any(trade.trade_id not in booked for trade in report.trades)


def _is_forgotten(report: OrderReport) -> bool:
    """Return whether an earlier run has given this id up at the venue, and did not come to write that down here."""
    return report.status is OrderStatus.REJECTED and report.error_code == NEVER_ARRIVED


def _settle_missing(order: Order, venue: Venue) -> None:
    """Decide about an order that the venue says it does not know."""
    now = clock.now()
    sent_at = order.submitted_at or order.created_at
    if not venue.capabilities.lookup_is_definitive:
        if order.not_found_at is None:
            _note_not_found(order)
            return
        if now - order.not_found_at < GRACE:
            return
    elif order.status == OrderStatus.SUBMITTED and now - sent_at < FRESH:
        # Whoever marked it may be sending it at this very moment: one that is to be cancelled is waited for (F19).
        if order.cancel_requested_at is None:
            send(order)
        return
    else:
        # Whoever was to send it may be no more than slow: from here on its call is answered with a refusal.
        report = venue.forget(as_placed(order))
        if not _is_forgotten(report):
            apply_report(order, report)
            return
    if order.status == OrderStatus.SUBMITTED and order.cancel_requested_at is None:
        conclude(order, OrderStatus.REJECTED, NEVER_ARRIVED, "The venue never received it.")
    elif order.status == OrderStatus.SUBMITTED:
        conclude(order, OrderStatus.CANCELLED, "", "It was cancelled before the venue received it.")
    else:
        conclude(order, OrderStatus.CANCELLED, "vanished", "The venue does not know this order any more.")


def _note_not_found(order: Order) -> None:
    log.warning("order.not_found_yet", order=order.pk)
    with transaction.atomic():
        write(order, not_found_at=clock.now())


def _cancel_entries_of_empty_deals(account_id: int) -> None:
    """Cancel entries that still work in deals which a close has emptied: nobody wants them filled any more (F22)."""
    rows = Order.objects.filter(
        account_id=account_id,
        status__in=WORKING,
        purpose__in=ENTRY_PURPOSES,
        cancel_requested_at=None,
        position__status__in=(PositionStatus.OPEN, PositionStatus.CLOSING, *POSITION_FINAL),
    ).select_related("account", "position__product")
    for order in rows:
        position = order.position
        if position.status in POSITION_FINAL or remaining_base(position) == 0:
            cancel(order, "system")


# Executions of nobody -----------------------------------------------------------------------------------------------


def report_unmatched_fills(account_id: int) -> list[UnmatchedFill]:
    """Write down the account's recent executions that belong to no order of ours, tell its people, and return them.

    They are never made into fills or deals (F11). Late executions of our own orders are booked where they belong.
    Raises VenueUnavailable when the venue cannot be asked.
    """
    with acting_for_account(account_id):
        account = Account.objects.get(pk=account_id)
        venue = venue_of(account)
        trades = venue.trades_since(max(account.created_at, clock.now() - UNMATCHED_WINDOW))
        client_ids = {row.client_order_id for row in trades if row.client_order_id is not None}
        ours = {
            order.client_order_id: order
            for order in Order.objects.filter(account_id=account_id, client_order_id__in=client_ids)
        }
        _book_late(venue, ours, trades)
        strangers = [row for row in trades if row.client_order_id not in ours]
        known = set(
            UnmatchedFill.objects.filter(
                account_id=account_id, venue_trade_id__in=[row.trade.trade_id for row in strangers]
            ).values_list("venue_trade_id", flat=True)
        )
        return [
            _report_stranger(account, row.symbol, row.side, row.trade)
            for row in strangers
            if row.trade.trade_id not in known
        ]


def _book_late(venue: Venue, ours: dict[UUID, Order], trades: Iterable[VenueTrade]) -> None:
    """Apply the venue's word on orders of ours that have executions we did not book."""
    booked = _booked_ids(ours.values())
    known = [(ours[row.client_order_id], row.trade) for row in trades if row.client_order_id in ours]
    late = {order.pk: order for order, trade in known if trade.trade_id not in booked[order.pk]}
    refs = [ref_of(order) for _, order in sorted(late.items())]
    for client_id, report in (venue.find_many(refs) if refs else {}).items():
        apply_report(ours[client_id], report)


def _report_stranger(account: Account, symbol: str, side: Side, trade: Trade) -> UnmatchedFill:
    with transaction.atomic():
        row = UnmatchedFill.objects.create(
            account=account,
            venue_trade_id=trade.trade_id,
            symbol=symbol,
            side=side,
            price=trade.price,
            base=trade.base,
            at=trade.at,
        )
        payload = {
            "code": "unmatched_fill",
            "level": "warning",
            "message": f"{account.name}: the venue reports a {side} of {plain(trade.base)} {symbol} at "
            f"{plain(trade.price)} that no order of yours here explains. It was not added to any deal.",
            "account_id": account.pk,
            "unmatched_fill_id": row.pk,
        }
        announce(account.pk, lambda: outbox.publish(people_of_account(account.pk), "notification", payload, account.pk))
    return row


# Every account ------------------------------------------------------------------------------------------------------


def reconcile_all() -> Reconciled:
    """Reconcile every account that has working orders, replays aside. One account's failure does not stop the rest."""
    with all_accounts("reconciliation looks for accounts with working orders"):
        rows = Order.objects.filter(status__in=WORKING).exclude(account__exchange=REPLAY)
        ids = list(rows.order_by("account_id").values_list("account_id", flat=True).distinct())
    result = Reconciled()
    for account_id in ids:
        try:
            result.add(reconcile_account(account_id))
        except Exception as error:  # noqa: BLE001 (the loop's edge)
            _failed(result, account_id, error, "reconcile.account_failed")
    return result


def monitor_resting() -> Reconciled:
    """Match the resting orders of paper accounts with their market, then look what became of all resting orders."""
    with all_accounts("the monitor looks for accounts with resting orders"):
        rows = Order.objects.filter(status__in=RESTING, order_type=OrderType.LIMIT).exclude(account__exchange=REPLAY)
        found = list(rows.order_by().values_list("account_id", "account__exchange", "account__kind").distinct())
    result = Reconciled()
    by_market: dict[str, list[int]] = defaultdict(list)
    for account_id, exchange, kind in sorted(found):
        if kind == Account.Kind.PAPER:
            by_market[exchange].append(account_id)
    for exchange, account_ids in by_market.items():
        _match(exchange, account_ids, result)
    for account_id, *_ in sorted(found):
        try:
            result.add(_poll(account_id))
        except Exception as error:  # noqa: BLE001 (the loop's edge)
            _failed(result, account_id, error, "resting.account_failed")
    return result


def _match(exchange: str, account_ids: list[int], result: Reconciled) -> None:
    from accounts.exchanges.paper import match_resting

    try:
        with acting_for_accounts(account_ids):
            match_resting(exchange, clock.now(), account_ids)
    except Exception as error:  # noqa: BLE001 (the loop's edge: another market may still be matched)
        for account_id in account_ids:
            _failed(result, account_id, error, "resting.match_failed")


def _poll(account_id: int) -> Reconciled:
    with acting_for_account(account_id):
        orders = [order for order in _working_of(account_id) if order.status in RESTING]
        fills = _ask(account_id, orders)
        finished = sum(order.status in FINAL for order in orders)
    return Reconciled(accounts=1, finished=finished, fills=fills)


def report_all_unmatched_fills() -> Reconciled:
    """Look for unexplained executions on every exchange account; paper venues trade for nobody else."""
    with all_accounts("every exchange account is checked for executions of nobody"):
        rows = Account.objects.filter(kind=Account.Kind.EXCHANGE, archived_at=None, credential__isnull=False)
        ids = list(rows.order_by("pk").values_list("pk", flat=True))
    result = Reconciled()
    for account_id in ids:
        try:
            report_unmatched_fills(account_id)
            result.accounts += 1
        except Exception as error:  # noqa: BLE001 (the loop's edge)
            _failed(result, account_id, error, "unmatched.account_failed")
    return result


def _failed(result: Reconciled, account_id: int, error: Exception, event: str) -> None:
    result.failed[account_id] = error.code if isinstance(error, TradebotError) else type(error).__name__
    if isinstance(error, TradebotError):
        log.warning(event, account=account_id, code=error.code, error=error.message)
    else:
        log.error(event, account=account_id, exc_info=error)
