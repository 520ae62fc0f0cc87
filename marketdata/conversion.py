"""What one currency is worth in another, by the prices of a market's pairs. Pure.

The best path is the shortest: the pair itself, straight or turned round, else over one or two of the currencies that
most pairs are quoted in. No currency is taken for another: a USDC is worth what the market says, not a dollar. What no
path leads to has no rate, and that is None, never zero (F34).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import permutations
from typing import Final

from tradebot.core.decimals import MONEY, ONE, ZERO

__all__ = ["HUBS", "Rates"]

HUBS: Final = ("USD", "USDC", "USDT", "BTC")
"""Currencies that a path may lead over, the most liquid first."""


class Rates:
    """Rates between currencies by ``prices``: quote per base, by symbol such as ``ETH-BTC``."""

    __slots__ = ("_found", "prices")

    def __init__(self, prices: Mapping[str, Decimal]) -> None:
        self.prices = prices
        self._found: dict[tuple[str, str], Decimal | None] = {}

    def rate(self, currency: str, into: str) -> Decimal | None:
        """Return what one ``currency`` is worth in ``into``; None when no path of known prices leads there."""
        key = (currency, into)
        if key not in self._found:
            self._found[key] = self._best(currency, into)
        return self._found[key]

    def value(self, amount: Decimal, currency: str, into: str) -> Decimal | None:
        """Return what ``amount`` of ``currency`` is worth in ``into``; nothing of anything is worth nothing."""
        if not amount:
            return ZERO
        rate = self.rate(currency, into)
        return None if rate is None else MONEY.multiply(amount, rate)

    def _best(self, currency: str, into: str) -> Decimal | None:
        if currency == into:
            return ONE
        if (direct := self._pair(currency, into)) is not None:
            return direct
        for hub in HUBS:
            if (found := self._over(currency, hub, self._pair(hub, into))) is not None:
                return found
        for hub, second in permutations(HUBS, 2):
            rest = self._over(hub, second, self._pair(second, into))
            if (found := self._over(currency, hub, rest)) is not None:
                return found
        return None

    def _over(self, currency: str, hub: str, rest: Decimal | None) -> Decimal | None:
        leg = self._pair(currency, hub) if rest is not None else None
        return None if leg is None or rest is None else MONEY.multiply(leg, rest)

    def _pair(self, base: str, quote: str) -> Decimal | None:
        straight = self.prices.get(f"{base}-{quote}")
        if straight is not None and straight > ZERO:
            return straight
        turned = self.prices.get(f"{quote}-{base}")
        return MONEY.divide(ONE, turned) if turned is not None and turned > ZERO else None
