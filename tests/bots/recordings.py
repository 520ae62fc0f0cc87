"""A recorded market for backtests, and settings that trade on it."""

from __future__ import annotations

from typing import Any

from marketdata.models import Product
from marketdata.series import oldest_first
from marketdata.sources.replay import import_candles
from marketdata.timeframes import Timeframe

START = 1_704_067_200  # 2024-01-01
MINUTE = 60
# Falls by six percent and comes back, again and again.
WAVE = [100.0, 99, 98, 97, 96, 95, 94, 95, 96, 97, 98, 99, 101]
SETTINGS: dict[str, Any] = {
    "base_order_type": "fixed",
    "base_order_size": "100",
    "max_safety_orders": 2,
    "safety_order_type": "fixed",
    "safety_order_size": "100",
    "price_deviation": "2",
    "deviation_reference": "base_order",
    "take_profit": "1",
}
RSI_3M = {"items": [{"indicator": "rsi", "timeframe": "3m", "operator": "<", "value": 50}]}


def recording(
    symbol: str, closes: list[float], frame: Timeframe = Timeframe.M1, start: int = START, skip: Any = ()
) -> Product:
    rows = [(start + n * frame.seconds, close) for n, close in enumerate(closes) if n not in skip]
    times, prices = zip(*rows, strict=True)
    import_candles(symbol, frame, oldest_first(times, prices, prices, prices, prices, [1e6] * len(prices)))
    return Product.objects.get(exchange="replay", symbol=symbol)
