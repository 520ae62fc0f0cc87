"""What is known about coins: how far each is trusted, and which are kept at the value of another currency.

The one place that answers both, for every gate: whether a bot may open on a coin, and which pairs hardly move. What a
person thinks of a coin goes before what the operator thinks of it; persons' reviews are rows of ``bots``, so they are
handed in here (:mod:`bots.coins` reads them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from marketdata.models import Coin

__all__ = ["STABLE", "Coins", "load"]

STABLE: Final = frozenset(
    {
        *("USD", "EUR", "GBP", "CHF", "JPY", "AUD", "CAD"),
        *("USDC", "USDT", "DAI", "PYUSD", "TUSD", "USDP", "GUSD", "FDUSD", "USDS", "USDE", "BUSD", "LUSD", "FRAX"),
        *("EURC", "EURT", "GBPT", "PAX"),
    }
)
"""Money, and coins that are kept at the value of money. The operator may name more (``Coin.is_stable``)."""

NO_OVERRIDES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Coins:
    """What the operator has said about coins: ``categories`` by code, and the codes of further ``stable`` ones."""

    categories: Mapping[str, str] = field(default_factory=dict)
    stable: frozenset[str] = STABLE

    def effective_category(self, code: str, overrides: Mapping[str, str] = NO_OVERRIDES) -> str:
        """Return the coin's category: that of ``overrides`` (a person's own), else the operator's, else ""."""
        return overrides.get(code) or self.categories.get(code, "")

    def is_stable(self, code: str) -> bool:
        """Return whether the coin is kept at the value of another currency."""
        return code in self.stable

    def is_stable_pair(self, base: str, quote: str) -> bool:
        """Return whether both coins of a pair are stable, so that its price hardly moves."""
        return base in self.stable and quote in self.stable


def load(codes: Iterable[str] | None = None) -> Coins:
    """Return what is known about these coins (None: about all), in one query."""
    rows = Coin.objects.all() if codes is None else Coin.objects.filter(code__in=set(codes))
    categories, stable = {}, set(STABLE)
    for code, category, is_stable in rows.order_by().values_list("code", "category", "is_stable"):
        if category:
            categories[code] = category
        if is_stable:
            stable.add(code)
    return Coins(categories, frozenset(stable))
