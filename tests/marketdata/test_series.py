"""Candle series: one order, no gaps, resampling of whole candles, the forming one left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.series import Candles, closed_only, fill_gaps, from_rows, oldest_first, resample
from marketdata.timeframes import Timeframe
from tests.bots.building import START, candles
from tradebot.core.errors import InvalidInput

ROWS = [(START + 60 * i, 10 + i, 12 + i, 9 + i, 11 + i, 5.0) for i in range(6)]


def same(one: Candles, other: Candles) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Candles.__slots__)


def test_f41_newest_first_and_oldest_first_rows_give_the_same_series() -> None:
    assert same(from_rows(ROWS), from_rows(reversed(ROWS)))


@given(st.permutations(ROWS))
def test_f41_any_order_of_rows_gives_the_same_series(rows: list[tuple[float, ...]]) -> None:
    assert same(from_rows(ROWS), from_rows(rows))


def test_a_repeated_opening_time_is_kept_once_and_the_last_given_wins() -> None:
    corrected = (ROWS[2][0], 50, 60, 40, 55, 7.0)
    series = from_rows([*ROWS, corrected])
    assert len(series) == len(ROWS)
    assert series.close[2] == 55


@pytest.mark.parametrize(
    "row",
    [
        (START, 10, 9, 8, 10, 1),  # high below open
        (START, 10, 12, 11, 10, 1),  # low above close
        (START, 10, 12, 9, float("nan"), 1),
        (START, 10, float("inf"), 9, 10, 1),
        (START, 1, 2, 0, 1, 1),
        (START, 10, 12, 9, 10, -1),
    ],
)
def test_what_is_no_candle_is_refused(row: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_rows([row])
    assert refused.value.detail["time"] == START


def test_no_rows_are_an_empty_series() -> None:
    assert len(from_rows([])) == 0
    assert len(fill_gaps(Candles.empty(), Timeframe.M1)) == 0
    assert len(resample(Candles.empty(), Timeframe.M1, Timeframe.M5)) == 0


def test_missing_periods_are_filled_flat_at_the_previous_close() -> None:
    series = fill_gaps(from_rows([ROWS[0], ROWS[3]]), Timeframe.M1)
    assert series.time.tolist() == [START + 60 * i for i in range(4)]
    assert series.synthetic.tolist() == [False, True, True, False]
    for column in (series.open, series.high, series.low, series.close):
        assert column[1:3].tolist() == [11.0, 11.0]
    assert series.volume.tolist() == [5.0, 0.0, 0.0, 5.0]


def test_a_quiet_market_goes_on_flat_until_the_candle_asked_for() -> None:
    series = fill_gaps(from_rows(ROWS[:1]), Timeframe.M1, until=START + 180)
    assert series.close.tolist() == [11.0] * 4
    assert same(fill_gaps(series, Timeframe.M1, until=START), series)


def test_opening_times_off_the_grid_are_refused() -> None:
    with pytest.raises(InvalidInput):
        fill_gaps(from_rows([(START + 7, 1, 1, 1, 1, 1)]), Timeframe.M1)
    with pytest.raises(InvalidInput):
        fill_gaps(from_rows([ROWS[0], (START + 90, 1, 1, 1, 1, 1)]), Timeframe.M1)


@given(st.sets(st.integers(0, 200), min_size=1), st.integers(0, 10))
def test_filled_series_are_contiguous_and_keep_every_real_candle(minutes: set[int], beyond: int) -> None:
    times = np.array(sorted(minutes)) * 60 + START
    closes = np.arange(1, len(times) + 1, dtype=float)
    real = oldest_first(times, closes, closes, closes, closes, closes)
    filled = fill_gaps(real, Timeframe.M1, until=int(times[-1]) + 60 * beyond)
    assert (np.diff(filled.time) == 60).all()
    assert len(filled) == (times[-1] - times[0]) // 60 + 1 + beyond
    assert np.array_equal(filled.close[~filled.synthetic], real.close)
    assert not filled.volume[filled.synthetic].any()


def test_resampling_makes_whole_candles_only() -> None:
    rows = [(START + 60 * i, 10 + i, 12 + i, 9 + i, 11 + i, 1.0) for i in range(2, 13)]
    series = resample(from_rows(rows), Timeframe.M1, Timeframe.M5)
    assert series.time.tolist() == [START + 300]  # 0-4 lacks its beginning, 10-14 its end
    assert (series.open[0], series.high[0], series.low[0], series.close[0], series.volume[0]) == (15, 21, 14, 20, 5)
    assert len(resample(from_rows(rows), Timeframe.M1, Timeframe.M5, complete_only=False)) == 3


def test_gaps_are_filled_before_resampling() -> None:
    rows = [(START, 10, 10, 10, 10, 1.0), (START + 600, 20, 20, 20, 20, 1.0), (START + 840, 30, 30, 30, 30, 1.0)]
    series = resample(from_rows(rows), Timeframe.M1, Timeframe.M5)
    assert series.close.tolist() == [10, 10, 30]
    assert series.synthetic.tolist() == [False, True, False]
    assert series.volume.tolist() == [1, 0, 2]


@given(st.integers(1, 400), st.sampled_from([Timeframe.M3, Timeframe.M5, Timeframe.M15, Timeframe.H1]))
def test_resampling_in_two_steps_equals_one(count: int, middle: Timeframe) -> None:
    fine = candles([100 + (i * 37) % 11 for i in range(count)])
    direct = resample(fine, Timeframe.M1, Timeframe.H1)
    stepwise = resample(resample(fine, Timeframe.M1, middle), middle, Timeframe.H1)
    assert same(direct, stepwise)


def test_resampling_to_a_part_is_refused() -> None:
    with pytest.raises(InvalidInput):
        resample(candles([1.0, 2.0], Timeframe.M3), Timeframe.M3, Timeframe.M5)


def test_f40_the_forming_candle_is_left_out() -> None:
    series = from_rows(ROWS)
    last_open = int(series.time[-1])
    assert len(closed_only(series, Timeframe.M1, last_open + 59.9)) == len(ROWS) - 1
    assert len(closed_only(series, Timeframe.M1, last_open + 60)) == len(ROWS)


def test_upto_and_tail_look_at_the_ends() -> None:
    series = from_rows(ROWS)
    assert series.upto(2).time.tolist() == [START, START + 60]
    assert series.tail(1).close.tolist() == [16]
    assert len(series.upto(-1)) == 0
    assert len(series.tail(99)) == len(ROWS)
