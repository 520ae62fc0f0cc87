"""The queue of backtests and sweeps: whose turn it is, who works on what, how far it is, and what a dead worker left.

A message in the broker says no more than "there is work". Which job is next is decided from the rows, by the turns that
``tradebot.core.turns`` hands out; every later write of a worker names its claim, so one that lost its job to another
writes nothing.
"""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog
from django.db import transaction

from accounts.models import User
from bots.models import Backtest, JobStatus, Sweep
from notifications import outbox
from tradebot.core import clock, once, scoping, stopping, turns
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.turns import acting_for_owner, claimed

__all__ = [
    "Job",
    "Leaving",
    "LostClaim",
    "Meter",
    "abandon",
    "acting_for_owner",
    "add",
    "cancel",
    "claim_next",
    "claimed",
    "finish",
    "give_back",
    "has_waiting",
    "recover",
    "remove",
    "stop_claimed",
    "tell",
    "wake",
]

log = structlog.get_logger(__name__)
Job = Backtest | Sweep
MODELS: Final[tuple[type[Any], ...]] = (Backtest, Sweep)
UNDER_WAY: Final = (JobStatus.QUEUED, JobStatus.RUNNING)
MOST_WAITING: Final = 20
KEPT: Final = 200
TELL_SECONDS: Final = 1.0
STALE_AFTER: Final = timedelta(minutes=2)
MOST_ATTEMPTS: Final = 3


class LostClaim(Exception):
    """The job was taken from this worker, or deleted: what it does is no longer wanted."""


class Leaving(Exception):
    """This process is asked to end: the job goes back into the queue."""


# Asking -------------------------------------------------------------------------------------------------------------


def add(job: Any, *, inline: bool = False) -> None:
    """Save a new job, within the person's limits, and wake a worker after commit. ``inline``: the caller does it."""
    now = clock.now()
    User.objects.select_for_update(no_key=True).get(pk=job.owner_id)
    under_way = sum(model.objects.filter(owner_id=job.owner_id, status__in=UNDER_WAY).count() for model in MODELS)
    if under_way >= MOST_WAITING and not inline:
        raise InvalidInput(
            "too_many_jobs",
            f"{MOST_WAITING} backtests and sweeps are waiting or running already. Wait for one, or cancel one.",
            limit=MOST_WAITING,
        )
    job.status = JobStatus.RUNNING if inline else JobStatus.QUEUED
    job.started_at = now if inline else None
    job.touched_at = now
    job.save()
    once.acted(type(job).__name__.lower(), job.pk)
    model = type(job)
    over = model.objects.filter(owner_id=job.owner_id).exclude(status__in=UNDER_WAY).order_by("-id")
    model.objects.filter(pk__in=list(over.values_list("pk", flat=True)[KEPT:])).delete()
    if not inline:
        wake()
        tell(job)


def cancel(job: Any) -> Any:
    """Ask a waiting or running job to stop and return it fresh. One that is over stays as it is."""
    with transaction.atomic():
        row = _locked(job)
        if row.is_over:
            return row
        row.cancel_requested = True
        if row.status == JobStatus.QUEUED:
            row.status, row.finished_at = JobStatus.CANCELLED, clock.now()
        row.save(update_fields=["cancel_requested", "status", "finished_at"])
        tell(row)
    return row


def remove(job: Any) -> None:
    """Delete a job with its result. Raises InvalidInput while it runs, NotFound for one that is not the caller's."""
    with transaction.atomic():
        row = _locked(job)
        if row.status == JobStatus.RUNNING:
            raise InvalidInput("still_running", "It is running. Cancel it first.")
        row.delete()


def _locked(job: Any) -> Any:
    found = type(job).objects.select_for_update(of=("self",), no_key=True).editable().filter(pk=job.pk).first()
    if found is None:
        raise NotFound(message="There is no such run.")
    return found


def wake() -> None:
    """Tell the workers, after commit, that there is work."""
    from bots.backtesting import tasks as backtest_tasks  # they know this module

    transaction.on_commit(partial(backtest_tasks.work.apply_async, expires=3600))


# Working ------------------------------------------------------------------------------------------------------------


def claim_next() -> Job | None:
    """Claim the job whose turn it is and return it, running; None when nobody may go."""
    found: Job | None = turns.claim_next(MODELS, {"progress": 0.0}, tell)
    return found


def has_waiting() -> bool:
    """Return whether a job waits whose owner has none running."""
    return bool(turns.in_turn(MODELS))


class Meter:
    """What a worker says about a job while it works, at most once a second, and whether it is still wanted."""

    def __init__(self, job: Any, *, share: bool = True, say: bool = True) -> None:
        self.job = job
        self._share, self.says = share, say
        self._told = 0.0
        self._stop = False

    def progress(self, done: int, total: int) -> None:
        """Note how far it is; also asks, now and then, whether to go on."""
        if self._share:
            self.job.progress = min(done / total, 1.0) if total else 0.0
        self.cancelled()

    def cancelled(self) -> bool:
        """Return whether somebody asked for the end. Raises LostClaim, Leaving."""
        if stopping.is_stopping():
            raise Leaving
        if not self._stop and time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            self._stop = self.touch()
        return self._stop

    def touch(self) -> bool:
        """Write how far it is, at once. Returns whether somebody asked for the end."""
        rows = claimed(self.job)
        values: dict[str, Any] = {"touched_at": clock.now()}
        if self._share:
            values["progress"] = self.job.progress
        if not rows.update(**values):
            raise LostClaim
        if self.says:
            tell(self.job)
        return bool(rows.filter(cancel_requested=True).exists())


def hold(job: Any) -> Any:
    """Lock the row of a claimed job inside a transaction and return it. Raises LostClaim."""
    row = claimed(job).select_for_update(of=("self",), no_key=True).first()
    if row is None:
        raise LostClaim
    return row


def finish(job: Any, status: str, *, say: bool = True, **values: Any) -> Any:
    """End a claimed job with this status and return its row. Call inside the transaction that stores its result."""
    row = hold(job)
    now = clock.now()
    names = {"status": status, "finished_at": now, "touched_at": now, **values}
    if status == JobStatus.FINISHED:
        names["progress"] = 1.0
    for name, value in names.items():
        setattr(row, name, value)
    row.save(update_fields=list(names))
    if say:
        tell(row)
    return row


def abandon(job: Any, error: str, *, say: bool = True) -> Any:
    """End a claimed job as failed, with the reason in words. A job that is no longer this worker's stays as it is."""
    try:
        with transaction.atomic():
            return finish(job, JobStatus.FAILED, say=say, error=error[:300])
    except LostClaim:
        return job


def give_back(job: Any) -> Any:
    """Put a claimed job back into the queue, for whichever worker is there next. What a sweep has done stays."""
    values: dict[str, Any] = {"status": JobStatus.QUEUED, "touched_at": clock.now()}
    if isinstance(job, Backtest):
        values["progress"] = 0.0
    if claimed(job).update(**values):
        log.info("job.given_back", kind=type(job).__name__, job=job.pk)
    return job


def stop_claimed(job: Any) -> None:
    """End a claimed job as cancelled: its caller has stopped working on it."""
    try:
        with transaction.atomic():
            finish(job, JobStatus.CANCELLED, say=False)
    except LostClaim:
        pass


def recover() -> int:
    """Queue again what a worker that died has left, and wake workers for what waits. Returns how many were queued."""
    limit = clock.now() - STALE_AFTER
    found = 0
    with scoping.all_accounts("finds backtests whose worker died; each is worked on for its owner alone"):
        for row in Backtest.objects.filter(status=JobStatus.RUNNING, touched_at__lt=limit):
            found += _requeue(row)
    for _ in range(min(len(turns.in_turn(MODELS)), 4)):
        wake()
    return found


def _requeue(row: Backtest) -> int:
    attempts = int((row.statistics or {}).get("attempts", 1))
    same = Backtest.objects.filter(pk=row.pk, status=JobStatus.RUNNING, touched_at=row.touched_at)
    now = clock.now()
    if row.cancel_requested:
        return same.update(status=JobStatus.CANCELLED, finished_at=now)
    if attempts >= MOST_ATTEMPTS:
        words = f"Its worker ended before the result {attempts} times; a shorter range needs less memory."
        return same.update(status=JobStatus.FAILED, finished_at=now, error=words)
    log.warning("backtest.worker_lost", backtest=row.pk, attempts=attempts)
    return same.update(status=JobStatus.QUEUED, touched_at=now, progress=0.0, statistics={"attempts": attempts + 1})


def tell(job: Any) -> None:
    """Tell the owner's open pages how the job stands, after commit."""
    kind = "backtest" if isinstance(job, Backtest) else "sweep"
    body = {"task": kind, "id": job.pk, "status": str(job.status), "progress": round(job.progress, 4)}
    outbox.push([job.owner_id], "task", body)
