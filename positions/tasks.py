"""Celery entry points of the loops over orders and values: each runs one service and records that it did."""

from __future__ import annotations

from celery import shared_task

from positions import reconcile as service
from positions.portfolio import snapshots
from tradebot.core import health

__all__ = ["monitor_resting", "reconcile", "report_unmatched_fills", "take_value_snapshots"]


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
def take_value_snapshots() -> None:
    """Write down what accounts are worth, once a day."""
    with health.loop("value snapshots", snapshots.LOOPS["value snapshots"]):
        snapshots.take_all()
