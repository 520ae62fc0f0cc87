"""What a tree needs to be judged: how much history of which timeframes, and which signals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from bots.conditions.evaluation import CATCH_UP_CANDLES
from bots.conditions.tree import Tree
from marketdata.indicators import candles_wanted
from marketdata.timeframes import Timeframe

HEARD_LATE: Final = 3_600
"""Seconds of signals read further back than conditions reach, as the last closed candle may itself be some time ago."""


def required_series(tree: Tree) -> dict[Timeframe, int]:
    """Return, per timeframe the tree uses, how many closed candles to keep ready for it (F43: of this very tree)."""
    wanted: dict[Timeframe, int] = {}
    for condition in tree.conditions():
        count = candles_wanted(condition.indicator, condition.params, condition.timeframe) + CATCH_UP_CANDLES + 1
        wanted[condition.timeframe] = max(wanted.get(condition.timeframe, 0), count)
    return wanted


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
