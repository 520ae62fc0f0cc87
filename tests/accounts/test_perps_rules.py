"""The arithmetic of perpetuals, worked by hand: liquidation, funding, profit in both directions, partial closes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.exchanges import perps_rules as rules
from accounts.exchanges.perps_rules import Holding
from tradebot.core.decimals import QUANTUM, ZERO
from tradebot.core.words import Direction

D = Decimal
LONG, SHORT = Direction.LONG, Direction.SHORT
TWO_PCT = D("0.02")


def opened(direction: Direction, leverage: int, base: str = "2", price: int = 100) -> Holding:
    return rules.enlarged(None, direction, D(base), D(base) * price, leverage)


@pytest.mark.parametrize(
    ("direction", "leverage", "expected"),
    [
        # (200 - 200) / ...: a long without leverage is never liquidated
        (LONG, 1, None),
        # margin 66.66...: (200 - 66.66...) / (2 * 0.98)
        (LONG, 3, "68.0272"),
        # margin 20: (200 - 20) / (2 * 0.98)
        (LONG, 10, "91.8367"),
        # margin 200: (200 + 200) / (2 * 1.02)
        (SHORT, 1, "196.0784"),
        (SHORT, 3, "130.7190"),
        (SHORT, 10, "107.8431"),
    ],
)
def test_liquidation_prices_by_hand(direction: Direction, leverage: int, expected: str | None) -> None:
    holding = opened(direction, leverage)
    found = rules.liquidation_price(holding, TWO_PCT, holding.margin)
    assert found is None if expected is None else found is not None and round(found, 4) == D(expected)


@given(
    direction=st.sampled_from(Direction),
    leverage=st.integers(1, 10),
    price=st.decimals("0.01", "100000", places=2),
    base=st.decimals("0.001", "1000", places=3),
)
def test_a_position_is_liquidated_at_its_price_and_not_a_step_before(
    direction: Direction, leverage: int, price: Decimal, base: Decimal
) -> None:
    holding = rules.enlarged(None, direction, base, base * price, leverage)
    at = rules.liquidation_price(holding, TWO_PCT, holding.margin)
    if at is None:
        assert (direction, leverage) == (LONG, 1)
        return
    near = at * D("0.000000000001")
    assert rules.is_liquidated(holding, at - direction.sign * near, TWO_PCT, holding.margin)
    assert not rules.is_liquidated(holding, at + direction.sign * near, TWO_PCT, holding.margin)


@pytest.mark.parametrize(("direction", "price", "profit"), [(LONG, 110, "20"), (LONG, 95, "-10"), (SHORT, 110, "-20")])
def test_profit_is_the_difference_times_the_size(direction: Direction, price: int, profit: str) -> None:
    assert rules.profit_at(opened(direction, 3), D(price)) == D(profit)


def test_a_partial_close_takes_its_share_and_the_last_one_the_rest() -> None:
    holding = rules.enlarged(None, LONG, D(3), D("100"), 3)  # 33.33... each, margin 33.33...
    first = rules.closing(holding, D(1), D(40), D("0.01"), D(50))
    # 40 - 33.33... = 6.66..., fee 0.4
    assert (round(first.profit, 6), first.fee, first.quote) == (D("6.666667"), D("0.4"), D(40))
    assert round(first.released, 6) == D("11.111111")
    last = rules.closing(first.left, D(2), D(40), D("0.01"), D(50))
    assert last.left.base == last.left.entry_quote == last.left.margin == ZERO
    assert first.profit + last.profit == D(20)
    assert first.released + last.released == holding.margin


@pytest.mark.parametrize(
    ("direction", "price", "worst"),
    # margin 20 on 200: a loss of 20 with a fee of 1 % is met at 180/1.98 = 90.909..., 220/2.02 = 108.910...
    [(LONG, "95", "95"), (LONG, "80", "90.91"), (SHORT, "105", "105"), (SHORT, "120", "108.91")],
)
def test_a_close_never_takes_more_than_what_backs_it(direction: Direction, price: str, worst: str) -> None:
    holding = opened(direction, 10)
    at = rules.worst_price(holding, D(price), D("0.01"), holding.margin, D("0.01"))
    assert at == D(worst)
    done = rules.closing(holding, D(2), at, D("0.01"), holding.margin)
    assert done.fee - done.profit <= holding.margin


@given(
    direction=st.sampled_from(Direction),
    leverage=st.integers(1, 10),
    base=st.decimals("0.0001", "50", places=4),
    price=st.decimals("0.01", "90000", places=2),
    exit_price=st.decimals("0.01", "90000", places=2),
    share=st.decimals("0.01", "1", places=2),
)
def test_whatever_the_price_the_loss_stays_within_the_margin(
    direction: Direction, leverage: int, base: Decimal, price: Decimal, exit_price: Decimal, share: Decimal
) -> None:
    holding = rules.enlarged(None, direction, base, base * price, leverage)
    at = rules.worst_price(holding, exit_price, D("0.006"), holding.margin, D("0.01"))
    done = rules.closing(holding, base * share, at, D("0.006"), holding.margin)
    assert done.fee >= ZERO
    assert done.fee - done.profit <= holding.margin
    assert done.left.margin + done.released == holding.margin


def test_margins_are_never_a_fraction_too_little() -> None:
    margin = rules.initial_margin(D(100), 3)
    assert margin * 3 >= D(100)
    assert margin - QUANTUM < D(100) / 3
    assert rules.entry_cost(D(100), 10, D("0.006")) == D("10.6")


@pytest.mark.parametrize(
    ("direction", "rate", "amount"),
    [(LONG, "0.0001", "-0.02"), (SHORT, "0.0001", "0.02"), (LONG, "-0.0003", "0.06"), (SHORT, "-0.0003", "-0.06")],
)
def test_longs_pay_shorts_while_the_rate_is_above_zero(direction: Direction, rate: str, amount: str) -> None:
    assert rules.funding_amount(direction, D(2), D(100), D(rate)) == D(amount)


def test_funding_falls_due_by_the_clock_not_by_the_position() -> None:
    since = datetime(2026, 11, 29, 7, 59, 59, tzinfo=UTC)
    found = rules.funding_times(since, datetime(2026, 11, 30, 8, tzinfo=UTC), 8)
    assert [(t.day, t.hour) for t in found] == [(29, 8), (29, 16), (30, 0), (30, 8)]
    assert rules.funding_times(datetime(2026, 11, 29, 8, tzinfo=UTC), datetime(2026, 11, 29, 15, tzinfo=UTC), 8) == []
    assert len(rules.funding_times(since, datetime(2026, 11, 29, 12, tzinfo=UTC), 1)) == 5
