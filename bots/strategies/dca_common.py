"""What the DCA bot's two decisions share: when data is too old, and how a refusal reads. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from bots.conditions import Tree, Verdict
from bots.strategies.base import Action, Decision, MarketView, Quote, ReasonCode
from marketdata.timeframes import last_closed
from positions.states import Direction
from tradebot.core.decimals import plain

MAX_QUOTE_AGE: Final = timedelta(seconds=60)
"""Prices older than this open, add and take no profit."""

MAX_CANDLE_LAG: Final = 3
MAX_CANDLE_LAG_SECONDS: Final = 600
"""A series that lags behind by more than 3 candles and 10 minutes opens nothing (F39)."""


def refuse(code: ReasonCode, message: str, **evidence: Any) -> Decision:
    """Return the decision to do nothing, with the numbers behind it; unknown ones are left out."""
    return Decision(Action.NONE, code, message, {key: value for key, value in evidence.items() if value is not None})


def stale_price(quote: Quote, now: datetime, allowed: timedelta) -> Decision:
    """Return the refusal of a price that is older than ``allowed``."""
    age, most = int(age_of(quote, now).total_seconds()), int(allowed.total_seconds())
    return refuse(
        ReasonCode.STALE_PRICE, f"the last price is {age} s old, at most {most} s are allowed", age_seconds=age
    )


def age_of(quote: Quote, now: datetime) -> timedelta:
    """Return how old the quote is at ``now``."""
    return now - quote.at


def entry_price(quote: Quote, direction: Direction) -> Decimal:
    """Return the price an entry at market gets: the ask (long) or the bid (short)."""
    return quote.ask if direction is Direction.LONG else quote.bid


def candle_lag(tree: Tree, view: MarketView, now: datetime) -> str:
    """Return in words that a series the tree looks at ends too long ago; empty when none does."""
    for timeframe in {condition.timeframe: None for condition in tree.conditions()}:
        time = view.series(timeframe).time
        if not len(time):
            continue  # The condition itself says that it has no candles.
        lag = last_closed(now.timestamp(), timeframe) - int(time[-1])
        if lag > max(MAX_CANDLE_LAG * timeframe.seconds, MAX_CANDLE_LAG_SECONDS):
            return f"the {timeframe} candles end {lag} s before the last closed one"
    return ""


def checks_json(verdict: Verdict) -> list[dict[str, Any]]:
    """Return the verdict's checks as plain JSON values."""
    return [check.as_json() for check in verdict.checks]


def amount_text(value: Decimal) -> str:
    """Return an amount with at most 8 significant digits, for sentences."""
    return plain(value.normalize() if len(value.as_tuple().digits) <= 8 else +Decimal(f"{value:.8g}"))
