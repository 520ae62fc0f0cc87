"""The venues of the perpetuals' contract: a price, funding and liquidation are the test's to say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol
from uuid import uuid4

from accounts.exchanges import paper_settlement
from accounts.exchanges.base import NewOrder, PerpsVenue, perps_of
from accounts.exchanges.factory import venue_of
from accounts.exchanges.paper import match_resting
from accounts.models import Account
from tests.accounts import helpers
from tests.accounts.live import fake_venue, live_account, unhurried
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account
from tradebot.core.words import MarginMode, OrderType, Side

START = Decimal(10_000)
TICK = Decimal("0.1")


class PerpsWorld(Protocol):
    """A venue with an account of 10,000 quote on it, and a perpetual in BTC that stands at 60,000."""

    account: Account
    symbol: str
    pays_funding: bool
    too_little: Decimal
    """A size on the steps of the perpetual that is below its smallest order."""

    def stand_at(self, price: int) -> None:
        """Let the perpetual's best bid be there, and the best ask a tenth above; orders it reaches are filled."""

    def liquidate(self, price: int) -> None:
        """Let the account's position be liquidated, at this price where a price can be said."""

    def fund(self, rate: str) -> None:
        """Let funding be paid now."""


def venue_in(world: PerpsWorld) -> PerpsVenue:
    return perps_of(venue_of(world.account))


@dataclass
class PaperPerpsWorld:
    """A paper account; its funding comes with the clock of the simulated market and is tested there."""

    account: Account
    symbol: str = "BTC-USD-PERP"
    pays_funding: bool = False
    too_little: Decimal = Decimal("0.00001")

    def stand_at(self, price: int) -> None:
        helpers.price(str(price), str(price + TICK), self.symbol)
        match_resting(helpers.LIVE, clock.now(), [self.account.pk])

    def liquidate(self, price: int) -> None:
        self.stand_at(price)
        paper_settlement.settle(helpers.LIVE, clock.now())

    def fund(self, rate: str) -> None:
        raise AssertionError("not here")


@dataclass
class FakePerpsWorld:
    """An exchange account on the fake venue."""

    fake: FakeVenue
    account: Account
    symbol: str = "BTC-USDT-PERP"
    pays_funding: bool = True
    too_little: Decimal = Decimal("0.001")

    def stand_at(self, price: int) -> None:
        self.fake.control.set_price(self.symbol, str(price))

    def liquidate(self, price: int) -> None:
        self.fake.control.set_price(self.symbol, str(price))
        self.fake.control.liquidate("ann", self.symbol, str(price))

    def fund(self, rate: str) -> None:
        self.fake.control.fund(self.symbol, rate)


@contextmanager
def perps_world_of(name: str) -> Iterator[PerpsWorld]:
    """Open a world: ``paper`` or ``bybit``, with its account's scope bound."""
    with ExitStack() as stack:
        world: PerpsWorld
        if name == "paper":
            helpers.live_product("BTC-USD-PERP", kind="perpetual", max_leverage=10, funding_hours=8)
            world = PaperPerpsWorld(helpers.live_account(USD=START))
        else:
            fake = stack.enter_context(fake_venue())
            key = fake.add_account("ann", {"USDT": START}, algorithm="HMAC")
            fake.contracts.contracts["BTC-USDT-PERP"].quote_min_size = Decimal(100)
            world = FakePerpsWorld(fake, live_account(key, name))
            unhurried(world.account, fake.url)
        stack.enter_context(acting_for_account(world.account.pk))
        world.stand_at(60_000)
        yield world


def opening(world: PerpsWorld, side: Side, base: str, **fields: Any) -> NewOrder:
    """Return an order that opens a position: at market, five times, isolated unless told otherwise."""
    given = {"leverage": 5, "margin_mode": MarginMode.ISOLATED, **fields}
    return _order(world, side, base, given)


def reducing(world: PerpsWorld, side: Side, base: str, **fields: Any) -> NewOrder:
    """Return an order that only reduces."""
    return _order(world, side, base, {"reduce_only": True, **fields})


def _order(world: PerpsWorld, side: Side, base: str, fields: dict[str, Any]) -> NewOrder:
    kind = OrderType.LIMIT if "limit_price" in fields else OrderType.MARKET
    return NewOrder(uuid4(), world.symbol, side, kind, Decimal(base), **fields)
