"""Makers of market data rows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from marketdata.models import Product

__all__ = ["make_product"]


def make_product(symbol: str = "BTC-USD", exchange: str = "coinbase", **changes: Any) -> Product:
    """Return a saved product with plausible terms."""
    base, quote = symbol.split("-")[:2]
    values: dict[str, Any] = {
        "base": base,
        "quote": quote,
        "price_increment": Decimal("0.01"),
        "base_increment": Decimal("0.00000001"),
        "quote_increment": Decimal("0.01"),
        "min_base": Decimal("0.00000001"),
        "min_quote": Decimal(1),
    }
    return Product.objects.create(exchange=exchange, symbol=symbol, **(values | changes))
