"""The queue of downloads: whose turn it is, how long a turn is, and what a dead worker left.

As with backtests, a message in the broker says no more than that there is work; the rows decide
(``tradebot.core.turns``). A download is claimed once and then carried out in turns of some seconds, each the message of
the one before: as everybody has one under way at most, a year of minutes of one person keeps no process from the
others' downloads, nor from backtests where the same processes do both.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from django.db import transaction

from marketdata import history
from marketdata.models import HistoryDownload
from tradebot.core import clock, scoping, turns
from tradebot.core.turns import acting_for_owner

__all__ = ["TURN_SECONDS", "carry_on", "carry_out_next", "recover", "wake"]

TURN_SECONDS: Final = 5.0
WAKE_AT_ONCE: Final = 4
_Status = HistoryDownload.Status


def carry_out_next() -> bool:
    """Claim the download whose turn it is and begin with it. Returns whether there was one."""
    row = turns.claim_next((HistoryDownload,), {}, history.tell)
    if row is None:
        return False
    _take_turn(row.owner_id, row.pk, _claim_of(row))
    return True


def carry_on(owner_id: int, pk: int, claim: str) -> bool:
    """Go on with a download of that person, as long as ``claim`` holds it. Returns whether it did."""
    return _take_turn(owner_id, pk, claim)


def _take_turn(owner_id: int, pk: int, claim: str) -> bool:
    with acting_for_owner(owner_id):
        row = HistoryDownload.objects.select_related("product").filter(pk=pk, status=_Status.RUNNING).first()
        if row is None or _claim_of(row) != claim:
            return False
        try:
            done = history.run_download(row, seconds=TURN_SECONDS)
        except Exception:
            wake()
            raise
        if done.status == _Status.RUNNING:
            _hand_on(owner_id, pk, claim)
        elif done.status != _Status.QUEUED:  # that one waits for another process
            wake()
    return True


def _claim_of(row: HistoryDownload) -> str:
    return row.started_at.isoformat() if row.started_at else ""


def recover() -> int:
    """Queue again what a worker that died has left, and wake workers for what waits. Returns how many were queued."""
    limit, now = clock.now() - history.STALE_AFTER, clock.now()
    with scoping.all_accounts("finds downloads whose worker died; each is carried out for its owner alone"):
        lost = HistoryDownload.objects.filter(status=_Status.RUNNING, touched_at__lt=limit)
        lost.filter(cancel_requested=True).update(status=_Status.CANCELLED, finished_at=now)
        found: int = lost.filter(cancel_requested=False).update(status=_Status.QUEUED, touched_at=now)
    for _ in range(min(len(turns.in_turn((HistoryDownload,))), WAKE_AT_ONCE)):
        wake()
    return found


def wake() -> None:
    """Tell the workers, after commit, that a download may wait."""
    from marketdata import tasks  # they know this module

    transaction.on_commit(partial(tasks.download_next.apply_async, expires=3600))


def _hand_on(*claim: Any) -> None:
    from marketdata import tasks

    transaction.on_commit(partial(tasks.download_history.delay, *claim))
