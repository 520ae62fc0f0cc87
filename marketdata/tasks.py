"""Celery entry points of long downloads. Thin: each calls one service.

Messages carry no more than a hint; which download is carried out is decided from the rows (``marketdata.downloads``).
"""

from __future__ import annotations

from celery import shared_task

from marketdata import downloads

RECOVER_SECONDS = 60


@shared_task
def download_next() -> None:
    """Begin with the download whose turn it is, if there is one."""
    downloads.carry_out_next()


@shared_task
def download_history(owner_id: int, download_id: int, claim: str) -> None:
    """Go on with a download that this claim holds."""
    downloads.carry_on(owner_id, download_id, claim)


@shared_task
def recover_downloads() -> None:
    """Queue downloads again that nobody works on, and wake workers for what waits."""
    downloads.recover()
