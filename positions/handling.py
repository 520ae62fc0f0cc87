"""What everything that a person does to a deal has in common: looking, clearing its orders away, sizes, the audit.

Venues are called, so none of this runs inside a transaction.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import structlog

from accounts import balances
from accounts.models import Account
from marketdata import market
from marketdata.sources.base import Quote
from positions import execution
from positions.booking import is_dust
from positions.models import Order, Position
from positions.reconcile import reconcile_account
from positions.states import (
    FINAL,
    POSITION_FINAL,
    SINGLE_EXITS,
    WORKING,
    Direction,
    OrderStatus,
    OrderType,
)
from tradebot.core import audit, clock
from tradebot.core.decimals import HUNDRED, ZERO, for_money, plain, quantize
from tradebot.core.errors import InvalidInput, MissingInformation, OrderRefused, TradebotError

__all__ = [
    "LARGEST",
    "TimeInForce",
    "ask_for_funds",
    "ask_for_funds_of",
    "blame",
    "checked_amount",
    "current_quote",
    "exit_price",
    "market_close_under_way",
    "part_to_close",
    "record",
    "refresh",
    "refuse_ended",
    "refuse_sale",
    "require_carried_out",
    "stop_orders",
    "valid_until",
]

log = structlog.get_logger(__name__)

LARGEST: Final = Decimal(10) ** 18
"""No price or amount that a person means reaches it; what is stored has two digits of room above."""
_MARKET_CLOSE: Final[dict[str, Any]] = {
    "purpose__in": SINGLE_EXITS,
    "order_type": OrderType.MARKET,
    "cancel_requested_at": None,
}
LONGEST_ORDER: Final = timedelta(days=366)


class TimeInForce(StrEnum):
    """How long a limit order waits: until it is cancelled, or until a moment."""

    GTC = "gtc"
    GTD = "gtd"


# Looking --------------------------------------------------------------------------------------------------------------


def refresh(position: Position) -> None:
    """Bring the deal with its product and account up to date."""
    position.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))


def ask_for_funds(position: Position) -> None:
    """Ask an exchange what the deal's account holds, so that the order to come is checked against that."""
    ask_for_funds_of(position.account)


def ask_for_funds_of(account: Account) -> None:
    """The same for an account. Where it does not say, entries are refused and closes go ahead: nothing is raised."""
    try:
        balances.refresh(account)
    except TradebotError as error:
        log.info("manual.balances_not_told", account=account.pk, code=error.code)


def refuse_ended(position: Position) -> None:
    """Raise OrderRefused (``position_ended``) for a deal that has ended."""
    if position.status in POSITION_FINAL:
        raise OrderRefused("position_ended", f"This deal is {position.status} already.", status=str(position.status))


def refuse_sale(position: Position) -> None:
    """Raise OrderRefused (``sale_is_final``) for a sale of coins of no deal: nothing is added to it or bought back."""
    if position.is_sale:
        raise OrderRefused(
            "sale_is_final", "This is a sale of coins: nothing is added to it or bought back. It can be cancelled."
        )


def current_quote(position: Position) -> Quote:
    """Return what the deal's product costs now. Raises MissingInformation (``missing_price``)."""
    symbol = position.product.symbol
    quote = market.fresh_quotes(position.account.exchange, [symbol]).get(symbol)
    if quote is None:
        raise MissingInformation("missing_price", f"There is no current price of {symbol}.")
    return quote


def exit_price(position: Position) -> Decimal | None:
    """Return what closing meets now, the bid of a long and the ask of a short; None when it is not known."""
    try:
        quote = current_quote(position)
    except TradebotError:
        return None
    return quote.bid if position.direction == Direction.LONG else quote.ask


def market_close_under_way(position: Position, *, is_part: bool = False) -> Order | None:
    """Return the deal's market close that is on its way, after one more look at it; None when there is none.

    One that this look finds filled has sold a part, unless the deal has ended: whoever asks for a part (``is_part``)
    asks for that one again, and whoever asks for all means the rest.
    """
    order = position.orders.filter(status__in=WORKING, **_MARKET_CLOSE).first()
    if order is None:
        return None
    _look(position)
    order.refresh_from_db()
    is_answer = order.status in WORKING or position.status in POSITION_FINAL
    return order if is_answer or (is_part and order.status == OrderStatus.FILLED) else None


def _look(position: Position) -> None:
    """Ask the venue about the account's working orders; what cannot be known now stays as it is."""
    try:
        reconcile_account(position.account_id)
    except TradebotError as error:
        log.info("manual.venue_not_reached", account=position.account_id, code=error.code)
    refresh(position)


# Orders ---------------------------------------------------------------------------------------------------------------


def stop_orders(
    position: Position,
    actor: str,
    nothing: str = "Nothing was sold",
    *,
    spare_market_close: bool = False,
    **wanted: Any,
) -> list[Order]:
    """Cancel the deal's working orders, or the ``wanted`` ones (``purpose=…``, ``pk=…``), know their final state and
    return them (F19).

    ``nothing`` says what was not done when a cancel is not confirmed: then OrderRefused (``cancel_unconfirmed``) is
    raised. ``spare_market_close`` leaves a market close alone that nobody wants cancelled: a stop of the machine or
    another request may have written it down a moment ago, and of two closes none would be left (F21). Whoever spares it
    looks for it afterwards (:func:`market_close_under_way`).
    """
    working = position.orders.filter(status__in=WORKING, **wanted)
    if spare_market_close:
        working = working.exclude(**_MARKET_CLOSE)
    orders = list(working.select_related("account", "position__product"))
    for order in orders:
        execution.cancel(order, actor)
    if any(order.status in WORKING for order in orders):
        _look(position)
    if working.exists():
        raise OrderRefused(
            "cancel_unconfirmed",
            f"The venue has not confirmed that the deal's orders are cancelled. {nothing}; try again soon.",
        )
    refresh(position)
    for order in orders:
        order.refresh_from_db()
    return orders


def require_carried_out(order: Order) -> None:
    """Raise OrderRefused with the venue's own words when the order ended without being carried out in full (F21)."""
    if order.status in FINAL and order.status != OrderStatus.FILLED:
        message = order.error_text or f"The venue ended the order as {order.status}."
        if order.filled_base:
            message += f" {plain(order.filled_base)} {order.position.product.base} of it were filled."
        raise OrderRefused(order.error_code or str(order.status), message, order=order.pk)


# What a person asks for ---------------------------------------------------------------------------------------------


def checked_amount(value: Decimal, field: str) -> Decimal:
    """Return ``value`` if it can be a price or an amount. Raises InvalidInput naming ``field`` (F23)."""
    if not value.is_finite():
        raise InvalidInput("not_a_number", "It has to be a number.", field=field)
    if value <= ZERO:
        raise InvalidInput("out_of_range", f"It is {_short(value)}; it has to be above 0.", field=field)
    if value >= LARGEST:
        raise InvalidInput("out_of_range", f"It is {_short(value)}; it has to be below {LARGEST:.0E}.", field=field)
    return value


def valid_until(time_in_force: TimeInForce, expires_at: datetime | None) -> datetime | None:
    """Return when the order ends, None for never. Raises InvalidInput for an end that is missing or past (F23)."""
    if time_in_force is TimeInForce.GTC:
        if expires_at is not None:
            raise InvalidInput(
                "contradiction", "An order that is good till cancelled has no end; choose GTD.", field="expires_at"
            )
        return None
    now = clock.now()
    if expires_at is None:
        raise InvalidInput("required", "Good till when? Give a moment in the future.", field="expires_at")
    if expires_at <= now:
        raise InvalidInput("in_the_past", "The end has to lie in the future.", field="expires_at", now=now.isoformat())
    if expires_at > now + LONGEST_ORDER:
        raise InvalidInput("out_of_range", f"An order waits for at most {LONGEST_ORDER.days} days.", field="expires_at")
    return expires_at


def part_to_close(
    position: Position, base: Decimal | None, share_pct: Decimal | None, price: Decimal | None
) -> Decimal | None:
    """Return how much base to close; None is everything that is left.

    ``base`` is an amount, ``share_pct`` percent of what is left; neither is everything. A rest that ``price`` makes too
    small to trade is closed along (F29). Raises InvalidInput naming the field, with what is left or the smallest order
    (F23).
    """
    left, unit = execution.remaining_base(position), position.product.base
    if base is not None and share_pct is not None:
        raise InvalidInput("contradiction", "Give an amount or a share, not both.", field="share_pct")
    if share_pct is not None:
        share = checked_amount(share_pct, "share_pct")
        if share > HUNDRED:
            raise InvalidInput("too_large", f"It is {_short(share)} %; at most 100 % can be closed.", field="share_pct")
        with for_money():
            base = left * share / HUNDRED
    elif base is not None and checked_amount(base, "base") > left:
        raise InvalidInput(
            "too_large", f"It is {_short(base)} {unit}; {plain(left)} {unit} are left.", field="base", remaining=left
        )
    if base is None or base >= left:
        return None
    if price is None:
        return base
    if is_dust(position, left, price) or is_dust(position, left - base, price):
        return None
    if is_dust(position, base, price):
        product = position.product
        raise InvalidInput(
            "below_minimum",
            f"{_short(base)} {unit} is below the smallest order of {plain(product.min_base)} {unit} and "
            f"{plain(product.min_quote)} {product.quote}.",
            field="base" if share_pct is None else "share_pct",
            asked=base,
        )
    return base


def blame(refusal: OrderRefused, field: str) -> InvalidInput | OrderRefused:
    """Return a refusal for an order's size as a mistake in ``field``; any other one as it is."""
    if refusal.code not in ("below_minimum", "ceiling_reached"):
        return refusal
    return InvalidInput(refusal.code, refusal.message, field=field, **refusal.detail)


def _short(value: Decimal) -> str:
    """Return a number that may have any number of digits, short enough for a sentence."""
    with suppress(ArithmeticError):
        if abs(value) < LARGEST:
            return plain(quantize(value))
    return f"{value:.2E}"


# The audit ------------------------------------------------------------------------------------------------------------


def record(position: Position, actor: str, action: str, **detail: object) -> None:
    """Leave an audit entry with the deal's owner, whoever acted."""
    name = f"deal {position.deal_number}" if position.deal_number else f"attempt {position.attempt_number}"
    target = f"{name} {position.product.symbol}"
    audit.record(position.account.owner_id, actor, action, target, position_id=position.pk, **detail)
