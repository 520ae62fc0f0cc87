"""Live accounts on the fake venue, for tests: an account with keys, and the venue that takes its orders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django.test import override_settings

from accounts.exchanges.base import NewOrder, OrderRef
from accounts.exchanges.factory import venue_of
from accounts.exchanges.limits import KeyLimiter
from accounts.models import Account
from marketdata.wire.venues import Allowance, Rate
from tests.factories import AccountFactory, ExchangeCredentialFactory
from tests.venue.keys import ApiKey
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.crypto import Secret
from tradebot.core.scoping import acting_for_account
from tradebot.core.words import OrderType, Side

D = Decimal
ADDRESSES = ("COINBASE_URL", "BINANCE_URL", "BYBIT_URL")
PLENTY = Allowance(Rate(10_000), Rate(10_000), Rate(10_000))
"""The venues' own limits would make the suite wait; ``test_limits`` is about those."""


def live_account(key: ApiKey, exchange: str = "coinbase", **fields: Any) -> Account:
    """Return an exchange account with this key."""
    account: Account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange=exchange, **fields)
    ExchangeCredentialFactory(account=account, api_key=Secret(key.name), api_secret=Secret(key.secret))
    return account


@contextmanager
def fake_venue(**settings: Any) -> Iterator[FakeVenue]:
    """Serve a fake venue that every exchange's address points at."""
    with FakeVenue() as venue, override_settings(**dict.fromkeys(ADDRESSES, venue.url), **settings):
        yield venue


def venue_for(account: Account) -> Any:
    """Return the account's venue, made in a scope of its own."""
    with acting_for_account(account.pk):
        return venue_of(account)


def unhurried(account: Account, url: str) -> Any:
    """Return the account's venue, at which requests need not wait for one another from now on."""
    venue = venue_for(account)
    venue.connection.limiter = KeyLimiter(url, "key", PLENTY)
    return venue


def buy(symbol: str = "BTC-USD", **fields: Any) -> NewOrder:
    """Return a buy: a market buy for 100 quote unless told otherwise."""
    return _order(symbol, Side.BUY, {"quote_size": D(100)}, fields)


def sell(symbol: str = "BTC-USD", **fields: Any) -> NewOrder:
    """Return a market sell of 0.001 base unless told otherwise."""
    return _order(symbol, Side.SELL, {"base_size": D("0.001")}, fields)


def _order(symbol: str, side: Side, usual: dict[str, Any], fields: dict[str, Any]) -> NewOrder:
    kind = OrderType.LIMIT if "limit_price" in fields else OrderType.MARKET
    sizes = {} if {"base_size", "quote_size"} & set(fields) else usual
    client_id: UUID = fields.pop("client_order_id", None) or uuid4()
    return NewOrder(client_id, symbol, side, kind, **sizes, **fields)


def ref_of(order: NewOrder, venue_order_id: str = "", sent_at: datetime | None = None) -> OrderRef:
    """Return what identifies an order; without the venue's id unless it is given."""
    return OrderRef(order.client_order_id, order.symbol, venue_order_id, sent_at or clock.now())
