"""The paper venue of a backtest: one account in memory, filled by the same rules as the real one. Pure.

Market orders fill at once and completely at the last price, worse by the slippage; resting limits fill at exactly their
limit by the candles that trade through them, at most a share of the volume for all of the account's orders, oldest
first (``accounts.exchanges.paper_rules``). Limits that cross the market when they arrive fill at once as takers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from accounts.exchanges.paper_rules import (
    CANDLE_SHARE,
    Costs,
    Execution,
    execution,
    hold_for,
    never_better,
    slipped,
    trades_through,
)
from marketdata.terms import ProductTerms
from positions.states import Purpose, Side
from tradebot.core.decimals import ZERO, floor_to

__all__ = ["Overdrawn", "RestingOrder", "Wallet", "candle_fills", "take", "take_or_rest"]


class Overdrawn(Exception):
    """An order would take more than is free: the venue refuses it."""


class Wallet:
    """The balances of the simulated account: total and held by resting orders, by currency."""

    __slots__ = ("held", "total")

    def __init__(self, balances: Mapping[str, Decimal]) -> None:
        self.total: dict[str, Decimal] = dict(balances)
        self.held: dict[str, Decimal] = {}

    def free(self, currency: str) -> Decimal:
        """Return what is not claimed by resting orders."""
        total, held = self.total.get(currency, ZERO), self.held.get(currency)
        return total if held is None else total - held

    def claim(self, currency: str, amount: Decimal) -> None:
        """Claim ``amount`` of what is free; a negative amount gives it back. Raises Overdrawn."""
        if amount > self.free(currency):
            raise Overdrawn
        self.held[currency] = self.held.get(currency, ZERO) + amount

    def settle(self, side: Side, terms: ProductTerms, done: Execution) -> None:
        """Move what a fill moves: base one way, quote the other, the fee away."""
        total, base, quote = self.total, terms.base, terms.quote
        if side is Side.BUY:
            total[quote] = total.get(quote, ZERO) - done.quote
            total[base] = total.get(base, ZERO) + done.base
        else:
            total[base] = total.get(base, ZERO) - done.base
            total[quote] = total.get(quote, ZERO) + done.quote
        fee_currency = base if done.fee_in_base else quote
        total[fee_currency] -= done.fee


@dataclass(slots=True, eq=False)
class RestingOrder:
    """A limit order in the book. ``placed`` and ``matched`` are opening times of candles (Unix seconds)."""

    number: int
    purpose: Purpose
    side: Side
    base_size: Decimal
    limit: Decimal
    placed: int
    levels: int = 0
    filled: Decimal = ZERO
    hold: Decimal = ZERO

    @property
    def rest(self) -> Decimal:
        """Return the base that is not filled."""
        return self.base_size - self.filled

    def currency(self, terms: ProductTerms) -> str:
        """Return what it claims."""
        return terms.quote if self.side is Side.BUY else terms.base


def take(
    wallet: Wallet,
    terms: ProductTerms,
    costs: Costs,
    side: Side,
    base: Decimal,
    price: Decimal,
    decided_at: Decimal,
) -> Execution | None:
    """Fill a market order at ``price`` less slippage; None when it is worth nothing. Raises Overdrawn.

    ``decided_at`` is the price that the order was decided at: it never fills better.
    """
    worse = never_better(side, price, decided_at)
    if costs.slippage or worse != price:
        price = slipped(side, worse, costs.slippage, terms.price_increment)
    done = execution(side, base, price, costs, is_maker=False)
    if done is None:
        return None
    if done.paid > wallet.free(terms.quote if side is Side.BUY else terms.base):
        raise Overdrawn
    wallet.settle(side, terms, done)
    return done


def take_or_rest(
    wallet: Wallet, terms: ProductTerms, costs: Costs, order: RestingOrder, price: Decimal
) -> Execution | None:
    """Put a limit order into the book; return what it filled at once when it crosses ``price``. Raises Overdrawn."""
    order.hold = hold_for(order.side, order.base_size, order.limit, costs)
    wallet.claim(order.currency(terms), order.hold)
    crosses = price <= order.limit if order.side is Side.BUY else price >= order.limit
    if not crosses:
        return None
    at = slipped(order.side, price, costs.slippage, terms.price_increment, order.limit)
    return _fill(wallet, terms, costs, order, order.rest, at, is_maker=False)


def candle_fills(
    wallet: Wallet,
    terms: ProductTerms,
    costs: Costs,
    orders: list[RestingOrder],
    low: Decimal,
    high: Decimal,
    volume: Decimal,
) -> list[tuple[RestingOrder, Execution]]:
    """Fill the product's resting orders (oldest first) by one candle and return what filled."""
    left = floor_to(volume * CANDLE_SHARE, terms.base_increment)
    filled = []
    for order in orders:
        if not trades_through(order.side, order.limit, low, high):
            continue
        base = min(left, order.rest)
        done = _fill(wallet, terms, costs, order, base, order.limit, is_maker=True)
        if done is not None:
            left -= base
            filled.append((order, done))
    return filled


def _fill(
    wallet: Wallet,
    terms: ProductTerms,
    costs: Costs,
    order: RestingOrder,
    base: Decimal,
    price: Decimal,
    *,
    is_maker: bool,
) -> Execution | None:
    done = execution(
        order.side, base, price, costs, is_maker=is_maker, limit=order.limit, rest=order.rest - base, hold=order.hold
    )
    if done is None:
        return None
    wallet.claim(order.currency(terms), done.hold - order.hold)
    order.hold = done.hold
    order.filled += done.base
    wallet.settle(order.side, terms, done)
    return done


def give_back(wallet: Wallet, terms: ProductTerms, order: RestingOrder) -> None:
    """Take an order out of the book: what it still claims is free again."""
    wallet.claim(order.currency(terms), -order.hold)
    order.hold = ZERO
