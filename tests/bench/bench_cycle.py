"""The monitor cycle over 10,000 bots of 1,000 people, 5 pairs each: seconds and queries.

First with nothing to do, then with 200 bots that trade. ``BENCH_BOTS`` changes the number of bots.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection

from accounts.models import Account, PaperBalance, PaperTerms, User
from bots import engine
from bots.models import Bot, BotProduct
from positions.models import Fill
from tests.bots.world import World
from tradebot.celery import leave_what_is_loaded_alone
from tradebot.core import clock
from tradebot.core.scoping import detached

BOTS, PAIRS, PEOPLE = int(os.environ.get("BENCH_BOTS", "10000")), 5, 1000
TRADING = min(200, BOTS)
IDLE_BAR_CPU, IDLE_BAR_QUERIES, TRADING_BAR = 3.0, 40, 30.0
NEVER = {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 1}]}
Chunks = list[dict[int, list[int]]]


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, str]]:
    """Figures against their bars, printed together at the end."""
    found: dict[str, str] = {}
    yield found
    for name, text in found.items():
        print(f"\n{name}: {text}")


@pytest.mark.django_db(transaction=True)
def test_a_cycle_over_ten_thousand_bots(figures: dict[str, str]) -> None:
    closes = [100 + (number % 7) * 0.3 for number in range(400)]
    world = World({f"{chr(65 + number) * 3}-USD": list(closes) for number in range(PAIRS)})
    chunks = _many(world, world.bot(open_conditions=NEVER))
    leave_what_is_loaded_alone()  # as a worker does
    for name in ("first look, writes every reason", "second look, nothing to do", "third look, nothing to do"):
        look = _cycle(world, chunks, 300)
        figures[name] = str(look)
        assert look.bots == BOTS
    figures["bar of an idle cycle"] = f"{IDLE_BAR_CPU:g} s CPU, {IDLE_BAR_QUERIES} queries per 1,000 bots"
    _let_trade(world, TRADING)
    for name, minute in ((f"{TRADING} bots open a deal", 301), (f"{TRADING} deals open, nothing to do", 302)):
        before = _fills()
        look = _cycle(world, chunks, minute)
        figures[name] = f"{look}, {_fills() - before} fills"
    figures["bar of a cycle in which 200 bots trade"] = f"{TRADING_BAR:g} s"


class _Cycle:
    """What one cycle cost."""

    def __init__(self) -> None:
        self.bots, self.orders, self.queries, self.wall, self.cpu = 0, 0, 0, 0.0, 0.0

    def __str__(self) -> str:
        return (
            f"{self.bots} bots x {PAIRS} pairs, {self.orders} orders: {self.wall:.2f} s wall, {self.cpu:.2f} s CPU, "
            f"{self.queries} queries, {self.queries / self.bots * 1000:.0f} per 1,000 bots"
        )


def _cycle(world: World, chunks: Chunks, minute: int) -> _Cycle:
    look = _Cycle()
    with clock.at(world.moment(minute)), _counted(look):
        wall, cpu = time.perf_counter(), time.process_time()
        for chunk in chunks:
            result = engine.run_chunk(chunk)
            look.bots += result.bots
            look.orders += result.orders
        look.wall, look.cpu = time.perf_counter() - wall, time.process_time() - cpu
    return look


@contextmanager
def _counted(look: _Cycle) -> Iterator[None]:
    """Count queries without keeping them: what they cost is part of the figure."""

    def count(execute: Any, *args: Any) -> Any:
        look.queries += 1
        return execute(*args)

    with connection.execute_wrapper(count):
        yield


def _fills() -> int:
    with detached("bench looks"):
        return Fill.objects.count()


def _let_trade(world: World, count: int) -> None:
    """Give this many bots, spread over all people, a rule that holds at once."""
    settings = world.bot(max_active_deals=1, base_order_size="20", safety_order_size="20").settings
    with detached("bench data"):
        ids = list(Bot.objects.filter(name__startswith="Bench ").order_by("pk").values_list("pk", flat=True))
        chosen = ids[:: max(BOTS // count, 1)][:count]
        Bot.objects.filter(pk__in=chosen).update(settings=settings, settings_version=2)


def _many(world: World, model: Bot) -> Chunks:
    """Write the bots in bulk and return chunks as the dispatcher would make them."""
    with detached("bench data"):
        people = User.objects.bulk_create([User(email=f"bench{number}@example.com") for number in range(PEOPLE)])
        accounts = Account.objects.bulk_create(
            [Account(owner=person, name="Paper", exchange="replay", is_default=True) for person in people]
        )
        PaperBalance.objects.bulk_create(
            [PaperBalance(account=account, currency="USD", total=1000) for account in accounts]
        )
        PaperTerms.objects.bulk_create([PaperTerms(account=account) for account in accounts])
        bots = Bot.objects.bulk_create(
            [
                Bot(
                    owner=people[number % PEOPLE],
                    account=accounts[number % PEOPLE],
                    name=f"Bench {number}",
                    settings=model.settings,
                    quote_currency="USD",
                    status=Bot.Status.RUNNING,
                    next_check_at=datetime.fromtimestamp(0, UTC),
                )
                for number in range(BOTS)
            ],
            batch_size=500,
        )
        BotProduct.objects.bulk_create(
            [BotProduct(bot=bot, product=product) for bot in bots for product in world.products.values()],
            batch_size=2000,
        )
    by_account: dict[int, list[int]] = {}
    for bot in bots:
        by_account.setdefault(bot.account_id or 0, []).append(bot.pk)
    chunks: Chunks = [{}]
    for account_id, ids in by_account.items():
        if sum(map(len, chunks[-1].values())) + len(ids) > engine.CHUNK_BOTS:
            chunks.append({})
        chunks[-1][account_id] = ids
    return chunks
