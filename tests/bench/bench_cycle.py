"""The monitor cycle over 10,000 bots of 1,000 people, 5 pairs each, nothing to do: seconds and queries."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account, PaperBalance, PaperTerms, User
from bots import engine
from bots.models import Bot, BotProduct
from tests.bots.world import World
from tradebot.core import clock
from tradebot.core.scoping import detached

BOTS, PAIRS, PEOPLE = int(os.environ.get("BENCH_BOTS", "10000")), 5, 1000
NEVER = {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 1}]}


@pytest.mark.django_db(transaction=True)
def test_an_idle_cycle_over_ten_thousand_bots():
    closes = [100 + (number % 7) * 0.3 for number in range(400)]
    world = World({f"{chr(65 + number) * 3}-USD": list(closes) for number in range(PAIRS)})
    model = world.bot(open_conditions=NEVER)
    chunks = _many(world, model)
    minute = 300
    for name in ("first look, writes every reason", "second look, nothing to do", "third look, nothing to do"):
        queries, wall, cpu = 0, time.perf_counter(), time.process_time()
        looked = 0
        with clock.at(world.moment(minute)):
            for chunk in chunks:
                with CaptureQueriesContext(connection) as captured:
                    looked += engine.run_chunk(chunk).bots
                queries += len(captured)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"\ncycle, {looked} bots x {PAIRS} pairs, {name}: {wall:.2f} s wall, {cpu:.2f} s CPU, "
            f"{queries} queries, {queries / looked * 1000:.0f} per 1,000 bots"
        )
        assert looked == BOTS


def _many(world: World, model: Bot) -> list[dict[int, list[int]]]:
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
                    name=f"Bot {number}",
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
    chunks: list[dict[int, list[int]]] = [{}]
    for account_id, ids in by_account.items():
        if sum(map(len, chunks[-1].values())) + len(ids) > engine.CHUNK_BOTS:
            chunks.append({})
        chunks[-1][account_id] = ids
    return chunks
