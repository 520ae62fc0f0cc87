"""Celery entry points of auto-buy: each runs one service and records that it did."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from bots.autobuy import service
from tradebot.core import health

__all__ = ["prune", "run", "run_account"]

SECONDS: Final = 30
health.LOOPS["auto-buy"] = SECONDS


@shared_task
def run() -> None:
    """Let every account's rules buy what they may."""
    with health.loop("auto-buy", SECONDS):
        paper, live = service.accounts_to_run()
        service.run_all(paper)
        for account_id in live:  # one whose venue is slow keeps no other one waiting
            run_account.apply_async(args=(account_id,), expires=SECONDS * 0.9)


@shared_task
def run_account(account_id: int) -> None:
    """Let the rules of one exchange account buy what they may."""
    service.run_all([account_id])


@shared_task
def prune() -> None:
    """Delete old decisions of auto-buy."""
    service.prune()
