"""Indicators: the right formula, enough history, no look-ahead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.indicators import INDICATORS, IndicatorSpec, Unit, candles_wanted, spec_of
from marketdata.series import Candles, FloatArray, oldest_first
from marketdata.timeframes import Timeframe
from tests.bots.building import candles
from tradebot.core.errors import InvalidInput

# Those that follow from signals have no value here: tests/marketdata/test_signals.py.
LINES = [(spec, output) for spec in INDICATORS.values() if not spec.is_private for output in spec.outputs]
NAMES = [f"{spec.name}-{output}" for spec, output in LINES]


def walk(count: int, seed: int = 1, scale: float = 100.0) -> Candles:
    """Return a random walk with wicks, volumes and a few candles without trades."""
    rng = np.random.default_rng(seed)
    close = scale * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    opens = np.concatenate((close[:1], close[:-1]))
    high, low = np.maximum(opens, close) * 1.002, np.minimum(opens, close) * 0.998
    volume = rng.exponential(1, count) * (rng.random(count) > 0.1)
    return oldest_first(1_700_006_400 + np.arange(count) * 60, opens, high, low, close, volume, volume == 0)


def last(name: str, closes: list[float], **params: float) -> float:
    spec = INDICATORS[name]
    return float(spec.values(candles(closes), spec.complete(params))[-1])


def wilder_rsi(close: FloatArray, period: int) -> float:
    """RSI written down the way its inventor did, as an independent check."""
    change = np.diff(close)
    gain, loss = np.maximum(change, 0), np.maximum(-change, 0)
    average_gain, average_loss = gain[:period].mean(), loss[:period].mean()
    for up, down in zip(gain[period:], loss[period:], strict=True):
        average_gain = (average_gain * (period - 1) + up) / period
        average_loss = (average_loss * (period - 1) + down) / period
    return float(100 - 100 / (1 + average_gain / average_loss))


@pytest.mark.parametrize(("spec", "output"), LINES, ids=NAMES)
@pytest.mark.parametrize("scale", [1e-9, 100.0, 1e5])
def test_f40_no_indicator_looks_ahead(spec: IndicatorSpec, output: str, scale: float) -> None:
    series, params = walk(180, scale=scale), spec.complete({})
    full = spec.values(series, params, output)
    for end in range(1, len(series) + 1, 7):
        part = spec.values(series.upto(end), params, output)
        np.testing.assert_array_equal(part, full[:end])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_f40_no_indicator_looks_ahead_whatever_the_parameters(data: st.DataObject) -> None:
    spec, output = data.draw(st.sampled_from(LINES))
    drawn = {
        p.name: data.draw(st.integers(int(max(p.minimum, 1)), 40))
        for p in spec.params
        if p.name not in ("fast", "slow", "deviations")
    }
    if "slow" in {p.name for p in spec.params}:
        fast = data.draw(st.integers(2, 20))
        drawn |= {"fast": fast, "slow": data.draw(st.integers(fast + 1, 40))}
    params = spec.complete(drawn)
    series = walk(130, seed=data.draw(st.integers(0, 99)))
    end = data.draw(st.integers(1, len(series)))
    np.testing.assert_array_equal(
        spec.values(series.upto(end), params, output), spec.values(series, params, output)[:end]
    )


@pytest.mark.parametrize(("spec", "output"), LINES, ids=NAMES)
def test_the_first_value_comes_exactly_with_the_candles_it_says_it_needs(spec: IndicatorSpec, output: str) -> None:
    params = spec.complete({})
    values = spec.values(walk(300), params, output)
    assert np.flatnonzero(~np.isnan(values))[0] + 1 == spec.needs(params)
    assert np.isfinite(values[spec.needs(params) - 1 :]).all()
    assert np.isnan(spec.values(walk(spec.needs(params) - 1), params, output)).all()


@pytest.mark.parametrize(("spec", "output"), LINES, ids=NAMES)
def test_the_history_asked_for_makes_live_and_replay_agree(spec: IndicatorSpec, output: str) -> None:
    series, params = walk(1500), spec.complete({})
    whole = spec.values(series, params, output)[-1]
    window = spec.values(series.tail(candles_wanted(spec.name, params, Timeframe.M1)), params, output)[-1]
    scale = series.close[-1] if spec.unit is Unit.PRICE else 100.0
    assert abs(whole - window) < 1e-5 * scale


def test_rsi_is_wilders() -> None:
    series = walk(120)
    ours = INDICATORS["rsi"].values(series, {"period": 14})[-1]
    assert ours == pytest.approx(wilder_rsi(series.close, 14), abs=1e-9)


def test_f41_reversing_the_candles_turns_rsi_over() -> None:
    rising = list(range(1, 40))
    assert last("rsi", rising) == pytest.approx(100)
    assert last("rsi", rising[::-1]) == pytest.approx(0)


@pytest.mark.parametrize("price", [1e-9, 1.0, 1e6])
def test_a_market_that_never_moved_is_neither_overbought_nor_oversold(price: float) -> None:
    flat = [price] * 60
    assert last("rsi", flat) == 50
    assert last("bb_percent", flat) == 50
    assert last("stochastic", flat) == 50
    assert last("atr_percent", flat) == 0
    assert abs(last("ema", flat)) < 1e-9 * price


def test_rsi_works_for_coins_quoted_in_tiny_fractions() -> None:
    closes = [1e-9 * (100 + i % 5) for i in range(60)]
    assert last("rsi", closes) == pytest.approx(last("rsi", [100 + i % 5 for i in range(60)]), abs=1e-6)


def test_averages_compare_the_price_with_the_average() -> None:
    closes = [10.0] * 50 + [20.0]
    assert last("sma", closes, period=50) == pytest.approx(20 - (49 * 10 + 20) / 50)
    assert last("sma_cross", closes, fast=2, slow=4) == pytest.approx(15 - 12.5)
    assert last("ema", closes, period=4) == pytest.approx(20 - (10 + 10 * 2 / 5))


def test_bollinger_percent_is_zero_at_the_lower_and_hundred_at_the_upper_band() -> None:
    closes = [9.0, 11.0] * 20
    window = np.array(closes[-20:])
    expected = (closes[-1] - (window.mean() - 2 * window.std())) / (4 * window.std()) * 100
    assert last("bb_percent", closes) == pytest.approx(expected)


def test_price_change_and_volume_ratio_and_gaps() -> None:
    assert last("price_change", [100, 100, 110], candles=2) == pytest.approx(10)
    spec = INDICATORS["volume_ratio"]
    series = walk(30)
    expected = series.volume[-1] / series.volume[-6:-1].mean()
    assert spec.values(series, spec.complete({"period": 5}))[-1] == pytest.approx(expected)
    gaps = INDICATORS["gap_fill"]
    assert gaps.values(series, gaps.complete({"window": 10}))[-1] == pytest.approx(series.synthetic[-10:].mean() * 100)


def test_macd_histogram_is_line_minus_signal() -> None:
    spec, series = INDICATORS["macd"], walk(200)
    params = spec.complete({})
    line, signal = (spec.values(series, params, name)[-1] for name in ("line", "signal"))
    assert spec.values(series, params)[-1] == pytest.approx(line - signal)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("rsi", {"periode": 14}, "periode"),
        ("rsi", {"period": 1}, "2 to 500"),
        ("rsi", {"period": 14.5}, "whole"),
        ("rsi", {"period": float("nan")}, "allowed"),
        ("ema_cross", {"fast": 50, "slow": 20}, "below slow"),
    ],
)
def test_parameters_out_of_range_are_refused_with_the_range(name: str, params: dict[str, float], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        spec_of(name).complete(params)


def test_unknown_indicators_and_lines_are_refused() -> None:
    with pytest.raises(InvalidInput):
        spec_of("moon_phase")
    with pytest.raises(InvalidInput):
        spec_of("macd").values(walk(50), spec_of("macd").complete({}), "slope")


@pytest.mark.parametrize("name", INDICATORS)
def test_at_least_200_candles_are_kept_ready(name: str) -> None:
    assert candles_wanted(name, spec_of(name).complete({}), Timeframe.H1) >= 200
