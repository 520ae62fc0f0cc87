"""What the tests of accounts share: prices under control, orders in few words, and the books' own rules."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from accounts.exchanges.base import NewOrder, OrderRef
from accounts.models import Account, PaperBalance, PaperEntry, PaperOrder
from marketdata import prices
from marketdata.models import Product
from marketdata.sources.base import Quote
from tests.factories import AccountFactory, PaperTermsFactory, ProductFactory
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.scoping import detached
from tradebot.core.words import OrderStatus, OrderType, Side

LIVE = "coinbase"
"""A market whose prices come from the cache, so that a test can set them. Nothing here ever asks the venue."""
WORKING = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)


def D(number: str | int) -> Decimal:  # noqa: N802 (short, as in the decimal module's own examples)
    return Decimal(number)


def live_account(slippage_pct: str = "0", fee_currency: str = "quote", **balances: Decimal | int | str) -> Account:
    """A paper account on the live market with maker 0.4 %, taker 0.6 % and these balances."""
    account = AccountFactory(exchange=LIVE, balances=balances)
    PaperTermsFactory(account=account, slippage_pct=D(slippage_pct), fee_currency=fee_currency)
    return account


def live_product(symbol: str = "BTC-USD", **terms: Any) -> Product:
    return ProductFactory(exchange=LIVE, symbol=symbol, **terms)


def price(bid: str | int, ask: str | int, symbol: str = "BTC-USD", at: datetime | None = None) -> None:
    """Let the live market stand at ``bid`` and ``ask``."""
    prices.remember(LIVE, [Quote(symbol, D(bid), D(ask), D(bid), at or clock.now())])


def buy(symbol: str = "BTC-USD", **order: Any) -> NewOrder:
    return _order(Side.BUY, symbol, order)


def sell(symbol: str = "BTC-USD", **order: Any) -> NewOrder:
    return _order(Side.SELL, symbol, order)


def _order(side: Side, symbol: str, given: dict[str, Any]) -> NewOrder:
    """Build an order; ``base``, ``quote`` and ``limit`` are short for the sizes and the price."""
    numbers = {
        name: D(given.pop(short)) if short in given else None
        for short, name in (("base", "base_size"), ("quote", "quote_size"), ("limit", "limit_price"))
    }
    order_type = OrderType.MARKET if numbers["limit_price"] is None else OrderType.LIMIT
    return NewOrder(given.pop("id", None) or uuid.uuid4(), symbol, side, order_type, **numbers, **given)


def ref(client_order_id: uuid.UUID) -> OrderRef:
    """What identifies an order to the paper venue."""
    return OrderRef(client_order_id, "BTC-USD")


def total(account: Account, currency: str) -> Decimal:
    with detached("test"):
        row = PaperBalance.objects.filter(account=account, currency=currency).first()
    return row.total if row else ZERO


def held(account: Account, currency: str) -> Decimal:
    with detached("test"):
        row = PaperBalance.objects.filter(account=account, currency=currency).first()
    return row.held if row else ZERO


def assert_books_agree(account: Account) -> None:
    """The rules that every paper account obeys at every moment."""
    with detached("test"):
        balances = {row.currency: row for row in PaperBalance.objects.filter(account=account)}
        entries = list(PaperEntry.objects.filter(account=account).order_by("pk"))
        orders = list(PaperOrder.objects.filter(account=account))
    sums: dict[str, Decimal] = {}
    for entry in entries:
        sums[entry.currency] = sums.get(entry.currency, ZERO) + entry.amount
        assert entry.balance_after == sums[entry.currency]
    holds: dict[str, Decimal] = {}
    for order in orders:
        if order.status in WORKING:
            currency = order.quote_currency if order.side == Side.BUY else order.base_currency
            holds[currency] = holds.get(currency, ZERO) + order.hold
        else:
            assert order.hold == ZERO
    for currency, row in balances.items():
        assert row.total == sums.get(currency, ZERO), currency
        assert row.held == holds.get(currency, ZERO), currency
        assert ZERO <= row.held <= row.total
    assert set(sums) <= set(balances)
