"""The rules by which paper orders fill: prices, fees, holds. Pure: the paper venue and the backtest both follow them.

Products of prices and sizes are cut to 18 places, so that a buy never costs more than was claimed for it. Amounts are
Decimal; rates are fractions (0.006 is 0.6 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from marketdata.sources.base import BookLevel
from tradebot.core.decimals import ONE, QUANTUM, ZERO, ceil_to, floor_to
from tradebot.core.words import Side

__all__ = [
    "CANDLE_SHARE",
    "Costs",
    "Execution",
    "execution",
    "hold_for",
    "never_better",
    "reachable",
    "slipped",
    "trades_through",
    "walked",
]

CANDLE_SHARE: Final = Decimal("0.25")
"""The part of a recorded candle's volume that one account's resting orders may have of it."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What trading on one account costs: fractions, e.g. 0.006; ``fee_in_base`` is about buys only."""

    maker: Decimal
    taker: Decimal
    slippage: Decimal
    fee_in_base: bool


class Execution(NamedTuple):
    """What one fill comes to. ``paid`` leaves the paying currency, a fee in quote included; ``hold`` is what the order
    still claims afterwards."""

    price: Decimal
    base: Decimal
    quote: Decimal
    fee: Decimal
    fee_in_base: bool
    paid: Decimal
    hold: Decimal


def reachable(side: str, levels: Sequence[BookLevel], limit: Decimal) -> list[BookLevel]:
    """Return the levels, best first, that an order of this side may take without going beyond its limit."""
    return [level for level in levels if (level.price <= limit if side == Side.BUY else level.price >= limit)]


def walked(levels: Sequence[BookLevel], *, base: Decimal | None = None, quote: Decimal | None = None) -> Decimal:
    """Return the average price of taking ``base``, or of spending ``quote``, from ``levels`` (best first, not empty).

    What the levels do not offer is taken at the last one's price.
    """
    left = base if base is not None else quote
    if left is None or left <= ZERO:
        raise ValueError("an amount above zero is needed")
    got_base = got_quote = ZERO
    for number, level in enumerate(levels, 1):
        affordable = left if base is not None else left / level.price
        take = affordable if number == len(levels) else min(level.size, affordable)
        got_base += take
        got_quote += take * level.price
        left -= take if base is not None else take * level.price
        if left <= ZERO:
            break
    return got_quote / got_base


def slipped(side: str, price: Decimal, slippage: Decimal, increment: Decimal, limit: Decimal | None = None) -> Decimal:
    """Return the price a taker gets: worse by ``slippage`` (a fraction), on a valid step, never beyond ``limit``."""
    if side == Side.BUY:
        worse = ceil_to(price * (ONE + slippage), increment)
        return worse if limit is None else min(worse, limit)
    worse = max(floor_to(price * (ONE - slippage), increment), increment)
    return worse if limit is None else max(worse, limit)


def never_better(side: str, price: Decimal, than: Decimal | None) -> Decimal:
    """Return the worse of two prices for an order of this side.

    Between two looks at a recording lies a whole candle. A stop that the candle touched is decided at the stop, and the
    order fills there even if the candle closed at a better price: the pessimistic of what may have happened.
    """
    if than is None:
        return price
    return max(price, than) if side == Side.BUY else min(price, than)


def hold_for(side: str, base: Decimal, limit: Decimal, costs: Costs) -> Decimal:
    """Return what a limit order claims for ``base`` unfilled: base of a sell, quote of a buy with the dearer fee."""
    if side == Side.SELL:
        return base
    rate = ZERO if costs.fee_in_base else max(costs.maker, costs.taker)
    return ceil_to(base * limit * (ONE + rate), QUANTUM)


def execution(
    side: str,
    base: Decimal,
    price: Decimal,
    costs: Costs,
    *,
    is_maker: bool,
    limit: Decimal | None = None,
    rest: Decimal = ZERO,
    hold: Decimal = ZERO,
) -> Execution | None:
    """Return what filling ``base`` at ``price`` comes to; None when that is worth nothing.

    Of a limit order ``limit`` is its price, ``rest`` the base that stays unfilled, ``hold`` what it claims before: when
    fees were raised after it was placed, it pays at most that.
    """
    quote = floor_to(base * price, QUANTUM)
    if base <= ZERO or quote <= ZERO:
        return None
    buys = side == Side.BUY
    fee_in_base = buys and costs.fee_in_base
    rate = costs.maker if is_maker else costs.taker
    fee = floor_to((base if fee_in_base else quote) * rate, QUANTUM)
    if buys and limit is not None and not fee_in_base:
        fee = max(ZERO, min(fee, hold - quote - ceil_to(rest * limit, QUANTUM)))
    paid = base if not buys else quote if fee_in_base else quote + fee
    left = ZERO if limit is None else min(hold_for(side, rest, limit, costs), hold - paid)
    return Execution(price, base, quote, fee, fee_in_base, paid, left)


def trades_through(side: str, limit: Decimal, low: Decimal, high: Decimal) -> bool:
    """Return whether a candle fills a resting order: its low is below a buy's limit, its high above a sell's."""
    return low < limit if side == Side.BUY else high > limit
