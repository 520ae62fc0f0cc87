"""What an account is worth now, in one currency: everything that it holds, at the mark, and what others add.

Coins of open deals are among the balances, so they count once. What is not in the balances (the result of an open
perpetual, say) is added by whoever knows it, see :func:`register`.

What is not known is no figure (F34, F61): a balance that the venue has not said, a price that is missing or old. A coin
that its market has never traded has no price anywhere; it is left out, always, and named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from accounts.balances import balances_of, funds_of
from accounts.models import Account, PropGuardRules
from marketdata import market, sources
from marketdata.models import Product
from marketdata.sources.base import Quote
from tradebot.core import clock, scoping
from tradebot.core.decimals import ONE, ZERO, for_money
from tradebot.core.errors import MissingInformation, TradebotError

__all__ = ["Measured", "Part", "measure", "prices_needed", "rate", "register", "worth"]

BRIDGES: Final = ("USD", "BTC", "USDC", "USDT", "EUR", "ETH")
"""Currencies through which a coin is valued that has no pair with the currency asked for, in this order."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An account's equity. ``at`` is as of when: the age of the oldest thing it rests on. ``left_out`` names coins.

    ``held`` is what it rests on, by currency, asked for at ``balances_at``.
    """

    equity: Decimal
    currency: str
    at: datetime
    balances_at: datetime
    held: Mapping[str, Decimal]
    left_out: tuple[str, ...] = ()


Part = Callable[[Account, str, datetime], Decimal]
"""(account, currency, now) to what the account is worth besides its balances, in that currency, signed.

Raises MissingInformation when that is not known.
"""

_parts: list[Part] = []


def register(part: Part) -> None:
    """Let ``part`` add to every account's equity."""
    if part not in _parts:
        _parts.append(part)


def measure(account: Account, currency: str, max_age: timedelta) -> Measured:
    """Return what the account is worth in ``currency``. Asks no venue.

    Raises MissingInformation: ``balance_unknown``, ``missing_price`` (naming the coins), or what a
    registered part raises.
    """
    now = clock.now()
    funds = funds_of(account, max_age)
    at = now if funds.asked_at is None else funds.asked_at
    held = {name: balance.total for name, balance in funds.balances.items() if balance.total}
    valued = _value(account.exchange, held, currency, now, max_age)
    with for_money():
        total = valued.total + sum((part(account, currency, now) for part in _parts), ZERO)
    return Measured(total, currency, min([at, *valued.ages]), at, held, valued.left_out)


def worth(exchange: str, amounts: Mapping[str, Decimal], currency: str, now: datetime, max_age: timedelta) -> Decimal:
    """Return what these amounts, of either sign, are worth. Raises MissingInformation (``missing_price``)."""
    return _value(exchange, amounts, currency, now, max_age).total


def rate(exchange: str, coin: str, currency: str, now: datetime, max_age: timedelta) -> Decimal:
    """Return what one ``coin`` costs in ``currency`` at the mark. Raises MissingInformation (``missing_price``)."""
    found = _value(exchange, {coin: ONE}, currency, now, max_age)
    if found.left_out:
        raise MissingInformation("missing_price", f"{coin} has no price in {currency} on this market.")
    return found.total


def prices_needed() -> dict[str, set[str]]:
    """Return, by market, the symbols whose prices guarded accounts are measured with."""
    with scoping.all_accounts("public prices are fetched once for all guarded accounts"):
        rows = PropGuardRules.objects.filter(enabled=True, account__archived_at__isnull=True).order_by()
        rules = list(rows.exclude(account__exchange=sources.REPLAY).values_list("account_id", "currency"))
        exchanges = dict(Account.objects.filter(pk__in=[pk for pk, _ in rules]).values_list("pk", "exchange"))
        balances = balances_of([pk for pk, _ in rules])
    wanted: dict[str, set[str]] = defaultdict(set)
    for account_id, currency in rules:
        held = {name for name, balance in balances.get(account_id, {}).items() if balance.total}
        wanted[exchanges[account_id]] |= _symbols(held, currency)
    return {
        exchange: set(
            Product.objects.filter(exchange=exchange, symbol__in=symbols, status=Product.Status.ONLINE).values_list(
                "symbol", flat=True
            )
        )
        for exchange, symbols in wanted.items()
        if symbols
    }


# Inside -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Valued:
    total: Decimal
    ages: tuple[datetime, ...]
    left_out: tuple[str, ...]


def _routes(coin: str, currency: str) -> list[tuple[tuple[str, str], ...]]:
    """Return the ways from ``coin`` to ``currency``, the straight one first, as steps from one currency to another."""
    bridges = [name for name in BRIDGES if name not in (coin, currency)]
    return [((coin, currency),), *(((coin, bridge), (bridge, currency)) for bridge in bridges)]


def _symbols(coins: Iterable[str], currency: str) -> set[str]:
    steps = {step for coin in coins if coin != currency for route in _routes(coin, currency) for step in route}
    return {f"{one}-{other}" for a, b in steps for one, other in ((a, b), (b, a))}


def _value(exchange: str, held: Mapping[str, Decimal], currency: str, now: datetime, max_age: timedelta) -> _Valued:
    """Return what ``held`` is worth. Raises MissingInformation when a coin is traded and has no usable price."""
    rows = Product.objects.filter(exchange=exchange, symbol__in=_symbols(held, currency))
    listed = dict(rows.values_list("symbol", "status"))
    online = [symbol for symbol, status in listed.items() if status == Product.Status.ONLINE]
    try:
        quotes = market.quotes(exchange, online, now) if online else {}
    except TradebotError as error:
        raise MissingInformation("missing_price", f"Prices cannot be read: {error.message}") from error
    quotes = {symbol: quote for symbol, quote in quotes.items() if now - quote.at <= max_age}
    total, ages, left_out, missing = ZERO, [], [], []
    with for_money():
        for coin, amount in sorted(held.items()):
            if coin == currency:
                total += amount
                continue
            found = _rate(_routes(coin, currency), quotes)
            if found is not None:
                total += amount * found[0]
                ages += found[1]
            elif _is_listed(_routes(coin, currency), listed):
                missing.append(coin)
            else:
                left_out.append(coin)
    if missing:
        names = ", ".join(missing)
        raise MissingInformation("missing_price", f"The price of {names} in {currency} is not known.", coins=missing)
    return _Valued(total, tuple(ages), tuple(left_out))


def _rate(
    routes: list[tuple[tuple[str, str], ...]], quotes: Mapping[str, Quote]
) -> tuple[Decimal, list[datetime]] | None:
    for route in routes:
        factor, ages = ONE, []
        for base, quote in route:
            if (straight := quotes.get(f"{base}-{quote}")) is not None:
                factor *= straight.mark
                ages.append(straight.at)
            elif (turned := quotes.get(f"{quote}-{base}")) is not None:
                factor /= turned.mark
                ages.append(turned.at)
            else:
                break
        else:
            return factor, ages
    return None


def _is_listed(routes: list[tuple[tuple[str, str], ...]], listed: Mapping[str, str]) -> bool:
    """Return whether the market has, or had, what one of the routes needs."""
    return any(all(f"{a}-{b}" in listed or f"{b}-{a}" in listed for a, b in route) for route in routes)
