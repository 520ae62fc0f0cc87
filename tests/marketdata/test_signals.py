"""What a bot is told, as values at the closes of candles: counted from the server's clock, and never earlier."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.indicators import INDICATORS
from marketdata.signals import SILENT, UNHEARD, SignalKind, Signals, signal_values
from marketdata.timeframes import Timeframe
from tests.bots.building import START, candles, told

CLOSES = np.arange(START + 60, START + 660, 60)
"""The closes of ten minutes."""


def at_closes(signals: Signals, seconds: float = 60, **asked: float | str) -> list[float]:
    return signal_values(signals, CLOSES, seconds, **asked).tolist()  # type: ignore[arg-type]


def test_a_signal_is_seen_at_the_close_of_its_candle_and_never_earlier() -> None:
    silent_before = told(START + 130, since=START)
    assert at_closes(silent_before)[:4] == [0, 0, 1, 0]


def test_a_signal_at_the_very_close_belongs_to_the_candle_that_closes() -> None:
    assert at_closes(told(START + 120, since=START))[:4] == [0, 1, 0, 0]
    assert at_closes(told(START + 120.001, since=START))[:4] == [0, 0, 1, 0]


def test_a_signal_stays_valid_for_the_candles_asked_for() -> None:
    assert at_closes(told(START + 130, since=START), 3 * 60) == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]


def test_before_anything_was_ever_received_nothing_is_known() -> None:
    assert np.isnan(at_closes(UNHEARD)).all()
    values = at_closes(told(START + 130))
    assert np.isnan(values[:2]).all()
    assert values[2:] == [1, 0, 0, 0, 0, 0, 0, 0]


def test_a_source_taken_to_be_silent_is_zero_all_along() -> None:
    assert at_closes(SILENT) == [0.0] * 10


def test_f46_the_least_confidence_decides_which_signals_count() -> None:
    signals = told(START + 130, confidence=70)
    assert at_closes(signals, least_confidence=70)[2] == 1
    assert at_closes(signals, least_confidence=70.5)[2] == 0


def test_a_confidence_that_nobody_gave_reaches_no_least_one() -> None:
    signals = told(START + 130, confidence=float("nan"))
    assert at_closes(signals, least_confidence=1)[2] == 0
    assert at_closes(signals, least_confidence=0)[2] == 1


def test_the_lines_of_a_webhook_tell_buy_from_sell() -> None:
    signals = Signals(np.array([START + 10.0, START + 130.0]), np.full(2, np.nan), np.array([1, -1]), START)
    assert at_closes(signals)[:4] == [1, 0, 1, 0]
    assert at_closes(signals, action="buy")[:4] == [1, 0, 0, 0]
    assert at_closes(signals, action="sell")[:4] == [0, 0, 1, 0]
    assert at_closes(told(START + 10, action=0), action="buy")[0] == 0


@given(
    st.lists(st.floats(0, 600), max_size=12).map(sorted),
    st.integers(1, 10),
    st.integers(1, 5),
    st.lists(st.floats(0, 100), min_size=12, max_size=12),
    st.floats(0, 100),
)
def test_f40_what_is_received_later_changes_nothing_before(
    moments: list[float], count: int, valid: int, confidences: list[float], least: float
) -> None:
    at = START + np.array(moments)
    confidence = np.array(confidences[: len(at)])
    action = np.ones(len(at), dtype=np.int64)
    since = float(at[0]) if len(at) else float("inf")
    whole = signal_values(Signals(at, confidence, action, since), CLOSES, valid * 60, least_confidence=least)
    known = at <= CLOSES[count - 1]
    then = Signals(at[known], confidence[known], action[known], since if known.any() else float("inf"))
    part = signal_values(then, CLOSES[:count], valid * 60, least_confidence=least)
    np.testing.assert_array_equal(part, whole[:count])
    for index, close in enumerate(CLOSES):  # written down the plain way
        if close >= since:
            counts = [m for m, c in zip(at, confidence, strict=True) if c >= least and close - valid * 60 < m <= close]
            assert whole[index] == bool(counts)
        else:
            assert np.isnan(whole[index])


@pytest.mark.parametrize("kind", SignalKind)
def test_a_shared_view_has_no_value_for_what_one_bot_was_told(kind: SignalKind) -> None:
    spec, series = INDICATORS[kind.value], candles([100.0] * 10)
    assert spec.is_private
    params = spec.complete({})
    assert np.isnan(spec.values(series, params)).all()
    values = spec.heard(told(START + 130, confidence=60), series, Timeframe.M1, params)
    assert values[2:4].tolist() == [1, 0]
    assert spec.complete({})["valid_candles"] == 1


def test_models_are_asked_for_a_confidence_of_60_unless_told_otherwise() -> None:
    for kind in (SignalKind.AI_BUY, SignalKind.AI_SELL):
        assert INDICATORS[kind.value].complete({}) == {"valid_candles": 1, "min_confidence": 60}
    assert INDICATORS["webhook"].complete({}) == {"valid_candles": 1}


def test_only_signals_can_be_heard() -> None:
    with pytest.raises(ValueError, match="rsi"):
        INDICATORS["rsi"].heard(SILENT, candles([100.0] * 3), Timeframe.M1, {"period": 14})
