"""People, their accounts and keys, guards and limits, what accounts are worth, and the paper book."""

from __future__ import annotations

import uuid
from datetime import time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import factory
from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import make_password

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
from positions.guard.rules import day_start
from tests.factories.base import Factory
from tradebot.core import clock
from tradebot.core.crypto import Secret
from tradebot.core.scoping import detached
from tradebot.core.words import OrderStatus, OrderType, Side

PASSWORD = "correct horse battery staple"


class UserFactory(Factory):
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


class ApiTokenFactory(Factory):
    """A token that programs could use if they knew what ``digest`` is of: ``accounts.tokens.digest_of("…")``."""

    class Meta:
        model = ApiToken

    user = factory.SubFactory(UserFactory)
    name = "API token"
    digest = factory.Sequence(lambda n: f"{n:064x}")
    prefix = "abcdefgh"


class AccountFactory(Factory):
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


class MembershipFactory(Factory):
    class Meta:
        model = Membership

    account = factory.SubFactory(AccountFactory)
    user = factory.SubFactory(UserFactory)
    role = Membership.Role.OBSERVER


class TradingLimitsFactory(Factory):
    """No limit is set unless told: ``daily_loss=100``."""

    class Meta:
        model = TradingLimits

    account = factory.SubFactory(AccountFactory)


class ExchangeCredentialFactory(Factory):
    class Meta:
        model = ExchangeCredential

    account = factory.SubFactory(AccountFactory, kind=Account.Kind.EXCHANGE, exchange="coinbase")
    api_key = factory.LazyFunction(lambda: Secret("key-of-nobody"))
    api_secret = factory.LazyFunction(lambda: Secret("secret-of-nobody"))


class VenueFundsFactory(Factory):
    """What an exchange account's venue said just now, with fees of 0.4 and 0.6 %."""

    class Meta:
        model = VenueFunds

    account = factory.SubFactory(AccountFactory, kind=Account.Kind.EXCHANGE, exchange="coinbase")
    asked_at = factory.LazyFunction(clock.now)
    fees_asked_at = factory.LazyFunction(clock.now)
    maker_fee = Decimal("0.004")
    taker_fee = Decimal("0.006")


class VenueBalanceFactory(Factory):
    class Meta:
        model = VenueBalance

    account = factory.SubFactory(AccountFactory, kind=Account.Kind.EXCHANGE, exchange="coinbase")
    currency = "USD"
    total = Decimal(1000)


class PerpsSettingsFactory(Factory):
    class Meta:
        model = PerpsSettings

    account = factory.SubFactory(AccountFactory)
    enabled = True


class PropGuardRulesFactory(Factory):
    """A guard that is on, with the usual limits."""

    class Meta:
        model = PropGuardRules

    account = factory.SubFactory(AccountFactory)
    enabled = True


class PropGuardStateFactory(Factory):
    """An account that was just worth 100,000, as when its day began."""

    class Meta:
        model = PropGuardState

    account = factory.SubFactory(AccountFactory)
    last_equity = Decimal(100_000)
    last_equity_at = factory.LazyFunction(clock.now)
    day_start_equity = factory.SelfAttribute("last_equity")
    day_began_at = factory.LazyFunction(lambda: day_start(clock.now(), time(17), ZoneInfo("America/New_York")))
    day_measured_at = factory.SelfAttribute("day_began_at")


class PropGuardEventFactory(Factory):
    class Meta:
        model = PropGuardEvent

    account = factory.SubFactory(AccountFactory)
    kind = PropGuardEvent.Kind.RULES
    message = "The guard is on."
    actor = "system"


class EquitySnapshotFactory(Factory):
    class Meta:
        model = EquitySnapshot

    account = factory.SubFactory(AccountFactory)
    at = factory.LazyFunction(clock.now)
    equity = Decimal(100_000)
    currency = "USD"


class AutoBuyRuleFactory(Factory):
    """A rule that is on: BTC with 50 USD or more, at market."""

    class Meta:
        model = AutoBuyRule

    account = factory.SubFactory(AccountFactory)
    currency = "USD"
    enabled = True


class TransferFactory(Factory):
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


class ValueSnapshotFactory(Factory):
    """What an account was worth today; ``date`` follows ``taken_at``."""

    class Meta:
        model = ValueSnapshot

    account = factory.SubFactory(AccountFactory)
    taken_at = factory.LazyFunction(clock.now)
    date = factory.LazyAttribute(lambda o: o.taken_at.date())
    value_usd = Decimal(1000)
    value_btc = Decimal("0.02")
    by_currency = factory.LazyAttribute(lambda o: {"USD": {"total": str(o.value_usd), "usd": str(o.value_usd)}})


class LeftOutFactory(Factory):
    class Meta:
        model = LeftOut

    account = factory.SubFactory(AccountFactory)
    currency = factory.Sequence(lambda n: f"DUST{n}")


class PaperTermsFactory(Factory):
    """Fees and slippage in percent; the defaults are the model's."""

    class Meta:
        model = PaperTerms

    account = factory.SubFactory(AccountFactory)


class PaperBalanceFactory(Factory):
    """A bare balance without entries; :func:`fund` makes both."""

    class Meta:
        model = PaperBalance

    account = factory.SubFactory(AccountFactory)
    currency = "USD"
    total = Decimal(1000)


class PaperOrderFactory(Factory):
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


class PaperTradeFactory(Factory):
    class Meta:
        model = PaperTrade

    order = factory.SubFactory(PaperOrderFactory)
    account = factory.SelfAttribute("order.account")
    price = Decimal(50_000)
    base = Decimal("0.01")
    quote = factory.LazyAttribute(lambda o: o.price * o.base)
    fee = factory.LazyAttribute(lambda o: o.quote * Decimal("0.006"))
    fee_currency = factory.SelfAttribute("order.quote_currency")


class PaperPerpFactory(Factory):
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


class PaperEntryFactory(Factory):
    class Meta:
        model = PaperEntry

    account = factory.SubFactory(AccountFactory)
    currency = "USD"
    kind = PaperEntry.Kind.DEPOSIT
    amount = Decimal(1000)
    balance_after = Decimal(1000)
