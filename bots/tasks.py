"""Celery entry points of the cycle and of the public data it needs. Thin: each calls one service."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from celery import shared_task
from django.db import transaction

from accounts.models import Account
from bots import engine
from bots.autobuy import tasks as auto_buy_tasks
from bots.backtesting import tasks as backtest_tasks
from bots.market_needs import Needs, needs
from bots.models import Bot, Decision
from bots.panic import tasks as panic_tasks
from bots.signals import stored
from marketdata import services as market_services
from marketdata import sources
from tradebot.core import clock, health, scoping
from tradebot.core.models import GlobalSettings

# Found through this module, as Celery looks for tasks here.
__all__ = ["auto_buy_tasks", "backtest_tasks", "panic_tasks"]

DISPATCH_SECONDS: Final = 2
PRICES_SECONDS: Final = 5
CANDLES_SECONDS: Final = 20
PRODUCTS_SECONDS: Final = 15
PRODUCTS_AGE: Final = timedelta(hours=1)
PRUNE_SECONDS: Final = 3600
ALWAYS_PRICED: Final = ("BTC-USD", "ETH-USD")

health.LOOPS |= {"dispatch": DISPATCH_SECONDS, "cycle": 10, "prices": PRICES_SECONDS, "candles": CANDLES_SECONDS}


@shared_task
def dispatch_cycle() -> None:
    """Hand out the bots that are due."""
    with health.loop("dispatch", DISPATCH_SECONDS):
        engine.dispatch(lambda chunk: run_chunk.apply_async(args=(list(chunk.items()),), expires=60))
    with scoping.all_accounts("is there anything for the cycle to do"):
        idle = not Bot.objects.filter(engine.active_bots()).exists()
    if idle:
        with health.loop("cycle", GlobalSettings.load().cycle_seconds):
            pass  # nothing to look at is a success


@shared_task
def run_chunk(chunk: list[tuple[int, list[int]]]) -> None:
    """Look at one chunk of bots, given as pairs of account id and bot ids."""
    with health.loop("cycle", GlobalSettings.load().cycle_seconds):
        engine.run_chunk(dict(chunk))


@shared_task
def refresh_prices() -> None:
    """Keep the prices of everything that bots and deals use fresh."""
    with health.loop("prices", PRICES_SECONDS):
        for exchange, symbols in _live_needs().items():
            market_services.refresh_prices(exchange, [*ALWAYS_PRICED, *symbols])


@shared_task
def refresh_candles() -> None:
    """Keep the candles that bots and deals use complete."""
    with health.loop("candles", CANDLES_SECONDS):
        for exchange, symbols in _live_needs().items():
            market_services.refresh_candles(exchange, symbols)


@shared_task
def refresh_products() -> None:
    """Refresh the product lists of the markets that accounts trade on, and of the one that new accounts will.

    Asked often, so that an account on a market nobody had before finds its pairs at once; each list is fetched once an
    hour.
    """
    with health.loop("products", PRODUCTS_SECONDS):
        with scoping.all_accounts("product lists are fetched once for all accounts"):
            used = set(Account.objects.exclude(exchange=sources.REPLAY).values_list("exchange", flat=True))
        market_services.refresh_product_lists(sorted(used | {sources.default_market()}), PRODUCTS_AGE)


@shared_task
def prune_decisions() -> None:
    """Delete decisions that are older than the operator wants to keep (F68).

    Those about a deal are kept while it is open, and for as long after it has ended.
    """
    limit = clock.now() - timedelta(days=GlobalSettings.load().decision_retention_days)
    with scoping.all_accounts("retention of decisions"), transaction.atomic():
        Decision.objects.filter(at__lt=limit, position__isnull=True).delete()
        Decision.objects.filter(position__closed_at__lt=limit).delete()


@shared_task
def prune_signals() -> None:
    """Delete signals that are older than the operator wants to keep, and what a bot was sent beyond the limit."""
    stored.prune(GlobalSettings.load().signal_retention_days)


def _live_needs() -> Needs:
    return {exchange: symbols for exchange, symbols in needs().items() if exchange != sources.REPLAY}
