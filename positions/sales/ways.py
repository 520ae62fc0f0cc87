"""By which orders an account's market turns one currency into another: one pair, or two over a common quote currency.

Read from the product rows; nobody is asked. Spot pairs only, and only those that trade at present.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from accounts.models import Account
from marketdata.conversion import HUBS
from marketdata.models import Product
from positions.states import Direction, KeptStrategy, Side
from tradebot.core.errors import InvalidInput

__all__ = ["Step", "Way", "way", "ways_from"]


@dataclass(frozen=True, slots=True)
class Step:
    """One order: selling a product's base (a short by its books), or buying it (a long)."""

    product: Product
    direction: Direction

    @property
    def sells(self) -> bool:
        """Return whether base is sold."""
        return self.direction is Direction.SHORT

    @property
    def side(self) -> Side:
        """Return the side of its order."""
        return self.direction.entry_side

    @property
    def gives(self) -> str:
        """Return the currency that it takes."""
        return str(self.product.base if self.sells else self.product.quote)

    @property
    def gets(self) -> str:
        """Return the currency that it brings."""
        return str(self.product.quote if self.sells else self.product.base)

    @property
    def strategy(self) -> KeptStrategy:
        """Return what its deal's ``strategy`` says."""
        return KeptStrategy.SALE if self.sells else KeptStrategy.PURCHASE


@dataclass(frozen=True, slots=True)
class Way:
    """The steps from one currency to another, one or two."""

    steps: tuple[Step, ...]

    @property
    def first(self) -> Step:
        """Return the step that is taken first."""
        return self.steps[0]

    @property
    def second(self) -> Step | None:
        """Return the step that follows once the first one's proceeds are there, if there is one."""
        return self.steps[1] if len(self.steps) > 1 else None

    @property
    def over(self) -> str:
        """Return the currency in between, empty where there is none."""
        return self.first.gets if self.second is not None else ""

    @property
    def is_sale(self) -> bool:
        """Return whether it is one order that sells the coin for what its pair is quoted in."""
        return self.second is None and self.first.sells


def ways_from(account: Account, currency: str, into: str = "") -> dict[str, Way]:
    """Return the ways that lead away from ``currency``, by where to: straight sales first, the others by name.

    ``into`` narrows it to one target. Two queries at most.
    """
    rows = Product.objects.filter(exchange=account.exchange, kind=Product.Kind.SPOT, status=Product.Status.ONLINE)
    pairs = list(rows.filter(Q(base=currency) | Q(quote=currency)))
    sales = {row.quote: Step(row, Direction.SHORT) for row in pairs if row.base == currency}
    purchases = {row.base: Step(row, Direction.LONG) for row in pairs if row.quote == currency}
    found = {name: Way((sales[name],)) for name in sorted(sales, key=_rank)}
    others = {name: Way((step,)) for name, step in purchases.items() if name not in found}
    if not into or (into not in found and into not in others):
        narrower: dict[str, Any] = {"base": into} if into else {}
        for row in sorted(rows.filter(quote__in=sales, **narrower), key=lambda row: (row.base, _rank(row.quote))):
            if row.base != currency and row.base not in found and row.base not in others:
                others[row.base] = Way((sales[row.quote], Step(row, Direction.LONG)))
    found |= {name: others[name] for name in sorted(others)}
    return {name: way for name, way in found.items() if not into or name == into}


def way(account: Account, currency: str, into: str) -> Way:
    """Return the way from one currency into the other. Raises InvalidInput (``no_way``, field ``into``)."""
    found = ways_from(account, currency, into).get(into) if into != currency else None
    if found is None:
        raise InvalidInput(
            "no_way", f"This account's market trades no pairs that turn {currency} into {into}.", field="into"
        )
    return found


def _rank(name: str) -> tuple[int, str]:
    """Order currencies: those that most pairs are quoted in first, the others by name."""
    return (HUBS.index(name) if name in HUBS else len(HUBS), name)
