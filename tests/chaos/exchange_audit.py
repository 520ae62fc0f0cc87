"""What must hold when chaos is over: the venue and our books tell the same story, to the last digit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.chaos.exchange_world import START_USD
from tests.venue.control import RemoteVenue


@dataclass
class Audit:
    """What was found: figures, and every way in which the two sides differ."""

    orders: int = 0
    fills: int = 0
    deals: int = 0
    open_deals: int = 0
    lost: int = 0
    doubled: int = 0
    unsettled: int = 0
    problems: list[str] = field(default_factory=list)


def watch() -> dict[str, Any]:
    """Return what protects each open deal now: its frozen settings and what its trail remembers."""
    from positions.models import Position
    from tradebot.core.scoping import all_accounts

    with all_accounts("chaos looks on"):
        rows = Position.objects.filter(status__in=("pending", "open", "closing"))
        return {
            str(row.pk): {
                "settings": hashlib.sha256(json.dumps(row.settings, sort_keys=True).encode()).hexdigest(),
                "trail": row.trail or {},
                "budget": str(row.budget_quote),
            }
            for row in rows
        }


def worse_protected(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the deals that are open still and have lost something that protected them (F14, F44)."""
    problems = []
    for pk in before.keys() & now.keys():
        old, new = before[pk], now[pk]
        if old["settings"] != new["settings"] or old["budget"] != new["budget"]:
            problems.append(f"deal {pk}: its frozen settings have changed")
        if old["trail"].get("armed") and not new["trail"].get("armed"):
            problems.append(f"deal {pk}: its trail is not armed any more")
        problems += [
            f"deal {pk}: {name} of its trail went back from {old['trail']} to {new['trail']}"
            for name in ("best", "stop", "peak")
            if name in old["trail"] and Decimal(new["trail"].get(name, "0")) < Decimal(old["trail"][name])
        ]
    return problems


def audit(remote: RemoteVenue) -> Audit:
    """Compare everything that the venue knows with everything that we have written down."""
    from positions.models import Fill, Order, UnmatchedFill
    from tradebot.core.scoping import all_accounts

    found = Audit()
    with all_accounts("chaos compares the books"):
        theirs, ours = remote.orders(), {str(row.client_order_id): row for row in Order.objects.all()}
        _compare_orders(found, theirs, ours)
        fills = list(Fill.objects.select_related("order", "account"))
        _compare_fills(found, remote.fills(), fills)
        if strangers := UnmatchedFill.objects.count():
            found.problems.append(f"{strangers} executions of ours were reported as nobody's")
        _check_deals(found)
        _check_balances(found, remote, fills)
    return found


def _compare_orders(found: Audit, theirs: list[dict[str, Any]], ours: dict[str, Any]) -> None:
    found.orders = len(theirs)
    for client_id, count in Counter(row["client_order_id"] for row in theirs).items():
        if count > 1:
            found.doubled += count - 1
            found.problems.append(f"client id {client_id} is {count} times at the venue")
    working = {"OPEN", "PENDING"}
    for row in theirs:
        order = ours.get(row["client_order_id"])
        if order is None:
            found.problems.append(f"order {row['order_id']} at the venue is unknown to us")
        elif (row["status"] in working) != (order.status in ("open", "partially_filled", "submitted")):
            found.problems.append(
                f"order {order.pk} ({order.purpose}) is {row['status']} at the venue and {order.status} here "
                f"[{order.error_code}]"
            )
    at_venue = {row["client_order_id"] for row in theirs}
    for client_id, order in ours.items():
        if order.status in ("intended", "submitted"):
            found.unsettled += 1
            found.problems.append(f"order {order.pk} ({order.purpose}) is still {order.status}")
        elif client_id not in at_venue and order.status not in ("rejected", "cancelled"):
            found.lost += 1
            found.problems.append(f"order {order.pk} is {order.status} here and unknown to the venue")


def _compare_fills(found: Audit, theirs: list[dict[str, Any]], ours: list[Any]) -> None:
    found.fills = len(theirs)
    booked = Counter(row.venue_trade_id for row in ours)
    by_id = {row.venue_trade_id: row for row in ours}
    for row in theirs:
        fill = by_id.get(row["trade_id"])
        if fill is None:
            found.lost += 1
            found.problems.append(f"fill {row['trade_id']} of order {row['client_order_id']} is not in the ledger")
            continue
        here = (fill.price, fill.base, fill.quote, fill.fee, fill.fee_currency, fill.side, fill.account.name)
        there = (
            *(Decimal(row[name]) for name in ("price", "base", "quote", "fee")),
            row["fee_currency"],
            row["side"].lower(),
            row["account"],
        )
        if here != there or str(fill.order.client_order_id) != row["client_order_id"]:
            found.problems.append(f"fill {row['trade_id']}: the venue says {there}, the ledger {here}")
    for trade_id, count in booked.items():
        if count > 1:
            found.doubled += count - 1
            found.problems.append(f"fill {trade_id} is booked {count} times")
    if invented := booked.keys() - {row["trade_id"] for row in theirs}:
        found.problems.append(f"{len(invented)} fills are unknown to the venue")


def _check_deals(found: Audit) -> None:
    from positions import booking
    from positions.models import Position
    from positions.states import EXIT_PURPOSES, WORKING

    names = ("status", "average_price", "realised_quote", "base_bought", "base_sold", "quote_spent", "quote_received")
    for deal in Position.objects.select_related("product", "account").prefetch_related("orders"):
        found.deals += 1
        found.open_deals += deal.status in ("open", "closing")
        stored = {name: getattr(deal, name) for name in names}
        booking.recompute(deal)
        if changed := {name: value for name, value in stored.items() if getattr(deal, name) != value}:
            found.problems.append(f"totals of deal {deal.pk} are not those of its fills: {changed}")
        if sum(row.status in WORKING and row.purpose in EXIT_PURPOSES for row in deal.orders.all()) > 1:
            found.problems.append(f"deal {deal.pk} has more than one working exit")
        if deal.status == "failed" and deal.base_bought:
            found.problems.append(f"deal {deal.pk} is failed and holds {deal.base_bought}")


def not_watched(since: datetime) -> list[str]:
    """Return the bots that nobody has looked at since then, or whose look failed: no kill may leave one behind (F2)."""
    from bots.models import Bot
    from tradebot.core.scoping import all_accounts

    with all_accounts("chaos asks who is looked after"):
        rows = Bot.objects.filter(status="running")
        return [
            f"bot {row.pk} was looked at {row.last_checked_at}, not since {since}: {row.last_error}"
            for row in rows
            if row.last_error or row.last_checked_at is None or row.last_checked_at < since
        ]


def _check_balances(found: Audit, remote: RemoteVenue, fills: list[Any]) -> None:
    totals: dict[tuple[str, str], Decimal] = {}
    for fill in fills:
        base, quote = remote_pair(fill)
        sign = 1 if fill.side == "buy" else -1
        for currency, change in ((base, sign * fill.base), (quote, -sign * fill.quote), (fill.fee_currency, -fill.fee)):
            key = (fill.account.name, currency)
            totals[key] = totals.get(key, Decimal(0)) + change
    accounts = {name for name, _ in totals}
    for account in accounts:
        totals[account, "USD"] += Decimal(START_USD)
        for currency, wallet in remote.balances(account).items():
            ours = totals.get((account, currency), Decimal(0))
            if Decimal(wallet["total"]) != ours:
                found.problems.append(f"{account} has {wallet['total']} {currency} at the venue, {ours} by our fills")


def remote_pair(fill: Any) -> tuple[str, str]:
    """Return base and quote currency of a fill's product."""
    product = fill.order.position.product
    return product.base, product.quote
