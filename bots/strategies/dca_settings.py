"""The settings of the DCA bot: defaults, ranges, labels and what they must agree on. Pure.

Only settings that have an effect are here; an unknown one is refused by name. Percentages are in percent, sizes in
quote currency or percent as their type says. Settings that were saved before a field existed get its default.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final

from pydantic import Field, PlainSerializer, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from bots.conditions import Asked, Condition, Operator, Tree, mirror, required_signals
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
from bots.strategies.dca_shape import Shape, shape_of
from bots.strategies.forms import SettingsModel
from marketdata.timeframes import Timeframe
from positions.ledger import ProfitReference
from positions.states import Direction, OrderType
from tradebot.core.decimals import HUNDRED, MONEY, ONE, QUANTUM, ZERO, plain
from tradebot.core.words import Category

Amount = Annotated[Decimal, PlainSerializer(plain, return_type=str, when_used="json")]


class Directions(StrEnum):
    """Which deals a bot opens."""

    LONG = "long"
    SHORT = "short"
    BOTH = "both"


class ShortConditions(StrEnum):
    """Where the conditions of the short side of a bot that trades both ways come from."""

    MIRRORED = "mirrored"
    OWN = "own"


class TakeProfitMode(StrEnum):
    """How a deal takes its profit."""

    FIXED = "fixed"
    TRAILING = "trailing"
    CONDITIONS = "conditions"


DEALS: Final = "Deals"
FILTERS: Final = "Filters"
BASE: Final = "Base order"
SAFETY: Final = "Safety orders"
PROFIT: Final = "Take profit"
STOPS: Final = "Stops"
EXECUTION: Final = "Limit orders and slippage"
CONDITIONS: Final = "Conditions"
SHORT_SIDE: Final = "Conditions of the short side"

MAX_STEPS: Final = 4
EXECUTION_LABELS: Final = {"market": "at market, at once", "limit": "limit, waits for its price"}


def _about(label: str, help_text: str, section: str, unit: str = "", **more: Any) -> dict[str, Any]:
    return {"label": label, "help": help_text, "section": section, "unit": unit, **more}


def _refused(code: str, message: str, field: str | None = None) -> PydanticCustomError:
    """Return an error with this message; ``field`` names the setting to change where that is not the one checked."""
    context = {"message": message} | ({"field": field} if field else {})
    return PydanticCustomError(code, "{message}", context)


def _num(text: str) -> Decimal:
    return Decimal(text)


_OWN_SHORT_SIDE: Final = {"direction": ["both"], "short_conditions": ["own"]}


class ProfitStep(SettingsModel):
    """One step of a take profit in parts: at ``profit_pct`` percent net, ``share_pct`` percent of the deal is sold."""

    profit_pct: Amount = Field(
        ge=_num("0.1"),
        le=_num("500"),
        json_schema_extra=_about("Profit", "Profit after all fees at which this part is sold.", PROFIT, "%"),
    )
    share_pct: Amount = Field(
        gt=ZERO,
        le=_num("100"),
        json_schema_extra=_about("Share", "How much of the deal is sold there.", PROFIT, "%"),
    )


class DcaSettings(SettingsModel):
    """What a DCA bot does. A deal keeps a copy of the settings it opened with; editing the bot affects new deals."""

    direction: Directions = Field(
        default=Directions.LONG,
        json_schema_extra=_about(
            "Direction",
            "Long: buy first, sell higher. Short: sell coins that the account holds, buy them back lower. "
            "Both: each side with its own share of the budget and its own deal limits.",
            DEALS,
        ),
    )
    long_share_pct: Amount = Field(
        default=_num("50"),
        ge=ONE,
        le=_num("99"),
        json_schema_extra=_about(
            "Share of the long side",
            "How much of the budget long deals may use; short deals have the rest.",
            DEALS,
            "%",
            depends_on={"direction": ["both"]},
        ),
    )
    short_conditions: ShortConditions = Field(
        default=ShortConditions.MIRRORED,
        json_schema_extra=_about(
            "Short side's conditions",
            "Mirrored: above and below swap places, an RSI of 30 becomes 70. Own: those of the short side below.",
            DEALS,
            choice_labels={"mirrored": "mirrored from the long side", "own": "its own"},
            depends_on={"direction": ["both"]},
        ),
    )
    max_active_deals: int = Field(
        default=1,
        ge=1,
        le=1000,
        json_schema_extra=_about(
            "Deals at once", "How many deals the bot may have open at the same time, per direction.", DEALS
        ),
    )
    max_deals_per_pair: int = Field(
        default=1,
        ge=1,
        le=1000,
        json_schema_extra=_about("Deals per pair", "How many of them may be open on one pair, per direction.", DEALS),
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
            "Widest spread", "Open no deal while bid and ask are farther apart than this. Empty: any.", FILTERS, "%"
        ),
    )
    min_volume_24h: Amount | None = Field(
        default=None,
        gt=ZERO,
        le=_num("1000000000000"),
        json_schema_extra=_about(
            "Least volume in 24 h",
            "Open no deal on a pair that traded less than this in the last day, in the quote currency. Empty: any.",
            FILTERS,
        ),
    )
    allowed_categories: tuple[Category, ...] = Field(
        default=(),
        json_schema_extra=_about(
            "Coin categories",
            "Open deals only on coins that were put into one of these. Coins that nobody has reviewed are then left "
            "out. None chosen: any coin.",
            FILTERS,
        ),
    )
    skip_stable_pairs: bool = Field(
        default=False,
        json_schema_extra=_about(
            "Skip stable pairs", "Open no deal on a pair of two stable coins: its price hardly moves.", FILTERS
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
    take_profit_steps: tuple[ProfitStep, ...] = Field(
        default=(),
        max_length=MAX_STEPS,
        json_schema_extra=_about(
            "Take profit in steps",
            "Sell in up to 4 parts, each at its own profit; the shares add up to 100 %. While there are steps, the "
            "single take profit percentage above has no effect.",
            PROFIT,
            depends_on={"take_profit_mode": ["fixed"]},
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

    base_order_execution: OrderType = Field(
        default=OrderType.MARKET,
        json_schema_extra=_about(
            "Base order goes",
            "Limit: at the middle of bid and ask; what has not filled by the time-out is cancelled.",
            EXECUTION,
            choice_labels=EXECUTION_LABELS,
        ),
    )
    safety_order_execution: OrderType = Field(
        default=OrderType.MARKET,
        json_schema_extra=_about(
            "Safety orders go",
            "Limit: the next safety order waits in the order book at its price. Not together with conditions for "
            "adding.",
            EXECUTION,
            choice_labels=EXECUTION_LABELS,
        ),
    )
    take_profit_execution: OrderType = Field(
        default=OrderType.MARKET,
        json_schema_extra=_about(
            "Take profit goes",
            "Limit: at the middle of bid and ask once that is good enough; after the time-out at the price that fills "
            "at once, but never below the target. Stops always go to market.",
            EXECUTION,
            choice_labels=EXECUTION_LABELS,
        ),
    )
    limit_timeout_seconds: int = Field(
        default=60,
        ge=10,
        le=86_400,
        json_schema_extra=_about(
            "Limit time-out",
            "How long a limit base order or take profit may wait. Safety orders wait for as long as it takes.",
            EXECUTION,
            "s",
        ),
    )
    slippage_guard: bool = Field(
        default=False,
        json_schema_extra=_about(
            "Slippage guard",
            "Look into the order book before each market order that is no stop, and wait while it would fill too "
            "far from the best price.",
            EXECUTION,
        ),
    )
    max_slippage: Amount = Field(
        default=_num("0.5"),
        ge=_num("0.01"),
        le=_num("5"),
        json_schema_extra=_about(
            "Most slippage",
            "How much worse than the best price the order may fill on average.",
            EXECUTION,
            "%",
            depends_on={"slippage_guard": ["true"]},
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

    short_open_conditions: Tree = Field(
        default_factory=Tree,
        json_schema_extra=_about(
            "Open a short when", "When to open a short deal. None: at once.", SHORT_SIDE, depends_on=_OWN_SHORT_SIDE
        ),
    )
    short_add_conditions: Tree = Field(
        default_factory=Tree,
        json_schema_extra=_about(
            "Add to a short when",
            "What must hold besides the price for a safety order of a short deal. None: the price alone.",
            SHORT_SIDE,
            depends_on=_OWN_SHORT_SIDE,
        ),
    )
    short_close_conditions: Tree = Field(
        default_factory=Tree,
        json_schema_extra=_about(
            "Close a short when",
            "When to close a short deal; the take-profit percentage, if there is one, has to be reached as well.",
            SHORT_SIDE,
            depends_on={**_OWN_SHORT_SIDE, "take_profit_mode": ["trailing", "conditions"]},
        ),
    )

    # What the settings mean for one direction -------------------------------------------------------------------------

    @cached_property
    def directions(self) -> tuple[Direction, ...]:
        """Return the directions in which deals are opened, the long side first."""
        return _directions_of(self.direction)

    def open_tree(self, direction: Direction) -> Tree:
        """Return what must hold for opening a deal of this direction."""
        return self._trees[direction][0]

    def add_tree(self, direction: Direction) -> Tree:
        """Return what must hold besides the price for a safety order of a deal of this direction."""
        return self._trees[direction][1]

    def close_tree(self, direction: Direction) -> Tree:
        """Return what closes a deal of this direction, its floor besides."""
        return self._trees[direction][2]

    def budget_share(self, direction: Direction) -> Decimal:
        """Return the share of the bot's budget that deals of this direction have, as a fraction of 1."""
        if direction not in self.directions:
            return ZERO
        if self.direction is not Directions.BOTH:
            return ONE
        share = MONEY.divide(self.long_share_pct, HUNDRED)
        return share if direction is Direction.LONG else MONEY.subtract(ONE, share)

    @cached_property
    def _trees(self) -> dict[Direction, tuple[Tree, Tree, Tree]]:
        """Return the trees for opening, adding and closing by direction."""
        written = (self.open_conditions, self.add_conditions, self.close_conditions)
        trees = dict.fromkeys(Direction, written)
        if self.direction is Directions.BOTH:
            own = (self.short_open_conditions, self.short_add_conditions, self.short_close_conditions)
            is_own = self.short_conditions is ShortConditions.OWN
            trees[Direction.SHORT] = own if is_own else (mirror(written[0]), mirror(written[1]), mirror(written[2]))
        return trees

    @cached_property
    def signals(self) -> dict[str, Asked]:
        """Return what the conditions ask for, by kind of signal; empty for most settings."""
        return required_signals(tree for direction in self.directions for tree in self._trees[direction])

    @cached_property
    def shape(self) -> Shape:
        """Return what follows from these settings alone, worked out when first asked for."""
        return shape_of(self)

    # Each check hangs on the field that a person would change, and sees the fields declared above it.

    @field_validator("allowed_categories")
    @classmethod
    def _each_once(cls, categories: tuple[Category, ...]) -> tuple[Category, ...]:
        return tuple(category for category in Category if category in categories)

    @field_validator("max_deals_per_pair")
    @classmethod
    def _within_deals(cls, per_pair: int, info: ValidationInfo) -> int:
        deals = info.data.get("max_active_deals")
        if deals is not None and per_pair > deals:
            raise _refused("too_many_per_pair", f"{per_pair} deals per pair, but only {deals} at once")
        return per_pair

    @field_validator("base_order_size", "safety_order_size")
    @classmethod
    def _can_be_counted(cls, size: Decimal) -> Decimal:
        if size < QUANTUM:
            raise _refused("too_small", f"no amount is below {plain(QUANTUM)}")
        return size

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
        if Direction.LONG not in _directions_of(info.data.get("direction")):
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

    @field_validator("take_profit")
    @classmethod
    def _possible_for_a_short(cls, percent: Decimal | None, info: ValidationInfo) -> Decimal | None:
        _refuse_out_of_reach(percent, info)
        return percent

    @field_validator("take_profit_steps")
    @classmethod
    def _target(cls, steps: tuple[ProfitStep, ...], info: ValidationInfo) -> tuple[ProfitStep, ...]:
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

    @field_validator("short_open_conditions", "short_add_conditions", "short_close_conditions")
    @classmethod
    def _is_asked(cls, tree: Tree, info: ValidationInfo) -> Tree:
        both = info.data.get("direction") is Directions.BOTH
        if not tree.is_empty and not (both and info.data.get("short_conditions") is ShortConditions.OWN):
            raise _refused(
                "never_asked",
                "the short side has conditions of its own only with direction both and its conditions set to own",
            )
        return tree

    @field_validator("add_conditions", "short_add_conditions")
    @classmethod
    def _has_safety_orders(cls, tree: Tree, info: ValidationInfo) -> Tree:
        if not tree.is_empty and info.data.get("max_safety_orders") == 0:
            raise _refused("no_safety_orders", "there are conditions for adding, but no safety orders")
        if not tree.is_empty and info.data.get("safety_order_execution") is OrderType.LIMIT:
            raise _refused(
                "limit_without_conditions",
                "limit safety orders wait in the order book, where no condition is asked; "
                "let them go at market or remove the conditions for adding",
            )
        return tree

    @field_validator("close_conditions", "short_close_conditions")
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


def _directions_of(direction: Directions | None) -> tuple[Direction, ...]:
    """Return the directions of deals that the setting stands for; the long one for a setting that is not valid."""
    if direction is Directions.BOTH:
        return (Direction.LONG, Direction.SHORT)
    return (Direction.SHORT,) if direction is Directions.SHORT else (Direction.LONG,)


def _refuse_out_of_reach(percent: Decimal | None, info: ValidationInfo) -> None:
    """Raise where a short could never earn that much: it earns 100 % when the price is zero."""
    if percent is not None and percent >= HUNDRED and Direction.SHORT in _directions_of(info.data.get("direction")):
        raise _refused("out_of_reach", f"a short deal cannot earn {plain(percent)} %; it has to be less than 100 %")


def _listed(numbers: list[Decimal]) -> str:
    return ", ".join(plain(number) for number in numbers)


def _checked_stop(name: str, stop: Decimal | None, data: dict[str, Any], *, from_average: bool) -> Decimal | None:
    """Return ``stop``; raises when it would be hit before the deepest safety order of any direction."""
    ladder = _ladder(data)
    if stop is None or ladder is None or not ladder.count or "deviation_reference" not in data:
        return stop
    # Sizes only matter for where the average lies; a fixed size is taken as large as the base order.
    percent = data["safety_order_type"] is SafetyOrderType.PERCENT
    ratio = data["safety_order_size"] / HUNDRED if percent else ONE
    directions = _directions_of(data.get("direction"))
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
