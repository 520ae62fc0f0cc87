"""Celery entry points: events are kept for some days, then pruned."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from celery import shared_task

from notifications.models import Event
from tradebot.core import clock
from tradebot.core.models import GlobalSettings
from tradebot.core.scoping import all_accounts

__all__ = ["prune_events"]

CHUNK: Final = 2000


@shared_task
def prune_events() -> int:
    """Delete events older than the retention time, in chunks so that nobody waits long. Returns how many."""
    cutoff = clock.now() - timedelta(days=GlobalSettings.load().event_retention_days)
    pruned = 0
    with all_accounts("old events are pruned for everybody"):
        while ids := list(Event.objects.filter(at__lt=cutoff).order_by("at").values_list("pk", flat=True)[:CHUNK]):
            pruned += Event.objects.filter(pk__in=ids).delete()[0]
    return pruned
