"""Conditions over time: every indicator, line and operator looked at candle after candle, across gaps and restarts."""

from __future__ import annotations

import json
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
    StateArray,
    Tree,
    could_hold,
    evaluate,
    evaluate_array,
    judged_until,
    mirror,
)
from bots.strategies.base import InMemoryMarketView
from marketdata.indicators import INDICATORS, Mirroring
from marketdata.series import Candles, FloatArray, from_rows, oldest_first, resample
from marketdata.timeframes import DAY_SECONDS, Timeframe
from tests.bots.building import START, TERMS

# What follows from signals is looked at over time in test_signal_conditions.py.
LINES = [(spec.name, output) for spec in INDICATORS.values() if not spec.is_private for output in spec.outputs]
SHORT: dict[str, dict[str, float]] = {
    "macd": {"fast": 3, "slow": 6, "signal": 3},
    "ema_cross": {"fast": 3, "slow": 6},
    "sma_cross": {"fast": 3, "slow": 6},
    "price_change": {"candles": 2},
    "gap_fill": {"window": 6},
    "vwap": {},
    "bull_flag": {},
}
"""Parameters that need little history; what is not listed has a period."""


def walk(count: int, seed: int = 1, start: int = START + DAY_SECONDS - 1_200) -> Candles:
    """Return 1-minute candles of a random walk from 20 minutes before midnight: wicks, and candles without trades."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    opens = np.concatenate((close[:1], close[:-1]))
    high, low = np.maximum(opens, close) * 1.002, np.minimum(opens, close) * 0.998
    volume = rng.exponential(1, count) * (rng.random(count) > 0.1)
    return oldest_first(start + np.arange(count) * 60, opens, high, low, close, volume, volume == 0)


def market(series: Candles, *larger: Timeframe) -> InMemoryMarketView:
    more = {timeframe: resample(series, Timeframe.M1, timeframe) for timeframe in larger}
    return InMemoryMarketView(TERMS, {Timeframe.M1: series} | more)


def condition(indicator: str, operator: Operator | str, value: float | None = 0, **changes: Any) -> Condition:
    params = SHORT.get(indicator, {"period": 5})
    return Condition.model_validate(
        {"indicator": indicator, "timeframe": "1m", "operator": operator, "value": value, "params": params} | changes
    )


def tree(*items: Condition, join: str = "and") -> Tree:
    return Tree.model_validate({"join": join, "items": [item.model_dump() for item in items]})


def thresholds(view: InMemoryMarketView, indicator: str, output: str, timeframe: Timeframe) -> tuple[float, float]:
    """Return a value that the line passes often, and one that it has at some candles exactly."""
    values = view.indicator(timeframe, indicator, SHORT.get(indicator, {"period": 5}), output)
    known = values[np.isfinite(values)]
    if set(known) <= {0.0, 1.0}:
        return 0.5, 1.0
    return float(np.median(known)), float(known[len(known) // 2])


def every_operator(view: InMemoryMarketView, indicator: str, output: str, timeframe: Timeframe) -> Iterator[Condition]:
    often, exactly = thresholds(view, indicator, output, timeframe)
    for operator in Operator:
        value = None if operator.is_change else exactly if operator in (Operator.EQ, Operator.NEQ) else often
        yield condition(indicator, operator, value, timeframe=timeframe, output=output)


def looks(whole: InMemoryMarketView, base: Timeframe, *timeframes: Timeframe) -> Iterator[InMemoryMarketView]:
    """Yield what is known at the close of each candle of ``base``, in views that hold nothing else."""
    for opened in whole.series(base).time.tolist():
        then = whole.at(opened + base.seconds, None)
        yield InMemoryMarketView(TERMS, {timeframe: then.series(timeframe) for timeframe in timeframes})


# The array and the live look ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("indicator", "output"), LINES, ids=["-".join(line) for line in LINES])
def test_f38_f40_array_and_live_look_agree_for_every_operator(indicator: str, output: str) -> None:
    whole = market(walk(90, seed=5))
    rules = [tree(rule) for rule in every_operator(whole, indicator, output, Timeframe.M1)]
    arrays = [evaluate_array(rule, whole, Timeframe.M1) for rule in rules]
    since: list[Mapping[str, int]] = [{} for _ in rules]
    for index, look in enumerate(looks(whole, Timeframe.M1, Timeframe.M1)):
        for number, rule in enumerate(rules):
            verdict = evaluate(rule, look, since[number])
            assert verdict.value == arrays[number][index], (rule, index)
            since[number] = verdict.evaluated_until
    if indicator != "gap_fill":
        assert all(array.any() for array in arrays), "the walk tests too little"


@pytest.mark.parametrize(("indicator", "output"), LINES, ids=["-".join(line) for line in LINES])
def test_f38_f40_array_and_live_look_agree_on_a_larger_timeframe(indicator: str, output: str) -> None:
    whole = market(walk(200, seed=4), Timeframe.M5)
    rules = [tree(rule) for rule in every_operator(whole, indicator, output, Timeframe.M5)]
    arrays = [evaluate_array(rule, whole, Timeframe.M1) for rule in rules]
    since: list[Mapping[str, int]] = [{} for _ in rules]
    for index, look in enumerate(looks(whole, Timeframe.M1, Timeframe.M5)):
        for number, rule in enumerate(rules):
            verdict = evaluate(rule, look, since[number])
            assert verdict.value == arrays[number][index], (rule, index)
            since[number] = verdict.evaluated_until


def test_f40_the_forming_candle_changes_nothing() -> None:
    series = walk(60)
    forming = Candles(*(np.append(getattr(series, name), 0) for name in Candles.__slots__))
    forming.time[-1] = series.time[-1] + 60
    for column in (forming.open, forming.high, forming.low, forming.close, forming.volume):
        column[-1] = 1e6
    now = int(forming.time[-1]) + 59.9
    for indicator, output in LINES:
        for rule in every_operator(market(series), indicator, output, Timeframe.M1):
            during = evaluate(tree(rule), InMemoryMarketView(TERMS, {Timeframe.M1: forming}).at(now, None))
            assert during.checks == evaluate(tree(rule), market(series)).checks


def test_f41_newest_first_candles_give_the_same_answers() -> None:
    series = walk(60)
    columns = (series.time, series.open, series.high, series.low, series.close, series.volume)
    backwards = market(from_rows([*zip(*(column.tolist() for column in columns), strict=True)][::-1]))
    for indicator, output in LINES:
        if indicator != "gap_fill":  # rows do not say which candles were filled in
            for rule in every_operator(market(series), indicator, output, Timeframe.M1):
                assert backwards.states(rule).tolist() == market(series).states(rule).tolist()


@pytest.mark.parametrize(("indicator", "output"), LINES, ids=["-".join(line) for line in LINES])
def test_lacking_history_is_false_and_says_how_much_is_missing(indicator: str, output: str) -> None:
    for operator in (Operator.LT, Operator.NEQ, Operator.CROSSES_ABOVE, Operator.INCREASING):
        for negate in (False, True):
            rule = condition(indicator, operator, 50, output=output, negate=negate)
            have = rule.candles_needed - 1
            verdict = evaluate(tree(rule), market(walk(have, start=START)))
            assert not verdict.value
            assert verdict.checks[0].reason == f"needs {have + 1} candles, has {have}"
            enough = evaluate(tree(rule), market(walk(have + 1, start=START)))
            assert enough.checks[0].state in ("met", "unmet")


# Crossings across restarts ------------------------------------------------------------------------------------------

STEPS = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1e-11, 1.0, 2.0]), min_size=10, max_size=60)


def stepping(steps: list[float]) -> Candles:
    close = 100 + np.cumsum(steps)
    return oldest_first(START + np.arange(len(close)) * 60, close, close, close, close, np.ones(len(close)))


@settings(max_examples=60, deadline=None)
@given(
    STEPS,
    st.lists(st.tuples(st.integers(1, CATCH_UP_CANDLES), st.booleans()), min_size=60, max_size=60),
    st.sampled_from(["crosses_above", "crosses_below"]),
)
def test_f38_f39_each_crossing_counts_once_across_gaps_and_restarts(
    steps: list[float], pauses: list[tuple[int, bool]], operator: str
) -> None:
    """Each pause is a number of candles and whether the process is restarted: all that survives is JSON."""
    series = stepping(steps)
    rule = tree(condition("price_change", operator, 0, params={"candles": 1}))
    whole = market(series)
    events = np.flatnonzero(whole.states(next(rule.conditions())) == State.MET).tolist()
    since, seen, counted = {"1m": START}, 1, []
    for pause, restarted in pauses:
        end = min(seen + pause, len(series))
        view = market(series.upto(end)) if restarted else whole.at(START + 60 * end, None)
        verdict = evaluate(rule, view, since)
        assert [evaluate(rule, view, since).value for _ in range(2)] == [verdict.value] * 2
        assert verdict.value == any(seen <= event < end for event in events)
        counted += [event for event in events if seen <= event < end] if verdict.value else []
        since = json.loads(json.dumps(verdict.evaluated_until))
        rule, seen = Tree.model_validate_json(rule.model_dump_json()), end
    assert counted == [event for event in events if event < seen]


# Where it could be true ---------------------------------------------------------------------------------------------

FRAMES = (Timeframe.M1, Timeframe.M3, Timeframe.M15)
MEMBERS = st.builds(
    lambda name, timeframe, operator, value, negate: condition(
        name, operator, value, timeframe=timeframe, negate=negate
    ).model_dump(mode="json"),
    st.sampled_from(["rsi", "price_change", "sma_cross", "bull_flag", "vwap"]),
    st.sampled_from(FRAMES),
    st.sampled_from(Operator),
    st.sampled_from([0.0, 0.5, 40.0, 60.0]),
    st.booleans(),
)
ITEMS = st.recursive(
    MEMBERS,
    lambda inner: st.builds(
        lambda join, negate, items: {"join": join, "negate": negate, "items": items},
        st.sampled_from(["and", "or"]),
        st.booleans(),
        st.lists(inner, max_size=3),
    ),
    max_leaves=6,
)
TREES = st.builds(
    lambda join, items: Tree.model_validate({"join": join, "items": items}),
    st.sampled_from(["and", "or"]),
    st.lists(ITEMS, max_size=3),
)
MARKETS = [market(walk(90, seed), *FRAMES[1:]) for seed in range(6)]


@settings(max_examples=150, deadline=None)
@given(TREES, st.sampled_from(MARKETS), st.sampled_from(FRAMES), st.data())
def test_what_could_not_hold_never_does(rule: Tree, whole: InMemoryMarketView, base: Timeframe, data: Any) -> None:
    """Looks at random closes, with a random memory of what was judged: carried on, lost, or of some other time."""
    possible = could_hold(rule, whole, base)
    closes = (whole.series(base).time + base.seconds).tolist()
    assert len(possible) == len(closes)
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    since: Mapping[str, int] | None = None
    for index in sorted(rng.choice(len(closes), min(len(closes), 25), replace=False).tolist()):
        verdict = evaluate(rule, whole.at(closes[index], None), since)
        assert possible[index] or not verdict.value, index
        lost = {str(frame): int(closes[index] - rng.integers(1, 12) * frame.seconds) for frame in FRAMES}
        since = (verdict.evaluated_until, None, lost)[rng.integers(0, 3)]


def test_what_could_hold_is_no_more_than_needed() -> None:
    series = stepping([-1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1])
    crossing = condition("price_change", "crosses_above", 0, params={"candles": 1})
    expected = [3 <= index < 3 + CATCH_UP_CANDLES for index in range(len(series))]
    assert could_hold(tree(crossing), market(series), Timeframe.M1).tolist() == expected
    negated = tree(condition("price_change", "crosses_above", 0, params={"candles": 1}, negate=True))
    assert could_hold(negated, market(series), Timeframe.M1).tolist() == [False, False, *[True] * 9]
    standing = condition("price_change", ">", 0, params={"candles": 1})
    array = evaluate_array(tree(standing), market(series), Timeframe.M1)
    assert (could_hold(tree(standing), market(series), Timeframe.M1) == array).all()
    assert could_hold(Tree(), market(series), Timeframe.M1).all()


# What a look works out ----------------------------------------------------------------------------------------------


class Watched(InMemoryMarketView):
    """A view that notes what it is asked for."""

    __slots__ = ("asked",)

    def __init__(self, series: Candles) -> None:
        super().__init__(TERMS, {Timeframe.M1: series})
        self.asked: list[str] = []

    def series(self, timeframe: Timeframe) -> Candles:
        self.asked.append("series")
        return super().series(timeframe)

    def indicator(
        self, timeframe: Timeframe, name: str, params: Mapping[str, float], output: str | None = None
    ) -> FloatArray:
        self.asked.append("indicator")
        return super().indicator(timeframe, name, params, output)

    def states(self, condition: Condition) -> StateArray:
        self.asked.append("states")
        return super().states(condition)


def test_a_look_works_out_the_numbers_only_when_asked_for_them() -> None:
    look = Watched(walk(60))
    verdict = evaluate(tree(condition("rsi", "<", 50), condition("macd", "crosses_above", 0)), look, {"1m": 0})
    assert set(look.asked) <= {"states", "series"}
    assert look.asked.count("states") == 2
    first = verdict.checks
    asked = len(look.asked)
    assert verdict.checks is first
    assert verdict.summary
    assert len(look.asked) == asked


def test_without_a_crossing_nothing_is_remembered_and_no_candle_read() -> None:
    look = Watched(walk(60))
    assert judged_until(tree(condition("rsi", "<", 50)), look) == {}
    assert evaluate(Tree(), look).evaluated_until == {}
    assert look.asked == []


def test_the_same_question_has_the_same_key_and_another_one_another() -> None:
    rule = condition("rsi", "<", 30)
    assert rule.key == condition("rsi", "<", 30.0, negate=True).key
    others = [
        condition("rsi", "<=", 30),
        condition("rsi", "<", 30.000000001),
        condition("rsi", "<", 30, timeframe="3m"),
        condition("rsi", "<", 30, params={"period": 6}),
        condition("volume_rsi", "<", 30),
        condition("macd", "<", 30),
        condition("macd", "<", 30, output="line"),
    ]
    assert len({rule.key, *(other.key for other in others)}) == len(others) + 1


# Mirroring ----------------------------------------------------------------------------------------------------------

TURNED = [name for name, spec in INDICATORS.items() if spec.mirroring in (Mirroring.NEGATE, Mirroring.FROM_HUNDRED)]
KEPT = [name for name, spec in INDICATORS.items() if spec.mirroring is Mirroring.NONE]


@pytest.mark.parametrize("indicator", TURNED)
@pytest.mark.parametrize("operator", [">", "<=", "crosses_above", "crosses_below", "increasing"])
def test_f45_a_mirrored_rule_says_of_a_mirrored_market_what_the_rule_says(indicator: str, operator: str) -> None:
    series = walk(80, seed=3, start=START)
    turned = Candles(
        series.time,
        400 - series.open,
        400 - series.low,
        400 - series.high,
        400 - series.close,
        series.volume,
        series.synthetic,
    )
    middle = 50.0 if INDICATORS[indicator].mirroring is Mirroring.FROM_HUNDRED else 0.0
    rule = tree(condition(indicator, operator, None if operator == "increasing" else middle))
    ahead = market(series).states(next(rule.conditions()))
    back = market(turned).states(next(mirror(rule).conditions()))
    if operator == "increasing" and indicator in ("vwap", "price_change"):
        # Percentages of another price: the way they go may differ by a hair where they hardly change.
        assert (ahead == back).mean() > 0.9
    else:
        assert ahead.tolist() == back.tolist()


@pytest.mark.parametrize("indicator", KEPT)
def test_f45_what_has_no_other_side_stays_as_it_is_when_mirrored(indicator: str) -> None:
    kept = condition(indicator, ">", 1)
    mixed = mirror(tree(kept, condition("rsi", "<", 30)))
    assert mixed == tree(kept, condition("rsi", ">", 70))
