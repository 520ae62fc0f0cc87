"""The age of each recurring loop's last success (F71)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from django.db import transaction
from django.db.models import F

from tradebot.core import clock
from tradebot.core.models import LoopState
from tradebot.core.redaction import described

__all__ = ["LOOPS", "STALE_AFTER", "allowed_age", "loop", "stale_loops"]

log = structlog.get_logger(__name__)
STALE_AFTER = 6  # a loop is stale when it has missed this many of its turns
MINIMUM_GRACE_SECONDS = 60

LOOPS: dict[str, int] = {}
"""Every loop that must be alive, with the seconds between its runs; filled by the modules that define them."""


@contextmanager
def loop(name: str, expected_seconds: int) -> Iterator[None]:
    """Record one run of the loop ``name``. An error is recorded, counted, logged and raised again."""
    started, clocked = clock.now(), time.monotonic()
    try:
        yield
    except Exception as error:
        _record(
            name,
            expected_seconds,
            started,
            last_error=described(error)[:2000],
            last_error_at=clock.now(),
            failures=F("failures") + 1,
        )
        log.exception("loop failed", loop=name)
        raise
    _record(
        name, expected_seconds, started, last_success_at=clock.now(), last_duration_seconds=time.monotonic() - clocked
    )


def _record(name: str, expected_seconds: int, started: object, **values: object) -> None:
    with transaction.atomic():
        changed = LoopState.objects.filter(pk=name).update(
            expected_seconds=expected_seconds, last_started_at=started, runs=F("runs") + 1, **values
        )
        if not changed:
            LoopState.objects.get_or_create(pk=name, defaults={"expected_seconds": expected_seconds})
            LoopState.objects.filter(pk=name).update(last_started_at=started, runs=F("runs") + 1, **values)


def stale_loops() -> list[tuple[str, float | None]]:
    """Return (name, seconds since the last success or None for never) of each loop that is late."""
    now, late = clock.now(), []
    seen = {row.name: row for row in LoopState.objects.all()}
    for name, expected in LOOPS.items():
        row = seen.get(name)
        age = (now - row.last_success_at).total_seconds() if row and row.last_success_at else None
        if age is None or age > allowed_age(row.expected_seconds if row else expected):
            late.append((name, age))
    return late


def allowed_age(expected_seconds: int) -> int:
    """Return how many seconds the last success of a loop may be ago before it counts as late."""
    return max(expected_seconds * STALE_AFTER, MINIMUM_GRACE_SECONDS)
