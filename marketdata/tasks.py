"""Celery entry points of long downloads. Thin: each calls one service."""

from __future__ import annotations

from celery import shared_task

from marketdata import history

RECOVER_SECONDS = 60


@shared_task
def download_history(owner_id: int, download_id: int) -> None:
    """Carry out a download that waits."""
    history.download_waiting(owner_id, download_id)


@shared_task
def recover_downloads() -> None:
    """Hand downloads over again that nobody works on."""
    history.recover_downloads()
