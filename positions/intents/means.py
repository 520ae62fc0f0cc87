"""What an order may take: the account's free money, less what orders and open deals have a claim on.

Unknown is not zero and not enough (F34). No venue is asked here, under the lock: what an exchange holds was asked for
before (``accounts.balances.refresh``) and is read from rows.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Final

from django.db.models import Q

from accounts.balances import Funds, funds_of
from accounts.models import Account
from marketdata import market
from marketdata.models import Product
from positions.models import Order, Position
from positions.reserves import spoken_for, unseen
from positions.states import EXIT_PURPOSES, POSITION_ACTIVE, WORKING, Direction
from tradebot.core.decimals import ZERO
from tradebot.core.errors import OrderRefused, TradebotError

__all__ = ["ENTRY_AGE", "are_older_than_fills", "free", "free_balance", "kept_for_deals", "known_funds", "unclaimed"]

ENTRY_AGE: Final = timedelta(seconds=30)
"""How old an exchange's word on the balances may be when money is to be spent: whoever acts has just asked."""


def known_funds(account: Account, max_age: timedelta | None = None) -> Funds:
    """Return what is known of the account's money. Raises OrderRefused (``balance_unknown``)."""
    try:
        return funds_of(account, max_age)
    except TradebotError as error:
        raise OrderRefused("balance_unknown", error.message) from error


def free_balance(account: Account, currency: str) -> Decimal:
    """Return what of ``currency`` is free: the venue's figure less what our orders took that it may not show yet.

    Raises OrderRefused (``balance_unknown``) when it is not known. A currency that is not listed is not held.
    """
    return free(known_funds(account), account, currency)


def free(funds: Funds, account: Account, currency: str) -> Decimal:
    """Return the same of funds that are known."""
    balance = funds.balances.get(currency)
    return (balance.free if balance is not None else ZERO) - unseen(account.pk, currency)


def unclaimed(account: Account, currency: str, max_age: timedelta | None = None) -> Decimal:
    """Return what of ``currency`` a new entry may take: what is free, less what open deals need, never below zero.

    Raises OrderRefused (``balance_unknown``) when either is not known.
    """
    funds = known_funds(account, max_age)
    return max(free(funds, account, currency) - kept_for_deals(account, currency, funds), ZERO)


def are_older_than_fills(funds: Funds, position: Position) -> bool:
    """Return whether the deal has traded since the balances were asked for: then they say nothing about its coins."""
    return funds.asked_at is not None and position.fills.filter(recorded_at__gt=funds.asked_at).exists()


def kept_for_deals(account: Account, currency: str, funds: Funds) -> Decimal:
    """Return what of ``currency`` the account's open deals need. Raises OrderRefused while a price is not known."""
    rows = Position.objects.filter(
        Q(direction=Direction.LONG, product__base=currency) | Q(direction=Direction.SHORT, product__quote=currency),
        account=account,
        status__in=POSITION_ACTIVE,
    ).exclude(product__kind=Product.Kind.PERPETUAL)
    positions = list(rows.select_related("product"))
    if not positions:
        return ZERO
    closes = Order.objects.filter(position__in=positions, status__in=WORKING, purpose__in=EXIT_PURPOSES)
    claimed: dict[int, Decimal] = {}
    for pk, amount in closes.values_list("position_id", "hold_amount"):
        claimed[pk] = claimed.get(pk, ZERO) + amount
    shorts = {position.product.symbol for position in positions if position.direction == Direction.SHORT}
    try:
        quotes = market.quotes(account.exchange, shorts) if shorts else {}
        marks = {symbol: quote.mark for symbol, quote in quotes.items()}

        def price_of(position: Position) -> Decimal | None:
            return marks.get(position.product.symbol)

        return spoken_for(positions, currency, price_of, funds.taker, claimed)
    except TradebotError as error:
        raise OrderRefused("balance_unknown", f"What open deals need is not known: {error.message}") from error
