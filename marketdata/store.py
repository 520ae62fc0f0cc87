"""The candle store: rows in the database are the truth, arrays in memory are what everybody reads.

* :meth:`CandleStore.ensure` asks the product's source for what is missing, and only for that.
* :meth:`CandleStore.load` answers closed candles of many products in a constant number of queries, oldest first,
  without gaps, and never beyond the clock's moment (F40). Timeframes a market does not offer are built from shorter
  ones.

A ``CandleSeries`` row says which stretch is held. It is read on every load, so that candles written by any process are
noticed by all; the candles themselves are read once and kept in memory. Two writers of the same candles are harmless:
rows are inserted once and stretches only grow.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import transaction
from django.db.models import OuterRef, Subquery

from marketdata import sources
from marketdata.models import Candle, CandleSeries, Product
from marketdata.series import Candles, closed_count, fill_gaps, oldest_first, resample
from marketdata.timeframes import Timeframe
from tradebot.core import clock

__all__ = ["CandleStore", "store"]

DEFAULT_COUNT: Final = 300
SETTLE_SECONDS: Final = 30
"""A venue may publish a candle this late; until then a missing last candle means "not yet", not "no trades"."""
CACHED_CANDLES: Final = 1_500_000
SMALLEST_TRIM: Final = 4_096
ROWS_PER_INSERT: Final = 2_000
ROWS_PER_FETCH: Final = 20_000
_PRICES: Final = ("open", "high", "low", "close", "volume")
_ROW: Final = np.dtype([("product_id", np.int64), ("time", np.int64), *((name, np.float64) for name in _PRICES)])
MOST_JOINED: Final = 20_000
"""Candles that are fetched to join the newest ones to a stretch that was left behind: two weeks of minutes."""

Held = Mapping[Timeframe, CandleSeries]


@dataclass(frozen=True, slots=True)
class _Entry:
    """Candles of one series in memory: every period from ``lo`` to ``hi``, gaps filled. ``widest`` is the most that
    anybody asked for, in candles; ``built`` holds longer timeframes made from these."""

    generation: uuid.UUID
    lo: int
    hi: int
    candles: Candles
    widest: int
    built: dict[Timeframe, Candles] = field(default_factory=dict)

    def as_timeframe(self, own: Timeframe, wanted: Timeframe) -> Candles:
        if own is wanted:
            return self.candles
        if wanted not in self.built:
            self.built[wanted] = _locked(resample(self.candles, own, wanted))
        return self.built[wanted]


@dataclass(frozen=True, slots=True)
class _Read:
    """A stretch of one series to be read from the database, and what it continues, if anything."""

    series: CandleSeries
    lo: int
    widest: int
    before: _Entry | None


class CandleStore:
    """Reads and writes candles. One per process is enough (:data:`store`); it is thread-safe."""

    def __init__(self, cached_candles: int = CACHED_CANDLES) -> None:
        self._cached_candles = cached_candles
        self._entries: OrderedDict[tuple[int, Timeframe], _Entry] = OrderedDict()
        self._lock = threading.Lock()

    # Reading ---------------------------------------------------------------------------------------------------------

    def load(
        self,
        product_ids: Iterable[int],
        timeframe: Timeframe,
        until: datetime | None = None,
        count: int | None = DEFAULT_COUNT,
    ) -> dict[int, Candles]:
        """Return up to ``count`` closed candles (None: all) of each product, by product id.

        ``until`` defaults to the clock's moment and never reaches beyond it (F40). A product of which the store holds
        nothing suitable has an empty series. Costs one query when everything is in memory and at most four otherwise,
        however many products are asked for. The arrays are shared and read-only.
        """
        ids = list(dict.fromkeys(product_ids))
        moment = min(until, clock.now()) if until is not None else clock.now()
        held = self.coverage(ids)
        chosen = {pid: base for pid in ids if (base := _base(timeframe, held.get(pid, {}))) is not None}
        wanted_from = None
        if count is not None:
            wanted_from = timeframe.open_time(moment.timestamp()) - count * timeframe.seconds
        entries = self._up_to_date([held[pid][base] for pid, base in chosen.items()], wanted_from)
        answer = {}
        for pid in ids:
            entry = entries.get(pid)
            if entry is None:
                answer[pid] = Candles.empty()
                continue
            candles = entry.as_timeframe(chosen[pid], timeframe)
            closed = candles.upto(closed_count(candles, timeframe, moment.timestamp()))
            answer[pid] = closed if count is None else closed.tail(count)
        return answer

    def series(
        self, product: Product, timeframe: Timeframe, start: datetime | None = None, end: datetime | None = None
    ) -> Candles:
        """Return the closed candles of one product that open in [start, end) and are closed at ``end``."""
        candles = self.load([product.pk], timeframe, until=end, count=None)[product.pk]
        if start is None:
            return candles
        first = int(np.searchsorted(candles.time, start.timestamp(), side="left"))
        return candles.tail(len(candles) - first)

    def coverage(self, product_ids: Iterable[int]) -> dict[int, dict[Timeframe, CandleSeries]]:
        """Return which stretches are held, by product id and timeframe. One query."""
        found: dict[int, dict[Timeframe, CandleSeries]] = {}
        for row in CandleSeries.objects.filter(product_id__in=list(product_ids)):
            found.setdefault(row.product_id, {})[Timeframe(row.timeframe)] = row
        return found

    # Writing ---------------------------------------------------------------------------------------------------------

    def ensure(
        self,
        product: Product,
        timeframe: Timeframe,
        count: int = DEFAULT_COUNT,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        held: Held | None = None,
    ) -> int:
        """Fetch what is missing of the last ``count`` closed candles, or of those opening in [start, end).

        ``held`` is the product's part of :meth:`coverage`, if the caller has it already. A recording is complete as it
        is. Returns the number of candles received. Raises VenueUnavailable, NotFound.
        """
        if product.exchange == sources.REPLAY:
            return 0
        source = sources.get(product.exchange)
        base = timeframe.source_timeframe(source.native_timeframes)
        now = clock.now().timestamp()
        until = min(end.timestamp(), now) if end is not None else now
        hi = base.open_time(until)
        if start is not None:
            lo = timeframe.open_time(start.timestamp())
        else:
            lo = timeframe.open_time(until) - count * timeframe.seconds
        lo = max(lo, base.offset)
        if held is None:
            held = self.coverage([product.pk]).get(product.pk, {})
        received = 0
        for first, last in _missing(held.get(base), lo, hi, base.seconds):
            candles = source.candles(product.symbol, base, first, last)
            self.write(product, base, candles, first, _settled(candles, base, first, last, now))
            received += len(candles)
        return received

    @transaction.atomic
    def write(self, product: Product, timeframe: Timeframe, candles: Candles, start: int, end: int) -> None:
        """Add candles that are everything there is in [start, end), Unix seconds.

        A stretch that neither overlaps nor touches what is held takes its place, because a stretch has no holes.
        """
        _insert(product, timeframe, candles)
        CandleSeries.objects.get_or_create(
            product=product, timeframe=timeframe, defaults={"start": start, "end": max(start, end)}
        )
        row = CandleSeries.objects.select_for_update().get(product=product, timeframe=timeframe)
        if start <= row.end and end >= row.start:
            row.start, row.end = min(row.start, start), max(row.end, end)
        else:
            row.start, row.end, row.generation = start, max(start, end), uuid.uuid4()
        row.save()

    @transaction.atomic
    def replace(self, product: Product, timeframe: Timeframe, candles: Candles) -> CandleSeries:
        """Put a recording in the place of whatever is held of this series. ``candles`` is not empty."""
        Candle.objects.filter(product=product, timeframe=timeframe).delete()
        _insert(product, timeframe, candles)
        row, _ = CandleSeries.objects.update_or_create(
            product=product,
            timeframe=timeframe,
            defaults={
                "start": int(candles.time[0]),
                "end": int(candles.time[-1]) + timeframe.seconds,
                "generation": uuid.uuid4(),
            },
        )
        return row

    def forget(self) -> None:
        """Empty the memory; the rows stay."""
        with self._lock:
            self._entries.clear()

    # Memory ----------------------------------------------------------------------------------------------------------

    def _up_to_date(self, rows: Sequence[CandleSeries], wanted_from: int | None) -> dict[int, _Entry]:
        """Return entries by product id that hold the rows' stretches from ``wanted_from`` on."""
        entries: dict[int, _Entry] = {}
        cold: list[_Read] = []
        warm: list[_Read] = []
        for row in rows:
            timeframe = Timeframe(row.timeframe)
            lo = row.start if wanted_from is None else max(row.start, timeframe.open_time(wanted_from))
            lo = min(lo, row.end)
            widest = (row.end - lo) // timeframe.seconds
            entry = self._get((row.product_id, timeframe))
            if entry is not None and entry.generation != row.generation:
                entry = None
            if entry is not None and lo >= entry.lo and row.end <= entry.hi:
                entries[row.product_id] = entry
            elif entry is not None and lo >= entry.lo and len(entry.candles):
                warm.append(_Read(row, entry.hi, max(widest, entry.widest), entry))
            else:
                cold.append(_Read(row, lo, max(widest, entry.widest if entry is not None else 0), None))
        for reads in (cold, warm):
            for key, entry in _read(reads).items():
                entries[key[0]] = entry
                self._put(key, entry)
        return entries

    def _get(self, key: tuple[int, Timeframe]) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def _put(self, key: tuple[int, Timeframe], entry: _Entry) -> None:
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            total = sum(len(kept.candles) for kept in self._entries.values())
            while total > self._cached_candles and len(self._entries) > 1:
                _, dropped = self._entries.popitem(last=False)
                total -= len(dropped.candles)


def _base(timeframe: Timeframe, held: Held) -> Timeframe | None:
    """The longest timeframe held from which ``timeframe`` can be built."""
    fitting = [own for own in held if timeframe.is_built_from(own)]
    return max(fitting, key=lambda own: own.seconds) if fitting else None


def _missing(held: CandleSeries | None, lo: int, hi: int, seconds: int = 60) -> list[tuple[int, int]]:
    """Return the stretches to ask for so that [lo, hi) is held without a hole.

    What lies between it and an older stretch is fetched as well where that is less than the older one has: somebody's
    downloaded history is not given up for the last few candles. Otherwise they take its place.
    """
    if hi <= lo:
        return []
    if held is None:
        return [(lo, hi)]
    between = lo - held.end
    if between > min(held.end - held.start, MOST_JOINED * seconds):  # far behind: not worth fetching
        return [(lo, hi)]
    stretches = []
    if lo < held.start:
        stretches.append((lo, held.start))
    if hi > held.end:
        stretches.append((held.end, hi))
    return stretches


def _settled(candles: Candles, timeframe: Timeframe, first: int, last: int, now: float) -> int:
    """Return up to where an answer for [first, last) can be believed to be complete."""
    received = int(candles.time[-1]) + timeframe.seconds if len(candles) else first
    return max(first, received, min(last, timeframe.open_time(now - SETTLE_SECONDS)))


def _insert(product: Product, timeframe: Timeframe, candles: Candles) -> None:
    real = ~candles.synthetic
    columns = [
        column[real].tolist()
        for column in (candles.time, candles.open, candles.high, candles.low, candles.close, candles.volume)
    ]
    Candle.objects.bulk_create(
        (
            Candle(
                product_id=product.pk,
                timeframe=timeframe.value,
                time=time,
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
            )
            for time, open_, high, low, close, volume in zip(*columns, strict=True)
        ),
        batch_size=ROWS_PER_INSERT,
        ignore_conflicts=True,
    )


def _read(reads: list[_Read]) -> dict[tuple[int, Timeframe], _Entry]:
    """Read stretches from the database: one query for each timeframe, and one more where a stretch begins in a gap."""
    found: dict[tuple[int, Timeframe], _Entry] = {}
    by_timeframe: dict[Timeframe, list[_Read]] = {}
    for read in reads:
        by_timeframe.setdefault(Timeframe(read.series.timeframe), []).append(read)
    for timeframe, group in by_timeframe.items():
        lo = min(read.lo for read in group)
        rows = (
            Candle.objects.filter(
                product_id__in=[read.series.product_id for read in group],
                timeframe=timeframe.value,
                time__gte=lo,
                time__lt=max(read.series.end for read in group),
            )
            .order_by("product_id", "time")
            .values_list("product_id", "time", *_PRICES)
        )
        # Straight into an array: a year of minutes as tuples would cost some hundred megabytes and a second.
        by_product = _split(np.fromiter(rows.iterator(chunk_size=ROWS_PER_FETCH), dtype=_ROW))
        closes = _closes_before(timeframe, [read for read in group if _begins_in_gap(read, by_product)])
        for read in group:
            entry = _entry(read, timeframe, by_product.get(read.series.product_id), closes)
            found[read.series.product_id, timeframe] = entry
    return found


def _split(rows: npt.NDArray[np.void]) -> dict[int, Candles]:
    if not len(rows):
        return {}
    ids = rows["product_id"]
    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    ends = np.append(starts[1:], len(ids))
    found = {}
    for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
        part = rows[a:b]
        time = np.ascontiguousarray(part["time"])
        open_, high, low, close, volume = (np.ascontiguousarray(part[name]) for name in _PRICES)
        found[int(ids[a])] = Candles(time, open_, high, low, close, volume, np.zeros(b - a, dtype=np.bool_))
    return found


def _begins_in_gap(read: _Read, by_product: Mapping[int, Candles]) -> bool:
    if read.before is not None or not read.series.start < read.lo < read.series.end:
        return False
    candles = by_product.get(read.series.product_id)
    if candles is None:
        return True
    at = int(np.searchsorted(candles.time, read.lo))
    return at == len(candles) or int(candles.time[at]) != read.lo


def _closes_before(timeframe: Timeframe, reads: list[_Read]) -> dict[int, float]:
    """Return the close with which each stretch goes on flat until its first candle."""
    if not reads:
        return {}
    earlier = Candle.objects.filter(
        product_id=OuterRef("product_id"), timeframe=timeframe.value, time__lt=min(read.lo for read in reads)
    ).order_by("-time")
    # Stretches of one load that begin in a gap all begin at the same period: the first one wanted.
    rows = CandleSeries.objects.filter(pk__in=[read.series.pk for read in reads])
    found = rows.annotate(close=Subquery(earlier.values("close")[:1]), at=Subquery(earlier.values("time")[:1]))
    return {row.product_id: row.close for row in found if row.close is not None and row.at >= row.start}


def _entry(read: _Read, timeframe: Timeframe, rows: Candles | None, closes: Mapping[int, float]) -> _Entry:
    row = read.series
    parts = []
    if read.before is not None:
        parts.append(read.before.candles)
    elif row.product_id in closes:
        parts.append(_flat(read.lo, closes[row.product_id]))
    if rows is not None:
        first, last = (int(n) for n in np.searchsorted(rows.time, [read.lo, row.end]))
        parts.append(rows.upto(last).tail(last - first))
    candles = fill_gaps(_joined(parts), timeframe, until=row.end - timeframe.seconds)
    lo = read.before.lo if read.before is not None else read.lo
    keep = max(2 * read.widest, SMALLEST_TRIM)
    if len(candles) > keep and read.before is not None:
        candles = candles.tail(keep)
        lo = int(candles.time[0])
    return _Entry(row.generation, lo, row.end, _locked(candles), read.widest)


def _flat(time: int, price: float) -> Candles:
    return oldest_first([time], [price], [price], [price], [price], [0.0], [True])


def _joined(parts: list[Candles]) -> Candles:
    if not parts:
        return Candles.empty()
    if len(parts) == 1:
        return parts[0]
    return Candles(
        time=np.concatenate([part.time for part in parts]),
        open=np.concatenate([part.open for part in parts]),
        high=np.concatenate([part.high for part in parts]),
        low=np.concatenate([part.low for part in parts]),
        close=np.concatenate([part.close for part in parts]),
        volume=np.concatenate([part.volume for part in parts]),
        synthetic=np.concatenate([part.synthetic for part in parts]),
    )


def _locked(candles: Candles) -> Candles:
    """Make the arrays read-only: they are shared by everybody."""
    for name in ("time", "open", "high", "low", "close", "volume", "synthetic"):
        getattr(candles, name).flags.writeable = False
    return candles


store = CandleStore()
"""The store of this process."""
