"""The arithmetic of perpetual positions: margin, liquidation, funding, what closing them brings. Pure.

Linear contracts: sizes are in base, everything else is in the quote currency, one contract is one unit of base. Rates
are fractions (0.01 is 1 %). A position's *backing* is all that may be lost on it: of an isolated one its own margin, of
a cross one what the account has. With ``e`` the entry value, ``b`` the base, ``B`` the backing, ``m`` the maintenance
rate and ``f`` the fee:

==========================  =======================  =======================
at the price                long                     short
==========================  =======================  =======================
profit                      ``p·b − e``              ``e − p·b``
liquidation (``B`` + profit  ``(e − B) / (b(1−m))``   ``(e + B) / (b(1+m))``
is ``m·p·b``)
bankruptcy (``B`` + profit   ``(e − B) / (b(1−f))``   ``(e + B) / (b(1+f))``
is the fee ``f·p·b``)
==========================  =======================  =======================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from tradebot.core.decimals import HUNDRED, MONEY, ONE, QUANTUM, ZERO, ceil_to, floor_to, for_money, quantize
from tradebot.core.words import Direction

__all__ = [
    "FUNDING_HOURS",
    "MAINTENANCE_PCT",
    "MAX_LEVERAGE",
    "Closing",
    "Holding",
    "bankruptcy_price",
    "closing",
    "enlarged",
    "entry_cost",
    "funding_amount",
    "funding_times",
    "initial_margin",
    "is_liquidated",
    "liquidation_price",
    "maintenance_margin",
    "maintenance_rate",
    "profit_at",
    "worst_price",
]

MAX_LEVERAGE: Final = 10
"""The highest leverage that anybody may use here, whatever a venue grants."""
MAINTENANCE_PCT: Final = Decimal(2)
"""The maintenance margin on paper where a product does not say its own, percent of the position's value."""
FUNDING_HOURS: Final = 8


@dataclass(frozen=True, slots=True)
class Holding:
    """A position: ``base`` above zero, bought or sold for ``entry_quote`` in all; ``margin`` is claimed for it."""

    direction: Direction
    base: Decimal
    entry_quote: Decimal
    margin: Decimal

    @property
    def entry_price(self) -> Decimal:
        return MONEY.divide(self.entry_quote, self.base)


@dataclass(frozen=True, slots=True)
class Closing:
    """What closing a part comes to: its ``profit`` before the ``fee``, the margin ``released``, and what is left."""

    quote: Decimal
    fee: Decimal
    profit: Decimal
    released: Decimal
    left: Holding


def initial_margin(quote: Decimal, leverage: int) -> Decimal:
    """Return the margin that opening a position worth ``quote`` takes, never a fraction too little."""
    return ceil_to(MONEY.divide(quote, Decimal(leverage)), QUANTUM)


def entry_cost(quote: Decimal, leverage: int, fee_rate: Decimal) -> Decimal:
    """Return what has to be free to open a position worth ``quote``: its margin and the fee."""
    with for_money():
        return initial_margin(quote, leverage) + ceil_to(quote * fee_rate, QUANTUM)


def enlarged(holding: Holding | None, direction: Direction, base: Decimal, quote: Decimal, leverage: int) -> Holding:
    """Return the holding after an opening fill of ``base`` worth ``quote``."""
    margin = initial_margin(quote, leverage)
    if holding is None:
        return Holding(direction, base, quote, margin)
    return replace(
        holding, base=holding.base + base, entry_quote=holding.entry_quote + quote, margin=holding.margin + margin
    )


def profit_at(holding: Holding, price: Decimal) -> Decimal:
    """Return the unrealised profit at ``price``, fees left out."""
    with for_money():
        return holding.direction.sign * (holding.base * price - holding.entry_quote)


def maintenance_margin(holding: Holding, mark: Decimal, maintenance: Decimal) -> Decimal:
    """Return the margin below which the position is liquidated at ``mark``."""
    with for_money():
        return holding.base * mark * maintenance


def is_liquidated(holding: Holding, mark: Decimal, maintenance: Decimal, backing: Decimal) -> bool:
    """Return whether what backs the position does not cover its maintenance margin at ``mark`` any more."""
    with for_money():
        return backing + profit_at(holding, mark) <= maintenance_margin(holding, mark, maintenance)


def liquidation_price(holding: Holding, maintenance: Decimal, backing: Decimal) -> Decimal | None:
    """Return the mark at which the position is liquidated; None when no price above zero is that bad.

    Of a cross position this holds while the account's other positions stay at their marks; ``backing`` is then the
    account's money plus their profits less their maintenance margins.
    """
    return _limit_of_loss(holding, maintenance, backing)


def bankruptcy_price(holding: Holding, fee_rate: Decimal, backing: Decimal) -> Decimal | None:
    """Return the price at which closing all of it takes exactly its backing, fee included; None when there is none."""
    return _limit_of_loss(holding, fee_rate, backing)


def _limit_of_loss(holding: Holding, rate: Decimal, backing: Decimal) -> Decimal | None:
    sign = holding.direction.sign
    with for_money():
        price = (holding.entry_quote - sign * backing) / (holding.base * (ONE - sign * rate))
        return price if price > ZERO else None


def worst_price(holding: Holding, price: Decimal, fee_rate: Decimal, backing: Decimal, increment: Decimal) -> Decimal:
    """Return ``price``, or where that would lose more than the backing the last step at which it would not."""
    limit = bankruptcy_price(holding, fee_rate, backing)
    if limit is None:
        return price
    if holding.direction is Direction.LONG:
        return max(price, ceil_to(limit, increment))
    return min(price, max(floor_to(limit, increment), increment))


def closing(holding: Holding, base: Decimal, price: Decimal, fee_rate: Decimal, backing: Decimal) -> Closing:
    """Return what closing ``base`` (at most all) at ``price`` comes to. The loss and its fee never exceed ``backing``.

    A part takes its share of entry value and margin with it; the last one takes what is left, so nothing is lost to
    rounding.
    """
    sign = holding.direction.sign
    with for_money():
        whole = base >= holding.base
        share = holding.entry_quote if whole else quantize(holding.entry_quote * base / holding.base)
        released = holding.margin if whole else floor_to(holding.margin * base / holding.base, QUANTUM)
        quote = floor_to(base * price, QUANTUM)
        profit = sign * (quote - share)
        if profit < -backing:
            quote, profit = share - sign * backing, -backing
        fee = min(floor_to(quote * fee_rate, QUANTUM), backing + profit)
        left = replace(
            holding,
            base=holding.base - base,
            entry_quote=holding.entry_quote - share,
            margin=holding.margin - released,
        )
    return Closing(quote, fee, profit, released, left)


# Funding --------------------------------------------------------------------------------------------------------------


def funding_amount(direction: Direction, base: Decimal, mark: Decimal, rate: Decimal) -> Decimal:
    """Return what one funding brings: above zero received, below zero paid. Longs pay shorts while the rate is above 0.

    >>> funding_amount(Direction.LONG, Decimal(2), Decimal(100), Decimal("0.0001"))
    Decimal('-0.020000000000000000')
    """
    with for_money():
        return quantize(-direction.sign * base * mark * rate)


def funding_times(since: datetime, until: datetime, hours: int) -> list[datetime]:
    """Return the moments after ``since`` and up to ``until`` at which funding falls due: every ``hours`` from midnight.

    >>> [t.hour for t in funding_times(datetime(2026, 1, 1, 7, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), 8)]
    [8, 16, 0]
    """
    step = timedelta(hours=hours)
    midnight = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    moment = midnight + step * ((since - midnight) // step + 1)
    found = []
    while moment <= until:
        found.append(moment)
        moment += step
    return found


def maintenance_rate(maintenance_pct: Decimal | None) -> Decimal:
    """Return a product's maintenance margin as a fraction, the usual one where it does not say."""
    return (MAINTENANCE_PCT if maintenance_pct is None else maintenance_pct) / HUNDRED
