"""A small recorded market for tests of the engine: prices are what the test says, the clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from accounts.exchanges.paper import match_resting
from accounts.models import Account, PaperTerms
from bots import engine
from bots.models import Bot, BotProduct
from bots.strategies import get_strategy
from marketdata.models import Product
from marketdata.series import oldest_first
from marketdata.sources.replay import import_candles
from marketdata.timeframes import Timeframe
from positions.models import Fill, Order, Position
from positions.reconcile import reconcile_account
from tests.factories import AccountFactory, BotFactory, PaperTermsFactory, UserFactory
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account, detached

START = 1_700_000_040  # a whole minute
OPEN_AT_ONCE = {
    "base_order_type": "fixed",
    "base_order_size": "100",
    "max_safety_orders": 2,
    "safety_order_type": "fixed",
    "safety_order_size": "100",
    "price_deviation": "2",
    "deviation_reference": "base_order",
    "take_profit": "1",
    "max_active_deals": 5,
}


@dataclass
class World:
    """One person, one paper account on the recorded market, products with given closes, a minute a candle."""

    closes: dict[str, list[float]]
    balances: dict[str, Any] = field(default_factory=lambda: {"USD": 10_000})
    fees: bool = False

    def __post_init__(self) -> None:
        self.owner = UserFactory()
        self.account: Account = AccountFactory(owner=self.owner, exchange="replay", balances=self.balances)
        rate = {} if self.fees else {"maker_fee_pct": Decimal(0), "taker_fee_pct": Decimal(0)}
        self.terms: PaperTerms = PaperTermsFactory(account=self.account, slippage_pct=Decimal(0), **rate)
        self.products = {symbol: self._product(symbol, closes) for symbol, closes in self.closes.items()}

    def _product(self, symbol: str, closes: list[float]) -> Product:
        times = [START + 60 * number for number in range(len(closes))]
        import_candles(
            symbol, Timeframe.M1, oldest_first(times, closes, closes, closes, closes, [1_000_000.0] * len(closes))
        )
        product = Product.objects.get(exchange="replay", symbol=symbol)
        product.price_increment, product.base_increment = Decimal("0.01"), Decimal("0.00000001")
        product.min_base, product.min_quote = Decimal("0.00000001"), Decimal(1)
        product.save()
        return product

    def bot(self, *symbols: str, account: Account | None = None, running: bool = True, **settings: Any) -> Bot:
        """Make a bot over the pairs; ``settings`` change :data:`OPEN_AT_ONCE`."""
        strategy = get_strategy("indicator_dca")
        complete = strategy.settings_from_json({**OPEN_AT_ONCE, **settings}).to_json()
        return BotFactory(
            account=account or self.account,
            settings=complete,
            budget_kind="fixed",
            budget_fixed=Decimal(5_000),
            split_budget=False,
            status=Bot.Status.RUNNING if running else Bot.Status.STOPPED,
            next_check_at=datetime.fromtimestamp(START, UTC),
            products=[self.products[symbol] for symbol in symbols or self.products],
        )

    @staticmethod
    def moment(minute: int) -> datetime:
        """When the candle number ``minute`` has just closed."""
        return datetime.fromtimestamp(START + 60 * (minute + 1), UTC)

    @contextmanager
    def at(self, minute: int, account: Account | None = None) -> Iterator[datetime]:
        moment = self.moment(minute)
        with clock.at(moment), acting_for_account((account or self.account).pk):
            yield moment

    def look(self, minute: int, *bots: Bot) -> engine.ChunkResult:
        """Run one cycle over ``bots`` at that minute."""
        chunk: dict[int, list[int]] = {}
        for bot in bots:
            chunk.setdefault(bot.account_id, []).append(bot.pk)
        with clock.at(self.moment(minute)):
            return engine.run_chunk(chunk, token="test")

    def step(self, minute: int, *bots: Bot) -> engine.ChunkResult:
        """Do what a driver does at that minute: match resting orders, reconcile, look."""
        with self.at(minute) as moment:
            match_resting("replay", moment, [self.account.pk])
            reconcile_account(self.account.pk)
        return self.look(minute, *bots)

    def pair(self, bot: Bot, symbol: str = "AAA-USD") -> BotProduct:
        """Return what the bot remembers about one of its pairs."""
        with detached("test looks"):
            return BotProduct.objects.get(bot=bot, product=self.products[symbol])

    def deals(self, **filters: Any) -> list[Position]:
        with detached("test looks"):
            return list(Position.objects.filter(**filters).select_related("product", "bot").order_by("pk"))

    def orders(self, **filters: Any) -> list[Order]:
        with detached("test looks"):
            return list(Order.objects.filter(**filters).order_by("pk"))

    def fills(self) -> list[tuple[Any, ...]]:
        """What happened, without ids: to compare runs by."""
        with detached("test looks"):
            rows = Fill.objects.filter(account=self.account).order_by("at", "pk")
            return list(rows.values_list("at", "position__product__symbol", "side", "price", "base", "quote", "fee"))
