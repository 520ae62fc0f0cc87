"""Whether the DCA bot opens a deal: one question after the other, cheapest first, up to the first no. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal, localcontext

from bots.conditions import Verdict, evaluate, judged_until
from bots.sizing import (
    base_for,
    deal_budget,
    fundable_deals,
    ladder_report,
    minimum_order_quote,
    smallest_deal_budget,
)
from bots.strategies.base import Action, Decision, MarketView, OpenContext, OrderPlan, Quote, ReasonCode
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
from bots.strategies.dca_settings import DcaSettings
from marketdata.terms import ProductTerms
from positions.states import Direction, OrderType, Purpose
from tradebot.core.decimals import HUNDRED, MONEY, ONE, ZERO, plain, quantize


def decide_open(settings: DcaSettings, view: MarketView, ctx: OpenContext) -> Decision:
    """Return whether to open a deal now, with its base order, or the first reason not to.

    The decision's ``evaluated_until`` is None while something is not known: what could not be judged is judged later.
    """
    with localcontext(MONEY):
        decision = _open(settings, view, ctx)
    if decision.code.is_missing_information:
        return decision
    return replace(decision, evaluated_until=judged_until(settings.open_conditions, view) or None)


def _open(settings: DcaSettings, view: MarketView, ctx: OpenContext) -> Decision:
    """Ask what costs least first: most looks end at the entry tree, so ladders are worked out behind it."""
    refusal = _slot_refusal(settings, ctx)
    if refusal is not None:
        return refusal
    quote = _usable_quote(settings, view, ctx)
    if isinstance(quote, Decision):
        return quote
    price = entry_price(quote, settings.direction)
    terms = view.product
    if ctx.bot_budget is None:
        return refuse(ReasonCode.MISSING_BUDGET, "the bot's budget is not known")
    if ctx.bot_budget <= ZERO:
        return refuse(ReasonCode.NO_BUDGET, f"the bot's budget is {plain(ctx.bot_budget)} {terms.quote}")
    lag = candle_lag(settings.open_conditions, view, ctx.now)
    if lag:
        return refuse(ReasonCode.STALE_CANDLES, lag)
    verdict = evaluate(settings.open_conditions, view, ctx.since)
    if not verdict.value:
        return refuse(ReasonCode.CONDITIONS_NOT_MET, verdict.summary, checks=checks_json(verdict))
    deals = _fundable(settings, ctx, ctx.bot_budget, minimum_order_quote(terms, price))
    if ctx.open_deals >= deals:
        return refuse(
            ReasonCode.DEAL_LIMIT,
            f"{ctx.open_deals} deals are open; the budget of {amount_text(ctx.bot_budget)} {terms.quote} fully funds "
            f"{deals} of {settings.max_active_deals}",
            open_deals=ctx.open_deals,
            fundable_deals=deals,
        )
    return _opening(settings, view, ctx, price, ctx.bot_budget, deals, verdict)


def _slot_refusal(settings: DcaSettings, ctx: OpenContext) -> Decision | None:
    if not ctx.bot_active:
        return refuse(ReasonCode.BOT_STOPPED, "the bot is stopped: it manages its deals and opens none")
    if ctx.trading_paused:
        return refuse(ReasonCode.TRADING_PAUSED, "the operator has paused new deals everywhere")
    if ctx.open_deals >= settings.max_active_deals:
        return refuse(
            ReasonCode.DEAL_LIMIT,
            f"{ctx.open_deals} of {settings.max_active_deals} deals are open",
            open_deals=ctx.open_deals,
        )
    if ctx.open_deals_on_pair >= settings.max_deals_per_pair:
        return refuse(
            ReasonCode.PAIR_DEAL_LIMIT,
            f"{ctx.open_deals_on_pair} of {settings.max_deals_per_pair} deals are open on this pair",
            open_deals_on_pair=ctx.open_deals_on_pair,
        )
    if settings.cooldown_seconds and ctx.last_closed_at is not None:
        until = ctx.last_closed_at + timedelta(seconds=settings.cooldown_seconds)
        if ctx.now < until:
            left = int((until - ctx.now).total_seconds())
            return refuse(
                ReasonCode.COOLDOWN,
                f"cooling down for another {left} of {settings.cooldown_seconds} s",
                until=until.isoformat(),
            )
    return None


def _usable_quote(settings: DcaSettings, view: MarketView, ctx: OpenContext) -> Quote | Decision:
    """Return the prices to open at, or why they will not do."""
    quote = view.quote
    if quote is None:
        return refuse(ReasonCode.MISSING_PRICE, f"the price of {view.product.symbol} is not known")
    if age_of(quote, ctx.now) > MAX_QUOTE_AGE:
        return stale_price(quote, ctx.now, MAX_QUOTE_AGE)
    if settings.max_spread is not None:
        spread = (quote.ask - quote.bid) / quote.mark * HUNDRED
        if spread > settings.max_spread:
            return refuse(
                ReasonCode.SPREAD_TOO_WIDE,
                f"bid and ask are {spread:.3f} % apart, allowed are {plain(settings.max_spread)} %",
                spread_pct=f"{spread:.6f}",
            )
    return quote


def _fundable(settings: DcaSettings, ctx: OpenContext, bot_budget: Decimal, own_minimum: Decimal) -> int:
    minimum = ctx.largest_minimum if ctx.largest_minimum is not None else own_minimum
    smallest = smallest_deal_budget(settings, minimum)
    if smallest is None or not minimum:
        return settings.max_active_deals  # The ladder's own violations say what is wrong.
    return fundable_deals(bot_budget, minimum, smallest / minimum, settings.max_active_deals)


def _opening(
    settings: DcaSettings,
    view: MarketView,
    ctx: OpenContext,
    price: Decimal,
    bot_budget: Decimal,
    deals: int,
    verdict: Verdict,
) -> Decision:
    """Return the opening with its base order, or why ladder, budget or balance do not allow it."""
    terms, direction = view.product, settings.direction
    budget = deal_budget(bot_budget, deals, split=ctx.split_budget)
    report = ladder_report(settings, price, terms, budget, ctx.fee_rates.taker, direction)
    if report.violations:
        worst = report.violations[0]
        code = ReasonCode.BUDGET_TOO_SMALL if worst.code == "over_budget" else ReasonCode.BELOW_MINIMUM
        return refuse(code, worst.message, level=worst.level, deal_budget=amount_text(budget), price=plain(price))
    base = base_for(report.base_size, price, terms)
    cost = base * price
    if ctx.committed_quote + cost > bot_budget:
        return refuse(
            ReasonCode.BUDGET_USED,
            f"open deals use {amount_text(ctx.committed_quote)} of {amount_text(bot_budget)} {terms.quote}; "
            f"{amount_text(cost)} more does not fit",
        )
    shortage = _shortage(direction, base, cost * (ONE + ctx.fee_rates.taker), ctx.free_base, ctx.free_quote, terms)
    if shortage is not None:
        return shortage
    return Decision(
        action=Action.OPEN,
        code=ReasonCode.OPENING,
        message=f"{verdict.summary if verdict.checks else 'no conditions set'}: open with {plain(base)} {terms.base} "
        f"for {amount_text(cost)} {terms.quote} at {plain(price)}",
        evidence={
            "price": plain(price),
            "deal_budget": amount_text(budget),
            "ladder_cost": amount_text(report.total_cost),
            "checks": checks_json(verdict),
        },
        purpose=Purpose.BASE_ORDER,
        order=OrderPlan(direction.entry_side, OrderType.MARKET, base, price),
        direction=direction,
        budget_quote=quantize(budget),
    )


def _shortage(
    direction: Direction,
    base: Decimal,
    quote_with_fee: Decimal,
    free_base: Decimal | None,
    free_quote: Decimal | None,
    terms: ProductTerms,
) -> Decision | None:
    """Return why the free balance does not pay for an entry: quote for a long, base for a short."""
    is_long = direction is Direction.LONG
    currency = terms.quote if is_long else terms.base
    free, needed = (free_quote, quote_with_fee) if is_long else (free_base, base)
    if free is None:
        return refuse(ReasonCode.MISSING_BALANCE, f"the free balance of {currency} is not known")
    if needed > free:
        return refuse(
            ReasonCode.INSUFFICIENT_BALANCE,
            f"{amount_text(needed)} {currency} is needed (fee included), {amount_text(free)} {currency} is free",
            needed=amount_text(needed),
            free=amount_text(free),
        )
    return None
