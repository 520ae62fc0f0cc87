"""Factories for every kind of row that tests need. They create in a scope of their own, whatever scope is bound.

Amounts are Decimals. Children take the account of their parent, so a graph always belongs to one account:
``FillFactory()`` makes a user, an account, a product, a bot, a deal, an order and the fill, all consistent.
"""

from __future__ import annotations

import uuid
from datetime import time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import factory
from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import make_password
from factory.django import DjangoModelFactory

from accounts.models import (
    Account,
    ApiToken,
    AutoBuyRule,
    EquitySnapshot,
    ExchangeCredential,
    LeftOut,
    Membership,
    PaperBalance,
    PaperEntry,
    PaperOrder,
    PaperPerp,
    PaperTerms,
    PaperTrade,
    PerpsSettings,
    PropGuardEvent,
    PropGuardRules,
    PropGuardState,
    TradingLimits,
    Transfer,
    User,
    ValueSnapshot,
    VenueBalance,
    VenueFunds,
)
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
from marketdata.models import Candle, CandleSeries, HistoryDownload, Product
from notifications.models import Event
from positions.guard.rules import day_start
from positions.models import (
    Bracket,
    DayMark,
    Fill,
    FundingPayment,
    Order,
    PerpsTerms,
    Position,
    UnmatchedFill,
    UserCounter,
)
from positions.states import Direction, PositionStatus, Purpose, side_of
from tradebot.core import clock
from tradebot.core.crypto import Secret
from tradebot.core.models import ActionKey, AuditEntry
from tradebot.core.scoping import detached
from tradebot.core.words import OrderStatus, OrderType, Side

PASSWORD = "correct horse battery staple"


class _Factory(DjangoModelFactory):
    """Builds the whole graph in the system's scope, so a test may call it from inside any other one."""

    class Meta:
        abstract = True

    @classmethod
    def _generate(cls, strategy: Any, params: Any) -> Any:
        with detached("test data"):
            return super()._generate(strategy, params)


# People and accounts ------------------------------------------------------------------------------------------------


class UserFactory(_Factory):
    """A person who signs in with :data:`PASSWORD`; ``password="…"`` sets another one, ``verified=True`` the address."""

    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@example.com")
    password = factory.Transformer(PASSWORD, transform=make_password)

    @factory.post_generation
    def verified(self, create: bool, extracted: bool | None, **kwargs: Any) -> None:
        if create and extracted:
            EmailAddress.objects.create(user=self, email=self.email, verified=True, primary=True)


class ApiTokenFactory(_Factory):
    """A token that programs could use if they knew what ``digest`` is of: ``accounts.tokens.digest_of("…")``."""

    class Meta:
        model = ApiToken

    user = factory.SubFactory(UserFactory)
    name = "API token"
    digest = factory.Sequence(lambda n: f"{n:064x}")
    prefix = "abcdefgh"


class AccountFactory(_Factory):
    """A paper account on the simulated market; ``balances={"USD": 1000}`` funds it, with entries that explain it.

    Of whatever kind, it is armed, because most tests are about trading.
    """

    class Meta:
        model = Account
        skip_postgeneration_save = True

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda n: f"Paper {n}")
    kind = Account.Kind.PAPER
    exchange = "simulated"
    trading_state = Account.TradingState.ARMED

    @factory.post_generation
    def balances(self, create: bool, extracted: dict[str, Decimal | int | str] | None, **kwargs: Any) -> None:
        if create and extracted:
            fund(self, **extracted)


def fund(account: Account, **amounts: Decimal | int | str) -> None:
    """Give a paper account its first amounts: ``fund(account, USD=1000, BTC="0.5")``. Zero makes an empty balance."""
    with detached("test data"):
        for currency, amount in amounts.items():
            total = Decimal(amount)
            PaperBalance.objects.create(account=account, currency=currency, total=total)
            if total:
                PaperEntry.objects.create(
                    account=account,
                    currency=currency,
                    kind=PaperEntry.Kind.DEPOSIT,
                    amount=total,
                    balance_after=total,
                )


class MembershipFactory(_Factory):
    class Meta:
        model = Membership

    account = factory.SubFactory(AccountFactory)
    user = factory.SubFactory(UserFactory)
    role = Membership.Role.OBSERVER


class TradingLimitsFactory(_Factory):
    """No limit is set unless told: ``daily_loss=100``."""

    class Meta:
        model = TradingLimits

    account = factory.SubFactory(AccountFactory)


class ExchangeCredentialFactory(_Factory):
    class Meta:
        model = ExchangeCredential

    account = factory.SubFactory(AccountFactory, kind=Account.Kind.EXCHANGE, exchange="coinbase")
    api_key = factory.LazyFunction(lambda: Secret("key-of-nobody"))
    api_secret = factory.LazyFunction(lambda: Secret("secret-of-nobody"))


class VenueFundsFactory(_Factory):
    """What an exchange account's venue said just now, with fees of 0.4 and 0.6 %."""

    class Meta:
        model = VenueFunds

    account = factory.SubFactory(AccountFactory, kind=Account.Kind.EXCHANGE, exchange="coinbase")
    asked_at = factory.LazyFunction(clock.now)
    fees_asked_at = factory.LazyFunction(clock.now)
    maker_fee = Decimal("0.004")
    taker_fee = Decimal("0.006")


class VenueBalanceFactory(_Factory):
    class Meta:
        model = VenueBalance

    account = factory.SubFactory(AccountFactory, kind=Account.Kind.EXCHANGE, exchange="coinbase")
    currency = "USD"
    total = Decimal(1000)


class PropGuardRulesFactory(_Factory):
    """A guard that is on, with the usual limits."""

    class Meta:
        model = PropGuardRules

    account = factory.SubFactory(AccountFactory)
    enabled = True


class PropGuardStateFactory(_Factory):
    """An account that was just worth 100,000, as when its day began."""

    class Meta:
        model = PropGuardState

    account = factory.SubFactory(AccountFactory)
    last_equity = Decimal(100_000)
    last_equity_at = factory.LazyFunction(clock.now)
    day_start_equity = factory.SelfAttribute("last_equity")
    day_began_at = factory.LazyFunction(lambda: day_start(clock.now(), time(17), ZoneInfo("America/New_York")))
    day_measured_at = factory.SelfAttribute("day_began_at")


class PropGuardEventFactory(_Factory):
    class Meta:
        model = PropGuardEvent

    account = factory.SubFactory(AccountFactory)
    kind = PropGuardEvent.Kind.RULES
    message = "The guard is on."
    actor = "system"


class EquitySnapshotFactory(_Factory):
    class Meta:
        model = EquitySnapshot

    account = factory.SubFactory(AccountFactory)
    at = factory.LazyFunction(clock.now)
    equity = Decimal(100_000)
    currency = "USD"


class AutoBuyRuleFactory(_Factory):
    """A rule that is on: BTC with 50 USD or more, at market."""

    class Meta:
        model = AutoBuyRule

    account = factory.SubFactory(AccountFactory)
    currency = "USD"
    enabled = True


class TransferFactory(_Factory):
    """A deposit of dollars that a venue told of."""

    class Meta:
        model = Transfer

    account = factory.SubFactory(AccountFactory)
    external_id = factory.Sequence(lambda n: f"transfer-{n}")
    currency = "USD"
    amount = Decimal(1000)
    at = factory.LazyFunction(clock.now)
    counted_at = factory.SelfAttribute("at")
    value_usd = factory.LazyAttribute(lambda o: o.amount if o.currency == "USD" else None)
    source = Transfer.Source.VENUE


class ValueSnapshotFactory(_Factory):
    """What an account was worth today; ``date`` follows ``taken_at``."""

    class Meta:
        model = ValueSnapshot

    account = factory.SubFactory(AccountFactory)
    taken_at = factory.LazyFunction(clock.now)
    date = factory.LazyAttribute(lambda o: o.taken_at.date())
    value_usd = Decimal(1000)
    value_btc = Decimal("0.02")
    by_currency = factory.LazyAttribute(lambda o: {"USD": {"total": str(o.value_usd), "usd": str(o.value_usd)}})


class LeftOutFactory(_Factory):
    class Meta:
        model = LeftOut

    account = factory.SubFactory(AccountFactory)
    currency = factory.Sequence(lambda n: f"DUST{n}")


class PaperTermsFactory(_Factory):
    """Fees and slippage in percent; the defaults are the model's."""

    class Meta:
        model = PaperTerms

    account = factory.SubFactory(AccountFactory)


class PaperBalanceFactory(_Factory):
    """A bare balance without entries; :func:`fund` makes both."""

    class Meta:
        model = PaperBalance

    account = factory.SubFactory(AccountFactory)
    currency = "USD"
    total = Decimal(1000)


class PaperOrderFactory(_Factory):
    """A resting buy in the paper venue's book. It claims no balance: tests of holds place orders through the venue."""

    class Meta:
        model = PaperOrder

    account = factory.SubFactory(AccountFactory)
    client_order_id = factory.LazyFunction(uuid.uuid4)
    symbol = "BTC-USD"
    base_currency = factory.LazyAttribute(lambda o: o.symbol.split("-")[0])
    quote_currency = factory.LazyAttribute(lambda o: o.symbol.split("-")[1])
    side = Side.BUY
    order_type = OrderType.LIMIT
    base_size = Decimal("0.01")
    limit_price = Decimal(50_000)
    status = OrderStatus.OPEN


class PaperTradeFactory(_Factory):
    class Meta:
        model = PaperTrade

    order = factory.SubFactory(PaperOrderFactory)
    account = factory.SelfAttribute("order.account")
    price = Decimal(50_000)
    base = Decimal("0.01")
    quote = factory.LazyAttribute(lambda o: o.price * o.base)
    fee = factory.LazyAttribute(lambda o: o.quote * Decimal("0.006"))
    fee_currency = factory.SelfAttribute("order.quote_currency")


class PaperPerpFactory(_Factory):
    """A long of 1 at 100 with twice its margin's value. It claims no balance: tests of margins place orders."""

    class Meta:
        model = PaperPerp

    account = factory.SubFactory(AccountFactory)
    symbol = "BTC-USD-PERP"
    quote_currency = "USD"
    base = Decimal(1)
    entry_quote = Decimal(100)
    leverage = 2
    margin = Decimal(50)
    maintenance_pct = Decimal(2)
    funding_hours = 8
    price_increment = Decimal("0.01")


class PerpsSettingsFactory(_Factory):
    class Meta:
        model = PerpsSettings

    account = factory.SubFactory(AccountFactory)
    enabled = True


class PaperEntryFactory(_Factory):
    class Meta:
        model = PaperEntry

    account = factory.SubFactory(AccountFactory)
    currency = "USD"
    kind = PaperEntry.Kind.DEPOSIT
    amount = Decimal(1000)
    balance_after = Decimal(1000)


# Market -------------------------------------------------------------------------------------------------------------


class ProductFactory(_Factory):
    """BTC-USD of the simulated market unless told otherwise; the same pair twice gives the same row."""

    class Meta:
        model = Product
        django_get_or_create = ("exchange", "symbol")

    exchange = "simulated"
    symbol = "BTC-USD"
    base = factory.LazyAttribute(lambda o: o.symbol.split("-")[0])
    quote = factory.LazyAttribute(lambda o: o.symbol.split("-")[1])
    price_increment = Decimal("0.01")
    base_increment = Decimal("0.00000001")
    quote_increment = Decimal("0.01")
    min_base = Decimal("0.00000001")
    min_quote = Decimal(1)


class CandleFactory(_Factory):
    class Meta:
        model = Candle

    product = factory.SubFactory(ProductFactory)
    timeframe = "1m"
    time = factory.Sequence(lambda n: 1_700_000_040 + 60 * n)
    open = 100.0
    high = factory.LazyAttribute(lambda o: max(o.open, o.close))
    low = factory.LazyAttribute(lambda o: min(o.open, o.close))
    close = 100.0
    volume = 10.0


class CandleSeriesFactory(_Factory):
    class Meta:
        model = CandleSeries

    product = factory.SubFactory(ProductFactory)
    timeframe = "1m"
    start = 1_700_000_040
    end = 1_700_000_040


# Bots ---------------------------------------------------------------------------------------------------------------


class BotFactory(_Factory):
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


class BotProductFactory(_Factory):
    class Meta:
        model = BotProduct

    bot = factory.SubFactory(BotFactory)
    product = factory.SubFactory(ProductFactory)


class BotTemplateFactory(_Factory):
    class Meta:
        model = BotTemplate

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda n: f"Template {n}")


class CoinReviewFactory(_Factory):
    class Meta:
        model = CoinReview

    owner = factory.SubFactory(UserFactory)
    code = "BTC"
    category = "approved"


class DecisionFactory(_Factory):
    class Meta:
        model = Decision

    bot = factory.SubFactory(BotFactory)
    account = factory.SelfAttribute("bot.account")
    product = factory.SubFactory(ProductFactory)
    phase = "open"
    action = "none"
    code = "tree_false"
    message = "RSI is 42, not below 30"


class SignalHookFactory(_Factory):
    """A hook that a secret opens if one knew what ``secret_digest`` is of: ``bots.signals.hooks.digest_of("…")``."""

    class Meta:
        model = SignalHook

    bot = factory.SubFactory(BotFactory)
    secret_digest = "0" * 64
    secret_made_at = factory.LazyFunction(clock.now)


class SignalFactory(_Factory):
    """An accepted alert about all of the bot's pairs, received now."""

    class Meta:
        model = Signal

    bot = factory.SubFactory(BotFactory)
    kind = "webhook"
    source = "hook"
    verdict = "accepted"


class AutoBuyDecisionFactory(_Factory):
    class Meta:
        model = AutoBuyDecision

    rule = factory.SubFactory(AutoBuyRuleFactory)
    account = factory.SelfAttribute("rule.account")
    code = "auto_buy_below_minimum"
    message = "12 USD may be spent, the minimum is 50."


class ReplayRunFactory(_Factory):
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


class BacktestFactory(_Factory):
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


class BacktestDealFactory(_Factory):
    class Meta:
        model = BacktestDeal

    backtest = factory.SubFactory(BacktestFactory, status="finished")
    number = factory.Sequence(lambda n: n + 1)
    symbol = "BTC-USD"
    direction = Direction.LONG
    opened_at = factory.LazyFunction(clock.now)


class SweepFactory(_Factory):
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


class SweepPointFactory(_Factory):
    class Meta:
        model = SweepPoint

    sweep = factory.SubFactory(SweepFactory)
    number = factory.Sequence(lambda n: n)
    values = {"take_profit": 1}


class HistoryDownloadFactory(_Factory):
    class Meta:
        model = HistoryDownload

    owner = factory.SubFactory(UserFactory)
    product = factory.SubFactory(ProductFactory)
    timeframe = "1m"
    start = 1_700_000_040
    end = 1_700_003_640
    cursor = 1_700_000_040


# Deals --------------------------------------------------------------------------------------------------------------


class UserCounterFactory(_Factory):
    class Meta:
        model = UserCounter

    user = factory.SubFactory(UserFactory)


class PositionFactory(_Factory):
    """A pending deal; with ``open=True`` an open one, with ``closed=True`` a closed one, both without fills."""

    class Meta:
        model = Position

    class Params:
        open = factory.Trait(
            status=PositionStatus.OPEN,
            opened_at=factory.LazyFunction(clock.now),
            deal_number=factory.SelfAttribute("attempt_number"),
        )
        closed = factory.Trait(
            status=PositionStatus.CLOSED,
            opened_at=factory.LazyFunction(clock.now),
            closed_at=factory.LazyFunction(clock.now),
            deal_number=factory.SelfAttribute("attempt_number"),
        )

    bot = factory.SubFactory(BotFactory)
    account = factory.SelfAttribute("bot.account")
    bot_name = factory.LazyAttribute(lambda o: o.bot.name if o.bot else "")
    created_by = factory.LazyAttribute(lambda o: o.account.owner)
    product = factory.SubFactory(ProductFactory)
    direction = Direction.LONG
    attempt_number = factory.Sequence(lambda n: n + 1)
    slot = factory.Sequence(lambda n: n)
    budget_quote = Decimal(100)


class OrderFactory(_Factory):
    """A submitted market buy of the deal's base order."""

    class Meta:
        model = Order

    position = factory.SubFactory(PositionFactory)
    account = factory.SelfAttribute("position.account")
    purpose = Purpose.BASE_ORDER
    sequence = factory.Sequence(lambda n: n + 1)
    client_order_id = factory.LazyAttribute(lambda o: uuid.uuid5(o.position.uid, f"{o.purpose}:{o.sequence}"))
    side = factory.LazyAttribute(lambda o: side_of(Direction(o.position.direction), Purpose(o.purpose)))
    order_type = OrderType.MARKET
    quote_size = factory.LazyAttribute(lambda o: Decimal(100) if o.side == Side.BUY and not o.base_size else None)
    base_size = factory.LazyAttribute(lambda o: Decimal("0.001") if o.side == Side.SELL else None)
    status = OrderStatus.SUBMITTED
    submitted_at = factory.LazyFunction(clock.now)


class FillFactory(_Factory):
    class Meta:
        model = Fill

    order = factory.SubFactory(OrderFactory, status=OrderStatus.FILLED, finished_at=factory.LazyFunction(clock.now))
    position = factory.SelfAttribute("order.position")
    account = factory.SelfAttribute("order.account")
    venue_trade_id = factory.LazyFunction(lambda: str(uuid.uuid4()))
    side = factory.SelfAttribute("order.side")
    price = Decimal(50_000)
    base = Decimal("0.002")
    quote = factory.LazyAttribute(lambda o: o.price * o.base)
    fee = factory.LazyAttribute(lambda o: o.quote * Decimal("0.006"))
    fee_currency = factory.LazyAttribute(lambda o: o.position.product.quote)
    at = factory.LazyFunction(clock.now)


class PerpsTermsFactory(_Factory):
    """Three times the margin of an open deal in the simulated market's perpetual."""

    class Meta:
        model = PerpsTerms

    product = factory.SubFactory(ProductFactory, symbol="BTC-USD-PERP", kind="perpetual")
    position = factory.SubFactory(
        PositionFactory,
        product=factory.SelfAttribute("..product"),
        bot=None,
        account=factory.SubFactory(AccountFactory),
        strategy="perpetual",
        open=True,
    )
    account = factory.SelfAttribute("position.account")
    leverage = 3
    margin_mode = "isolated"


class BracketFactory(_Factory):
    class Meta:
        model = Bracket

    position = factory.SelfAttribute("terms.position")
    account = factory.SelfAttribute("position.account")

    class Params:
        terms = factory.SubFactory(PerpsTermsFactory)


class FundingPaymentFactory(_Factory):
    class Meta:
        model = FundingPayment

    position = factory.SelfAttribute("terms.position")
    account = factory.SelfAttribute("position.account")
    venue_id = factory.Sequence(lambda n: f"funding-{n}")
    amount = Decimal("-0.5")
    at = factory.LazyFunction(clock.now)

    class Params:
        terms = factory.SubFactory(PerpsTermsFactory)


class UnmatchedFillFactory(_Factory):
    class Meta:
        model = UnmatchedFill

    account = factory.SubFactory(AccountFactory)
    venue_trade_id = factory.LazyFunction(lambda: str(uuid.uuid4()))
    symbol = "BTC-USD"
    side = Side.BUY
    price = Decimal(50_000)
    base = Decimal("0.01")
    at = factory.LazyFunction(clock.now)


# Operation ----------------------------------------------------------------------------------------------------------


class EventFactory(_Factory):
    class Meta:
        model = Event

    user = factory.SubFactory(UserFactory)
    kind = Event.Kind.NOTIFICATION
    payload = factory.LazyFunction(lambda: {"text": "something happened"})


class AuditEntryFactory(_Factory):
    class Meta:
        model = AuditEntry

    user = factory.SubFactory(UserFactory)
    actor = factory.LazyAttribute(lambda o: o.user.email if o.user else "system")
    action = "tested"
    target = "something"


class ActionKeyFactory(_Factory):
    class Meta:
        model = ActionKey

    user = factory.SubFactory(UserFactory)
    route = "/somewhere/"
    key = factory.Sequence(lambda number: f"key-{number}")
    digest = "0" * 64
    claim = factory.LazyFunction(uuid.uuid4)
    lease_until = factory.LazyFunction(clock.now)
    finished_at = factory.LazyFunction(clock.now)
    status = 200
    answer = factory.LazyFunction(lambda: {"body": "done", "type": "text/plain"})


class DayMarkFactory(_Factory):
    """A day that began with nothing earned."""

    class Meta:
        model = DayMark

    account = factory.SubFactory(AccountFactory)
    at = factory.LazyFunction(clock.now)
    day = factory.LazyAttribute(lambda o: o.at.date())
    latest_at = factory.SelfAttribute("at")


class PanicRunFactory(_Factory):
    """A panic sale under way; ``finished=True`` makes one that has ended well."""

    class Meta:
        model = PanicRun

    class Params:
        finished = factory.Trait(
            status="finished", finished_at=factory.LazyFunction(clock.now), orders_left=0, deals_left=0
        )

    account = factory.SubFactory(AccountFactory)
    actor = factory.SelfAttribute("account.owner.email")


class PanicStepFactory(_Factory):
    """A deal that is closed."""

    class Meta:
        model = PanicStep

    run = factory.SubFactory(PanicRunFactory)
    account = factory.SelfAttribute("run.account")
    kind = "sell"
    state = "done"
    what = "BTC-USD"
