"""Deals as the pages meet them: with orders, fills and totals that agree, made without a venue."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bots.models import Bot
from bots.strategies.dca_settings import DcaSettings
from marketdata.models import Product
from positions import booking
from positions.models import Order, Position
from positions.states import ExitReason, OrderStatus, PositionStatus, Purpose
from tests.factories import FillFactory, OrderFactory, PositionFactory
from tests.looking import everything
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account, detached

SETTINGS = DcaSettings(
    base_order_type="fixed",
    base_order_size=Decimal(100),
    max_safety_orders=3,
    safety_order_size=Decimal(100),
    deviation_reference="base_order",
    stop_loss=Decimal(20),
).to_json()


def bought(position: Position, purpose: Purpose, price: Decimal | int, base: str) -> Order:
    """Add a filled order to the deal."""
    count = position.orders_made = getattr(position, "orders_made", 0) + 1
    order = OrderFactory(
        position=position,
        purpose=purpose,
        sequence=count,
        levels=1 if purpose == Purpose.SAFETY_ORDER else 0,
        status=OrderStatus.FILLED,
        finished_at=clock.now(),
        filled_base=Decimal(base),
        filled_quote=Decimal(base) * Decimal(price),
    )
    FillFactory(order=order, price=Decimal(price), base=Decimal(base))
    return order


def recompute(position: Position) -> Position:
    """Derive the deal's totals from its fills."""
    with detached("test data"), acting_for_account(position.account_id):
        booking.recompute(position)
    return position


def open_deal(bot: Bot, product: Product, price: Decimal | int = 100, **more: Any) -> Position:
    """Return an open deal with a base order and one safety order below it."""
    settings = {"settings": SETTINGS} | more
    deal = PositionFactory(bot=bot, product=product, open=True, **settings)
    bought(deal, Purpose.BASE_ORDER, price, "1")
    bought(deal, Purpose.SAFETY_ORDER, Decimal(price) * Decimal("0.98"), "1")
    return recompute(deal)


def closed_deal(bot: Bot, product: Product, price: Decimal | int = 100, gain: str = "1.05", **more: Any) -> Position:
    """Return a deal that was sold for ``gain`` times what it paid."""
    hours = timedelta(hours=2)
    given = {"settings": SETTINGS, "opened_at": clock.now() - hours, "closed_at": clock.now()} | more
    deal = PositionFactory(
        bot=bot,
        product=product,
        status=PositionStatus.CLOSED,
        exit_reason=ExitReason.TAKE_PROFIT,
        deal_number=900_000 + everything(Position).count(),
        **given,
    )
    bought(deal, Purpose.BASE_ORDER, price, "1")
    bought(deal, Purpose.TAKE_PROFIT, Decimal(price) * Decimal(gain), "1")
    return recompute(deal)


MOST_QUERIES = 28
"""Of any page, the shell around it included."""


def queries_of(browser: Client, path: str) -> int:
    """Return how many queries the page costs once it has been looked at."""
    browser.get(path)
    with CaptureQueriesContext(connection) as context:
        assert browser.get(path).status_code == 200
    return len(context)
