"""Whether a rule buys now, how much and at which price, or why not in words. No queries, no effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from accounts.models import AutoBuyRule
from bots.autobuy.money import Spendable
from marketdata.models import Product
from marketdata.sources.base import Quote
from positions.execution import Intent
from positions.states import OrderType, Purpose
from tradebot.core.decimals import HUNDRED, ONE, ZERO, floor_to, for_money, plain, quantize

__all__ = ["ACTOR", "Choice", "decide", "limit_price", "purchase"]

ACTOR = "auto-buy"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a rule decided: a reason code, a sentence, the numbers behind it, and the order to place, if any."""

    code: str
    words: str
    numbers: dict[str, Any] = field(default_factory=dict)
    intent: Intent | None = None
    budget: Decimal = ZERO


def decide(rule: AutoBuyRule, product: Product, quote: Quote | None, found: Spendable | str, fee: Decimal) -> Choice:
    """Return what ``rule`` does now.

    ``found`` is what may be spent, or in words what of it is not known; ``fee`` the taker's fee as a fraction.
    """
    if product.status != Product.Status.ONLINE:
        return Choice("product_not_trading", f"{product.symbol} is {product.get_status_display().lower()}.")
    if isinstance(found, str):
        return Choice("balance_unknown", f"Nothing is bought: {found}.")
    numbers = _numbers(rule, found)
    if found.amount < rule.minimum:
        return Choice("auto_buy_below_minimum", _too_little(rule, found), numbers)
    if quote is None:
        return Choice("missing_price", f"There is no current price of {product.symbol}.", numbers)
    numbers |= {"bid": plain(quote.bid), "ask": plain(quote.ask)}
    return purchase(rule, product, quote, found.amount, fee, numbers)


def purchase(
    rule: AutoBuyRule, product: Product, quote: Quote, amount: Decimal, fee: Decimal, numbers: dict[str, Any]
) -> Choice:
    """Return the order that spends ``amount`` with its fee, at the product's steps."""
    with for_money():
        before_fee = amount / (ONE + fee)
        if rule.order_type == OrderType.LIMIT:
            price = limit_price(rule, product, quote)
            if price <= ZERO:
                words = f"{plain(rule.limit_offset_pct)} % below {plain(quote.bid)} is no price."
                return Choice("missing_price", words, numbers)
            base = floor_to(before_fee / price, product.base_increment)
            value = base * price
        else:
            price, base = quote.ask, ZERO
            value = floor_to(before_fee, product.quote_increment)
            base = value / price
    if value < product.min_quote or base < product.min_base or value <= ZERO:
        words = (
            f"{_show(amount)} {rule.currency} are free, less than the smallest order of {plain(product.min_base)} "
            f"{product.base} and {plain(product.min_quote)} {product.quote} with its fee."
        )
        return Choice("below_minimum", words, numbers)
    spent = f"{_show(value)} {rule.currency}"
    if rule.order_type == OrderType.LIMIT:
        words = f"Buying {plain(base)} {rule.coin} at {plain(price)} or less, for {spent}."
        intent = Intent(Purpose.BASE_ORDER, 1, None, OrderType.LIMIT, base, None, price, actor=ACTOR)
    else:
        words = f"Buying {rule.coin} for {spent} at market."
        intent = Intent(Purpose.BASE_ORDER, 1, quote_size=value, reference_price=price, actor=ACTOR)
    return Choice("auto_buy_bought", words, numbers | {"value": plain(value), "price": plain(price)}, intent, value)


def limit_price(rule: AutoBuyRule, product: Product, quote: Quote) -> Decimal:
    """Return where a limit order waits: so far below the best bid, on a step of the product."""
    with for_money():
        return floor_to(quote.bid * (HUNDRED - rule.limit_offset_pct) / HUNDRED, product.price_increment)


def _numbers(rule: AutoBuyRule, found: Spendable) -> dict[str, Any]:
    return {
        "currency": rule.currency,
        "free": plain(quantize(found.free)),
        "kept": plain(quantize(found.kept)),
        "kept_for": list(found.names),
        "spendable": plain(quantize(found.amount)),
        "minimum": plain(rule.minimum),
    }


def _too_little(rule: AutoBuyRule, found: Spendable) -> str:
    words = f"{_show(found.amount)} {rule.currency} may be spent, the minimum is {_show(rule.minimum)}"
    if found.kept:
        words += f": of {_show(found.free)} free, {_show(found.kept)} are kept for {', '.join(found.names)}"
    return f"{words}."


def _show(value: Decimal) -> str:
    return plain(quantize(value, 8))
