"""Whether the DCA bot opens a deal: one question after the other, cheapest first, up to the first no. Pure.

The question is asked for one direction: ``OpenContext.direction``. A long pays the ask with quote, a short gets the bid
for base that the account holds free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from bots.conditions import Verdict, evaluate, judged_until
from bots.sizing import (
    base_order_size,
    deal_budget,
    fault_in_context,
    fundable_deals,
    ladder_report,
    minimum_order_quote,
    smallest_deal_budget,
)
from bots.strategies.base import Action, Decision, MarketView, OpenContext, OrderPlan, Quote, ReasonCode
from bots.strategies.dca_common import (
    MAX_QUOTE_AGE,
    amount_text,
    candle_lag,
    checks_json,
    entry_price,
    limit_price,
    seconds,
    stale_words,
)
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.dca_shape import Shape, SideShape
from marketdata.terms import ProductTerms
from positions.states import Direction, OrderType, Purpose
from tradebot.core.decimals import HUNDRED, MONEY, ONE, QUANTUM, ZERO, floor_to, for_money, plain

Words = str | Callable[[], str]
Numbers = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
_NONE: Final[Mapping[str, Any]] = {}


def decide_open(settings: DcaSettings, view: MarketView, ctx: OpenContext) -> Decision:
    """Return whether to open a deal now, with its base order, or the first reason not to.

    The decision's ``evaluated_until`` is None while something is not known: what could not be judged is judged later.
    """
    with for_money():
        return _Look(settings, view, ctx).decide()


class _Look:
    """One pair at one moment, asked for one direction."""

    __slots__ = ("ctx", "direction", "settings", "shape", "side", "terms", "view")

    def __init__(self, settings: DcaSettings, view: MarketView, ctx: OpenContext) -> None:
        self.settings = settings
        self.view = view
        self.ctx = ctx
        self.direction: Direction = ctx.direction
        self.shape: Shape = settings.shape
        self.side: SideShape = self.shape.sides[ctx.direction]
        self.terms: ProductTerms = view.product

    def decide(self) -> Decision:
        """Ask what costs least first: most looks end at the entry tree, so ladders are worked out behind it."""
        refusal = self._no_slot() or self._filtered()
        if refusal is not None:
            return refusal
        quote = self.view.quote
        if quote is None:
            return self._refuse(ReasonCode.MISSING_PRICE, f"the price of {self.terms.symbol} is not known")
        return self._unusable(quote) or self._without_money() or self._asked(quote)

    def _refuse(self, code: ReasonCode, words: Words, numbers: Numbers = _NONE) -> Decision:
        return Decision(Action.NONE, code, words, numbers, evaluated_until=self._judged(code), direction=self.direction)

    def _judged(self, code: ReasonCode) -> dict[str, int] | None:
        opening = self.side.opening
        if not opening.has_crossing or code.is_missing_information:
            return None
        return judged_until(opening.tree, self.view) or None

    # Before any price is looked at ------------------------------------------------------------------------------------

    def _no_slot(self) -> Decision | None:
        settings, ctx = self.settings, self.ctx
        if not ctx.bot_active:
            return self._refuse(ReasonCode.BOT_STOPPED, "the bot is stopped: it manages its deals and opens none")
        if ctx.trading_paused:
            return self._refuse(ReasonCode.TRADING_PAUSED, "the operator has paused new deals everywhere")
        if ctx.account_closed == "stopped":
            return self._refuse(ReasonCode.ACCOUNT_STOPPED, "the account was stopped: its owner has to arm it again")
        if ctx.account_closed:
            return self._refuse(
                ReasonCode.ACCOUNT_READ_ONLY, "the account is read-only: its owner has to arm it for trading first"
            )
        if ctx.open_deals >= settings.max_active_deals:
            return self._refuse(
                ReasonCode.DEAL_LIMIT,
                lambda: f"{ctx.open_deals} of {settings.max_active_deals} deals are open",
                lambda: {"open_deals": ctx.open_deals},
            )
        if ctx.open_deals_on_pair >= settings.max_deals_per_pair:
            return self._refuse(
                ReasonCode.PAIR_DEAL_LIMIT,
                lambda: f"{ctx.open_deals_on_pair} of {settings.max_deals_per_pair} deals are open on this pair",
                lambda: {"open_deals_on_pair": ctx.open_deals_on_pair},
            )
        cooldown = self.shape.cooldown
        if cooldown is not None and ctx.last_closed_at is not None:
            until = ctx.last_closed_at + cooldown
            if ctx.now < until:
                return self._refuse(
                    ReasonCode.COOLDOWN,
                    lambda: f"cooling down for another {seconds(until - ctx.now)} of {settings.cooldown_seconds} s",
                    lambda: {"until": until.isoformat()},
                )
        return None

    def _filtered(self) -> Decision | None:
        """Return why the pair is none that the bot trades: stable, of another category, or hardly traded."""
        settings, ctx, terms = self.settings, self.ctx, self.terms
        if settings.skip_stable_pairs and ctx.is_stable_pair:
            return self._refuse(ReasonCode.STABLE_PAIR, f"{terms.symbol} is a pair of two stable coins")
        allowed = settings.allowed_categories
        if allowed and ctx.category not in allowed:
            return self._refuse(
                ReasonCode.CATEGORY_NOT_ALLOWED,
                lambda: (
                    f"{terms.base} is {ctx.category or 'unreviewed'}; allowed are coins that are {', '.join(allowed)}"
                ),
                lambda: {"category": ctx.category},
            )
        least = settings.min_volume_24h
        if least is None:
            return None
        volume = ctx.volume_24h
        if volume is None:
            return self._refuse(ReasonCode.MISSING_VOLUME, "what was traded in the last 24 h is not known")
        if volume < least:
            return self._refuse(
                ReasonCode.VOLUME_TOO_LOW,
                lambda: (
                    f"{amount_text(volume)} {terms.quote} were traded in the last 24 h, at least {plain(least)} "
                    "are asked for"
                ),
                lambda: {"volume_24h": amount_text(volume)},
            )
        return None

    # At a price -------------------------------------------------------------------------------------------------------

    def _unusable(self, quote: Quote) -> Decision | None:
        """Return why these prices will not do."""
        now = self.ctx.now
        if now - quote.at > MAX_QUOTE_AGE:
            return self._refuse(
                ReasonCode.STALE_PRICE,
                lambda: stale_words(quote, now, MAX_QUOTE_AGE),
                lambda: {"age_seconds": seconds(now - quote.at)},
            )
        most = self.settings.max_spread
        if most is not None:
            spread = (quote.ask - quote.bid) / quote.mark * HUNDRED
            if spread > most:
                return self._refuse(
                    ReasonCode.SPREAD_TOO_WIDE,
                    lambda: f"bid and ask are {spread:.3f} % apart, allowed are {plain(most)} %",
                    lambda: {"spread_pct": f"{spread:.6f}"},
                )
        return None

    def _without_money(self) -> Decision | None:
        budget = self.ctx.bot_budget
        if budget is None:
            return self._refuse(ReasonCode.MISSING_BUDGET, "the bot's budget is not known")
        if budget <= ZERO:
            return self._refuse(ReasonCode.NO_BUDGET, f"the bot's budget is {plain(budget)} {self.terms.quote}")
        return None

    def _asked(self, quote: Quote) -> Decision:
        """Ask the entry tree, then whether the budget funds another deal."""
        ctx, side = self.ctx, self.side
        budget = ctx.bot_budget
        assert budget is not None
        if not side.opening.is_empty:
            lag = candle_lag(side.opening, self.view, ctx.now)
            if lag:
                return self._refuse(ReasonCode.STALE_CANDLES, lag)
        verdict = evaluate(side.opening.tree, self.view, ctx.since)
        if not verdict.value:
            return self._refuse(
                ReasonCode.CONDITIONS_NOT_MET, lambda: verdict.summary, lambda: {"checks": checks_json(verdict)}
            )
        order_type, price = self._order_price(quote)
        deals = self._fundable(budget, price)
        if ctx.open_deals >= deals:
            return self._refuse(
                ReasonCode.DEAL_LIMIT,
                lambda: (
                    f"{ctx.open_deals} deals are open; the budget of {amount_text(budget)} {self.terms.quote} "
                    f"fully funds {deals} of {self.settings.max_active_deals}"
                ),
                lambda: {"open_deals": ctx.open_deals, "fundable_deals": deals},
            )
        return self._opening(order_type, price, budget, deals, verdict)

    def _order_price(self, quote: Quote) -> tuple[OrderType, Decimal]:
        """Return how the base order goes and at which price: the other side's at market, the mark as a limit."""
        if self.settings.base_order_execution is OrderType.LIMIT:
            return OrderType.LIMIT, limit_price(quote.mark, self.terms, is_buy=self.side.is_long)
        return OrderType.MARKET, entry_price(quote, self.direction)

    def _fundable(self, budget: Decimal, price: Decimal) -> int:
        settings, ctx = self.settings, self.ctx
        if settings.max_active_deals == 1:
            return 1
        minimum = ctx.largest_minimum
        if minimum is None:
            minimum = minimum_order_quote(self.terms, price)
        smallest = smallest_deal_budget(settings, minimum)
        if smallest is None or not minimum:
            return settings.max_active_deals  # The ladder's own violations say what is wrong.
        return fundable_deals(budget, minimum, smallest / minimum, settings.max_active_deals)

    def _opening(
        self, order_type: OrderType, price: Decimal, bot_budget: Decimal, deals: int, verdict: Verdict
    ) -> Decision:
        """Return the opening with its base order, or why ladder, budget or balance do not allow it."""
        settings, ctx, terms = self.settings, self.ctx, self.terms
        budget = deal_budget(bot_budget, deals, split=ctx.split_budget)
        size = base_order_size(settings, budget)
        fault = fault_in_context(settings, price, terms, budget, size, self.direction)
        if fault:
            return self._unworkable(fault, price, budget)
        base = floor_to(size / price, terms.base_increment)
        cost = base * price
        if ctx.committed_quote + cost > bot_budget:
            return self._refuse(
                ReasonCode.BUDGET_USED,
                lambda: (
                    f"open deals use {amount_text(ctx.committed_quote)} of {amount_text(bot_budget)} "
                    f"{terms.quote}; {amount_text(cost)} more does not fit"
                ),
            )
        shortage = self._shortage(base, cost)
        if shortage is not None:
            return shortage
        is_limit = order_type is OrderType.LIMIT
        return Decision(
            Action.OPEN,
            ReasonCode.OPENING,
            lambda: (
                f"{verdict.summary if verdict.checks else 'no conditions set'}: open with {plain(base)} {terms.base} "
                f"for {amount_text(cost)} {terms.quote} at {plain(price)}{' or better' if is_limit else ''}"
            ),
            lambda: {
                "price": plain(price),
                "deal_budget": amount_text(budget),
                "ladder_cost": amount_text(
                    ladder_report(settings, price, terms, budget, ctx.fee_rates.taker, self.direction).total_cost
                ),
                "checks": checks_json(verdict),
            },
            purpose=Purpose.BASE_ORDER,
            order=OrderPlan(
                self.side.entry_side,
                order_type,
                base,
                price,
                0,
                price if is_limit else None,
                None if is_limit else self.shape.max_slippage,
            ),
            evaluated_until=self._judged(ReasonCode.OPENING),
            direction=self.direction,
            budget_quote=budget.quantize(QUANTUM, context=MONEY),
        )

    def _unworkable(self, fault: str, price: Decimal, budget: Decimal) -> Decision:
        """Return the refusal of a ladder that cannot be traded; the report names the rung when somebody asks."""

        def worst() -> tuple[str, int | None]:
            report = ladder_report(self.settings, price, self.terms, budget, self.ctx.fee_rates.taker, self.direction)
            return report.violations[0].message, report.violations[0].level

        def numbers() -> dict[str, Any]:
            level = worst()[1]
            named = {} if level is None else {"level": level}
            return {**named, "deal_budget": amount_text(budget), "price": plain(price)}

        code = ReasonCode.BUDGET_TOO_SMALL if fault == "over_budget" else ReasonCode.BELOW_MINIMUM
        return self._refuse(code, lambda: worst()[0], numbers)

    def _shortage(self, base: Decimal, cost: Decimal) -> Decision | None:
        """Return why the free balance does not pay for an entry: quote for a long, base for a short (F36)."""
        ctx = self.ctx
        if self.side.is_long:
            currency, free, needed = self.terms.quote, ctx.free_quote, cost * (ONE + ctx.fee_rates.taker)
        else:
            currency, free, needed = self.terms.base, ctx.free_base, base
        if free is None:
            return self._refuse(ReasonCode.MISSING_BALANCE, f"the free balance of {currency} is not known")
        if needed <= free:
            return None
        fee = " (fee included)" if self.side.is_long else ""
        return self._refuse(
            ReasonCode.INSUFFICIENT_BALANCE,
            lambda: f"{amount_text(needed)} {currency} is needed{fee}, {amount_text(free)} {currency} is free",
            lambda: {"needed": amount_text(needed), "free": amount_text(free)},
        )
