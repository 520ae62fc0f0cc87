"""The arithmetic of deals, for both directions: totals, profit net of fees, targets, remainders."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from positions.ledger import (
    FillFact,
    ProfitReference,
    Totals,
    close_as_dust,
    profit_pct,
    sellable,
    target_price,
    totals,
    unrealised,
)
from positions.states import Direction, Purpose
from tests.bots.building import NOW, D, fill, holding
from tradebot.core.decimals import ZERO, use_money_context

LONG, SHORT = Direction.LONG, Direction.SHORT
BASE, SAFETY, PROFIT = Purpose.BASE_ORDER, Purpose.SAFETY_ORDER, Purpose.TAKE_PROFIT
NEAR = Decimal("1E-30")

directions = st.sampled_from(Direction)
prices = st.decimals("0.0001", "100000", places=6)
sizes = st.decimals("0.0001", "1000", places=8)
rates = st.decimals("0", "0.02", places=4)


@pytest.fixture(autouse=True)
def _money() -> None:
    use_money_context()


def entries(direction: Direction, drawn: list[tuple[Decimal, Decimal]], rate: Decimal = ZERO) -> list[FillFact]:
    return [
        fill(direction, BASE if i == 0 else SAFETY, price, base, fee=price * base * rate, minute=i)
        for i, (price, base) in enumerate(drawn)
    ]


def closed(direction: Direction, sums: Totals, price: Decimal, rate: Decimal) -> Totals:
    """Return the totals after closing everything at ``price``."""
    base = sums.remaining_base
    exit_fill = fill(direction, PROFIT, price, base, fee=price * base * rate, minute=99)
    entry = FillFact(
        direction.entry_side,
        sums.average_price,
        sums.entry_base,
        sums.entry_quote,
        sums.entry_fee_quote,
        "USD",
        NOW,
        BASE,
    )
    return holding(entry, exit_fill, direction=direction)


def test_a_long_deal_adds_up() -> None:
    sums = holding(
        fill(LONG, BASE, 100, 1, fee="0.6"),
        fill(LONG, SAFETY, 90, 2, fee="1.08", minute=1),
        fill(LONG, PROFIT, 110, "1.5", fee="0.99", minute=2),
    )
    assert (sums.base_bought, sums.base_sold, sums.base_held) == (3, D("1.5"), D("1.5"))
    assert (sums.quote_spent, sums.quote_received) == (280, 165)
    assert sums.fees == {"USD": D("2.67")}
    assert sums.average_price == D(280) / 3
    assert (sums.base_order_price, sums.base_order_quote) == (100, 100)
    assert (sums.last_entry_price, sums.last_price) == (90, 110)
    assert (sums.entry_fills, sums.exit_fills) == (2, 1)
    assert (sums.first_fill_at, sums.last_fill_at) == (NOW, NOW + timedelta(minutes=2))
    # Half of what was invested (280 + 1.68) has been sold for 165 - 0.99.
    assert abs(sums.realised_profit - (D("164.01") - D("140.84"))) < NEAR


def test_f45_a_short_deal_adds_up_the_other_way_round() -> None:
    sums = holding(
        fill(SHORT, BASE, 100, 1, fee="0.6"),
        fill(SHORT, SAFETY, 110, 1, fee="0.66", minute=1),
        fill(SHORT, PROFIT, 90, 2, fee="1.08", minute=2),
        direction=SHORT,
    )
    assert (sums.base_sold, sums.base_bought, sums.base_held) == (2, 2, 0)
    assert (sums.quote_received, sums.quote_spent) == (210, 180)
    assert sums.average_price == 105
    assert sums.is_flat
    assert sums.realised_profit == D("210") - D("1.26") - D("180") - D("1.08")
    assert sums.realised_pct is not None
    assert sums.realised_pct > 0


def test_no_fills_are_nothing() -> None:
    sums = holding()
    assert sums.average_price is None
    assert sums.base_order_price is None
    assert sums.realised_pct is None
    assert sums.realised_profit == 0
    assert sums.is_flat
    assert unrealised(sums, D(100), D("0.006")).pct == 0
    assert target_price(sums, D(1), D(0)) is None


def test_f25_a_fee_taken_in_base_leaves_less_to_sell() -> None:
    sums = holding(fill(LONG, BASE, 100, 1, fee="0.006", fee_currency="ETH"))
    assert sums.base_held == D("0.994")
    assert sums.fees == {"ETH": D("0.006")}
    assert sums.fees_in_quote == D("0.6")
    assert sellable(sums.remaining_base, D(100), D("0.01"), D("0.01"), D(1)) == D("0.99")


def test_f25_a_short_that_paid_its_fee_in_base_buys_that_back_too() -> None:
    sums = holding(fill(SHORT, BASE, 100, 1, fee="0.006", fee_currency="ETH"), direction=SHORT)
    assert sums.remaining_base == D("1.006")


def test_a_fee_in_a_third_currency_is_recorded_and_not_mistaken_for_quote() -> None:
    sums = holding(fill(LONG, BASE, 100, 1, fee="0.01", fee_currency="BNB"))
    assert sums.fees == {"BNB": D("0.01")}
    assert (sums.base_held, sums.invested_quote, sums.fees_in_quote) == (1, 100, 0)


def test_f20_a_partial_close_leaves_the_rest() -> None:
    sums = holding(fill(LONG, BASE, 100, 1), fill(LONG, PROFIT, 110, "0.4", minute=1))
    assert sums.remaining_base == D("0.6")
    assert sums.average_price == 100
    assert sums.realised_profit == 4
    assert sums.realised_pct == 10


def test_f28_the_target_pays_both_fees() -> None:
    rate = D("0.006")
    sums = holding(fill(LONG, BASE, 100, 1, fee="0.6"))
    gross = D(100) * D("1.01")
    assert profit_pct(sums, gross, rate) < 0
    target = target_price(sums, D(1), rate)
    assert target is not None
    assert target > gross
    assert abs(profit_pct(sums, target, rate) - 1) < NEAR


@given(
    directions,
    st.lists(st.tuples(prices, sizes), min_size=1, max_size=6),
    rates,
    st.decimals("-20", "90", places=2),
    st.sampled_from(ProfitReference),
)
def test_f28_f45_closing_at_the_target_earns_exactly_the_percentage(
    direction: Direction,
    drawn: list[tuple[Decimal, Decimal]],
    rate: Decimal,
    pct: Decimal,
    reference: ProfitReference,
) -> None:
    sums = holding(*entries(direction, drawn, rate), direction=direction)
    target = target_price(sums, pct, rate, reference)
    assume(target is not None)
    assert target is not None
    assert abs(profit_pct(sums, target, rate, reference) - pct) < D("1E-25")
    stake = sums.invested_quote if reference is ProfitReference.TOTAL else sums.base_order_quote
    realised = closed(direction, sums, target, rate).realised_profit
    assert abs(realised - stake * pct / 100) < D("1E-20")


@given(directions, st.lists(st.tuples(prices, sizes), min_size=1, max_size=6), rates, prices)
def test_f45_unrealised_becomes_realised_when_closed_at_the_mark(
    direction: Direction, drawn: list[tuple[Decimal, Decimal]], rate: Decimal, mark: Decimal
) -> None:
    sums = holding(*entries(direction, drawn, rate), direction=direction)
    open_result = unrealised(sums, mark, rate)
    done = closed(direction, sums, mark, rate)
    assert done.is_flat
    assert abs(done.realised_profit - open_result.profit) < D("1E-20")
    assert done.realised_pct is not None
    assert abs(done.realised_pct - open_result.pct) < D("1E-20")


@given(directions, st.lists(st.tuples(prices, sizes), min_size=1, max_size=5), rates, st.integers(1, 99), prices)
def test_partial_closes_add_up_to_the_whole(
    direction: Direction, drawn: list[tuple[Decimal, Decimal]], rate: Decimal, share: int, price: Decimal
) -> None:
    opened = entries(direction, drawn, rate)
    base = holding(*opened, direction=direction).remaining_base
    part = base * share / 100
    exits = [
        fill(direction, PROFIT, price, size, fee=price * size * rate, minute=50 + i)
        for i, size in enumerate((part, base - part))
    ]
    half = holding(*opened, exits[0], direction=direction)
    whole = holding(*opened, *exits, direction=direction)
    assert whole.is_flat
    left = unrealised(half, price, rate).profit
    assert abs(half.realised_profit + left - whole.realised_profit) < D("1E-20")


def test_f33_a_target_of_zero_percent_is_break_even_not_no_target() -> None:
    sums = holding(fill(LONG, BASE, 100, 1, fee="0.6"))
    price = sums.break_even(D("0.006"))
    assert price is not None
    assert abs(unrealised(sums, price, D("0.006")).profit) < NEAR
    assert price > D("101.2")


def test_f45_break_even_of_a_short_is_below_its_entry() -> None:
    sums = holding(fill(SHORT, BASE, 100, 1, fee="0.6"), direction=SHORT)
    price = sums.break_even(D("0.006"))
    assert price is not None
    assert price < 99


def test_a_short_cannot_earn_more_than_everything() -> None:
    sums = holding(fill(SHORT, BASE, 100, 1), direction=SHORT)
    assert target_price(sums, D(100), D(0)) is None
    assert target_price(sums, D(99), D(0)) == 1


def test_a_percentage_of_the_base_order_asks_less_of_a_deal_with_safety_orders() -> None:
    sums = holding(fill(LONG, BASE, 100, 1), fill(LONG, SAFETY, 80, 1, minute=1))
    assert target_price(sums, D(10), D(0), ProfitReference.TOTAL) == 99
    assert target_price(sums, D(10), D(0), ProfitReference.BASE) == 95


@pytest.mark.parametrize(
    ("base", "increment", "expected"),
    [("1.23456", "0.001", "1.234"), ("7.9", "1", "7"), ("0.99", "1", "0"), ("0.0099", "0.001", "0")],
)
def test_f24_sizes_are_floored_to_the_increment_whole_numbers_included(
    base: str, increment: str, expected: str
) -> None:
    assert sellable(D(base), D(100), D(increment), D("0.01"), D(1)) == D(expected)


@given(sizes, prices, st.sampled_from([D(1), D("0.01"), D("0.00000001"), D("0.5"), D("25")]))
def test_f24_what_is_sold_is_never_more_than_what_is_held(base: Decimal, price: Decimal, increment: Decimal) -> None:
    size = sellable(base, price, increment, increment, D("0.01"))
    assert 0 <= size <= base
    assert size % increment == 0


def test_f29_a_remainder_counts_at_its_value_not_as_lost() -> None:
    sums = holding(fill(LONG, BASE, 100, "1.0009"), fill(LONG, PROFIT, 110, 1, minute=1))
    dust = close_as_dust(sums, D(110))
    assert dust.base == D("0.0009")
    assert dust.value == D("0.099")
    assert dust.pct is not None
    assert abs(dust.pct - 10) < NEAR
    assert abs(dust.profit - D("10.009")) < NEAR


def test_f45_f29_dust_of_a_short_costs_what_buying_it_back_would() -> None:
    sums = holding(fill(SHORT, BASE, 100, "1.0009"), fill(SHORT, PROFIT, 90, 1, minute=1), direction=SHORT)
    dust = close_as_dust(sums, D(90))
    assert dust.pct is not None
    assert abs(dust.pct - 10) < NEAR


def test_references_of_the_ladder() -> None:
    sums = holding(fill(LONG, BASE, 100, 1), fill(LONG, SAFETY, 90, 1, minute=1))
    assert sums.safety_reference("average") == 95
    assert sums.safety_reference("base_order") == 100
    assert sums.safety_reference("last_fill") == 90


def test_a_base_order_filled_in_parts_has_their_average_price() -> None:
    sums = holding(fill(LONG, BASE, 100, 1), fill(LONG, BASE, 102, 1, minute=1))
    assert sums.base_order_price == 101
    assert sums.base_order_quote == 202


def test_totals_take_any_iterable_of_fills() -> None:
    fills = entries(LONG, [(D(100), D(1)), (D(90), D(1))])
    assert totals(iter(fills), LONG, "ETH", "USD") == totals(fills, LONG, "ETH", "USD")


def test_what_is_remembered_beside_totals_is_no_part_of_them() -> None:
    one, other = holding(fill(LONG, BASE, 100, 1)), holding(fill(LONG, BASE, 100, 1))
    one.memo["worked out"] = 1
    assert one == other
    assert "memo" not in repr(one)
    assert replace(one, entry_fills=2).memo == {}
