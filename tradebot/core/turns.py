"""Whose turn it is: jobs that wait in the background, handed out fairly between the people who asked for them.

A job is a row of a person with a ``status`` ("queued", "running", …) and the moments ``created_at``, ``started_at`` (of
its last claim) and ``touched_at`` (its last sign of life). Nobody has two running. Of those who wait, whoever had a
turn longest ago goes first, with the oldest of their jobs: so one person's many jobs keep nobody else's first one
waiting. Backtests and sweeps take turns with one another, downloads of candles among themselves.

A claim is a change of status under the owner's lock. Every later write of a worker names the row, its status and
``started_at``, so one that has lost its job to another writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Max

from tradebot.core import clock
from tradebot.core.scoping import Scope, all_accounts, bound

__all__ = ["QUEUED", "RUNNING", "acting_for_owner", "claim_next", "claimed", "in_turn"]

QUEUED: Final = "queued"
RUNNING: Final = "running"


def acting_for_owner(owner_id: int) -> Any:
    """Act for one person and their own rows, without any account: nothing is traded here."""
    return bound(Scope(owner_id=owner_id))


def in_turn(models: Sequence[type[Any]]) -> list[tuple[type[Any], int, int]]:
    """Return (model, owner id, id) of the next job of each person who has none running, whose turn it is first."""
    running: set[int] = set()
    waiting: dict[int, tuple[datetime, type[Any], int]] = {}
    turns: dict[int, datetime] = {}
    with all_accounts("whose turn it is among everybody's jobs; each is then worked on for its owner alone"):
        for model in models:
            rows = model.objects.filter(status__in=(QUEUED, RUNNING)).order_by("created_at", "pk")
            for owner_id, pk, status, created in rows.values_list("owner_id", "pk", "status", "created_at"):
                if status == RUNNING:
                    running.add(owner_id)
                elif owner_id not in waiting or created < waiting[owner_id][0]:
                    waiting[owner_id] = (created, model, pk)
        for model in models:
            had = model.objects.filter(owner_id__in=waiting, started_at__isnull=False).order_by().values("owner_id")
            for row in had.annotate(last=Max("started_at")):
                turns[row["owner_id"]] = max(row["last"], turns.get(row["owner_id"], row["last"]))
    entitled = [(owner, *entry) for owner, entry in waiting.items() if owner not in running]
    entitled.sort(key=lambda entry: (turns[entry[0]].timestamp() if entry[0] in turns else 0.0, entry[1], entry[3]))
    return [(model, owner_id, pk) for owner_id, _, model, pk in entitled]


def claim_next(models: Sequence[type[Any]], values: Mapping[str, Any], tell: Callable[[Any], None]) -> Any | None:
    """Claim the job whose turn it is, set ``values`` on it and return it, running; None when nobody may go.

    ``tell`` is called inside the transaction that claims it.
    """
    for model, owner_id, pk in in_turn(models):
        with acting_for_owner(owner_id), transaction.atomic():
            get_user_model().objects.select_for_update(no_key=True).get(pk=owner_id)
            if any(kind.objects.filter(owner_id=owner_id, status=RUNNING).exists() for kind in models):
                continue
            row = model.objects.select_for_update(of=("self",), no_key=True).filter(pk=pk).first()
            if row is None or row.status != QUEUED:
                continue
            now = clock.now()
            found = {"status": RUNNING, "started_at": now, "touched_at": now, **values}
            for name, value in found.items():
                setattr(row, name, value)
            row.save(update_fields=list(found))
            tell(row)
            return row
    return None


def claimed(job: Any) -> Any:
    """Return the job's row as a queryset, empty when this claim no longer holds it."""
    return type(job).objects.filter(pk=job.pk, status=RUNNING, started_at=job.started_at)
