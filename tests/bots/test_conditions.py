"""The rule language: states, crossings, groups, history, words."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bots.conditions import (
    CATCH_UP_CANDLES,
    Condition,
    Operator,
    State,
    Tree,
    condition_states,
    describe,
    evaluate,
    evaluate_array,
    mirror,
    required_series,
    vocabulary,
)
from bots.strategies.base import InMemoryMarketView
from marketdata.indicators import INDICATORS
from marketdata.timeframes import Timeframe
from tests.bots.building import START, TERMS, candles, view

CHANGE = {"indicator": "price_change", "timeframe": "1m", "params": {"candles": 1}}


def condition(**changes: Any) -> Condition:
    return Condition.model_validate({"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 30} | changes)


def tree(*items: Any, join: str = "and") -> Tree:
    return Tree.model_validate({"join": join, "items": [getattr(i, "model_dump", lambda i=i: i)() for i in items]})


def states(operator: str, values: list[float], value: float | None = 30) -> list[int]:
    """Return the states of a condition whose indicator has these values."""
    series = candles([100.0] * len(values))
    return condition_states(condition(operator=operator, value=value), series, np.array(values, dtype=float)).tolist()


def fired(operator: str, values: list[float], value: float | None = 30) -> list[int]:
    return [i for i, state in enumerate(states(operator, values, value)) if state == State.MET]


def market(closes: list[float], **more: list[float]) -> InMemoryMarketView:
    """Return a view of 1-minute candles with these closes, and of other timeframes given as t5m=, t1h= …"""
    series = {Timeframe.M1: candles(closes)}
    series |= {Timeframe(name[1:]): candles(values, Timeframe(name[1:])) for name, values in more.items()}
    return InMemoryMarketView(TERMS, series)


def change(operator: str, value: float | None = 0, **changes: Any) -> Condition:
    return Condition.model_validate(CHANGE | {"operator": operator, "value": value} | changes)


# Comparisons and crossings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "below", "on", "above"),
    [
        (">", False, False, True),
        (">=", False, True, True),
        ("<", True, False, False),
        ("<=", True, True, False),
        ("=", False, True, False),
        ("!=", True, False, True),
    ],
)
def test_comparisons(operator: str, below: bool, on: bool, above: bool) -> None:
    assert [state == State.MET for state in states(operator, [29, 30, 31])] == [below, on, above]


def test_differences_within_the_noise_band_are_none() -> None:
    nearly = 30 * (1 + 5e-10)
    assert fired("=", [nearly]) == [0]
    assert fired(">", [nearly]) == []
    assert fired("crosses_above", [29, nearly, 29, nearly]) == []


def test_f38_a_crossing_fires_exactly_once() -> None:
    assert fired("crosses_above", [28, 29, 31, 32, 33]) == [2]
    assert fired("crosses_below", [33, 31, 29, 28]) == [2]
    assert fired("crosses_above", [28, 31, 28, 31]) == [1, 3]


def test_f38_a_crossing_over_a_candle_on_the_line_fires_once() -> None:
    assert fired("crosses_above", [29, 30, 31, 32]) == [2]
    assert fired("crosses_above", [29, 30, 30, 30, 31]) == [4]


def test_touching_the_line_and_turning_back_is_no_crossing() -> None:
    assert fired("crosses_above", [31, 30, 31]) == []
    assert fired("crosses_below", [29, 30, 29]) == []
    assert fired("crosses_above", [29, 30, 29]) == []


def test_a_series_that_begins_on_the_line_crosses_when_it_leaves() -> None:
    assert fired("crosses_above", [30, 30, 31]) == [2]
    assert fired("crosses_below", [30, 30, 29]) == [2]


def test_hovering_inside_the_noise_band_never_crosses() -> None:
    hover = [30 * (1 + sign * 4e-10) for sign in (1, -1) * 20]
    assert fired("crosses_above", hover) == []
    assert fired("crosses_below", hover) == []


def test_a_crossing_needs_the_candle_before() -> None:
    assert states("crosses_above", [float("nan"), 31, 32]) == [State.UNKNOWN, State.UNKNOWN, State.UNMET]


@given(st.lists(st.sampled_from([20.0, 30.0, 40.0, 30 * (1 + 1e-10)]), min_size=2, max_size=40))
def test_f38_crossings_up_and_down_alternate(values: list[float]) -> None:
    events = sorted(
        [(i, "up") for i in fired("crosses_above", values)] + [(i, "down") for i in fired("crosses_below", values)]
    )
    ways = [way for _, way in events]
    assert all(one != other for one, other in itertools.pairwise(ways))


def test_increasing_and_decreasing_with_a_least_change() -> None:
    assert fired("increasing", [10, 11, 11, 10], None) == [1]
    assert fired("decreasing", [10, 11, 11, 10], None) == [3]
    assert fired("increasing", [100, 105, 109, 120], 5) == [1, 3]
    assert fired("increasing", [-10, -9], None) == [1]
    assert fired("decreasing", [100, 100 - 1e-8], None) == []


# Trees --------------------------------------------------------------------------------------------------------------


def test_an_empty_tree_is_true_and_an_empty_group_false() -> None:
    assert evaluate(Tree(), market([1.0])).value
    for negate in (False, True):
        assert not evaluate(tree({"join": "or", "items": [], "negate": negate}), market([1.0])).value


def test_groups_join_and_negate() -> None:
    up, down = change(">"), change("<")
    rising = market([100, 101])
    assert evaluate(tree(up, down, join="or"), rising).value
    assert not evaluate(tree(up, down), rising).value
    assert evaluate(
        tree(up, {"join": "and", "items": [up.model_dump(), down.model_dump()], "negate": True}), rising
    ).value
    assert evaluate(tree(change("<", negate=True)), rising).value


def test_lacking_history_is_false_with_the_numbers_and_negated_it_is_false_too() -> None:
    for negate in (False, True):
        verdict = evaluate(tree(condition(params={"period": 25}, negate=negate)), market([100.0] * 20))
        assert not verdict.value
        (check,) = verdict.checks
        assert (check.state, check.reason, check.value) == ("unknown", "needs 26 candles, has 20", None)
        assert "needs 26 candles, has 20" in verdict.summary


def test_an_unknown_part_does_not_spoil_an_or_but_an_and() -> None:
    known, unknown = change(">"), condition()
    assert evaluate(tree(known, unknown, join="or"), market([100, 101])).value
    assert not evaluate(tree(known, unknown), market([100, 101])).value
    negated = {"join": "and", "items": [known.model_dump(), unknown.model_dump()], "negate": True}
    assert not evaluate(tree(negated), market([100, 101])).value


def test_a_missing_timeframe_is_lacking_history() -> None:
    verdict = evaluate(tree(condition(timeframe="4h")), market([100.0] * 50))
    assert verdict.checks[0].reason == "needs 15 candles, has 0"


def test_each_check_tells_path_value_and_threshold() -> None:
    group = {"join": "or", "items": [change(">", 2).model_dump(), change("<", 2).model_dump()]}
    verdict = evaluate(tree(change(">="), group), market([100, 101]))
    assert [check.path for check in verdict.checks] == ["1", "2.1", "2.2"]
    assert [check.state for check in verdict.checks] == ["met", "unmet", "met"]
    check = verdict.checks[1].as_json()
    assert check["value"] == pytest.approx(1)
    assert (check["threshold"], check["timeframe"], check["indicator"]) == (2, "1m", "price_change")


# Crossings over time ------------------------------------------------------------------------------------------------

CROSS = [100.0, 99, 98, 97, 98]  # the change crosses above 0 at the last candle


def test_f38_looking_twice_consumes_nothing() -> None:
    crossing, seen = tree(change("crosses_above")), market(CROSS)
    assert [evaluate(crossing, seen).value for _ in range(3)] == [True, True, True]


def test_f38_the_next_look_at_the_same_candle_does_not_fire_again() -> None:
    crossing, seen = tree(change("crosses_above")), market(CROSS)
    first = evaluate(crossing, seen, {"1m": START + 180})
    assert first.value
    again = evaluate(crossing, seen, first.evaluated_until)
    assert not again.value
    assert again.evaluated_until == first.evaluated_until == {"1m": START + 240}


def test_f39_a_crossing_is_not_missed_when_two_candles_closed_in_between() -> None:
    crossing = tree(change("crosses_above"))
    before = evaluate(crossing, market(CROSS[:4]), {"1m": START + 120})
    assert not before.value
    later = market([*CROSS, 99])
    assert not evaluate(crossing, later).value
    assert evaluate(crossing, later, before.evaluated_until).value


def test_f39_a_crossing_from_long_ago_does_not_fire_after_a_restart() -> None:
    rising = [98.0 + i for i in range(1, CATCH_UP_CANDLES + 1)]
    crossing = tree(change("crosses_above"))
    assert evaluate(crossing, market([*CROSS, *rising[:-1]]), {"1m": START + 180}).value
    assert not evaluate(crossing, market([*CROSS, *rising]), {"1m": START + 180}).value


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=40),
    st.lists(st.integers(1, CATCH_UP_CANDLES), min_size=40, max_size=40),
    st.sampled_from(["crosses_above", "crosses_below"]),
)
def test_f38_f39_every_crossing_fires_once_however_often_one_looks(
    steps: list[float], pauses: list[int], operator: str
) -> None:
    closes = (100 + np.cumsum(steps)).tolist()
    crossing, whole = change(operator), market(closes)
    events = np.flatnonzero(whole.states(crossing) == State.MET).tolist()
    since: dict[str, int] = {"1m": START}
    seen, caught = 1, []
    for pause in pauses:
        end = min(seen + pause, len(closes))
        look = whole.at(START + 60 * end, None)
        verdict = evaluate(tree(crossing), look, since)
        expected = [i for i in events if seen <= i < end]
        assert verdict.value == bool(expected)
        caught += expected
        since, seen = verdict.evaluated_until, end
    assert caught == events[: len(caught)]


# One definition, live and over arrays -------------------------------------------------------------------------------

MEMBERS = st.builds(
    lambda indicator, timeframe, operator, value, negate: Condition.model_validate(
        {
            "indicator": indicator,
            "timeframe": timeframe,
            "operator": operator,
            "value": value,
            "params": {"fast": 2, "slow": 4} if indicator == "sma_cross" else {},
            "negate": negate,
        }
    ),
    st.sampled_from(["rsi", "price_change", "sma_cross"]),
    st.sampled_from(["1m", "5m", "15m"]),
    st.sampled_from(list(Operator)),
    st.sampled_from([0.0, 0.5, 40.0, 60.0]),
    st.booleans(),
).map(lambda made: made.model_dump(mode="json"))
TREES = st.builds(
    lambda join, items, group, groups: Tree.model_validate(
        {
            "join": join,
            "items": [*items, *({"join": group, "items": part, "negate": len(part) == 2} for part in groups)],
        }
    ),
    st.sampled_from(["and", "or"]),
    st.lists(MEMBERS, max_size=3),
    st.sampled_from(["and", "or"]),
    st.lists(st.lists(MEMBERS, max_size=2), max_size=2),
)


def many(seed: int) -> InMemoryMarketView:
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 120)))
    closes[40:60] = closes[40]
    return market(closes.tolist(), t5m=closes[4::5].tolist(), t15m=closes[14::15].tolist())


@settings(max_examples=120, deadline=None)
@given(TREES, st.integers(0, 20), st.sampled_from([Timeframe.M1, Timeframe.M5, Timeframe.M15]))
def test_f38_f40_the_array_and_the_live_look_agree_at_every_candle(rule: Tree, seed: int, base: Timeframe) -> None:
    whole = many(seed)
    answers = evaluate_array(rule, whole, base)
    since: dict[str, int] | None = None
    for index, opened in enumerate(whole.series(base).time.tolist()):
        look = whole.at(opened + base.seconds, None)
        verdict = evaluate(rule, look, since)
        assert verdict.value == answers[index], index
        since = verdict.evaluated_until or since


@settings(max_examples=40, deadline=None)
@given(TREES, st.integers(0, 20), st.integers(1, 120))
def test_f40_what_comes_later_changes_nothing_before(rule: Tree, seed: int, count: int) -> None:
    whole = many(seed)
    end = START + 60 * count
    cut = InMemoryMarketView(
        TERMS, {frame: whole.at(end, None).series(frame) for frame in (Timeframe.M1, Timeframe.M5, Timeframe.M15)}
    )
    short = evaluate_array(rule, cut, Timeframe.M1)
    assert (short == evaluate_array(rule, whole, Timeframe.M1)[: len(short)]).all()


def test_indicators_and_states_are_computed_once_for_everybody() -> None:
    whole = many(1)
    first, second = whole.at(START + 3600, None), whole.at(START + 3660, None)
    assert first.states(condition()).base is second.states(condition()).base
    assert first.indicator(Timeframe.M1, "rsi", {"period": 14}).base is not None


# Documents ----------------------------------------------------------------------------------------------------------


@given(TREES)
def test_trees_survive_json(rule: Tree) -> None:
    assert Tree.model_validate_json(rule.model_dump_json()) == rule


def test_parameters_are_stored_complete_so_that_new_defaults_change_nothing() -> None:
    assert Condition(indicator="macd", timeframe="1h", operator="crosses_above", value=0).model_dump(mode="json") == {
        "indicator": "macd",
        "timeframe": "1h",
        "operator": "crosses_above",
        "value": 0,
        "params": {"fast": 12, "slow": 26, "signal": 9},
        "output": "histogram",
        "negate": False,
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"indicator": "moon_phase"}, "indicator"),
        ({"timeframe": "7m"}, "timeframe"),
        ({"operator": "=="}, "operator"),
        ({"value": None}, "value"),
        ({"value": float("nan")}, "value"),
        ({"operator": "increasing", "value": -1}, "value"),
        ({"params": {"period": 0}}, "params"),
        ({"params": {"length": 14}}, "params"),
        ({"output": "signal"}, "output"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_the_engine_does_not_know_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        condition(**changes)
    assert refused.value.errors()[0]["loc"][0] == field


def test_trees_are_bounded() -> None:
    with pytest.raises(ValidationError, match="51 conditions"):
        tree(*[condition()] * 51)
    nested: dict[str, Any] = {"join": "and", "items": []}
    for _ in range(5):
        nested = {"join": "and", "items": [nested]}
    with pytest.raises(ValidationError, match="deep"):
        tree(nested)


def test_required_series_name_each_timeframe_once_with_enough_candles() -> None:
    wanted = required_series(tree(condition(), condition(timeframe="1h"), change(">")))
    assert set(wanted) == {Timeframe.M1, Timeframe.H1}
    assert wanted[Timeframe.M1] > 200


def test_trees_read_as_words() -> None:
    rule = tree(condition(), {"join": "or", "items": [change("crosses_above").model_dump()], "negate": True})
    assert describe(rule) == "RSI(14) on 1m is below 30 and not (Price change %(1) on 1m crosses above 0)"
    assert describe(Tree()) == ""


def test_f45_mirroring_turns_above_into_below() -> None:
    rule = tree(condition(), change("crosses_above", 1), condition(indicator="volume_ratio", operator=">", value=2))
    rsi, price, volume = mirror(rule).conditions()
    assert (rsi.operator, rsi.value) == (Operator.GT, 70)
    assert (price.operator, price.value) == (Operator.CROSSES_BELOW, -1)
    assert (volume.operator, volume.value) == (Operator.GT, 2)


@given(TREES)
def test_f45_mirroring_twice_is_the_same_tree(rule: Tree) -> None:
    assert mirror(mirror(rule)) == rule


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=20, max_size=60), st.sampled_from(["rsi", "stochastic", "bb_percent"]))
def test_f45_a_mirrored_rule_says_of_a_mirrored_market_what_the_rule_says_of_the_market(
    steps: list[float], indicator: str
) -> None:
    moves = np.round(np.cumsum(steps), 3)
    rule = tree(condition(indicator=indicator, operator="<", value=29.7))
    ahead = market((1000 + moves).tolist()).states(next(rule.conditions()))
    turned = market((1000 - moves).tolist()).states(next(mirror(rule).conditions()))
    assert (ahead == turned).all()


def test_f42_forms_schema_and_engine_share_one_list() -> None:
    words = vocabulary()
    assert [entry["name"] for entry in words["operators"]] == [str(operator) for operator in Operator]
    assert [entry["name"] for entry in words["indicators"]] == list(INDICATORS)
    for entry in words["indicators"]:
        for operator in Operator:
            made = Condition(indicator=entry["name"], timeframe="1m", operator=operator, value=1)
            assert view(100).states(made).tolist() == []
            assert made.label
