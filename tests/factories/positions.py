"""Deals, their orders and fills, positions in perpetuals, marks of days."""

from __future__ import annotations

import uuid
from decimal import Decimal

import factory

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
from tests.factories.accounts import AccountFactory, UserFactory
from tests.factories.base import Factory
from tests.factories.bots import BotFactory
from tests.factories.marketdata import ProductFactory
from tradebot.core import clock
from tradebot.core.words import OrderStatus, OrderType, Side


class UserCounterFactory(Factory):
    class Meta:
        model = UserCounter

    user = factory.SubFactory(UserFactory)


class PositionFactory(Factory):
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


class OrderFactory(Factory):
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


class FillFactory(Factory):
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


class PerpsTermsFactory(Factory):
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


class BracketFactory(Factory):
    class Meta:
        model = Bracket

    position = factory.SelfAttribute("terms.position")
    account = factory.SelfAttribute("position.account")

    class Params:
        terms = factory.SubFactory(PerpsTermsFactory)


class FundingPaymentFactory(Factory):
    class Meta:
        model = FundingPayment

    position = factory.SelfAttribute("terms.position")
    account = factory.SelfAttribute("position.account")
    venue_id = factory.Sequence(lambda n: f"funding-{n}")
    amount = Decimal("-0.5")
    at = factory.LazyFunction(clock.now)

    class Params:
        terms = factory.SubFactory(PerpsTermsFactory)


class UnmatchedFillFactory(Factory):
    class Meta:
        model = UnmatchedFill

    account = factory.SubFactory(AccountFactory)
    venue_trade_id = factory.LazyFunction(lambda: str(uuid.uuid4()))
    symbol = "BTC-USD"
    side = Side.BUY
    price = Decimal(50_000)
    base = Decimal("0.01")
    at = factory.LazyFunction(clock.now)


class DayMarkFactory(Factory):
    """A day that began with nothing earned."""

    class Meta:
        model = DayMark

    account = factory.SubFactory(AccountFactory)
    at = factory.LazyFunction(clock.now)
    day = factory.LazyAttribute(lambda o: o.at.date())
    latest_at = factory.SelfAttribute("at")
