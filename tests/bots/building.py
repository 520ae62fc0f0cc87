"""Values for tests of the decision core: candles, views, fills and deals made from a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from bots.strategies.base import (
    DealView,
    FeeRates,
    InMemoryMarketView,
    OpenContext,
    ProductTerms,
    Quote,
    WorkingOrder,
)
from bots.strategies.dca_settings import DcaSettings
from marketdata.series import Candles, oldest_first
from marketdata.signals import Signals
from marketdata.timeframes import Timeframe
from positions.ledger import FillFact, Totals, totals
from positions.states import Direction, OrderType, Purpose

D = Decimal
START = 1_700_006_400  # a full day, so every timeframe but 3d and 1w has a candle opening here
NOW = datetime(2024, 1, 1, 12, 0, tzinfo=UTC)
FREE = FeeRates(D(0), D(0))
COSTLY = FeeRates(D("0.004"), D("0.006"))

TERMS = ProductTerms(
    symbol="ETH-USD",
    base="ETH",
    quote="USD",
    price_increment=D("0.000001"),
    base_increment=D("0.00000001"),
    min_base=D("0.0001"),
    min_quote=D("1"),
)


def candles(closes: Sequence[float], timeframe: Timeframe = Timeframe.M1, start: int = START) -> Candles:
    """Return candles with these closes; each opens at the close before it."""
    close = np.asarray(closes, dtype=np.float64)
    opens = np.concatenate((close[:1], close[:-1]))
    return oldest_first(
        start + np.arange(len(close)) * timeframe.seconds,
        opens,
        np.maximum(opens, close),
        np.minimum(opens, close),
        close,
        np.ones(len(close)),
    )


def told(*moments: float, confidence: float = 80, action: int = 1, since: float | None = None) -> Signals:
    """Return signals received at these moments (Unix seconds, rising), all alike; known of from the first one on."""
    return Signals(
        np.array(moments, dtype=np.float64),
        np.full(len(moments), float(confidence)),
        np.full(len(moments), action, dtype=np.int64),
        since if since is not None else min(moments, default=float("inf")),
    )


def quote(price: Decimal | int | str, at: datetime = NOW, spread: Decimal | int | str = 0) -> Quote:
    """Return prices around ``price``; ``spread`` is what lies between bid and ask."""
    mid, half = D(price), D(spread) / 2
    return Quote("ETH-USD", mid - half, mid + half, mid, at)


def view(
    price: Decimal | int | str | None = 100,
    series: Mapping[Timeframe, Candles] | None = None,
    terms: ProductTerms = TERMS,
    at: datetime = NOW,
    spread: Decimal | int | str = 0,
) -> InMemoryMarketView:
    return InMemoryMarketView(terms, series or {}, None if price is None else quote(price, at, spread))


def recent(closes: Sequence[float], timeframe: Timeframe = Timeframe.M1, now: datetime = NOW) -> Candles:
    """Return candles of which the last one is the newest that is closed at ``now``."""
    end = int(now.timestamp())
    return candles(closes, timeframe, end - len(closes) * timeframe.seconds)


def context(**changes: Any) -> OpenContext:
    values: dict[str, Any] = {
        "now": NOW,
        "fee_rates": FREE,
        "open_deals": 0,
        "open_deals_on_pair": 0,
        "bot_budget": D(1000),
        "free_quote": D(1000),
    }
    return OpenContext(**(values | changes))


def settings(**changes: Any) -> DcaSettings:
    return DcaSettings.from_json(changes)


GOLDEN: dict[str, Any] = {
    "base_order_type": "fixed",
    "base_order_size": "10",
    "safety_order_type": "fixed",
    "safety_order_size": "10",
    "max_safety_orders": 5,
    "price_deviation": "2",
    "step_scale": "1.2",
    "volume_scale": "1.5",
    "deviation_reference": "base_order",
    "take_profit": "1.5",
}
"""The golden ladder: base price 100, base 10, first safety order 10, 2 % steps growing by 1.2, sizes by 1.5."""


def fill(
    direction: Direction,
    purpose: Purpose,
    price: Decimal | int | str,
    base: Decimal | int | str,
    *,
    fee: Decimal | int | str = 0,
    fee_currency: str = "USD",
    minute: int = 0,
) -> FillFact:
    entry = purpose in (Purpose.BASE_ORDER, Purpose.SAFETY_ORDER, Purpose.MANUAL_ADD)
    side = direction.entry_side if entry else direction.exit_side
    amount = D(price) * D(base)
    return FillFact(side, D(price), D(base), amount, D(fee), fee_currency, NOW + timedelta(minutes=minute), purpose)


def holding(*fills: FillFact, direction: Direction = Direction.LONG) -> Totals:
    return totals(fills, direction, "ETH", "USD")


def deal(
    totals_or_price: Totals | Decimal | int | str = 100,
    *,
    direction: Direction = Direction.LONG,
    base: Decimal | int | str = 1,
    **changes: Any,
) -> DealView:
    """Return an open deal; by default one base order of ``base`` at the given price."""
    if isinstance(totals_or_price, Totals):
        sums = totals_or_price
    else:
        sums = holding(fill(direction, Purpose.BASE_ORDER, totals_or_price, base), direction=direction)
    values: dict[str, Any] = {
        "levels_filled": 0,
        "opened_at": NOW - timedelta(hours=1),
        "free_quote": D(100_000),
        "wallet_base": sums.remaining_base if direction is Direction.LONG else D(100_000),
    }
    return DealView(totals=sums, **(values | changes))


def working(
    purpose: Purpose,
    base: Decimal | int | str = 1,
    *,
    limit_price: Decimal | int | str | None = None,
    age: int = 0,
    **changes: Any,
) -> WorkingOrder:
    """Return an order of a deal that may still fill: at market, or resting where ``limit_price`` is given."""
    values: dict[str, Any] = {
        "purpose": purpose,
        "order_type": OrderType.MARKET if limit_price is None else OrderType.LIMIT,
        "base_size": D(base),
        "limit_price": None if limit_price is None else D(limit_price),
        "placed_at": NOW - timedelta(seconds=age),
    }
    return WorkingOrder(**(values | changes))
