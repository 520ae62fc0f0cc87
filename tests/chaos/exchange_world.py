"""The people, accounts and bots that trade at the fake venue while chaos reigns, and one life of a worker.

A worker does what the server's loops do, one after the other: prices, resting orders, reconciliation, the cycle, and
now and then what a person does at a page. Time passes at :data:`SPEED` times the machine's, at the venue as well, and
jumps between lives, so that grace periods and leases end.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from tests.venue.control import RemoteVenue
from tests.venue.server import FakeVenue
from tradebot.core import clock

SPEED: Final = 4.0
CYCLE_SECONDS: Final = 2
PRICES: Final = {"AAA-USD": "100", "BBB-USD": "20", "CCC-USD": "5", "DDD-USD": "1500", "EEE-USD": "0.75"}
PEOPLE: Final = {"anna": 2, "ben": 1, "carl": 1}
"""Who has how many accounts at the venue."""
BOTS_PER_ACCOUNT: Final = 6
START_USD: Final = "20000"
LADDER: Final[dict[str, Any]] = {
    "base_order_type": "fixed",
    "base_order_size": "60",
    "max_safety_orders": 3,
    "safety_order_type": "fixed",
    "safety_order_size": "60",
    "price_deviation": "0.6",
    "max_active_deals": 3,
    "take_profit": "0.5",
}
SETTINGS: Final[tuple[dict[str, Any], ...]] = (
    LADDER,
    {**LADDER, "safety_order_execution": "limit", "take_profit_execution": "limit"},
    {**LADDER, "base_order_execution": "limit", "limit_timeout_seconds": 120, "take_profit_execution": "limit"},
    {**LADDER, "take_profit_mode": "trailing", "trailing_deviation": "0.2", "stop_loss": "3"},
    {
        **LADDER,
        "take_profit_execution": "limit",
        "safety_order_execution": "limit",
        "take_profit_steps": [
            {"profit_pct": "0.4", "share_pct": "50"},
            {"profit_pct": "0.9", "share_pct": "50"},
        ],
    },
    {**LADDER, "max_safety_orders": 0, "take_profit": "2", "trailing_stop": "0.8", "stop_loss": "1.5"},
    {**LADDER, "max_active_deals": 2, "safety_order_execution": "limit", "take_profit": "1.2", "stop_loss": "2"},
)
PERSON: Final = "person@example.com"


@dataclass(frozen=True)
class Time:
    """How the market's time passes: it was ``market`` (Unix seconds) at ``real``."""

    real: float
    market: float

    def now(self) -> datetime:
        """Return the market's time now."""
        return datetime.fromtimestamp(self.market + (time.time() - self.real) * SPEED, UTC)

    def jumped(self, seconds: float) -> Time:
        """Return the same clock, moved forward by so many of its seconds."""
        return Time(time.time(), self.now().timestamp() + seconds)


def open_venue(seed: int) -> FakeVenue:
    """Return a venue with the products of the chaos world and nobody at it."""
    venue = FakeVenue(seed=seed, products=False)
    for symbol, price in PRICES.items():
        venue.engine.add_product(
            symbol, price, price_increment="0.0001", base_increment="0.0001", quote_increment="0.01"
        )
    return venue


def populate(remote: RemoteVenue, *, accounts: int | None = None, bots: int = BOTS_PER_ACCOUNT) -> None:
    """Make the tables' first rows: people, their accounts with keys at the venue, and bots that run.

    ``accounts`` limits it to so many people with one account each.
    """
    from accounts.models import Account, ExchangeCredential, User
    from bots.models import Bot, BotProduct
    from bots.strategies import get_strategy
    from marketdata.models import Product
    from tradebot.core.crypto import Secret
    from tradebot.core.models import GlobalSettings
    from tradebot.core.scoping import detached

    products = [
        Product.objects.create(
            exchange="coinbase",
            symbol=symbol,
            base=symbol.split("-")[0],
            quote="USD",
            price_increment=Decimal("0.0001"),
            base_increment=Decimal("0.0001"),
            quote_increment=Decimal("0.01"),
            min_base=Decimal("0.0001"),
            min_quote=Decimal(1),
        )
        for symbol in PRICES
    ]
    globals_ = GlobalSettings.load()
    globals_.cycle_seconds = CYCLE_SECONDS
    globals_.save()
    strategy = get_strategy("indicator_dca")
    for person, count in list(PEOPLE.items())[:accounts]:
        user = User.objects.create_user(f"{person}@example.com")
        for number in range(count if accounts is None else 1):
            name = f"{person} {number}"
            key = remote.open_account(name, {"USD": START_USD})
            with detached("chaos makes its world"):
                account = Account.objects.create(
                    owner=user,
                    name=name,
                    kind=Account.Kind.EXCHANGE,
                    exchange="coinbase",
                    trading_state=Account.TradingState.ARMED,
                )
                ExchangeCredential.objects.create(
                    account=account, api_key=Secret(key["name"]), api_secret=Secret(key["secret"])
                )
                for index in range(bots):
                    bot = Bot.objects.create(
                        owner=user,
                        account=account,
                        name=f"{name} bot {index}",
                        quote_currency="USD",
                        strategy=strategy.name,
                        settings=strategy.settings_from_json(SETTINGS[(index + number) % len(SETTINGS)]).to_json(),
                        budget_kind="fixed",
                        budget_fixed=Decimal(2_000),
                        split_budget=False,
                        status=Bot.Status.RUNNING,
                        next_check_at=datetime(2020, 1, 1, tzinfo=UTC),
                    )
                    for product in products[index % 4 : index % 4 + 2]:
                        BotProduct.objects.create(bot=bot, product=product)


@dataclass(frozen=True)
class Life:
    """What one worker is to do: so many ticks, what a person does in between, drawn by ``seed``."""

    number: int
    seed: int
    ticks: int
    clock: Time


@contextmanager
def passing(time_of_market: Time) -> Iterator[None]:
    """Let our clock go as the market's does, in all threads of this process."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return time_of_market.now().astimezone(tz)

    before, clock.datetime = clock.datetime, Shifted  # type: ignore[misc, attr-defined]
    try:
        yield
    finally:
        clock.datetime = before  # type: ignore[misc, attr-defined]


def live(life: Life, remote: RemoteVenue, told: Callable[[str], None]) -> None:
    """Do the loops' work for some ticks. Only an error that no loop would survive gets out."""
    from bots import engine
    from positions import reconcile, strangers

    rng = random.Random(life.seed)
    reconcile.settle_at_start()
    for number in range(life.ticks):
        remember_prices(remote)
        if number % 2 == 0:
            refresh_balances()
        reconcile.monitor_resting()
        reconcile.reconcile_all()
        engine.dispatch(lambda chunk: engine.run_chunk(chunk))
        if rng.random() < 0.5:
            told(by_hand(rng))
        if rng.random() < 0.3:
            strangers.report_all_strangers()


def refresh_balances() -> None:
    """Do what the balance loop does."""
    from positions import strangers, tasks

    for account_id in strangers.accounts_to_compare():
        tasks.refresh_account(account_id)


def remember_prices(remote: RemoteVenue) -> None:
    """Do what the price loop does, with the venue's prices in one request."""
    from marketdata import prices
    from marketdata.sources.base import Quote

    found = remote.prices()
    prices.remember(
        "coinbase",
        [
            Quote(symbol, Decimal(bid), Decimal(ask), Decimal(last), clock.now(), 1e6, 0.0)
            for symbol, (bid, ask, last) in found.items()
            if bid != "0" and ask != "0"
        ],
    )


def by_hand(rng: random.Random) -> str:
    """Do what somebody may do at a deal's page; what is refused is refused."""
    from positions import limit_close, manual
    from positions.models import Position
    from tradebot.core.errors import TradebotError
    from tradebot.core.scoping import acting_for_account, all_accounts

    with all_accounts("chaos picks a deal"):
        open_deals = list(Position.objects.filter(status__in=("open", "closing")).values_list("pk", "account_id"))
    if not open_deals:
        return "nothing by hand"
    pk, account_id = rng.choice(open_deals)
    what = rng.choice(["close", "part", "limit", "change", "withdraw", "give up"])
    with acting_for_account(account_id), contextlib.suppress(TradebotError):
        deal = Position.objects.select_related("product", "account").get(pk=pk)
        if what == "close":
            manual.close_at_market(deal, PERSON)
        elif what == "part":
            manual.close_at_market(deal, PERSON, share_pct=Decimal(40))
        elif what == "limit":
            price = (deal.average_price or Decimal(1)) * Decimal("1.004")
            limit_close.place(deal, PERSON, price.quantize(deal.product.price_increment))
        elif what == "change":
            price = (deal.average_price or Decimal(1)) * Decimal("1.002")
            limit_close.change(deal, PERSON, price=price.quantize(deal.product.price_increment))
        elif what == "withdraw":
            limit_close.cancel(deal, PERSON)
        else:
            manual.cancel_deal(deal, PERSON)
    return what
