"""What a tree says at the last closed candles: one look, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bots.conditions.plan import Leaf, fold, leaves
from bots.conditions.states import MET, UNKNOWN, UNMET, State, inverse
from bots.conditions.tree import Condition, Tree

if TYPE_CHECKING:
    from bots.strategies.base import MarketView

Since = Mapping[str, int]
"""Per timeframe the opening time (unix seconds) of the last candle whose crossings have been judged."""

CATCH_UP_CANDLES: Final = 5
"""How many candles back a crossing nobody has judged yet still counts; older ones are yesterday's news (F39)."""

NO_SIGNAL: Final = "no signal received"
"""Why a condition on signals is unknown although there are candles."""


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
            self._checks = tuple(_check(leaf, self._market, self._since) for leaf in leaves(self._tree.plan))
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
    state = fold(tree.plan, lambda leaf: _state(leaf, market, since), min, max, inverse, UNKNOWN)
    return Verdict(state == MET, tree, market, since)


def judged_until(tree: Tree, market: MarketView) -> dict[str, int]:
    """Return what :func:`evaluate` would hand back as judged: the last closed candle per timeframe with a crossing."""
    until: dict[str, int] = {}
    for timeframe in tree.crossing_timeframes:
        newest = market.newest(timeframe)
        if newest is not None:
            until[str(timeframe)] = newest
    return until


def _state(leaf: Leaf, market: MarketView, since: Since | None) -> int:
    """Return the state of the condition at the end of its series, its negation left out."""
    states = market.states(leaf.condition)
    if not len(states):
        return UNKNOWN
    state: int = states.item(-1)
    if since is None or not leaf.is_crossing:
        return state
    judged = since.get(leaf.condition.timeframe)
    if judged is None:
        return state
    recent = states[-CATCH_UP_CANDLES:].tolist()
    if MET not in recent:
        return state
    fresh = _fresh(leaf.condition, market, judged)
    if fresh and MET in recent[-fresh:]:
        return MET
    return UNMET if state == MET else state


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
    if state == UNKNOWN:
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
        state=_STATE_WORDS[inverse(state) if leaf.negate else state],
        reason=reason,
    )


_STATE_WORDS: Final[dict[int, Literal["met", "unmet", "unknown"]]] = {
    State.MET: "met",
    State.UNMET: "unmet",
    State.UNKNOWN: "unknown",
}
