"""Celery entry points of panic sales. Thin: each calls the work, which decides from the rows."""

from __future__ import annotations

from celery import shared_task

from bots.panic import work
from tradebot.core import health

__all__ = ["go_on", "go_on_with_all"]


@shared_task
def go_on(run_id: int) -> None:
    """Take a turn with one run."""
    work.take_turn(run_id)


@shared_task
def go_on_with_all() -> None:
    """Take a turn with every run that nobody works on."""
    with health.loop(work.LOOP, work.LOOP_SECONDS):
        work.go_on_with_all()
