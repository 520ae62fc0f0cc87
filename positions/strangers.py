"""Executions at an exchange that no order of ours explains: reported to the account's people, never adopted (F11).

``report_strangers``, for one account:

1. Ask for its executions since they were last compared, with an overlap, however long nobody was there to ask.
2. What belongs to an order of ours, by either id, and is not booked yet is asked for and booked where it belongs.
3. What carries only an id of the venue's that we do not know may be an order of ours whose acceptance never reached us:
   the venue is asked which client id it has before anybody is alarmed (F5).
4. A liquidation of a deal here is an order of the venue's own; whoever looks after perpetuals books and tells it
   (:mod:`positions.perps_news`). One of a position that is nobody's here is told like everything else.
5. The rest is written down and told, once. An execution of the last moments waits for the next look, because the order
   behind it may be being written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q

from accounts.access import people_of_account
from accounts.exchanges.base import OrderRef, Venue, VenueTrade
from accounts.exchanges.factory import venue_of
from accounts.models import Account, VenueFunds
from notifications import outbox
from positions import perps_news
from positions.booking import announce, apply_report, ref_of
from positions.models import Order, UnmatchedFill
from positions.reconcile import Reconciled, booked_ids, failed
from tradebot.core import clock
from tradebot.core.decimals import plain
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["accounts_to_compare", "report_all_strangers", "report_strangers"]

log = structlog.get_logger(__name__)

OVERLAP: Final = timedelta(hours=1)
"""Executions may be listed late, so the last stretch is compared again."""
LONGEST: Final = timedelta(days=30)
"""An account that was not compared for longer is compared from there."""
TOO_FRESH: Final = timedelta(seconds=60)


def report_strangers(account_id: int) -> list[UnmatchedFill]:
    """Compare the account's executions with ours (steps above) and return those that were newly reported.

    Never inside a transaction. Raises VenueUnavailable when the venue cannot be asked.
    """
    with acting_for_account(account_id):
        account = Account.objects.get(pk=account_id)
        venue, now = venue_of(account), clock.now()
        trades = venue.trades_since(_compared_until(account) - OVERLAP)
        orders = _orders_of(account, trades)
        _book_late(venue, orders, trades)
        strangers = [row for row in trades if _order_of(row, orders) is None]
        booked_elsewhere = perps_news.liquidates_ours(account_id, strangers)
        strangers = [row for row in strangers if row.trade.trade_id not in booked_elsewhere]
        known = set(
            UnmatchedFill.objects.filter(
                account_id=account_id, venue_trade_id__in=[row.trade.trade_id for row in strangers]
            ).values_list("venue_trade_id", flat=True)
        )
        new = [row for row in strangers if row.trade.trade_id not in known and now - row.trade.at >= TOO_FRESH]
        reported = [_report(account, row) for row in _without_lost_answers(account, venue, new)]
        with transaction.atomic():
            VenueFunds.objects.update_or_create(account=account, defaults={"trades_checked_at": now})
    return reported


def _compared_until(account: Account) -> datetime:
    known = VenueFunds.objects.filter(account_id=account.pk)
    told: datetime | None = known.values_list("trades_checked_at", flat=True).first()
    return max(told or account.created_at, clock.now() - LONGEST, account.created_at)


class _Orders:
    """Our orders behind some executions, by either id."""

    def __init__(self, orders: Iterable[Order]) -> None:
        known = list(orders)
        self.by_client_id: dict[UUID, Order] = {order.client_order_id: order for order in known}
        self.by_venue_id = {order.venue_order_id: order for order in known if order.venue_order_id}


def _orders_of(account: Account, trades: Sequence[VenueTrade]) -> _Orders:
    client_ids = {row.client_order_id for row in trades if row.client_order_id is not None}
    venue_ids = {row.venue_order_id for row in trades if row.venue_order_id}
    rows = Order.objects.filter(Q(client_order_id__in=client_ids) | Q(venue_order_id__in=venue_ids), account=account)
    return _Orders(rows.select_related("account", "position__product"))


def _order_of(row: VenueTrade, orders: _Orders) -> Order | None:
    if row.client_order_id is not None and row.client_order_id in orders.by_client_id:
        return orders.by_client_id[row.client_order_id]
    return orders.by_venue_id.get(row.venue_order_id)


def _book_late(venue: Venue, orders: _Orders, trades: Iterable[VenueTrade]) -> None:
    """Apply the venue's word on orders of ours that have executions we did not book."""
    ours = [(order, row.trade) for row in trades if (order := _order_of(row, orders)) is not None]
    booked = booked_ids(order for order, _ in ours)
    late = {order.pk: order for order, trade in ours if trade.trade_id not in booked[order.pk]}
    reports = venue.find_many([ref_of(order) for _, order in sorted(late.items())]) if late else {}
    for order in late.values():
        if (report := reports.get(order.client_order_id)) is not None:
            apply_report(order, report)


def _without_lost_answers(account: Account, venue: Venue, rows: Sequence[VenueTrade]) -> list[VenueTrade]:
    """Book those whose order turns out to be ours, and return the others."""
    left = []
    asked: dict[str, bool] = {}
    for row in rows:
        if row.client_order_id is None and row.venue_order_id:
            if row.venue_order_id not in asked:
                asked[row.venue_order_id] = _is_ours_after_all(account, venue, row)
            if asked[row.venue_order_id]:
                continue
        left.append(row)
    return left


def _is_ours_after_all(account: Account, venue: Venue, row: VenueTrade) -> bool:
    report = venue.find(OrderRef(None, row.symbol, row.venue_order_id))
    if report is None or report.client_order_id is None:
        return False
    orders = Order.objects.filter(account=account, client_order_id=report.client_order_id)
    order = orders.select_related("account", "position__product").first()
    if order is None:
        return False
    apply_report(order, report)
    return True


def _report(account: Account, row: VenueTrade) -> UnmatchedFill:
    trade = row.trade
    with transaction.atomic():
        found = UnmatchedFill.objects.create(
            account=account,
            venue_trade_id=trade.trade_id,
            symbol=row.symbol,
            side=row.side,
            price=trade.price,
            base=trade.base,
            at=trade.at,
        )
        payload = {
            "code": "unmatched_fill",
            "level": "warning",
            "message": f"{account.name}: the venue reports a {row.side} of {plain(trade.base)} {row.symbol} at "
            f"{plain(trade.price)} that no order of yours here explains. It was not added to any deal.",
            "account_id": account.pk,
            "unmatched_fill_id": found.pk,
        }
        announce(account.pk, lambda: outbox.publish(people_of_account(account.pk), "notification", payload, account.pk))
    return found


def accounts_to_compare() -> list[int]:
    """Return the ids of the accounts on an exchange that has keys; paper venues trade for nobody else."""
    with all_accounts("every exchange account is checked for executions of nobody"):
        rows = Account.objects.filter(kind=Account.Kind.EXCHANGE, archived_at=None, credential__isnull=False)
        return list(rows.order_by("pk").values_list("pk", flat=True))


def report_all_strangers(account_ids: Iterable[int] | None = None) -> Reconciled:
    """Compare these accounts, or all of them. One account's failure does not stop the rest."""
    result = Reconciled()
    for account_id in accounts_to_compare() if account_ids is None else account_ids:
        try:
            report_strangers(account_id)
            result.accounts += 1
        except Exception as error:  # noqa: BLE001 (the loop's edge)
            failed(result, account_id, error, "unmatched.account_failed")
    return result
