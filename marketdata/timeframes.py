"""Candle timeframes: their names, lengths and where their candles begin. Pure: knows no Django and no clock.

Every candle is named by its opening time in unix seconds, UTC. Candles up to three days begin at multiples of their
length; weeks begin on Monday.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from tradebot.core.errors import InvalidInput

DAY_SECONDS: Final = 86_400
FIRST_MONDAY: Final = 4 * DAY_SECONDS
"""1970-01-05, the first Monday after the epoch (a Thursday): weekly candles begin on Mondays."""


class Timeframe(StrEnum):
    """The length of a candle."""

    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M10 = "10m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H12 = "12h"
    D1 = "1d"
    D3 = "3d"
    W1 = "1w"

    @property
    def seconds(self) -> int:
        """Return the length in seconds."""
        return _SECONDS[self]

    @property
    def offset(self) -> int:
        """Return the unix second from which candles are counted."""
        return FIRST_MONDAY if self is Timeframe.W1 else 0

    @classmethod
    def parse(cls, text: str) -> Timeframe:
        """Return the timeframe named ``text``. Raises InvalidInput (``unknown_timeframe``) for any other word."""
        try:
            return cls(text)
        except ValueError:
            known = ", ".join(cls)
            raise InvalidInput(
                "unknown_timeframe", f"{text!r} is no timeframe; known are {known}", field="timeframe"
            ) from None

    def open_time(self, moment: float) -> int:
        """Return the opening time (unix seconds) of the candle that contains ``moment``."""
        return int((int(moment // 1) - self.offset) // self.seconds * self.seconds + self.offset)

    def is_built_from(self, source: Timeframe) -> bool:
        """Return whether whole candles of ``source`` make up each candle of this timeframe."""
        return self.seconds % source.seconds == 0 and (self.offset - source.offset) % source.seconds == 0

    def source_timeframe(self, native: Collection[Timeframe]) -> Timeframe:
        """Return the longest timeframe of ``native`` (what a venue offers) that this one can be built from.

        Raises InvalidInput (``timeframe_unavailable``) when there is none.
        """
        fitting = [candidate for candidate in native if self.is_built_from(candidate)]
        if not fitting:
            raise InvalidInput(
                "timeframe_unavailable", f"{self} candles cannot be built from what is offered", field="timeframe"
            )
        return max(fitting, key=lambda candidate: candidate.seconds)


_UNITS: Final = {"m": 60, "h": 3_600, "d": DAY_SECONDS, "w": 7 * DAY_SECONDS}
_SECONDS: Final = {timeframe: int(timeframe.value[:-1]) * _UNITS[timeframe.value[-1]] for timeframe in Timeframe}


def last_closed(now_ts: float, tf: Timeframe) -> int:
    """Return the opening time of the newest candle that is closed at ``now_ts`` (a candle closes as the next opens)."""
    return tf.open_time(now_ts) - tf.seconds
