"""Ways to drive a recorded market minute by minute: prices for either direction, thin candles, a person's orders."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from accounts.exchanges.paper import match_resting
from bots.models import Bot
from marketdata import sources
from marketdata.series import oldest_first
from marketdata.sources.replay import import_candles
from marketdata.timeframes import Timeframe
from positions import execution
from positions.models import Order, Position
from positions.reconcile import reconcile_account
from positions.states import Direction, OrderType, Purpose
from tests.bots.world import START, World

PAIR = "AAA-USD"
PERSON = "person@example.com"


def seen_by(direction: Direction, *prices: float) -> list[float]:
    """Return the prices, for a short mirrored at 100: what is a gain for a long is one for it too."""
    return [price if direction is Direction.LONG else round(200 - price, 6) for price in prices]


def thin(closes: Iterable[float], volume: float, symbol: str = PAIR) -> None:
    """Let this little be traded in each candle, a quarter of which a resting order may have."""
    rows = list(closes)
    times = [START + 60 * number for number in range(len(rows))]
    import_candles(symbol, Timeframe.M1, oldest_first(times, rows, rows, rows, rows, [volume] * len(rows)))


def step(world: World, minute: int, *bots: Bot) -> None:
    """Do what the server's loops do in a minute: resting orders, reconciliation, the cycle."""
    with world.at(minute) as now:
        match_resting(sources.REPLAY, now, [world.account.pk])
        reconcile_account(world.account.pk)
    world.look(minute, *bots)


def steps(world: World, minutes: Iterable[int], *bots: Bot) -> None:
    """Do :func:`step` for each of these minutes."""
    for minute in minutes:
        step(world, minute, *bots)


def by_hand(
    world: World, minute: int, deal: Position, price: str, purpose: Purpose = Purpose.LIMIT_CLOSE, **more: Any
) -> Order:
    """Place a limit order of the deal as a person does."""
    with world.at(minute):
        intent = execution.Intent(
            purpose=purpose, sequence=1, order_type=OrderType.LIMIT, limit_price=Decimal(price), actor=PERSON, **more
        )
        return execution.submit(execution.intend(deal, intent))
