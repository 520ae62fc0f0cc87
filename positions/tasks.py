"""Celery entry points of the order loops: each runs one service and records that it did."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from positions import reconcile as service
from positions.guard import closing
from positions.guard import service as guard
from tradebot.core import health

__all__ = [
    "close_after_guard",
    "measure_guarded",
    "monitor_resting",
    "prune_equity",
    "reconcile",
    "report_unmatched_fills",
]

GUARD_SECONDS: Final = 10
health.LOOPS.update({"guard": GUARD_SECONDS, "guard closing": GUARD_SECONDS})


@shared_task
def reconcile() -> None:
    """Ask the venues about every order that is not final."""
    with health.loop("reconcile", service.LOOPS["reconcile"]):
        service.reconcile_all()


@shared_task
def monitor_resting() -> None:
    """Match resting paper orders and book what resting orders got."""
    with health.loop("resting orders", service.LOOPS["resting orders"]):
        service.monitor_resting()


@shared_task
def report_unmatched_fills() -> None:
    """Report executions that belong to no order of ours."""
    with health.loop("unmatched fills", service.LOOPS["unmatched fills"]):
        service.report_all_unmatched_fills()


@shared_task
def measure_guarded() -> None:
    """Measure every account that has a guard; one beyond a limit is stopped."""
    with health.loop("guard", GUARD_SECONDS):
        guard.refresh_all()


@shared_task
def close_after_guard() -> None:
    """Close what accounts still have open that their guard has stopped."""
    with health.loop("guard closing", GUARD_SECONDS):
        closing.carry_out_all()


@shared_task
def prune_equity() -> None:
    """Delete old snapshots of equity."""
    guard.prune()
