"""An exchange outside of our process, with faults to order: it keeps its own book and survives our crashes.

It stands at the edge of the process, in place of the network: everything on our side of it is the real code. Market
orders fill at once at its price, limit orders rest until a test fills them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from accounts.exchanges.base import (
    NEVER_ARRIVED,
    Balance,
    Capabilities,
    KeyPermissions,
    Movement,
    NewOrder,
    OrderRef,
    OrderReport,
    Trade,
    VenueTrade,
)
from marketdata.sources.base import Book, ProductInfo
from tradebot.core import clock
from tradebot.core.errors import VenueRejected
from tradebot.core.words import OrderStatus, OrderType, Side

FEE = Decimal("0.006")
WORKING = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)


class Killed(BaseException):
    """The process died here."""


@dataclass
class OutsideOrder:
    """An order as the exchange knows it."""

    placed: NewOrder
    venue_order_id: str
    status: OrderStatus = OrderStatus.OPEN
    trades: list[Trade] = field(default_factory=list)


@dataclass
class Fault:
    """What goes wrong with a call: ``error`` is raised, after the exchange has done its part if ``done``."""

    error: BaseException
    done: bool


class OutsideVenue:
    """The exchange, and our connection to it."""

    def __init__(self, account_id: int, *, definitive: bool = False, price: Decimal = Decimal(100)) -> None:
        self.account_id = account_id
        self.capabilities = Capabilities("Outside", lookup_is_definitive=definitive)
        self.price = price
        self.fee_in_base = False
        self.wallet: dict[str, Decimal] = {}
        self.movements: list[Movement] = []
        self.orders: dict[UUID, OutsideOrder] = {}
        self.arrivals: list[UUID] = []
        self.faults: dict[str, deque[Fault]] = {}
        self.invisible: set[UUID] = set()
        self.forgotten: set[UUID] = set()
        self.shown_trades: dict[UUID, int] = {}
        self.strangers: list[VenueTrade] = []
        self.asked = 0
        self.names_client_ids = True
        """Whether the list of executions says which client id an order has."""

    # What a test does to it -------------------------------------------------------------------------------------------

    def fail(self, call: str, error: BaseException, *, done: bool = False) -> None:
        """Let the next ``call`` raise, after it was carried out if ``done``."""
        self.faults.setdefault(call, deque()).append(Fault(error, done))

    def fill(self, client_order_id: UUID, base: Decimal | str, price: Decimal | None = None) -> Trade:
        """Execute ``base`` of a resting order."""
        order = self.orders[client_order_id]
        return self._execute(order, Decimal(base), price or order.placed.limit_price or self.price)

    # The contract -----------------------------------------------------------------------------------------------------

    def balances(self) -> dict[str, Balance]:
        self._maybe_fail("balances", done=False)
        return {currency: Balance(currency, total, Decimal(0)) for currency, total in self.wallet.items()}

    def place(self, order: NewOrder) -> OrderReport:
        self._maybe_fail("place", done=False)
        if order.client_order_id in self.forgotten:
            raise VenueRejected(NEVER_ARRIVED, "given up")
        known = self.orders.get(order.client_order_id)
        if known is None:
            self.arrivals.append(order.client_order_id)
            known = OutsideOrder(order, f"outside-{len(self.arrivals)}")
            self.orders[order.client_order_id] = known
            if order.order_type is OrderType.MARKET:
                assert order.base_size or order.quote_size
                base = order.base_size or (order.quote_size or Decimal(0)) / self.price
                self._execute(known, base, self.price)
                known.status = OrderStatus.FILLED
        self._maybe_fail("place", done=True)
        return self._report(known)

    def cancel(self, ref: OrderRef) -> OrderReport:
        client_order_id = ref.client_order_id
        self._maybe_fail("cancel", done=False)
        if client_order_id not in self.orders:
            raise VenueRejected("unknown_order", "no such order")
        order = self.orders[client_order_id]
        if order.status in WORKING:
            order.status = OrderStatus.CANCELLED
        self._maybe_fail("cancel", done=True)
        return self._report(order)

    def edit(self, ref: OrderRef, base_size: Decimal, limit_price: Decimal) -> OrderReport:
        raise VenueRejected("not_offered", "not offered")

    def find(self, ref: OrderRef) -> OrderReport | None:
        if ref.client_order_id is None:
            known = [order for order in self.orders.values() if order.venue_order_id == ref.venue_order_id]
            return self._report(known[0]) if known else None
        return self.find_many([ref]).get(ref.client_order_id)

    def find_many(self, refs: Sequence[OrderRef]) -> dict[UUID, OrderReport]:
        self._maybe_fail("find", done=False)
        self.asked += 1
        return {
            pk: self._report(self.orders[pk])
            for pk in (ref.client_order_id for ref in refs)
            if pk in self.orders and pk not in self.invisible
        }

    def forget(self, order: NewOrder) -> OrderReport:
        if not self.capabilities.lookup_is_definitive:
            raise VenueRejected("cannot_forget", "nothing can be promised about an id")
        known = self.orders.get(order.client_order_id)
        if known is not None:
            return self._report(known)
        self.forgotten.add(order.client_order_id)
        return OrderReport(order.client_order_id, "", OrderStatus.REJECTED, (), NEVER_ARRIVED, "given up")

    def open_orders(self) -> list[OrderReport]:
        return [self._report(order) for order in self.orders.values() if order.status in WORKING]

    def permissions(self) -> KeyPermissions:
        return KeyPermissions(can_view=True, can_trade=True, can_withdraw=False)

    def movements_since(self, moment: datetime) -> list[Movement]:
        self._maybe_fail("movements_since", done=False)
        return [row for row in self.movements if row.at >= moment]

    def products(self) -> list[ProductInfo]:
        return []

    def book(self, symbol: str, depth: int = 50) -> Book:
        raise VenueRejected("not_offered", "not offered")

    def trades_since(self, moment: datetime) -> list[VenueTrade]:
        ours = [
            VenueTrade(
                trade,
                order.placed.symbol,
                order.placed.side,
                pk if self.names_client_ids else None,
                order.venue_order_id,
            )
            for pk, order in self.orders.items()
            for trade in order.trades
        ]
        return [row for row in (*ours, *self.strangers) if row.trade.at >= moment]

    def fee_rates(self) -> tuple[Decimal, Decimal]:
        self._maybe_fail("fees", done=False)
        return FEE, FEE

    # Inside -----------------------------------------------------------------------------------------------------------

    def _maybe_fail(self, call: str, *, done: bool) -> None:
        waiting = self.faults.get(call)
        if waiting and waiting[0].done == done:
            raise waiting.popleft().error

    def _execute(self, order: OutsideOrder, base: Decimal, price: Decimal) -> Trade:
        base_currency, quote_currency = order.placed.symbol.split("-")
        sign = 1 if order.placed.side is Side.BUY else -1
        quote = base * price
        in_base = self.fee_in_base and sign > 0
        fee, currency = (base * FEE, base_currency) if in_base else (quote * FEE, quote_currency)
        number = sum(len(known.trades) for known in self.orders.values()) + 1
        trade = Trade(f"t{number}", price, base, quote, fee, currency, False, clock.now())
        order.trades.append(trade)
        for name, change in ((base_currency, sign * base), (quote_currency, -sign * quote), (currency, -fee)):
            self.wallet[name] = self.wallet.get(name, Decimal(0)) + change
        size = order.placed.base_size
        done = size is not None and sum(row.base for row in order.trades) >= size
        order.status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        return trade

    def _report(self, order: OutsideOrder) -> OrderReport:
        shown = self.shown_trades.get(order.placed.client_order_id, len(order.trades))
        return OrderReport(
            order.placed.client_order_id, order.venue_order_id, order.status, tuple(order.trades[:shown])
        )
