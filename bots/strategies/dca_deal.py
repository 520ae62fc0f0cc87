"""An open DCA deal at one moment: the prices that matter to it, and the decisions to wait or to cancel. Pure.

What follows from the deal's fills and settings (target, stop loss, next rung) is worked out once and kept beside the
totals, as most looks happen between two fills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from bots.conditions import judged_until
from bots.sizing import Rung, ladder_of, safety_order_levels
from bots.strategies.base import Action, DealView, Decision, FeeRates, MarketView, Quote, ReasonCode, TrailState
from bots.strategies.dca_common import MAX_QUOTE_AGE, price_text
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.dca_shape import Shape, SideShape
from marketdata.terms import ProductTerms
from positions.ledger import Totals, profit_pct, target_price
from positions.states import Purpose
from tradebot.core.decimals import HUNDRED, ONE, ZERO, for_money

__all__ = [
    "DealLook",
    "DealPlan",
    "Numbers",
    "Words",
    "next_rungs",
    "step_prices",
    "stop_loss_price",
    "take_profit_price",
    "waiting",
]

Words = str | Callable[[], str]
Numbers = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
_NOTHING: Final[Mapping[str, Any]] = {}
_MEMO: Final = "dca"

SOLD: Final = Decimal("0.99")
"""A step of which this share is sold is over: what flooring left of it goes with the next one."""


# Prices -------------------------------------------------------------------------------------------------------------


def take_profit_price(settings: DcaSettings, deal: DealView, fee_rates: FeeRates) -> Decimal | None:
    """Return the price at which the deal earns its next profit target net of fees (F28); None without a target.

    The target is the take-profit percentage, or the first step that is not sold yet.
    """
    with for_money():
        return _target(settings, deal.totals, fee_rates.taker, _step_targets(settings, deal.totals, fee_rates.taker))


def stop_loss_price(settings: DcaSettings, deal: DealView) -> Decimal | None:
    """Return the stop loss: the average entry price moved against the deal by the percentage; None when off."""
    average = deal.totals.average_price
    if settings.stop_loss is None or average is None:
        return None
    with for_money():
        return average * (ONE - deal.direction.sign * settings.stop_loss / HUNDRED)


def next_rungs(settings: DcaSettings, deal: DealView) -> list[Rung]:
    """Return the safety orders that are left, nearest first; sizes follow the base order actually filled (F37)."""
    reference = deal.totals.safety_reference(settings.deviation_reference)
    base_quote = deal.totals.base_order_quote or deal.totals.entry_quote
    if reference is None or not base_quote:
        return []
    return safety_order_levels(ladder_of(settings, base_quote), reference, deal.direction)[deal.levels_filled :]


StepTarget = tuple[Decimal | None, Decimal, bool]
"""The price of a step, the share of the deal in percent that is sold once it is done, and whether it is the last."""


def _step_targets(settings: DcaSettings, totals: Totals, fee_rate: Decimal) -> tuple[StepTarget, ...]:
    found: list[StepTarget] = []
    share = ZERO
    for step in settings.take_profit_steps:
        share += step.share_pct
        price = target_price(totals, step.profit_pct, fee_rate, settings.take_profit_type)
        found.append((price, share, share >= HUNDRED))
    return tuple(found)


def step_prices(settings: DcaSettings, deal: DealView, fee_rates: FeeRates) -> list[tuple[Decimal | None, Decimal]]:
    """Return price and share in percent of each profit step, the ones that are sold included."""
    with for_money():
        targets = _step_targets(settings, deal.totals, fee_rates.taker)
    return [(found[0], step.share_pct) for found, step in zip(targets, settings.take_profit_steps, strict=True)]


def _target(settings: DcaSettings, totals: Totals, fee_rate: Decimal, steps: tuple[StepTarget, ...]) -> Decimal | None:
    if not steps:
        percent = settings.take_profit
        return None if percent is None else target_price(totals, percent, fee_rate, settings.take_profit_type)
    sold, before = totals.exit_base_net * HUNDRED, ZERO
    for price, share, is_last in steps:
        if is_last or sold < totals.entry_base_net * (before + (share - before) * SOLD):
            return price
        before = share
    return None


# One look -----------------------------------------------------------------------------------------------------------


class DealPlan:
    """What the fills and settings of a deal come to: valid until the next fill.

    ``target`` is the next profit target, ``floor`` the price below which nothing is sold for profit.
    """

    __slots__ = (
        "base_order_price",
        "floor",
        "levels",
        "next_price",
        "reference",
        "settings",
        "steps",
        "stop_loss",
        "taker",
        "target",
    )

    def __init__(self, settings: DcaSettings, side: SideShape, totals: Totals, levels: int, taker: Decimal) -> None:
        self.settings = settings
        self.levels = levels
        self.taker = taker
        self.steps = _step_targets(settings, totals, taker) if settings.take_profit_steps else ()
        self.target = _target(settings, totals, taker, self.steps)
        # Not the next step: what a fill has added since may make an earlier one due again.
        self.floor = self.steps[0][0] if self.steps else self.target
        average = totals.average_price
        self.stop_loss: Decimal | None = None
        if side.stop_factor is not None and average is not None:
            self.stop_loss = average * side.stop_factor
        self.base_order_price = totals.base_order_price if side.trailing_stop_factor is not None else None
        self.reference: Decimal | None = None
        self.next_price: Decimal | None = None
        if self.levels < len(side.rung_factors) and totals.entry_quote:
            self.reference = totals.safety_reference(settings.deviation_reference)
            if self.reference is not None:
                price = self.reference * side.rung_factors[self.levels]
                self.next_price = price if price > ZERO else None

    @staticmethod
    def of(settings: DcaSettings, side: SideShape, totals: Totals, levels: int, taker: Decimal) -> DealPlan:
        """Return a deal's plan with so many levels filled: the one kept beside its totals where that still fits."""
        memo = totals.memo
        plan: DealPlan | None = memo.get(_MEMO)
        if plan is None or plan.settings is not settings or plan.levels != levels or plan.taker != taker:
            plan = memo[_MEMO] = DealPlan(settings, side, totals, levels, taker)
        return plan


class DealLook:
    """One deal at one moment, with the prices its orders would get."""

    __slots__ = (
        "deal",
        "entry_price",
        "exit_price",
        "fee_rates",
        "has_range",
        "is_fresh",
        "is_long",
        "mark",
        "now",
        "plan",
        "quote",
        "settings",
        "shape",
        "side",
        "terms",
        "touched",
        "trail",
        "view",
        "worst",
    )

    def __init__(
        self, settings: DcaSettings, deal: DealView, view: MarketView, quote: Quote, now: datetime, fee_rates: FeeRates
    ) -> None:
        self.settings = settings
        self.deal = deal
        self.view = view
        self.quote = quote
        self.now = now
        self.fee_rates = fee_rates
        self.shape: Shape = settings.shape
        self.side: SideShape = self.shape.sides[deal.totals.direction]
        self.plan = DealPlan.of(settings, self.side, deal.totals, deal.levels_filled, fee_rates.taker)
        self.terms: ProductTerms = view.product
        self.is_long = self.side.is_long
        self.is_fresh = now - quote.at <= MAX_QUOTE_AGE
        self.mark: Decimal = quote.mark
        if self.is_long:
            self.entry_price, self.exit_price = quote.ask, quote.bid
        else:
            self.entry_price, self.exit_price = quote.bid, quote.ask
        self.trail: TrailState = deal.trail
        self.touched: tuple[Purpose, Decimal] | None = None  # the stop that is hit, and its level
        # What the last candle of a recording went down to; a live market is looked at too often to need it.
        self.worst: Decimal = self.mark
        reach = quote.low if self.is_long else quote.high
        self.has_range: bool = reach is not None and not settings.stop_timeout_seconds
        if reach is not None and self.has_range:
            self.worst = reach

    # Comparing and wording --------------------------------------------------------------------------------------------

    def is_better(self, price: Decimal, than: Decimal) -> bool:
        """Return whether ``price`` is at least as good for leaving the deal as ``than``."""
        return price >= than if self.is_long else price <= than

    def reached(self, price: Decimal, level: Decimal) -> bool:
        """Return whether ``price`` has moved against the deal as far as ``level``: a stop or a rung."""
        return price <= level if self.is_long else price >= level

    def profit_at(self, price: Decimal) -> Decimal:
        """Return the net profit of closing at ``price``, in percent of what the settings measure it against."""
        return profit_pct(self.deal.totals, price, self.fee_rates.taker, self.settings.take_profit_type)

    def text(self, price: Decimal) -> str:
        """Return a price for a sentence."""
        return price_text(price, self.terms)

    def passed(self) -> Iterator[Rung]:
        """Yield the safety orders whose price the entry price has reached, nearest first, with their sizes (F37)."""
        reference, price = self.plan.reference, self.entry_price
        if reference is None:
            return
        totals, scale = self.deal.totals, self.settings.volume_scale
        size = Decimal(ladder_of(self.settings, totals.base_order_quote or totals.entry_quote).first_size)
        for level, factor in enumerate(self.side.rung_factors, start=1):
            if level > self.plan.levels:
                at = reference * factor
                if at <= ZERO or not self.reached(price, at):
                    return
                yield Rung(level, abs(ONE - factor) * HUNDRED, at, size)
            size *= scale

    def next_rung(self) -> Rung | None:
        """Return the next safety order with its size; None when there is none."""
        if self.plan.next_price is None:
            return None
        totals, scale, level = self.deal.totals, self.settings.volume_scale, self.plan.levels + 1
        size = Decimal(ladder_of(self.settings, totals.base_order_quote or totals.entry_quote).first_size)
        for _ in range(self.plan.levels):
            size *= scale
        return Rung(level, abs(ONE - self.side.rung_factors[level - 1]) * HUNDRED, self.plan.next_price, size)

    # Decisions --------------------------------------------------------------------------------------------------------

    def judged(self, code: ReasonCode) -> dict[str, int] | None:
        """Return which candles this look has judged; None when it judged none."""
        adding, closing = self.side.adding, self.side.closing
        if not (adding.has_crossing or closing.has_crossing):
            return None
        if not self.is_fresh or code is ReasonCode.ORDER_PENDING:
            return None
        return {**judged_until(adding.tree, self.view), **judged_until(closing.tree, self.view)} or None

    def hold(self, code: ReasonCode, words: Words, numbers: Numbers = _NOTHING) -> Decision:
        """Return the decision to do nothing."""
        return Decision(
            Action.NONE,
            code,
            words,
            numbers,
            trail=self.trail,
            evaluated_until=self.judged(code),
            direction=self.side.direction,
        )

    def cancel(self, code: ReasonCode, words: Words, *purposes: Purpose) -> Decision:
        """Return the decision to cancel resting orders; nothing counts as judged, as all is decided again then."""
        return Decision(Action.CANCEL, code, words, cancels=purposes, trail=self.trail, direction=self.side.direction)


def waiting(code: ReasonCode, words: Words, numbers: Numbers = _NOTHING) -> Decision:
    """Return the decision to do nothing and to remember nothing."""
    return Decision(Action.NONE, code, words, numbers)
