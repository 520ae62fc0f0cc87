"""A look at one bot at once, asked for by a person: the engine's own look, and in words what came of it.

The look is the engine's, under the account's lease: whatever it decides is done once, however often somebody asks. When
a worker holds the lease at this moment, the bot is made due instead, and looked at within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from bots import engine, loading, market_views
from bots.models import Bot, Decision
from bots.services import editable_bot, open_deal_count, record
from bots.strategies.base import Decision as Answer
from marketdata import sources
from tradebot.core import clock
from tradebot.core.errors import InvalidInput
from tradebot.core.models import GlobalSettings

__all__ = ["Look", "LookLine", "run_now"]


@dataclass(frozen=True, slots=True)
class LookLine:
    """What was decided about one pair or deal. ``acted``: an order was placed or cancelled."""

    symbol: str
    direction: str
    code: str
    message: str
    acted: bool

    @property
    def text(self) -> str:
        """Return the line as a sentence."""
        way = f" ({self.direction})" if self.direction == "short" else ""
        return f"{self.symbol}{way}: {self.message}"


@dataclass(frozen=True, slots=True)
class Look:
    """The answer to "look now". ``busy``: a worker is looking at this account, the bot's turn comes within seconds."""

    bot: Bot
    at: datetime
    orders: int
    busy: bool
    problem: str
    lines: tuple[LookLine, ...]

    @property
    def summary(self) -> str:
        """Return the outcome in one sentence."""
        if self.busy:
            return f"“{self.bot.name}” is being looked at by a worker; its turn comes within seconds."
        if self.problem:
            return f"“{self.bot.name}” was looked at, and this went wrong: {self.problem}"
        if self.orders:
            return f"“{self.bot.name}” was looked at: {self.orders} order{'' if self.orders == 1 else 's'} placed."
        return f"“{self.bot.name}” was looked at: nothing to do now."


def run_now(bot: Bot, actor: str) -> Look:
    """Look at the bot once, now, and return what was decided. Never runs inside a transaction: venues are called.

    1. The bot's next regular look is moved on and that is committed, so the cycle does not hand it out meanwhile.
    2. The engine looks, under the lease of the bot's account.
    3. Where somebody else holds the lease, the bot is made due at once instead.

    Raises InvalidInput when there is nothing to look at, NotFound.
    """
    bot = editable_bot(bot)
    if bot.account is None or bot.account_id is None:
        raise InvalidInput("bot_orphaned", "The bot has no account, so there is nothing to look at.", field="account")
    if bot.account.exchange == sources.REPLAY:
        raise InvalidInput("replay", "A recording has a clock of its own: its bot is looked at when it is played.")
    if not bot.is_running and not open_deal_count(bot):
        raise InvalidInput("bot_stopped", "The bot is stopped and has no open deal: nothing to look at. Start it.")
    now = clock.now()
    _due(bot, now + timedelta(seconds=GlobalSettings.load().cycle_seconds))
    record(bot, actor, "bot.run_asked")
    result = engine.run_chunk({bot.account_id: [bot.pk]}, now)
    busy = not result.bots
    if busy:
        _due(bot, now)
    bot.refresh_from_db()
    return Look(
        bot=bot,
        at=now,
        orders=result.orders,
        busy=busy,
        problem="" if busy else bot.last_error,
        lines=() if busy else tuple(_lines(bot, now)),
    )


@transaction.atomic
def _due(bot: Bot, at: datetime) -> None:
    Bot.objects.filter(pk=bot.pk).update(next_check_at=at)


def _lines(bot: Bot, now: datetime) -> list[LookLine]:
    """Return what was decided: first what was done, then what each deal and each pair waits for."""
    decisions = Decision.objects.filter(bot=bot, at=now).exclude(action="none").select_related("product", "position")
    lines = [
        LookLine(
            row.product.symbol if row.product else "–",
            str(row.position.direction) if row.position else "",
            row.code,
            row.message,
            acted=True,
        )
        for row in decisions.order_by("pk")
    ]
    acted = {line.symbol for line in lines}
    return [*lines, *(line for line in _waiting(bot, now) if line.symbol not in acted)]


def _waiting(bot: Bot, now: datetime) -> Iterator[LookLine]:
    """Yield what every deal and pair waits for. What is stored keeps its words while the reason stays the same, so the
    numbers of this moment are worked out again: by the same functions from the same facts, without effects.
    """
    chunk = loading.load([bot.pk], now)
    chunk.see(market_views.build(chunk.products, chunk.wanted_series(), now))
    mine = chunk.bots[bot.pk]
    for deal in mine.deals:
        view = chunk.view(bot.pk, deal.position.product_id)
        if deal.strategy is not None and view is not None and bot.account_id is not None:
            fees = chunk.money.fee_rates[bot.account_id]
            found = deal.strategy.manage(deal.settings, chunk.deal_view(deal), view, now, fees)
            yield _line(deal.position.product.symbol, deal.direction.value, found)
    if not bot.is_running or mine.strategy is None:
        return
    for pair in mine.pairs:
        view = chunk.view(bot.pk, pair.product_id)
        if view is None:
            continue
        for side in mine.sides:
            found = mine.strategy.decide_open(mine.settings, view, chunk.open_context(mine, pair, side))
            yield _line(chunk.products[pair.product_id].symbol, side.direction.value, found)


def _line(symbol: str, direction: str, found: Answer) -> LookLine:
    return LookLine(symbol, direction, str(found.code), found.message, acted=False)
