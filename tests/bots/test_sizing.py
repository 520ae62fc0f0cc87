"""Budgets and ladders: divided once, floored, explained."""

from __future__ import annotations

import doctest
import itertools
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bots import sizing
from bots.sizing import (
    DeviationReference,
    Ladder,
    automatic_base_size,
    base_for,
    base_order_size,
    below_minimum,
    bot_budget,
    deal_budget,
    deepest_drop_pct,
    fundable_deals,
    ladder_fault,
    ladder_report,
    minimum_order_quote,
    safety_order_levels,
    smallest_deal_budget,
)
from bots.strategies.base import ProductTerms
from positions.ledger import profit_pct, quote_value
from positions.states import Direction, Purpose
from tests.bots.building import GOLDEN, TERMS, D, fill, holding, settings
from tradebot.core.decimals import HUNDRED, MONEY, ZERO
from tradebot.core.errors import InvalidInput, MissingInformation

LONG, SHORT = Direction.LONG, Direction.SHORT
PRECISE = Decimal("1E-12")


def close(one: Decimal, other: str) -> bool:
    """Return whether two figures agree to all the digits that the other one is written with."""
    return abs(one - D(other)) <= Decimal(1).scaleb(D(other).as_tuple().exponent) / 2


def test_the_golden_ladder() -> None:
    report = ladder_report(settings(**GOLDEN), D(100), TERMS, D(1000), ZERO)
    assert report.is_workable
    base, *rungs = report.rungs
    assert (base.level, base.price, base.size) == (0, 100, 10)
    for got, price, cost, average, target in zip(
        rungs,
        ("98", "95.6", "92.72", "89.264", "85.1168"),
        ("20", "35", "57.5", "91.25", "141.875"),
        ("98.989899", "97.508088", "95.576762", "93.140508", "90.109483"),
        ("100.474747", "98.970710", "97.010413", "94.537615", "91.461125"),
        strict=True,
    ):
        assert got.price == D(price)
        assert got.cumulative_cost == D(cost)
        assert close(got.average_after, average)
        assert got.target_after is not None
        assert close(got.target_after, target)


def test_the_golden_ladder_to_twelve_digits_after_an_independent_calculation() -> None:
    """The reference is worked out in exact fractions; the relative error of each figure is at most 1e-12."""
    report = ladder_report(settings(**GOLDEN), D(100), TERMS, D(1000), ZERO)
    cost, quantity, step, deviation, size = (Fraction(n) for n in ("10", "1/10", "2", "0", "10"))
    assert len(report.rungs) == 6
    for rung in report.rungs[1:]:
        deviation += step
        price = 100 * (1 - deviation / 100)
        cost, quantity = cost + size, quantity + size / price
        exact = (price, cost, cost / quantity, cost / quantity * Fraction("1.015"))
        for got, wanted in zip(
            (rung.price, rung.cumulative_cost, rung.average_after, rung.target_after), exact, strict=True
        ):
            assert abs(Fraction(got or 0) / wanted - 1) <= Fraction(1, 10**12)
        step, size = step * Fraction("1.2"), size * Fraction("1.5")


def test_f45_the_ladder_of_a_short_goes_up() -> None:
    report = ladder_report(settings(**GOLDEN), D(100), TERMS, D(1000), ZERO, SHORT)
    assert [rung.price for rung in report.rungs[1:]] == [
        D(p) for p in ("102", "104.4", "107.28", "110.736", "114.8832")
    ]
    assert report.rungs[1].average_after > 100
    assert all(rung.target_after is not None and rung.target_after < rung.average_after for rung in report.rungs)


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(sizing).failed == 0


@given(
    st.integers(0, 12),
    st.decimals("0.1", "5", places=2),
    st.decimals("0.5", "1.5", places=2),
    st.decimals("0.5", "2", places=2),
    st.sampled_from(Direction),
)
def test_f45_rungs_move_away_from_the_price_and_sizes_follow_the_scale(
    count: int, deviation: Decimal, step: Decimal, volume: Decimal, direction: Direction
) -> None:
    ladder = Ladder(count, deviation, step, volume, D(10))
    rungs = safety_order_levels(ladder, D(100), direction)
    assert [rung.level for rung in rungs] == list(range(1, count + 1))
    away = [direction.sign * (100 - rung.price) for rung in rungs]
    assert away == sorted(away)
    for one, other in itertools.pairwise(rungs):
        assert other.size == one.size * volume


@pytest.mark.parametrize("fee", ["0", "0.006"])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("reference", list(DeviationReference))
@pytest.mark.parametrize("kind", ["total", "base"])
def test_f28_f45_the_report_agrees_with_the_ledger(
    fee: str, direction: Direction, reference: DeviationReference, kind: str
) -> None:
    """Filling the reported rungs one by one gives the reported averages, and the reported target its percentage."""
    given_settings = settings(**GOLDEN | {"deviation_reference": reference, "take_profit_type": kind})
    rate = D(fee)
    report = ladder_report(given_settings, D(100), TERMS, D(1000), rate, direction)
    fills: list[Any] = []
    with localcontext(MONEY):
        for rung in report.rungs:
            purpose = Purpose.SAFETY_ORDER if rung.level else Purpose.BASE_ORDER
            made = fill(direction, purpose, rung.price, rung.size / rung.price, fee=rung.size * rate)
            fills.append(made)
            sums = holding(*fills, direction=direction)
            assert sums.average_price is not None
            assert abs(sums.average_price - rung.average_after) < PRECISE
            assert rung.target_after is not None
            profit = profit_pct(sums, rung.target_after, rate, given_settings.take_profit_type)
            assert abs(profit - D("1.5")) < PRECISE
            following = report.rungs[rung.level + 1] if rung.level + 1 < len(report.rungs) else None
            if following is not None:
                hangs_from = sums.safety_reference(reference)
                assert hangs_from is not None
                levels = safety_order_levels(sizing.ladder_of(given_settings, D(10)), hangs_from, direction)
                assert abs(levels[rung.level].price - following.price) < PRECISE


# Budgets --------------------------------------------------------------------------------------------------------------


def test_f30_the_budget_is_divided_exactly_once() -> None:
    assert deal_budget(D(1000), 4, split=True) == 250
    assert deal_budget(D(1000), 4, split=False) == 1000
    percent = settings(base_order_type="percent", base_order_size=10, max_active_deals=4)
    assert base_order_size(percent, deal_budget(D(1000), 4, split=True)) == 25


def test_f33_a_budget_of_zero_percent_is_nothing() -> None:
    assert bot_budget("percent", ZERO, D(1000)) == 0
    assert bot_budget("percent", D(25), D(1000)) == 250
    assert bot_budget("fixed", D(300), None) == 300


def test_f34_an_unknown_account_value_is_not_zero() -> None:
    with pytest.raises(MissingInformation):
        bot_budget("percent", D(10), None)
    with pytest.raises(ValueError, match="share"):
        bot_budget("share", D(10), D(1))


def test_f31_the_value_counts_free_money_and_open_deals_once() -> None:
    assert quote_value(D(700), [(D(2), D(100)), (D(1), D(50))]) == 950
    with pytest.raises(MissingInformation):
        quote_value(D(700), [(D(2), None)])


@pytest.mark.parametrize(
    ("budget", "maximum", "deals"), [(1000, 5, 5), (350, 5, 3), (100, 5, 1), (10, 5, 1), (0, 5, 1), (99999, 5, 5)]
)
def test_the_soft_ceiling_counts_fully_funded_deals(budget: int, maximum: int, deals: int) -> None:
    assert fundable_deals(D(budget), D(10), D(10), maximum) == deals


def test_automatic_sizing_spends_the_budget_exactly() -> None:
    assert automatic_base_size(D(141), 2, D("0.5"), D("2")) == D(141) / D("2.5")
    report = ladder_report(
        settings(base_order_type="automatic", safety_order_size=70, volume_scale="1.3"), D(100), TERMS, D(1000), ZERO
    )
    assert abs(report.total_cost - 1000) < PRECISE
    assert report.is_workable


sizings = st.fixed_dictionaries(
    {
        "base_order_type": st.sampled_from(["percent", "fixed", "automatic"]),
        "base_order_size": st.decimals("1", "40", places=1),
        "safety_order_type": st.sampled_from(["percent", "fixed"]),
        "safety_order_size": st.decimals("10", "150", places=0),
        "max_safety_orders": st.integers(0, 5),
        "volume_scale": st.decimals("0.5", "2", places=1),
    }
)


@given(sizings, st.decimals("1", "20", places=0), st.decimals("0.5", "0.99", places=2))
def test_the_smallest_budget_works_and_anything_less_does_not(
    values: dict[str, Any], minimum: Decimal, less: Decimal
) -> None:
    try:
        chosen = settings(**values)
    except InvalidInput:
        assume(False)
        raise
    minimum += D("0.0137")  # an order of exactly the minimum falls below it when its base is floored
    terms = ProductTerms("A-B", "A", "B", D("0.01"), D("1E-18"), ZERO, minimum)
    smallest = smallest_deal_budget(chosen, minimum)
    if smallest is None:
        for budget in (minimum, minimum * 100, minimum * 10_000):
            assert not ladder_report(chosen, D(1), terms, budget, ZERO).is_workable
        return
    # A hair more, because each order's base is floored.
    assert ladder_report(chosen, D(1), terms, smallest * D("1.000001"), ZERO).is_workable
    assert not ladder_report(chosen, D(1), terms, smallest * less, ZERO).is_workable


ladders = st.fixed_dictionaries(
    {
        "base_order_type": st.sampled_from(["percent", "fixed", "automatic"]),
        "base_order_size": st.decimals("1", "40", places=1),
        "safety_order_type": st.sampled_from(["percent", "fixed"]),
        "safety_order_size": st.decimals("10", "150", places=0),
        "max_safety_orders": st.integers(0, 12),
        "price_deviation": st.decimals("0.1", "9", places=1),
        "step_scale": st.decimals("0.5", "2", places=1),
        "volume_scale": st.decimals("0.2", "2", places=1),
        "deviation_reference": st.sampled_from([str(kind) for kind in DeviationReference]),
    }
)


@examples(max_examples=400, deadline=None)
@given(
    ladders,
    st.sampled_from(Direction),
    st.decimals("0.0003", "60000", places=4),
    st.decimals("1", "4000", places=2),
    st.sampled_from(["0.00000001", "0.0001", "0.1", "1", "25"]),
    st.sampled_from(["0", "0.0001", "1", "3"]),
    st.sampled_from(["0", "0.00001", "1", "5", "9.99", "10"]),
)
def test_f45_the_quick_verdict_on_a_ladder_is_that_of_the_report(
    values: dict[str, Any],
    direction: Direction,
    price: Decimal,
    budget: Decimal,
    increment: str,
    min_base: str,
    min_quote: str,
) -> None:
    try:
        chosen = settings(**values, direction=str(direction))
    except InvalidInput:
        assume(False)
        raise
    terms = ProductTerms("A-B", "A", "B", D("0.0001"), D(increment), D(min_base), D(min_quote))
    report = ladder_report(chosen, price, terms, budget, ZERO, direction)
    fault = ladder_fault(chosen, price, terms, budget, base_order_size(chosen, budget), direction)
    assert fault == (report.violations[0].code if report.violations else "")


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("reference", list(DeviationReference))
def test_f45_the_quick_verdict_is_right_at_the_very_edge(direction: Direction, reference: DeviationReference) -> None:
    """Around each order's own minimum, a hair to either side."""
    chosen = settings(base_order_size=20, volume_scale="0.8", deviation_reference=reference, direction=str(direction))
    price, budget = D("97.3"), D("523.17")
    base = base_order_size(chosen, budget)
    free = ProductTerms("A-B", "A", "B", D("0.01"), D("0.00001"), ZERO, ZERO)
    for rung in ladder_report(chosen, price, free, budget, ZERO, direction).rungs:
        floored = base_for(rung.size, rung.price, free)
        for hair in ("-1E-12", "0", "1E-12"):
            edges = {"min_quote": floored * rung.price + D(hair), "min_base": floored + D(hair)}
            for name, value in edges.items():
                terms = replace(free, **{name: value})
                report = ladder_report(chosen, price, terms, budget, ZERO, direction)
                wanted = report.violations[0].code if report.violations else ""
                assert ladder_fault(chosen, price, terms, budget, base, direction) == wanted


# Minimums -------------------------------------------------------------------------------------------------------------


def test_f27_the_rung_below_the_minimum_is_named() -> None:
    small = settings(**GOLDEN | {"volume_scale": "0.5"})
    terms = ProductTerms("A-B", "A", "B", D("0.01"), D("0.0001"), D("0.0001"), D(3))
    report = ladder_report(small, D(100), terms, D(1000), ZERO)
    assert [violation.level for violation in report.violations] == [3, 4, 5]
    assert "safety order 3" in report.violations[0].message
    assert "3 B" in report.violations[0].message


def test_f27_just_below_the_minimum_reads_as_less_than_the_minimum() -> None:
    terms = ProductTerms("A-B", "A", "B", D("0.01"), D("1E-18"), ZERO, D(10))
    assert below_minimum(base_for(D(10), D("9.8"), terms), D("9.8"), terms).startswith("9.9999999 B is below")


def test_an_expensive_ladder_is_refused_with_both_numbers() -> None:
    report = ladder_report(settings(**GOLDEN), D(100), TERMS, D(100), ZERO)
    (violation,) = report.violations
    assert (violation.code, violation.level) == ("over_budget", None)
    assert "141.875" in violation.message
    assert "100 USD" in violation.message


def test_f24_base_is_floored_to_whole_numbers_too() -> None:
    whole = ProductTerms("A-B", "A", "B", D("0.01"), D(1), D(1), ZERO)
    assert base_for(D(25), D(3), whole) == 8
    assert base_for(D(2), D(3), whole) == 0
    assert below_minimum(ZERO, D(3), whole)
    assert minimum_order_quote(whole, D(3)) == 3


def test_the_deepest_rung_is_measured_from_average_and_base_price() -> None:
    ladder = Ladder(5, D(2), D(1), D(1))
    average, base = deepest_drop_pct(DeviationReference.AVERAGE, ladder, D("0.5"), LONG)
    assert average == 10
    assert base > 10
    _, from_base = deepest_drop_pct(DeviationReference.BASE_ORDER, ladder, D("0.5"), LONG)
    assert from_base == 10
    assert deepest_drop_pct(DeviationReference.BASE_ORDER, Ladder(60, D(2)), D(1), LONG) == (HUNDRED, HUNDRED)
    assert deepest_drop_pct(DeviationReference.BASE_ORDER, ladder, D("0.5"), SHORT)[1] == 10
