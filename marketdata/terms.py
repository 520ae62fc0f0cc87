"""A product's trading terms: what an order on it must respect. Pure: knows no Django."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

__all__ = ["ProductTerms"]


@dataclass(frozen=True, slots=True)
class ProductTerms:
    """Steps and minimums of one product as its venue states them.

    ``price_increment`` and ``min_quote`` are in quote currency, ``base_increment`` and ``min_base`` in base currency.
    """

    symbol: str
    base: str
    quote: str
    price_increment: Decimal
    base_increment: Decimal
    min_base: Decimal
    min_quote: Decimal
