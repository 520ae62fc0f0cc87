"""What DCA settings come to, worked out once per settings object: factors, sums, waiting times. Pure.

A look at a market costs microseconds, and most of what it needs depends on the settings alone. Everything here is made
with the same operations, in the same context, as the formulas in ``bots.sizing`` that it stands for: to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from math import prod
from typing import TYPE_CHECKING, Final

from bots.conditions import Tree
from bots.sizing import (
    BaseOrderType,
    DeviationReference,
    Ladder,
    SafetyOrderType,
    deepest_drop_pct,
    ladder_factor,
    safety_order_levels,
)
from marketdata.timeframes import Timeframe
from positions.states import Direction, OrderType, Side
from tradebot.core.decimals import HUNDRED, ONE, ZERO, for_money

if TYPE_CHECKING:
    from bots.strategies.dca_settings import DcaSettings

__all__ = ["Shape", "SideShape", "TreeShape", "shape_of"]

MARGIN: Final = Decimal("1E-9")
"""Bounds are widened by this share, so that rounding in the sixtieth digit cannot make them wrong."""


MAX_CANDLE_LAG: Final = 3
MAX_CANDLE_LAG_SECONDS: Final = 600
"""A series that lags behind by more than 3 candles and 10 minutes opens nothing (F39)."""


@dataclass(frozen=True, slots=True)
class TreeShape:
    """A tree with what is asked of it at every look: its timeframes, each with the lag in seconds that it may have."""

    tree: Tree
    is_empty: bool
    has_crossing: bool
    timeframes: tuple[tuple[Timeframe, int], ...]


@dataclass(frozen=True, slots=True)
class SideShape:
    """What the settings mean for deals of one direction.

    ``rung_factors`` are the prices of the safety orders in units of their reference, nearest first, ``lowest_factor``
    is the least of them. No rung of a fresh ladder lies above ``highest_factor`` base order prices. ``stop_factor``,
    ``trailing_stop_factor`` and ``pull_back_factor`` are prices in units of the average price, the best price and the
    peak.
    """

    direction: Direction
    is_long: bool
    entry_side: Side
    exit_side: Side
    opening: TreeShape
    adding: TreeShape
    closing: TreeShape
    rung_factors: tuple[Decimal, ...]
    lowest_factor: Decimal
    highest_factor: Decimal
    stop_factor: Decimal | None
    trailing_stop_factor: Decimal | None
    pull_back_factor: Decimal


@dataclass(frozen=True, slots=True)
class Shape:
    """What the settings mean for every deal.

    ``ladder_factor`` is a whole ladder in base orders (safety orders in percent), ``size_sum`` and ``least_size`` the
    sum and the least of the safety orders' sizes in units of the first one.
    """

    sides: dict[Direction, SideShape]
    max_slippage: Decimal | None
    limit_timeout: timedelta
    stop_timeout: timedelta
    cooldown: timedelta | None
    max_hold: timedelta | None
    is_limit_profit: bool
    is_limit_safety: bool
    ladder_factor: Decimal
    size_sum: Decimal
    least_size: Decimal
    always_within_budget: bool


def shape_of(settings: DcaSettings) -> Shape:
    """Return the shape of these settings. Settings keep it: ask ``DcaSettings.shape``."""
    with for_money():
        count, scale = settings.max_safety_orders, settings.volume_scale
        sizes = [scale**power for power in range(count)]
        percent = settings.safety_order_type is SafetyOrderType.PERCENT
        hours, cooldown = settings.max_hold_hours, settings.cooldown_seconds
        return Shape(
            sides={direction: _side(settings, direction) for direction in Direction},
            max_slippage=settings.max_slippage if settings.slippage_guard else None,
            limit_timeout=timedelta(seconds=settings.limit_timeout_seconds),
            stop_timeout=timedelta(seconds=settings.stop_timeout_seconds),
            cooldown=timedelta(seconds=cooldown) if cooldown else None,
            max_hold=None if hours is None else timedelta(hours=hours),
            is_limit_profit=settings.take_profit_execution is OrderType.LIMIT,
            is_limit_safety=settings.safety_order_execution is OrderType.LIMIT,
            ladder_factor=ladder_factor(count, settings.safety_order_size / HUNDRED, scale),
            size_sum=sum(sizes, ZERO),
            least_size=min(sizes, default=ONE),
            # An automatic base order is what the ladder divides the budget by; percentages were checked when saved.
            always_within_budget=percent and settings.base_order_type is not BaseOrderType.FIXED,
        )


def _side(settings: DcaSettings, direction: Direction) -> SideShape:
    ladder = Ladder(
        settings.max_safety_orders, settings.price_deviation, settings.step_scale, settings.volume_scale, ONE
    )
    factors = tuple(rung.price for rung in safety_order_levels(ladder, ONE, direction))
    return SideShape(
        direction=direction,
        is_long=direction is Direction.LONG,
        entry_side=direction.entry_side,
        exit_side=direction.exit_side,
        opening=_tree(settings.open_tree(direction)),
        adding=_tree(settings.add_tree(direction)),
        closing=_tree(settings.close_tree(direction)),
        rung_factors=factors,
        lowest_factor=min(factors, default=ONE),
        highest_factor=_highest(settings, ladder, factors, direction),
        stop_factor=_moved_back(settings.stop_loss, direction),
        trailing_stop_factor=_moved_back(settings.trailing_stop, direction),
        pull_back_factor=ONE - direction.sign * settings.trailing_deviation / HUNDRED,
    )


def _moved_back(percent: Decimal | None, direction: Direction) -> Decimal | None:
    return None if percent is None else ONE - direction.sign * percent / HUNDRED


def _highest(settings: DcaSettings, ladder: Ladder, factors: tuple[Decimal, ...], direction: Direction) -> Decimal:
    if direction is Direction.LONG:
        return ONE
    percent = settings.safety_order_type is SafetyOrderType.PERCENT
    if settings.deviation_reference is DeviationReference.BASE_ORDER or percent:
        _average, base = deepest_drop_pct(
            settings.deviation_reference, ladder, settings.safety_order_size / HUNDRED, direction
        )
        return (ONE + base / HUNDRED) * (ONE + MARGIN)
    # Where the average lies depends on the budget; it never lies beyond the last fill.
    return prod(factors, start=ONE) * (ONE + MARGIN)


def _tree(tree: Tree) -> TreeShape:
    frames = dict.fromkeys(condition.timeframe for condition in tree.conditions())
    allowed = tuple((frame, max(MAX_CANDLE_LAG * frame.seconds, MAX_CANDLE_LAG_SECONDS)) for frame in frames)
    return TreeShape(tree, tree.is_empty, bool(tree.crossing_timeframes), allowed)
