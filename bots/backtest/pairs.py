"""One pair of a backtest as the bot may open deals on it: the looks that could, and what it remembers. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bots.backtest.tracks import Track
from bots.backtest.triggers import NEVER, next_of
from bots.backtest.waiting import looks_of
from marketdata.series import IntArray
from positions.states import Direction

__all__ = ["TradedPair"]


class TradedPair:
    """A pair's looks that could open a deal, by direction, and its memory between looks."""

    __slots__ = ("_looks", "_passed", "crossings", "forced", "last_closed", "rests_at", "track")

    def __init__(self, track: Track, settings: Any, *, every_look: bool) -> None:
        self.track = track
        trees = {direction: settings.open_tree(direction) for direction in settings.directions}
        self._looks: dict[Direction, IntArray | None] = {
            direction: None if every_look else looks_of(tree, track) for direction, tree in trees.items()
        }
        self.crossings = {direction: tree.crossing_timeframes for direction, tree in trees.items()}
        self.last_closed: dict[Direction, datetime] = {}
        self.rests_at = -1  # the look at which a deal opened or ended: nothing more opens there
        self.forced = -1  # a look at which crossings may be judged late
        self._passed: dict[Direction, tuple[int, int]] = {}

    def next_entry(self, direction: Direction, look: int) -> int:
        """Return the next look from ``look`` at which the entry conditions could hold, -1 when there is none."""
        look = max(look, self.track.offset)
        if look > self.track.last:
            return NEVER
        looks = self._looks[direction]
        return look if looks is None or look == self.forced else next_of(looks, look)

    def pass_over(self, look: int, *directions: Direction) -> None:
        """Note that these entries are not judged at ``look``: their crossings are judged at the next one."""
        for direction in directions:
            first, last = self._passed.get(direction, (look, -1))
            self._passed[direction] = (first if last in (look - 1, look) else look, look)
            if self.crossings[direction]:
                self.forced = look + 1

    def since(self, direction: Direction, look: int, first_look: int) -> dict[str, int] | None:
        """Return what had been judged of its crossings before ``look``: mostly everything up to the look before."""
        frames = self.crossings[direction]
        if not frames:
            return None
        before = self._judged_before(direction, look)
        if before < max(first_look, self.track.offset):
            return None
        found = {str(frame): self.track.judged(frame, before) for frame in frames}
        return {frame: time for frame, time in found.items() if time is not None} or None

    def _judged_before(self, direction: Direction, look: int) -> int:
        """Return the last look before ``look`` at which this entry was judged."""
        first, last = self._passed.get(direction, (0, -1))
        return first - 1 if last == look - 1 else look - 1
