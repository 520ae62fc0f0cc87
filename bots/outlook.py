"""What lies ahead of a DCA deal, for the deal pages: the strategy's own prices, put into words.

Computed from the deal's frozen settings by the functions that decide (``bots.strategies``), so that a page never shows
a target or a rung that the bot would not act on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from bots import coins, strategies
from bots.conditions import describe
from bots.sizing import Rung
from bots.strategies.base import DealView, FeeRates, TrailState
from bots.strategies.dca_manage import next_rungs, step_prices, stop_loss_price, take_profit_price
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.dca_words import TakeProfitMode
from bots.strategies.describe import settings_facts
from positions.ledger import Totals
from positions.models import Position
from positions.outlook import AheadRung, Fact, Outlook, Step, register, register_categories
from positions.states import Direction, OrderType
from tradebot.core.decimals import HUNDRED, ONE, ZERO, for_money, plain
from tradebot.core.errors import InvalidInput

__all__ = ["dca_outlook", "register_all"]


def register_all() -> None:
    """Answer for the deals of every strategy there is, and for what their owners think of coins."""
    register("indicator_dca", dca_outlook)
    register_categories(coins.categories)


def dca_outlook(position: Position, totals: Totals, fee_rate: Decimal) -> Outlook:
    """Return what lies ahead of a DCA deal; empty when its frozen settings cannot be read."""
    try:
        settings = strategies.get_strategy(position.strategy).settings_from_json(position.settings)
    except InvalidInput:
        return Outlook()
    fees = FeeRates(maker=fee_rate, taker=fee_rate)
    deal = DealView(
        totals=totals,
        levels_filled=position.safety_orders_filled,
        opened_at=position.opened_at or position.created_at,
        trail=TrailState.from_json(position.trail),
        budget_quote=position.budget_quote or None,
    )
    with for_money():
        rungs = tuple(_ahead(settings, deal, rung, fees) for rung in next_rungs(settings, deal) if rung.price > ZERO)
        target = take_profit_price(settings, deal, fees)
        stops = [stop for stop in (stop_loss_price(settings, deal), deal.trail.stop) if stop is not None]
        nearest = (max if deal.direction is Direction.LONG else min)(stops) if stops else None
        return Outlook(
            target=target,
            stop=nearest,
            rungs=rungs,
            max_safety_orders=settings.max_safety_orders,
            armed=deal.trail.armed,
            steps=tuple(_steps(settings, deal, fees, target, rungs)) if totals.remaining_base else (),
            facts=tuple(
                Fact(fact.label, fact.value, fact.section) for fact in settings_facts(settings, totals.quote_currency)
            ),
        )


def _ahead(settings: DcaSettings, deal: DealView, rung: Rung, fees: FeeRates) -> AheadRung:
    """Return the rung with average and target as they would be if it were the next fill."""
    totals = deal.totals
    fee = rung.size * fees.taker
    after = replace(
        totals,
        entry_base=totals.entry_base + rung.size / rung.price,
        entry_quote=totals.entry_quote + rung.size,
        entry_fee_quote=totals.entry_fee_quote + fee,
    )
    target = take_profit_price(settings, replace(deal, totals=after), fees)
    return AheadRung(rung.level, rung.price, rung.size, after.average_price, target)


def _steps(
    settings: DcaSettings, deal: DealView, fees: FeeRates, target: Decimal | None, rungs: tuple[AheadRung, ...]
) -> Iterator[Step]:
    yield from _profit_steps(settings, deal, fees, target)
    if rungs:
        last = rungs[0].level == settings.max_safety_orders
        more, rule = "", settings.add_tree(deal.direction)
        if not rule.is_empty:
            more = f"Its own rule must also hold: {describe(rule)}."
        if settings.safety_order_execution is OrderType.LIMIT:
            more = "It waits in the order book."
        title = (
            f"Buy safety order {rungs[0].level}"
            if deal.direction is Direction.LONG
            else f"Sell safety order {rungs[0].level}"
        )
        yield Step(title + (", the last" if last else ""), "waiting", "at", rungs[0].price, ".", more, kind="add")
    elif settings.max_safety_orders:
        yield Step(
            "Safety orders",
            "off",
            text=f"All {settings.max_safety_orders} are bought; nothing more is added.",
            kind="add",
        )
    yield from _stop_steps(settings, deal)


def _close_words(deal: DealView) -> str:
    return "Sell everything" if deal.direction is Direction.LONG else "Buy everything back"


def _profit_steps(settings: DcaSettings, deal: DealView, fees: FeeRates, target: Decimal | None) -> Iterator[Step]:
    mode, trail, close = settings.take_profit_mode, deal.trail, _close_words(deal)
    if settings.take_profit_steps:
        yield from _parts(settings, deal, fees, target)
        return
    if mode is TakeProfitMode.TRAILING and trail.armed and trail.peak is not None:
        back = trail.peak * (ONE - deal.direction.sign * settings.trailing_deviation / HUNDRED)
        pull = plain(settings.trailing_deviation)
        yield Step(close, "armed", "when the price pulls back to", back, f", {pull} % from its best.", kind="profit")
        return
    floor = "" if settings.take_profit is None else f"{plain(settings.take_profit)} % after all fees"
    rule = settings.close_tree(deal.direction)
    if not rule.is_empty:
        lead = "once it is worth" if target is not None else "as soon as its rule holds"
        tail = f" ({floor}) and its rule holds." if target is not None else "."
        yield Step(close, "waiting", lead, target, tail, f"Rule: {describe(rule)}.", kind="profit")
    if target is not None and (rule.is_empty or mode is TakeProfitMode.TRAILING):
        if mode is TakeProfitMode.TRAILING:
            pull = plain(settings.trailing_deviation)
            tail = f" ({floor}); then {close.split()[0].lower()} when it pulls back {pull} %."
            yield Step("Follow the price", "waiting", "from", target, tail, kind="profit")
        else:
            yield Step(close, "waiting", "when the price reaches", target, f", which pays {floor}.", kind="profit")


def _parts(settings: DcaSettings, deal: DealView, fees: FeeRates, target: Decimal | None) -> Iterator[Step]:
    """Yield the steps of a take profit in parts; ``target`` is the price of the first that is not done yet."""
    verb, done = _close_words(deal).split()[0], True
    for (price, share), step in zip(step_prices(settings, deal, fees), settings.take_profit_steps, strict=True):
        done = done and price != target
        title, pays = f"{verb} {plain(share)} %", f", which pays {plain(step.profit_pct)} % after all fees."
        if done:
            yield Step(title, "off", text="Done.", kind="profit")
        else:
            yield Step(title, "waiting", "when the price reaches", price, pays, kind="profit")


def _stop_steps(settings: DcaSettings, deal: DealView) -> Iterator[Step]:
    wait = f", if it stays there {settings.stop_timeout_seconds} s" if settings.stop_timeout_seconds else ""
    stop = stop_loss_price(settings, deal)
    if stop is not None:
        side = "below" if deal.direction is Direction.LONG else "above"
        text = f", always at market, {plain(settings.stop_loss or ZERO)} % {side} the average{wait}."
        yield Step("Stop loss", "waiting", "at", stop, text)
    if settings.trailing_stop is not None and deal.trail.stop is not None:
        text = f", {plain(settings.trailing_stop)} % from its best price; it only ever tightens{wait}."
        yield Step("Trailing stop", "waiting", "at", deal.trail.stop, text)
    if stop is None and settings.trailing_stop is None:
        yield Step("Stop loss", "off", text="No stop is set.")
    if settings.max_hold_hours is not None:
        yield Step("Longest hold", "waiting", text=f"Closed at market {settings.max_hold_hours} h after opening.")
