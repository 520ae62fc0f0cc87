"""Positions in perpetual futures by hand: opening one, changing its take profit and stop. Closing is :mod:`manual`'s.

Opening: what is asked for is checked first, with numbers (F23); then order, terms and bracket are written down in one
transaction, the order is sent, and as soon as the venue confirms a fill the bracket is placed. A process that dies in
between leaves rows that the loop goes on with (:mod:`positions.brackets`). The functions never run inside a
transaction, because venues are called.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import structlog
from django.db import transaction

from accounts import perps_settings
from accounts.exchanges import perps_rules as rules
from accounts.exchanges.factory import venue_of
from accounts.models import Account
from marketdata import market
from marketdata.models import Product
from positions import brackets, execution, handling, perps_news
from positions.booking import announce_position, lock_account, write
from positions.brackets import is_beyond
from positions.execution import Intent, PerpsOpening
from positions.models import Bracket, Order, PerpsTerms, Position
from positions.states import Direction, OrderStatus, OrderType, Purpose
from tradebot.core import clock
from tradebot.core.decimals import ZERO, ceil_to, floor_to, for_money, plain, quantize, round_to
from tradebot.core.errors import InvalidInput, MissingInformation, OrderRefused, TradebotError
from tradebot.core.words import MarginMode

__all__ = [
    "STRATEGY",
    "BracketChange",
    "OpenState",
    "Opening",
    "Plan",
    "change_bracket",
    "open_position",
    "plan_of",
    "products_of",
]

log = structlog.get_logger(__name__)

STRATEGY: Final = "perpetual"
"""What the deals opened here say in place of a bot's strategy."""


class OpenState(StrEnum):
    """How an opening stands when the person gets an answer."""

    OPEN = "open"
    RESTING = "resting"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an opening comes to, before it is done: prices and amounts in quote, sizes in base.

    ``liquidation_price`` is for an isolated margin, at the price of the plan; None when no price is that bad, or for a
    cross margin, where it depends on the account.
    """

    price: Decimal
    base: Decimal
    value: Decimal
    margin: Decimal
    fee: Decimal
    liquidation_price: Decimal | None


@dataclass(frozen=True, slots=True)
class Opening:
    """The answer to an opening; ``bracket`` says whether take profit and stop stand."""

    position: Position
    state: OpenState
    order: Order
    bracket: Bracket

    @property
    def message(self) -> str:
        """Return the answer in words."""
        text = {
            OpenState.OPEN: "The position is open.",
            OpenState.RESTING: "The order waits in the order book.",
            OpenState.SENT: "The order has been sent. The venue has not confirmed all of it yet.",
        }[self.state]
        return text + _bracket_words(self.bracket, pending=self.state is not OpenState.OPEN)


@dataclass(frozen=True, slots=True)
class BracketChange:
    """The answer to a change of take profit and stop."""

    position: Position
    bracket: Bracket

    @property
    def message(self) -> str:
        """Return the answer in words."""
        pending = execution.remaining_base(self.position) <= ZERO
        return "Saved." + _bracket_words(self.bracket, pending=pending)


def _bracket_words(bracket: Bracket, *, pending: bool) -> str:
    if bracket.take_profit is None and bracket.stop_loss is None:
        return " It has neither take profit nor stop."
    if bracket.alarm_code:
        return f" Its take profit and stop do not stand at the venue: {bracket.alarm_text} It is tried again."
    if pending:
        return " Its take profit and stop follow with the first fill."
    watched = " The venue keeps no stops: it is watched from here." if bracket.watched else ""
    return f" Its take profit and stop stand as wanted.{watched}"


def products_of(account: Account) -> list[Product]:
    """Return the perpetuals that the account's market trades now."""
    rows = Product.objects.filter(exchange=account.exchange, kind=Product.Kind.PERPETUAL, status=Product.Status.ONLINE)
    return list(rows.order_by("symbol"))


# Opening --------------------------------------------------------------------------------------------------------------


def plan_of(
    account: Account,
    product: Product,
    direction: Direction,
    leverage: int,
    margin_mode: MarginMode,
    *,
    margin: Decimal | None = None,
    base: Decimal | None = None,
    limit_price: Decimal | None = None,
    take_profit: Decimal | None = None,
    stop_loss: Decimal | None = None,
) -> tuple[Plan, PerpsOpening]:
    """Return what an opening comes to, and its terms at the product's steps, if it can be asked for.

    ``margin`` (in quote, without the fee) or ``base`` sizes it. Raises InvalidInput naming the field, with the numbers;
    MissingInformation without a price.
    """
    if not product.is_perpetual or product.exchange != account.exchange:
        raise InvalidInput(
            "unknown_product", f"{product.symbol} is no perpetual of this account's market.", field="product"
        )
    perps_settings.require(account, product, leverage)
    asked = {"margin": margin, "base": base, "price": limit_price, "take_profit": take_profit, "stop_loss": stop_loss}
    for name, value in asked.items():
        if value is not None:
            handling.checked_amount(value, name)
    if (margin is None) == (base is None):
        raise InvalidInput("required", "Give the margin or the size, one of them.", field="margin")
    price = limit_price if limit_price is not None else _price_now(account, product, direction)
    size = _size(product, price, leverage, margin, base)
    taker = _taker(account)
    with for_money():
        value = size * price
        holding = rules.enlarged(None, direction, size, value, leverage)
        end = None
        if margin_mode is MarginMode.ISOLATED:
            end = rules.liquidation_price(holding, rules.maintenance_rate(product.maintenance_pct), holding.margin)
        plan = Plan(price, size, value, holding.margin, value * taker, end)
    profit, stop = _bracket_prices(product, direction, price, take_profit, stop_loss)
    _refuse_stop_behind(product, direction, stop, end)
    return plan, PerpsOpening(leverage, margin_mode, profit, stop)


def open_position(
    account: Account,
    product: Product,
    direction: Direction,
    *,
    actor: str,
    created_by: Any = None,
    leverage: int | None = None,
    margin_mode: MarginMode | None = None,
    margin: Decimal | None = None,
    base: Decimal | None = None,
    limit_price: Decimal | None = None,
    take_profit: Decimal | None = None,
    stop_loss: Decimal | None = None,
) -> Opening:
    """Open a position by one order, at market or at ``limit_price``, with its take profit and stop.

    What is left out comes from the account's settings. Raises what :func:`plan_of` and ``execution.intend_open`` raise,
    and the venue's own code (OrderRefused) when it rejects the order.
    """
    settings = perps_settings.settings_of(account)
    plan, perps = plan_of(
        account,
        product,
        direction,
        settings.default_leverage if leverage is None else leverage,
        MarginMode(settings.margin_mode if margin_mode is None else margin_mode),
        margin=margin,
        base=base,
        limit_price=limit_price,
        take_profit=take_profit,
        stop_loss=stop_loss,
    )
    intent = Intent(
        purpose=Purpose.BASE_ORDER,
        sequence=1,
        order_type=OrderType.MARKET if limit_price is None else OrderType.LIMIT,
        base_size=plan.base,
        limit_price=limit_price,
        reference_price=plan.price if limit_price is None else None,
        actor=actor,
    )
    handling.ask_for_funds_of(account)
    with transaction.atomic():
        try:
            order = execution.intend_open(
                account=account,
                bot=None,
                product=product,
                direction=direction,
                frozen_settings={},
                settings_version=1,
                strategy=STRATEGY,
                budget_quote=ZERO,
                max_active_deals=1,
                max_deals_per_pair=1,
                intent=intent,
                created_by=created_by,
                perps=perps,
            )
        except OrderRefused as refusal:
            raise handling.blame(refusal, "margin" if base is None else "base") from refusal
        detail = {
            "direction": direction,
            "base": plan.base,
            "leverage": perps.leverage,
            "margin_mode": perps.margin_mode,
            "take_profit": perps.take_profit,
            "stop_loss": perps.stop_loss,
        }
        handling.record(order.position, actor, "perp_opened", **detail)
    order = execution.submit(order)
    position = order.position
    bracket = brackets.sync(position)
    _learn(position)
    handling.refresh(position)
    if execution.remaining_base(position) <= ZERO:
        handling.require_carried_out(order)
    assert bracket is not None
    return Opening(position, _state_of(order), order, bracket)


def _learn(position: Position) -> None:
    """Take in what the venue says about the new position; the loop does where it cannot tell at this moment."""
    try:
        perps_news.read(position.account_id)
    except TradebotError as error:
        log.info("perps.not_told", position=position.pk, code=error.code)


def _state_of(order: Order) -> OpenState:
    if order.status == OrderStatus.FILLED:
        return OpenState.OPEN
    rests = order.status in (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED) and order.limit_price is not None
    return OpenState.RESTING if rests else OpenState.SENT


# Take profit and stop -------------------------------------------------------------------------------------------------


def change_bracket(
    position: Position, actor: str, *, take_profit: Decimal | None, stop_loss: Decimal | None
) -> BracketChange:
    """Want another take profit and stop for the deal; None is none. They are placed at once, or with the first fill.

    Raises InvalidInput naming the field, with the numbers; OrderRefused (``position_ended``, ``not_a_perpetual``);
    MissingInformation without a price, which the new ones cannot be checked without.
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    terms = _terms(position)
    for name, value in (("take_profit", take_profit), ("stop_loss", stop_loss)):
        if value is not None:
            handling.checked_amount(value, name)
    direction = Direction(position.direction)
    price = _reference(position) if take_profit is not None or stop_loss is not None else ZERO
    profit, stop = _bracket_prices(position.product, direction, price, take_profit, stop_loss)
    _refuse_stop_behind(position.product, direction, stop, terms.liquidation_price)
    with transaction.atomic():
        lock_account(position.account_id)
        handling.refresh(position)
        handling.refuse_ended(position)
        bracket = Bracket.objects.get(position=position)
        before = {"take_profit": bracket.take_profit, "stop_loss": bracket.stop_loss}
        if (profit, stop) != (bracket.take_profit, bracket.stop_loss):
            write(bracket, take_profit=profit, stop_loss=stop, updated_at=clock.now())
            handling.record(position, actor, "bracket_changed", before=before, take_profit=profit, stop_loss=stop)
            announce_position(position)
    found = brackets.sync(position, now=True)
    handling.refresh(position)
    assert found is not None
    return BracketChange(position, found)


def _terms(position: Position) -> PerpsTerms:
    terms = PerpsTerms.objects.filter(position=position).first()
    if terms is None:
        raise OrderRefused("not_a_perpetual", "This deal is no position in a perpetual: it has no bracket.")
    return terms


def _reference(position: Position) -> Decimal:
    """Return what a bracket is measured against: the market, or the price of an entry that still waits."""
    if execution.remaining_base(position) <= ZERO:
        entry = position.orders.filter(purpose=Purpose.BASE_ORDER).first()
        if entry is not None and entry.limit_price is not None:
            limit: Decimal = entry.limit_price
            return limit
    return handling.current_quote(position).mark


# Parts ----------------------------------------------------------------------------------------------------------------


def _price_now(account: Account, product: Product, direction: Direction) -> Decimal:
    quote = market.fresh_quotes(account.exchange, [product.symbol]).get(product.symbol)
    if quote is None:
        raise MissingInformation("missing_price", f"There is no current price of {product.symbol}.")
    return quote.ask if direction is Direction.LONG else quote.bid


def _taker(account: Account) -> Decimal:
    return max(venue_of(account).fee_rates())


def _size(product: Product, price: Decimal, leverage: int, margin: Decimal | None, base: Decimal | None) -> Decimal:
    field = "base" if base is not None else "margin"
    with for_money():
        wanted = base if base is not None else (margin or ZERO) * leverage / price
        size = floor_to(wanted, product.base_increment)
        if size <= ZERO or size < product.min_base or size * price < product.min_quote:
            raise InvalidInput(
                "below_minimum",
                f"{plain(quantize(wanted))} {product.base} is below the smallest order of {plain(product.min_base)} "
                f"{product.base} and {plain(product.min_quote)} {product.quote}.",
                field=field,
                asked=wanted,
            )
        if size * price >= handling.LARGEST:
            raise InvalidInput("out_of_range", "No order can be that large.", field=field)
    return size


def _bracket_prices(
    product: Product, direction: Direction, price: Decimal, take_profit: Decimal | None, stop_loss: Decimal | None
) -> tuple[Decimal | None, Decimal | None]:
    """Return both at the product's step, the stop on the nearer one. Raises InvalidInput on the wrong side of price."""
    is_long, step = direction is Direction.LONG, product.price_increment
    to_step = ceil_to if is_long else floor_to
    profit = None if take_profit is None else to_step(take_profit, step)
    stop = None if stop_loss is None else to_step(stop_loss, step)
    for field, value, wants_above in (("take_profit", profit, is_long), ("stop_loss", stop, not is_long)):
        if value is None or (value > price if wants_above else ZERO < value < price):
            continue
        raise InvalidInput(
            "wrong_side",
            f"{plain(value)} is not {'above' if wants_above else 'below'} the price of {plain(round_to(price, step))}, "
            f"where a {direction} has it.",
            field=field,
            price=price,
            asked=value,
        )
    return profit, stop


def _refuse_stop_behind(product: Product, direction: Direction, stop: Decimal | None, end: Decimal | None) -> None:
    """Raise InvalidInput for a stop that a liquidation would forestall."""
    if stop is None or end is None or not is_beyond(direction, stop, end):
        return
    raise InvalidInput(
        "behind_liquidation",
        f"The position would be liquidated at about {plain(round_to(end, product.price_increment))}, before the price "
        f"gets to {plain(stop)}. Choose a nearer stop or less leverage.",
        field="stop_loss",
        liquidation=end,
        asked=stop,
    )
