"""The figures of a backtest against numbers worked out by hand."""

from __future__ import annotations

import time
from decimal import Decimal
from math import sqrt
from typing import Any

import numpy as np
import pytest

from bots.backtest import statistics as st
from bots.backtest.spec import Outcome, SimulatedDeal
from positions.states import Direction

D = Decimal
DAY = 86_400
MONDAY = 1_704_067_200  # 2024-01-01


def outcome(equity: list[float], *, step: int = DAY, opening: float = 100.0, **changes: Any) -> Outcome:
    """Looks at the end of each step from 2024-01-01 on."""
    times = MONDAY + step * np.arange(1, len(equity) + 1, dtype=np.int64)
    held = np.full(len(equity), opening)
    values: dict[str, Any] = {
        "quote": "USD",
        "candles": len(equity),
        "fills": (),
        "deals": (),
        "times": times,
        "equity": np.array(equity, dtype=np.float64),
        "invested": np.zeros(len(equity)),
        "held": held,
        "realised": D(0),
        "unrealised": D(0),
        "fees": D(0),
        "balances": {},
    }
    return Outcome(**(values | changes))


def deal(
    profit: int | str, pct: int | str | None = 1, *, day: int = 1, hours: float = 1, **changes: Any
) -> SimulatedDeal:
    """A deal that closed at noon of a day of January 2024."""
    closed = MONDAY + (day - 1) * DAY + DAY // 2
    values: dict[str, Any] = {
        "number": 1,
        "symbol": "BTC-USD",
        "direction": Direction.LONG,
        "opened_at": closed - int(hours * 3600),
        "closed_at": closed,
        "profit": D(profit),
        "profit_pct": None if pct is None else D(pct),
    }
    return SimulatedDeal(**(values | changes))


def test_the_return_counts_from_before_anything_was_paid_for() -> None:
    assert st.return_pct(outcome([99, 105, 110])) == pytest.approx(10)
    assert st.return_pct(outcome([])) is None
    assert st.return_pct(outcome([5], opening=0)) is None


def test_the_return_a_year_is_compounded() -> None:
    """Ten percent in half a year are 21 in a whole one."""
    half = outcome([100, 110])
    half.times[:] = [MONDAY, MONDAY + int(st.YEAR_SECONDS / 2)]
    assert st.annual_return_pct(half) == pytest.approx(21)
    assert st.annual_return_pct(outcome([100, 110], step=60)) is None  # less than a day
    assert st.annual_return_pct(outcome([100, 0])) is None


def test_the_drawdown_is_measured_from_the_highest_value_so_far() -> None:
    assert st.drawdowns(np.array([100.0, 120, 90, 130, 117])).tolist() == pytest.approx([0, 0, 25, 0, 10])
    found = st.max_drawdown(MONDAY + DAY * np.arange(5), np.array([100.0, 120, 90, 130, 117]))
    assert found == st.Drawdown(pytest.approx(25), MONDAY + 2 * DAY, 2 * DAY)


def test_a_fall_below_the_opening_value_counts_at_the_first_look() -> None:
    run = outcome([80, 90, 100])
    found = st.max_drawdown(run.times, run.equity, 100.0)
    assert found is not None
    assert (found.pct, found.longest_seconds) == (pytest.approx(20), 2 * DAY)


def test_a_drawdown_that_has_not_ended_lasts_until_the_end() -> None:
    found = st.max_drawdown(MONDAY + DAY * np.arange(6), np.array([100.0, 99, 100, 95, 96, 97]))
    assert found is not None
    assert found.longest_seconds == 3 * DAY
    assert st.max_drawdown(np.empty(0, dtype=np.int64), np.empty(0)) is None
    flat = st.max_drawdown(MONDAY + DAY * np.arange(3), np.array([1.0, 1, 1]))
    assert flat == st.Drawdown(0.0, MONDAY, 0)


def test_daily_returns_are_those_of_utc_days_and_midnight_ends_the_day_before() -> None:
    """Looks every twelve hours: noon and midnight of three days."""
    run = outcome([101, 110, 120, 99, 99, 99], step=DAY // 2)
    assert st.daily_returns(run).tolist() == pytest.approx([0.10, -0.10, 0.0])


def test_sharpe_and_sortino_are_those_of_daily_returns() -> None:
    returns = np.array([0.10, -0.10, 0.03])
    mean, deviation = 0.01, sqrt((0.09**2 + 0.11**2 + 0.02**2) / 2)
    assert st.sharpe(returns) == pytest.approx(mean / deviation * sqrt(365))
    assert st.sortino(returns) == pytest.approx(mean / sqrt(0.01 / 3) * sqrt(365))


@pytest.mark.parametrize("returns", [[], [0.1], [0.01, 0.01]])
def test_what_cannot_be_said_is_none(returns: list[float]) -> None:
    assert st.sharpe(np.array(returns)) is None
    assert st.sortino(np.array(returns)) is None


def test_exposure_counts_looks_and_capital() -> None:
    run = outcome([100, 100, 200, 200], invested=np.array([0.0, 50, 100, 0]))
    assert st.time_exposure_pct(run) == 50
    assert st.capital_exposure_pct(run) == pytest.approx(25)


def test_deals_are_judged_by_their_net_profit() -> None:
    closed = [deal(30, 3), deal(-10, -1), deal(0, 0), deal(20, 2)]
    assert st.win_rate_pct(closed) == 50
    assert st.profit_factor(closed) == 5
    assert st.average_deal(closed) == 10
    assert st.average_deal_pct(closed) == 1
    assert st.extreme_deal(closed, max) is closed[0]
    assert st.extreme_deal(closed, min) is closed[1]
    assert st.profit_factor([deal(1)]) is None
    assert (st.win_rate_pct([]), st.average_deal([]), st.average_deal_pct([])) == (None, None, None)
    assert st.extreme_deal([], max) is None


def test_time_in_deals() -> None:
    deals = [deal(1, hours=1), deal(1, hours=2), deal(1, hours=9)]
    still_open = deal(0, None, closed_at=None, hours=0)
    until = still_open.opened_at + 20 * 3600
    assert st.hours_in_deals([*deals, still_open], until) == (4, 2, 20)
    assert st.hours_in_deals([], 0) == (None, None, None)
    run = outcome([100] * 5)
    assert st.deals_per_day(deals, run.times) == pytest.approx(3 / 4)


def test_months_carry_on_from_one_another() -> None:
    equity = [100.0] * 30 + [110, 99] + [99] * 27 + [99, 118.8]  # 31 January, 29 February days, 1 March
    rows = st.monthly(outcome(equity, deals=(deal(10, day=31), deal(-11, -1, day=32), deal(1, closed_at=None))))
    assert [row["month"] for row in rows] == ["2024-01", "2024-02", "2024-03"]
    assert [row["return_pct"] for row in rows] == pytest.approx([10, -10, 20])
    assert [(row["deals"], row["won"], row["profit"]) for row in rows] == [(1, 1, "10"), (1, 0, "-11"), (0, 0, "0")]
    assert [row["max_drawdown_pct"] for row in rows] == pytest.approx([0, 10, 0])


def test_pairs_are_summed_up_with_their_open_deals() -> None:
    deals = (
        deal(5, 1, fees=D(1), safety_orders=2),
        deal(3, symbol="ETH-USD"),
        deal(-9, None, closed_at=None, symbol="ETH-USD"),
    )
    rows = st.pairs(outcome([100], deals=deals))
    assert [(row["symbol"], row["deals"], row["deals_closed"], row["profit"]) for row in rows] == [
        ("BTC-USD", 1, 1, "5"),
        ("ETH-USD", 2, 1, "-6"),
    ]
    assert (rows[0]["fees"], rows[0]["safety_orders"]) == ("1", 2)


def test_the_summary_has_every_objective_and_says_nothing_it_does_not_know() -> None:
    figures = st.summary(outcome([90, 120], deals=(deal(20, 2), deal(-5, -1)), realised=D(15), fees=D("0.3")))
    assert set(st.OBJECTIVES) <= set(figures)
    assert figures["return_per_drawdown"] == pytest.approx(2)
    assert figures["profit"] == "20"
    assert (figures["realised"], figures["fees"], figures["won"], figures["lost"]) == ("15", "0.3", 1, 1)
    assert figures["excess_return_pct"] == pytest.approx(20)
    nothing = st.summary(outcome([]))
    assert all(nothing[name] in (None, 0, "0") for name in st.OBJECTIVES)
    assert st.value_of(figures, "realised") == 15
    assert st.value_of(nothing, "sharpe") is None


def test_charts_keep_every_spike() -> None:
    equity = np.full(100_000, 100.0)
    equity[54_321], equity[77_777] = 40, 300
    run = outcome(equity.tolist(), step=60)
    curve = st.thinned(run, 1_500)
    assert len(curve["t"]) <= 1_500
    assert {40.0, 300.0} <= set(curve["equity"])
    assert max(curve["drawdown"]) == pytest.approx(66.667)
    assert (curve["t"][0], curve["t"][-1]) == (run.times[0], run.times[-1])
    assert curve["t"] == sorted(curve["t"])
    assert {len(values) for values in curve.values()} == {len(curve["t"])}
    assert st.thinned(outcome([100, 101]))["equity"] == [100, 101]
    assert st.thinned(outcome([]))["t"] == []


def test_a_million_looks_and_five_thousand_deals_are_worked_out_in_a_moment() -> None:
    """Measured 55 ms; the bound leaves room for a busy machine."""
    rng = np.random.default_rng(1)
    equity = 100 * np.exp(np.cumsum(rng.normal(0, 1e-4, 1_000_000)))
    run = outcome([100.0], deals=tuple(deal(n % 7 - 2, n % 5, day=n % 300 + 1) for n in range(5_000)))
    big = Outcome(
        **{name: getattr(run, name) for name in ("quote", "candles", "fills", "deals", "balances")},
        times=MONDAY + 60 * np.arange(1, 1_000_001, dtype=np.int64),
        equity=equity,
        invested=np.zeros(1_000_000),
        held=np.full(1_000_000, 100.0),
        realised=D(0),
        unrealised=D(0),
        fees=D(0),
    )

    def seconds() -> float:
        begun = time.perf_counter()
        st.summary(big), st.monthly(big), st.thinned(big)
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(3)) < 0.3
