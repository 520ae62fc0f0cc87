"""Profit and loss by calendar period, per quote currency, in the person's own days.

Realised is what the deals that ended in a period earned, net of fees, dated by their end; running deals stand apart,
with what parts of them have realised already. Deals that a person closed say nothing about the strategy and are
counted apart. Nothing here adds one currency to another (F32), and no transfer is in any of it (F35).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Count, Min, Q, QuerySet
from django.db.models.functions import TruncDate

from positions.figures import (
    MANUAL_REASONS,
    OpenTotals,
    WinRate,
    WinRates,
    deal_figures,
    ended,
    open_totals,
)
from positions.models import Position
from positions.states import POSITION_ACTIVE, PositionStatus
from tradebot.core.decimals import ZERO
from tradebot.core.money import amount_total

__all__ = ["CalendarPeriod", "DayFigures", "Earned", "Open", "Pnl", "Span", "pnl_of", "spans"]


class CalendarPeriod(StrEnum):
    """Periods of the calendar, each to date or the last whole one. Weeks begin on Monday."""

    TODAY = "today"
    YESTERDAY = "yesterday"
    WEEK = "week_to_date"
    LAST_WEEK = "last_week"
    MONTH = "month_to_date"
    LAST_MONTH = "last_month"
    QUARTER = "quarter_to_date"
    LAST_QUARTER = "last_quarter"
    YEAR = "year_to_date"
    LAST_YEAR = "last_year"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Span:
    """The days of a period, both included; ``first`` is None for everything up to ``last``."""

    first: date | None
    last: date

    @property
    def days(self) -> int | None:
        """Return the number of days; None where the first is not known."""
        return None if self.first is None else (self.last - self.first).days + 1

    def holds(self, day: date) -> bool:
        """Return whether the day is one of them."""
        return day <= self.last and (self.first is None or day >= self.first)


def spans(today: date) -> dict[CalendarPeriod, Span]:
    """Return the days of each period, as seen on ``today``."""
    day = timedelta(days=1)
    week = today - timedelta(days=today.weekday())
    month = today.replace(day=1)
    quarter = date(today.year, 3 * ((today.month - 1) // 3) + 1, 1)
    year = date(today.year, 1, 1)
    last_month = (month - day).replace(day=1)
    before = quarter - day
    last_quarter = date(before.year, before.month - 2, 1)
    return {
        CalendarPeriod.TODAY: Span(today, today),
        CalendarPeriod.YESTERDAY: Span(today - day, today - day),
        CalendarPeriod.WEEK: Span(week, today),
        CalendarPeriod.LAST_WEEK: Span(week - 7 * day, week - day),
        CalendarPeriod.MONTH: Span(month, today),
        CalendarPeriod.LAST_MONTH: Span(last_month, month - day),
        CalendarPeriod.QUARTER: Span(quarter, today),
        CalendarPeriod.LAST_QUARTER: Span(last_quarter, quarter - day),
        CalendarPeriod.YEAR: Span(year, today),
        CalendarPeriod.LAST_YEAR: Span(date(today.year - 1, 1, 1), year - day),
        CalendarPeriod.ALL: Span(None, today),
    }


@dataclass(frozen=True, slots=True)
class DayFigures:
    """What the deals that ended on one day earned; ``closed`` tells the strategy's from those by hand."""

    day: date
    profit: Decimal
    fees: Decimal
    deals: int
    closed: WinRates


@dataclass(frozen=True, slots=True)
class Earned:
    """What the deals that ended in a period earned, net of fees, and what they paid in fees.

    ``span`` is the whole period, idle days included; for all time it begins when the first deal was opened.
    """

    period: CalendarPeriod
    span: Span
    profit: Decimal
    fees: Decimal
    deals: int
    win_rates: WinRates

    @property
    def per_day(self) -> Decimal | None:
        """Return the profit per day over the whole period; None where it has no first day."""
        days = self.span.days
        return None if not days else self.profit / days


@dataclass(frozen=True, slots=True)
class Open:
    """Running deals: their sums (``totals``), and what parts of them have realised already."""

    totals: OpenTotals
    realised: Decimal


@dataclass(frozen=True, slots=True)
class Pnl:
    """The figures of one quote currency. ``days`` are those with an end, by day."""

    quote: str
    periods: Mapping[CalendarPeriod, Earned]
    open: Open
    days: Mapping[date, DayFigures]

    def window(self, last: date, days: int) -> list[DayFigures]:
        """Return the last ``days`` days, oldest first, those without an end with zeros."""
        wanted = (last - timedelta(days=back) for back in range(days - 1, -1, -1))
        return [self.days.get(day, _idle(day)) for day in wanted]


NO_DEALS = WinRate(0, 0)


def _idle(day: date) -> DayFigures:
    return DayFigures(day, ZERO, ZERO, 0, WinRates(NO_DEALS, NO_DEALS))


def pnl_of(positions: QuerySet[Position], now: datetime, zone: ZoneInfo) -> dict[str, Pnl]:
    """Return the figures of these deals by quote currency.

    Two queries for those that ended, however many there are, and those of :func:`positions.figures.deal_figures` for
    the running ones.
    """
    days = _days(positions, now, zone)
    running = list(positions.filter(status__in=POSITION_ACTIVE).select_related("product", "account").order_by())
    totals = open_totals(deal_figures(running))
    parts: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for deal in running:
        parts[deal.product.quote] += deal.realised_quote
    opened: Any = ended(positions).values("product__quote").annotate(at=Min("opened_at"))
    first = {row["product__quote"]: row["at"].astimezone(zone).date() for row in opened if row["at"] is not None}
    today = now.astimezone(zone).date()
    return {
        quote: Pnl(
            quote,
            {
                period: _earned(period, span, days.get(quote, {}), first.get(quote))
                for period, span in spans(today).items()
            },
            Open(totals.get(quote, OpenTotals()), parts[quote]),
            days.get(quote, {}),
        )
        for quote in sorted({*days, *totals})
    }


def _days(positions: QuerySet[Position], now: datetime, zone: ZoneInfo) -> dict[str, dict[date, DayFigures]]:
    closed = Q(status=PositionStatus.CLOSED)
    manual = closed & Q(exit_reason__in=MANUAL_REASONS)
    strategy = closed & ~Q(exit_reason__in=MANUAL_REASONS)
    won = Q(realised_quote__gt=ZERO)
    rows: Any = (
        ended(positions)
        .filter(closed_at__lte=now)
        .annotate(day=TruncDate("closed_at", tzinfo=zone))
        .values("product__quote", "day")
        .annotate(
            profit=amount_total("realised_quote"),
            fees=amount_total("fees_quote"),
            deals=Count("id"),
            strategy=Count("id", filter=strategy),
            strategy_won=Count("id", filter=strategy & won),
            manual=Count("id", filter=manual),
            manual_won=Count("id", filter=manual & won),
        )
    )
    found: dict[str, dict[date, DayFigures]] = defaultdict(dict)
    for row in rows:
        rates = WinRates(WinRate(row["strategy"], row["strategy_won"]), WinRate(row["manual"], row["manual_won"]))
        found[row["product__quote"]][row["day"]] = DayFigures(
            row["day"], row["profit"], row["fees"], row["deals"], rates
        )
    return dict(found)


def _earned(period: CalendarPeriod, span: Span, days: Mapping[date, DayFigures], first: date | None) -> Earned:
    rows = [row for day, row in days.items() if span.holds(day)]
    if period is CalendarPeriod.ALL:
        span = Span(first, span.last)
    return Earned(
        period,
        span,
        sum((row.profit for row in rows), ZERO),
        sum((row.fees for row in rows), ZERO),
        sum(row.deals for row in rows),
        WinRates(_added(row.closed.strategy for row in rows), _added(row.closed.manual for row in rows)),
    )


def _added(rates: Iterable[WinRate]) -> WinRate:
    rows = list(rates)
    return WinRate(sum(row.deals for row in rows), sum(row.won for row in rows))
