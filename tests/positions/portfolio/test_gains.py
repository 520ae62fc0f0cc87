"""What was earned and what was put in, worked out by hand (F35)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from positions.portfolio.gains import Flow, History, Reading, gain_of, steps_of

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def at(days: float) -> datetime:
    return FIRST + days * DAY


def history(values: dict[int, str | int], *flows: tuple[float, str | int | None], **more: Any) -> History:
    """An account whose value was read at midnight of these days."""
    readings = {((FIRST + day * DAY).date(), 0): Reading(at(day), Decimal(value)) for day, value in values.items()}
    return History(readings, [Flow(at(day), None if value is None else Decimal(value)) for day, value in flows], **more)


def gain(*histories: History) -> Any:
    return gain_of(steps_of(histories))


def test_without_transfers_the_gain_is_the_change() -> None:
    found = gain(history({0: 1000, 1: 1100, 2: 990}))
    assert (found.amount, found.put_in, found.first, found.last) == (-10, 0, 1000, 990)
    assert found.pct == -1  # 1.1 × 0.9 = 0.99


def test_f35_a_deposit_is_not_profit() -> None:
    found = gain(history({0: 1000, 1: 6000}, (0.5, 5000)))
    assert (found.amount, found.put_in, found.pct) == (0, 5000, 0)


def test_f35_a_withdrawal_is_not_a_loss() -> None:
    found = gain(history({0: 1000, 1: 250}, (0.25, -750)))
    assert (found.amount, found.put_in, found.pct) == (0, -750, 0)


def test_a_deposit_earns_only_for_as_long_as_it_was_there() -> None:
    """1000 there all day, 1000 more for half of it: 75 on 1500 is 5 %."""
    found = gain(history({0: 1000, 1: 2075}, (0.5, 1000)))
    assert (found.amount, found.pct) == (75, 5)


def test_the_size_of_a_deposit_does_not_show_as_skill() -> None:
    """Each day earns 10 %, whatever was put in between: 21 % over two days."""
    small = gain(history({0: 1000, 1: 1100, 2: 1210}))
    large = gain(history({0: 1000, 1: 1100, 2: 111_210}, (1.0 + 1e-9, 100_000)))
    assert (small.amount, large.amount) == (210, 10_210)
    assert small.pct == 21
    assert round(large.pct, 6) == 21


def test_a_transfer_at_the_very_reading_belongs_to_what_ends_there() -> None:
    found = steps_of([history({0: 1000, 1: 1500, 2: 1500}, (1, 500))])
    assert [step.put_in for step in found] == [0, 500, 0]


def test_f34_a_transfer_of_unknown_value_makes_the_gain_unknown() -> None:
    found = gain(history({0: 1000, 1: 1500, 2: 1600}, (0.5, None)))
    assert (found.amount, found.put_in, found.pct) == (None, None, None)
    later = gain(history({1: 1500, 2: 1600}, (0.5, None)))
    assert later.amount == 100  # it lies before the first reading


def test_what_happened_before_the_first_reading_is_in_it() -> None:
    assert gain(history({0: 1000, 1: 1000}, (-1, 1000))).amount == 0


def test_one_reading_is_no_gain() -> None:
    assert gain(history({0: 1000})) is None
    assert gain() is None


def test_an_empty_account_that_is_filled_earns_nothing_by_it() -> None:
    found = gain(history({0: 0, 1: 500, 2: 510}, (1, 500)))
    assert (found.amount, found.pct) == (10, 2)


def test_a_value_out_of_nothing_has_no_percentage() -> None:
    found = gain(history({0: 0, 1: 5}))
    assert (found.amount, found.pct) == (5, None)


# Several accounts -----------------------------------------------------------------------------------------------------


def test_a_day_on_which_one_account_was_not_read_has_no_sum() -> None:
    one, other = history({0: 100, 1: 110, 2: 120}), history({0: 1000, 2: 1000})
    assert [(step.key[0].day, step.value) for step in steps_of([one, other])] == [(1, 1100), (3, 1120)]
    assert gain(one, other).amount == 20


def test_transfers_of_a_day_without_a_sum_are_not_lost() -> None:
    one, other = history({0: 100, 1: 600, 2: 600}, (0.5, 500)), history({0: 1000, 2: 1000})
    assert gain(one, other).amount == 0


def test_an_account_that_joins_brings_its_value_along() -> None:
    found = gain(history({0: 100, 1: 100, 2: 110}), history({1: 5000, 2: 5000}))
    assert (found.amount, found.put_in) == (10, 5000)


def test_an_account_that_joins_while_another_is_not_read_brings_it_along_too() -> None:
    found = gain(history({0: 100, 2: 100}), history({1: 5000, 2: 5300}, (1.5, 200)))
    assert (found.amount, found.put_in) == (100, 5200)  # its 100 count: it was read before it joined the sum


def test_an_account_read_before_the_window_does_not_join_in_it() -> None:
    one = history({5: 100, 6: 100, 7: 100})
    other = history({7: 5000}, begun=(date(2026, 2, 1), 0))  # not read on days 5 and 6
    assert [step.value for step in steps_of([one, other])] == [5100]


def test_the_present_comes_after_the_days_own_reading() -> None:
    row = history({0: 100})
    today = FIRST.date()
    whole = History({**row.readings, (today, 1): Reading(at(0.4), Decimal(130))}, [Flow(at(0.2), Decimal(20))])
    found = gain(whole)
    assert (found.amount, found.put_in) == (10, 20)


@given(
    st.lists(st.integers(-500, 500), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(1, 285), st.integers(1, 5000)), max_size=6),
)
def test_f35_transfers_never_change_what_was_earned(changes: list[int], moved: list[tuple[int, int]]) -> None:
    """Whatever is put in and at which hour, the gain is the sum of what each day earned."""
    plain: dict[int, str | int] = {0: 100_000}
    filled: dict[int, str | int] = {0: 100_000}
    value, put_in = 100_000, 0
    for day, change in enumerate(changes, 1):
        value += change
        put_in = sum(amount for hour, amount in moved if hour <= 24 * day)
        plain[day], filled[day] = value, value + put_in
    within = [(hour / 24, amount) for hour, amount in moved if hour <= 24 * len(changes)]
    found = gain(history(filled, *within))
    assert found.amount == gain(history(plain)).amount == sum(changes)
    assert found.put_in == put_in
