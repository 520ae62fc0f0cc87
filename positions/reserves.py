"""What of an account's balances is spoken for, by one definition for everybody.

What its open deals need is not free for new entries (:func:`spoken_for`):

* The base that open long deals hold is theirs until they sell it (F36).
* Open short deals have to buy their base back: the quote for that is theirs, at the current price with the taker's fee,
  and at least what their sales brought.

* A perpetual deal needs nothing: its venue holds the margin back, and closing it takes neither coins nor money.

What a deal's own working closes have claimed is not in the free balance any more and is not counted twice (F31).

What orders of ours have taken that the venue's figures may not show yet is not free either (:func:`unseen`): those that
the venue has not answered about (F10), and on an exchange those whose first answer came after the balances were asked
for. Counting one of them twice makes an order smaller or later; not counting it would spend its money twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.db.models import F, Q

from accounts.models import VenueFunds
from positions.models import Order, Position
from positions.states import ENTRY_PURPOSES, EXIT_PURPOSES, WORKING, Direction, OrderStatus, Side
from tradebot.core.decimals import ONE, ZERO, for_money
from tradebot.core.errors import MissingInformation

__all__ = [
    "ON_THEIR_WAY",
    "Holds",
    "base_of_longs",
    "holds_of",
    "spoken_for",
    "unseen",
    "unseen_on_exchanges",
    "worth_per_base",
]

PriceOf = Callable[[Position], Decimal | None]
ON_THEIR_WAY: Final = (OrderStatus.INTENDED, OrderStatus.SUBMITTED)
"""Orders that the venue may not know of yet."""
FEE_ROOM: Final = Decimal("1.01")
"""What a buy took besides its value: no spot venue's fee reaches a percent."""


def unseen(account_id: int, currency: str) -> Decimal:
    """Return how much of ``currency`` our orders took that the account's known balances may not show. Two queries."""
    waiting = Order.objects.filter(account=account_id, hold_currency=currency, status__in=ON_THEIR_WAY)
    total = sum(waiting.values_list("hold_amount", flat=True), ZERO)
    return total + unseen_on_exchanges([account_id]).get((account_id, currency), ZERO)


def unseen_on_exchanges(account_ids: Iterable[int]) -> dict[tuple[int, str], Decimal]:
    """Return, by account and currency, what orders took whose first answer came after the balances were asked for.

    An order that has filled meanwhile has no hold any more, but its money is gone: what it spent counts. One query, and
    none of its rows is of a paper account, whose balances are true at any moment.
    """
    taken: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    asked = dict(VenueFunds.objects.filter(account__in=list(account_ids)).values_list("account_id", "asked_at"))
    if not asked:
        return taken
    rows = Order.objects.filter(
        Q(acknowledged_at__gt=F("account__venue_funds__asked_at")), ~Q(status__in=ON_THEIR_WAY), account__in=asked
    )
    rows = rows.annotate(leverage=F("position__perps_terms__leverage"))
    for row in rows.only(
        "account_id", "side", "purpose", "hold_currency", "hold_amount", "filled_base", "filled_quote"
    ):
        with for_money():
            spent = row.filled_base if row.side == Side.SELL else row.filled_quote * FEE_ROOM
            if row.leverage is not None:  # a perpetual: opening takes margin and fee, closing takes nothing
                opens = row.purpose in ENTRY_PURPOSES
                spent = row.filled_quote / row.leverage + row.filled_quote * (FEE_ROOM - ONE) if opens else ZERO
            taken[row.account_id, row.hold_currency] += row.hold_amount + spent
    return taken


@dataclass(frozen=True, slots=True)
class Holds:
    """What our working orders hold: ``unseen`` by account and currency, where the venue may not know the order yet
    (F10), ``closes`` by deal id, what its closes have claimed, and ``entries`` by account and currency, what orders
    that enlarge deals have."""

    unseen: Mapping[tuple[int, str], Decimal]
    closes: Mapping[int, Decimal]
    entries: Mapping[tuple[int, str], Decimal]


def holds_of(account_ids: Iterable[int]) -> Holds:
    """Return what the working orders of these accounts hold. Two queries, three where there are exchange accounts."""
    known = list(account_ids)
    unseen: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    closes: dict[int, Decimal] = defaultdict(Decimal)
    entries: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    rows = Order.objects.filter(account__in=known, status__in=WORKING).order_by()
    for account_id, deal_id, purpose, status, currency, amount in rows.values_list(
        "account_id", "position_id", "purpose", "status", "hold_currency", "hold_amount"
    ):
        if status in ON_THEIR_WAY:
            unseen[account_id, currency] += amount
        if purpose in EXIT_PURPOSES:
            closes[deal_id] += amount
        else:
            entries[account_id, currency] += amount
    for key, amount in unseen_on_exchanges(known).items():
        unseen[key] += amount
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
    with for_money():
        for position in positions:
            if not position.base_held or position.product.is_perpetual:
                continue
            if position.direction == Direction.LONG:
                need = position.base_held if position.product.base == currency else ZERO
            else:
                need = _buy_back(position, price_of, taker) if position.product.quote == currency else ZERO
            total += max(need - claimed.get(position.pk, ZERO), ZERO) if need > ZERO else ZERO
    return total


def base_of_longs(positions: Iterable[Position], currency: str) -> Decimal:
    """Return how much of ``currency`` these active long deals hold, whatever their closes have claimed of it."""
    longs = (row for row in positions if row.direction == Direction.LONG and not row.product.is_perpetual)
    held = (row.base_held for row in longs if row.product.base == currency)
    return sum((base for base in held if base > ZERO), ZERO)


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
