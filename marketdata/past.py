"""What currencies were worth at a moment that is over, from the market's own candles. For looking back, not deciding.

Asks the market for a few candles of the pairs that lead to dollars and bitcoin, and keeps nothing: these are single
moments, scattered over years, that would tear the candle store's series apart.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final

import structlog

from marketdata import sources
from marketdata.conversion import HUBS, Rates
from marketdata.models import Product
from marketdata.timeframes import Timeframe
from tradebot.core.decimals import from_float
from tradebot.core.errors import TradebotError

__all__ = ["rates_at"]

log = structlog.get_logger(__name__)

FRAME: Final = Timeframe("5m")
LOOKED_BACK: Final = 72
"""Candles before the moment: six hours, so that pairs that trade seldom have a price too."""


def rates_at(exchange: str, currency: str, at: datetime) -> Rates:
    """Return rates of ``currency`` into USD and BTC at ``at``, as far as the market can say; none where it cannot."""
    try:
        source = sources.get(exchange)
    except TradebotError:
        return Rates({})
    if FRAME not in source.native_timeframes:
        return Rates({})
    prices: dict[str, Decimal] = {}
    end = int(at.timestamp())
    for product in _pairs(exchange, currency):
        try:
            candles = source.candles(product.symbol, FRAME, end - LOOKED_BACK * FRAME.seconds, end)
        except TradebotError as error:
            log.info("past.no_candles", product=product.symbol, error=error.message)
            continue
        if len(candles):
            prices[product.symbol] = from_float(float(candles.close[-1]), product.price_increment)
    return Rates(prices)


def _pairs(exchange: str, currency: str) -> list[Product]:
    """Return the pairs of the shortest path from ``currency`` to USD and BTC: at most three."""
    wanted = {"BTC-USD", *(f"{currency}-{hub}" for hub in HUBS), f"BTC-{currency}", "BTC-USDC", "BTC-USDT"}
    listed = {row.symbol: row for row in Product.objects.filter(exchange=exchange, symbol__in=wanted)}
    chosen = ["BTC-USD"]
    if currency not in ("USD", "BTC"):
        hub = next((hub for hub in HUBS if f"{currency}-{hub}" in listed), None)
        chosen.append(f"BTC-{currency}" if hub is None else f"{currency}-{hub}")
        if hub in ("USDC", "USDT"):
            chosen.append(f"BTC-{hub}")
    return [listed[symbol] for symbol in chosen if symbol in listed]
