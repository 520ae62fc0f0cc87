"""Profit and loss by calendar period, worked out by hand, in the person's own days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from positions import figures
from positions.models import Position
from positions.portfolio.pnl import CalendarPeriod, Span, pnl_of, spans
from positions.states import ExitReason
from tests.factories import PositionFactory, ProductFactory
from tests.positions.conftest import MOMENT, Desk

UTC_ZONE = ZoneInfo("UTC")
P = CalendarPeriod
DAY = timedelta(days=1)


def test_the_days_of_each_period() -> None:
    """2 March 2026 is a Monday in the first quarter."""
    found = spans(date(2026, 3, 2))
    assert found == {
        P.TODAY: Span(date(2026, 3, 2), date(2026, 3, 2)),
        P.YESTERDAY: Span(date(2026, 3, 1), date(2026, 3, 1)),
        P.WEEK: Span(date(2026, 3, 2), date(2026, 3, 2)),
        P.LAST_WEEK: Span(date(2026, 2, 23), date(2026, 3, 1)),
        P.MONTH: Span(date(2026, 3, 1), date(2026, 3, 2)),
        P.LAST_MONTH: Span(date(2026, 2, 1), date(2026, 2, 28)),
        P.QUARTER: Span(date(2026, 1, 1), date(2026, 3, 2)),
        P.LAST_QUARTER: Span(date(2025, 10, 1), date(2025, 12, 31)),
        P.YEAR: Span(date(2026, 1, 1), date(2026, 3, 2)),
        P.LAST_YEAR: Span(date(2025, 1, 1), date(2025, 12, 31)),
        P.ALL: Span(None, date(2026, 3, 2)),
    }


@given(st.dates(date(2001, 1, 1), date(2099, 12, 31)))
def test_the_last_period_ends_where_this_one_begins(today: date) -> None:
    found = spans(today)
    for now, last in (
        (P.WEEK, P.LAST_WEEK),
        (P.MONTH, P.LAST_MONTH),
        (P.QUARTER, P.LAST_QUARTER),
        (P.YEAR, P.LAST_YEAR),
    ):
        assert found[now].first == found[last].last + DAY
        assert found[now].holds(today)
        assert not found[last].holds(today)
    assert found[P.WEEK].first.weekday() == 0  # type: ignore[union-attr]
    assert found[P.LAST_WEEK].days == 7
    assert found[P.LAST_QUARTER].first.month in (1, 4, 7, 10)  # type: ignore[union-attr]
    assert found[P.LAST_QUARTER].days in (90, 91, 92)
    assert found[P.LAST_YEAR].days in (365, 366)


def ended(desk: Desk, profit: str, at: datetime, **values: Any) -> None:
    values = {"exit_reason": ExitReason.TAKE_PROFIT, "bot": desk.bot, "product": desk.product, **values}
    PositionFactory(
        closed=True,
        realised_quote=Decimal(profit),
        fees_quote=Decimal("0.5"),
        opened_at=at - DAY,
        closed_at=at,
        **values,
    )


@pytest.fixture
def history(paper: Desk) -> Desk:
    ended(paper, "5", MOMENT - timedelta(hours=1))  # today
    ended(paper, "-2", MOMENT - timedelta(hours=13))  # yesterday, a Sunday: last week, this month
    ended(paper, "4", datetime(2026, 2, 24, 9, tzinfo=UTC), exit_reason=ExitReason.MANUAL)  # last week, last month
    ended(paper, "-8", datetime(2026, 2, 1, 0, tzinfo=UTC), exit_reason=ExitReason.STOP_LOSS)
    ended(paper, "16", datetime(2026, 1, 1, 0, tzinfo=UTC))
    ended(paper, "32", datetime(2025, 12, 31, 23, 59, tzinfo=UTC))
    ended(paper, "64", datetime(2024, 12, 31, 12, tzinfo=UTC))
    ended(paper, "0.001", MOMENT - 2 * DAY, product=ProductFactory(symbol="ETH-BTC"))
    PositionFactory(
        bot=paper.bot,
        product=paper.product,
        status="cancelled",
        deal_number=99,
        realised_quote=Decimal(1),
        closed_at=MOMENT,
        opened_at=MOMENT,
    )
    PositionFactory(bot=paper.bot, product=paper.product, status="failed", closed_at=MOMENT)
    return paper


def test_profit_by_period(history: Desk) -> None:
    usd = pnl_of(Position.objects.all(), MOMENT, UTC_ZONE)["USD"]
    assert {period: row.profit for period, row in usd.periods.items()} == {
        P.TODAY: 6,  # what a cancelled deal had realised counts
        P.YESTERDAY: -2,
        P.WEEK: 6,
        P.LAST_WEEK: 2,
        P.MONTH: 4,
        P.LAST_MONTH: -4,
        P.QUARTER: 16,
        P.LAST_QUARTER: 32,
        P.YEAR: 16,
        P.LAST_YEAR: 32,
        P.ALL: 112,
    }
    assert usd.periods[P.MONTH].fees == 1
    assert usd.periods[P.YEAR].deals == 6


def test_f32_currencies_are_never_added_up(history: Desk) -> None:
    found = pnl_of(Position.objects.all(), MOMENT, UTC_ZONE)
    assert set(found) == {"USD", "BTC"}
    assert found["BTC"].periods[P.ALL].profit == Decimal("0.001")
    assert found["BTC"].periods[P.TODAY].profit == 0


def test_profit_per_day_is_over_the_whole_period(history: Desk) -> None:
    usd = pnl_of(Position.objects.all(), MOMENT, UTC_ZONE)["USD"]
    assert usd.periods[P.LAST_WEEK].per_day == Decimal(2) / 7
    assert usd.periods[P.LAST_MONTH].per_day == Decimal(-4) / 28
    whole = usd.periods[P.ALL]
    assert (whole.span.first, whole.span.days) == (date(2024, 12, 30), 428)  # since the first deal opened
    assert whole.per_day == Decimal(112) / 428


def test_win_rates_keep_closes_by_hand_apart(history: Desk) -> None:
    usd = pnl_of(Position.objects.all(), MOMENT, UTC_ZONE)["USD"]
    whole = usd.periods[P.ALL].win_rates
    assert (whole.strategy.deals, whole.strategy.won) == (6, 4)
    assert (whole.manual.deals, whole.manual.won) == (1, 1)
    assert usd.periods[P.TODAY].win_rates.strategy == figures.WinRate(1, 1)  # the cancelled one is neither
    assert usd.periods[P.LAST_YEAR].win_rates.manual.pct is None


def test_days_are_the_persons_own(history: Desk) -> None:
    """23:00 UTC on Sunday was Monday morning in Tokyo; midnight of 1 January UTC was still 2025 in New York."""
    tokyo = pnl_of(Position.objects.all(), MOMENT, ZoneInfo("Asia/Tokyo"))["USD"].periods
    assert (tokyo[P.TODAY].profit, tokyo[P.YESTERDAY].profit) == (4, 0)
    york = pnl_of(Position.objects.all(), MOMENT, ZoneInfo("America/New_York"))["USD"].periods
    assert (york[P.YEAR].profit, york[P.LAST_YEAR].profit) == (0, 48)


def test_the_last_days_one_by_one(history: Desk) -> None:
    usd = pnl_of(Position.objects.all(), MOMENT, UTC_ZONE)["USD"]
    window = usd.window(MOMENT.date(), 8)
    assert [row.profit for row in window] == [0, 4, 0, 0, 0, 0, -2, 6]
    assert [row.deals for row in window] == [0, 1, 0, 0, 0, 0, 1, 2]
    shown = figures.profit_per_day(Position.objects.all(), MOMENT, UTC_ZONE, 8)["USD"]
    assert [row.profit for row in shown] == [row.profit for row in window]  # the dashboard's own figure


def test_it_agrees_with_the_figures_of_the_dashboard(history: Desk) -> None:
    usd = pnl_of(Position.objects.all(), MOMENT, UTC_ZONE)["USD"]
    dashboard = figures.realised(Position.objects.all(), MOMENT, UTC_ZONE)["USD"]
    assert usd.periods[P.TODAY].profit == dashboard[figures.Period.TODAY].profit
    assert usd.periods[P.ALL].profit == dashboard[figures.Period.ALL].profit


def test_running_deals_stand_apart(paper: Desk) -> None:
    position = paper.open("1000")
    Position.objects.filter(pk=position.pk).update(realised_quote=Decimal(7))
    usd = pnl_of(Position.objects.all(), MOMENT, UTC_ZONE)["USD"]
    assert usd.periods[P.ALL].profit == 0
    assert (usd.open.totals.deals, usd.open.realised) == (1, 7)
    assert usd.open.totals.profit < 0  # fees
    assert usd.open.totals == figures.open_totals(figures.deal_figures([position]))["USD"]


@pytest.mark.parametrize("deals", [2, 12])
def test_the_number_of_queries_does_not_depend_on_the_number_of_deals(
    paper: Desk, deals: int, django_assert_num_queries: Any
) -> None:
    for number in range(deals):
        ended(paper, "1", MOMENT - number * DAY)
        paper.open("10", max_active_deals=100, max_deals_per_pair=100)
    rows = Position.objects.filter(account=paper.account)
    with django_assert_num_queries(7):  # days, first openings, running deals, and what those are worth
        pnl_of(rows, MOMENT, UTC_ZONE)
