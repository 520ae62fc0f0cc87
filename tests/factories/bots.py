"""Bots and what they are told, decisions, replays, backtests and sweeps, panic sales."""

from __future__ import annotations

from typing import Any

import factory

from bots.models import (
    AutoBuyDecision,
    Backtest,
    BacktestDeal,
    Bot,
    BotProduct,
    BotTemplate,
    CoinReview,
    Decision,
    PanicRun,
    PanicStep,
    ReplayRun,
    Signal,
    SignalHook,
    Sweep,
    SweepPoint,
)
from bots.strategies.dca_settings import DcaSettings
from marketdata.models import Product
from positions.states import Direction
from tests.factories.accounts import AccountFactory, AutoBuyRuleFactory, UserFactory
from tests.factories.base import Factory
from tests.factories.marketdata import ProductFactory
from tradebot.core import clock


class BotFactory(Factory):
    """A stopped DCA bot with default settings. ``products=[…]`` gives it pairs."""

    class Meta:
        model = Bot
        skip_postgeneration_save = True

    account = factory.SubFactory(AccountFactory)
    owner = factory.LazyAttribute(lambda o: o.account.owner)
    name = factory.Sequence(lambda n: f"Bot {n}")
    quote_currency = "USD"

    @factory.post_generation
    def products(self, create: bool, extracted: list[Product] | None, **kwargs: Any) -> None:
        for product in extracted or () if create else ():
            BotProduct.objects.create(bot=self, product=product)


class BotProductFactory(Factory):
    class Meta:
        model = BotProduct

    bot = factory.SubFactory(BotFactory)
    product = factory.SubFactory(ProductFactory)


class BotTemplateFactory(Factory):
    class Meta:
        model = BotTemplate

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda n: f"Template {n}")


class CoinReviewFactory(Factory):
    class Meta:
        model = CoinReview

    owner = factory.SubFactory(UserFactory)
    code = "BTC"
    category = "approved"


class DecisionFactory(Factory):
    class Meta:
        model = Decision

    bot = factory.SubFactory(BotFactory)
    account = factory.SelfAttribute("bot.account")
    product = factory.SubFactory(ProductFactory)
    phase = "open"
    action = "none"
    code = "tree_false"
    message = "RSI is 42, not below 30"


class SignalHookFactory(Factory):
    """A hook that a secret opens if one knew what ``secret_digest`` is of: ``bots.signals.hooks.digest_of("…")``."""

    class Meta:
        model = SignalHook

    bot = factory.SubFactory(BotFactory)
    secret_digest = "0" * 64
    secret_made_at = factory.LazyFunction(clock.now)


class SignalFactory(Factory):
    """An accepted alert about all of the bot's pairs, received now."""

    class Meta:
        model = Signal

    bot = factory.SubFactory(BotFactory)
    kind = "webhook"
    source = "hook"
    verdict = "accepted"


class AutoBuyDecisionFactory(Factory):
    class Meta:
        model = AutoBuyDecision

    rule = factory.SubFactory(AutoBuyRuleFactory)
    account = factory.SelfAttribute("rule.account")
    code = "auto_buy_below_minimum"
    message = "12 USD may be spent, the minimum is 50."


class ReplayRunFactory(Factory):
    """A finished run over an hour of one-minute steps."""

    class Meta:
        model = ReplayRun

    bot = factory.SubFactory(BotFactory)
    account = factory.SelfAttribute("bot.account")
    key = factory.Sequence(lambda n: f"run {n}")
    status = ReplayRun.Status.FINISHED
    step_seconds = 60
    start = 1_700_000_040
    end = 1_700_003_640
    cursor = 1_700_003_700


class BacktestFactory(Factory):
    """A waiting backtest of an hour of minutes; ``status="finished"`` gives it figures."""

    class Meta:
        model = Backtest

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda n: f"Backtest {n}")
    exchange = "simulated"
    symbols = ["BTC-USD"]
    timeframe = "1m"
    start = 1_700_000_040
    end = 1_700_003_640
    quote_currency = "USD"
    balances = {"USD": "1000"}
    status = "queued"
    statistics = factory.LazyAttribute(lambda o: {"return_pct": 1.5, "profit": "15"} if o.status == "finished" else {})


class BacktestDealFactory(Factory):
    class Meta:
        model = BacktestDeal

    backtest = factory.SubFactory(BacktestFactory, status="finished")
    number = factory.Sequence(lambda n: n + 1)
    symbol = "BTC-USD"
    direction = Direction.LONG
    opened_at = factory.LazyFunction(clock.now)


class SweepFactory(Factory):
    """A waiting sweep over two take profits, without its points."""

    class Meta:
        model = Sweep

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda n: f"Sweep {n}")
    settings = factory.LazyFunction(lambda: DcaSettings().to_json())
    exchange = "simulated"
    symbols = ["BTC-USD"]
    timeframe = "1m"
    start = 1_700_000_040
    end = 1_700_003_640
    quote_currency = "USD"
    balances = {"USD": "1000"}
    parameters = [{"path": "take_profit", "values": [1, 2]}]
    total = 2


class SweepPointFactory(Factory):
    class Meta:
        model = SweepPoint

    sweep = factory.SubFactory(SweepFactory)
    number = factory.Sequence(lambda n: n)
    values = {"take_profit": 1}


class PanicRunFactory(Factory):
    """A panic sale under way; ``finished=True`` makes one that has ended well."""

    class Meta:
        model = PanicRun

    class Params:
        finished = factory.Trait(
            status="finished", finished_at=factory.LazyFunction(clock.now), orders_left=0, deals_left=0
        )

    account = factory.SubFactory(AccountFactory)
    actor = factory.SelfAttribute("account.owner.email")


class PanicStepFactory(Factory):
    """A deal that is closed."""

    class Meta:
        model = PanicStep

    run = factory.SubFactory(PanicRunFactory)
    account = factory.SelfAttribute("run.account")
    kind = "sell"
    state = "done"
    what = "BTC-USD"
