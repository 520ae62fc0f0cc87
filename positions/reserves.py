"""What of an account's balances its open deals need: not free for new entries, by one definition for everybody.

* The base that open long deals hold is theirs until they sell it (F36).
* Open short deals have to buy their base back: the quote for that is theirs, at the current price with the taker's fee,
  and at least what their sales brought.

What a deal's own working closes have claimed is not in the free balance any more and is not counted twice (F31).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Final

from positions.models import Order, Position
from positions.states import EXIT_PURPOSES, WORKING, Direction, OrderStatus
from tradebot.core.decimals import MONEY, ONE, ZERO
from tradebot.core.errors import MissingInformation

__all__ = ["Holds", "base_of_longs", "holds_of", "spoken_for"]

ON_THEIR_WAY: Final = (OrderStatus.INTENDED, OrderStatus.SUBMITTED)

PriceOf = Callable[[Position], Decimal | None]


@dataclass(frozen=True, slots=True)
class Holds:
    """What our working orders hold: ``unseen`` by account and currency, where the venue may not know the order yet
    (F10), ``closes`` by deal id, what its closes have claimed, and ``entries`` by account and currency, what orders
    that enlarge deals have."""

    unseen: Mapping[tuple[int, str], Decimal]
    closes: Mapping[int, Decimal]
    entries: Mapping[tuple[int, str], Decimal]


def holds_of(account_ids: Iterable[int]) -> Holds:
    """Return what the working orders of these accounts hold. One query."""
    unseen: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    closes: dict[int, Decimal] = defaultdict(Decimal)
    entries: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    rows = Order.objects.filter(account__in=list(account_ids), status__in=WORKING).order_by()
    for account_id, deal_id, purpose, status, currency, amount in rows.values_list(
        "account_id", "position_id", "purpose", "status", "hold_currency", "hold_amount"
    ):
        if status in ON_THEIR_WAY:
            unseen[account_id, currency] += amount
        if purpose in EXIT_PURPOSES:
            closes[deal_id] += amount
        else:
            entries[account_id, currency] += amount
    return Holds(unseen, closes, entries)


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
            if not position.base_held:
                continue
            if position.direction == Direction.LONG:
                need = position.base_held if position.product.base == currency else ZERO
            else:
                need = _buy_back(position, price_of, taker) if position.product.quote == currency else ZERO
            total += max(need - claimed.get(position.pk, ZERO), ZERO) if need > ZERO else ZERO
    return total


def base_of_longs(positions: Iterable[Position], currency: str) -> Decimal:
    """Return how much of ``currency`` these active long deals hold, whatever their closes have claimed of it."""
    held = (row.base_held for row in positions if row.direction == Direction.LONG and row.product.base == currency)
    return sum((base for base in held if base > ZERO), ZERO)


def _buy_back(position: Position, price_of: PriceOf, taker: Decimal) -> Decimal:
    price = price_of(position)
    if price is None:
        symbol = position.product.symbol
        raise MissingInformation("missing_price", f"The price of {symbol} is not known, which a short has to buy back.")
    remaining = -position.base_held
    return max(remaining * price * (ONE + taker), remaining * (position.average_price or ZERO))
