"""How a DCA deal ends or is sold in part: stops, profit, close conditions, and limit closes that wait. Pure.

Stops go to market and clear everything out of their way. Everything else checks its floor at the very price that its
order asks for or would get (F15), and never falls back to a worse one (F16).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from bots.conditions import Verdict, evaluate
from bots.sizing import below_minimum
from bots.strategies.base import Action, Decision, OrderPlan, ReasonCode, TrailState, WorkingOrder
from bots.strategies.dca_common import candle_lag, checks_json, limit_price, seconds
from bots.strategies.dca_deal import DealLook, Words
from bots.strategies.dca_words import TakeProfitMode
from positions.ledger import sellable
from positions.states import MANUAL_PURPOSES, ExitReason, OrderType, Purpose
from tradebot.core.decimals import HUNDRED, MONEY, QUANTUM, ZERO, floor_to, for_money, plain

__all__ = ["close_by_conditions", "followed", "protective_exit", "resting_close", "take_profit"]

_NO_TRAIL: Final = TrailState()

_EXITS: Final = {
    ReasonCode.TAKE_PROFIT: ExitReason.TAKE_PROFIT,
    ReasonCode.TRAILING_TAKE_PROFIT: ExitReason.TRAILING_TAKE_PROFIT,
    ReasonCode.STOP_LOSS: ExitReason.STOP_LOSS,
    ReasonCode.TRAILING_STOP: ExitReason.TRAILING_STOP,
    ReasonCode.MAX_HOLD: ExitReason.MAX_HOLD,
    ReasonCode.CLOSE_CONDITION: ExitReason.CLOSE_CONDITION,
}


# Stops --------------------------------------------------------------------------------------------------------------


def followed(look: DealLook) -> TrailState:
    """Return the trail after this moment's prices: it only ever tightens, and what is armed stays armed (F44).

    Only the best price since the last look and whether a stop is hit now matter, so looks in between, at prices that
    are neither a new best nor beyond a stop, change nothing.
    """
    side, plan, trail = look.side, look.plan, look.deal.trail
    factor = side.trailing_stop_factor
    is_trailing = look.settings.take_profit_mode is TakeProfitMode.TRAILING
    if factor is None and plan.stop_loss is None and not is_trailing:
        return _NO_TRAIL
    mark, price = look.mark, look.exit_price
    best = stop = peak = None
    if factor is not None:
        best = _best(look, mark, plan.base_order_price, trail.best)
        stop = _best(look, (best * factor).quantize(QUANTUM, context=MONEY), trail.stop)
    armed = False
    if is_trailing:
        armed = trail.armed or (plan.target is not None and look.is_better(price, plan.target))
        peak = _best(look, price, trail.peak) if armed else None
    look.touched = _touched(look, stop)
    since = (trail.breached_at or look.now) if look.touched else None
    candle_at = look.quote.at if factor is not None and look.has_range else None
    found = (peak, best, stop, since, candle_at)
    if trail.armed is armed and (trail.peak, trail.best, trail.stop, trail.breached_at, trail.candle_at) == found:
        return trail
    return TrailState(armed, *found)


def _touched(look: DealLook, trailing: Decimal | None) -> tuple[Purpose, Decimal] | None:
    """Return the stop that is hit, and its level. ``trailing`` is the trailing stop after this moment's price.

    Recordings are looked at once a candle: there the candle's worst price counts against the stops as they stood before
    it. A stop that has to hold for a while is judged by the mark alone.
    """
    loss, mark, worst = look.plan.stop_loss, look.mark, look.worst
    if loss is not None and look.reached(worst, loss):
        return Purpose.STOP_LOSS, loss
    if trailing is None:
        return None
    if look.reached(mark, trailing):
        return Purpose.TRAILING_STOP, trailing
    if worst == mark or look.deal.trail.candle_at == look.quote.at:
        return None  # the stop has risen by this very candle already: its low came before that
    factor, best = look.side.trailing_stop_factor, look.deal.trail.best or look.plan.base_order_price
    before = look.deal.trail.stop
    if before is None and best is not None and factor is not None:
        before = best * factor
    return (Purpose.TRAILING_STOP, before) if before is not None and look.reached(worst, before) else None


def _best(look: DealLook, price: Decimal, *others: Decimal | None) -> Decimal:
    for other in others:
        if other is not None and (other > price if look.is_long else other < price):
            price = other
    return price


def protective_exit(look: DealLook) -> Decision | None:
    """Return a close by stop loss, trailing stop or longest hold, or the reason why a hit stop waits."""
    since = look.trail.breached_at
    if since is None or look.touched is None:
        return _overdue(look)
    purpose, level = look.touched
    code = ReasonCode.STOP_LOSS if purpose is Purpose.STOP_LOSS else ReasonCode.TRAILING_STOP

    def words() -> str:
        return _stop_loss_words(look) if purpose is Purpose.STOP_LOSS else _trailing_stop_words(look)

    held = look.now - since
    if held >= look.shape.stop_timeout:
        # Where the stop was only touched on the way, nothing better than the stop itself is counted on.
        at = look.exit_price
        price = at if look.reached(at, level) else level.quantize(QUANTUM, context=MONEY)
        return _close(look, purpose, code, words, protective=True, price=price)
    overdue = _overdue(look)
    if overdue is not None:
        return overdue
    allowed = look.settings.stop_timeout_seconds
    return look.hold(
        ReasonCode.STOP_WAITING,
        lambda: f"{words()}; waiting {seconds(held)} of {allowed} s for it to hold",
        lambda: {"held_seconds": seconds(held)},
    )


def _stop_loss_words(look: DealLook) -> str:
    return f"price {look.text(_least(look))} reached the stop loss at {look.text(look.plan.stop_loss or ZERO)}"


def _trailing_stop_words(look: DealLook) -> str:
    trail = look.trail
    best = f" (best {look.text(trail.best)})" if trail.best is not None else ""
    return f"price {look.text(_least(look))} reached the trailing stop at {look.text(trail.stop or ZERO)}{best}"


def _least(look: DealLook) -> Decimal:
    """Return the price that hit the stop."""
    level = look.touched[1] if look.touched else ZERO
    return look.mark if look.reached(look.mark, level) else look.worst


def _overdue(look: DealLook) -> Decision | None:
    longest = look.shape.max_hold
    if longest is None or look.now - look.deal.opened_at < longest:
        return None

    def words() -> str:
        held = (look.now - look.deal.opened_at).total_seconds() / 3600
        return f"open for {held:.1f} h, the longest hold is {look.settings.max_hold_hours} h"

    return _close(look, Purpose.MAX_HOLD, ReasonCode.MAX_HOLD, words, protective=True)


# Profit -------------------------------------------------------------------------------------------------------------


def take_profit(look: DealLook) -> Decision | None:
    """Return the close, or the sale of a part, for a profit target that is reached; None when none is."""
    mode, floor = look.settings.take_profit_mode, look.plan.floor
    if mode is TakeProfitMode.TRAILING:
        return _trailing_profit(look)
    if floor is None or (mode is TakeProfitMode.CONDITIONS and not look.side.closing.is_empty):
        return None
    if not look.is_better(look.mark if look.shape.is_limit_profit else look.exit_price, floor):
        return None
    for price, is_limit in _offers(look):
        base = _due(look, price)
        if base is not None:
            return _close(
                look,
                Purpose.TAKE_PROFIT,
                ReasonCode.TAKE_PROFIT,
                lambda price=price: _profit_words(look, price),  # type: ignore[misc]
                price=price,
                is_limit=is_limit,
                base=base,
            )
    return None


def _trailing_profit(look: DealLook) -> Decision | None:
    trail = look.trail
    if not trail.armed or trail.peak is None:
        return None
    back = trail.peak * look.side.pull_back_factor
    if not look.reached(look.exit_price, back) and not _is_decided(look):
        return None
    for price, is_limit in _offers(look):
        if look.profit_at(price) < ZERO:
            continue

        def words(price: Decimal = price) -> str:
            return (
                f"price {look.text(price)} pulled back {plain(look.settings.trailing_deviation)} % from its best "
                f"{look.text(trail.peak or ZERO)}: profit {look.profit_at(price):.2f} % net"
            )

        return _close(
            look,
            Purpose.TAKE_PROFIT,
            ReasonCode.TRAILING_TAKE_PROFIT,
            words,
            price=price,
            is_limit=is_limit,
        )
    return None


def close_by_conditions(look: DealLook) -> Decision | None:
    """Return a close by the close tree; its floor is checked at the price of the order (F15)."""
    closing = look.side.closing
    if closing.is_empty:
        return None
    offer = next((offer for offer in _offers(look) if _is_above_floor(look, offer[0])), None)
    if offer is None:
        return None
    verdict: Verdict | None = None
    if not _is_decided(look):
        if candle_lag(closing, look.view, look.now):
            return None
        verdict = evaluate(closing.tree, look.view, look.deal.since)
        if not verdict.value:
            return None
    price, is_limit = offer
    return _close(
        look,
        Purpose.CLOSE_CONDITION,
        ReasonCode.CLOSE_CONDITION,
        lambda: f"close conditions met at {look.text(price)}: profit {look.profit_at(price):.2f} % net",
        price=price,
        is_limit=is_limit,
        verdict=verdict,
    )


def _is_decided(look: DealLook) -> bool:
    """Return whether the deal was to close already, but its limit order did not fill in time."""
    return look.deal.missed_limit_exit and look.shape.is_limit_profit


def _offers(look: DealLook) -> Iterator[tuple[Decimal, bool]]:
    """Yield the prices a close may ask for, the wanted one first, and whether it is a limit order.

    At market that is the price it would get. A limit order asks for the mark; after one that did not fill in time, for
    the price that fills at once.
    """
    if not look.shape.is_limit_profit:
        yield look.exit_price, False
        return
    if look.deal.missed_limit_exit:
        yield look.exit_price, True
    yield limit_price(look.mark, look.terms, is_buy=not look.is_long), True


def _is_above_floor(look: DealLook, price: Decimal) -> bool:
    """Return whether closing at ``price`` earns the take-profit percentage, if there is one."""
    if look.settings.take_profit is None:
        return True
    return look.plan.target is not None and look.is_better(price, look.plan.target)


def _due(look: DealLook, price: Decimal) -> Decimal | None:
    """Return the base to close at ``price`` for profit: everything, or what the steps reached ask for; None: nothing.

    A part that is too small to trade waits for the next step; a rest that would be is sold along.
    """
    plan, totals, terms = look.plan, look.deal.totals, look.terms
    if not plan.steps:
        return totals.remaining_base if plan.target is not None and look.is_better(price, plan.target) else None
    reached = [step for step in plan.steps if step[0] is not None and look.is_better(price, step[0])]
    if not reached:
        return None
    _target, share, is_last = reached[-1]
    if is_last:
        return totals.remaining_base
    part = totals.entry_base_net * share / HUNDRED - totals.exit_base_net
    size = sellable(part, price, terms.base_increment, terms.min_base, terms.min_quote)
    if not size:
        return None
    rest = totals.remaining_base - size
    return (
        size if sellable(rest, price, terms.base_increment, terms.min_base, terms.min_quote) else totals.remaining_base
    )


def _profit_words(look: DealLook, price: Decimal) -> str:
    steps, target = look.plan.steps, look.plan.target
    name = "the target"
    if steps:
        number = sum(1 for step in steps if step[0] is not None and look.is_better(price, step[0]))
        target, name = steps[number - 1][0], f"step {number} of {len(steps)}"
    return (
        f"price {look.text(price)} reached {name} {look.text(target or ZERO)}: profit {look.profit_at(price):.2f} % net"
    )


# A limit close that rests ---------------------------------------------------------------------------------------------


def resting_close(look: DealLook, order: WorkingOrder, wanted_add: Decision | None) -> Decision:
    """Return what becomes of a close in the book: it waits, moves to the price that fills at once, or makes way.

    ``wanted_add`` is the safety order that the price asks for, if any. A person's order is never touched (F17).
    """
    at = order.limit_price or ZERO
    if order.by_person or order.purpose in MANUAL_PURPOSES:
        return look.hold(ReasonCode.LIMIT_RESTING, lambda: f"{_now(look)}; a limit close rests at {look.text(at)}")
    waited = look.now - order.placed_at
    step = look.terms.price_increment if look.is_long else -look.terms.price_increment
    if not _is_good_enough(look, order.purpose, at + step):
        return look.cancel(
            ReasonCode.REPRICING,
            lambda: f"the limit close at {look.text(at)} no longer earns what is asked for; it is withdrawn",
            order.purpose,
        )
    if waited >= look.shape.limit_timeout:
        price = look.exit_price
        if not look.is_better(price, at) and _is_good_enough(look, order.purpose, price):
            return look.cancel(
                ReasonCode.REPRICING,
                lambda: (
                    f"the limit close at {look.text(at)} did not fill within {look.settings.limit_timeout_seconds} "
                    f"s; it moves to {look.text(price)}, profit {look.profit_at(price):.2f} % net"
                ),
                order.purpose,
            )
        if wanted_add is not None and wanted_add.action is Action.ADD:
            return look.cancel(
                ReasonCode.REPRICING,
                lambda: f"the limit close at {look.text(at)} makes way for a safety order: {wanted_add.message}",
                order.purpose,
            )
    allowed = look.settings.limit_timeout_seconds

    def words() -> str:
        patience = f", {seconds(waited)} of {allowed} s" if waited < look.shape.limit_timeout else ""
        return f"{_now(look)}; a limit close rests at {look.text(at)}{patience}"

    return look.hold(ReasonCode.LIMIT_RESTING, words)


def _is_good_enough(look: DealLook, purpose: Purpose, price: Decimal) -> bool:
    if purpose is Purpose.CLOSE_CONDITION:
        return _is_above_floor(look, price)
    if look.settings.take_profit_mode is TakeProfitMode.TRAILING:
        return look.profit_at(price) >= ZERO
    return _due(look, price) is not None


def _now(look: DealLook) -> str:
    return f"price {look.text(look.mark)}, {look.profit_at(look.exit_price):.2f} % net"


# The order ------------------------------------------------------------------------------------------------------------


def _close(
    look: DealLook,
    purpose: Purpose,
    code: ReasonCode,
    words: Words,
    *,
    protective: bool = False,
    price: Decimal | None = None,
    is_limit: bool = False,
    base: Decimal | None = None,
    verdict: Verdict | None = None,
) -> Decision:
    """Return a close of ``base`` (default: of what is left), or why it cannot be: in flight, dust, or too small.

    Stops cancel every resting order of the deal first. Other closes cancel the entries: nothing is added while a deal
    is closing. A person's entry is only cancelled where the whole deal ends (F22).
    """
    deal, terms = look.deal, look.terms
    price = look.exit_price if price is None else price
    remaining = deal.totals.remaining_base
    base = remaining if base is None else base
    cancels: tuple[Purpose, ...] = ()
    shortage = ""
    if deal.orders:
        if deal.pending_exit:
            return look.hold(ReasonCode.ORDER_PENDING, lambda: f"{_said(words)}; a close order is already under way")
        entries = (o for o in deal.resting_entries if not o.by_person or base == remaining)
        cancels = tuple(dict.fromkeys(order.purpose for order in entries))
        if protective and deal.resting_close is not None:
            cancels += (deal.resting_close.purpose,)
    # A resting close holds base that is not in the free balance, but free again once it is cancelled.
    wallet = deal.wallet_base if look.is_long and not (protective and deal.resting_close) else None
    if wallet is not None and wallet < base:
        shortage = f"; the wallet holds {plain(wallet)} of the {plain(base)} {terms.base} recorded"
        base = wallet
    size = sellable(base, price, terms.base_increment, terms.min_base, terms.min_quote)

    def numbers() -> dict[str, Any]:
        facts = {
            "price": plain(price),
            "profit_pct": f"{look.profit_at(price):.4f}",
            "remaining_base": plain(remaining),
        }
        return facts if verdict is None else {**facts, "checks": checks_json(verdict)}

    def message() -> str:
        return f"{_said(words)}{shortage}"

    if not size:
        problem = below_minimum(floor_to(base, terms.base_increment), price, terms)
        if not deal.totals.exit_fills:
            return look.hold(ReasonCode.BELOW_MINIMUM, lambda: f"{message()}, but {problem}", numbers)
        return Decision(
            Action.CLOSE,
            ReasonCode.DUST,
            f"what is left is dust: {problem}; closed at its current value",
            numbers,
            exit_reason=ExitReason.DUST,
            cancels=cancels,
            trail=look.trail,
            evaluated_until=None if cancels else look.judged(ReasonCode.DUST),
            direction=look.side.direction,
        )
    is_guarded = not protective and not is_limit
    return Decision(
        Action.CLOSE,
        code,
        message,
        numbers,
        purpose,
        _EXITS[code],
        OrderPlan(
            look.side.exit_side,
            OrderType.LIMIT if is_limit else OrderType.MARKET,
            size,
            price,
            0,
            price if is_limit else None,
            look.shape.max_slippage if is_guarded else None,
        ),
        cancels,
        look.trail,
        None if cancels else look.judged(code),
        look.side.direction,
    )


def _said(words: Words) -> str:
    with for_money():
        return words if isinstance(words, str) else words()
