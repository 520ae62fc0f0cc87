"""Celery entry points: transfers are read, and what is left of sign-ins that are over goes away."""

from __future__ import annotations

from importlib import import_module

from celery import shared_task
from django.conf import settings

from accounts import transfers
from tradebot.core import health

__all__ = ["clear_sessions", "read_transfers"]


@shared_task
def clear_sessions() -> None:
    """Delete browser sessions that have expired, as ``manage.py clearsessions`` does."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


@shared_task
def read_transfers() -> None:
    """Read what came into accounts and what left them."""
    with health.loop("transfers", transfers.LOOPS["transfers"]):
        transfers.read_all()
