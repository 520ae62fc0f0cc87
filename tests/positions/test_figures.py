"""The figures that pages and API show: per currency, net of fees, in a constant number of queries."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from marketdata import market
from positions import figures, manual
from positions.figures import Levels, Period
from positions.models import Order, Position
from positions.states import ExitReason, OrderType, Purpose
from tests.factories import PositionFactory, ProductFactory
from tests.positions.conftest import MOMENT, Desk

UTC_ZONE = ZoneInfo("UTC")
MANY = {"max_active_deals": 100, "max_deals_per_pair": 100}


def ended(desk: Desk, profit: str, at: datetime, **values: Any) -> Position:
    values = {"exit_reason": ExitReason.TAKE_PROFIT, "bot": desk.bot, "product": desk.product, **values}
    return PositionFactory(
        closed=True, realised_quote=Decimal(profit), fees_quote=Decimal(1), opened_at=at, closed_at=at, **values
    )


@pytest.fixture
def history(paper: Desk) -> Desk:
    """Six ended deals in dollars, one in BTC, one that failed."""
    day = timedelta(days=1)
    ended(paper, "5", MOMENT - timedelta(hours=1))
    ended(paper, "-2", MOMENT - timedelta(hours=13))
    ended(paper, "4", MOMENT - 6 * day, exit_reason=ExitReason.MANUAL)
    ended(paper, "8", MOMENT - 29 * day)
    ended(paper, "16", MOMENT - 89 * day)
    ended(paper, "32", MOMENT - 400 * day)
    ended(paper, "0.001", MOMENT - day, product=ProductFactory(symbol="ETH-BTC"))
    PositionFactory(bot=paper.bot, product=paper.product, status="failed", closed_at=MOMENT)
    return paper


def test_realised_profit_per_period_and_currency(history: Desk, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        found = figures.realised(Position.objects.all(), MOMENT, UTC_ZONE)
    assert {period: found["USD"][period].profit for period in Period} == {
        Period.TODAY: 5,
        Period.WEEK: 7,
        Period.MONTH: 15,
        Period.QUARTER: 31,
        Period.ALL: 63,
    }
    assert found["BTC"][Period.ALL].profit == Decimal("0.001")
    assert found["BTC"][Period.TODAY] == figures.Realised(Decimal(0), 0, 1)
    assert found["USD"][Period.WEEK].deals == 3
    assert found["USD"][Period.WEEK].per_day == 1  # over the whole window, idle days included


def test_today_is_the_persons_own_day(history: Desk) -> None:
    """Yesterday at 23:00 UTC was this morning in Tokyo; at 03:00 UTC it is still yesterday evening in New York."""
    early = datetime(2026, 3, 2, 3, tzinfo=UTC)
    for zone, now, profit in (
        ("UTC", MOMENT, 5),
        ("Asia/Tokyo", MOMENT, 3),
        ("UTC", early, 0),
        ("America/New_York", early, -2),
    ):
        found = figures.realised(Position.objects.all(), now, ZoneInfo(zone))
        assert found["USD"][Period.TODAY].profit == profit, zone


def test_win_rates_keep_closes_by_hand_apart(history: Desk, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        rates = figures.win_rates(Position.objects.all())
    assert (rates.strategy.deals, rates.strategy.won, rates.manual.deals, rates.manual.won) == (6, 5, 1, 1)
    assert rates.strategy.pct is not None
    assert round(rates.strategy.pct, 2) == Decimal("83.33")
    assert figures.win_rates(Position.objects.none()).strategy.pct is None


def test_profit_per_day_covers_the_whole_window(history: Desk, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        found = figures.profit_per_day(Position.objects.all(), MOMENT, UTC_ZONE, days=7)
    dollars = found["USD"]
    assert [row.day for row in dollars] == [date(2026, 2, 24) + timedelta(days=n) for n in range(7)]
    assert [row.profit for row in dollars] == [4, 0, 0, 0, 0, -2, 5]
    assert sum(row.deals for row in found["BTC"]) == 1


def test_profit_by_pair(history: Desk, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        rows = figures.by_pair(Position.objects.all())
    assert [(row.product, row.deals, row.won, row.profit, row.fees) for row in rows] == [
        ("ETH-BTC", 1, 1, Decimal("0.001"), 1),
        ("BTC-USD", 6, 5, 63, 6),
    ]


def test_a_running_deal_is_worth_what_closing_it_brings(paper: Desk) -> None:
    position = paper.open("1000")
    row = figures.deal_figures([position])[0]
    quote = market.quote("simulated", "BTC-USD")
    assert quote is not None
    assert row.unrealised is not None
    value = position.base_held * quote.mark * Decimal("0.994")
    assert row.unrealised.value == value
    assert row.profit == value - position.quote_spent * Decimal("1.006")
    assert row.profit_pct == row.unrealised.pct
    assert row.mark == quote.mark
    assert row.break_even is not None
    assert row.break_even > quote.ask
    assert row.distance_pct(row.break_even) > 1  # type: ignore[operator]
    realised = manual.close_at_market(position, "ann@example.com").position
    closed = figures.deal_figures([realised])[0]
    assert (closed.profit, closed.profit_pct) == (realised.realised_quote, realised.realised_pct)
    assert (closed.unrealised, closed.break_even, closed.invested) == (None, None, realised.quote_spent)


def test_a_deal_without_a_price_has_no_profit_and_is_counted_as_unpriced(outside: Desk) -> None:
    position = outside.open("100")
    row = figures.deal_figures([position])[0]
    assert (row.mark, row.unrealised, row.profit, row.profit_pct) == (None, None, None, None)
    total = figures.open_totals([row])["USD"]
    assert (total.deals, total.unpriced, total.profit, total.profit_pct) == (1, 1, 0, None)


def test_totals_are_kept_per_quote_currency(paper: Desk) -> None:
    paper.open("1000", **MANY)
    paper.place(paper.open("500", **MANY), Purpose.TAKE_PROFIT)
    cross = ProductFactory(symbol="ETH-BTC", min_quote=Decimal("0.00001"), quote_increment=Decimal("0.00000001"))
    paper.open("0.01", product=cross, **MANY)
    positions = Position.objects.select_related("product", "account")
    totals = figures.open_totals(figures.deal_figures(positions))
    assert {quote: total.deals for quote, total in totals.items()} == {"USD": 1, "BTC": 1}
    assert Decimal("0.0099") < totals["BTC"].invested < Decimal("0.0101")
    by_quote = figures.unrealised_by_quote(Position.objects.all())
    assert by_quote == {quote: total.profit for quote, total in totals.items()}
    assert all(profit < 0 for profit in by_quote.values())  # both fees


def test_the_strategy_supplies_target_and_stop(paper: Desk) -> None:
    position = paper.open("1000")
    seen = []

    def levels_of(deal: Position, totals: Any, taker: Decimal) -> Levels:
        seen.append((deal.pk, totals.base_held, taker))
        return Levels(target=Decimal(70_000), stop=Decimal(50_000), max_safety_orders=5)

    row = figures.deal_figures([position], levels_of)[0]
    assert (row.levels.target, row.levels.stop) == (70_000, 50_000)
    assert seen == [(position.pk, position.base_held, Decimal("0.006"))]


def test_rows_show_the_orders_that_work(paper: Desk) -> None:
    position = paper.open("1000")
    order: Order = paper.place(position, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=Decimal(10**6))
    assert figures.deal_figures([position])[0].working == (order,)


@pytest.mark.parametrize("deals", [1, 6])
def test_the_number_of_queries_does_not_depend_on_the_number_of_deals(
    paper: Desk, deals: int, django_assert_num_queries: Any
) -> None:
    for number in range(deals):
        symbol = ("BTC-USD", "ETH-USD", "SOL-USD")[number % 3]
        paper.open("100", product=ProductFactory(symbol=symbol), **MANY)
        ended(paper, "1", MOMENT)
    with django_assert_num_queries(5):  # the deals, their fills, their orders, the accounts' terms and venues' fees
        rows = figures.deal_figures(Position.objects.select_related("product", "account"))
    assert len(rows) == 2 * deals
