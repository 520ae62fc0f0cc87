"""Celery entry points of the order loops: each runs one service and records that it did."""

from __future__ import annotations

from celery import shared_task

from positions import perps_loop
from positions import reconcile as service
from tradebot.core import health

__all__ = ["monitor_resting", "reconcile", "report_unmatched_fills", "tend_perpetuals"]


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
def tend_perpetuals() -> None:
    """Settle paper perpetuals, book what venues did by themselves, and see that brackets stand."""
    with health.loop("perpetuals", perps_loop.LOOPS["perpetuals"]):
        perps_loop.tend_all()
