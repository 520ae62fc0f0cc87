"""When a guard's day begins, and what a drawdown is."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from positions.guard import rules
from positions.guard.rules import (
    Drawdown,
    day_start,
    is_equity,
    next_day_start,
    spread_pct,
    spread_within,
    worst_cost,
)

D = Decimal
NEW_YORK = ZoneInfo("America/New_York")
FIVE = time(17)
ZONES = st.sampled_from(
    ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "UTC"]
).map(ZoneInfo)
MOMENTS = st.integers(946_684_800, 2_208_988_800).map(lambda second: datetime.fromtimestamp(second, UTC))
TIMES = st.times().map(lambda at: at.replace(second=0, microsecond=0))
AMOUNTS = st.decimals(D("0.01"), D(10) ** 9, places=8)
PCTS = st.decimals(D("0.01"), D(100), places=4)


# Days ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "began"),
    [
        ("2026-01-15T21:59:59", "2026-01-14T22:00:00"),  # winter: 17:00 is 22:00 UTC
        ("2026-01-15T22:00:00", "2026-01-15T22:00:00"),  # the first moment belongs to the new day
        ("2026-07-15T20:59:59", "2026-07-14T21:00:00"),  # summer: 21:00 UTC
        ("2026-07-15T21:00:00", "2026-07-15T21:00:00"),
        ("2026-03-08T20:59:59", "2026-03-07T22:00:00"),  # the clocks went forward: this day has 23 hours
        ("2026-03-08T21:00:00", "2026-03-08T21:00:00"),
        ("2026-11-01T21:59:59", "2026-10-31T21:00:00"),  # they went back: this one has 25
        ("2026-11-01T22:00:00", "2026-11-01T22:00:00"),
    ],
)
def test_the_day_begins_at_five_in_new_york_on_both_sides_of_daylight_saving(moment: str, began: str) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert day_start(at, FIVE, NEW_YORK) == datetime.fromisoformat(began).replace(tzinfo=UTC)


@given(MOMENTS)
def test_every_day_in_new_york_begins_at_five_there(moment: datetime) -> None:
    began, ends = day_start(moment, FIVE, NEW_YORK), next_day_start(moment, FIVE, NEW_YORK)
    assert began.astimezone(NEW_YORK).time() == ends.astimezone(NEW_YORK).time() == FIVE
    assert began <= moment < ends
    assert ends - began in {timedelta(hours=hours) for hours in (23, 24, 25)}


@given(MOMENTS, TIMES, ZONES)
def test_days_follow_on_one_another_without_a_gap(moment: datetime, at: time, zone: ZoneInfo) -> None:
    began, ends = day_start(moment, at, zone), next_day_start(moment, at, zone)
    assert began <= moment < ends
    assert day_start(began, at, zone) == began
    assert day_start(ends - timedelta(microseconds=1), at, zone) == began
    assert day_start(ends, at, zone) == ends


@given(MOMENTS, MOMENTS, TIMES, ZONES)
def test_a_later_moment_is_never_in_an_earlier_day(one: datetime, other: datetime, at: time, zone: ZoneInfo) -> None:
    first, second = sorted((one, other))
    assert day_start(first, at, zone) <= day_start(second, at, zone)


def test_a_start_that_the_clocks_jump_over_or_show_twice_happens_once() -> None:
    zone, half_past_two = ZoneInfo("Europe/Berlin"), time(2, 30)
    gap = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # 02:30 does not exist; an hour on, it is 03:30 there
    assert day_start(gap, half_past_two, zone) == gap
    assert day_start(gap - timedelta(seconds=1), half_past_two, zone) == datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    twice = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert day_start(twice + timedelta(hours=1), half_past_two, zone) == twice


# Losses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "equity", "limit", "reached", "left"),
    [
        ("100000", "95500.01", "4.5", False, "0.01"),
        ("100000", "95500", "4.5", True, "0"),
        ("100000", "91000", "9", True, "0"),
        ("100000", "91000.000000000000000001", "9", False, "0.000000000000000001"),
        ("100000", "120000", "4.5", False, "24500"),
        ("33333.33", "31833.33", "4.5", True, "0"),
        ("0.3", "0.2865", "4.5", True, "0"),
    ],
)
def test_a_limit_is_reached_at_exactly_its_percentage(
    base: str, equity: str, limit: str, reached: bool, left: str
) -> None:
    drawdown = Drawdown(D(base), D(equity), D(limit))
    assert (drawdown.is_reached, drawdown.left) == (reached, D(left))


@given(AMOUNTS, AMOUNTS, PCTS)
def test_what_is_left_is_what_may_still_be_lost(base: Decimal, equity: Decimal, limit: Decimal) -> None:
    drawdown = Drawdown(base, equity, limit)
    assert drawdown.is_reached == (drawdown.left == 0)
    assert drawdown.after(drawdown.left).is_reached
    if drawdown.left:
        assert not drawdown.after(drawdown.left - D("1E-18")).is_reached


@given(AMOUNTS, AMOUNTS, PCTS, AMOUNTS)
def test_a_lower_equity_is_never_further_from_the_limit(
    base: Decimal, equity: Decimal, pct: Decimal, less: Decimal
) -> None:
    before = Drawdown(base, equity, pct)
    after = before.after(less)
    assert after.left <= before.left
    assert after.is_reached or not before.is_reached


@pytest.mark.parametrize("value", [None, D(0), D(-1), D("NaN"), D("sNaN"), D("Infinity"), D("-Infinity")])
def test_f61_what_cannot_be_an_equity_is_none(value: Decimal | None) -> None:
    assert not is_equity(value)


def test_what_an_order_costs_at_worst() -> None:
    assert worst_cost(D(10_000), D("0.006"), D("0.5")) == D(85)


@pytest.mark.parametrize(
    ("bid", "ask", "within"),
    [
        ("99.75", "100.25", True),  # 0.5 % of 100 exactly
        ("99.75", "100.26", False),
        ("100", "100", True),
        ("101", "100", False),  # crossed: no spread that one could trust
        ("0", "0", False),
    ],
)
def test_a_spread_is_within_its_limit_up_to_exactly_that(bid: str, ask: str, within: bool) -> None:
    assert spread_within(D(bid), D(ask), D("0.5")) is within


def test_the_spread_as_people_read_it() -> None:
    assert spread_pct(D("99.75"), D("100.25")) == D("0.5")


# Money that is moved --------------------------------------------------------------------------------------------------

T0 = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def minutes(number: float) -> datetime:
    return T0 + timedelta(minutes=number)


def deposit(begun: float, listed: float, value: int = 100, *, came_late: bool = False) -> rules.Move:
    return rules.Move(D(value), minutes(listed if came_late else begun), minutes(listed), came_late)


def withdrawal(begun: float, value: int = 100) -> rules.Move:
    return rules.Move(D(-value), minutes(begun), minutes(begun))


@pytest.mark.parametrize(
    ("move", "amount", "unclear"),
    [
        (deposit(-5, -4), 0, 0),  # before the base
        (deposit(1, 2), 100, 0),
        (deposit(1, 9.5), 100, 100),  # listed half a minute before the balances: they may lack it
        (deposit(1, 10.5), 100, 100),  # and after them: they may have it
        (deposit(-5, 0.5, came_late=True), 0, 0),  # in the first list after the base: it had arrived before
        (deposit(-5, 2, came_late=True), 100, 0),
        (withdrawal(-5), 0, 0),
        (withdrawal(1), -100, 0),
        (withdrawal(9.5), 0, 100),
        (withdrawal(10.5), 0, 100),
        (rules.Move(D(-100), minutes(1), None), 0, 100),  # under way: it may come back
        (rules.Move(D(-100), minutes(-1), None), 0, 0),
    ],
)
def test_of_what_may_have_moved_the_worse_is_taken_and_said(move: rules.Move, amount: int, unclear: int) -> None:
    base = rules.Base(T0, minutes(0.5))
    assert rules.shift([move], base, minutes(10)) == rules.Shift(D(amount), D(unclear))


def test_before_the_first_list_nothing_that_comes_late_is_after_the_base() -> None:
    late = deposit(-5, 2, came_late=True)
    assert rules.shift([late], rules.Base(T0), minutes(10)) == rules.Shift()


@given(
    moves=st.lists(st.tuples(st.integers(-1000, 1000).filter(bool), st.floats(-5, 12)), max_size=8),
    held=st.integers(0, 5000),
)
def test_the_truth_lies_between_the_worse_and_the_better(moves: list[tuple[int, float]], held: int) -> None:
    """Whatever the balances contain of moves near to them, what is kept of the base lies between both figures."""
    rows = [rules.Move(D(value), minutes(at), minutes(at)) for value, at in moves]
    found = rules.shift(rows, rules.Base(T0), minutes(10))
    lowest, highest = D(held) - found.amount, D(held) - found.amount + found.unclear
    for margin in (9, 9.5, 10, 10.5):  # balances contain what happened until then
        kept = D(held) - sum((row.value for row in rows if T0 < row.at <= minutes(margin)), D(0))
        assert lowest <= kept <= highest
