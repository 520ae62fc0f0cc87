"""Take profit and stop of a perpetual deal, standing at its venue; the alarm when they do not.

What is wanted is a row (:class:`positions.models.Bracket`), written with the opening order or changed by hand. What
stands is two reduce-only orders of the deal, written down and sent like any other: a limit order (``bracket_profit``)
and a stop (``bracket_stop``). :func:`sync` makes the second agree with the first:

1. A deal that holds nothing any more wants nothing: what still rests of its bracket is cancelled. One leg's fill ends
   the other (venues cancel it with the position as well, both may happen).
2. While a close is under way nothing is touched: reduce-only orders cannot take more than there is.
3. A stop that the market is beyond already is carried out at once, at market.
4. A leg whose price is not wanted, or whose open size is not what the deal holds, is cancelled, its final state known
   (F19), and placed anew.
5. A leg that cannot be placed or confirmed sets the alarm: code and sentence on the deal, an event to everybody who may
   see the account, and from there the list of what needs somebody. It is tried again, after 5 seconds and then twice as
   long each time, five minutes at most, until it stands; then the alarm ends.

Where the venue keeps no stops (``capabilities.stop_orders``) the stop is watched here, by step 3 at each call, and the
bracket says so. Without a price that is blindness, and an alarm too.

It is called after the opening order, after each change by hand, and for every live deal every five seconds
(:mod:`positions.perps_loop`). A process that dies anywhere leaves the row; the next call goes on from there (F14). Two
callers at once cannot place a leg twice: intents are sequenced. Never inside a transaction, because venues are called.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Final

import structlog
from django.db import transaction

from accounts.access import people_of_account
from accounts.exchanges.factory import venue_of
from marketdata import market
from notifications import outbox
from positions import execution, handling
from positions.booking import announce, announce_position, lock_account, write
from positions.execution import Intent
from positions.models import Bracket, Order, Position
from positions.states import (
    BRACKET_PURPOSES,
    EXIT_REASON_OF,
    SINGLE_EXITS,
    WORKING,
    Direction,
    OrderStatus,
    OrderType,
    Purpose,
)
from tradebot.core import clock
from tradebot.core.decimals import ZERO, floor_to, plain
from tradebot.core.errors import OrderRefused, TradebotError

__all__ = ["ALARM", "is_beyond", "legs_of", "sync"]

log = structlog.get_logger(__name__)

ALARM: Final = "unprotected"
"""The deal's error code while its bracket does not stand."""
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=5)


class _Failed(Exception):
    """A leg does not stand: ``code`` and a sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def legs_of(position: Position) -> dict[Purpose, Order]:
    """Return the working orders of the deal's bracket, by purpose."""
    rows = Order.objects.filter(position=position, status__in=WORKING, purpose__in=BRACKET_PURPOSES)
    return {Purpose(order.purpose): order for order in rows.select_related("account", "position__product")}


def is_beyond(direction: Direction, price: Decimal, stop: Decimal) -> bool:
    """Return whether ``price`` is at the stop or past it."""
    return price <= stop if direction is Direction.LONG else price >= stop


def sync(position: Position, *, now: bool = False) -> Bracket | None:
    """Make the deal's resting orders agree with its bracket (steps above) and return it; None when it never had one.

    ``now`` tries again at once after failures, as a person who just changed something expects. Failures of the bracket
    are told by the alarm and not raised.
    """
    handling.refresh(position)
    bracket = Bracket.objects.filter(position=position).first()
    if bracket is None:
        return None
    if execution.remaining_base(position) <= ZERO:
        _drop_legs(position)
        if bracket.alarm_code:
            _calm(bracket, position)
    elif not position.orders.filter(status__in=WORKING, purpose__in=SINGLE_EXITS).exists():
        try:
            stands = _make_stand(position, bracket, now=now)
        except _Failed as failure:
            _alarm(bracket, position, failure.code, failure.text)
        except TradebotError as error:
            _alarm(bracket, position, error.code, error.message)
        except Exception as error:  # an unprotected position must be told, whatever it was
            log.exception("bracket.failed", position=position.pk)
            _alarm(bracket, position, "error", f"Something went wrong here ({type(error).__name__}).")
        else:
            if stands and (bracket.alarm_code or bracket.failures):
                _calm(bracket, position)
    return bracket


def _make_stand(position: Position, bracket: Bracket, *, now: bool) -> bool:
    """Carry out a stop that was passed, or place what is missing; return whether the bracket stands as wanted."""
    if _stopped_out(position, bracket):
        return False
    if bracket.next_try_at is not None and bracket.next_try_at > clock.now() and not now:
        return False
    for purpose in (Purpose.BRACKET_STOP, Purpose.BRACKET_PROFIT):  # what protects comes first
        _place(position, bracket, purpose)
    return True


# Legs -----------------------------------------------------------------------------------------------------------------


def _drop_legs(position: Position) -> None:
    """Cancel what still rests of the bracket of a deal that holds nothing; reconciliation goes on where this fails."""
    for order in legs_of(position).values():
        execution.cancel(order, "system")
    handling.refresh(position)


def _stopped_out(position: Position, bracket: Bracket) -> bool:
    """Close at market when the price is beyond the stop and no stop order stands that would; return whether it was."""
    keeps_stops = venue_of(position.account).capabilities.stop_orders
    watched = bracket.stop_loss is not None and not keeps_stops
    if watched != bracket.watched:
        write(bracket, watched=watched)
    if bracket.stop_loss is None or (keeps_stops and Purpose.BRACKET_STOP in legs_of(position)):
        return False
    quote = market.quote(position.account.exchange, position.product.symbol, None, market.OLDEST_USABLE)
    if quote is None:
        if watched:
            raise _Failed("no_price", f"There is no price of {position.product.symbol} to watch the stop with.")
        return False
    direction = Direction(position.direction)
    if not is_beyond(direction, quote.bid if direction is Direction.LONG else quote.ask, bracket.stop_loss):
        return False
    log.info("bracket.stopped_out", position=position.pk)
    intent = Intent(
        purpose=Purpose.STOP_LOSS,
        sequence=execution.next_sequence(position, Purpose.STOP_LOSS),
        exit_reason=EXIT_REASON_OF[Purpose.STOP_LOSS],
        actor="system",
    )
    try:
        order = execution.submit(execution.intend(position, intent))
    except OrderRefused as refusal:
        if refusal.code == "duplicate_intent":
            return True  # somebody else is at it
        raise
    handling.refresh(position)
    if order.status == OrderStatus.REJECTED:
        raise _Failed(order.error_code or "rejected", f"The stop could not be carried out: {order.error_text}")
    if execution.remaining_base(position) <= ZERO:
        _drop_legs(position)
    return True


def _place(position: Position, bracket: Bracket, purpose: Purpose) -> None:
    """Make one leg stand as wanted. Raises _Failed, TradebotError."""
    is_stop = purpose is Purpose.BRACKET_STOP
    wanted = bracket.stop_loss if is_stop else bracket.take_profit
    if is_stop and bracket.watched:
        wanted = None
    size = floor_to(execution.remaining_base(position), position.product.base_increment)
    standing = legs_of(position).get(purpose)
    if standing is not None:
        if standing.status == OrderStatus.SUBMITTED:
            raise _Failed("unconfirmed", f"The venue has not confirmed the {_name(purpose)} yet.")
        price = standing.trigger_price if is_stop else standing.limit_price
        if price == wanted and (standing.base_size or ZERO) - standing.filled_base == size:
            return
        handling.stop_orders(position, "system", "The old one still rests", pk=standing.pk)
        size = floor_to(execution.remaining_base(position), position.product.base_increment)
    if wanted is None or size <= ZERO:
        return
    intent = Intent(
        purpose=purpose,
        sequence=execution.next_sequence(position, purpose),
        order_type=OrderType.MARKET if is_stop else OrderType.LIMIT,
        limit_price=None if is_stop else wanted,
        trigger_price=wanted if is_stop else None,
        exit_reason=EXIT_REASON_OF[purpose],
        actor="system",
    )
    try:
        order = execution.submit(execution.intend(position, intent))
    except OrderRefused as refusal:
        if refusal.code == "duplicate_intent":
            return  # somebody else places it at this moment; the next call looks again
        raise
    handling.refresh(position)
    if order.status == OrderStatus.SUBMITTED:
        raise _Failed("unconfirmed", f"The venue has not confirmed the {_name(purpose)} yet.")
    if order.status == OrderStatus.REJECTED:
        raise _Failed(order.error_code or "rejected", f"The {_name(purpose)} was refused: {order.error_text}")


def _name(purpose: Purpose) -> str:
    return "stop" if purpose is Purpose.BRACKET_STOP else "take profit"


# The alarm ------------------------------------------------------------------------------------------------------------


def _alarm(bracket: Bracket, position: Position, code: str, text: str) -> None:
    """Write the alarm down and tell it once; the next try waits a little longer each time."""
    pause = min(FIRST_PAUSE * 2 ** min(bracket.failures, 10), LONGEST_PAUSE)
    is_news = bracket.alarm_code != code
    log.warning("bracket.alarm", position=position.pk, code=code)
    with transaction.atomic():
        lock_account(position.account_id)
        handling.refresh(position)
        write(
            bracket,
            alarm_code=code[:60],
            alarm_text=text[:300],
            alarm_at=bracket.alarm_at or clock.now(),
            failures=bracket.failures + 1,
            next_try_at=clock.now() + pause,
        )
        if position.closed_at is not None or not is_news:
            return
        sentence = f"{_wanted(bracket)} not at the venue: {text}"
        write(position, error_code=ALARM, last_error=sentence[:300])
        announce_position(position)
        _tell(position, "error", f"{_deal(position)} is not protected. {sentence} It is tried again.")


def _calm(bracket: Bracket, position: Position) -> None:
    with transaction.atomic():
        lock_account(position.account_id)
        handling.refresh(position)
        had_alarm = bool(bracket.alarm_code)
        write(bracket, alarm_code="", alarm_text="", alarm_at=None, failures=0, next_try_at=None)
        if position.error_code == ALARM:
            write(position, error_code="", last_error="")
            announce_position(position)
        if had_alarm and position.closed_at is None and execution.remaining_base(position) > ZERO:
            _tell(position, "info", f"{_deal(position)}: its take profit and stop stand as wanted again.")


def _wanted(bracket: Bracket) -> str:
    parts = [
        f"{name} {plain(price)}"
        for name, price in (("take profit", bracket.take_profit), ("stop", bracket.stop_loss))
        if price is not None
    ]
    words = " and ".join(parts) or "the bracket"
    return f"{words[0].upper()}{words[1:]} {'are' if len(parts) > 1 else 'is'}"


def _deal(position: Position) -> str:
    number = f"deal {position.deal_number}" if position.deal_number else f"attempt {position.attempt_number}"
    return f"{position.account.name}: {number} on {position.product.symbol}"


def _tell(position: Position, level: str, message: str) -> None:
    payload = {
        "code": "bracket",
        "level": level,
        "message": message,
        "position_id": position.pk,
        "account_id": position.account_id,
    }
    people = people_of_account(position.account_id)
    announce(position.account_id, lambda: outbox.publish(people, "notification", payload, position.account_id))
