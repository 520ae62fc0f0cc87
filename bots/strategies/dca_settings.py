"""The settings of the DCA bot: defaults, ranges, labels and what they must agree on. Pure.

Only settings that have an effect are here; an unknown one, or a value the engine does not act on yet, is refused by
name. Percentages are in percent, sizes in quote currency or percent as their type says.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainSerializer, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from bots.conditions import Condition, Operator, Tree
from bots.sizing import (
    BaseOrderType,
    DeviationReference,
    Ladder,
    SafetyOrderType,
    cumulative_deviation_pct,
    deepest_drop_pct,
    ladder_factor,
)
from bots.strategies.base import Preset
from bots.strategies.forms import SettingsModel
from marketdata.timeframes import Timeframe
from positions.ledger import ProfitReference
from positions.states import Direction
from tradebot.core.decimals import HUNDRED, ONE, ZERO, plain

Amount = Annotated[Decimal, PlainSerializer(plain, return_type=str, when_used="json")]


class TakeProfitMode(StrEnum):
    """How a deal takes its profit."""

    FIXED = "fixed"
    TRAILING = "trailing"
    CONDITIONS = "conditions"


DEALS: Final = "Deals"
BASE: Final = "Base order"
SAFETY: Final = "Safety orders"
PROFIT: Final = "Take profit"
STOPS: Final = "Stops"
CONDITIONS: Final = "Conditions"


def _about(label: str, help_text: str, section: str, unit: str = "", **more: Any) -> dict[str, Any]:
    return {"label": label, "help": help_text, "section": section, "unit": unit, **more}


def _refused(code: str, message: str, field: str | None = None) -> PydanticCustomError:
    """Return an error with this message; ``field`` names the setting to change where that is not the one checked."""
    context = {"message": message} | ({"field": field} if field else {})
    return PydanticCustomError(code, "{message}", context)


def _num(text: str) -> Decimal:
    return Decimal(text)


class DcaSettings(SettingsModel):
    """What a DCA bot does. A deal keeps a copy of the settings it opened with; editing the bot affects new deals."""

    direction: Literal[Direction.LONG] = Field(
        default=Direction.LONG,
        json_schema_extra=_about("Direction", "Long: buy first, sell higher.", DEALS),
    )
    max_active_deals: int = Field(
        default=1,
        ge=1,
        le=1000,
        json_schema_extra=_about("Deals at once", "How many deals the bot may have open at the same time.", DEALS),
    )
    max_deals_per_pair: int = Field(
        default=1,
        ge=1,
        le=1000,
        json_schema_extra=_about("Deals per pair", "How many of them may be open on one pair.", DEALS),
    )
    cooldown_seconds: int = Field(
        default=0,
        ge=0,
        le=2_592_000,
        json_schema_extra=_about(
            "Cooldown", "Wait this long after a close before the pair is opened again.", DEALS, "s"
        ),
    )
    max_spread: Amount | None = Field(
        default=None,
        ge=_num("0.01"),
        le=_num("10"),
        json_schema_extra=_about(
            "Widest spread", "Open no deal while bid and ask are farther apart than this. Empty: any.", DEALS, "%"
        ),
    )

    base_order_type: BaseOrderType = Field(
        default=BaseOrderType.PERCENT,
        json_schema_extra=_about(
            "Base order is",
            "What the size of the first order means.",
            BASE,
            choice_labels={
                "percent": "percent of the deal's budget",
                "fixed": "fixed amount of the quote currency",
                "automatic": "automatic: the whole ladder spends the deal's budget",
            },
        ),
    )
    base_order_size: Amount = Field(
        default=_num("10"),
        gt=ZERO,
        le=_num("1000000000"),
        json_schema_extra=_about(
            "Base order size",
            "Percent of the deal's budget (at most 100) or an amount, as chosen above.",
            BASE,
            depends_on={"base_order_type": ["percent", "fixed"]},
        ),
    )

    max_safety_orders: int = Field(
        default=5,
        ge=0,
        le=100,
        json_schema_extra=_about("Safety orders", "How many later orders may lower the average price.", SAFETY),
    )
    safety_order_type: SafetyOrderType = Field(
        default=SafetyOrderType.PERCENT,
        json_schema_extra=_about(
            "Safety order is",
            "What the size of the first safety order means.",
            SAFETY,
            choice_labels={"percent": "percent of the base order", "fixed": "fixed amount of the quote currency"},
        ),
    )
    safety_order_size: Amount = Field(
        default=_num("50"),
        gt=ZERO,
        le=_num("1000000000"),
        json_schema_extra=_about(
            "First safety order", "Percent of the filled base order (10 to 500) or an amount, as chosen above.", SAFETY
        ),
    )
    price_deviation: Amount = Field(
        default=_num("2"),
        ge=_num("0.1"),
        le=_num("20"),
        json_schema_extra=_about(
            "Price deviation", "How far the price must move against the deal for the first safety order.", SAFETY, "%"
        ),
    )
    step_scale: Amount = Field(
        default=ONE,
        ge=_num("0.1"),
        le=_num("10"),
        json_schema_extra=_about("Step scale", "Each further step is this many times the one before.", SAFETY, "×"),
    )
    volume_scale: Amount = Field(
        default=ONE,
        ge=_num("0.1"),
        le=_num("10"),
        json_schema_extra=_about("Volume scale", "Each safety order is this many times the one before.", SAFETY, "×"),
    )
    deviation_reference: DeviationReference = Field(
        default=DeviationReference.AVERAGE,
        json_schema_extra=_about(
            "Deviation counts from",
            "The price from which the summed-up deviation of a safety order is measured.",
            SAFETY,
            choice_labels={
                "average": "the average price",
                "base_order": "the base order's price",
                "last_fill": "the price of the last fill",
            },
        ),
    )

    take_profit: Amount | None = Field(
        default=_num("3"),
        ge=_num("0.1"),
        le=_num("500"),
        json_schema_extra=_about(
            "Take profit", "Profit after the fees paid and to be paid. Empty: no profit target.", PROFIT, "%"
        ),
    )
    take_profit_type: ProfitReference = Field(
        default=ProfitReference.TOTAL,
        json_schema_extra=_about(
            "Percentage of",
            "What the profit is measured against.",
            PROFIT,
            choice_labels={"total": "everything the deal has spent", "base": "the base order alone"},
        ),
    )
    take_profit_mode: TakeProfitMode = Field(
        default=TakeProfitMode.FIXED,
        json_schema_extra=_about(
            "Take profit mode",
            "Fixed sells at the target. Trailing follows the best price from there. Conditions sell when the close "
            "conditions hold and at least the target is reached.",
            PROFIT,
        ),
    )
    trailing_deviation: Amount = Field(
        default=ONE,
        ge=_num("0.1"),
        le=_num("10"),
        json_schema_extra=_about(
            "Trailing deviation",
            "Sell when the price pulls back this far from its best. Never at a loss.",
            PROFIT,
            "%",
            depends_on={"take_profit_mode": ["trailing"]},
        ),
    )

    stop_loss: Amount | None = Field(
        default=None,
        ge=_num("0.1"),
        le=_num("99"),
        json_schema_extra=_about(
            "Stop loss",
            "Sell everything at market when the price is this far beyond the average price. Empty: off.",
            STOPS,
            "%",
        ),
    )
    trailing_stop: Amount | None = Field(
        default=None,
        ge=_num("0.1"),
        le=_num("99"),
        json_schema_extra=_about(
            "Trailing stop",
            "Sell everything at market when the price is this far from its best since the deal opened. Empty: off.",
            STOPS,
            "%",
        ),
    )
    stop_timeout_seconds: int = Field(
        default=0,
        ge=0,
        le=86_400,
        json_schema_extra=_about(
            "Stop time-out", "Sell only when the price has stayed beyond the stop for this long.", STOPS, "s"
        ),
    )
    max_hold_hours: int | None = Field(
        default=None,
        ge=1,
        le=87_600,
        json_schema_extra=_about(
            "Longest hold", "Sell at market after this long, at any profit. Empty: off.", STOPS, "h"
        ),
    )

    open_conditions: Tree = Field(
        default_factory=Tree,
        json_schema_extra=_about("Open when", "When to open a deal. None: at once.", CONDITIONS),
    )
    add_conditions: Tree = Field(
        default_factory=Tree,
        json_schema_extra=_about(
            "Add when", "What must hold besides the price for a safety order. None: the price alone.", CONDITIONS
        ),
    )
    close_conditions: Tree = Field(
        default_factory=Tree,
        json_schema_extra=_about(
            "Close when",
            "When to close; the take-profit percentage, if there is one, has to be reached as well.",
            CONDITIONS,
            depends_on={"take_profit_mode": ["trailing", "conditions"]},
        ),
    )

    # Each check hangs on the field that a person would change, and sees the fields declared above it.

    @field_validator("direction", mode="before")
    @classmethod
    def _supported_direction(cls, direction: Any) -> Any:
        if direction in ("short", "both"):
            raise _refused("not_supported", f"{direction} deals are not available yet; only long ones are")
        return direction

    @field_validator("max_deals_per_pair")
    @classmethod
    def _within_deals(cls, per_pair: int, info: ValidationInfo) -> int:
        deals = info.data.get("max_active_deals")
        if deals is not None and per_pair > deals:
            raise _refused("too_many_per_pair", f"{per_pair} deals per pair, but only {deals} at once")
        return per_pair

    @field_validator("base_order_size")
    @classmethod
    def _share(cls, size: Decimal, info: ValidationInfo) -> Decimal:
        if info.data.get("base_order_type") is BaseOrderType.PERCENT and size > HUNDRED:
            raise _refused("above_100_percent", f"{plain(size)} % of the budget is more than there is")
        return size

    @field_validator("safety_order_type")
    @classmethod
    def _automatic_needs_percent(cls, kind: SafetyOrderType, info: ValidationInfo) -> SafetyOrderType:
        automatic = info.data.get("base_order_type") is BaseOrderType.AUTOMATIC
        if automatic and kind is SafetyOrderType.FIXED and info.data.get("max_safety_orders"):
            raise _refused(
                "automatic_needs_percent", "an automatic base order needs safety orders in percent of the base order"
            )
        return kind

    @field_validator("safety_order_size")
    @classmethod
    def _ratio(cls, size: Decimal, info: ValidationInfo) -> Decimal:
        if info.data.get("safety_order_type") is SafetyOrderType.PERCENT and not 10 <= size <= 500:
            raise _refused("out_of_range", f"{plain(size)} % of the base order; allowed are 10 to 500 %")
        return size

    @field_validator("volume_scale")
    @classmethod
    def _paid_for(cls, scale: Decimal, info: ValidationInfo) -> Decimal:
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

    @field_validator("deviation_reference")
    @classmethod
    def _reachable(cls, reference: DeviationReference, info: ValidationInfo) -> DeviationReference:
        ladder = _ladder(info.data)
        if ladder is None or not ladder.count:
            return reference
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

    @field_validator("take_profit_mode")
    @classmethod
    def _needs_target(cls, mode: TakeProfitMode, info: ValidationInfo) -> TakeProfitMode:
        if "take_profit" in info.data and info.data["take_profit"] is None and mode is not TakeProfitMode.CONDITIONS:
            raise _refused("missing_take_profit", f"take profit is empty, but the mode {mode} needs a percentage")
        return mode

    @field_validator("stop_loss")
    @classmethod
    def _beyond_ladder(cls, stop: Decimal | None, info: ValidationInfo) -> Decimal | None:
        return _checked_stop("stop loss", stop, info.data, from_average=True)

    @field_validator("trailing_stop")
    @classmethod
    def _trailing_beyond_ladder(cls, stop: Decimal | None, info: ValidationInfo) -> Decimal | None:
        return _checked_stop("trailing stop", stop, info.data, from_average=False)

    @field_validator("stop_timeout_seconds")
    @classmethod
    def _has_stop(cls, seconds: int, info: ValidationInfo) -> int:
        stops = [info.data.get(name, ZERO) for name in ("stop_loss", "trailing_stop")]
        if seconds and stops == [None, None]:
            raise _refused("no_stop", f"{seconds} s to wait, but there is neither a stop loss nor a trailing stop")
        return seconds

    @field_validator("add_conditions")
    @classmethod
    def _has_safety_orders(cls, tree: Tree, info: ValidationInfo) -> Tree:
        if not tree.is_empty and info.data.get("max_safety_orders") == 0:
            raise _refused("no_safety_orders", "there are conditions for adding, but no safety orders")
        return tree

    @field_validator("close_conditions")
    @classmethod
    def _can_act(cls, tree: Tree, info: ValidationInfo) -> Tree:
        mode = info.data.get("take_profit_mode")
        if mode is TakeProfitMode.FIXED and not tree.is_empty:
            raise _refused(
                "never_asked",
                "at a fixed take profit the deal is sold before its close conditions are asked; "
                "choose the mode conditions or trailing",
            )
        return tree


def _ladder(data: dict[str, Any]) -> Ladder | None:
    """Return the ladder of validated fields, None when one of them is not valid."""
    names = ("max_safety_orders", "price_deviation", "step_scale", "volume_scale", "safety_order_size")
    if any(name not in data for name in names):
        return None
    return Ladder(data["max_safety_orders"], data["price_deviation"], data["step_scale"], data["volume_scale"])


def _checked_stop(name: str, stop: Decimal | None, data: dict[str, Any], *, from_average: bool) -> Decimal | None:
    """Return ``stop``; raises when it would be hit before the deepest safety order."""
    ladder = _ladder(data)
    if stop is None or ladder is None or not ladder.count or "deviation_reference" not in data:
        return stop
    # Sizes only matter for where the average lies; a fixed size is taken as large as the base order.
    percent = data["safety_order_type"] is SafetyOrderType.PERCENT
    ratio = data["safety_order_size"] / HUNDRED if percent else ONE
    average, base = deepest_drop_pct(data["deviation_reference"], ladder, ratio, Direction.LONG)
    deepest = max(average, base) if not from_average else max(average, cumulative_deviation_pct(ladder, ladder.count))
    if stop <= deepest:
        raise _refused(
            "closer_than_ladder",
            f"a {name} of {plain(stop)} % is closer than the deepest safety order: number {ladder.count} lies "
            f"{deepest:.2f} % away; set it above {deepest:.2f} % or use fewer or closer safety orders",
        )
    return stop


# Presets ------------------------------------------------------------------------------------------------------------


def _rsi_below(value: float, timeframe: Timeframe) -> Tree:
    return Tree(items=(Condition(indicator="rsi", timeframe=timeframe, operator=Operator.LT, value=value),))


def _preset(name: str, label: str, description: str, *, listed: bool = True, **settings: Any) -> Preset:
    return Preset(name, label, description, DcaSettings(**settings), listed)


PRESETS: Final = (
    _preset(
        "conservative",
        "Conservative",
        "Opens on a deeply oversold market, spreads 6 growing safety orders over a drop of about 28 %, takes 2 %.",
        base_order_type="automatic",
        max_safety_orders=6,
        safety_order_size=_num("100"),
        price_deviation=_num("2.5"),
        step_scale=_num("1.25"),
        volume_scale=_num("1.4"),
        deviation_reference="base_order",
        take_profit=_num("2"),
        cooldown_seconds=3600,
        open_conditions=_rsi_below(30, Timeframe.H1),
    ),
    _preset(
        "balanced",
        "Balanced",
        "Opens on an oversold 5-minute chart, five safety orders over a drop of about 15 %, takes 1.5 %.",
        base_order_type="automatic",
        max_active_deals=3,
        max_safety_orders=5,
        safety_order_size=_num("100"),
        price_deviation=_num("2"),
        step_scale=_num("1.2"),
        volume_scale=_num("1.5"),
        deviation_reference="base_order",
        take_profit=_num("1.5"),
        cooldown_seconds=300,
        open_conditions=_rsi_below(35, Timeframe.M5),
    ),
    _preset(
        "aggressive",
        "Aggressive",
        "Opens on small dips of the 1-minute chart, few and larger safety orders, follows the profit from 1 % up.",
        base_order_type="automatic",
        max_active_deals=5,
        max_safety_orders=3,
        safety_order_size=_num("150"),
        price_deviation=_num("1.5"),
        step_scale=_num("1.5"),
        volume_scale=_num("1.8"),
        deviation_reference="base_order",
        take_profit=ONE,
        take_profit_mode="trailing",
        trailing_deviation=_num("0.4"),
        open_conditions=_rsi_below(40, Timeframe.M1),
    ),
    _preset(
        "demo",
        "Demonstration",
        "Opens at once and trades every minute: many small steps, a small profit. To watch, not to earn.",
        listed=False,
        base_order_type="automatic",
        max_active_deals=6,
        max_safety_orders=15,
        safety_order_size=_num("100"),
        price_deviation=_num("0.1"),
        deviation_reference="base_order",
        take_profit=_num("0.1"),
        # So that no deal waits for ever at the end of its ladder and there is always something to watch.
        stop_loss=_num("2"),
        max_hold_hours=1,
    ),
)
