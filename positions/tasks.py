"""Celery entry points of the order loops: each runs one service and records that it did."""

from __future__ import annotations

from celery import shared_task

from positions import daymarks, standstill
from positions import reconcile as service
from tradebot.core import health

__all__ = [
    "cancel_entries",
    "cancel_entries_of_stopped",
    "mark_days",
    "monitor_resting",
    "reconcile",
    "report_unmatched_fills",
]


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
def cancel_entries(account_id: int) -> None:
    """Take back what a stopped account still has in the book to buy with."""
    standstill.cancel_entries(account_id)


@shared_task
def cancel_entries_of_stopped() -> None:
    """Do so for every stopped account, until nothing is left."""
    with health.loop(standstill.LOOP, standstill.LOOP_SECONDS):
        standstill.cancel_entries_of_stopped()


@shared_task
def mark_days() -> None:
    """Keep the figures that daily loss limits are counted from."""
    with health.loop(daymarks.LOOP, daymarks.LOOP_SECONDS):
        daymarks.mark_all()
