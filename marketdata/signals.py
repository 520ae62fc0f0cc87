"""What a bot is told by programs outside, as conditions see it: moments of one source about one pair. Pure.

A signal is seen at a candle's close, never earlier: at the close of the candle in which it was received it counts as
one candle old. Received is when our own clock saw it; what a sender says about the time only decides whether it is
taken at all. Signals are private to the bot that they were sent to, so nothing here is ever shared or cached for
others.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from marketdata.series import FloatArray, IntArray

__all__ = ["SILENT", "UNHEARD", "SignalAction", "SignalKind", "Signals", "signal_values"]


class SignalKind(StrEnum):
    """Where a signal comes from. Each kind is a condition of the same name."""

    WEBHOOK = "webhook"
    AI_BUY = "ai_buy"
    AI_SELL = "ai_sell"


class SignalAction(StrEnum):
    """What an alert asks for, where it says so."""

    BUY = "buy"
    SELL = "sell"


ACTION_NUMBERS: Final = {"": 0, SignalAction.BUY.value: 1, SignalAction.SELL.value: -1}


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """The signals of one kind about one pair, oldest first.

    ``at`` is when each was received (Unix seconds), ``confidence`` 0 to 100 (NaN where none was given), ``action`` 1
    for buy, -1 for sell, 0 where it says neither. ``since`` is when the first one ever was received, which may be long
    before those at hand: before that nothing is known (infinity: nothing has ever come). Minus infinity counts what has
    not come as silence.
    """

    at: FloatArray
    confidence: FloatArray
    action: IntArray
    since: float = float("inf")


def _nothing(since: float) -> Signals:
    return Signals(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64), since)


UNHEARD: Final = _nothing(float("inf"))
"""A source that has never said anything: conditions on it are unknown."""
SILENT: Final = _nothing(float("-inf"))
"""A source that is taken to have said nothing: conditions on it have the value 0."""


def signal_values(
    signals: Signals,
    closes: IntArray,
    seconds: float,
    *,
    least_confidence: float = 0.0,
    action: str = "",
) -> FloatArray:
    """Return 1 at each of ``closes`` (Unix seconds, rising) that has a signal in the ``seconds`` up to it, else 0.

    NaN before the source was first heard of. A signal without a confidence reaches no ``least_confidence`` above 0.
    ``action`` narrows to those that ask for it.
    """
    counts = (signals.confidence >= least_confidence) | (least_confidence <= 0)
    if action:
        counts = counts & (signals.action == ACTION_NUMBERS[action])
    at = signals.at[counts]
    heard = np.searchsorted(at, closes, side="right")
    latest = np.concatenate(([-np.inf], at))[heard]
    values = (closes - latest < seconds).astype(np.float64)
    return np.where(closes >= signals.since, values, np.nan)
