"""Timeframes: their lengths, where candles open, and what they can be built from."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.timeframes import Timeframe, last_closed
from tradebot.core.errors import InvalidInput


def test_every_timeframe_of_the_rules_is_there_and_parses() -> None:
    words = ["1m", "3m", "5m", "10m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d", "3d", "1w"]
    assert [str(timeframe) for timeframe in Timeframe] == words
    assert Timeframe.parse("4h").seconds == 14_400


def test_an_unknown_timeframe_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="7m") as refused:
        Timeframe.parse("7m")
    assert refused.value.field == "timeframe"


def test_weeks_open_on_monday() -> None:
    moment = datetime(2024, 2, 29, 13, tzinfo=UTC)
    opened = datetime.fromtimestamp(Timeframe.W1.open_time(moment.timestamp()), UTC)
    assert (opened.weekday(), opened.hour) == (0, 0)


@given(st.sampled_from(Timeframe), st.integers(0, 4_000_000_000))
def test_the_last_closed_candle_is_closed_and_the_next_is_not(timeframe: Timeframe, now: int) -> None:
    opened = last_closed(now, timeframe)
    assert opened + timeframe.seconds <= now < opened + 2 * timeframe.seconds
    assert timeframe.open_time(opened) == opened


@pytest.mark.parametrize(
    ("wanted", "native", "source"),
    [
        ("3m", "1m 5m", "1m"),
        ("10m", "1m 5m 15m", "5m"),
        ("4h", "1h 2h 6h", "2h"),
        ("1w", "1h 6h 1d", "1d"),
        ("3d", "1h 1d", "1d"),
        ("1w", "1d 1w", "1w"),
    ],
)
def test_a_timeframe_is_built_from_the_longest_that_fits(wanted: str, native: str, source: str) -> None:
    offered = {Timeframe(word) for word in native.split()}
    assert Timeframe(wanted).source_timeframe(offered) == source


def test_a_week_is_not_built_from_three_days() -> None:
    with pytest.raises(InvalidInput):
        Timeframe.W1.source_timeframe({Timeframe.D3})
