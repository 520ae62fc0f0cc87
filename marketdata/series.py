"""Candle series as arrays: one order (oldest first), no gaps, closed candles only. Pure: knows no Django and no clock.

Venues answer newest first or oldest first, leave out periods without trades and include the forming candle. Everything
behind this module may rely on none of that being so (F40, F41).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from marketdata.timeframes import Timeframe, last_closed
from tradebot.core.errors import InvalidInput

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Candles of one product and timeframe, oldest first.

    ``time`` is the opening time in unix seconds, ``volume`` is in base currency, ``synthetic`` marks candles that fill
    a period without trades. All arrays have the same length.
    """

    time: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    synthetic: BoolArray

    def __len__(self) -> int:
        return len(self.time)

    def upto(self, count: int) -> Candles:
        """Return the first ``count`` candles (views, no copies)."""
        return self._slice(slice(None, max(count, 0)))

    def tail(self, count: int) -> Candles:
        """Return the last ``count`` candles (views, no copies)."""
        return self._slice(slice(max(len(self) - max(count, 0), 0), None))

    def _slice(self, part: slice) -> Candles:
        return Candles(
            self.time[part],
            self.open[part],
            self.high[part],
            self.low[part],
            self.close[part],
            self.volume[part],
            self.synthetic[part],
        )

    @classmethod
    def empty(cls) -> Candles:
        """Return a series without candles."""
        return oldest_first([], [], [], [], [], [])


def oldest_first(
    times: npt.ArrayLike,
    opens: npt.ArrayLike,
    highs: npt.ArrayLike,
    lows: npt.ArrayLike,
    closes: npt.ArrayLike,
    volumes: npt.ArrayLike,
    synthetic: npt.ArrayLike | None = None,
) -> Candles:
    """Return candles sorted oldest first, each opening time once (the last given wins).

    Raises InvalidInput (``bad_candle``) for arrays of different length, prices that are not finite and above zero,
    a negative volume, or a high and low that do not enclose open and close.
    """
    time: IntArray = np.asarray(times, dtype=np.int64)
    columns: list[FloatArray] = [
        np.asarray(column, dtype=np.float64) for column in (opens, highs, lows, closes, volumes)
    ]
    filled: BoolArray = (
        np.zeros(len(time), dtype=np.bool_) if synthetic is None else np.asarray(synthetic, dtype=np.bool_)
    )
    if any(len(column) != len(time) for column in (*columns, filled)):
        raise InvalidInput("bad_candle", "candle columns differ in length")
    if len(time) > 1 and not (np.diff(time) > 0).all():
        # Reversed before looking for the first of each time, so that the last given row wins.
        unique, index = np.unique(time[::-1], return_index=True)
        index = len(time) - 1 - index
        time, columns, filled = unique, [column[index] for column in columns], filled[index]
    opening, highest, lowest, closing, volume = columns
    sound = np.isfinite(opening) & np.isfinite(highest) & (lowest > 0) & np.isfinite(volume) & (volume >= 0)
    sound &= (highest >= np.maximum(opening, closing)) & (lowest <= np.minimum(opening, closing))
    if not sound.all():
        bad = int(time[int(np.argmin(sound))])
        raise InvalidInput("bad_candle", f"the candle opening at {bad} is not a candle", time=bad)
    return Candles(time, opening, highest, lowest, closing, volume, filled)


def from_rows(rows: Iterable[Sequence[Any]]) -> Candles:
    """Return candles from rows (time, open, high, low, close, volume) in any order. Raises InvalidInput."""
    times, opens, highs, lows, closes, volumes = list(zip(*rows, strict=True)) or [()] * 6
    return oldest_first(times, opens, highs, lows, closes, volumes)


def fill_gaps(candles: Candles, tf: Timeframe, until: int | None = None) -> Candles:
    """Return the series with every missing period filled flat at the previous close, volume 0, marked synthetic.

    ``until`` is the opening time of the last candle wanted: without trades up to then the series goes on flat. Never
    fills before the first candle. Raises InvalidInput (``bad_candle``) when opening times are not on the timeframe's
    grid.
    """
    if not len(candles):
        return candles
    first = int(candles.time[0])
    slots = (candles.time - first) // tf.seconds
    if tf.open_time(first) != first or ((candles.time - first) % tf.seconds).any():
        raise InvalidInput("bad_candle", f"opening times are not those of {tf} candles")
    count = int(slots[-1]) + 1
    if until is not None:
        count = max(count, (until - first) // tf.seconds + 1)
    if count == len(candles):
        return candles
    # For each period the newest candle at or before it: its own, or the one whose close goes on.
    source = np.searchsorted(slots, np.arange(count), side="right") - 1
    missing = slots[source] != np.arange(count)
    previous_close = candles.close[source]
    return Candles(
        time=first + np.arange(count, dtype=np.int64) * tf.seconds,
        open=np.where(missing, previous_close, candles.open[source]),
        high=np.where(missing, previous_close, candles.high[source]),
        low=np.where(missing, previous_close, candles.low[source]),
        close=previous_close,
        volume=np.where(missing, 0.0, candles.volume[source]),
        synthetic=missing | candles.synthetic[source],
    )


def resample(candles: Candles, from_tf: Timeframe, to_tf: Timeframe, *, complete_only: bool = True) -> Candles:
    """Return ``candles`` of ``from_tf`` as candles of the longer ``to_tf``; gaps are filled first.

    Only buckets of which every part is there are returned, so a forming or clipped candle never appears, unless
    ``complete_only`` is false. A result candle is synthetic when all its parts are. Raises InvalidInput
    (``timeframe_unavailable``) when ``to_tf`` is not a whole number of ``from_tf``.
    """
    if from_tf is to_tf:
        return fill_gaps(candles, from_tf)
    if not to_tf.is_built_from(from_tf):
        raise InvalidInput(
            "timeframe_unavailable", f"{to_tf} candles cannot be built from {from_tf}", field="timeframe"
        )
    parts = fill_gaps(candles, from_tf)
    if not len(parts):
        return parts
    bucket = (parts.time - to_tf.offset) // to_tf.seconds
    starts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
    counts = np.diff(starts, append=len(parts))
    ends = starts + counts - 1
    whole = Candles(
        time=bucket[starts] * to_tf.seconds + to_tf.offset,
        open=parts.open[starts],
        high=np.maximum.reduceat(parts.high, starts),
        low=np.minimum.reduceat(parts.low, starts),
        close=parts.close[ends],
        volume=np.add.reduceat(parts.volume, starts),
        synthetic=np.logical_and.reduceat(parts.synthetic, starts),
    )
    if not complete_only:
        return whole
    complete = counts == to_tf.seconds // from_tf.seconds
    return Candles(
        whole.time[complete],
        whole.open[complete],
        whole.high[complete],
        whole.low[complete],
        whole.close[complete],
        whole.volume[complete],
        whole.synthetic[complete],
    )


DAY_SECONDS: Final = 86_400


def traded_in_a_day(volumes: FloatArray, tf: Timeframe) -> float:
    """Return the base traded in the last 24 hours (or in what there is of them), ``volumes`` being those of candles."""
    return round(float(np.sum(volumes[-max(1, DAY_SECONDS // tf.seconds) :])), 8)


def closed_count(candles: Candles, tf: Timeframe, now_ts: float) -> int:
    """Return how many of the candles are closed at ``now_ts`` (F40)."""
    return int(np.searchsorted(candles.time, last_closed(now_ts, tf), side="right"))


def closed_only(candles: Candles, tf: Timeframe, now_ts: float) -> Candles:
    """Return the candles that are closed at ``now_ts``: the forming one is never used for a decision (F40)."""
    return candles.upto(closed_count(candles, tf, now_ts))
