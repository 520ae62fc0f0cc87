"""The Celery application: JSON only, a static beat schedule, no result back end.

Every tick expires before the next one is due, so a worker that was away does not catch up on stale ones. Two beats are
harmless: what a tick does is claimed in the database.
"""

from __future__ import annotations

import gc
import os
from typing import Any

import structlog
from celery import Celery
from celery.schedules import schedule
from celery.signals import celeryd_after_setup, setup_logging, worker_ready, worker_shutting_down
from kombu import Queue

from tradebot.core import stopping

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradebot.settings")

app = Celery("tradebot", task_cls="tradebot.core.tasks:ScopedTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

CYCLE_QUEUE = "cycle"
MARKET_QUEUE = "market"
BACKTEST_QUEUE = "backtest"
HISTORY_QUEUE = "history"


def _every(seconds: int, task: str) -> dict[str, Any]:
    return {"task": task, "schedule": float(seconds), "options": {"expires": max(seconds * 0.9, 1.0)}}


app.conf.beat_schedule = {
    "dispatch": _every(2, "bots.tasks.dispatch_cycle"),
    "resting orders": _every(5, "positions.tasks.monitor_resting"),
    "perpetuals": _every(5, "positions.tasks.tend_perpetuals"),
    "sales": _every(5, "positions.tasks.go_on_with_sales"),
    "late funding": _every(900, "positions.tasks.read_late_funding"),
    "reconcile": _every(30, "positions.tasks.reconcile"),
    "stopped accounts": _every(30, "positions.tasks.cancel_entries_of_stopped"),
    "panic sales": _every(10, "bots.panic.tasks.go_on_with_all"),
    "day marks": _every(60, "positions.tasks.mark_days"),
    "unmatched fills": _every(300, "positions.tasks.report_unmatched_fills"),
    "guard": _every(10, "positions.tasks.measure_guarded"),
    "guard closing": _every(10, "positions.tasks.close_after_guard"),
    "auto-buy": _every(30, "bots.autobuy.tasks.run"),
    "exchange balances": _every(30, "positions.tasks.ask_for_balances"),
    "prices": _every(5, "bots.tasks.refresh_prices"),
    "candles": _every(20, "bots.tasks.refresh_candles"),
    "products": _every(15, "bots.tasks.refresh_products"),
    "transfers": _every(900, "accounts.tasks.read_transfers"),
    "value snapshots": _every(900, "positions.tasks.take_value_snapshots"),
    "lost backtests": _every(60, "bots.backtesting.tasks.recover"),
    "lost downloads": _every(60, "marketdata.tasks.recover_downloads"),
    "old decisions": _every(3600, "bots.tasks.prune_decisions"),
    "old signals": _every(3600, "bots.tasks.prune_signals"),
    "old auto-buy decisions": _every(3600, "bots.autobuy.tasks.prune"),
    "old equity": _every(3600, "positions.tasks.prune_equity"),
    "old events": _every(3600, "notifications.tasks.prune_events"),
    "old action keys": _every(3600, "tradebot.core.tasks.prune_action_keys"),
    "old sessions": _every(86_400, "accounts.tasks.clear_sessions"),
}
# Waiting for a venue's answers must not keep the cycle from its turn. Simulations and long downloads may take minutes
# and a whole core, so they belong into another process (-Q backtest,history). A worker without -Q takes all queues.
app.conf.task_queues = [Queue(name) for name in (CYCLE_QUEUE, MARKET_QUEUE, BACKTEST_QUEUE, HISTORY_QUEUE)]
app.conf.task_default_queue = CYCLE_QUEUE
app.conf.task_routes = {
    "bots.tasks.refresh_*": {"queue": MARKET_QUEUE},
    "bots.autobuy.tasks.*": {"queue": MARKET_QUEUE},
    "positions.tasks.close_after_guard": {"queue": MARKET_QUEUE},
    "positions.tasks.close_account": {"queue": MARKET_QUEUE},
    "accounts.tasks.read_*": {"queue": MARKET_QUEUE},
    "positions.tasks.take_value_snapshots": {"queue": MARKET_QUEUE},
    "bots.backtesting.tasks.recover": {"queue": MARKET_QUEUE},
    "bots.backtesting.tasks.*": {"queue": BACKTEST_QUEUE},
    "marketdata.tasks.download_*": {"queue": HISTORY_QUEUE},
    "marketdata.tasks.recover_downloads": {"queue": MARKET_QUEUE},
    # What waits for the exchange of one account waits where prices are waited for, and not in the cycle's way.
    "positions.tasks.reconcile_account": {"queue": MARKET_QUEUE},
    "positions.tasks.poll_account": {"queue": MARKET_QUEUE},
    "positions.tasks.compare_account": {"queue": MARKET_QUEUE},
    "positions.tasks.refresh_account": {"queue": MARKET_QUEUE},
    "positions.tasks.go_on_with_sales_of": {"queue": MARKET_QUEUE},
    "positions.tasks.measure_after_reading": {"queue": MARKET_QUEUE},
}


@setup_logging.connect(dispatch_uid="our logging")
def keep_our_logging(**kwargs: Any) -> None:
    """Django has configured logging (settings.LOGGING); a receiver here keeps Celery from configuring it again."""


@celeryd_after_setup.connect(dispatch_uid="settle at start")
def settle_before_the_first_look(instance: Any = None, **kwargs: Any) -> None:
    """Ask what became of orders under way when the last process ended, before this worker takes any task (F18, F70)."""
    if instance is None or CYCLE_QUEUE not in instance.app.amqp.queues.consume_from:
        return
    from positions.reconcile import settle_at_start

    try:
        settle_at_start()
    except Exception:  # noqa: BLE001 (logged; the loops go on asking, and a start must not fail for it)
        structlog.get_logger(__name__).exception("orders not settled at start")


@celeryd_after_setup.connect(dispatch_uid="leave what is loaded alone")
def leave_what_is_loaded_alone(**kwargs: Any) -> None:
    """Keep the garbage collector from looking through code and models again and again: a fifth of a cycle's time.

    Before the pool forks, so that its processes go on sharing these pages.
    """
    gc.collect()
    gc.freeze()


@worker_shutting_down.connect(dispatch_uid="begin nothing new")
def begin_nothing_new(**kwargs: Any) -> None:
    """Let looks under way end after the order that they are at; the worker waits for them."""
    stopping.stop()


@worker_ready.connect(dispatch_uid="first turn")
def give_every_loop_its_first_turn(**kwargs: Any) -> None:
    """Let loops run as soon as their worker is there, rather than a whole interval after the scheduler started."""
    if CYCLE_QUEUE not in app.amqp.queues.consume_from:
        return
    for entry in app.conf.beat_schedule.values():
        if isinstance(entry["schedule"], int | float | schedule):
            app.send_task(entry["task"], **entry.get("options", {}))
