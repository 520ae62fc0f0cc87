"""The DCA bot in words: its settings as facts, and what happens next with a deal. Pure.

The prices come from the functions the engine decides with, so a page never promises what the engine does not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, Final

from bots.conditions import Tree, describe
from bots.strategies.base import DealView, FeeRates, Quote
from bots.strategies.dca_manage import next_rungs, step_prices, stop_loss_price, take_profit_price
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.dca_words import TakeProfitMode
from bots.strategies.forms import FieldSpec, field_specs
from positions.states import Direction, OrderType
from tradebot.core.decimals import HUNDRED, MONEY, ONE, for_money, plain

__all__ = ["Fact", "NextActions", "next_actions", "settings_facts"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One setting as a person reads it: "Take profit: 1.5 %"."""

    name: str
    section: str
    label: str
    value: str


def settings_facts(settings: DcaSettings, quote_currency: str = "") -> list[Fact]:
    """Return every setting that has an effect, in the order of the form. ``quote_currency`` is the unit of amounts."""
    return [
        Fact(spec.name, spec.section, spec.label, _value(spec, settings, quote_currency))
        for spec in field_specs(DcaSettings)
        if _applies(spec, settings)
    ]


_LADDER_ONLY = frozenset(
    {
        "safety_order_type",
        "safety_order_size",
        "price_deviation",
        "step_scale",
        "volume_scale",
        "deviation_reference",
        "safety_order_execution",
        "add_conditions",
        "short_add_conditions",
    }
)


def _applies(spec: FieldSpec, settings: DcaSettings) -> bool:
    if spec.name in _LADDER_ONLY and not settings.max_safety_orders:
        return False
    if spec.name == "take_profit" and settings.take_profit_steps:
        return False
    if spec.name == "limit_timeout_seconds":
        return OrderType.LIMIT in (settings.base_order_execution, settings.take_profit_execution)
    return all(_word(getattr(settings, other)) in values for other, values in (spec.depends_on or {}).items())


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_NO_CONDITIONS: Final = {"open": "at once", "add": "by price alone", "close": "by profit alone"}


def _value(spec: FieldSpec, settings: DcaSettings, quote_currency: str) -> str:
    value = getattr(settings, spec.name)
    if isinstance(value, Tree):
        return describe(value) or _NO_CONDITIONS[spec.name.removeprefix("short_").removesuffix("_conditions")]
    if spec.kind == "steps":
        return ", ".join(f"{plain(step.share_pct)} % at {plain(step.profit_pct)} %" for step in value) or "off"
    if spec.kind == "choices":
        return ", ".join(choice.label for choice in spec.choices if choice.value in value) or "any"
    if value is None:
        return "any" if spec.name in ("max_spread", "min_volume_24h") else "off"
    if isinstance(value, bool):
        return "on" if value else "off"
    if spec.choices:
        return next(choice.label for choice in spec.choices if choice.value == str(value))
    text = plain(value) if isinstance(value, Decimal) else str(value)
    return f"{text} {_unit(spec, settings, quote_currency)}".strip()


def _unit(spec: FieldSpec, settings: DcaSettings, quote_currency: str) -> str:
    if spec.name == "min_volume_24h":
        return quote_currency
    if spec.name in ("base_order_size", "safety_order_size"):
        kind = settings.base_order_type if spec.name == "base_order_size" else settings.safety_order_type
        return quote_currency if kind == "fixed" else "%"
    return spec.unit


@dataclass(frozen=True, slots=True)
class NextActions:
    """What happens next with a deal. Prices are exact and in quote currency; None means that it will not happen.

    ``target_price`` is the net take-profit price, ``trail_price`` where an armed trailing take profit sells,
    ``stop_price`` the nearest stop, ``next_level``, ``next_price`` and ``next_size`` the next safety order (size in
    quote), ``sell_by`` the end of the longest hold. ``target_distance_pct`` and ``next_distance_pct`` say how far the
    price has to move, in percent of the present one. ``lines`` are the same in sentences.
    """

    target_price: Decimal | None = None
    trail_price: Decimal | None = None
    stop_price: Decimal | None = None
    next_level: int | None = None
    next_price: Decimal | None = None
    next_size: Decimal | None = None
    sell_by: datetime | None = None
    target_distance_pct: Decimal | None = None
    next_distance_pct: Decimal | None = None
    lines: tuple[str, ...] = ()


def next_actions(settings: DcaSettings, deal: DealView, quote: Quote | None, fee_rates: FeeRates) -> NextActions:
    """Return what the deal waits for. ``settings`` is the deal's own copy; without a quote there are no distances."""
    with for_money():
        target = take_profit_price(settings, deal, fee_rates)
        trail = None
        if settings.take_profit_mode is TakeProfitMode.TRAILING and deal.trail.armed and deal.trail.peak is not None:
            trail = deal.trail.peak * (ONE - deal.direction.sign * settings.trailing_deviation / HUNDRED)
        stops = [price for price in (stop_loss_price(settings, deal), deal.trail.stop) if price is not None]
        nearest = max if deal.direction is Direction.LONG else min
        rungs = next_rungs(settings, deal)
        found = NextActions(
            target_price=target,
            trail_price=trail,
            stop_price=nearest(stops) if stops else None,
            next_level=rungs[0].level if rungs else None,
            next_price=rungs[0].price if rungs else None,
            next_size=rungs[0].size if rungs else None,
            sell_by=deal.opened_at + timedelta(hours=settings.max_hold_hours) if settings.max_hold_hours else None,
            target_distance_pct=_distance(target, quote),
            next_distance_pct=_distance(rungs[0].price if rungs else None, quote),
        )
        return replace(found, lines=tuple(_lines(found, settings, deal, fee_rates)))


def _distance(price: Decimal | None, quote: Quote | None) -> Decimal | None:
    return None if price is None or quote is None else (price / quote.mark - ONE) * HUNDRED


def _lines(found: NextActions, settings: DcaSettings, deal: DealView, fee_rates: FeeRates) -> Iterator[str]:
    close = deal.resting_close
    if close is not None:
        at = f" at {_text(close.limit_price)}" if close.limit_price is not None else ""
        yield f"A limit close rests{at}; only a stop sells before it, and nothing is added meanwhile."
    yield _profit_line(found, settings, deal, fee_rates)
    if found.next_price is not None and found.next_size is not None:
        tree = settings.add_tree(deal.direction)
        extra = "" if tree.is_empty else f", if {describe(tree)}"
        kind = " as a limit order" if settings.safety_order_execution is OrderType.LIMIT else ""
        yield (
            f"Safety order {found.next_level} of {settings.max_safety_orders} adds {_text(found.next_size)} "
            f"{deal.totals.quote_currency} at {_text(found.next_price)}{kind}{extra}."
        )
    elif settings.max_safety_orders:
        yield f"All {settings.max_safety_orders} safety orders are used."
    if found.stop_price is not None:
        held = f" once it has held for {settings.stop_timeout_seconds} s" if settings.stop_timeout_seconds else ""
        yield f"The stop closes everything at market at {_text(found.stop_price)}{held}."
    if found.sell_by is not None:
        yield f"After {found.sell_by:%Y-%m-%d %H:%M} UTC everything is closed at market."


def _profit_line(found: NextActions, settings: DcaSettings, deal: DealView, fee_rates: FeeRates) -> str:
    target = None if found.target_price is None else _text(found.target_price)
    conditions = describe(settings.close_tree(deal.direction))
    kind = " as a limit order" if settings.take_profit_execution is OrderType.LIMIT else ""
    if found.trail_price is not None:
        return f"The trailing take profit is armed and closes at {_text(found.trail_price)}, unless the price runs on."
    if settings.take_profit_steps:
        prices = step_prices(settings, deal, fee_rates)
        parts = ", ".join(f"{plain(share)} % at {_text(price)}" for price, share in prices if price is not None)
        return f"Takes profit in steps{kind}, fees included: {parts}."
    if settings.take_profit_mode is TakeProfitMode.TRAILING and target is not None:
        return f"At {target} the trailing take profit starts, {plain(settings.trailing_deviation)} % behind the best."
    if settings.take_profit_mode is TakeProfitMode.CONDITIONS and conditions:
        return f"Closes{kind} when {conditions}" + (f" and the price has reached {target}." if target else ".")
    if target is not None:
        return f"Takes profit at {target}{kind}, fees included."
    return "There is no profit target."


def _text(value: Decimal) -> str:
    with localcontext(MONEY) as context:
        context.prec = 8
        return plain(+value)
