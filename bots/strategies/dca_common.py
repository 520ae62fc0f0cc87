"""What the DCA bot's two decisions share: when data is too old, and how prices and amounts read. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from bots.conditions import Verdict
from bots.strategies.base import MarketView, Quote
from bots.strategies.dca_shape import TreeShape
from marketdata.terms import ProductTerms
from marketdata.timeframes import last_closed
from positions.states import Direction
from tradebot.core.decimals import ceil_to, floor_to, plain, round_to

MAX_QUOTE_AGE: Final = timedelta(seconds=60)
"""Prices older than this open, add and take no profit."""


def stale_words(quote: Quote, now: datetime, allowed: timedelta) -> str:
    """Return in words that the price is older than ``allowed``."""
    return f"the last price is {seconds(now - quote.at)} s old, at most {seconds(allowed)} s are allowed"


def seconds(span: timedelta) -> int:
    """Return whole seconds."""
    return int(span.total_seconds())


def entry_price(quote: Quote, direction: Direction) -> Decimal:
    """Return the price an entry at market gets: the ask (long) or the bid (short)."""
    return quote.ask if direction is Direction.LONG else quote.bid


def limit_price(price: Decimal, terms: ProductTerms, *, is_buy: bool) -> Decimal:
    """Return the valid price next to ``price`` that is no worse: a buy goes down to a step, a sell up."""
    return floor_to(price, terms.price_increment) if is_buy else ceil_to(price, terms.price_increment)


def candle_lag(shape: TreeShape, view: MarketView, now: datetime) -> str:
    """Return in words that a series the tree looks at ends too long ago; empty when none does."""
    moment = now.timestamp()
    for timeframe, allowed in shape.timeframes:
        newest = view.newest(timeframe)
        if newest is None:
            continue  # The condition itself says that it has no candles.
        # The last closed candle opened one timeframe ago at the latest.
        if moment - newest - timeframe.seconds <= allowed:
            continue
        lag = last_closed(moment, timeframe) - newest
        if lag > allowed:
            return f"the {timeframe} candles end {lag} s before the last closed one"
    return ""


def checks_json(verdict: Verdict) -> list[dict[str, Any]]:
    """Return the verdict's checks as plain JSON values."""
    return [check.as_json() for check in verdict.checks]


def amount_text(value: Decimal) -> str:
    """Return an amount with at most 8 significant digits, for sentences."""
    return plain(value.normalize() if len(value.as_tuple().digits) <= 8 else +Decimal(f"{value:.8g}"))


def price_text(price: Decimal, terms: ProductTerms) -> str:
    """Return a price at the product's increment, for sentences."""
    return plain(round_to(price, terms.price_increment))


__all__ = [
    "MAX_QUOTE_AGE",
    "amount_text",
    "candle_lag",
    "checks_json",
    "entry_price",
    "limit_price",
    "price_text",
    "seconds",
    "stale_words",
]
