"""Celery entry points: transfers are read, and what is left of sign-ins that are over goes away."""

from __future__ import annotations

from importlib import import_module

from celery import shared_task
from django.conf import settings

from accounts import transfers
from tradebot.core import health

__all__ = ["clear_sessions", "read_account_transfers", "read_transfers"]


@shared_task
def clear_sessions() -> None:
    """Delete browser sessions that have expired, as ``manage.py clearsessions`` does."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


@shared_task
def read_transfers() -> None:
    """Read what came into accounts and what left them.

    An account on an exchange gets a task of its own, so that a venue that is slow or away keeps nobody waiting (F69).
    """
    seconds = transfers.LOOPS["transfers"]
    with health.loop("transfers", seconds):
        found = transfers.accounts_to_read()
        for account_id in (pk for pk, paper in found.items() if not paper):
            read_account_transfers.apply_async(args=(account_id,), expires=seconds * 0.9)
        transfers.read_all(pk for pk, paper in found.items() if paper)


@shared_task
def read_account_transfers(account_id: int) -> None:
    """Ask one exchange for one account's deposits and withdrawals."""
    transfers.read_all([account_id])
