"""Sizes and prices of an order at the product's steps, the minimums it has to reach, and what it holds.

Sizes go down, buy prices down, sell prices up (F24). An entry has to be paid for by what is free; an exit is cut to
what the deal holds and the wallet has (F25), and where nothing is known of the money it goes ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from accounts.exchanges.perps_rules import entry_cost
from accounts.models import Account
from marketdata import market
from marketdata.models import Product
from positions.booking import is_dust, remaining_base, write
from positions.intents import means
from positions.intents.intent import Intent
from positions.ledger import payable
from positions.models import Position
from positions.states import Direction, OrderType, Side, side_of
from tradebot.core.decimals import ONE, ZERO, ceil_to, floor_to, plain, quantize
from tradebot.core.errors import InvalidInput, OrderRefused, TradebotError

__all__ = ["Sized", "current_price", "size_entry", "size_exit"]


@dataclass(frozen=True, slots=True)
class Sized:
    """An intent at the product's steps, and what it may take from the free balance."""

    side: Side
    base_size: Decimal | None
    quote_size: Decimal | None
    limit_price: Decimal | None
    hold_currency: str
    hold_amount: Decimal


def size_entry(
    account: Account, product: Product, direction: Direction, intent: Intent, leverage: int | None = None
) -> Sized:
    """Return the entry at the product's steps. Raises OrderRefused below a minimum or above the free balance."""
    if product.status != Product.Status.ONLINE:
        raise OrderRefused("product_not_trading", f"{product.symbol} is {product.get_status_display().lower()}.")
    side = _side(intent, direction)
    limit = _limit_price(product, side, intent)
    price = limit or intent.reference_price or current_price(account, product, side)
    if price is None:
        raise OrderRefused("missing_price", f"There is no current price of {product.symbol}.")
    base = floor_to(intent.base_size, product.base_increment) if intent.base_size is not None else None
    quote = floor_to(intent.quote_size, product.quote_increment) if intent.quote_size is not None else None
    _check_minimums(product, base if base is not None else _exact(quote, price), quote, price)
    funds = means.known_funds(account, means.ENTRY_AGE)
    if leverage is not None:
        if base is None:
            raise InvalidInput("invalid", "A perpetual is sized in base currency.", field="base_size")
        currency, hold = product.quote, entry_cost(base * price, leverage, max(funds.maker, funds.taker))
    elif side is Side.SELL:
        currency, hold = product.base, base or ZERO
    else:
        dearest = max(funds.maker, funds.taker)  # so that a hold is never too small
        currency, hold = product.quote, (quote if quote is not None else (base or ZERO) * price) * (ONE + dearest)
    free = means.free(funds, account, currency)
    kept = means.kept_for_deals(account, currency, funds)
    if hold > free - kept:
        more = f"; {plain(quantize(kept))} more belong to open deals" if kept else ""
        extra: dict[str, Any] = {"kept": kept} if kept else {}
        raise OrderRefused(
            "insufficient_balance",
            f"{plain(quantize(hold))} {currency} with fees are needed, "
            f"{plain(quantize(max(free - kept, ZERO)))} are free{more}.",
            needed=hold,
            free=max(free - kept, ZERO),
            currency=currency,
            **extra,
        )
    return Sized(side, base, quote, limit, currency, hold)


def size_exit(account: Account, position: Position, intent: Intent) -> Sized | None:
    """Return the exit at the product's steps, never above what is held; None when the whole remainder is dust (F29)."""
    product = position.product
    side = _side(intent, Direction(position.direction))
    limit = _limit_price(product, side, intent)
    price = limit or intent.reference_price or current_price(account, product, side)
    remaining = remaining_base(position)
    if price is not None and is_dust(position, remaining, price):
        return None
    wanted = min(intent.base_size, remaining) if intent.base_size is not None else remaining
    if product.is_perpetual:  # reduce-only: it takes neither coins nor money, and may be as small as a step
        return Sized(side, floor_to(wanted, product.base_increment), None, limit, product.quote, ZERO)
    if side is Side.SELL:
        wanted = _within_wallet(account, position, wanted)
    elif price is not None:
        wanted = _within_means(account, position, wanted, price, intent)
    base = floor_to(wanted, product.base_increment)
    _check_minimums(product, base, None, price)
    hold = base if side is Side.SELL else base * (price or ZERO)
    return Sized(side, base, None, limit, product.base if side is Side.SELL else product.quote, hold)


def _within_wallet(account: Account, position: Position, wanted: Decimal) -> Decimal:
    """Return what of ``wanted`` the wallet has, and note a shortage. An unknown balance does not hold a close up."""
    currency = position.product.base
    try:
        funds = means.known_funds(account)
    except OrderRefused:
        return wanted
    if means.are_older_than_fills(funds, position):
        return wanted
    free = means.free(funds, account, currency)
    if free >= wanted:
        return wanted
    if free <= ZERO:
        raise OrderRefused(
            "insufficient_balance",
            f"The wallet has no free {currency}, the deal records {plain(wanted)}.",
            needed=wanted,
            free=free,
            currency=currency,
        )
    note = f"The wallet had {plain(free)} {currency} free where the deal records {plain(wanted)}: sold what there was."
    write(position, error_code="wallet_short", last_error=note[:300])
    return free


def _within_means(account: Account, position: Position, wanted: Decimal, price: Decimal, intent: Intent) -> Decimal:
    """Return what of ``wanted`` a short can pay to buy back, noting a shortage. What is not known holds nothing up."""
    currency = position.product.quote
    try:
        funds = means.known_funds(account)
    except OrderRefused:
        return wanted
    if means.are_older_than_fills(funds, position):
        return wanted
    free, fee = means.free(funds, account, currency), max(funds.maker, funds.taker)
    found = payable(wanted, price, fee, free, at_market=intent.order_type is OrderType.MARKET)
    if found >= wanted:
        return wanted
    needed = wanted * price * (ONE + fee)
    if found <= ZERO:
        raise OrderRefused(
            "insufficient_balance",
            f"{plain(quantize(needed))} {currency} with fees are needed to buy back, none are free.",
            needed=needed,
            free=free,
            currency=currency,
        )
    note = (
        f"{plain(quantize(needed))} {currency} were needed to buy back, {plain(free)} were free: bought what could be."
    )
    write(position, error_code="wallet_short", last_error=note[:300])
    return found


def _side(intent: Intent, direction: Direction) -> Side:
    side = side_of(direction, intent.purpose)
    if intent.side not in (None, side):
        raise InvalidInput("invalid", f"A {intent.purpose} of a {direction} is a {side}.", field="side")
    if intent.quote_size is not None and side is Side.SELL:
        raise InvalidInput("invalid", "Sells are sized in base currency.", field="quote_size")
    return side


def _limit_price(product: Product, side: Side, intent: Intent) -> Decimal | None:
    if intent.limit_price is None:
        return None
    to_step = floor_to if side is Side.BUY else ceil_to
    price = to_step(intent.limit_price, product.price_increment)
    if price <= ZERO:
        raise InvalidInput("invalid", "The price is below the product's smallest step.", field="limit_price")
    return price


def current_price(account: Account, product: Product, side: Side) -> Decimal | None:
    """Return what a market order would meet now: the ask of a buy, the bid of a sell; None when not known."""
    try:
        quote = market.quote(account.exchange, product.symbol)
    except TradebotError:
        return None
    if quote is None:
        return None
    return quote.ask if side is Side.BUY else quote.bid


def _exact(quote: Decimal | None, price: Decimal) -> Decimal | None:
    return None if quote is None else quote / price


def _check_minimums(product: Product, base: Decimal | None, quote: Decimal | None, price: Decimal | None) -> None:
    """Raise OrderRefused with the numbers when an order is below one of the product's minimums (F27)."""
    value = quote if quote is not None else base * price if base is not None and price is not None else None
    for asked, minimum, currency in ((base, product.min_base, product.base), (value, product.min_quote, product.quote)):
        if asked is not None and (asked < minimum or asked <= ZERO):
            raise OrderRefused(
                "below_minimum",
                f"{plain(quantize(asked))} {currency} is below the smallest order of {plain(minimum)} {currency}.",
                asked=asked,
                minimum=minimum,
                currency=currency,
            )
