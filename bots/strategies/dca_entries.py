"""How a DCA deal grows: safety orders at market or waiting in the book, and a limit base order that waits. Pure."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from bots.conditions import Verdict, evaluate
from bots.sizing import Rung, below_minimum
from bots.strategies.base import Action, DealView, Decision, OrderPlan, ReasonCode, WorkingOrder
from bots.strategies.dca_common import amount_text, candle_lag, checks_json, limit_price, price_text, seconds
from bots.strategies.dca_deal import DealLook, Words, waiting
from bots.strategies.dca_settings import DcaSettings
from marketdata.terms import ProductTerms
from positions.ledger import WORSE
from positions.states import OrderType, Purpose
from tradebot.core.decimals import ONE, ZERO, floor_to, plain, quantize

__all__ = ["LEAST_SHARE", "add", "awaited", "base_order_rests", "resting_rung"]

LEAST_SHARE: Final = Decimal("0.95")
"""An order short of money by at most 5 %, because of fees and slippage before it, is made that much smaller."""

SAME_SIZE: Final = Decimal("0.99")
"""A resting order that is smaller than wanted by less than this is left alone: fees make that much of a difference."""


# The base order -------------------------------------------------------------------------------------------------------


def awaited(settings: DcaSettings, deal: DealView, terms: ProductTerms, now: datetime) -> Decision:
    """Return what becomes of a deal that has no fill yet. It needs no price."""
    order = next((order for order in deal.orders if order.is_entry), None)
    if order is None:
        return waiting(ReasonCode.UNFILLED, "the base order ended without a fill")
    if not order.is_resting:
        return waiting(ReasonCode.ORDER_PENDING, "the base order is still under way")
    if _is_overdue(settings, order, now):
        return Decision(
            Action.CANCEL,
            ReasonCode.UNFILLED,
            lambda: (
                f"the limit base order at {price_text(order.limit_price or ZERO, terms)} did not fill within "
                f"{settings.limit_timeout_seconds} s; it is cancelled"
            ),
            cancels=(order.purpose,),
            direction=deal.direction,
        )
    return waiting(ReasonCode.LIMIT_RESTING, lambda: _base_words(settings, order, terms, now))


def base_order_rests(look: DealLook) -> Decision | None:
    """Return what becomes of a base order that has filled in part and still rests; None when there is none.

    No safety order is placed before it has ended: their sizes follow from it (F37).
    """
    order = next((order for order in look.deal.resting_entries if order.purpose is Purpose.BASE_ORDER), None)
    if order is None:
        return None
    settings, terms, now = look.settings, look.terms, look.now
    if _is_overdue(settings, order, now):
        return look.cancel(
            ReasonCode.UNFILLED,
            lambda: (
                f"{_filled(order, terms)} of the limit base order filled within {settings.limit_timeout_seconds} s; "
                "the rest is cancelled"
            ),
            order.purpose,
        )
    return look.hold(ReasonCode.LIMIT_RESTING, lambda: _base_words(settings, order, terms, now))


def _is_overdue(settings: DcaSettings, order: WorkingOrder, now: datetime) -> bool:
    return not order.by_person and now - order.placed_at >= settings.shape.limit_timeout


def _filled(order: WorkingOrder, terms: ProductTerms) -> str:
    return f"{plain(order.filled_base)} of {plain(order.base_size)} {terms.base}"


def _base_words(settings: DcaSettings, order: WorkingOrder, terms: ProductTerms, now: datetime) -> str:
    price, waited = price_text(order.limit_price or ZERO, terms), seconds(now - order.placed_at)
    return (
        f"the limit base order waits at {price}, {_filled(order, terms)} filled, "
        f"{waited} of {settings.limit_timeout_seconds} s"
    )


# Safety orders --------------------------------------------------------------------------------------------------------


def add(look: DealLook) -> Decision | None:
    """Return a safety order, what becomes of one that rests, or why one is refused; None when none is asked for."""
    resting = resting_rung(look) if look.deal.orders else None
    if look.shape.is_limit_safety:
        return _rung_in_book(look, resting)
    if resting is not None:  # one that has filled in part is left alone
        words = "safety orders go at market now; the one that waits is cancelled"
        return None if resting.filled_base else look.cancel(ReasonCode.REPRICING, words, resting.purpose)
    price = look.plan.next_price
    if price is None or not look.reached(look.entry_price, price):
        return None
    return _at_market(look)


def resting_rung(look: DealLook) -> WorkingOrder | None:
    """Return the safety order in the book."""
    entries = look.deal.resting_entries
    return next((order for order in entries if order.purpose is Purpose.SAFETY_ORDER), None)


def _at_market(look: DealLook) -> Decision:
    """Return one order for every level that the price has passed."""
    passed = list(look.passed())

    def reached() -> str:
        first, last = passed[0], passed[-1]
        name = f"safety order {first.level}" if len(passed) == 1 else f"safety orders {first.level}-{last.level}"
        return f"price {look.text(look.entry_price)} reached {name} at {look.text(last.price)}"

    adding = look.side.adding
    verdict: Verdict | None = None
    if not adding.is_empty:
        lag = candle_lag(adding, look.view, look.now)
        if lag:
            return look.hold(ReasonCode.STALE_CANDLES, lambda: f"{reached()}, but {lag}")
        verdict = evaluate(adding.tree, look.view, look.deal.since)
        if not verdict.value:
            judged = verdict
            return look.hold(
                ReasonCode.ADD_CONDITIONS_NOT_MET,
                lambda: f"{reached()}; {judged.summary}",
                lambda: {"checks": checks_json(judged)},
            )
    return _adding(look, passed, look.entry_price, reached, verdict)


def _rung_in_book(look: DealLook, resting: WorkingOrder | None) -> Decision | None:
    """Return the next safety order as a limit order at its own price, or the cancelling of one that is out of place."""
    if resting is not None and (resting.filled_base or resting.by_person):
        return None
    rung = look.next_rung()
    price = ZERO if rung is None else limit_price(rung.price, look.terms, is_buy=look.is_long)
    if rung is None or price <= ZERO:
        if resting is None:
            return None
        return look.cancel(
            ReasonCode.REPRICING, "no safety order is left; the one that waits is cancelled", resting.purpose
        )
    if resting is None:
        return _adding(look, [rung], price, lambda: f"safety order {rung.level} belongs at {look.text(price)}", None)
    if _is_in_place(look, resting, price, rung.size):
        return None
    return look.cancel(
        ReasonCode.REPRICING,
        lambda: (
            f"safety order {rung.level} belongs at {look.text(price)} now; the one that waits at "
            f"{look.text(resting.limit_price or ZERO)} is cancelled"
        ),
        resting.purpose,
    )


def _is_in_place(look: DealLook, order: WorkingOrder, price: Decimal, size: Decimal) -> bool:
    """Return whether a resting safety order is where and as large as it is wanted.

    One that was made smaller for want of money stays until there is enough for the difference.
    """
    deal, terms = look.deal, look.terms
    if order.limit_price is None or abs(order.limit_price - price) > terms.price_increment:
        return False
    room = _room(look, price)
    base = floor_to((size if room is None else max(min(size, room), ZERO)) / price, terms.base_increment)
    if order.base_size > base + terms.base_increment:
        return False
    if order.base_size >= base * SAME_SIZE - terms.base_increment:
        return True
    free = deal.free_quote if look.is_long else deal.wallet_base
    if free is None:
        return True
    missing = base - order.base_size
    return (missing * price * (ONE + look.fee_rates.taker) if look.is_long else missing) > free


def _room(look: DealLook, price: Decimal) -> Decimal | None:
    """Return how much quote safety orders may still spend, one increment more for rounding; None: no ceiling.

    What a person has resting in the book to be added counts as spent.
    """
    ceiling = look.deal.budget_quote
    if ceiling is None:
        return None
    waiting = ZERO
    for order in look.deal.orders:
        if order.is_entry and order.purpose is not Purpose.SAFETY_ORDER:
            waiting += (order.base_size - order.filled_base) * (order.limit_price or price)
    return ceiling - look.deal.totals.entry_quote - waiting + look.terms.base_increment * price


def _adding(look: DealLook, passed: list[Rung], price: Decimal, reached: Words, verdict: Verdict | None) -> Decision:
    """Return the order for as many of the levels as ceiling and balance allow."""
    deal, terms = look.deal, look.terms
    free, currency = (deal.free_quote, terms.quote) if look.is_long else (deal.wallet_base, terms.base)
    if free is None:
        return look.hold(
            ReasonCode.MISSING_BALANCE, lambda: f"{_said(reached)}, but the free balance of {currency} is not known"
        )
    affordable = free / (ONE + look.fee_rates.taker) if look.is_long else free * price
    room = _room(look, price)
    most = affordable if room is None else min(affordable, room)
    levels, wanted, size = 0, ZERO, ZERO
    for count in range(len(passed), 0, -1):
        wanted = sum((rung.size for rung in passed[:count]), ZERO)
        size = min(wanted, most)
        if size == affordable < wanted and look.is_long and not look.shape.is_limit_safety:
            size *= WORSE  # the price at market may be a worse one, and all that is free does not pay for that
        if size >= wanted * LEAST_SHARE:
            levels = count
            break
    if not levels:
        return _too_much(look, reached, wanted, room, free, currency, price)
    base = floor_to(size / price, terms.base_increment)
    if base <= ZERO or base < terms.min_base or base * price < terms.min_quote:
        return look.hold(ReasonCode.BELOW_MINIMUM, lambda: f"{_said(reached)}, but {below_minimum(base, price, terms)}")
    is_limit = look.shape.is_limit_safety
    cost = base * price

    def numbers() -> dict[str, Any]:
        facts = {
            "price": plain(price),
            "levels": [rung.level for rung in passed[:levels]],
            "trigger": plain(quantize(passed[levels - 1].price)),
        }
        return facts if verdict is None else {**facts, "checks": checks_json(verdict)}

    return Decision(
        Action.ADD,
        ReasonCode.ADDING,
        lambda: (
            f"{_said(reached)}: {'wait there with' if is_limit else 'add'} {plain(base)} {terms.base} for "
            f"{amount_text(cost)} {terms.quote}"
        ),
        numbers,
        Purpose.SAFETY_ORDER,
        None,
        OrderPlan(
            look.side.entry_side,
            OrderType.LIMIT if is_limit else OrderType.MARKET,
            base,
            price,
            levels,
            price if is_limit else None,
            None if is_limit else look.shape.max_slippage,
        ),
        (),
        look.trail,
        look.judged(ReasonCode.ADDING),
        look.side.direction,
    )


def _too_much(
    look: DealLook,
    reached: Words,
    wanted: Decimal,
    room: Decimal | None,
    free: Decimal,
    currency: str,
    price: Decimal,
) -> Decision:
    """Return why not even one level can be paid: the deal's ceiling or the balance."""
    terms, ceiling = look.terms, look.deal.budget_quote or ZERO
    if room is not None and room < wanted * LEAST_SHARE:
        left = max(room - terms.base_increment * price, ZERO)
        return look.hold(
            ReasonCode.CEILING_REACHED,
            lambda: (
                f"{_said(reached)}, but {amount_text(wanted)} {terms.quote} does not fit: {amount_text(left)} of "
                f"the deal's {amount_text(ceiling)} {terms.quote} is left"
            ),
        )
    return look.hold(
        ReasonCode.INSUFFICIENT_BALANCE,
        lambda: (
            f"{_said(reached)}, but {amount_text(wanted)} {terms.quote} is needed and {amount_text(free)} "
            f"{currency} is free"
        ),
        lambda: {"needed": amount_text(wanted), "free": amount_text(free)},
    )


def _said(words: Words) -> str:
    return words if isinstance(words, str) else words()
