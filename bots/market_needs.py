"""Which public data the bots of everybody need: fetched once for all of them."""

from __future__ import annotations

from collections import defaultdict

from bots.engine import active_bots
from bots.facts import compiled
from bots.models import Bot, BotProduct
from bots.strategies import get_strategy
from positions.models import Position
from positions.states import POSITION_ACTIVE
from tradebot.core import scoping
from tradebot.core.errors import TradebotError

__all__ = ["needs"]


def needs() -> dict[str, dict[str, set[str]]]:
    """Return timeframes by symbol by market, for all active bots and open deals; a symbol may need prices only."""
    wanted: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    with scoping.all_accounts("public data is fetched once for all bots"):
        series: dict[int, set[str]] = {}
        for bot in Bot.objects.filter(active_bots()).only("pk", "strategy", "settings", "settings_version"):
            try:
                strategy = get_strategy(bot.strategy)
                settings = compiled("bot", bot.pk, bot.settings_version, strategy, bot.settings)
            except TradebotError:
                continue  # the cycle reports it to the owner
            series[bot.pk] = {timeframe.value for timeframe in strategy.required_series(settings)}
        pairs = BotProduct.objects.filter(bot__in=series, enabled=True).values_list(
            "bot_id", "product__exchange", "product__symbol"
        )
        for bot_id, exchange, symbol in pairs:
            wanted[exchange][symbol] |= series[bot_id]
        deals = (
            Position.objects.filter(status__in=POSITION_ACTIVE)
            .select_related("product")
            .only("pk", "strategy", "settings", "settings_version", "product__exchange", "product__symbol")
        )
        for position in deals:
            timeframes = wanted[position.product.exchange][position.product.symbol]
            try:
                strategy = get_strategy(position.strategy)
                settings = compiled("deal", position.pk, position.settings_version, strategy, position.settings)
            except TradebotError:
                continue
            timeframes |= {timeframe.value for timeframe in strategy.required_series(settings)}
    return wanted
