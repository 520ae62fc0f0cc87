"""History on request: candles of a long range, fetched page by page into the candle store, and what is held.

A download asks for nothing that the store holds already. A stretch in the store has no holes, so what is asked for is
joined to what is held: pages go on from its end, and back from its beginning. Each page is written by itself; a
download that was stopped or killed at any line goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import structlog
from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, Subquery
from django.db.models.functions import Coalesce

from marketdata import sources
from marketdata.models import Candle, CandleSeries, HistoryDownload, Product
from marketdata.series import Candles, fill_gaps, oldest_first, resample
from marketdata.store import store
from marketdata.timeframes import Timeframe
from marketdata.wire.venues import LIVE
from notifications import outbox
from tradebot.core import clock, once, stopping, turns
from tradebot.core.errors import InvalidInput, NotFound, TradebotError

__all__ = [
    "Coverage",
    "base_for",
    "cancel_download",
    "coverage",
    "gaps_of",
    "progress_of",
    "read",
    "remove_download",
    "run_download",
    "start_download",
    "stop_claimed",
    "tell",
]

log = structlog.get_logger(__name__)

PAGE: Final = {sources.SIMULATED: 5_000} | {slug: info.candles_per_request for slug, info in LIVE.items()}
"""Candles asked for at once: the venue's own limit, so that each request is written before the next one is sent."""
MOST_CANDLES: Final = 3_000_000
MOST_WAITING: Final = 20
MOST_GAPS: Final = 200
KEPT: Final = 100
ROWS_PER_READ: Final = 50_000
STALE_AFTER: Final = timedelta(minutes=2)
TELL_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 30
OVER: Final = (HistoryDownload.Status.FINISHED, HistoryDownload.Status.CANCELLED, HistoryDownload.Status.FAILED)
UNDER_WAY: Final = (HistoryDownload.Status.QUEUED, HistoryDownload.Status.RUNNING)


# What is held -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Coverage:
    """One stretch of candles that the store holds: periods opening in [start, end).

    ``candles`` counts those with trades, ``gap_share`` is the part of all periods without any, 0 to 1.
    """

    product: Product
    timeframe: Timeframe
    start: datetime
    end: datetime
    candles: int
    gap_share: float


def coverage(exchange: str = "", symbols: Iterable[str] = ()) -> list[Coverage]:
    """Return what is held, by market, product and timeframe (shortest first), in one query."""
    rows = CandleSeries.objects.select_related("product").order_by("product__exchange", "product__symbol")
    if exchange:
        rows = rows.filter(product__exchange=exchange)
    if wanted := list(symbols):
        rows = rows.filter(product__symbol__in=wanted)
    counted = (
        Candle.objects.filter(
            product_id=OuterRef("product_id"),
            timeframe=OuterRef("timeframe"),
            time__gte=OuterRef("start"),
            time__lt=OuterRef("end"),
        )
        .order_by()
        .values("product_id")
        .annotate(n=Count("pk"))
    )
    rows = rows.annotate(rows=Coalesce(Subquery(counted.values("n"), output_field=IntegerField()), 0))
    found = []
    for row in rows:
        timeframe = Timeframe(row.timeframe)
        periods = max((row.end - row.start) // timeframe.seconds, 0)
        if periods:
            share = max(0.0, 1.0 - row.rows / periods)
            found.append(Coverage(row.product, timeframe, _utc(row.start), _utc(row.end), row.rows, share))
    return sorted(found, key=lambda one: (one.product.exchange, one.product.symbol, one.timeframe.seconds))


def base_for(
    held: Mapping[Timeframe, CandleSeries], timeframe: Timeframe, start: int, end: int
) -> tuple[Timeframe, CandleSeries] | None:
    """Return the series from which candles of ``timeframe`` over [start, end) are best made.

    That is the one that covers most of it, of equal ones the longest; None when nothing held fits or overlaps.
    """

    def overlap(row: CandleSeries) -> int:
        return min(row.end, end) - max(row.start, start)

    fitting = [(own, row) for own, row in held.items() if timeframe.is_built_from(own) and overlap(row) > 0]
    # A candle more or less is the rounding of timeframes, not a better series.
    return max(fitting, key=lambda one: (overlap(one[1]) // timeframe.seconds, one[0].seconds), default=None)


def read(product: Product, timeframe: Timeframe, start: int, end: int, base: CandleSeries) -> Candles:
    """Return the candles of ``timeframe`` opening in [start, end), made from the series ``base``, gaps filled flat.

    Reads past the store's memory and in parts, so that years of minutes take no more room than their arrays.
    """
    own = Timeframe(base.timeframe)
    first, last = max(start, base.start), min(end, base.end)
    parts = [_arrays(rows) for rows in _row_blocks(product.pk, own, first, last)]
    if not parts:
        return Candles.empty()
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    until = own.open_time(last - 1)
    return resample(fill_gaps(oldest_first(*columns), own, until=until), own, timeframe)


def _row_blocks(product_id: int, timeframe: Timeframe, start: int, end: int) -> Iterator[list[tuple[Any, ...]]]:
    at = start
    while at < end:
        rows = list(
            Candle.objects.filter(product_id=product_id, timeframe=timeframe.value, time__gte=at, time__lt=end)
            .order_by("time")
            .values_list("time", "open", "high", "low", "close", "volume")[:ROWS_PER_READ]
        )
        if rows:
            yield rows
        if len(rows) < ROWS_PER_READ:
            return
        at = int(rows[-1][0]) + 1


def _arrays(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    times, *prices = zip(*rows, strict=True)
    return (np.array(times, dtype=np.int64), *(np.array(column, dtype=np.float64) for column in prices))


def gaps_of(product: Product, timeframe: Timeframe, start: int, end: int) -> list[list[int]]:
    """Return the stretches [[start, end), …] without trades in a range that is held, the longest ones, oldest first."""
    blocks = (np.array([row[0] for row in rows]) for rows in _row_blocks(product.pk, timeframe, start, end))
    known = np.concatenate([np.array([start - timeframe.seconds]), *blocks, np.array([end])])
    at = np.flatnonzero(np.diff(known) > timeframe.seconds)
    found = [[int(known[n]) + timeframe.seconds, int(known[n + 1])] for n in at]
    longest = sorted(found, key=lambda gap: gap[0] - gap[1])[:MOST_GAPS]
    return sorted(longest)


# Asking -------------------------------------------------------------------------------------------------------------


def start_download(
    user: Any,
    *,
    exchange: str,
    symbol: str,
    timeframe: str,
    start: datetime | int,
    end: datetime | int | None = None,
    inline: bool = False,
) -> HistoryDownload:
    """Ask for the candles opening in [start, end) (default: until now) and hand the work to a worker after commit.

    Times are aware or Unix seconds. With ``inline`` the row is the caller's to run. Raises InvalidInput(field=…).
    """
    product = _product(exchange, symbol)
    wanted = Timeframe.parse(str(timeframe))
    base = wanted.source_timeframe(sources.get(exchange).native_timeframes)
    now = int(clock.now().timestamp())
    first = wanted.open_time(_seconds(start, "start"))
    last = min(_seconds(end, "end") if end is not None else now, now)
    last = base.open_time(last)
    if first < 0 or last <= first:
        raise InvalidInput(
            "empty_range", "The range has no closed candle; its start lies before its end.", field="start"
        )
    count = sum(_count(a, b, base) for a, b in _missing(product, base, first, last))
    if count > MOST_CANDLES:
        raise InvalidInput(
            "too_many_candles",
            f"That takes {count:,} {base} candles, joined to what is held; at most {MOST_CANDLES:,} are fetched at "
            "once. Choose a later start or a longer timeframe.",
            field="start",
            candles=count,
        )
    status = HistoryDownload.Status.RUNNING if inline else HistoryDownload.Status.QUEUED
    begun = clock.now() if inline else None
    with transaction.atomic():
        if HistoryDownload.objects.filter(owner=user, status__in=UNDER_WAY).count() >= MOST_WAITING:
            raise InvalidInput(
                "too_many_downloads", f"{MOST_WAITING} downloads are under way already. Wait for one to end."
            )
        row = HistoryDownload.objects.create(
            owner=user,
            product=product,
            timeframe=wanted.value,
            start=first,
            end=last,
            cursor=first,
            status=status,
            started_at=begun,
        )
        once.acted("download", row.pk)
        old = HistoryDownload.objects.filter(owner=user, status__in=OVER).order_by("-id").values_list("pk", flat=True)
        HistoryDownload.objects.filter(pk__in=list(old[KEPT:])).delete()
    if not inline:
        from marketdata import downloads  # it knows this module

        downloads.wake()
    return row


def cancel_download(download: HistoryDownload) -> HistoryDownload:
    """Ask a waiting or running download to stop; what it has written stays. One that is over stays as it is."""
    now = clock.now()
    with transaction.atomic():
        row = _locked(download)
        if row.status == HistoryDownload.Status.QUEUED:
            row.status, row.finished_at = HistoryDownload.Status.CANCELLED, now
        if row.status in UNDER_WAY or row.finished_at == now:
            row.cancel_requested = True
            row.save(update_fields=["status", "finished_at", "cancel_requested"])
    tell(row)
    return row


def remove_download(download: HistoryDownload) -> None:
    """Forget a download that is over; its candles stay. Raises InvalidInput while it is under way."""
    with transaction.atomic():
        row = _locked(download)
        if row.status in UNDER_WAY:
            raise InvalidInput("still_running", "The download is still under way. Cancel it first.")
        row.delete()


def progress_of(download: HistoryDownload) -> float:
    """Return how much of a download is done, 0 to 1."""
    if download.status == HistoryDownload.Status.FINISHED:
        return 1.0
    return min(max((download.cursor - download.start) / max(download.end - download.start, 1), 0.0), 1.0)


def _product(exchange: str, symbol: str) -> Product:
    if exchange == sources.REPLAY:
        raise InvalidInput(
            "recordings_only",
            "A recording has no more candles than were imported: there is nothing to download. Import another file.",
            field="exchange",
        )
    if exchange not in sources.SLUGS:
        raise InvalidInput("unknown_market", f"There is no market {exchange!r}.", field="exchange")
    product = Product.objects.filter(exchange=exchange, symbol=symbol.strip().upper()).first()
    if product is None:
        raise InvalidInput("unknown_pair", f"{symbol} is not traded on the market {exchange}.", field="symbol")
    return product


def _seconds(moment: datetime | int, field: str) -> int:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise InvalidInput("naive_time", "A time needs its time zone.", field=field)
        return int(moment.timestamp())
    return int(moment)


# Carrying it out ----------------------------------------------------------------------------------------------------


def run_download(
    download: HistoryDownload,
    progress: Callable[[float], None] | None = None,
    *,
    tell: bool = True,
    seconds: float | None = None,
) -> HistoryDownload:
    """Fetch what is missing, page by page, and return the row. Failures are stored with it in words, not raised.

    After ``seconds`` it stops between two pages and is still running: somebody is to go on with it.
    """
    until = None if seconds is None else time.monotonic() + seconds
    try:
        complete = _fetch(download, progress, tell, until)
    except TradebotError as error:
        return _finish(download, HistoryDownload.Status.FAILED, tell, error=error.message[:300])
    except Exception as error:  # a worker's edge: the person is told, the log has the rest
        log.exception("history.download_failed", download=download.pk)
        _finish(download, HistoryDownload.Status.FAILED, tell, error=f"{type(error).__name__}: {error}"[:300])
        raise
    if complete is None:
        return download
    if not complete:
        return _finish(download, HistoryDownload.Status.CANCELLED, tell)
    if stopping.is_stopping():
        return _give_back(download)
    base = _base(download)
    download.gaps = gaps_of(download.product, base, base.open_time(download.start), download.end)
    return _finish(download, HistoryDownload.Status.FINISHED, tell)


def stop_claimed(download: HistoryDownload) -> None:
    """End a download that the caller has stopped working on."""
    _finish(download, HistoryDownload.Status.CANCELLED, is_told=False)


def _fetch(
    download: HistoryDownload, progress: Callable[[float], None] | None, is_told: bool, until: float | None
) -> bool | None:
    """Return whether everything was fetched; false: somebody wants it to stop; None: its time is over, more is left."""
    product, base = download.product, _base(download)
    source = sources.get(product.exchange)
    page = PAGE[product.exchange]
    last_told = 0.0
    while (stretch := _next_page(product, base, download.start, download.end, page)) is not None:
        first, last = stretch
        candles = source.candles(product.symbol, base, first, last)
        held = store.coverage([product.pk]).get(product.pk, {}).get(base)
        settled = last if last < download.end else _settled(candles, base, first, last)
        if settled <= first:
            break  # the market has not published the newest candle yet
        if held is not None and first < held.start and last == held.start:
            settled = last
        store.write(product, base, candles, first, settled)
        download.candles += len(candles)
        left = sum(b - a for a, b in _missing(product, base, download.start, download.end))
        download.cursor = max(download.cursor, download.end - left, download.start)
        if not _touch(download):
            return False
        if is_told and (moment := clock.now().timestamp()) - last_told >= TELL_SECONDS:
            last_told = moment
            tell(download)
        if progress is not None:
            progress(progress_of(download))
        if settled < last or stopping.is_stopping():
            break
        if until is not None and time.monotonic() >= until:
            return None
    return not HistoryDownload.objects.filter(pk=download.pk, cancel_requested=True).exists()


def _next_page(product: Product, base: Timeframe, start: int, end: int, page: int) -> tuple[int, int] | None:
    """Return the next stretch to ask for: what follows on what is held first, then back from its beginning."""
    held = store.coverage([product.pk]).get(product.pk, {}).get(base)
    missing = _missing(product, base, start, end)
    if not missing:
        return None
    first, last = missing[-1]
    length = page * base.seconds
    if held is not None and last == held.start:
        return max(first, last - length), last
    return first, min(first + length, last)


def _missing(product: Product, base: Timeframe, start: int, end: int) -> list[tuple[int, int]]:
    """Return the stretches to fetch so that [start, end) and what is held are one stretch without a hole."""
    first, last = base.open_time(start), base.open_time(end)
    held = store.coverage([product.pk]).get(product.pk, {}).get(base)
    if held is None or held.end <= held.start:
        return [(first, last)] if last > first else []
    found = []
    if first < held.start:
        found.append((first, held.start))
    if last > held.end:
        found.append((held.end, last))
    return found


def _settled(candles: Candles, base: Timeframe, first: int, last: int) -> int:
    """Return up to where the newest page can be believed: a venue may publish its last candle a moment late."""
    received = int(candles.time[-1]) + base.seconds if len(candles) else first
    return max(received, min(last, base.open_time(clock.now().timestamp() - SETTLE_SECONDS)))


def _base(download: HistoryDownload) -> Timeframe:
    native = sources.get(download.product.exchange).native_timeframes
    return Timeframe(download.timeframe).source_timeframe(native)


def _count(first: int, last: int, base: Timeframe) -> int:
    return max(last - first, 0) // base.seconds


def _touch(download: HistoryDownload) -> bool:
    """Store how far it has come. Returns whether to go on."""
    rows = turns.claimed(download).filter(cancel_requested=False)
    return bool(rows.update(cursor=download.cursor, candles=download.candles, touched_at=clock.now()))


def _finish(download: HistoryDownload, status: str, is_told: bool, error: str = "") -> HistoryDownload:
    """End a download that is this worker's. One that it has lost meanwhile stays as it is."""
    now = clock.now()
    rows = turns.claimed(download)
    download.status, download.error, download.finished_at, download.touched_at = status, error, now, now
    if status == HistoryDownload.Status.FINISHED:
        download.cursor = download.end
    done = rows.update(
        status=status,
        error=error,
        finished_at=now,
        touched_at=now,
        cursor=download.cursor,
        candles=download.candles,
        gaps=download.gaps,
    )
    if is_told and done:
        tell(download)
    return download


def _give_back(download: HistoryDownload) -> HistoryDownload:
    """Put a download back into the queue: this process is asked to end."""
    turns.claimed(download).update(status=HistoryDownload.Status.QUEUED, touched_at=clock.now())
    download.status = HistoryDownload.Status.QUEUED
    return download


def _locked(download: HistoryDownload) -> HistoryDownload:
    found = HistoryDownload.objects.select_for_update(of=("self",)).editable().filter(pk=download.pk).first()
    if found is None:
        raise NotFound(message="There is no such download.")
    row: HistoryDownload = found
    return row


def tell(row: HistoryDownload) -> None:
    """Tell the owner's open pages how the download stands."""
    outbox.push(
        [row.owner_id],
        "task",
        {"task": "history", "id": row.pk, "status": str(row.status), "progress": round(progress_of(row), 4)},
    )


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
