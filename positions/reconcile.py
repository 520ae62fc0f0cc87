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

It runs at start-up before the first cycle (:func:`settle_at_start`), before a look at an account whose orders wait for
an answer (:func:`settle_waiting`), and all the time besides. Each account is on its own: its failures and its venue's
slowness are nobody else's (F67, F69). Executions that belong to no order of ours are reported to the owner and never
adopted (F11): see :mod:`positions.strangers`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog
from django.db import connection, transaction

from accounts.exchanges.base import NEVER_ARRIVED, OrderReport, Venue
from accounts.exchanges.factory import venue_of
from accounts.models import Account
from positions.booking import apply_report, conclude, ref_of, remaining_base, write
from positions.execution import as_placed, cancel, send, submit
from positions.models import Fill, Order
from positions.reserves import ON_THEIR_WAY
from positions.states import (
    ENTRY_PURPOSES,
    FINAL,
    POSITION_FINAL,
    WORKING,
    OrderStatus,
    OrderType,
    PositionStatus,
)
from tradebot.core import clock, health
from tradebot.core.errors import TradebotError
from tradebot.core.scoping import acting_for_account, acting_for_accounts, all_accounts

__all__ = [
    "FRESH",
    "GRACE",
    "LOOPS",
    "Reconciled",
    "accounts_with_working_orders",
    "failed",
    "monitor_resting",
    "poll_resting",
    "reconcile_account",
    "reconcile_all",
    "resting_accounts",
    "settle_at_start",
    "settle_waiting",
]

log = structlog.get_logger(__name__)

FRESH: Final = timedelta(seconds=30)
"""An order younger than this is still worth sending."""
GRACE: Final = timedelta(seconds=60)
"""How long "not found" is doubted where the venue's lookup is not definitive."""
A_MOMENT: Final = timedelta(seconds=3)
"""An order younger than this may be on its way to the venue at this very moment."""
AT_ONCE: Final = 8
"""Accounts that are asked about side by side at start-up."""
REPLAY: Final = "replay"
"""A market with a clock of its own: whoever replays it reconciles its account too."""
RESTING: Final = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)

LOOPS: Final = {"reconcile": 30, "resting orders": 5, "unmatched fills": 300, "exchange balances": 30}
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
    booked = booked_ids(orders)
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


def booked_ids(orders: Iterable[Order]) -> dict[int, set[str]]:
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


# Every account ------------------------------------------------------------------------------------------------------


def accounts_with_working_orders() -> list[int]:
    """Return the ids of the accounts that have anything to settle, replays aside."""
    with all_accounts("reconciliation looks for accounts with working orders"):
        rows = Order.objects.filter(status__in=WORKING).exclude(account__exchange=REPLAY)
        return list(rows.order_by("account_id").values_list("account_id", flat=True).distinct())


def reconcile_all(account_ids: Iterable[int] | None = None, *, at_once: int = 1) -> Reconciled:
    """Reconcile these accounts, or every one that has working orders. One account's failure does not stop the rest.

    ``at_once`` accounts are asked about side by side, each in a thread with a connection of its own; one at a time they
    are asked about here.
    """
    wanted = accounts_with_working_orders() if account_ids is None else list(account_ids)
    result, threads = Reconciled(), min(at_once, len(wanted))
    if threads < 2:
        for account_id in wanted:
            result.add(_reconcile_safely(account_id))
        return result
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for part in pool.map(_reconcile_in_thread, wanted):
            result.add(part)
    return result


def settle_at_start() -> Reconciled:
    """Settle what was under way when the last process ended, before anything new is decided (F14, F18, F70).

    Accounts are asked about side by side, so that a venue which does not answer keeps nobody waiting for longer than
    its own time-outs.
    """
    return reconcile_all(at_once=AT_ONCE)


def _reconcile_in_thread(account_id: int) -> Reconciled:
    try:
        return _reconcile_safely(account_id)
    finally:
        connection.close()


def settle_waiting(account_ids: Iterable[int]) -> None:
    """Ask about orders of these accounts that have been without an answer for a moment, before they are looked at.

    One query where there are none, which is nearly always. Those of recordings are settled by whoever replays them.
    """
    rows = Order.objects.filter(
        account__in=list(account_ids), status__in=ON_THEIR_WAY, created_at__lte=clock.now() - A_MOMENT
    ).exclude(account__exchange=REPLAY)
    for account_id in rows.order_by("account_id").values_list("account_id", flat=True).distinct():
        _reconcile_safely(account_id)


def _reconcile_safely(account_id: int) -> Reconciled:
    try:
        return reconcile_account(account_id)
    except Exception as error:  # noqa: BLE001 (the loop's edge)
        result = Reconciled()
        failed(result, account_id, error, "reconcile.account_failed")
        return result


def resting_accounts() -> dict[int, str]:
    """Return the accounts that have resting orders: the market of a paper account, "" for one on an exchange, by id."""
    with all_accounts("the monitor looks for accounts with resting orders"):
        rows = Order.objects.filter(status__in=RESTING, order_type=OrderType.LIMIT).exclude(account__exchange=REPLAY)
        found = rows.order_by().values_list("account_id", "account__exchange", "account__kind").distinct()
        return {pk: exchange if kind == Account.Kind.PAPER else "" for pk, exchange, kind in sorted(found)}


def monitor_resting(accounts: Mapping[int, str] | None = None) -> Reconciled:
    """Match the resting orders of paper accounts with their market, then look what became of all resting orders.

    ``accounts`` as :func:`resting_accounts` returns them; all of them by default.
    """
    found = resting_accounts() if accounts is None else accounts
    result = Reconciled()
    by_market: dict[str, list[int]] = defaultdict(list)
    for account_id, exchange in found.items():
        if exchange:
            by_market[exchange].append(account_id)
    for exchange, account_ids in by_market.items():
        _match(exchange, account_ids, result)
    for account_id in found:
        try:
            result.add(poll_resting(account_id))
        except Exception as error:  # noqa: BLE001 (the loop's edge)
            failed(result, account_id, error, "resting.account_failed")
    return result


def _match(exchange: str, account_ids: list[int], result: Reconciled) -> None:
    from accounts.exchanges.paper import match_resting

    try:
        with acting_for_accounts(account_ids):
            match_resting(exchange, clock.now(), account_ids)
    except Exception as error:  # noqa: BLE001 (the loop's edge: another market may still be matched)
        for account_id in account_ids:
            failed(result, account_id, error, "resting.match_failed")


def poll_resting(account_id: int) -> Reconciled:
    """Book what the account's resting orders got. Raises VenueUnavailable."""
    with acting_for_account(account_id):
        orders = [order for order in _working_of(account_id) if order.status in RESTING]
        fills = _ask(account_id, orders)
        finished = sum(order.status in FINAL for order in orders)
    return Reconciled(accounts=1, finished=finished, fills=fills)


def failed(result: Reconciled, account_id: int, error: Exception, event: str) -> None:
    """Note at a loop's edge what went wrong with an account."""
    result.failed[account_id] = error.code if isinstance(error, TradebotError) else type(error).__name__
    if isinstance(error, TradebotError):
        log.warning(event, account=account_id, code=error.code, error=error.message)
    else:
        log.error(event, account=account_id, exc_info=error)
