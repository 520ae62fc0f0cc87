"""Settings that between them take every way out of a deal, every order type and both directions.

They act often, so that a short stretch of candles says much. Percentages are in percent, times in seconds.
"""

from __future__ import annotations

from typing import Any, Final


def _rsi(operator: str, value: float, timeframe: str) -> dict[str, Any]:
    return {"items": [{"indicator": "rsi", "timeframe": timeframe, "operator": operator, "value": value}]}


_LADDER: Final[dict[str, Any]] = {
    "base_order_type": "automatic",
    "max_active_deals": 3,
    "max_safety_orders": 5,
    "safety_order_size": "100",
    "price_deviation": "1",
    "step_scale": "1.2",
    "volume_scale": "1.4",
    "deviation_reference": "base_order",
}


def presets(timeframe: str) -> dict[str, dict[str, Any]]:
    """Return the settings by name, with their conditions on ``timeframe``."""
    return {
        "fixed": {
            **_LADDER,
            "take_profit": "1.5",
            "cooldown_seconds": 900,
            "open_conditions": _rsi("<", 38, timeframe),
        },
        "trailing": {
            **_LADDER,
            "deviation_reference": "average",
            "take_profit": "1",
            "take_profit_mode": "trailing",
            "trailing_deviation": "0.4",
            "add_conditions": _rsi("crosses_above", 30, timeframe),
            "max_deals_per_pair": 2,
            "open_conditions": _rsi("crosses_below", 35, timeframe),
        },
        "conditions": {
            **_LADDER,
            "max_safety_orders": 3,
            "deviation_reference": "last_fill",
            "take_profit": "0.5",
            "take_profit_mode": "conditions",
            "close_conditions": _rsi("crosses_above", 50, timeframe),
            "stop_loss": "12",
            "stop_timeout_seconds": 900,
            "open_conditions": {
                "items": [
                    {"indicator": "bb_percent", "timeframe": timeframe, "operator": "<", "value": 15},
                    {"indicator": "rsi", "timeframe": "15m", "operator": "<", "value": 60},
                ]
            },
        },
        "stops": {
            "base_order_size": "40",
            "max_active_deals": 4,
            "max_safety_orders": 1,
            "price_deviation": "0.8",
            "take_profit": "4",
            "trailing_stop": "2.5",
            "stop_loss": "2.2",
            "max_hold_hours": 9,
            "cooldown_seconds": 1800,
        },
        "steps at rest": {
            **_LADDER,
            "safety_order_execution": "limit",
            "take_profit_execution": "limit",
            "take_profit_steps": [
                {"profit_pct": "0.6", "share_pct": "40"},
                {"profit_pct": "1.4", "share_pct": "35"},
                {"profit_pct": "3", "share_pct": "25"},
            ],
            "base_order_execution": "limit",
            "limit_timeout_seconds": 600,
            "max_hold_hours": 30,
            "open_conditions": _rsi("<", 42, timeframe),
        },
        "both ways": {
            **_LADDER,
            "direction": "both",
            "long_share_pct": "60",
            "take_profit": "1.2",
            "stop_loss": "14",
            "open_conditions": {
                "join": "or",
                "items": [
                    {"indicator": "rsi", "timeframe": timeframe, "operator": "<", "value": 30},
                    {"indicator": "rsi", "timeframe": timeframe, "operator": "crosses_below", "value": 45},
                ],
            },
        },
    }
