"""Everything that the portfolio page shows, put together. Reads, never writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.core.paginator import Paginator
from django.http import HttpRequest

from accounts.manual_transfers import may_enter
from accounts.models import Account, LeftOut, Transfer
from accounts.selection import in_view
from positions.portfolio import glance, snapshots
from positions.portfolio.charts import value_chart
from positions.portfolio.forms import PortfolioFilter
from positions.portfolio.holdings import (
    DISPLAY,
    AccountHoldings,
    Line,
    Worth,
    buckets,
    holdings_of,
    lines,
    worth_of,
)
from positions.portfolio.overview import kind_of, pnl_by_kind
from positions.portfolio.pnl import Pnl
from positions.portfolio.snapshots import Curve, today_of, why_not
from positions.portfolio.untracked import explain
from positions.sales.page import offers_of
from positions.sales.story import latest
from tradebot.core.decimals import HUNDRED, ONE, ZERO
from tradebot.core.scoping import current_scope

__all__ = ["gather"]

DEFAULT_DAYS: Final = 90
TRANSFERS_PER_PAGE: Final = 20
SALES_SHOWN: Final = 5
SMALL_USD: Final = ONE
SLICES: Final = 7
"""Currencies that have a part of the allocation bar to themselves; the others share one."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of the allocation bar: where it begins and how wide it is, in percent. ``number`` is its colour's."""

    name: str
    number: int
    start: Decimal
    width: Decimal
    value: Decimal


def gather(request: HttpRequest, form: PortfolioFilter, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """Return the context of the page: one kind of money at a time, of all accounts in view or of one of them."""
    found, shown = form.found, in_view(request)
    kinds = [kind for kind in ("live", "paper") if any(kind_of(row) == kind for row in shown)]
    kind = found["money"] if found["money"] in kinds else (kinds[0] if kinds else "paper")
    of_kind = [row for row in shown if kind_of(row) == kind]
    chosen = next((row for row in of_kind if row.pk == found["account"]), None)
    accounts = of_kind if chosen is None else [chosen]
    into = found["currency"] or "USD"

    every = holdings_of(of_kind)
    glance.remember(every)
    rows = [row for row in every if row.account in accounts]
    days = None if found["days"] == "all" else int(found["days"] or DEFAULT_DAYS)
    curve = snapshots.curve_of(rows, into, days)
    worth, every_line = worth_of(rows, into), lines(rows, into)
    pnl = pnl_by_kind(accounts, now, zone).get(kind, {})
    quote = found["quote"] if found["quote"] in pnl else _busiest(pnl)
    editable = current_scope().editable_ids
    shown_lines = _shown(every_line, rows, found)
    offers = offers_of(rows, editable)
    transfers = Transfer.objects.filter(account__in=accounts).select_related("account")
    return {
        "now": now,
        "form": form,
        "kind": kind,
        "kinds": kinds if len(kinds) > 1 else [],
        "into": into,
        "display": DISPLAY,
        "days": found["days"] or str(DEFAULT_DAYS),
        "accounts": accounts,
        "chosen": chosen,
        "account_rows": [(row, worth_of([row], into)) for row in every],
        "rows": rows,
        "worth": worth,
        "figures": _figures(every_line, worth, into),
        "lines": shown_lines,
        "line_rows": [(line, offers.get(line.currency, ())) for line in shown_lines],
        "offers": offers,
        "sales": latest(accounts, SALES_SHOWN),
        "line_count": len(every_line),
        "shows": _shows(every_line, rows),
        "slices": _slices(every_line),
        "buckets": buckets(rows, into),
        "missing": [line for line in every_line if line.missing],
        "untracked": explain(rows),
        "curve": curve,
        "curve_rows": list(zip(curve.steps, curve.put_in, strict=True))[::-1],
        "chart": value_chart(curve, {**pnl[into].days} if into in pnl else {}),
        "gain": curve.gain,
        "today": today_of(curve, now),
        "not_recorded": _not_recorded(rows, curve, now),
        "pnl": pnl[quote] if quote is not None else None,
        "pnl_quotes": list(pnl),
        "quote": quote,
        "transfers": Paginator(transfers, TRANSFERS_PER_PAGE).get_page(request.GET.get("page")),
        "may_enter": [row for row in accounts if row.pk in editable and may_enter(row)],
        "editable": editable,
        "left_out": list(LeftOut.objects.filter(account__in=accounts).select_related("account")),
    }


@dataclass(frozen=True, slots=True)
class _Figures:
    """What is free, claimed and needed, worth in the display currency as far as that is known."""

    free: Decimal | None
    in_orders: Decimal | None
    in_deals: Decimal | None
    untracked: Decimal | None


def _figures(every: Sequence[Line], worth: Worth, into: str) -> _Figures:
    counted = [line for line in every if not line.left_out]

    def total(name: str) -> Decimal | None:
        if worth.amount is None:
            return None
        found = ZERO
        for line in counted:
            amount = getattr(line, name)
            if not line.total or line.value is None or amount is None:
                continue  # the page names what has no price
            found += line.value * amount / line.total
        return found

    return _Figures(total("free"), total("in_orders"), total("in_deals"), total("untracked"))


def _small(line: Line, rows: Sequence[AccountHoldings]) -> bool:
    """Whether what is held is known to be worth less than a dollar."""
    total = ZERO
    for row in rows:
        for holding in row.holdings:
            if holding.currency == line.currency:
                value = holding.value("USD")
                if value is None:
                    return False
                total += value
    return total < SMALL_USD


def _shown(every: Sequence[Line], rows: Sequence[AccountHoldings], found: dict[str, Any]) -> list[Line]:
    tests = {
        "untracked": lambda line: bool(line.untracked),
        "unpriced": lambda line: line.value is None or line.is_partial,
        "small": lambda line: _small(line, rows),
    }
    kept = [line for line in every if found["q"] is None or found["q"].strip().upper() in line.currency]
    if found["show"]:
        kept = [line for line in kept if tests[found["show"]](line)]
    orders = {
        "name": lambda line: (line.currency,),
        "free": lambda line: (-_part(line, line.free), line.currency),
        "untracked": lambda line: (-(line.untracked_value or ZERO), line.untracked == ZERO, line.currency),
    }
    order = orders.get(found["sort"] or "")
    return kept if order is None else sorted(kept, key=order)


def _part(line: Line, amount: Decimal | None) -> Decimal:
    if amount is None or line.value is None or not line.total:
        return ZERO
    return line.value * amount / line.total


def _shows(every: Sequence[Line], rows: Sequence[AccountHoldings]) -> list[tuple[str, str, int]]:
    counts = {
        name: len(_shown(every, rows, {"q": None, "show": name, "sort": None})) for name, _ in PortfolioFilter.SHOWS
    }
    return [(name, label, counts[name]) for name, label in PortfolioFilter.SHOWS if counts[name]]


def _slices(every: Sequence[Line]) -> list[Slice]:
    shares = [(line.currency, line.share_pct, line.value) for line in every if line.share_pct and line.value]
    own, rest = (shares, []) if len(shares) <= SLICES + 1 else (shares[:SLICES], shares[SLICES:])
    parts = [(name, share, value) for name, share, value in own]
    if rest:
        parts.append((f"{len(rest)} others", sum((row[1] for row in rest), ZERO), sum((row[2] for row in rest), ZERO)))
    slices, start = [], ZERO
    for number, (name, share, value) in enumerate(parts, 1):
        width = min(share, HUNDRED - start)
        slices.append(Slice(name, number, start, width, value))
        start += width
    return slices


def _busiest(pnl: dict[str, Pnl]) -> str | None:
    """Return the quote currency with the most deals."""

    def deals(row: Pnl) -> int:
        return row.open.totals.deals + sum(day.deals for day in row.days.values())

    return max(pnl.values(), key=deals).quote if pnl else None


def _not_recorded(rows: Sequence[AccountHoldings], curve: Curve, now: datetime) -> list[tuple[Account, str]]:
    """Return the accounts whose value cannot be written down at present, and why."""
    return [
        (row.account, reason)
        for row in rows
        if (reason := why_not(worth_of([row], "USD")) or why_not(worth_of([row], "BTC")))
    ]
