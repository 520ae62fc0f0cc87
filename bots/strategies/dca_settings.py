"""The settings of the DCA bot: defaults, ranges, labels, and what they mean for one direction. Pure.

Only settings that have an effect are here; an unknown one is refused by name. Percentages are in percent, sizes in
quote currency or percent as their type says. Settings that were saved before a field existed get its default. What
they must agree on is in ``dca_agreement``, what a bot is offered to begin with in ``dca_presets``.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import Field, PlainSerializer, field_validator

from bots.conditions import Asked, Tree, mirror, required_signals
from bots.sizing import BaseOrderType, DeviationReference, SafetyOrderType
from bots.strategies import dca_agreement as agreement
from bots.strategies.dca_shape import Shape, shape_of
from bots.strategies.dca_words import Directions, ShortConditions, TakeProfitMode, directions_of
from bots.strategies.forms import SettingsModel
from positions.ledger import ProfitReference
from positions.states import Direction, OrderType
from tradebot.core.decimals import HUNDRED, MONEY, ONE, ZERO, plain
from tradebot.core.words import Category

Amount = Annotated[Decimal, PlainSerializer(plain, return_type=str, when_used="json")]

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
        return directions_of(self.direction)

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

    # What they must agree on: each check hangs on the field that a person would change -------------------------------

    _each_once = field_validator("allowed_categories")(agreement.each_once)
    _within_deals = field_validator("max_deals_per_pair")(agreement.within_deals)
    _can_be_counted = field_validator("base_order_size", "safety_order_size")(agreement.can_be_counted)
    _within_budget = field_validator("base_order_size")(agreement.within_budget)
    _automatic_needs_percent = field_validator("safety_order_type")(agreement.automatic_needs_percent)
    _in_proportion = field_validator("safety_order_size")(agreement.in_proportion)
    _paid_for = field_validator("volume_scale")(agreement.paid_for)
    _reachable = field_validator("deviation_reference")(agreement.reachable)
    _possible_for_a_short = field_validator("take_profit")(agreement.possible_for_a_short)
    _has_target = field_validator("take_profit_steps")(agreement.has_target)
    _beyond_ladder = field_validator("stop_loss")(agreement.beyond_ladder)
    _trailing_beyond_ladder = field_validator("trailing_stop")(agreement.trailing_beyond_ladder)
    _has_stop = field_validator("stop_timeout_seconds")(agreement.has_stop)
    _are_asked = field_validator("short_open_conditions", "short_add_conditions", "short_close_conditions")(
        agreement.are_asked
    )
    _has_safety_orders = field_validator("add_conditions", "short_add_conditions")(agreement.has_safety_orders)
    _can_close = field_validator("close_conditions", "short_close_conditions")(agreement.can_close)
