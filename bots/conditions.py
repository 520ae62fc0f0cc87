"""The rule language of the bots: trees of conditions on indicators, their evaluation and their wording. Pure.

One definition serves the live check and the backtest: each condition becomes an array of states over the closed
candles of its timeframe, computed once per product and shared by everybody who asks; a live check reads its end, a
replay its whole. Nothing here keeps state: what has been judged already is passed in (``since``) and handed back
(``Verdict.evaluated_until``), so looking twice changes nothing (F38).

States follow three-valued logic: a condition without enough history is unknown, its negation too, and a tree that is
unknown in the end is false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from marketdata.indicators import INDICATORS, IndicatorSpec, Mirroring, Unit, candles_wanted, spec_of
from marketdata.series import BoolArray, Candles, FloatArray, IntArray
from marketdata.timeframes import Timeframe
from tradebot.core.errors import InvalidInput

if TYPE_CHECKING:
    from bots.strategies.base import MarketView

StateArray = npt.NDArray[np.int8]
Since = Mapping[str, int]
"""Per timeframe the opening time (unix seconds) of the last candle whose crossings have been judged."""

NOISE: Final = 1e-9
"""Differences below this share of the value are no difference."""

CATCH_UP_CANDLES: Final = 5
"""How many candles back a crossing nobody has judged yet still counts; older ones are yesterday's news (F39)."""

NO_SIGNAL: Final = "no signal received"
"""Why a condition on signals is unknown although there are candles."""

MAX_CONDITIONS: Final = 50
MAX_DEPTH: Final = 5


class State(IntEnum):
    """The outcome of a condition. The order makes AND the least and OR the greatest of its parts."""

    UNMET = 0
    UNKNOWN = 1
    MET = 2


class Operator(StrEnum):
    """How a condition compares its indicator. This list is the only one (F42)."""

    GT = ">"
    GTE = ">="
    LT = "<"
    LTE = "<="
    EQ = "="
    NEQ = "!="
    CROSSES_ABOVE = "crosses_above"
    CROSSES_BELOW = "crosses_below"
    INCREASING = "increasing"
    DECREASING = "decreasing"

    @property
    def is_crossing(self) -> bool:
        """Return whether the operator is an event at one candle rather than a standing fact."""
        return self in (Operator.CROSSES_ABOVE, Operator.CROSSES_BELOW)

    @property
    def is_change(self) -> bool:
        """Return whether the value is an optional minimum change in percent."""
        return self in (Operator.INCREASING, Operator.DECREASING)

    @property
    def looks_back(self) -> bool:
        """Return whether the candle before is needed too."""
        return self.is_crossing or self.is_change

    @property
    def words(self) -> str:
        """Return the operator as it reads in a sentence."""
        return _OPERATOR_WORDS[self]


_OPERATOR_WORDS: Final = {
    Operator.GT: "is above",
    Operator.GTE: "is at or above",
    Operator.LT: "is below",
    Operator.LTE: "is at or below",
    Operator.EQ: "equals",
    Operator.NEQ: "differs from",
    Operator.CROSSES_ABOVE: "crosses above",
    Operator.CROSSES_BELOW: "crosses below",
    Operator.INCREASING: "is increasing",
    Operator.DECREASING: "is decreasing",
}

_MIRRORED: Final = {
    Operator.GT: Operator.LT,
    Operator.GTE: Operator.LTE,
    Operator.LT: Operator.GT,
    Operator.LTE: Operator.GTE,
    Operator.EQ: Operator.EQ,
    Operator.NEQ: Operator.NEQ,
    Operator.CROSSES_ABOVE: Operator.CROSSES_BELOW,
    Operator.CROSSES_BELOW: Operator.CROSSES_ABOVE,
    Operator.INCREASING: Operator.DECREASING,
    Operator.DECREASING: Operator.INCREASING,
}


class Join(StrEnum):
    """How the parts of a group are joined."""

    AND = "and"
    OR = "or"


def _refused(code: str, message: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{message}", {"message": message})


class Condition(BaseModel):
    """One comparison of an indicator's value at the last closed candle of a timeframe."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    indicator: str = Field(json_schema_extra={"enum": [*INDICATORS]})
    timeframe: Timeframe
    operator: Operator
    value: float | None = Field(default=None, allow_inf_nan=False)
    params: dict[str, int | float] = Field(default_factory=dict)
    output: str | None = None
    negate: bool = False

    @field_validator("indicator")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return spec_of(name).name
        except InvalidInput as error:
            raise _refused(error.code, error.message) from error

    @field_validator("value")
    @classmethod
    def _needed(cls, value: float | None, info: ValidationInfo) -> float | None:
        operator = info.data.get("operator")
        if operator is None:
            return value
        if value is None and not operator.is_change:
            raise _refused("missing_value", f"a condition that {operator.words} something needs a value")
        if value is not None and operator.is_change and value < 0:
            raise _refused("invalid_value", f"the least change is {value:g} %, it cannot be below 0")
        return value

    @field_validator("params")
    @classmethod
    def _complete(cls, params: dict[str, int | float], info: ValidationInfo) -> dict[str, int | float]:
        spec = INDICATORS.get(info.data.get("indicator", ""))
        try:
            return dict(spec.complete(params)) if spec else params
        except InvalidInput as error:
            raise _refused(error.code, error.message) from error

    @field_validator("output")
    @classmethod
    def _line(cls, output: str | None, info: ValidationInfo) -> str | None:
        spec = INDICATORS.get(info.data.get("indicator", ""))
        if spec is None:
            return output
        if output is not None and output not in spec.outputs:
            raise _refused("unknown_output", f"{spec.label} has no line {output!r}, only {', '.join(spec.outputs)}")
        return output or spec.outputs[0]

    @property
    def spec(self) -> IndicatorSpec:
        """Return the indicator's registry entry."""
        return INDICATORS[self.indicator]

    @property
    def candles_needed(self) -> int:
        """Return how many closed candles the condition needs to have an outcome."""
        return self.spec.needs(self.params) + (1 if self.operator.looks_back else 0)

    @cached_property
    def key(self) -> str:
        """Return what two conditions share when they ask the same (negation aside). A text: its hash is kept."""
        params = ",".join(f"{name}={value!r}" for name, value in sorted(self.params.items()))
        return f"{self.timeframe}|{self.indicator}|{params}|{self.output}|{self.operator}|{self.value!r}"

    @cached_property
    def label(self) -> str:
        """Return the condition in words, such as "RSI(14) on 5m is below 30"."""
        numbers = ", ".join(f"{value:g}" for value in self.params.values())
        line = f" {self.output}" if len(self.spec.outputs) > 1 else ""
        text = f"{self.spec.label}{f'({numbers})' if numbers else ''}{line} on {self.timeframe} {self.operator.words}"
        if self.operator.is_change:
            text += f" by at least {self.value:g} %" if self.value else ""
        else:
            text += f" {self.value:g}"
        return f"not: {text}" if self.negate else text


def _node_kind(node: Any) -> str:
    is_group = "items" in node or "join" in node if isinstance(node, Mapping) else isinstance(node, Group)
    return "group" if is_group else "condition"


Item = Annotated[
    Annotated["Group", Tag("group")] | Annotated[Condition, Tag("condition")],
    Discriminator(_node_kind),
]


class Group(BaseModel):
    """Conditions and groups joined by AND or OR, possibly negated. A group without any is false."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    join: Join = Join.AND
    items: tuple[Item, ...] = ()
    negate: bool = False


class Tree(BaseModel):
    """The rule of one phase. An empty tree restricts nothing: open at once, add by price, close by profit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    join: Join = Join.AND
    items: tuple[Item, ...] = ()

    @model_validator(mode="after")
    def _bounded(self) -> Tree:
        count = sum(1 for _ in self.conditions())
        if count > MAX_CONDITIONS:
            raise _refused("too_many_conditions", f"{count} conditions; at most {MAX_CONDITIONS} are allowed")
        depth = _depth(self)
        if depth > MAX_DEPTH:
            raise _refused("too_deep", f"groups are nested {depth} deep; at most {MAX_DEPTH} are allowed")
        return self

    @property
    def is_empty(self) -> bool:
        """Return whether there is no condition and no group at all."""
        return not self.items

    @cached_property
    def crossing_timeframes(self) -> tuple[Timeframe, ...]:
        """Return the timeframes on which a crossing has to be judged once."""
        crossings = (condition.timeframe for condition in self.conditions() if condition.operator.is_crossing)
        return tuple(dict.fromkeys(crossings))

    @cached_property
    def key(self) -> str:
        """Return what two trees share when they are equal."""
        return self.model_dump_json()

    @cached_property
    def plan(self) -> Node:
        """Return the tree as the evaluation walks it."""
        return _node(self, "")

    def conditions(self) -> Iterator[Condition]:
        """Yield every condition, groups included, in reading order."""
        return _conditions(self)


Group.model_rebuild()
Tree.model_rebuild()


def _conditions(node: Tree | Group) -> Iterator[Condition]:
    for item in node.items:
        if isinstance(item, Condition):
            yield item
        else:
            yield from _conditions(item)


def _depth(node: Tree | Group) -> int:
    return 1 + max((_depth(item) for item in node.items if isinstance(item, Group)), default=0)


# Evaluation ---------------------------------------------------------------------------------------------------------


def condition_states(condition: Condition, candles: Candles, values: FloatArray) -> StateArray:
    """Return the state of ``condition`` (its negation left out) at each candle, judged by that candle and earlier ones.

    ``values`` are the indicator's, as long as ``candles``. A crossing is met at the one candle at which the value has
    reached the other side of the threshold; moving within the noise band is no crossing, and passing through it in
    several candles is one.
    """
    known = np.isfinite(values)
    scale = candles.close if condition.spec.unit is Unit.PRICE else 1.0
    threshold = condition.value or 0.0
    if condition.operator.is_change:
        met, known = _changes(condition.operator, threshold, values, scale)
    else:
        with np.errstate(invalid="ignore"):
            band = NOISE * np.maximum(np.maximum(np.abs(values), abs(threshold)), scale)
            side = np.where(values - threshold > band, 1, np.where(values - threshold < -band, -1, 0))
        if condition.operator.is_crossing:
            if condition.spec.unit is Unit.SIGNAL:
                side = _off_the_line(condition.operator, side)
            # What was never heard of was not signalled either, so the very first signal is a crossing.
            before = np.ones(len(known), dtype=np.bool_) if condition.spec.is_private else known
            known_before = np.concatenate(([False], before[:-1]))
            met = _crossings(condition.operator, side, known, known_before)
            known = known & known_before
        else:
            met = _COMPARED[condition.operator](side)
    return np.where(known, np.where(met, State.MET, State.UNMET), State.UNKNOWN).astype(np.int8)


_COMPARED: Final[dict[Operator, Callable[[npt.NDArray[np.int_]], BoolArray]]] = {
    Operator.GT: lambda side: side > 0,
    Operator.GTE: lambda side: side >= 0,
    Operator.LT: lambda side: side < 0,
    Operator.LTE: lambda side: side <= 0,
    Operator.EQ: lambda side: side == 0,
    Operator.NEQ: lambda side: side != 0,
}


def _changes(
    operator: Operator, least_pct: float, values: FloatArray, scale: FloatArray | float
) -> tuple[BoolArray, BoolArray]:
    before = np.concatenate(([np.nan], values[:-1]))
    with np.errstate(invalid="ignore"):
        change = values - before if operator is Operator.INCREASING else before - values
        least = np.abs(before) * least_pct / 100.0
        band = NOISE * np.maximum(np.maximum(np.abs(values), np.abs(before)), scale)
        met = change > band if least_pct == 0 else change >= np.maximum(least - band, band)
    return met, np.isfinite(values) & np.isfinite(before)


def _off_the_line(operator: Operator, side: npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
    """Return the sides of a signal, which has no way to pass through the line: 0 is where it rests, not in between."""
    wanted = 1 if operator is Operator.CROSSES_ABOVE else -1
    return np.where(side == wanted, wanted, -wanted)


def _crossings(operator: Operator, side: npt.NDArray[np.int_], known: BoolArray, known_before: BoolArray) -> BoolArray:
    """Return where the side changes to the operator's; on the line (0) the side it came from goes on.

    A series that begins on the line counts as coming from the other side.
    """
    wanted = 1 if operator is Operator.CROSSES_ABOVE else -1
    decided = np.where(known & (side != 0), np.arange(len(side)), -1)
    latest = np.maximum.accumulate(decided) if len(side) else decided
    carried = np.where(latest >= 0, side[latest], -wanted)
    came_from = np.concatenate(([wanted], carried[:-1]))
    crossed: BoolArray = known & known_before & (side == wanted) & (came_from != wanted)
    return crossed


@dataclass(frozen=True, slots=True)
class Leaf:
    """A condition in a plan. ``path`` counts from 1 inside its group: "2.1"."""

    condition: Condition
    path: str
    is_crossing: bool
    negate: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """A tree or group in a plan."""

    parts: tuple[Node, ...]
    is_and: bool
    negate: bool


Node = Leaf | Branch
"""A tree as the evaluation walks it: plain objects, as reading validated models at every price costs too much."""


def _node(item: Tree | Group | Condition, path: str) -> Node:
    if isinstance(item, Condition):
        return Leaf(item, path, item.operator.is_crossing, item.negate)
    parts = tuple(
        _node(part, f"{path}.{number}" if path else str(number)) for number, part in enumerate(item.items, start=1)
    )
    return Branch(parts, item.join is Join.AND, isinstance(item, Group) and item.negate)


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        for part in node.parts:
            yield from _leaves(part)


S = TypeVar("S")


def _fold(
    node: Node,
    leaf: Callable[[Leaf], S],
    both: Callable[[S, S], S],
    either: Callable[[S, S], S],
    inverse: Callable[[S], S],
    nothing: S,
) -> S:
    """Return the state of ``node``: the one definition of joining and negating, for single states and for arrays."""
    if type(node) is Leaf:
        state = leaf(node)
    else:
        assert type(node) is Branch
        # Unknown rather than false, so that negating an empty group does not make it true.
        state = nothing
        for number, part in enumerate(node.parts):
            found = _fold(part, leaf, both, either, inverse, nothing)
            state = found if number == 0 else both(state, found) if node.is_and else either(state, found)
    return inverse(state) if node.negate else state


def _inverse(state: int) -> int:
    return _MET - state


_MET: Final = int(State.MET)
_UNKNOWN: Final = int(State.UNKNOWN)
_UNMET: Final = int(State.UNMET)


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one condition with the numbers behind it. ``path`` counts from 1 inside its group: "2.1"."""

    path: str
    label: str
    timeframe: str
    indicator: str
    operator: str
    threshold: float | None
    value: float | None
    state: Literal["met", "unmet", "unknown"]
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the check as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


class Verdict:
    """What a tree said: ``value``, each condition, and what to pass as ``since`` next time.

    Most looks need the value alone, so the rest is worked out when it is first asked for, from the same view.
    """

    __slots__ = ("_checks", "_market", "_since", "_tree", "value")

    def __init__(self, value: bool, tree: Tree, market: MarketView, since: Since | None) -> None:
        self.value = value
        self._tree = tree
        self._market = market
        self._since = since
        self._checks: tuple[Check, ...] | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Return the outcome of each condition in reading order."""
        if self._checks is None:
            self._checks = tuple(_check(leaf, self._market, self._since) for leaf in _leaves(self._tree.plan))
        return self._checks

    @property
    def evaluated_until(self) -> dict[str, int]:
        """Return the last candle judged per timeframe that has a crossing; other conditions need no memory."""
        return judged_until(self._tree, self._market)

    @property
    def summary(self) -> str:
        """Return the conditions that stand in the way in words, or that all hold."""
        if self.value:
            return "conditions met"
        open_ones = [
            f"{check.label} ({check.reason})" if check.reason else f"{check.label} (now {check.value:.6g})"
            for check in self.checks
            if check.state != "met" and (check.reason or check.value is not None)
        ]
        if not open_ones:
            return "conditions not met"
        more = f" and {len(open_ones) - 3} more" if len(open_ones) > 3 else ""
        return "waiting for: " + "; ".join(open_ones[:3]) + more


def evaluate(tree: Tree, market: MarketView, since: Since | None = None) -> Verdict:
    """Return what ``tree`` says at the last closed candle of each timeframe it uses.

    ``since`` names, per timeframe, the last candle judged before (None, or a timeframe left out: only the last closed
    candle is looked at). A crossing at any later candle up to the last closed one is met, once; at most
    ``CATCH_UP_CANDLES`` back. An empty tree is true. A view that many bots look at may keep ``verdicts``: equal trees
    are then evaluated once.
    """
    if not tree.items:
        return Verdict(True, tree, market, since)
    kept: dict[Any, Verdict] | None = getattr(market, "verdicts", None)
    if kept is None:
        return _evaluated(tree, market, since)
    key = (tree.key, *since.items()) if since and tree.crossing_timeframes else tree.key
    verdict = kept.get(key)
    if verdict is None:
        verdict = kept[key] = _evaluated(tree, market, since)
    return verdict


def _evaluated(tree: Tree, market: MarketView, since: Since | None) -> Verdict:
    state = _fold(tree.plan, lambda leaf: _state(leaf, market, since), min, max, _inverse, _UNKNOWN)
    return Verdict(state == _MET, tree, market, since)


def judged_until(tree: Tree, market: MarketView) -> dict[str, int]:
    """Return what :func:`evaluate` would hand back as judged: the last closed candle per timeframe with a crossing."""
    until: dict[str, int] = {}
    for timeframe in tree.crossing_timeframes:
        time = market.series(timeframe).time
        if len(time):
            until[str(timeframe)] = int(time[-1])
    return until


def _state(leaf: Leaf, market: MarketView, since: Since | None) -> int:
    """Return the state of the condition at the end of its series, its negation left out."""
    states = market.states(leaf.condition)
    if not len(states):
        return _UNKNOWN
    state: int = states.item(-1)
    if since is None or not leaf.is_crossing:
        return state
    judged = since.get(leaf.condition.timeframe)
    if judged is None:
        return state
    recent = states[-CATCH_UP_CANDLES:].tolist()
    if _MET not in recent:
        return state
    fresh = _fresh(leaf.condition, market, judged)
    if fresh and _MET in recent[-fresh:]:
        return _MET
    return _UNMET if state == _MET else state


def _fresh(condition: Condition, market: MarketView, judged: int) -> int:
    """Return how many candles have closed since the one opening at ``judged``."""
    time = market.series(condition.timeframe).time
    return len(time) - int(np.searchsorted(time, judged, side="right"))


def _check(leaf: Leaf, market: MarketView, since: Since | None) -> Check:
    condition = leaf.condition
    state = _state(leaf, market, since)
    have = len(market.states(condition))
    values = market.indicator(condition.timeframe, condition.indicator, condition.params, condition.output)
    value = float(values[-1]) if have and np.isfinite(values[-1]) else None
    judged = since.get(condition.timeframe) if since and leaf.is_crossing else None
    reason = ""
    if state == _UNKNOWN:
        needed = condition.candles_needed
        if have < needed:
            reason = f"needs {needed} candles, has {have}"
        else:
            reason = NO_SIGNAL if condition.spec.is_private else "has no value"
    elif judged is not None and not _fresh(condition, market, judged):
        reason = "no candle has closed since it was last judged"
    return Check(
        path=leaf.path,
        label=condition.label,
        timeframe=str(condition.timeframe),
        indicator=condition.indicator,
        operator=str(condition.operator),
        threshold=condition.value,
        value=value,
        state=_STATE_WORDS[_inverse(state) if leaf.negate else state],
        reason=reason,
    )


_STATE_WORDS: Final[dict[int, Literal["met", "unmet", "unknown"]]] = {
    State.MET: "met",
    State.UNMET: "unmet",
    State.UNKNOWN: "unknown",
}


def evaluate_array(tree: Tree, market: MarketView, timeframe: Timeframe) -> BoolArray:
    """Return what :func:`evaluate` says at the close of each candle of ``timeframe``, judged one candle after another.

    Conditions on other timeframes see the candles closed by then and nothing later (no look-ahead).
    """
    base = market.series(timeframe)
    if tree.is_empty:
        return np.ones(len(base), dtype=np.bool_)
    moments = base.time + timeframe.seconds
    nothing = np.full(len(base), State.UNKNOWN, dtype=np.int8)
    states = _fold(
        tree.plan,
        lambda leaf: _states_at(leaf, market, moments),
        np.minimum,
        np.maximum,
        lambda part: (_MET - part).astype(np.int8),
        nothing,
    )
    return np.asarray(states == State.MET, dtype=np.bool_)


def _states_at(leaf: Leaf, market: MarketView, moments: IntArray) -> StateArray:
    states = market.states(leaf.condition)
    if not len(states):
        return np.full(len(moments), State.UNKNOWN, dtype=np.int8)
    last = _last_closed(leaf.condition, market, moments)
    found = np.where(last >= 0, states[last], State.UNKNOWN).astype(np.int8)
    if not leaf.is_crossing:
        return found
    before = np.concatenate(([-1], last[:-1]))
    # Nothing judged before: only the last candle counts. Otherwise those since, at most CATCH_UP_CANDLES.
    first = np.where(before < 0, last, np.maximum(before + 1, last + 1 - CATCH_UP_CANDLES))
    fired = _met_between(states, first, last)
    resting = np.where(found == State.UNKNOWN, State.UNKNOWN, State.UNMET)
    return np.where(fired, State.MET, resting).astype(np.int8)


def _last_closed(condition: Condition, market: MarketView, moments: IntArray) -> IntArray:
    """Return the index of the condition's last candle that is closed at each moment, -1 where there is none."""
    closes = market.series(condition.timeframe).time + condition.timeframe.seconds
    return np.searchsorted(closes, moments, side="right") - 1


def _met_between(states: StateArray, first: IntArray, last: IntArray) -> BoolArray:
    """Return where a state from ``first`` to ``last`` (both included) is met; nowhere while ``last`` is -1."""
    met = np.concatenate(([0], np.cumsum(states == State.MET)))
    found: BoolArray = (last >= 0) & (met[last + 1] - met[np.clip(first, 0, last + 1)] > 0)
    return found


def could_hold(tree: Tree, market: MarketView, timeframe: Timeframe) -> BoolArray:
    """Return at the close of which candles of ``timeframe`` the tree could be true, whatever has been judged before.

    Where it is false, :func:`evaluate` is false for any ``since``: a replay need not look there. A crossing may count
    for as long as it can be caught up with, and may always be spent already. When a condition's timeframe is shorter
    than ``timeframe``, the answer is for the closes alone, not for the moments in between.
    """
    base = market.series(timeframe)
    if tree.is_empty:
        return np.ones(len(base), dtype=np.bool_)
    moments = base.time + timeframe.seconds
    unknown = np.full(len(base), State.UNKNOWN, dtype=np.int8)
    _least, most = _fold(
        tree.plan,
        lambda leaf: _bounds_at(leaf, market, moments),
        lambda one, other: (np.minimum(one[0], other[0]), np.minimum(one[1], other[1])),
        lambda one, other: (np.maximum(one[0], other[0]), np.maximum(one[1], other[1])),
        lambda part: ((_MET - part[1]).astype(np.int8), (_MET - part[0]).astype(np.int8)),
        (unknown, unknown),
    )
    return np.asarray(most == State.MET, dtype=np.bool_)


def _bounds_at(leaf: Leaf, market: MarketView, moments: IntArray) -> tuple[StateArray, StateArray]:
    """Return the least and the greatest state that the condition can have at each moment."""
    states = market.states(leaf.condition)
    if not len(states):
        unknown = np.full(len(moments), State.UNKNOWN, dtype=np.int8)
        return unknown, unknown
    last = _last_closed(leaf.condition, market, moments)
    found = np.where(last >= 0, states[last], State.UNKNOWN).astype(np.int8)
    if not leaf.is_crossing:
        return found, found
    least = np.where(found == State.UNKNOWN, State.UNKNOWN, State.UNMET).astype(np.int8)
    fired = _met_between(states, last + 1 - CATCH_UP_CANDLES, last)
    return least, np.where(fired, State.MET, least).astype(np.int8)


def required_series(tree: Tree) -> dict[Timeframe, int]:
    """Return, per timeframe the tree uses, how many closed candles to keep ready for it (F43: of this very tree)."""
    wanted: dict[Timeframe, int] = {}
    for condition in tree.conditions():
        count = candles_wanted(condition.indicator, condition.params, condition.timeframe) + CATCH_UP_CANDLES + 1
        wanted[condition.timeframe] = max(wanted.get(condition.timeframe, 0), count)
    return wanted


HEARD_LATE: Final = 3_600
"""Seconds of signals read further back than conditions reach, as the last closed candle may itself be some time ago."""


class Asked(NamedTuple):
    """What is asked of one kind of signal: how many seconds back from now may count, and the least confidence."""

    seconds: int
    least_confidence: float

    def with_(self, other: Asked | None) -> Asked:
        """Return what covers both."""
        if other is None:
            return self
        return Asked(max(self.seconds, other.seconds), min(self.least_confidence, other.least_confidence))


def required_signals(trees: Iterable[Tree]) -> dict[str, Asked]:
    """Return what these trees ask for, by kind of signal."""
    wanted: dict[str, Asked] = {}
    for condition in (condition for tree in trees for condition in tree.conditions()):
        if condition.spec.is_private:
            candles = int(condition.params["valid_candles"]) + CATCH_UP_CANDLES + 2
            asked = Asked(
                candles * condition.timeframe.seconds + HEARD_LATE, condition.params.get("min_confidence", 0.0)
            )
            wanted[condition.indicator] = asked.with_(wanted.get(condition.indicator))
    return wanted


# Wording and mirroring ----------------------------------------------------------------------------------------------


def mirror(tree: Tree) -> Tree:
    """Return the tree for the other direction: above and below swap, values turn over (RSI 30 becomes 70).

    A buy signal becomes a sell signal. What has no other side stays as it is: volumes, the true range, gaps and
    patterns mean the same for a short.
    """
    return Tree(join=tree.join, items=tuple(_mirrored(item) for item in tree.items))


def _mirrored(node: Condition | Group) -> Condition | Group:
    if isinstance(node, Group):
        return Group(join=node.join, negate=node.negate, items=tuple(_mirrored(item) for item in node.items))
    mirroring = node.spec.mirroring
    if mirroring is Mirroring.NONE:
        return node
    if mirroring is Mirroring.OPPOSITE:
        output = node.spec.opposite_outputs.get(node.output or "", node.output)
        return _turned(node, indicator=node.spec.opposite, output=output)
    value = node.value
    if value is not None and not node.operator.is_change:
        # 0 - value: a mirrored 0 stays 0, not -0.
        value = (100.0 if mirroring is Mirroring.FROM_HUNDRED else 0.0) - value
    return _turned(node, operator=_MIRRORED[node.operator], value=value)


def _turned(node: Condition, **changes: Any) -> Condition:
    """Return the condition with changes; made anew, as a copy would keep its key and label."""
    fields = {name: getattr(node, name) for name in Condition.model_fields}
    return Condition(**(fields | changes))


def describe(tree: Tree) -> str:
    """Return the tree in words; an empty text for an empty tree."""
    return f" {tree.join} ".join(_described(item) for item in tree.items)


def _described(node: Condition | Group) -> str:
    if isinstance(node, Condition):
        return node.label
    inner = f" {node.join} ".join(_described(item) for item in node.items) or "never"
    return f"not ({inner})" if node.negate else f"({inner})"


def vocabulary() -> dict[str, Any]:
    """Return what a form or an API description offers: indicators with parameters, operators, timeframes (F42)."""
    return {
        "indicators": [
            {
                "name": spec.name,
                "label": spec.label,
                "help": spec.help,
                "unit": str(spec.unit),
                "outputs": list(spec.outputs),
                "params": [
                    {
                        "name": param.name,
                        "label": param.label,
                        "default": param.default,
                        "minimum": param.minimum,
                        "maximum": param.maximum,
                        "whole": param.whole,
                    }
                    for param in spec.params
                ],
            }
            for spec in INDICATORS.values()
        ],
        "operators": [
            {"name": str(operator), "label": operator.words, "value_required": not operator.is_change}
            for operator in Operator
        ],
        "joins": [str(join) for join in Join],
        "timeframes": [str(timeframe) for timeframe in Timeframe],
    }
