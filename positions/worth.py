"""What amounts are worth in another currency at the prices on record. Asks no venue, so it may be used under a lock."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from accounts.balances import balances_of
from accounts.models import Account
from marketdata import market
from tradebot.core.decimals import ONE, ZERO, for_money
from tradebot.core.errors import MissingInformation, TradebotError

__all__ = ["rates", "worth"]

BRIDGES: Final = ("USD", "USDC", "USDT", "BTC")
"""Currencies by way of which a coin is valued that has no pair with the one wanted."""


def rates(exchange: str, currency: str, names: Iterable[str]) -> dict[str, Decimal]:
    """Return what one of each of ``names`` costs in ``currency``, straight, turned round, or by way of another one.

    What has no price on record is absent (F34).
    """
    wanted = {*names} - {currency}
    bridges = [bridge for bridge in BRIDGES if bridge != currency]
    pairs = {(name, currency) for name in wanted | set(bridges)}
    pairs |= {(name, bridge) for name in wanted for bridge in bridges if name != bridge}
    symbols = {f"{a}-{b}" for a, b in pairs} | {f"{b}-{a}" for a, b in pairs}
    try:
        quotes = market.quotes(exchange, symbols)
    except TradebotError:
        quotes = {}

    def direct(a: str, b: str) -> Decimal | None:
        if a == b:
            return ONE
        if (quote := quotes.get(f"{a}-{b}")) is not None:
            return quote.mark
        if (quote := quotes.get(f"{b}-{a}")) is not None and quote.mark > ZERO:
            return ONE / quote.mark
        return None

    found = {currency: ONE}
    with for_money():
        for name in wanted:
            rate = direct(name, currency)
            for bridge in bridges if rate is None else ():
                first, second = direct(name, bridge), direct(bridge, currency)
                if first is not None and second is not None:
                    rate = first * second
                    break
            if rate is not None:
                found[name] = rate
    return found


def worth(account: Account, currency: str) -> Decimal:
    """Return what the account holds, in ``currency``, counting only what has a price on record: never too much.

    Raises MissingInformation (``balance_unknown``, ``value_unknown``) when nothing can be said.
    """
    balances = balances_of([account.pk]).get(account.pk)
    if balances is None:
        raise MissingInformation("balance_unknown", "The account's balances are not known.")
    held = {name: balance.total for name, balance in balances.items() if balance.total}
    prices = rates(account.exchange, currency, held)
    with for_money():
        total = sum((amount * prices[name] for name, amount in held.items() if name in prices), ZERO)
    if held and not any(name in prices for name in held):
        raise MissingInformation("value_unknown", f"What the account is worth in {currency} is not known.")
    return total
