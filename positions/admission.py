"""The last questions before an order is written down: may this account place it, whatever the decision behind it was?

Asked under the account's lock, in the transaction that writes the order, so that two orders cannot both pass a limit
that has room for one (F10, F62). Nothing here calls a venue: what is needed from one was read before and carries its
age, and what is not known blocks every order that takes risk (F61). An order that only reduces risk passes (F63).

Each check is a function from :class:`Proposed` to nothing; it raises OrderRefused with the numbers. ``CHECKS`` is their
order: the cheapest and the most final first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from accounts.models import Account
from marketdata.models import Product
from positions import safety
from positions.models import Position
from positions.states import Purpose, Side

__all__ = ["CHECKS", "Proposed", "require"]


@dataclass(frozen=True, slots=True)
class Proposed:
    """An order about to be written down, at the product's steps. ``position`` is None while it would open a deal.

    ``value_quote`` is its value in the product's quote currency at ``price``; None when no price is known, which only a
    close may be without.
    """

    account: Account
    product: Product
    purpose: Purpose
    side: Side
    position: Position | None
    price: Decimal | None
    value_quote: Decimal | None
    actor: str
    reduces_risk: bool


CHECKS: Final[list[Callable[[Proposed], None]]] = [safety.armed, safety.within_limits]


def require(proposed: Proposed) -> None:
    """Raise OrderRefused unless every check lets the order pass."""
    for check in CHECKS:
        check(proposed)
