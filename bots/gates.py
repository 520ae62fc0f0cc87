"""Why a bot does not open a deal on a pair: every question that opening asks, with its answer at this moment.

The questions, their order and their numbers are those of the strategy's own decision (``bots.strategies.dca_open``);
opening stops at the first no, a person wants to see them all. Reads only, from the same facts as the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Final, Literal

from accounts.models import PropGuardRules, PropGuardState
from bots import loading, market_views, sizing
from bots.conditions import Check, evaluate
from bots.models import Bot, BotProduct
from bots.strategies.base import Decision, MarketView, OpenContext
from bots.strategies.dca_common import MAX_QUOTE_AGE, entry_price
from bots.strategies.dca_settings import DcaSettings
from marketdata.models import Product
from marketdata.services import market_now
from positions.guard import check as guard
from positions.states import Direction
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, MONEY, ONE, ZERO, for_money, plain
from tradebot.core.errors import TradebotError
from tradebot.templatetags.tradebot import amount, pct, price, span

__all__ = ["Gate", "Questions", "questions_now"]

State = Literal["met", "unmet", "unknown"]


@dataclass(frozen=True, slots=True)
class Gate:
    """One question: its name, its answer, the number behind it, what is needed, and how much is missing."""

    name: str
    state: State
    value: str
    needed: str = ""
    to_go: str = ""


@dataclass(frozen=True, slots=True)
class Questions:
    """What opening on one pair in one direction asks now. ``decision`` is what the strategy would answer."""

    gates: tuple[Gate, ...]
    checks: tuple[Check, ...]
    join: str
    decision: Decision | None


NOTHING: Final = Questions((), (), "and", None)


def questions_now(bot: Bot, pair: BotProduct, direction: Direction) -> Questions:
    """Return the questions for ``pair`` with their answers; none for a bot that has no account or other settings.

    A constant number of queries. What is not known is answered "unknown"; nothing is asked of a venue.
    """
    if bot.account_id is None or not pair.enabled:
        return NOTHING
    now = market_now(pair.product)
    chunk = loading.load([bot.pk], now)
    mine = chunk.bots.get(bot.pk)
    if mine is None or mine.strategy is None or not isinstance(mine.settings, DcaSettings):
        return NOTHING
    side = next((side for side in mine.sides if side.direction is direction), None)
    known = next((row for row in mine.pairs if row.pk == pair.pk), None)
    if side is None or known is None:
        return NOTHING
    wanted: dict[int, Any] = {pk: {} for pk in chunk.products}
    wanted[pair.product_id] = mine.strategy.required_series(mine.settings)
    try:
        chunk.see(market_views.build(chunk.products, wanted, now))
        view, context = chunk.view(bot.pk, pair.product_id), chunk.open_context(mine, known, side)
    except TradebotError:
        return NOTHING
    if view is None:
        return NOTHING
    with for_money():
        tree = mine.settings.open_tree(direction)
        return Questions(
            gates=(*_gates(mine.settings, view, context, pair.product), *_guard(bot.account_id)),
            checks=tuple(evaluate(tree, view, context.since).checks),
            join=tree.join.value,
            decision=mine.strategy.decide_open(mine.settings, view, context),
        )


def _gates(settings: DcaSettings, view: MarketView, ctx: OpenContext, product: Product) -> Iterator[Gate]:
    yield from _slots(settings, ctx)
    yield from _filters(settings, ctx, product)
    yield from _prices(settings, view, ctx, product)
    yield from _money(settings, view, ctx, product)


def _guard(account_id: int) -> Iterator[Gate]:
    """Say what the account's guard answers to every order that takes risk; nothing where there is no guard."""
    found = PropGuardRules.objects.filter(account_id=account_id, enabled=True).first()
    if found is None:
        return
    state = PropGuardState.objects.filter(account_id=account_id).first()
    refusal = guard.refusal_of(found, state, clock.now())
    if refusal is None:
        yield Gate("Prop guard", "met", "within its limits", "not stopped, equity known")
    else:
        unknown = refusal.code in guard.UNKNOWN
        yield Gate("Prop guard", "unknown" if unknown else "unmet", refusal.message, "not stopped, equity known")


def _is(condition: bool) -> State:
    return "met" if condition else "unmet"


def _slots(settings: DcaSettings, ctx: OpenContext) -> Iterator[Gate]:
    yield Gate("Bot", _is(ctx.bot_active), "running" if ctx.bot_active else "stopped", "running")
    if ctx.trading_paused:
        yield Gate("New deals", "unmet", "paused by the operator", "allowed")
    if ctx.account_closed:
        yield Gate(
            "Account", "unmet", "stopped" if ctx.account_closed == "stopped" else "read-only", "armed for trading"
        )
    most = settings.max_active_deals
    yield Gate("Free deal slot", _is(ctx.open_deals < most), f"{ctx.open_deals} of {most} open", f"fewer than {most}")
    if most > 1:
        per_pair, held = settings.max_deals_per_pair, ctx.open_deals_on_pair
        yield Gate(
            "Free slot on this pair", _is(held < per_pair), f"{held} of {per_pair} open", f"fewer than {per_pair}"
        )
    if settings.cooldown_seconds:
        needed = f"≥ {span(settings.cooldown_seconds)}"
        if ctx.last_closed_at is None:
            yield Gate("Cooldown over", "met", "no close since", needed)
        else:
            passed = (ctx.now - ctx.last_closed_at).total_seconds()
            left = settings.cooldown_seconds - passed
            yield Gate(
                "Cooldown over", _is(left <= 0), f"{span(passed)} ago", needed, f"{span(left)} more" if left > 0 else ""
            )


def _filters(settings: DcaSettings, ctx: OpenContext, product: Product) -> Iterator[Gate]:
    if settings.skip_stable_pairs:
        yield Gate(
            "No stable pair", _is(not ctx.is_stable_pair), "two stable coins" if ctx.is_stable_pair else "it moves"
        )
    if settings.allowed_categories:
        allowed = tuple(str(word) for word in settings.allowed_categories)
        yield Gate(
            f"Category of {product.base}",
            _is(ctx.category in allowed),
            ctx.category or "unreviewed",
            ", ".join(allowed),
        )
    least = settings.min_volume_24h
    if least is not None:
        needed = f"≥ {amount(least, 0)}"
        if ctx.volume_24h is None:
            yield Gate("Volume in 24 h", "unknown", "not known", needed)
        else:
            missing = f"{amount(least - ctx.volume_24h, 0)} more" if ctx.volume_24h < least else ""
            yield Gate(
                "Volume in 24 h", _is(not missing), f"{amount(ctx.volume_24h, 0)} {product.quote}", needed, missing
            )


def _prices(settings: DcaSettings, view: MarketView, ctx: OpenContext, product: Product) -> Iterator[Gate]:
    quote, oldest = view.quote, f"at most {int(MAX_QUOTE_AGE.total_seconds())} s old"
    if quote is None:
        yield Gate("Price", "unknown", "not known", oldest)
        return
    age = ctx.now - quote.at
    yield Gate("Price", _is(age <= MAX_QUOTE_AGE), f"{price(quote.mark, product)}, {span(age)} old", oldest)
    most = settings.max_spread
    if most is not None:
        spread = (quote.ask - quote.bid) / quote.mark * HUNDRED
        over = f"{pct(spread - most, 3)} less" if spread > most else ""
        yield Gate("Spread", _is(not over), pct(spread, 3), f"≤ {pct(most, 2)}", over)


def _money(settings: DcaSettings, view: MarketView, ctx: OpenContext, product: Product) -> Iterator[Gate]:
    budget, quote = ctx.bot_budget, view.quote
    if budget is None:
        yield Gate("Budget", "unknown", "not known", "above 0")
        return
    yield Gate("Budget", _is(budget > ZERO), f"{amount(budget, product.quote)} {product.quote}", "above 0")
    if quote is None or budget <= ZERO:
        return
    way = ctx.direction
    at = entry_price(quote, way)
    minimum = ctx.largest_minimum or sizing.minimum_order_quote(view.product, at)
    smallest = sizing.smallest_deal_budget(settings, minimum)
    funded = settings.max_active_deals
    if smallest is not None and minimum:
        funded = sizing.fundable_deals(budget, minimum, smallest / minimum, settings.max_active_deals)
    if funded < settings.max_active_deals:
        yield Gate(
            "Deals that the budget funds", _is(ctx.open_deals < funded), str(funded), f"more than {ctx.open_deals}"
        )
    deal_budget = sizing.deal_budget(budget, funded, split=ctx.split_budget)
    report = sizing.ladder_report(settings, at, view.product, deal_budget, ctx.fee_rates.taker, way)
    cost, unit = amount(report.total_cost, product.quote), product.quote
    if report.violations:
        yield Gate("Whole ladder", "unmet", report.violations[0].message, f"within {amount(deal_budget, unit)} {unit}")
    else:
        yield Gate("Whole ladder", "met", f"{cost} {unit}", f"≤ {amount(deal_budget, unit)} {unit}")
    spent = ctx.committed_quote + report.base_size
    if ctx.committed_quote:
        used = f"{amount(ctx.committed_quote, unit)} {unit} in deals"
        yield Gate(
            "Room in the budget", _is(spent <= budget), used, f"≤ {amount(budget - report.base_size, unit)} {unit}"
        )
    yield _balance(ctx, product, report.base_size, at)
    if settings.slippage_guard:
        yield Gate("Slippage", "unknown", "asked when an order is due", f"≤ {pct(settings.max_slippage, 2)}")


def _balance(ctx: OpenContext, product: Product, base_order: Decimal, at: Decimal) -> Gate:
    """Return whether the free balance pays for the base order: quote for a long, coins for a short."""
    if ctx.direction is Direction.LONG:
        currency, free, needed = product.quote, ctx.free_quote, base_order * (ONE + ctx.fee_rates.taker)
    else:
        currency, free, needed = product.base, ctx.free_base, base_order / at
    name = f"Free {currency}"
    if free is None:
        return Gate(name, "unknown", "not known", f"≥ {_short(needed)} {currency}")
    missing = f"{_short(needed - free)} more" if free < needed else ""
    return Gate(name, _is(not missing), f"{amount(free, currency)}", f"≥ {_short(needed)}", missing)


def _short(value: Decimal) -> str:
    with localcontext(MONEY) as context:
        context.prec = 6
        return plain(+value)
