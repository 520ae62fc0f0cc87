"""The settings that a DCA bot is offered to begin with. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from bots.conditions import Condition, Operator, Tree
from bots.strategies.base import Preset
from bots.strategies.dca_settings import DcaSettings
from marketdata.timeframes import Timeframe
from tradebot.core.decimals import ONE


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
        safety_order_size=Decimal("100"),
        price_deviation=Decimal("2.5"),
        step_scale=Decimal("1.25"),
        volume_scale=Decimal("1.4"),
        deviation_reference="base_order",
        take_profit=Decimal("2"),
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
        safety_order_size=Decimal("100"),
        price_deviation=Decimal("2"),
        step_scale=Decimal("1.2"),
        volume_scale=Decimal("1.5"),
        deviation_reference="base_order",
        take_profit=Decimal("1.5"),
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
        safety_order_size=Decimal("150"),
        price_deviation=Decimal("1.5"),
        step_scale=Decimal("1.5"),
        volume_scale=Decimal("1.8"),
        deviation_reference="base_order",
        take_profit=ONE,
        take_profit_mode="trailing",
        trailing_deviation=Decimal("0.4"),
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
        safety_order_size=Decimal("100"),
        price_deviation=Decimal("0.1"),
        deviation_reference="base_order",
        take_profit=Decimal("0.1"),
        # So that no deal waits for ever at the end of its ladder and there is always something to watch.
        stop_loss=Decimal("2"),
        max_hold_hours=1,
    ),
)
