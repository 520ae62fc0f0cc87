"""The venues of the contract suite, each with handles on what lies outside of us: its market, its money, its clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import uuid4

from accounts.exchanges.base import NewOrder, OrderRef, OrderReport
from accounts.exchanges.factory import venue_of
from accounts.exchanges.paper import match_resting
from accounts.models import Account
from tests.accounts import helpers
from tests.accounts.live import fake_venue, live_account, unhurried
from tests.venue.coinbase_shapes import read_ask
from tests.venue.model import Ask
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account
from tradebot.core.words import OrderType, Side

START = {"quote": Decimal(10_000), "base": Decimal(1)}


class World(Protocol):
    """One venue with an account on it that holds 10,000 quote and 1 base, at a price of 60,000."""

    account: Account
    symbol: str
    fills_in_part: bool
    knows_strangers: bool

    def venue(self) -> Any:
        """Return the account's venue."""

    def fill(self, report: OrderReport, order: NewOrder, base: Decimal) -> None:
        """Let ``base`` of a resting order be filled at its limit, or all where the market has no parts."""

    def stranger(self) -> None:
        """Let somebody place a resting order of this account's at the venue, without us."""

    def pass_time(self, delta: timedelta) -> Any:
        """Return a context in which so much more time has passed."""


@dataclass
class PaperWorld:
    """A paper account on a live market."""

    account: Account
    symbol: str = "BTC-USD"
    fills_in_part: bool = False
    knows_strangers: bool = False

    def venue(self) -> Any:
        return venue_of(self.account)

    def fill(self, report: OrderReport, order: NewOrder, base: Decimal) -> None:
        assert order.limit_price is not None
        price = order.limit_price
        away = Decimal(10) if order.side is Side.BUY else Decimal(-10)
        bid, ask = sorted((price - away, price - 2 * away))
        helpers.price(str(bid), str(ask))
        match_resting(helpers.LIVE, clock.now(), [self.account.pk])
        helpers.price("60000", "60000.01")

    def stranger(self) -> None:
        raise AssertionError("nobody else reaches a paper account")

    @contextmanager
    def pass_time(self, delta: timedelta) -> Iterator[None]:
        with clock.at(clock.now() + delta):
            helpers.price("60000", "60000.01")
            match_resting(helpers.LIVE, clock.now(), [self.account.pk])
            yield


@dataclass
class FakeWorld:
    """An exchange account on the fake venue."""

    fake: FakeVenue
    account: Account
    symbol: str
    fills_in_part: bool = True
    knows_strangers: bool = True

    def venue(self) -> Any:
        return venue_of(self.account)

    def fill(self, report: OrderReport, order: NewOrder, base: Decimal) -> None:
        row = self.fake.control.order(str(order.client_order_id))
        assert row is not None
        self.fake.control.fill(row["order_id"], str(base))

    def stranger(self) -> None:
        body = {
            "client_order_id": "by-hand",
            "product_id": self.symbol,
            "side": "BUY",
            "order_configuration": {"limit_limit_gtc": {"base_size": "0.001", "limit_price": "40000"}},
        }
        ask: Ask = read_ask(body)
        self.fake.engine.place("ann", ask)

    @contextmanager
    def pass_time(self, delta: timedelta) -> Iterator[None]:
        self.fake.control.shift_time(delta.total_seconds())
        yield


@contextmanager
def world_of(name: str) -> Iterator[World]:
    """Open a world: ``paper``, ``coinbase``, ``binance`` or ``bybit``, with its account's scope bound."""
    with ExitStack() as stack:
        world: World
        if name == "paper":
            helpers.live_product()
            helpers.price("60000", "60000.01")
            world = PaperWorld(helpers.live_account(USD=START["quote"], BTC=START["base"]))
        else:
            fake = stack.enter_context(fake_venue())
            symbol = {"coinbase": "BTC-USD"}.get(name, "BTC-USDT")
            algorithm = {"coinbase": "ES256"}.get(name, "HMAC")
            wallets = {symbol.partition("-")[2]: START["quote"], "BTC": START["base"]}
            key = fake.add_account("ann", wallets, algorithm=algorithm)
            world = FakeWorld(fake, live_account(key, name), symbol)
            unhurried(world.account, fake.url)
        stack.enter_context(acting_for_account(world.account.pk))
        yield world


def order(world: World, side: Side, **fields: Any) -> NewOrder:
    """Return an order on the world's product; a limit order if it has a limit price."""
    kind = OrderType.LIMIT if "limit_price" in fields else OrderType.MARKET
    return NewOrder(fields.pop("client_order_id", None) or uuid4(), world.symbol, side, kind, **fields)


def ref(of: NewOrder, report: OrderReport | None = None) -> OrderRef:
    """Return what identifies the order, with the venue's id if a report gives it."""
    return OrderRef(of.client_order_id, of.symbol, report.venue_order_id if report else "", clock.now())
