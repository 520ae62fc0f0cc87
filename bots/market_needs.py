"""Which public data the bots of everybody need: fetched once for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from bots.engine import active_bots
from bots.facts import compiled
from bots.market_views import SMALLEST_HISTORY
from bots.models import Bot, BotProduct
from bots.strategies import get_strategy
from bots.strategies.base import Strategy
from positions.models import Position
from positions.states import POSITION_ACTIVE
from tradebot.core import scoping
from tradebot.core.errors import TradebotError

__all__ = ["Needs", "needs"]

Needs = dict[str, dict[str, dict[str, int]]]
"""Number of candles by timeframe by symbol by market. A symbol without timeframes needs prices only."""


def needs() -> Needs:
    """Return what all active bots and open deals look at."""
    wanted: Needs = defaultdict(lambda: defaultdict(dict))

    def note(exchange: str, symbol: str, series: Mapping[str, int]) -> None:
        counts = wanted[exchange][symbol]
        for timeframe, count in series.items():
            counts[timeframe] = max(count, counts.get(timeframe, SMALLEST_HISTORY))

    with scoping.all_accounts("public data is fetched once for all bots"):
        series: dict[int, dict[str, int]] = {}
        for bot in Bot.objects.filter(active_bots()).only("pk", "strategy", "settings", "settings_version"):
            try:
                strategy = get_strategy(bot.strategy)
                settings = compiled("bot", bot.pk, bot.settings_version, strategy, bot.settings)
            except TradebotError:
                continue  # the cycle reports it to the owner
            series[bot.pk] = _by_name(strategy, settings)
        pairs = BotProduct.objects.filter(bot__in=series, enabled=True).values_list(
            "bot_id", "product__exchange", "product__symbol"
        )
        for bot_id, exchange, symbol in pairs:
            note(exchange, symbol, series[bot_id])
        deals = (
            Position.objects.filter(status__in=POSITION_ACTIVE)
            .select_related("product")
            .only("pk", "strategy", "settings", "settings_version", "product__exchange", "product__symbol")
        )
        for position in deals:
            exchange, symbol = position.product.exchange, position.product.symbol
            note(exchange, symbol, {})
            try:
                strategy = get_strategy(position.strategy)
                settings = compiled("deal", position.pk, position.settings_version, strategy, position.settings)
            except TradebotError:
                continue
            note(exchange, symbol, _by_name(strategy, settings))
    return wanted


def _by_name(strategy: Strategy, settings: Any) -> dict[str, int]:
    return {timeframe.value: count for timeframe, count in strategy.required_series(settings).items()}
