"""What carrying out a decision of the cycle takes: cancels that come first, checks that may refuse it, and its order.

The steps, their order and their transaction are ``bots.engine``'s, which submits the order that is intended here. What
refuses raises OrderRefused, and :func:`refused` makes it the decision's reason.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from bots.deciding import Judged, Outcome
from bots.facts import Facts
from bots.strategies.base import Action, Decision, OrderPlan, ReasonCode
from marketdata import sources
from positions import execution, slippage
from positions.guard import check as guard
from positions.models import Order
from positions.states import FINAL, OrderType, Purpose
from tradebot.core.decimals import plain, quantize
from tradebot.core.errors import MissingInformation, NotFound, OrderRefused, VenueError

__all__ = ["cancel", "check_judged", "check_rejections", "check_slippage", "intend", "refused", "unconfirmed"]

FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=5)
"""How long after the first rejected order, and after many in a row, the next one is sent."""
CHANGED = "changed_meanwhile"
REJECTED = "venue_rejected"
UNJUDGED = frozenset({"balance_unknown", CHANGED, REJECTED}) | guard.UNKNOWN
"""Refusals that say nothing about the decision: its crossings are judged again."""


def cancel(outcome: Outcome) -> bool | None:
    """Cancel the resting orders that a decision names (F19, F21, F22).

    Return True when all of them have ended, so that all has to be decided again; False while the venue has not said so,
    which leaves the rest to the next look; None when there is nothing to cancel.
    """
    deal, names = outcome.deal, outcome.decision.cancels
    if deal is None or not names:
        return None
    ended = [execution.cancel(order, "bot").status in FINAL for order in deal.working if order.purpose in names]
    return all(ended) if ended else None


def unconfirmed(decision: Decision) -> Decision:
    """Return what is remembered while a cancel is not confirmed: nothing was acted on, so no crossing is spent."""
    return replace(
        decision,
        action=Action.NONE,
        code=ReasonCode.ORDER_PENDING,
        words=f"{decision.message}; the venue has not confirmed yet that the order in the way is cancelled",
        numbers=decision.evidence,
        evaluated_until=None,
    )


def refused(decision: Decision, refusal: OrderRefused) -> Decision:
    """Return the decision as the refusal of its order; while something is not known, no crossing is spent."""
    known = refusal.code in set(ReasonCode)
    code: Any = ReasonCode(refusal.code) if known else refusal.code  # refusals and reasons are one vocabulary on screen
    unknown = code.is_missing_information if known else code in UNJUDGED
    return replace(
        decision,
        action=Action.NONE,
        code=code,
        words=refusal.message,
        numbers={name: str(value) for name, value in refusal.detail.items()},
        trail=None if code == CHANGED else decision.trail,
        evaluated_until=None if unknown else decision.evaluated_until,
    )


def check_judged(outcome: Outcome) -> None:
    """Raise OrderRefused when the deal, which is locked now, is not as it was judged: then the next look decides.

    A person or another worker may have edited, added, sold, or booked a fill between the two; sizes, rungs and stops
    would be those of another deal (F1, F20).
    """
    if outcome.deal is not None and outcome.judged != Judged.of(outcome.deal.position):
        raise OrderRefused(CHANGED, "The deal was changed while it was looked at; it is looked at again.")


def check_rejections(outcome: Outcome, chunk: Facts) -> None:
    """Raise OrderRefused while the venue's latest no is too young for another try (F27).

    Each rejection in a row doubles the wait, up to :data:`LONGEST_WAIT`. Cancels need no order and never wait. Nor do
    recordings, which are looked at once a candle and end.
    """
    if chunk.products[outcome.row.product_id].exchange == sources.REPLAY:
        return
    if outcome.deal is not None:
        found = outcome.deal.rejections
    else:
        found = chunk.failed_opens.get((outcome.facts.bot.pk, outcome.row.product_id, outcome.side.direction))
    if found is None or outcome.decision.order is None:
        return
    count, at = found
    wait = min(FIRST_WAIT * 2 ** min(count - 1, 10), LONGEST_WAIT)
    if chunk.now - at < wait:
        raise OrderRefused(
            REJECTED, "The venue rejected the last order. Each time it does, the next try is made later.", wait=wait
        )


def check_slippage(outcome: Outcome, chunk: Facts) -> None:
    """Raise OrderRefused when the order book would make a market order worse than its plan allows.

    A recording has no book, so nothing is asked there.
    """
    plan, product = outcome.decision.order, chunk.products[outcome.row.product_id]
    if plan is None or plan.max_slippage_pct is None or plan.order_type is not OrderType.MARKET:
        return
    if product.exchange == sources.REPLAY:
        return
    try:
        found = slippage.expected(product.exchange, product.symbol, plan.side, plan.base_size)
    except (MissingInformation, VenueError, NotFound) as error:
        message = f"the order book of {product.symbol} cannot be read: {error.message}"
        raise OrderRefused(ReasonCode.MISSING_BOOK, message) from error
    allowed = plan.max_slippage_pct
    if found.is_covered and found.pct <= allowed:
        return
    what = f"{plain(plan.base_size)} {product.base}"
    if found.is_covered or found.pct > allowed:
        message = f"{what} would fill {found.pct:.3f} % worse than the best price, allowed are {plain(allowed)} %"
    else:
        message = f"{what} is more than the {plain(found.offered)} {product.base} that the order book shows"
    raise OrderRefused(
        ReasonCode.SLIPPAGE_TOO_HIGH,
        message,
        slippage_pct=f"{found.pct:.6f}",
        allowed_pct=plain(allowed),
        best=plain(found.best),
        average=plain(quantize(found.average)),
        offered=plain(found.offered),
    )


def intend(outcome: Outcome, chunk: Facts) -> Order | None:
    """Write down the order of a decision; None where the deal was closed without one (dust). Raises OrderRefused."""
    decision, facts = outcome.decision, outcome.facts
    if outcome.deal is not None:
        position = outcome.deal.position
        if decision.code is ReasonCode.DUST or decision.order is None:
            execution.close_as_dust(position)
            return None
        purpose = decision.purpose
        assert purpose is not None
        return execution.intend(
            position, _intent(decision, decision.order, purpose, outcome.deal.next_sequence(purpose))
        )
    pair, direction, bot = outcome.pair, outcome.side.direction, facts.bot
    assert pair is not None
    assert decision.order is not None
    assert decision.budget_quote is not None
    assert bot.account is not None
    on_pair = (deal for deal in facts.deals if deal.position.product_id == pair.product_id)
    return execution.intend_open(
        account=bot.account,
        bot=bot,
        product=chunk.products[pair.product_id],
        direction=direction,
        frozen_settings=facts.settings.to_json(),
        settings_version=bot.settings_version,
        strategy=bot.strategy,
        budget_quote=decision.budget_quote,
        max_active_deals=facts.settings.max_active_deals,
        max_deals_per_pair=facts.settings.max_deals_per_pair,
        intent=_intent(decision, decision.order, Purpose.BASE_ORDER, 1),
        expected_active=sum(deal.direction is direction for deal in on_pair),
    )


def _intent(decision: Decision, plan: OrderPlan, purpose: Purpose, sequence: int) -> execution.Intent:
    return execution.Intent(
        purpose=purpose,
        side=plan.side,
        order_type=plan.order_type,
        base_size=plan.base_size,
        limit_price=plan.limit_price,
        levels=plan.levels,
        exit_reason=decision.exit_reason,
        sequence=sequence,
        reference_price=plan.price,
    )
