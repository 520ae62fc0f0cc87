"""What the portfolio page shows of sales: which holdings can be sold or converted, and what became of the last ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from accounts.models import Account
from marketdata import sources
from marketdata.models import Product
from positions.portfolio.holdings import AccountHoldings

__all__ = ["Offer", "offers_of"]


@dataclass(frozen=True, slots=True)
class Offer:
    """An account whose free amount of a currency may be converted, and sold if ``sells``."""

    account: Account
    sells: bool


def offers_of(rows: Iterable[AccountHoldings], editable: Collection[int]) -> dict[str, list[Offer]]:
    """Return, by currency, on which of these accounts it can be sold or converted. Two queries, or none."""
    held = [
        (row.account, holding.currency)
        for row in rows
        if row.account.pk in editable and row.account.exchange != sources.REPLAY
        for holding in row.holdings
        if holding.free
    ]
    if not held:
        return {}
    narrower = {"exchange__in": {account.exchange for account, _ in held}}
    bases, quotes = (_traded(name, {currency for _, currency in held}, narrower) for name in ("base", "quote"))
    found: dict[str, list[Offer]] = defaultdict(list)
    for account, currency in held:
        key = (account.exchange, currency)
        if key in bases or key in quotes:
            found[currency].append(Offer(account, key in bases))
    return dict(found)


def _traded(side: str, currencies: set[str], narrower: dict[str, Any]) -> set[tuple[str, str]]:
    """Return (market, currency) of those that some pair has on this side."""
    rows = Product.objects.filter(
        kind=Product.Kind.SPOT, status=Product.Status.ONLINE, **narrower, **{f"{side}__in": currencies}
    )
    return set(rows.order_by().values_list("exchange", side).distinct())
