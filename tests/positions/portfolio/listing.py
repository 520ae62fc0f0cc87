"""A real market whose price list a test writes itself: nobody is asked."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from django.core.cache import cache

from accounts.models import Account
from marketdata import pricelist
from tests.factories import AccountFactory, VenueBalanceFactory, VenueFundsFactory
from tradebot.core import clock

LIVE = "coinbase"


def listed(exchange: str = LIVE, **prices: str | int) -> None:
    """Let the market's list hold these prices now: ``listed(BTC_USD=50000)``."""
    rows = {symbol.replace("_", "-"): str(price) for symbol, price in prices.items()}
    cache.set(pricelist.key(exchange), json.dumps([clock.now().isoformat(), rows]))


def exchange_account(asked_at: Any = None, **balances: str | int | tuple[str | int, str | int]) -> Account:
    """An exchange account whose venue said just now, or at ``asked_at``, that it holds these totals (and what is held
    of them): ``exchange_account(BTC=("1.5", "0.5"))``."""
    account: Account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange=LIVE)
    VenueFundsFactory(account=account, asked_at=asked_at or clock.now())
    for currency, amount in balances.items():
        total, held = amount if isinstance(amount, tuple) else (amount, 0)
        VenueBalanceFactory(account=account, currency=currency, total=Decimal(total), held=Decimal(held))
    return account
