"""Conditions on signals: one definition live and over arrays, unknown before the first one, private to their bot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.conditions import (
    CATCH_UP_CANDLES,
    Condition,
    Operator,
    State,
    Tree,
    could_hold,
    describe,
    evaluate,
    evaluate_array,
    mirror,
    required_signals,
)
from bots.strategies.base import InMemoryMarketView
from bots.strategies.heard import NO_SIGNALS, HeardView
from marketdata.indicators import INDICATORS
from marketdata.series import resample
from marketdata.signals import SignalKind, Signals
from marketdata.timeframes import Timeframe
from tests.bots.building import START, TERMS, candles, told

LINES = [(spec.name, output) for spec in INDICATORS.values() if spec.is_private for output in spec.outputs]
NAMES = ["-".join(line) for line in LINES]
ONE_CANDLE = {"webhook": told(START + 130)}


def condition(indicator: str = "webhook", operator: str = "=", value: float | None = 1, **changes: Any) -> Condition:
    return Condition.model_validate(
        {"indicator": indicator, "timeframe": "1m", "operator": operator, "value": value} | changes
    )


def tree(*items: Condition) -> Tree:
    return Tree.model_validate({"items": [item.model_dump() for item in items]})


def market(count: int = 90) -> InMemoryMarketView:
    series = candles([100 + index % 7 for index in range(count)])
    return InMemoryMarketView(TERMS, {Timeframe.M1: series, Timeframe.M5: resample(series, Timeframe.M1, Timeframe.M5)})


def chatter(seed: int, until: float = float("inf"), count: int = 25) -> dict[str, Signals]:
    """Return signals of every kind over the market's time, with what was received by ``until`` and no more."""
    rng = np.random.default_rng(seed)
    found = {}
    for kind in SignalKind:
        at = np.sort(START + rng.uniform(-600, 90 * 60, count))
        confidence = np.where(rng.random(count) < 0.2, np.nan, rng.uniform(30, 100, count))
        action = rng.integers(-1, 2, count)
        known = at <= until
        if known.any():
            found[kind.value] = Signals(at[known], confidence[known], action[known], float(at[0]))
    return found


def looks(whole: InMemoryMarketView, base: Timeframe, seed: int) -> Iterator[HeardView]:
    """Yield what is known at the close of each candle of ``base``: its candles, and the signals received by then."""
    for opened in whole.series(base).time.tolist():
        close = opened + base.seconds
        yield HeardView(whole.at(close, None), chatter(seed, until=close))


# One definition, live and over arrays -------------------------------------------------------------------------------


@pytest.mark.parametrize(("indicator", "output"), LINES, ids=NAMES)
@pytest.mark.parametrize("frame", [Timeframe.M1, Timeframe.M5])
def test_f38_f40_array_and_live_look_agree_for_every_operator(indicator: str, output: str, frame: Timeframe) -> None:
    whole = market()
    rules = [
        tree(condition(indicator, operator, None if operator.is_change else value, output=output, timeframe=frame))
        for operator in Operator
        for value in (0.0, 0.5, 1.0)
    ]
    arrays = [evaluate_array(rule, HeardView(whole, chatter(3)), Timeframe.M1) for rule in rules]
    since: list[Mapping[str, int]] = [{} for _ in rules]
    for index, look in enumerate(looks(whole, Timeframe.M1, 3)):
        for number, rule in enumerate(rules):
            verdict = evaluate(rule, look, since[number])
            assert verdict.value == arrays[number][index], (rule, index)
            since[number] = verdict.evaluated_until
    assert sum(array.any() for array in arrays) > len(arrays) // 2, "the signals test too little"


MEMBERS = st.builds(
    lambda line, frame, operator, valid, least, negate: condition(
        line[0],
        operator,
        1,
        output=line[1],
        timeframe=frame,
        negate=negate,
        params={"valid_candles": valid} | ({} if line[0] == "webhook" else {"min_confidence": least}),
    ).model_dump(mode="json"),
    st.sampled_from(LINES),
    st.sampled_from(["1m", "5m"]),
    st.sampled_from(["=", "!=", "crosses_above", "crosses_below", ">="]),
    st.integers(1, 6),
    st.integers(0, 100),
    st.booleans(),
)
TREES = st.builds(
    lambda join, items: Tree.model_validate({"join": join, "items": items}),
    st.sampled_from(["and", "or"]),
    st.lists(MEMBERS, min_size=1, max_size=3),
)


@settings(max_examples=40, deadline=None)
@given(TREES, st.integers(0, 20), st.sampled_from([Timeframe.M1, Timeframe.M5]))
def test_f40_the_array_at_i_is_what_was_said_when_candle_i_closed(rule: Tree, seed: int, base: Timeframe) -> None:
    whole = market(60)
    heard = HeardView(whole, chatter(seed))
    answers, possible = evaluate_array(rule, heard, base), could_hold(rule, heard, base)
    since: Mapping[str, int] | None = None
    for index, look in enumerate(looks(whole, base, seed)):
        verdict = evaluate(rule, look, since)
        assert verdict.value == answers[index], index
        assert possible[index] or not verdict.value, index
        since = verdict.evaluated_until or since


@settings(max_examples=40, deadline=None)
@given(TREES, st.integers(0, 20), st.integers(20, 89))
def test_a_live_look_needs_no_more_signals_than_it_says(rule: Tree, seed: int, index: int) -> None:
    """What is read for the last candle, a stretch back from now, gives the same answers as everything ever sent."""
    whole = market()
    close = START + 60 * (index + 1)
    reach = {kind: asked.seconds for kind, asked in required_signals([rule]).items()}
    everything = chatter(seed, until=close)
    read = {
        kind: Signals(part.at[mask], part.confidence[mask], part.action[mask], part.since)
        for kind, part in everything.items()
        if kind in reach
        for mask in [part.at > close - reach[kind] + 3_600]  # without the hour for candles that come late
    }
    since = {"1m": close - 60 * 3, "5m": close - 60 * 20}
    full, short = HeardView(whole.at(close, None), everything), HeardView(whole.at(close, None), read)
    assert evaluate(rule, short, since).value == evaluate(rule, full, since).value
    for member in rule.conditions():
        states = slice(-CATCH_UP_CANDLES, None)
        assert short.states(member)[states].tolist() == full.states(member)[states].tolist()


# What is not known --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indicator", [kind.value for kind in SignalKind])
@pytest.mark.parametrize("negate", [False, True])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_any_signal_a_condition_is_false_and_says_so(indicator: str, negate: bool, value: float) -> None:
    verdict = evaluate(tree(condition(indicator, value=value, negate=negate)), HeardView(market(), {}))
    assert not verdict.value
    assert [check.reason for check in verdict.checks] == ["no signal received"]
    assert "no signal received" in verdict.summary


def test_without_candles_the_reason_names_candles() -> None:
    verdict = evaluate(tree(condition()), HeardView(InMemoryMarketView(TERMS, {}), ONE_CANDLE))
    assert verdict.checks[0].reason == "needs 1 candles, has 0"


def test_once_heard_of_silence_is_zero() -> None:
    look = HeardView(market(), {"webhook": told(START + 130)})
    assert not evaluate(tree(condition()), look).value
    assert evaluate(tree(condition(negate=True)), look).value
    assert evaluate(tree(condition(value=0)), look).value


def test_a_simulation_without_a_bot_counts_silence_as_zero() -> None:
    look = HeardView(market(), NO_SIGNALS)
    assert evaluate(tree(condition(value=0)), look).value
    assert not evaluate(tree(condition()), look).value


# Crossings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_f38_a_signal_crosses_once_each_time_it_comes(threshold: float) -> None:
    heard = {"webhook": told(START + 70, START + 190, START + 250, START + 610)}
    look = HeardView(market(15), heard)
    states = look.states(condition(operator="crosses_above", value=threshold))
    assert np.flatnonzero(states == State.MET).tolist() == [1, 3, 10]  # the first one ever is one of them
    leaving = look.states(condition(operator="crosses_below", value=1 - threshold))
    assert np.flatnonzero(leaving == State.MET).tolist() == [2, 5, 11]


# Settings with an effect --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indicator", ["ai_buy", "ai_sell"])
def test_f46_the_least_confidence_flips_the_condition(indicator: str) -> None:
    look = HeardView(market(3), {indicator: told(START + 130, confidence=70)})
    assert evaluate(tree(condition(indicator)), look).value
    assert evaluate(tree(condition(indicator, params={"min_confidence": 70})), look).value
    assert not evaluate(tree(condition(indicator, params={"min_confidence": 71})), look).value


def test_f46_how_long_a_signal_stays_valid_flips_the_condition() -> None:
    look = HeardView(market(5), ONE_CANDLE)
    assert not evaluate(tree(condition(params={"valid_candles": 2})), look).value
    assert evaluate(tree(condition(params={"valid_candles": 3})), look).value


# Mirroring ----------------------------------------------------------------------------------------------------------


def test_f45_for_a_short_a_buy_becomes_a_sell() -> None:
    rule = tree(
        condition("ai_buy", params={"valid_candles": 3, "min_confidence": 75}),
        condition("ai_sell", negate=True),
        condition(output="buy"),
        condition(output="any"),
    )
    turned = list(mirror(rule).conditions())
    assert [(one.indicator, one.output) for one in turned] == [
        ("ai_sell", "value"),
        ("ai_buy", "value"),
        ("webhook", "sell"),
        ("webhook", "any"),
    ]
    assert turned[0].params == {"valid_candles": 3, "min_confidence": 75}
    assert turned[1].negate
    assert [one.operator for one in turned] == [Operator.EQ] * 4
    assert mirror(mirror(rule)) == rule
    assert describe(tree(turned[0])) == "AI sell(3, 75) on 1m equals 1"


# Private ------------------------------------------------------------------------------------------------------------


def test_one_bots_signals_leave_no_trace_in_what_everybody_shares() -> None:
    cache: dict[Any, Any] = {}
    shared = InMemoryMarketView(TERMS, {Timeframe.M1: candles([100.0] * 5)}, cache=cache)
    rule = tree(condition(params={"valid_candles": 5}), condition("rsi", "<", 101, params={"period": 3}))
    mine, others = HeardView(shared, ONE_CANDLE), HeardView(shared, {})
    assert evaluate(rule, mine).value
    assert not evaluate(rule, others).value
    assert not evaluate(rule, shared).value
    assert evaluate(rule, mine).value
    kept = [key for key in cache if "webhook" in str(key)]
    assert all(not np.isfinite(cache[key]).any() for key in kept if cache[key].dtype == np.float64)
    assert all((cache[key] == State.UNKNOWN).all() for key in kept if cache[key].dtype == np.int8)
    assert mine.states(condition("rsi", "<", 101)).base is shared.states(condition("rsi", "<", 101)).base


def test_kinds_and_stretches_that_a_rule_asks_for() -> None:
    assert required_signals([tree(condition("rsi", "<", 30))]) == {}
    found = required_signals(
        [
            tree(
                condition(params={"valid_candles": 3}), condition(timeframe="1h"), condition("ai_buy", timeframe="5m")
            ),
            tree(condition("ai_buy", params={"min_confidence": 45})),
        ]
    )
    assert set(found) == {"webhook", "ai_buy"}
    assert found["webhook"].seconds >= (1 + CATCH_UP_CANDLES + 1) * 3_600
    assert found["ai_buy"].least_confidence == 45
