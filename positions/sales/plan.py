"""What a sale or conversion comes to, before it is done: what is free, sizes at the products' steps, the order book.

:func:`plan_of` is what doing it begins with as well, so what a page shows and what is done cannot differ in kind.
Nothing is written. Markets are asked for prices, so none of this runs inside a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from accounts.balances import fees_of
from accounts.models import Account
from marketdata import market, sources
from marketdata.sources.base import Quote
from positions import slippage
from positions.handling import checked_amount
from positions.intents import unclaimed
from positions.sales.ways import Step, Way, way
from tradebot.core.decimals import ONE, ZERO, floor_to, for_money, plain, quantize
from tradebot.core.errors import InvalidInput, MissingInformation, OrderRefused

__all__ = ["Outlook", "Plan", "Size", "StepOutlook", "outlook", "plan_of", "size_of"]


@dataclass(frozen=True, slots=True)
class Size:
    """An order's size at the product's steps: base of a sale, quote of a purchase; and its value in quote."""

    base: Decimal | None
    quote: Decimal | None
    value: Decimal

    def gives(self, fee: Decimal) -> Decimal:
        """Return what it takes of the currency that it gives, with the fee of a purchase."""
        return self.base if self.base is not None else self.value * (ONE + fee)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for and can be done. ``size`` is the first order's, ``taker`` and ``fee`` (the dearer of both)
    are fractions, ``quotes`` present prices by symbol."""

    currency: str
    into: str
    way: Way
    free: Decimal
    amount: Decimal
    size: Size
    taker: Decimal
    fee: Decimal
    quotes: Mapping[str, Quote]


def plan_of(
    account: Account, currency: str, into: str, amount: Decimal | None = None, max_age: timedelta | None = None
) -> Plan:
    """Return what turning ``amount`` (default: all that is free) of ``currency`` into ``into`` comes to.

    ``amount`` of a currency that pairs are quoted in includes the fee. ``max_age`` is how old an exchange's word on the
    balances may be. Raises InvalidInput naming the field (``amount``, ``into``) with the numbers; OrderRefused
    (``balance_unknown``, ``nothing_free``); MissingInformation (``missing_price``).
    """
    if account.archived_at is not None:
        raise OrderRefused("account_archived", f"{account.name} is archived.")
    if account.exchange == sources.REPLAY:
        raise OrderRefused("no_sales", "A recording is another time's: nothing is sold there by hand.")
    if amount is not None:
        checked_amount(amount, "amount")
    found = way(account, currency, into)
    free = unclaimed(account, currency, max_age)
    if free <= ZERO:
        raise OrderRefused("nothing_free", f"No {currency} is free: orders or open deals need what there is.")
    if amount is not None and amount > free:
        raise InvalidInput(
            "too_large",
            f"It is {_short(amount)} {currency}; {_short(free)} {currency} are free.",
            field="amount",
            asked=amount,
            free=free,
        )
    quotes = market.fresh_quotes(account.exchange, [step.product.symbol for step in found.steps])
    for step in found.steps:
        if step.product.symbol not in quotes:
            raise MissingInformation("missing_price", f"There is no current price of {step.product.symbol}.")
    maker, taker = fees_of([account.pk])[account.pk]
    fee = max(maker, taker)
    wanted = free if amount is None else amount
    size = size_of(found.first, wanted, fee, quotes)
    if found.second is not None:
        with for_money():
            brings = size.value * (ONE - fee)
        try:
            size_of(found.second, brings, fee, quotes)
        except InvalidInput as error:
            raise InvalidInput(
                "below_minimum", f"The second step would be too small: {error.message}", field="amount", **error.detail
            ) from error
    return Plan(currency, into, found, free, wanted, size, taker, fee, quotes)


def size_of(step: Step, amount: Decimal, fee: Decimal, quotes: Mapping[str, Quote]) -> Size:
    """Return the order that takes at most ``amount`` of what the step gives, fee included, at the product's steps.

    Raises InvalidInput (``below_minimum``, field ``amount``) with the limit.
    """
    product, quote = step.product, quotes[step.product.symbol]
    with for_money():
        if step.sells:
            base = floor_to(amount, product.base_increment)
            size, in_base = Size(base, None, base * quote.bid), base
        else:
            value = floor_to(amount / (ONE + fee), product.quote_increment)
            size, in_base = Size(None, value, value), value / quote.ask
    if size.value <= ZERO or in_base < product.min_base or size.value < product.min_quote:
        raise InvalidInput(
            "below_minimum",
            f"{_short(amount)} {step.gives} is below the smallest order on {product.symbol}: "
            f"{plain(product.min_base)} {product.base} and {plain(product.min_quote)} {product.quote}"
            f"{'' if step.sells else ', and the fee'}.",
            field="amount",
            asked=amount,
            min_base=product.min_base,
            min_quote=product.min_quote,
        )
    return size


# The order book -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepOutlook:
    """What one order would come to by the order book: ``gives`` and ``gets`` net of the fee, which is in quote.

    ``pct`` is how much worse the average ``price`` is than the best one; ``is_covered`` false: the book shows less, so
    it may be worse.
    """

    step: Step
    gives: Decimal
    gets: Decimal
    price: Decimal
    pct: Decimal
    fee: Decimal
    is_covered: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """What it would all come to now. ``left`` stays free; ``left_is_dust``: it is too small to be sold by itself."""

    plan: Plan
    steps: tuple[StepOutlook, ...]
    left: Decimal
    left_is_dust: bool

    @property
    def gives(self) -> Decimal:
        """Return what is given away, at the product's steps."""
        return self.steps[0].gives

    @property
    def gets(self) -> Decimal:
        """Return what is there in the end, fees taken off."""
        return self.steps[-1].gets

    @property
    def is_covered(self) -> bool:
        """Return whether the order books show as much as is needed."""
        return all(step.is_covered for step in self.steps)


def outlook(account: Account, currency: str, into: str, amount: Decimal | None = None) -> Outlook:
    """Return what it would come to at the present order books. Raises what :func:`plan_of` does, MissingInformation
    (``empty_book``) and VenueUnavailable."""
    plan = plan_of(account, currency, into, amount)
    first = _outlook_of(account, plan.way.first, plan.size, plan.taker)
    steps = [first]
    if plan.way.second is not None:
        size = size_of(plan.way.second, first.gets, plan.fee, plan.quotes)
        steps.append(_outlook_of(account, plan.way.second, size, plan.taker))
    left = max(plan.free - first.gives, ZERO)
    return Outlook(plan, tuple(steps), left, bool(left) and _is_dust(plan, left))


def _outlook_of(account: Account, step: Step, size: Size, taker: Decimal) -> StepOutlook:
    symbol = step.product.symbol
    found = slippage.expected(account.exchange, symbol, step.side, size.base, quote=size.quote)
    with for_money():
        if size.base is not None:
            value = size.base * found.average
            fee = value * taker
            gives, gets = size.base, value - fee
        else:
            fee = size.value * taker
            gives, gets = size.value + fee, size.value / found.average
    return StepOutlook(step, gives, gets, found.average, found.pct, fee, found.is_covered)


def _is_dust(plan: Plan, left: Decimal) -> bool:
    try:
        size_of(plan.way.first, left, plan.fee, plan.quotes)
    except InvalidInput:
        return True
    return False


def _short(value: Decimal) -> str:
    return plain(quantize(value))
