"""What a request that was cut off did to orders, in words: for whoever sends it again (``tradebot.core.once``)."""

from __future__ import annotations

from positions.models import Order
from tradebot.core import once
from tradebot.core.decimals import plain

__all__ = ["register"]


def register() -> None:
    """Tell ``once`` how orders are told of."""
    once.register("order", _order)
    once.register("cancel", _cancel)


def _order(what: str) -> str:
    order = Order.objects.select_related("position__product").filter(pk=int(what)).first()
    if order is None:
        return f"order {what}"
    words = f"{order.purpose.replace('_', ' ')} (order {order.pk}) of {order.position.product.symbol}: "
    words += order.get_status_display()
    if order.filled_base:
        words += f", {plain(order.filled_base)} {order.position.product.base} filled"
    return words


def _cancel(what: str) -> str:
    return f"cancel of {_order(what)}"
