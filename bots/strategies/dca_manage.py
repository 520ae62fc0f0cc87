"""What the DCA bot does with an open deal, in a fixed order. Pure.

1. Protective exits: stop loss, trailing stop, longest hold. They need a price and nothing else, go to market and cancel
   whatever rests.
2. A close that rests is waited for; meanwhile nothing is added.
3. Take profit by its mode, then the close conditions. Both check their floor at the price of their order (F15).
4. Safety orders: at market where their price is reached, or the next one as a limit order in the book.

Every formula works for both directions: entries pay the ask (long) or get the bid (short), exits the other one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from bots.strategies.base import DealView, Decision, FeeRates, MarketView, ReasonCode
from bots.strategies.dca_common import MAX_QUOTE_AGE, seconds, stale_words
from bots.strategies.dca_deal import (
    DealLook,
    next_rungs,
    step_prices,
    stop_loss_price,
    take_profit_price,
    waiting,
)
from bots.strategies.dca_entries import add, awaited, base_order_rests, resting_rung
from bots.strategies.dca_exits import close_by_conditions, followed, protective_exit, resting_close, take_profit
from bots.strategies.dca_settings import DcaSettings
from tradebot.core.decimals import ZERO, for_money

__all__ = ["manage", "next_rungs", "step_prices", "stop_loss_price", "take_profit_price"]

MAX_PROTECTIVE_QUOTE_AGE: Final = timedelta(seconds=300)
"""Prices older than this trigger no stop either: they are no prices any more."""


def manage(settings: DcaSettings, deal: DealView, view: MarketView, now: datetime, fee_rates: FeeRates) -> Decision:
    """Return what to do with a deal now. ``settings`` is the deal's own frozen copy.

    The decision's ``trail`` is the state to store whatever the action is. The message of a waiting deal names what it
    waits for.
    """
    with for_money():
        return _manage(settings, deal, view, now, fee_rates)


def _manage(settings: DcaSettings, deal: DealView, view: MarketView, now: datetime, fee_rates: FeeRates) -> Decision:
    if not deal.totals.entry_fills:
        return awaited(settings, deal, view.product, now)
    quote = view.quote
    if quote is None:
        return waiting(ReasonCode.MISSING_PRICE, f"the price of {view.product.symbol} is not known")
    look = DealLook(settings, deal, view, quote, now, fee_rates)
    if not look.is_fresh and now - quote.at > MAX_PROTECTIVE_QUOTE_AGE:
        return waiting(
            ReasonCode.STALE_PRICE,
            lambda: stale_words(quote, now, MAX_PROTECTIVE_QUOTE_AGE),
            lambda: {"age_seconds": seconds(now - quote.at)},
        )
    look.trail = followed(look)
    decision = protective_exit(look)
    if decision is not None:
        return decision
    if look.is_fresh:
        return _unhurried(look)
    return look.hold(
        ReasonCode.STALE_PRICE,
        lambda: stale_words(quote, now, MAX_QUOTE_AGE),
        lambda: {"age_seconds": seconds(now - quote.at)},
    )


def _unhurried(look: DealLook) -> Decision:
    """Return everything that is not protective: profit, close conditions, safety orders, or what is waited for."""
    deal = look.deal
    if deal.orders:
        if deal.pending_exit or deal.pending_entry:
            kind = "close" if deal.pending_exit else "entry"
            return look.hold(ReasonCode.ORDER_PENDING, f"a {kind} order is still under way")
        close = deal.resting_close
        if close is not None:
            entries = [order.purpose for order in deal.resting_entries if not order.by_person]
            if entries:
                words = "a limit close rests: nothing is added meanwhile, and what waits to be is cancelled"
                return look.cancel(ReasonCode.REPRICING, words, *dict.fromkeys(entries))
            price = look.plan.next_price
            asked = price is not None and look.reached(look.entry_price, price)
            return resting_close(look, close, add(look) if asked else None)
    closing = take_profit(look) or close_by_conditions(look)
    if closing is not None:
        return closing
    if deal.orders:
        waiting_for = base_order_rests(look)
        if waiting_for is not None:
            return waiting_for
    return add(look) or _holding(look)


def _holding(look: DealLook) -> Decision:
    """Return the decision to wait. What the deal waits for is worked out when somebody asks."""
    code = ReasonCode.HOLDING
    if look.trail.armed and look.trail.peak is not None:
        code = ReasonCode.TRAIL_ARMED
    elif look.plan.target is not None and not look.plan.steps and look.is_better(look.exit_price, look.plan.target):
        code = ReasonCode.CLOSE_CONDITIONS_NOT_MET
    return look.hold(code, lambda: _holding_words(look, code))


def _holding_words(look: DealLook, code: ReasonCode) -> str:
    with for_money():
        waits: list[str] = []
        trail, plan = look.trail, look.plan
        if code is ReasonCode.TRAIL_ARMED and trail.peak is not None:
            stop = trail.peak * look.side.pull_back_factor
            waits.append(f"following the best price {look.text(trail.peak)}, sells at {look.text(stop)}")
        elif plan.target is not None:
            waits.append(f"target {look.text(plan.target)}")
            if code is ReasonCode.CLOSE_CONDITIONS_NOT_MET:
                waits.append("reached, the close conditions do not hold yet")
        resting = resting_rung(look)
        if resting is not None:
            waits.append(f"a safety order rests at {look.text(resting.limit_price or ZERO)}")
        elif plan.next_price is not None:
            waits.append(f"next safety order at {look.text(plan.next_price)}")
        stops = [stop for stop in (plan.stop_loss, trail.stop) if stop is not None]
        if stops:
            waits.append(f"stop at {look.text(max(stops) if look.is_long else min(stops))}")
        message = f"price {look.text(look.mark)}, {look.profit_at(look.exit_price):.2f} % net"
        return f"{message}; " + ", ".join(waits) if waits else message
