"""Whether an order can be made of an intent, and whether what its caller decided on is still so.

All but :func:`well_formed` are asked under the account's lock. Each raises OrderRefused, or InvalidInput when the
intent contradicts itself. What an account may place at all is asked afterwards, by :mod:`positions.admission`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from accounts import perps_settings
from accounts.exchanges.base import perps_of
from accounts.exchanges.factory import venue_of
from accounts.models import Account
from marketdata.models import Product
from positions.booking import remaining_base
from positions.intents.intent import Intent, PerpsOpening
from positions.intents.sizes import Sized
from positions.models import Order, PerpsTerms, Position
from positions.states import (
    POSITION_ACTIVE,
    SINGLE_EXITS,
    WORKING,
    Direction,
    OrderType,
    PositionStatus,
    Purpose,
)
from tradebot.core.decimals import ZERO, plain
from tradebot.core.errors import InvalidInput, OrderRefused, TradebotError
from tradebot.core.models import GlobalSettings

__all__ = ["free_slot", "may_open", "perpetual_allowed", "takes_order", "well_formed", "within_ceiling"]


def well_formed(intent: Intent, now: datetime) -> None:
    """Raise InvalidInput for an intent that no order can be made of (F23)."""
    for name in ("base_size", "quote_size", "limit_price", "reference_price", "trigger_price"):
        value = getattr(intent, name)
        if value is not None and not (value.is_finite() and value > ZERO):
            raise InvalidInput("invalid", "It must be a number above zero.", field=name)
    if (intent.order_type is OrderType.LIMIT) != (intent.limit_price is not None):
        raise InvalidInput("invalid", "A limit order has a price, a market order has none.", field="limit_price")
    if intent.expires_at is not None and (intent.order_type is not OrderType.LIMIT or intent.expires_at <= now):
        raise InvalidInput("invalid", "A limit order may end at a moment in the future.", field="expires_at")
    if intent.trigger_price is not None and (not intent.is_exit or intent.order_type is not OrderType.MARKET):
        raise InvalidInput("invalid", "Only an exit at market waits for a trigger price.", field="trigger_price")
    if intent.base_size is not None and intent.quote_size is not None:
        raise InvalidInput("invalid", "An order has one size.", field="quote_size")
    if intent.quote_size is not None and (intent.is_exit or intent.order_type is OrderType.LIMIT):
        raise InvalidInput("invalid", "Only market entries are sized in quote currency.", field="quote_size")
    if not intent.is_exit and intent.base_size is None and intent.quote_size is None:
        raise InvalidInput("invalid", "An entry has a size.", field="base_size")


def may_open(bot: Any, account: Account) -> None:
    """Raise OrderRefused while trading is paused or the bot does not run on this account."""
    if GlobalSettings.load().trading_paused:
        raise OrderRefused("trading_paused", "Trading is paused for the whole installation: no new deals.")
    if bot is None:
        return
    bot.refresh_from_db(fields=["status", "account"])
    if bot.status != "running" or bot.account_id != account.pk:
        raise OrderRefused("bot_stopped", "The bot has been stopped.")


def free_slot(
    account: Account,
    bot: Any,
    product: Product,
    direction: Direction,
    max_active_deals: int,
    max_deals_per_pair: int,
    expected_active: int | None,
) -> int:
    """Return the number of a free slot of this pair and direction. Raises OrderRefused when there is none (F10)."""
    if bot is None:
        return 0
    active = list(
        Position.objects.filter(account=account, bot=bot, direction=direction, status__in=POSITION_ACTIVE)
        .order_by("id")
        .values_list("product_id", "slot")
    )
    taken = {slot for product_id, slot in active if product_id == product.pk}
    if expected_active is not None and len(taken) != expected_active:
        raise OrderRefused(
            "duplicate_intent", "This decision has been acted on.", seen=expected_active, active=len(taken)
        )
    if len(active) >= max_active_deals:
        raise OrderRefused(
            "deal_limit",
            f"The bot has {len(active)} of {max_active_deals} {direction} deals.",
            active=len(active),
            limit=max_active_deals,
        )
    if len(taken) >= max_deals_per_pair:
        raise OrderRefused(
            "pair_deal_limit",
            f"The bot has {len(taken)} of {max_deals_per_pair} {direction} deals on {product.symbol}.",
            active=len(taken),
            limit=max_deals_per_pair,
        )
    return next(number for number in range(len(taken) + 1) if number not in taken)


def perpetual_allowed(account: Account, product: Product, perps: PerpsOpening | None) -> None:
    """Raise OrderRefused unless the account may open a position in this perpetual now; nothing for spot."""
    if not product.is_perpetual:
        if perps is not None:
            raise InvalidInput("invalid", f"{product.symbol} is traded without leverage.", field="leverage")
        return
    if perps is None:
        raise OrderRefused(
            "perpetual_only_by_hand", f"{product.symbol} is a perpetual future: bots trade spot pairs only."
        )
    try:
        venue = perps_of(venue_of(account))
    except TradebotError as error:
        raise OrderRefused("perpetuals_not_offered", error.message) from error
    perps_settings.require(account, product, perps.leverage)
    live = list(PerpsTerms.objects.filter(account=account, ended_at=None))
    differing = next((row for row in live if row.margin_mode != perps.margin_mode), None)
    if differing is not None and venue.capabilities.one_margin_mode:
        raise OrderRefused(
            "margin_mode_differs",
            f"{venue.capabilities.name} has one margin mode for all of an account, and a position with "
            f"{differing.margin_mode} margin is open. Open with that one, or close it first.",
            position=differing.position_id,
        )
    other = next((row for row in live if row.product_id == product.pk), None)
    if other is not None:
        raise OrderRefused(
            "position_exists",
            f"This account has a position in {product.symbol} already. Close it first.",
            position=other.position_id,
        )


def takes_order(position: Position, intent: Intent) -> None:
    """Raise OrderRefused unless the deal is in a state that takes this order, and the caller has seen it as it is."""
    if position.status not in POSITION_ACTIVE:
        raise OrderRefused("position_ended", f"This deal is {position.status}.", status=str(position.status))
    orders = list(Order.objects.filter(position=position).values_list("purpose", "status"))
    working = {Purpose(purpose) for purpose, status in orders if status in WORKING}
    expected = 1 + sum(purpose == intent.purpose for purpose, _ in orders)
    if intent.sequence != expected or intent.purpose in working:
        raise OrderRefused(
            "duplicate_intent", "This decision has been acted on.", expected=expected, asked=intent.sequence
        )
    if intent.is_exit and working & SINGLE_EXITS:
        raise OrderRefused("duplicate_intent", "A close of this deal is working already.", working=sorted(working))
    if position.is_sale:
        raise OrderRefused("sale_is_final", "A sale of coins is one order: nothing is added to it or bought back.")
    if intent.is_exit:
        if position.status == PositionStatus.PENDING or remaining_base(position) <= ZERO:
            raise OrderRefused("nothing_to_close", "This deal holds nothing.")
    elif position.product.is_perpetual:
        raise OrderRefused("not_added_to", "A position in a perpetual is opened by one order and not added to.")
    elif position.status == PositionStatus.CLOSING:
        raise OrderRefused("exit_working", "A close of this deal is working: nothing is added.")
    elif position.status != PositionStatus.OPEN or intent.purpose is Purpose.BASE_ORDER:
        raise OrderRefused("position_not_open", "The base order of this deal is not filled yet.")


def within_ceiling(position: Position, sized: Sized, intent: Intent) -> None:
    """Raise OrderRefused for an order that would spend more than the deal may."""
    if not position.budget_quote:
        return  # a deal without a ceiling
    spent = position.quote_spent if position.direction == Direction.LONG else position.quote_received
    price = sized.limit_price or intent.reference_price or ZERO
    added = sized.quote_size if sized.quote_size is not None else (sized.base_size or ZERO) * price
    if spent + added > position.budget_quote + position.product.quote_increment:
        left = max(position.budget_quote - spent, ZERO)
        raise OrderRefused(
            "ceiling_reached",
            f"The deal may spend {plain(left)} {position.product.quote} more.",
            field="quote_size",
            remaining=left,
            asked=added,
        )
