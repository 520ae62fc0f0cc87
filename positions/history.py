"""Ended deals: the rows of the history pages, their sums per currency, and what the exports contain. Reads only."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from positions.models import Order, Position
from positions.states import FINAL, WORKING, ExitReason, OrderStatus, PositionStatus
from tradebot.core.decimals import ZERO, plain
from tradebot.core.money import amount_total

__all__ = [
    "TABS",
    "HistoryTotal",
    "as_csv",
    "as_json",
    "ended_deals",
    "export_deals",
    "export_orders",
    "listed_orders",
    "sums",
    "without_kept",
]

TABS: Final = {
    "closed": ("Closed", (PositionStatus.CLOSED, PositionStatus.CANCELLED)),
    "failed": ("Failed", (PositionStatus.FAILED,)),
}
MOST_EXPORTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class HistoryTotal:
    """Ended deals of one kind of money and one quote currency."""

    is_paper: bool
    quote: str
    deals: int
    won: int
    profit: Decimal
    fees: Decimal

    @property
    def win_pct(self) -> Decimal | None:
        return Decimal(self.won) / self.deals * 100 if self.deals else None


def _day(day: Any, days: int = 0) -> datetime:
    """Return local midnight of ``day`` (plus ``days``) in the reader's zone."""
    return datetime.combine(day + timedelta(days=days), time.min, tzinfo=timezone.get_current_timezone())


def without_kept(rows: QuerySet[Position]) -> QuerySet[Position]:
    """Return ``rows`` without purchases that were made to be kept: they are no deals that earned or lost."""
    return rows.exclude(exit_reason=ExitReason.KEPT)


def ended_deals(rows: QuerySet[Position], found: dict[str, Any]) -> QuerySet[Position]:
    """Return ``rows`` narrowed to what a history filter asks for, newest first.

    Purchases that were made to be kept are shown only when they are asked for.
    """
    if found["reason"] != ExitReason.KEPT:
        rows = without_kept(rows)
    if found["q"]:
        rows = rows.filter(product__symbol__icontains=found["q"].strip())
    if found["bot"]:
        rows = rows.filter(bot_id=found["bot"])
    if found["reason"]:
        rows = rows.filter(exit_reason=found["reason"])
    if found["since"]:
        rows = rows.filter(closed_at__gte=_day(found["since"]))
    if found["until"]:
        rows = rows.filter(closed_at__lt=_day(found["until"], 1))
    return rows.order_by("-closed_at", "-id")


def sums(rows: QuerySet[Position]) -> list[HistoryTotal]:
    """Return profit and fees per kind of money and quote currency, live first (F32). One query."""
    found = (
        rows.order_by()
        .values("account__kind", "product__quote")
        .annotate(
            deals=Count("id"),
            won=Count("id", filter=Q(realised_quote__gt=ZERO)),
            profit=amount_total("realised_quote"),
            fees=amount_total("fees_quote"),
        )
    )
    totals = [
        HistoryTotal(
            row["account__kind"] == "paper", row["product__quote"], row["deals"], row["won"], row["profit"], row["fees"]
        )
        for row in found
    ]
    return sorted(totals, key=lambda total: (total.is_paper, total.quote))


def listed_orders(rows: QuerySet[Order], found: dict[str, Any]) -> QuerySet[Order]:
    """Return ``rows`` narrowed to what an order filter asks for, newest first."""
    if found["q"]:
        rows = rows.filter(position__product__symbol__icontains=found["q"].strip())
    if found["bot"]:
        rows = rows.filter(position__bot_id=found["bot"])
    if found["purpose"]:
        rows = rows.filter(purpose=found["purpose"])
    states = {
        "working": sorted(WORKING),
        "failed": sorted(FINAL - {OrderStatus.FILLED, OrderStatus.CANCELLED}),
    }
    if found["state"]:
        rows = rows.filter(status__in=states.get(found["state"], [found["state"]]))
    return rows.order_by("-id")


# Exports ------------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def export_deals(rows: QuerySet[Position]) -> Iterator[dict[str, Any]]:
    """Yield the deals as plain values: amounts as text, times in ISO form, UTC."""
    for deal in rows.select_related("product", "account")[:MOST_EXPORTED]:
        facts = {
            "deal": deal.deal_number,
            "attempt": deal.attempt_number,
            "account": deal.account.name,
            "kind": deal.account.kind,
            "bot": deal.bot_name,
            "pair": deal.product.symbol,
            "direction": deal.direction,
            "status": deal.status,
            "exit_reason": deal.exit_reason,
            "opened_at": deal.opened_at,
            "closed_at": deal.closed_at,
            "safety_orders": deal.safety_orders_filled,
            "average_price": deal.average_price,
            "base_bought": deal.base_bought,
            "base_sold": deal.base_sold,
            "quote_spent": deal.quote_spent,
            "quote_received": deal.quote_received,
            "fees_quote": deal.fees_quote,
            "profit_quote": deal.realised_quote,
            "profit_pct": deal.realised_pct,
            "quote_currency": deal.product.quote,
            "error_code": deal.error_code,
            "error": deal.last_error,
            "notes": deal.notes,
        }
        yield {name: _plain(value) for name, value in facts.items()}


def export_orders(rows: QuerySet[Order]) -> Iterator[dict[str, Any]]:
    """Yield the orders as plain values: amounts as text, times in ISO form, UTC."""
    for order in rows.select_related("position__product", "account")[:MOST_EXPORTED]:
        facts = {
            "created_at": order.created_at,
            "account": order.account.name,
            "kind": order.account.kind,
            "deal": order.position.deal_number,
            "bot": order.position.bot_name,
            "pair": order.position.product.symbol,
            "purpose": order.purpose,
            "side": order.side,
            "type": order.order_type,
            "base_size": order.base_size,
            "quote_size": order.quote_size,
            "limit_price": order.limit_price,
            "status": order.status,
            "filled_base": order.filled_base,
            "filled_quote": order.filled_quote,
            "client_order_id": str(order.client_order_id),
            "venue_order_id": order.venue_order_id,
            "error_code": order.error_code,
            "error": order.error_text,
            "actor": order.actor,
            "finished_at": order.finished_at,
        }
        yield {name: _plain(value) for name, value in facts.items()}


FORMULA_STARTS: Final = ("=", "+", "@", "\t", "\r")


def _cell(value: Any) -> Any:
    """Return text that a spreadsheet does not take for a formula; numbers, negative ones too, stay as they are."""
    if isinstance(value, str) and value.startswith((*FORMULA_STARTS, "-")):
        try:
            Decimal(value)
        except ArithmeticError:
            return f"'{value}"
    return value


def as_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Return the rows as CSV with a line of names; nothing at all for no rows."""
    found = list(rows)
    if not found:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, found[0])
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in found)
    return text.getvalue()


def as_json(rows: Iterable[dict[str, Any]]) -> str:
    """Return the rows as a JSON list."""
    return json.dumps(list(rows), ensure_ascii=False, indent=1)
