"""Orders that make no sense on any market are refused before any venue hears of them (F23)."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from accounts.exchanges.base import NewOrder
from tradebot.core.decimals import ZERO, plain
from tradebot.core.errors import VenueRejected
from tradebot.core.words import OrderType, Side

__all__ = ["LARGEST", "check_shape"]

LARGEST: Final = Decimal(10) ** 15
"""Sizes and prices beyond this are nonsense and would not fit the columns once multiplied."""
MOST_PLACES: Final = 18


def check_shape(order: NewOrder) -> None:
    """Raise VenueRejected for an order that makes no sense on any market (F23)."""
    is_limit, is_buy = order.order_type is OrderType.LIMIT, order.side is Side.BUY
    sizes = [size for size in (order.base_size, order.quote_size) if size is not None]
    if len(sizes) != 1 or (order.quote_size is not None and (is_limit or not is_buy)):
        raise VenueRejected("bad_order", "An order has a base size; only a market buy may have a quote size instead.")
    if is_limit != (order.limit_price is not None):
        raise VenueRejected("bad_order", "A limit order has a limit price, a market order has none.")
    prices = [price for price in (order.limit_price, order.trigger_price) if price is not None]
    for number in (*sizes, *prices):
        if not isinstance(number, Decimal) or not number.is_finite() or not ZERO < number <= LARGEST:
            raise VenueRejected("bad_order", f"{number} is not an amount above zero and up to {plain(LARGEST)}.")
        if number != round(number, MOST_PLACES):
            raise VenueRejected("bad_order", f"{number} has more than {MOST_PLACES} decimals.")
    if len(order.symbol) > 40 or any(not 0 < len(part) <= 20 for part in order.symbol.partition("-")):
        raise VenueRejected("bad_order", "That is no product.")
    if order.expires_at is not None and (not is_limit or order.expires_at.tzinfo is None):
        raise VenueRejected("bad_order", "Only limit orders expire, at an aware time.")
    if order.trigger_price is not None and (is_limit or not order.reduce_only):
        raise VenueRejected("bad_order", "Only a reduce-only market order has a trigger price.")
