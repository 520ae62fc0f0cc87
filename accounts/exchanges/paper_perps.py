"""What fills, funding and liquidation do to a paper account's positions in perpetuals. Its figures: ``perps_rules``.

How a position's money lies in the account: the margin is *held* of the quote currency's balance; profits, losses, fees
and funding change the total, each with its entry in the journal. So entries add up to the balance at every moment, and
nothing that is not realised is in it. What can be lost is bounded:

* isolated: by the position's own margin. Funding is paid from it and added to it, so the price of liquidation moves
  with it. A close at a price that would take more is executed at the last price that does not.
* cross: by what the account has of that currency besides isolated margins and the claims of resting orders.

Nothing here reads or writes the database but through the :class:`~accounts.exchanges.paper_ledger.Ledger` of the
surrounding transaction, :func:`drop_orphans` aside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from decimal import Decimal

from accounts.exchanges import perps_rules as rules
from accounts.exchanges.paper_ledger import Ledger
from accounts.exchanges.paper_rules import Costs
from accounts.exchanges.perps_rules import Holding
from accounts.models import PaperEntry, PaperOrder, PaperPerp, PaperTrade
from marketdata.models import Product
from tradebot.core.decimals import QUANTUM, ZERO, floor_to
from tradebot.core.words import Direction, MarginMode, OrderStatus, Side

__all__ = [
    "backing_of",
    "drop_orphans",
    "fill",
    "fits",
    "fund",
    "hold_for",
    "holding_of",
    "opening_direction",
    "prepare",
]

WORKING = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)


def holding_of(row: PaperPerp) -> Holding:
    """Return the position in the words of the rules."""
    return Holding(Direction(row.direction), row.base, row.entry_quote, row.margin)


def hold_for(order: PaperOrder, base: Decimal, costs: Costs) -> Decimal:
    """Return what a limit order claims for ``base`` unfilled: margin and the dearer fee; a reduce-only one nothing."""
    if order.reduce_only or order.limit_price is None:
        return ZERO
    return rules.entry_cost(base * order.limit_price, order.leverage or 1, max(costs.maker, costs.taker))


def opening_direction(order: PaperOrder) -> Direction:
    """Return the direction of the position that the order's side opens."""
    return Direction.LONG if order.side == Side.BUY else Direction.SHORT


def fits(ledger: Ledger, order: PaperOrder) -> bool:
    """Return whether the order may fill: an opening one meets no position but its like, a closing one has one."""
    row = ledger.perp(order.account_id, order.symbol)
    if order.reduce_only:
        return row is not None and row.direction != opening_direction(order)
    return row is None or (
        row.direction == opening_direction(order)
        and row.leverage == order.leverage
        and row.margin_mode == order.margin_mode
    )


def prepare(ledger: Ledger, order: PaperOrder, product: Product) -> None:
    """Make a row ready for the position that the order may open, with the product's terms."""
    if order.reduce_only or ledger.perp(order.account_id, order.symbol) is not None:
        return
    row = ledger.new_perp(order.account_id, order.symbol)
    row.quote_currency, row.price_increment = order.quote_currency, product.price_increment
    row.maintenance_pct = rules.MAINTENANCE_PCT if product.maintenance_pct is None else product.maintenance_pct
    row.funding_hours = product.funding_hours or rules.FUNDING_HOURS
    ledger.move(row)


def backing_of(ledger: Ledger, row: PaperPerp) -> Decimal:
    """Return all that may be lost on the position."""
    if row.margin_mode == MarginMode.ISOLATED:
        return row.margin
    return ledger.free(row.account_id, row.quote_currency) + sum((one.margin for one in _cross_of(ledger, row)), ZERO)


def _cross_of(ledger: Ledger, row: PaperPerp) -> list[PaperPerp]:
    return [
        one
        for one in ledger.perps(row.account_id)
        if one.margin_mode == MarginMode.CROSS and one.quote_currency == row.quote_currency
    ]


def fill(
    ledger: Ledger, order: PaperOrder, costs: Costs, base: Decimal, price: Decimal, *, is_maker: bool
) -> PaperTrade | None:
    """Fill ``base`` of an order that :func:`fits`; return the trade, unsaved, None when it is worth nothing.

    Changes position and ledger, not the order. Raises Overdrawn when margin and fee of an opening order are not free.
    """
    rate = costs.maker if is_maker else costs.taker
    if order.reduce_only:
        return _reduce(ledger, order, rate, base, price, is_maker=is_maker)
    return _open(ledger, order, rate, base, price, is_maker=is_maker)


def _open(
    ledger: Ledger, order: PaperOrder, rate: Decimal, base: Decimal, price: Decimal, *, is_maker: bool
) -> PaperTrade | None:
    account_id, currency = order.account_id, order.quote_currency
    quote = floor_to(base * price, QUANTUM)
    if base <= ZERO or quote <= ZERO:
        return None
    row = ledger.perp(account_id, order.symbol)
    direction, leverage = opening_direction(order), order.leverage or 1
    after = rules.enlarged(None if row is None else holding_of(row), direction, base, quote, leverage)
    fee = floor_to(quote * rate, QUANTUM)
    if order.limit_price is None:
        ledger.require(account_id, currency, after.margin - (row.margin if row is not None else ZERO) + fee)
    if row is None:
        row = ledger.new_perp(account_id, order.symbol)
        row.direction, row.leverage, row.margin_mode = direction, leverage, order.margin_mode
        row.opened_at = row.funded_until = row.settled_until = ledger.now
    ledger.claim(account_id, currency, after.margin - row.margin)
    _take(ledger, row, after)
    if order.limit_price is not None:  # fees may have been raised since it claimed them
        fee = min(fee, ledger.free(account_id, currency))
    trade = _trade(ledger, order, price, base, quote, fee, is_maker=is_maker)
    ledger.change(account_id, currency, -fee, PaperEntry.Kind.FEE, trade=trade)
    return trade


def _reduce(
    ledger: Ledger, order: PaperOrder, rate: Decimal, base: Decimal, price: Decimal, *, is_maker: bool
) -> PaperTrade | None:
    row = ledger.perp(order.account_id, order.symbol)
    if row is None:
        return None
    account_id, currency, holding = order.account_id, order.quote_currency, holding_of(row)
    base, backing = min(base, row.base), backing_of(ledger, row)
    price = rules.worst_price(holding, price, rate, backing, row.price_increment)
    if row.margin_mode == MarginMode.ISOLATED and base < row.base:
        backing = floor_to(backing * base / row.base, QUANTUM)
    done = rules.closing(holding, base, price, rate, backing)
    if base <= ZERO or done.quote <= ZERO:
        return None
    ledger.claim(account_id, currency, -done.released)
    _take(ledger, row, done.left)
    trade = _trade(ledger, order, price, base, done.quote, done.fee, is_maker=is_maker)
    for amount, kind in ((done.profit, PaperEntry.Kind.PROFIT), (-done.fee, PaperEntry.Kind.FEE)):
        _cover(ledger, row, -amount)
        ledger.change(account_id, currency, amount, kind, trade=trade)
    return trade


def _take(ledger: Ledger, row: PaperPerp, holding: Holding) -> None:
    row.base, row.entry_quote, row.margin = holding.base, holding.entry_quote, holding.margin
    ledger.move(row)


def _cover(ledger: Ledger, row: PaperPerp, needed: Decimal) -> None:
    """Make ``needed`` free for a cross position, out of the margins that the account's cross positions claim."""
    if row.margin_mode != MarginMode.CROSS:
        return
    for one in _cross_of(ledger, row):
        given = min(one.margin, needed - ledger.free(row.account_id, row.quote_currency))
        if given > ZERO:
            ledger.claim(row.account_id, row.quote_currency, -given)
            one.margin -= given
            ledger.move(one)


def _trade(
    ledger: Ledger, order: PaperOrder, price: Decimal, base: Decimal, quote: Decimal, fee: Decimal, *, is_maker: bool
) -> PaperTrade:
    return PaperTrade(
        account_id=order.account_id,
        order=order,
        price=price,
        base=base,
        quote=quote,
        fee=fee,
        fee_currency=order.quote_currency,
        is_maker=is_maker,
        at=ledger.now,
    )


# Funding --------------------------------------------------------------------------------------------------------------


def fund(ledger: Ledger, row: PaperPerp, mark: Decimal, rate: Decimal, due: datetime) -> Decimal:
    """Settle the funding that fell due at ``due`` and return what it brought (below zero: cost).

    An isolated position pays from its margin, and never more than that; a cross one from the account.
    """
    account_id, currency = row.account_id, row.quote_currency
    amount = max(rules.funding_amount(Direction(row.direction), row.base, mark, rate), -backing_of(ledger, row))
    row.funded_until = due
    ledger.move(row)
    if not amount:
        return ZERO
    isolated = row.margin_mode == MarginMode.ISOLATED
    if amount < ZERO and isolated:
        ledger.claim(account_id, currency, amount)
    elif amount < ZERO:
        _cover(ledger, row, -amount)
    ledger.change(account_id, currency, amount, PaperEntry.Kind.FUNDING, symbol=row.symbol, rate=rate)
    if amount > ZERO and isolated:
        ledger.claim(account_id, currency, amount)
    if isolated:
        row.margin += amount
    return amount


# Orders without a position --------------------------------------------------------------------------------------------


def drop_orphans(ledger: Ledger, known: Iterable[PaperOrder], fields: Collection[str]) -> list[PaperOrder]:
    """End the reduce-only orders of positions that hold nothing any more: the other leg of a bracket. Return them.

    ``known`` are orders that the caller has in hand and writes itself; others are read, changed and written here.
    """
    flat = ledger.flattened
    if not flat:
        return []
    in_hand = {order.pk: order for order in known if order.pk is not None}
    dropped = []
    for account_id, symbol in flat:
        rows = PaperOrder.objects.filter(account_id=account_id, symbol=symbol, reduce_only=True, status__in=WORKING)
        for row in rows.order_by("pk"):
            order = in_hand.get(row.pk, row)
            if order.status not in WORKING:
                continue
            order.status, order.updated_at = OrderStatus.CANCELLED, ledger.now
            dropped.append(order)
            if row.pk not in in_hand:
                order.save(update_fields=list(fields))
    return dropped
