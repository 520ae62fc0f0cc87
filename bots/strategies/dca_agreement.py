"""What DCA settings must agree on. Pure.

Each check takes the value of the field that it hangs on, the one that a person would change, and sees the fields that
are declared above it. What contradicts them is refused in words, with the numbers.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from bots.conditions import Tree
from bots.sizing import (
    BaseOrderType,
    DeviationReference,
    Ladder,
    SafetyOrderType,
    cumulative_deviation_pct,
    deepest_drop_pct,
    ladder_factor,
)
from bots.strategies.dca_words import Directions, ShortConditions, TakeProfitMode, directions_of
from positions.states import Direction, OrderType
from tradebot.core.decimals import HUNDRED, ONE, QUANTUM, ZERO, plain
from tradebot.core.words import Category

if TYPE_CHECKING:
    from bots.strategies.dca_settings import ProfitStep


def each_once(categories: tuple[Category, ...]) -> tuple[Category, ...]:
    return tuple(category for category in Category if category in categories)


def within_deals(per_pair: int, info: ValidationInfo) -> int:
    deals = info.data.get("max_active_deals")
    if deals is not None and per_pair > deals:
        raise _refused("too_many_per_pair", f"{per_pair} deals per pair, but only {deals} at once")
    return per_pair


def can_be_counted(size: Decimal) -> Decimal:
    if size < QUANTUM:
        raise _refused("too_small", f"no amount is below {plain(QUANTUM)}")
    return size


def within_budget(size: Decimal, info: ValidationInfo) -> Decimal:
    if info.data.get("base_order_type") is BaseOrderType.PERCENT and size > HUNDRED:
        raise _refused("above_100_percent", f"{plain(size)} % of the budget is more than there is")
    return size


def automatic_needs_percent(kind: SafetyOrderType, info: ValidationInfo) -> SafetyOrderType:
    automatic = info.data.get("base_order_type") is BaseOrderType.AUTOMATIC
    if automatic and kind is SafetyOrderType.FIXED and info.data.get("max_safety_orders"):
        raise _refused(
            "automatic_needs_percent", "an automatic base order needs safety orders in percent of the base order"
        )
    return kind


def in_proportion(size: Decimal, info: ValidationInfo) -> Decimal:
    if info.data.get("safety_order_type") is SafetyOrderType.PERCENT and not 10 <= size <= 500:
        raise _refused("out_of_range", f"{plain(size)} % of the base order; allowed are 10 to 500 %")
    return size


def paid_for(scale: Decimal, info: ValidationInfo) -> Decimal:
    """A ladder in percent must not cost more than the deal's budget, whatever the budget is."""
    needed = ("base_order_type", "base_order_size", "max_safety_orders", "safety_order_type", "safety_order_size")
    kind, base, count, safety_kind, size = (info.data.get(name) for name in needed)
    if kind is not BaseOrderType.PERCENT or safety_kind is not SafetyOrderType.PERCENT:
        return scale
    if base is None or count is None or size is None:
        return scale
    cost = base * ladder_factor(count, size / HUNDRED, scale)
    if cost > HUNDRED:
        raise _refused(
            "over_budget",
            f"a base order of {plain(base)} % with its {count} safety orders costs {cost:.1f} % of the deal's "
            "budget; lower the sizes, the scale or the number of safety orders",
            field="base_order_size",
        )
    return scale


def reachable(reference: DeviationReference, info: ValidationInfo) -> DeviationReference:
    ladder = _ladder(info.data)
    if ladder is None or not ladder.count:
        return reference
    if Direction.LONG not in directions_of(info.data.get("direction")):
        return reference  # The ladder of a short goes up, where there is always another price.
    ratio = info.data["safety_order_size"] / HUNDRED
    deepest = max(deepest_drop_pct(reference, ladder, ratio, Direction.LONG))
    if deepest >= HUNDRED:
        raise _refused(
            "no_such_price",
            f"safety order {ladder.count} lies 100 % or more below its reference: there is no such price; "
            "lower the price deviation, the step scale or the number of safety orders",
            field="price_deviation",
        )
    return reference


def possible_for_a_short(percent: Decimal | None, info: ValidationInfo) -> Decimal | None:
    _refuse_out_of_reach(percent, info)
    return percent


def has_target(steps: tuple[ProfitStep, ...], info: ValidationInfo) -> tuple[ProfitStep, ...]:
    mode = info.data.get("take_profit_mode")
    if not steps:
        empty = "take_profit" in info.data and info.data["take_profit"] is None
        if empty and mode in (TakeProfitMode.FIXED, TakeProfitMode.TRAILING):
            message = f"take profit is empty, but the mode {mode} needs a percentage"
            raise _refused("missing_take_profit", message, field="take_profit_mode")
        return steps
    if mode is not None and mode is not TakeProfitMode.FIXED:
        raise _refused("steps_need_fixed", f"steps go with a fixed take profit only; the mode is {mode}")
    profits = [step.profit_pct for step in steps]
    if any(later <= earlier for earlier, later in pairwise(profits)):
        raise _refused("not_ascending", f"each step needs more profit than the one before: {_listed(profits)} %")
    shares = sum((step.share_pct for step in steps), ZERO)
    if shares != HUNDRED:
        raise _refused("not_everything", f"the shares of the steps add up to {plain(shares)} %, not to 100 %")
    _refuse_out_of_reach(profits[-1], info)
    return steps


def beyond_ladder(stop: Decimal | None, info: ValidationInfo) -> Decimal | None:
    return _checked_stop("stop loss", stop, info.data, from_average=True)


def trailing_beyond_ladder(stop: Decimal | None, info: ValidationInfo) -> Decimal | None:
    return _checked_stop("trailing stop", stop, info.data, from_average=False)


def has_stop(seconds: int, info: ValidationInfo) -> int:
    stops = [info.data.get(name, ZERO) for name in ("stop_loss", "trailing_stop")]
    if seconds and stops == [None, None]:
        raise _refused("no_stop", f"{seconds} s to wait, but there is neither a stop loss nor a trailing stop")
    return seconds


def are_asked(tree: Tree, info: ValidationInfo) -> Tree:
    both = info.data.get("direction") is Directions.BOTH
    if not tree.is_empty and not (both and info.data.get("short_conditions") is ShortConditions.OWN):
        raise _refused(
            "never_asked",
            "the short side has conditions of its own only with direction both and its conditions set to own",
        )
    return tree


def has_safety_orders(tree: Tree, info: ValidationInfo) -> Tree:
    if not tree.is_empty and info.data.get("max_safety_orders") == 0:
        raise _refused("no_safety_orders", "there are conditions for adding, but no safety orders")
    if not tree.is_empty and info.data.get("safety_order_execution") is OrderType.LIMIT:
        raise _refused(
            "limit_without_conditions",
            "limit safety orders wait in the order book, where no condition is asked; "
            "let them go at market or remove the conditions for adding",
        )
    return tree


def can_close(tree: Tree, info: ValidationInfo) -> Tree:
    mode = info.data.get("take_profit_mode")
    if mode is TakeProfitMode.FIXED and not tree.is_empty:
        raise _refused(
            "never_asked",
            "at a fixed take profit the deal is sold before its close conditions are asked; "
            "choose the mode conditions or trailing",
        )
    return tree


def _checked_stop(name: str, stop: Decimal | None, data: dict[str, Any], *, from_average: bool) -> Decimal | None:
    """Return ``stop``; raises when it would be hit before the deepest safety order of any direction."""
    ladder = _ladder(data)
    if stop is None or ladder is None or not ladder.count or "deviation_reference" not in data:
        return stop
    # Sizes only matter for where the average lies; a fixed size is taken as large as the base order.
    percent = data["safety_order_type"] is SafetyOrderType.PERCENT
    ratio = data["safety_order_size"] / HUNDRED if percent else ONE
    directions = directions_of(data.get("direction"))
    for direction in directions:
        average, base = deepest_drop_pct(data["deviation_reference"], ladder, ratio, direction)
        summed = cumulative_deviation_pct(ladder, ladder.count)
        deepest = max(average, summed) if from_average else max(average, base)
        if stop <= deepest:
            whose = f" of a {direction} deal" if len(directions) > 1 else ""
            raise _refused(
                "closer_than_ladder",
                f"a {name} of {plain(stop)} % is closer than the deepest safety order: number {ladder.count}{whose} "
                f"lies {deepest:.2f} % away; set it above {deepest:.2f} % or use fewer or closer safety orders",
            )
    return stop


def _refuse_out_of_reach(percent: Decimal | None, info: ValidationInfo) -> None:
    """Raise where a short could never earn that much: it earns 100 % when the price is zero."""
    if percent is not None and percent >= HUNDRED and Direction.SHORT in directions_of(info.data.get("direction")):
        raise _refused("out_of_reach", f"a short deal cannot earn {plain(percent)} %; it has to be less than 100 %")


def _ladder(data: dict[str, Any]) -> Ladder | None:
    """Return the ladder of validated fields, None when one of them is not valid."""
    names = (
        "max_safety_orders",
        "price_deviation",
        "step_scale",
        "volume_scale",
        "safety_order_type",
        "safety_order_size",
    )
    if any(name not in data for name in names):
        return None
    return Ladder(data["max_safety_orders"], data["price_deviation"], data["step_scale"], data["volume_scale"])


def _listed(numbers: list[Decimal]) -> str:
    return ", ".join(plain(number) for number in numbers)


def _refused(code: str, message: str, field: str | None = None) -> PydanticCustomError:
    """Return an error with this message; ``field`` names the setting to change where that is not the one checked."""
    context = {"message": message} | ({"field": field} if field else {})
    return PydanticCustomError(code, "{message}", context)
