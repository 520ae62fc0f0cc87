"""A trader's desk: an account with money, a running bot and a pair, at a moment that only tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from accounts import balances
from accounts.access import acting_for
from accounts.exchanges import factory as exchanges
from accounts.models import Account
from bots.models import Bot
from marketdata import prices
from marketdata.models import Product
from marketdata.sources.base import Quote
from notifications.models import Event
from positions import execution
from positions.execution import Intent
from positions.models import Order, Position
from positions.states import Direction, OrderType, Purpose
from tests.factories import AccountFactory, BotFactory, ProductFactory
from tests.positions.outside import OutsideVenue
from tradebot.core import clock
from tradebot.core.errors import TradebotError
from tradebot.core.scoping import acting_for_account

MOMENT = datetime(2026, 3, 2, 12, 0, 20, tzinfo=UTC)


@dataclass
class Desk:
    """Everything a deal needs, and short ways to make one."""

    account: Account
    bot: Bot
    product: Product
    venue: OutsideVenue | None = None

    def intend_open(self, quote: str | Decimal = "100", **changes: Any) -> Order:
        """Write down a deal with a market base order of ``quote``."""
        self.ask()
        intent = changes.pop("intent", None) or Intent(
            purpose=Purpose.BASE_ORDER, sequence=1, quote_size=Decimal(quote), reference_price=self.price
        )
        values: dict[str, Any] = {
            "account": self.account,
            "bot": self.bot,
            "product": self.product,
            "direction": Direction.LONG,
            "frozen_settings": {"take_profit": "3"},
            "settings_version": 1,
            "strategy": "indicator_dca",
            "budget_quote": Decimal(1000),
            "max_active_deals": 1,
            "max_deals_per_pair": 1,
        }
        return execution.intend_open(**{**values, **changes}, intent=intent)

    def open(self, quote: str | Decimal = "100", **changes: Any) -> Position:
        """Open a deal at market."""
        order = execution.submit(self.intend_open(quote, **changes))
        return order.position

    def open_limit(self, base: str, price: str, **changes: Any) -> Order:
        """Open a deal with a limit base order."""
        intent = Intent(
            purpose=Purpose.BASE_ORDER,
            sequence=1,
            order_type=OrderType.LIMIT,
            base_size=Decimal(base),
            limit_price=Decimal(price),
        )
        return execution.submit(self.intend_open(intent=intent, **changes))

    def place(self, position: Position, purpose: Purpose, sequence: int = 1, **values: Any) -> Order:
        """Write down and submit an order of a deal."""
        self.ask()
        values.setdefault("reference_price", self.price)
        return execution.submit(execution.intend(position, Intent(purpose=purpose, sequence=sequence, **values)))

    def ask(self) -> None:
        """Ask the outside exchange what the account holds, as whoever acts does before."""
        with suppress(TradebotError):
            balances.refresh(self.account)

    @property
    def price(self) -> Decimal | None:
        """The outside exchange's price; None where there is a market to ask."""
        return None if self.venue is None else self.venue.price

    def tell(self, price: Decimal | int) -> None:
        """Let the outside exchange trade at ``price``, and our market data know it."""
        assert self.venue is not None
        self.venue.price = Decimal(price)
        told = Quote(self.product.symbol, self.venue.price, self.venue.price, self.venue.price, clock.now())
        prices.remember(self.product.exchange, [told])

    def events(self, kind: str | None = None) -> list[Event]:
        """The owner's events, oldest first."""
        with _outside_any_scope(self.account):
            rows = Event.objects.order_by("id")
            return list(rows if kind is None else rows.filter(kind=kind))


def _outside_any_scope(account: Account) -> Any:
    from tradebot.core.scoping import detached

    return detached(f"test looks at the events of {account.pk}")


@pytest.fixture
def moment() -> Iterator[datetime]:
    """The clock stands at one moment; ``clock.at`` moves it."""
    with clock.at(MOMENT):
        yield MOMENT


@pytest.fixture
def paper(db: None, moment: datetime) -> Iterator[Desk]:
    """A desk at the real paper venue on the simulated market."""
    account = AccountFactory(balances={"USD": 10_000, "BTC": "0.5"})
    desk = Desk(account, BotFactory(account=account, status=Bot.Status.RUNNING), ProductFactory())
    with acting_for_account(account.pk):
        yield desk


@pytest.fixture
def outside(db: None, moment: datetime) -> Iterator[Desk]:
    """A desk at an exchange outside of the process, which can be told to fail."""
    with desk_outside() as desk, acting_for_account(desk.account.pk):
        yield desk


@pytest.fixture
def quoted(db: None, moment: datetime) -> Iterator[Desk]:
    """A desk at such an exchange whose price of 100 our market data knows; ``quoted.tell(price)`` moves it."""
    with desk_outside("coinbase") as desk, acting_for_account(desk.account.pk):
        desk.tell(100)
        yield desk


class desk_outside:  # noqa: N801 (used like a function)
    """Make a desk at an outside exchange; its connection is taken out again at the end."""

    def __init__(self, exchange: str = "outside") -> None:
        self.exchange = exchange

    def __enter__(self) -> Desk:
        account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange=self.exchange)
        product = ProductFactory(
            exchange=self.exchange,
            symbol="BTC-USD",
            base_increment=Decimal("0.001"),
            min_base=Decimal("0.01"),
            min_quote=5,
        )
        venue = OutsideVenue(account.pk)
        venue.wallet = {"USD": Decimal(10_000)}
        exchanges.register(self.exchange, lambda _account: venue)
        return Desk(account, BotFactory(account=account, status=Bot.Status.RUNNING), product, venue)

    def __exit__(self, *_: object) -> None:
        exchanges.register(self.exchange, None)


@pytest.fixture
def as_owner(paper: Desk) -> Callable[[], Any]:
    """Act as the account's owner, as a page does."""
    return lambda: acting_for(paper.account.owner)


@pytest.fixture
def many_connections(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """A database that threads can use at once: SQLite in memory cannot, so there it becomes a file for this test."""
    if connection.vendor != "sqlite":
        yield
        return
    import sqlite3

    connection.ensure_connection()
    before, settings = connections["default"], connections.settings["default"]
    path = tmp_path / "threads.sqlite3"
    with closing(sqlite3.connect(path)) as copy:
        before.connection.backup(copy)
    connections.settings["default"] = {**settings, "NAME": str(path)}
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        connections["default"] = before
        connections.settings["default"] = settings
