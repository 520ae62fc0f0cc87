"""Celery entry points: what is left of sign-ins that are over goes away."""

from __future__ import annotations

from importlib import import_module

from celery import shared_task
from django.conf import settings

__all__ = ["clear_sessions"]


@shared_task
def clear_sessions() -> None:
    """Delete browser sessions that have expired, as ``manage.py clearsessions`` does."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
