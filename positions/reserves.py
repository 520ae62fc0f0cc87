"""What of an account's balances its open deals need: not free for new entries, by one definition for everybody.

* The base that open long deals hold is theirs until they sell it (F36).
* Open short deals have to buy their base back: the quote for that is theirs, at the current price with the taker's fee,
  and at least what their sales brought.

* A perpetual deal needs nothing: its venue holds the margin back, and closing it takes neither coins nor money.

What a deal's own working closes have claimed is not in the free balance any more and is not counted twice (F31).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, localcontext

from positions.models import Position
from positions.states import Direction
from tradebot.core.decimals import MONEY, ONE, ZERO
from tradebot.core.errors import MissingInformation

__all__ = ["spoken_for", "worth_per_base"]

PriceOf = Callable[[Position], Decimal | None]


def spoken_for(
    positions: Iterable[Position], currency: str, price_of: PriceOf, taker: Decimal, claimed: Mapping[int, Decimal]
) -> Decimal:
    """Return how much of ``currency`` these active deals (of one account) need, beyond what their orders claim already.

    ``price_of`` gives the current price of a deal's product, None when it is not known; ``taker`` is the fee as a
    fraction; ``claimed`` is, by deal id, what the deal's working closes still hold. Raises MissingInformation
    (``missing_price``) when a short deal's price is not known: half a need is no need (F34).
    """
    total = ZERO
    with localcontext(MONEY):
        for position in positions:
            if not position.base_held or position.product.is_perpetual:
                continue
            if position.direction == Direction.LONG:
                need = position.base_held if position.product.base == currency else ZERO
            else:
                need = _buy_back(position, price_of, taker) if position.product.quote == currency else ZERO
            total += max(need - claimed.get(position.pk, ZERO), ZERO) if need > ZERO else ZERO
    return total


def _buy_back(position: Position, price_of: PriceOf, taker: Decimal) -> Decimal:
    price = price_of(position)
    if price is None:
        symbol = position.product.symbol
        raise MissingInformation("missing_price", f"The price of {symbol} is not known, which a short has to buy back.")
    remaining = -position.base_held
    return max(remaining * price * (ONE + taker), remaining * (position.average_price or ZERO))


def worth_per_base(position: Position, price: Decimal | None) -> Decimal | None:
    """Return what each unit of ``base_held`` adds to its account's value at ``price``; None when that is not known.

    A coin is worth its price. A perpetual holds no coins: its margin is in the balance already, so what it adds is the
    difference to its entry.
    """
    if price is None or not position.product.is_perpetual:
        return price
    return None if position.average_price is None else price - position.average_price
