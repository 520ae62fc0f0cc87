"""Which public data the bots of everybody need: fetched once for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from bots.autobuy import service as auto_buy
from bots.engine import active_bots
from bots.kept_settings import compiled, settings_of
from bots.market_views import SMALLEST_HISTORY
from bots.models import Bot, BotProduct
from bots.strategies import get_strategy
from bots.strategies.base import Strategy
from marketdata.models import Product
from positions.guard import equity
from positions.models import Position
from positions.states import POSITION_ACTIVE
from tradebot.core import scoping
from tradebot.core.errors import TradebotError

__all__ = ["Needs", "needs"]

Needs = dict[str, dict[str, dict[str, int]]]
"""Number of candles by timeframe by symbol by market. A symbol without timeframes needs prices only."""

_User = tuple[Strategy, Any]
"""A strategy with settings; None stands for prices only, because the settings cannot be read."""


def needs() -> Needs:
    """Return what all active bots and open deals look at, and the prices that guards and auto-buy need besides.

    Settings that cannot be read need no candles: the cycle reports them to their owner.
    """
    users: dict[tuple[int, int], _User | None] = {}
    with scoping.all_accounts("public data is fetched once for all bots"):
        active = Bot.objects.filter(active_bots()).order_by()
        readable = {
            pk: found
            for pk, found in settings_of(active.only("pk", "strategy", "settings_version")).items()
            if not isinstance(found, TradebotError)
        }
        pairs = BotProduct.objects.filter(bot__in=active.values("pk"), enabled=True).order_by()
        for bot_id, product_id in pairs.values_list("bot_id", "product_id"):
            if (user := readable.get(bot_id)) is not None:
                users[product_id, id(user[1])] = user
        deals = Position.objects.filter(status__in=POSITION_ACTIVE).order_by()
        for position in deals.only("pk", "product_id", "strategy", "settings", "settings_version"):
            user = _user_of(position)
            users[position.product_id, id(user and user[1])] = user
    wanted = _by_market(users)
    for priced in (equity.prices_needed(), auto_buy.prices_needed()):
        for exchange, symbols in priced.items():
            for symbol in symbols:
                wanted[exchange].setdefault(symbol, {})
    return wanted


def _user_of(position: Position) -> _User | None:
    try:
        strategy = get_strategy(position.strategy)
        settings = compiled("deal", position.pk, position.settings_version, strategy, position.settings)
    except TradebotError:
        return None
    return strategy, settings


def _by_market(users: Mapping[tuple[int, int], _User | None]) -> defaultdict[str, dict[str, dict[str, int]]]:
    wanted: defaultdict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    products = Product.objects.in_bulk({product_id for product_id, _ in users})
    for (product_id, _), user in users.items():
        product = products[product_id]
        counts = wanted[product.exchange][product.symbol]
        series = user[0].required_series(user[1]) if user else {}
        for timeframe, count in series.items():
            counts[timeframe.value] = max(count, counts.get(timeframe.value, SMALLEST_HISTORY))
    return wanted
