"""Indicators worked out by hand: the day's average price, bull flags, and markets that stand still."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.indicators import INDICATORS, LEAST_HISTORY, candles_wanted
from marketdata.indicators.bull_flag import bull_flag_stops
from marketdata.series import Candles, fill_gaps, oldest_first
from marketdata.timeframes import DAY_SECONDS, Timeframe
from tests.bots.building import candles

MIDNIGHT = int(datetime(2024, 1, 2, tzinfo=UTC).timestamp())
Row = tuple[float, float, float, float, float]


def rows(*given: Row, start: int = MIDNIGHT, seconds: int = 60) -> Candles:
    """Return candles from (open, high, low, close, volume)."""
    times = [start + seconds * index for index in range(len(given))]
    return oldest_first(times, *zip(*given, strict=True))


def values(name: str, series: Candles, **params: float) -> list[float]:
    spec = INDICATORS[name]
    return spec.values(series, spec.complete(params)).tolist()


# VWAP ---------------------------------------------------------------------------------------------------------------


def test_vwap_weighs_the_typical_price_with_the_volume() -> None:
    found = values("vwap", rows((10, 12, 9, 12, 1), (12, 15, 12, 15, 3)))
    # Typical prices 11 and 14; average of the second candle (11 + 3 · 14) / 4 = 13.25.
    assert found == pytest.approx([(12 / 11 - 1) * 100, (15 / 13.25 - 1) * 100])


def test_vwap_starts_afresh_at_midnight_utc() -> None:
    day = [(10.0, 10.0, 10.0, 10.0, 100.0)] * 2
    found = values("vwap", rows(*day, (20, 21, 19, 20, 1), (20, 20, 20, 20, 0), start=MIDNIGHT - 120))
    assert np.isnan(found[:2]).all()  # the day before is not shown from its beginning
    assert found[2:] == [0, 0]
    whole = rows(*day, (20, 23, 20, 23, 1), start=MIDNIGHT, seconds=DAY_SECONDS // 2)
    assert values("vwap", whole)[2] == pytest.approx((23 / 22 - 1) * 100)


def test_vwap_before_the_first_trade_of_the_day_is_the_price() -> None:
    assert values("vwap", rows((10, 11, 9, 10, 0), (10, 12, 10, 12, 0))) == [0, 0]
    assert values("vwap", rows((10, 11, 9, 10, 0), (9, 12, 9, 12, 2)))[1] == pytest.approx((12 / 11 - 1) * 100)


@pytest.mark.parametrize(("timeframe", "count"), [("1m", 1440), ("5m", 288), ("1h", LEAST_HISTORY), ("1d", 200)])
def test_vwap_asks_for_a_whole_day_of_candles(timeframe: str, count: int) -> None:
    assert candles_wanted("vwap", {}, Timeframe(timeframe)) == count


# Bull flags ---------------------------------------------------------------------------------------------------------

POLE: list[Row] = [(100, 101, 100, 101, 10), (101, 103, 101, 103, 10), (103, 104, 103, 104, 10)]
BACK: list[Row] = [(104, 104, 103, 103.2, 4), (103.2, 103.3, 102.5, 102.6, 4)]
CONFIRMED: Row = (102.6, 103.6, 102.6, 103.5, 6)
BEFORE: list[Row] = [(101, 101, 100, 100, 5)] * 3


def flagged(*parts: Row | list[Row]) -> list[int]:
    """Return the places at which a bull flag is completed, counted from the first candle given."""
    given: list[Row] = []
    for part in (BEFORE, *parts):
        given += part if isinstance(part, list) else [part]
    return [index - len(BEFORE) for index in np.flatnonzero(np.array(values("bull_flag", rows(*given))) == 1)]


def changed(row: Row, **columns: Any) -> Row:
    names = ("open", "high", "low", "close", "volume")
    return tuple(columns.get(name, value) for name, value in zip(names, row, strict=True))  # type: ignore[return-value]


def test_a_bull_flag_is_completed_by_the_candle_that_ends_the_pull_back() -> None:
    assert flagged(POLE, BACK) == []
    assert flagged(POLE, BACK, CONFIRMED) == [5]
    stops = bull_flag_stops(rows(*POLE, *BACK, CONFIRMED))
    assert np.isnan(stops[:5]).all()
    assert stops[5] == 102.5


@pytest.mark.parametrize(
    ("why", "parts"),
    [
        ("the last candle does not rise", [POLE, BACK, changed(CONFIRMED, close=102.6)]),
        ("two candles are no pole", [POLE[1:], BACK, CONFIRMED]),
        ("a pole with a flat candle", [POLE[0], (101, 103, 101, 101, 10), (103, 104, 103, 104, 10), BACK, CONFIRMED]),
        ("a pull-back of one", [POLE, BACK[1], CONFIRMED]),
        ("a pull-back with one red candle", [POLE, BACK[0], (103.2, 103.3, 102.5, 103.2, 4), CONFIRMED]),
        ("a pull-back that trades as much", [POLE, [changed(row, volume=10) for row in BACK], CONFIRMED]),
        ("more than half given back", [POLE, BACK[0], changed(BACK[1], low=101.99), CONFIRMED]),
        ("a close at the stop", [POLE, BACK, (102.4, 102.5, 102.4, 102.5, 6)]),
    ],
)
def test_what_misses_a_rule_is_no_bull_flag(why: str, parts: list[Any]) -> None:
    assert flagged(*parts) == [], why


def test_the_pole_gains_three_percent_at_least() -> None:
    for top, expected in ((103.0, [5]), (102.99, [])):
        pole = [(100, 101, 100, 101, 10), (101, 102, 101, 102, 10), (102, top, 102, top, 10)]
        back = [(102.9, 102.9, 102, 102, 4), (102, 102, 101.6, 101.6, 4)]
        assert flagged(pole, back, (101.6, 102, 101.6, 102, 6)) == expected


def test_half_of_the_pole_may_be_given_back() -> None:
    assert flagged(POLE, BACK[0], changed(BACK[1], low=102.0), CONFIRMED) == [5]


@pytest.mark.parametrize("length", range(1, 11))
def test_a_pull_back_has_two_to_eight_candles(length: int) -> None:
    level = [(103.2, 103.3, 103.1, 103.2, 4)] * (length - 2)
    back = [BACK[0], *level, BACK[1]] if length > 1 else BACK[:1]
    assert flagged(POLE, back, CONFIRMED) == ([3 + length] if 2 <= length <= 8 else [])


def test_rising_candles_inside_the_pull_back_belong_to_it() -> None:
    pause = (103.2, 103.4, 103.2, 103.3, 4)
    assert flagged(POLE, BACK[0], pause, BACK[1], CONFIRMED) == [6]
    assert flagged(POLE, BACK, CONFIRMED, changed(CONFIRMED, open=103.5, high=104, low=103.5, close=103.9)) == [5, 6]


def test_the_newest_pull_back_counts_where_two_fit() -> None:
    again = [(103.5, 106, 103.5, 106, 20), (106, 107, 106, 107, 20)]
    back = [(107, 107, 106, 106.2, 4), (106.2, 106.3, 105.5, 105.6, 4)]
    series = rows(*POLE, *BACK, CONFIRMED, *again, *back, (105.6, 106.5, 105.6, 106.4, 6))
    stops = bull_flag_stops(series)
    assert np.flatnonzero(~np.isnan(stops)).tolist()[-1] == 10
    assert stops[10] == 105.5


def slow_flag(series: Candles, at: int) -> float:
    """The rules written down one candle at a time, as an independent check."""
    opens, closes = series.open, series.close
    for length in range(2, 9):
        back = at - length
        pole = back
        while pole > 0 and closes[pole - 1] > opens[pole - 1] and back - pole < 50:
            pole -= 1
        if back < 3 or back - pole < 3 or closes[at] <= opens[at] or closes[back] > opens[back]:
            continue
        top, bottom, low = series.high[pole:back].max(), series.low[pole:back].min(), series.low[back:at].min()
        if (
            (closes[back:at] < opens[back:at]).sum() >= 2
            and top >= 1.03 * bottom
            and top - low <= (top - bottom) / 2
            and series.volume[back:at].mean() < series.volume[pole:back].mean()
            and closes[at] > low
        ):
            return float(low)
    return float("nan")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_bull_flags_are_found_exactly_where_the_rules_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 150
    close = 100 * np.exp(np.cumsum(rng.normal(0.002, 0.01, count)))
    opens = np.concatenate(([100.0], close[:-1])) * np.exp(rng.normal(0, 0.001, count))
    wick = np.exp(np.abs(rng.normal(0, 0.001, (2, count))))
    high, low = np.maximum(opens, close) * wick[0], np.minimum(opens, close) / wick[1]
    series = oldest_first(MIDNIGHT + 60 * np.arange(count), opens, high, low, close, rng.exponential(1, count))
    expected = [slow_flag(series, at) for at in range(count)]
    np.testing.assert_array_equal(bull_flag_stops(series), expected)


# Standing still -----------------------------------------------------------------------------------------------------


def test_a_market_without_trades_forgets_where_its_rsi_was() -> None:
    """A coin nobody trades any more is no bargain: its RSI is neither what its last move left nor 0."""
    fallen = candles([100 - index * 0.5 + index % 2 for index in range(60)])
    still = fill_gaps(fallen, Timeframe.M1, int(fallen.time[-1]) + 1_000 * 60)
    for name in ("rsi", "volume_rsi"):
        found = np.array(values(name, still))
        assert (found[60 + 200 :] == 50).all()
        shorter = still.tail(candles_wanted(name, {"period": 14}, Timeframe.M1))
        assert values(name, shorter)[-1] == 50
    assert values("rsi", still)[70] < 50


def test_the_smallest_moves_of_a_dear_coin_have_an_rsi() -> None:
    closes = [100_000 + 0.01 * (index % 3) for index in range(40)] + [100_000.0] * 150
    found = np.array(values("rsi", candles(closes)))
    assert (np.abs(found[40:] - found[39]) < 40).all()
    assert (found[40:] > 0).all()
