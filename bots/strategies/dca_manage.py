"""What the DCA bot does with an open deal, in a fixed order. Pure.

1. Protective exits: stop loss, trailing stop, longest hold. They need a price and nothing else, and go to market.
2. Take profit by its mode, then the close conditions. Both check their floor at the price the order would get (F15).
3. Safety orders whose price has been reached.

Every formula works for both directions: entries pay the ask (long) or get the bid (short), exits the other one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, Final

from bots.conditions import evaluate, judged_until
from bots.sizing import Rung, base_for, below_minimum, ladder_of, safety_order_levels
from bots.strategies.base import (
    Action,
    DealView,
    Decision,
    FeeRates,
    MarketView,
    OrderPlan,
    Quote,
    ReasonCode,
    TrailState,
)
from bots.strategies.dca_common import (
    MAX_QUOTE_AGE,
    age_of,
    amount_text,
    candle_lag,
    checks_json,
    entry_price,
    refuse,
    stale_price,
)
from bots.strategies.dca_settings import DcaSettings, TakeProfitMode
from positions.ledger import is_better, profit_pct, sellable, target_price
from positions.states import Direction, ExitReason, OrderType, Purpose
from tradebot.core.decimals import HUNDRED, MONEY, ONE, ZERO, floor_to, plain, quantize, round_to

MAX_PROTECTIVE_QUOTE_AGE: Final = timedelta(seconds=300)
"""Prices older than this trigger no stop either: they are no prices any more."""

LEAST_SHARE: Final = Decimal("0.95")
"""An order short of money by at most 5 %, because of fees and slippage before it, is made that much smaller."""


def manage(settings: DcaSettings, deal: DealView, view: MarketView, now: datetime, fee_rates: FeeRates) -> Decision:
    """Return what to do with an open deal now. ``settings`` is the deal's own frozen copy.

    The decision's ``trail`` is the state to store whatever the action is. The message of a waiting deal names what it
    waits for.
    """
    with localcontext(MONEY):
        quote = view.quote
        if quote is None:
            return refuse(ReasonCode.MISSING_PRICE, f"the price of {view.product.symbol} is not known")
        if age_of(quote, now) > MAX_PROTECTIVE_QUOTE_AGE:
            return stale_price(quote, now, MAX_PROTECTIVE_QUOTE_AGE)
        target, rungs = take_profit_price(settings, deal, fee_rates), next_rungs(settings, deal)
        situation = _Situation(settings, deal, view, quote, now, fee_rates, target, rungs)
        trail = _followed(situation)
        fresh = age_of(quote, now) <= MAX_QUOTE_AGE
        decision = _protective_exit(situation, trail)
        if decision is None:
            decision = _unhurried(situation, trail) if fresh else stale_price(quote, now, MAX_QUOTE_AGE)
        judged = None
        if fresh and decision.code is not ReasonCode.ORDER_PENDING:
            trees = (settings.add_conditions, settings.close_conditions)
            judged = {key: time for tree in trees for key, time in judged_until(tree, view).items()} or None
        return replace(decision, trail=trail, evaluated_until=judged)


@dataclass(frozen=True, slots=True)
class _Situation:
    """One deal at one moment, with the prices its orders would get."""

    settings: DcaSettings
    deal: DealView
    view: MarketView
    quote: Quote
    now: datetime
    fee_rates: FeeRates
    target: Decimal | None
    rungs: list[Rung]

    @property
    def direction(self) -> Direction:
        return self.deal.direction

    @property
    def entry_price(self) -> Decimal:
        return entry_price(self.quote, self.direction)

    @property
    def exit_price(self) -> Decimal:
        return self.quote.bid if self.direction is Direction.LONG else self.quote.ask

    @property
    def profit_pct(self) -> Decimal:
        """Return the net profit of closing now, in percent of what the settings measure it against."""
        return profit_pct(self.deal.totals, self.exit_price, self.fee_rates.taker, self.settings.take_profit_type)


def take_profit_price(settings: DcaSettings, deal: DealView, fee_rates: FeeRates) -> Decimal | None:
    """Return the price at which the deal earns its take-profit percentage net of fees (F28); None without a target."""
    if settings.take_profit is None:
        return None
    return target_price(deal.totals, settings.take_profit, fee_rates.taker, settings.take_profit_type)


def stop_loss_price(settings: DcaSettings, deal: DealView) -> Decimal | None:
    """Return the stop loss: the average entry price moved against the deal by the percentage; None when off."""
    average = deal.totals.average_price
    if settings.stop_loss is None or average is None:
        return None
    return average * (ONE - deal.direction.sign * settings.stop_loss / HUNDRED)


def next_rungs(settings: DcaSettings, deal: DealView) -> list[Rung]:
    """Return the safety orders that are left, nearest first; sizes follow the base order actually filled (F37)."""
    reference = deal.totals.safety_reference(settings.deviation_reference)
    base_quote = deal.totals.base_order_quote or deal.totals.entry_quote
    if reference is None or not base_quote:
        return []
    return safety_order_levels(ladder_of(settings, base_quote), reference, deal.direction)[deal.levels_filled :]


def _best(direction: Direction, *prices: Decimal | None) -> Decimal:
    known = [price for price in prices if price is not None]
    return max(known) if direction is Direction.LONG else min(known)


def _pulled_back(peak: Decimal, pct: Decimal, direction: Direction) -> Decimal:
    """Return the price ``pct`` percent back from ``peak``."""
    return peak * (ONE - direction.sign * pct / HUNDRED)


def _reached(direction: Direction, price: Decimal, level: Decimal) -> bool:
    """Return whether ``price`` has moved against the deal as far as ``level``: a stop or a rung."""
    return price <= level if direction is Direction.LONG else price >= level


def _followed(now: _Situation) -> TrailState:
    """Return the trail after this moment's prices: it only ever tightens, and what is armed stays armed (F44)."""
    settings, direction, trail = now.settings, now.direction, now.deal.trail
    mark, price = now.quote.mark, now.exit_price
    best = stop = peak = None
    if settings.trailing_stop is not None:
        best = _best(direction, trail.best, now.deal.totals.base_order_price, mark)
        stop = _best(direction, trail.stop, quantize(_pulled_back(best, settings.trailing_stop, direction)))
    armed = False
    if settings.take_profit_mode is TakeProfitMode.TRAILING:
        target = now.target
        armed = trail.armed or (target is not None and is_better(direction, price, target))
        peak = _best(direction, trail.peak, price) if armed else None
    stops = (stop_loss_price(settings, now.deal), stop)
    breached = any(level is not None and _reached(direction, mark, level) for level in stops)
    since = (trail.breached_at or now.now) if breached else None
    return TrailState(armed, peak, best, stop, since)


def _protective_exit(now: _Situation, trail: TrailState) -> Decision | None:
    """Return a close by stop loss, trailing stop or longest hold, or the reason why a hit stop waits."""
    hit = _stop_hit(now, trail)
    if hit is None:
        return _overdue(now)
    purpose, code, message = hit
    held = int((now.now - (trail.breached_at or now.now)).total_seconds())
    allowed = now.settings.stop_timeout_seconds
    if held >= allowed:
        return _close(now, purpose, code, message, protective=True)
    waiting = f"{message}; waiting {held} of {allowed} s for it to hold"
    return _overdue(now) or refuse(ReasonCode.STOP_WAITING, waiting, held_seconds=held)


def _stop_hit(now: _Situation, trail: TrailState) -> tuple[Purpose, ReasonCode, str] | None:
    """Return the stop that the mark has reached: the stop loss first."""
    mark, stop = now.quote.mark, stop_loss_price(now.settings, now.deal)
    if stop is not None and _reached(now.direction, mark, stop):
        message = f"price {_price(now, mark)} reached the stop loss at {_price(now, stop)}"
        return Purpose.STOP_LOSS, ReasonCode.STOP_LOSS, message
    if trail.stop is not None and _reached(now.direction, mark, trail.stop):
        best = f" (best {_price(now, trail.best)})" if trail.best is not None else ""
        message = f"price {_price(now, mark)} reached the trailing stop at {_price(now, trail.stop)}{best}"
        return Purpose.TRAILING_STOP, ReasonCode.TRAILING_STOP, message
    return None


def _overdue(now: _Situation) -> Decision | None:
    hours = now.settings.max_hold_hours
    if hours is None or now.now - now.deal.opened_at < timedelta(hours=hours):
        return None
    held = (now.now - now.deal.opened_at).total_seconds() / 3600
    message = f"open for {held:.1f} h, the longest hold is {hours} h"
    return _close(now, Purpose.MAX_HOLD, ReasonCode.MAX_HOLD, message, protective=True)


def _unhurried(now: _Situation, trail: TrailState) -> Decision:
    """Return everything that is not protective: profit, close conditions, safety orders, or what is waited for."""
    deal = now.deal
    if deal.pending_exit or deal.pending_entry:
        kind = "close" if deal.pending_exit else "entry"
        return refuse(ReasonCode.ORDER_PENDING, f"a {kind} order is still under way")
    if not deal.resting_close:
        closing = _take_profit(now, trail) or _close_by_conditions(now)
        if closing is not None:
            return closing
    return _add(now) or _holding(now, trail)


def _take_profit(now: _Situation, trail: TrailState) -> Decision | None:
    settings, direction, price, target = now.settings, now.direction, now.exit_price, now.target
    if settings.take_profit_mode is TakeProfitMode.TRAILING:
        if not trail.armed or trail.peak is None:
            return None
        stop = _pulled_back(trail.peak, settings.trailing_deviation, direction)
        if not _reached(direction, price, stop) or now.profit_pct < ZERO:
            return None
        message = (
            f"price {_price(now, price)} pulled back {plain(settings.trailing_deviation)} % from its best "
            f"{_price(now, trail.peak)}: profit {now.profit_pct:.2f} % net"
        )
        return _close(now, Purpose.TAKE_PROFIT, ReasonCode.TRAILING_TAKE_PROFIT, message)
    by_price_alone = settings.take_profit_mode is TakeProfitMode.FIXED or settings.close_conditions.is_empty
    if not by_price_alone or target is None or not is_better(direction, price, target):
        return None
    message = f"price {_price(now, price)} reached the target {_price(now, target)}: profit {now.profit_pct:.2f} % net"
    return _close(now, Purpose.TAKE_PROFIT, ReasonCode.TAKE_PROFIT, message)


def _close_by_conditions(now: _Situation) -> Decision | None:
    """Return a close by the close tree; its floor is checked at the price the order would get (F15)."""
    tree, target = now.settings.close_conditions, now.target
    if tree.is_empty:
        return None
    if now.settings.take_profit is not None and (
        target is None or not is_better(now.direction, now.exit_price, target)
    ):
        return None
    if candle_lag(tree, now.view, now.now):
        return None
    verdict = evaluate(tree, now.view, now.deal.since)
    if not verdict.value:
        return None
    message = f"close conditions met at {_price(now, now.exit_price)}: profit {now.profit_pct:.2f} % net"
    return _close(
        now, Purpose.CLOSE_CONDITION, ReasonCode.CLOSE_CONDITION, message, evidence={"checks": checks_json(verdict)}
    )


_EXITS: Final = {
    ReasonCode.TAKE_PROFIT: ExitReason.TAKE_PROFIT,
    ReasonCode.TRAILING_TAKE_PROFIT: ExitReason.TRAILING_TAKE_PROFIT,
    ReasonCode.STOP_LOSS: ExitReason.STOP_LOSS,
    ReasonCode.TRAILING_STOP: ExitReason.TRAILING_STOP,
    ReasonCode.MAX_HOLD: ExitReason.MAX_HOLD,
    ReasonCode.CLOSE_CONDITION: ExitReason.CLOSE_CONDITION,
}


def _close(
    now: _Situation,
    purpose: Purpose,
    code: ReasonCode,
    message: str,
    *,
    protective: bool = False,
    evidence: dict[str, Any] | None = None,
) -> Decision:
    """Return a close at market of what is left, or why it cannot be: in flight, dust, or too small."""
    deal, terms, price = now.deal, now.view.product, now.exit_price
    if deal.pending_exit:
        return refuse(ReasonCode.ORDER_PENDING, f"{message}; a close order is already under way")
    base = deal.remaining_base
    # A resting close holds base that is not in the free balance but free again once it is cancelled.
    replaces = protective and deal.resting_close
    if now.direction is Direction.LONG and deal.wallet_base is not None and not replaces and deal.wallet_base < base:
        message += f"; the wallet holds {plain(deal.wallet_base)} of the {plain(base)} {terms.base} recorded"
        base = deal.wallet_base
    size = sellable(base, price, terms.base_increment, terms.min_base, terms.min_quote)
    facts = {
        "price": plain(price),
        "profit_pct": f"{now.profit_pct:.4f}",
        "remaining_base": plain(deal.remaining_base),
        **(evidence or {}),
    }
    if not size:
        return _untradable(now, base, message, facts)
    return Decision(
        action=Action.CLOSE,
        code=code,
        message=message,
        evidence=facts,
        purpose=purpose,
        exit_reason=_EXITS[code],
        order=OrderPlan(now.direction.exit_side, OrderType.MARKET, size, price, replaces_resting_close=replaces),
        direction=now.direction,
    )


def _untradable(now: _Situation, base: Decimal, message: str, facts: dict[str, Any]) -> Decision:
    """Return the close of a remainder as dust (F29), or the refusal of a deal that never was large enough (F27)."""
    terms = now.view.product
    problem = below_minimum(floor_to(base, terms.base_increment), now.exit_price, terms)
    if now.deal.totals.exit_fills:
        return Decision(
            action=Action.CLOSE,
            code=ReasonCode.DUST,
            message=f"what is left is dust: {problem}; closed at its current value",
            evidence=facts,
            exit_reason=ExitReason.DUST,
            direction=now.direction,
        )
    return refuse(ReasonCode.BELOW_MINIMUM, f"{message}, but {problem}", **facts)


def _add(now: _Situation) -> Decision | None:
    """Return a safety order for every level the price has passed, or why it is refused; None when none was passed."""
    settings, deal, price = now.settings, now.deal, now.entry_price
    passed = list(_passed(now.rungs, price, now.direction))
    if not passed:
        return None
    name = (
        f"safety order {passed[0].level}" if len(passed) == 1 else f"safety orders {passed[0].level}-{passed[-1].level}"
    )
    reached = f"price {_price(now, price)} reached {name} at {_price(now, passed[-1].price)}"
    if not settings.add_conditions.is_empty:
        lag = candle_lag(settings.add_conditions, now.view, now.now)
        if lag:
            return refuse(ReasonCode.STALE_CANDLES, f"{reached}, but {lag}")
        verdict = evaluate(settings.add_conditions, now.view, deal.since)
        if not verdict.value:
            return refuse(
                ReasonCode.ADD_CONDITIONS_NOT_MET, f"{reached}; {verdict.summary}", checks=checks_json(verdict)
            )
        evidence: dict[str, Any] = {"checks": checks_json(verdict)}
    else:
        evidence = {}
    return _adding(now, passed, reached, evidence)


def _passed(rungs: list[Rung], price: Decimal, direction: Direction) -> Iterator[Rung]:
    for rung in rungs:
        if rung.price <= ZERO or not _reached(direction, price, rung.price):
            return
        yield rung


def _adding(now: _Situation, passed: list[Rung], reached: str, evidence: dict[str, Any]) -> Decision:
    """Return the order for as many of the passed levels as ceiling and balance allow."""
    deal, terms, price, direction = now.deal, now.view.product, now.entry_price, now.direction
    free = deal.free_quote if direction is Direction.LONG else deal.wallet_base
    currency = terms.quote if direction is Direction.LONG else terms.base
    if free is None:
        return refuse(ReasonCode.MISSING_BALANCE, f"{reached}, but the free balance of {currency} is not known")
    affordable = free / (ONE + now.fee_rates.taker) if direction is Direction.LONG else free * price
    room = deal.budget_quote - deal.totals.entry_quote if deal.budget_quote is not None else None
    tolerance = terms.base_increment * price
    levels, wanted, size = 0, ZERO, ZERO
    for count in range(len(passed), 0, -1):
        wanted = sum((rung.size for rung in passed[:count]), ZERO)
        size = min(wanted, affordable) if room is None else min(wanted, affordable, room + tolerance)
        if size >= wanted * LEAST_SHARE:
            levels = count
            break
    if not levels:
        if room is not None and room + tolerance < wanted * LEAST_SHARE:
            return refuse(
                ReasonCode.CEILING_REACHED,
                f"{reached}, but {amount_text(wanted)} {terms.quote} does not fit: {amount_text(max(room, ZERO))} of "
                f"the deal's {amount_text(deal.budget_quote or ZERO)} {terms.quote} is left",
            )
        return refuse(
            ReasonCode.INSUFFICIENT_BALANCE,
            f"{reached}, but {amount_text(wanted)} {terms.quote} is needed and {amount_text(free)} {currency} is free",
            needed=amount_text(wanted),
            free=amount_text(free),
        )
    base = base_for(size, price, terms)
    problem = below_minimum(base, price, terms)
    if problem:
        return refuse(ReasonCode.BELOW_MINIMUM, f"{reached}, but {problem}")
    return Decision(
        action=Action.ADD,
        code=ReasonCode.ADDING,
        message=f"{reached}: add {plain(base)} {terms.base} for {amount_text(base * price)} {terms.quote}",
        evidence={
            "price": plain(price),
            "levels": [rung.level for rung in passed[:levels]],
            "trigger": plain(quantize(passed[levels - 1].price)),
            **evidence,
        },
        purpose=Purpose.SAFETY_ORDER,
        order=OrderPlan(direction.entry_side, OrderType.MARKET, base, price, levels=levels),
        direction=direction,
    )


def _holding(now: _Situation, trail: TrailState) -> Decision:
    """Return the reason for doing nothing: what the deal waits for, with the prices."""
    waits: list[str] = []
    code = ReasonCode.HOLDING
    if trail.armed and trail.peak is not None:
        code = ReasonCode.TRAIL_ARMED
        stop = _pulled_back(trail.peak, now.settings.trailing_deviation, now.direction)
        waits.append(f"following the best price {_price(now, trail.peak)}, sells at {_price(now, stop)}")
    elif now.target is not None:
        waits.append(f"target {_price(now, now.target)}")
        if is_better(now.direction, now.exit_price, now.target) and not now.deal.resting_close:
            code = ReasonCode.CLOSE_CONDITIONS_NOT_MET
            waits.append("reached, the close conditions do not hold yet")
    if now.deal.resting_close:
        waits.append("a limit close rests")
    if now.rungs:
        waits.append(f"next safety order at {_price(now, now.rungs[0].price)}")
    stops = [stop for stop in (stop_loss_price(now.settings, now.deal), trail.stop) if stop is not None]
    if stops:
        waits.append(f"stop at {_price(now, _best(now.direction, *stops))}")
    message = f"price {_price(now, now.quote.mark)}, {now.profit_pct:.2f} % net"
    return refuse(code, f"{message}; " + ", ".join(waits) if waits else message)


def _price(now: _Situation, price: Decimal) -> str:
    return plain(round_to(price, now.view.product.price_increment))
