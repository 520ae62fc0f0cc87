"""Celery entry points of auto-buy: each runs one service and records that it did."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from bots.autobuy import service
from tradebot.core import health

__all__ = ["prune", "run"]

SECONDS: Final = 30
health.LOOPS["auto-buy"] = SECONDS


@shared_task
def run() -> None:
    """Let every account's rules buy what they may."""
    with health.loop("auto-buy", SECONDS):
        service.run_all()


@shared_task
def prune() -> None:
    """Delete old decisions of auto-buy."""
    service.prune()
