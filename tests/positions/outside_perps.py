"""An exchange outside of our process that trades perpetuals: reduce-only orders, stops, positions, liquidations."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from accounts.exchanges.base import (
    Balance,
    Capabilities,
    ForcedClose,
    FundingMovement,
    NewOrder,
    OrderReport,
    Trade,
    VenuePosition,
)
from tests.positions.outside import FEE, OutsideOrder, OutsideVenue
from tradebot.core import clock
from tradebot.core.words import Direction, MarginMode, OrderStatus, OrderType, Side


class OutsidePerps(OutsideVenue):
    """As its base, in one perpetual. ``stops`` false: it keeps no stop orders and refuses them."""

    def __init__(self, account_id: int, *, stops: bool = True) -> None:
        super().__init__(account_id)
        self.capabilities = Capabilities("Outside", perpetuals=True, stop_orders=stops)
        self.base = Decimal(0)
        self.entry = Decimal(0)
        self.symbol = ""
        self.funding: list[FundingMovement] = []
        self.forced: list[ForcedClose] = []

    def balances(self) -> dict[str, Balance]:
        self._maybe_fail("balances", done=False)
        return {currency: Balance(currency, total, Decimal(0)) for currency, total in self.wallet.items()}

    def place(self, order: NewOrder) -> OrderReport:
        if order.trigger_price is None:
            return super().place(order)
        self._maybe_fail("place", done=False)
        assert order.reduce_only
        known = self.orders.get(order.client_order_id)
        if known is None:
            self.arrivals.append(order.client_order_id)
            known = self.orders[order.client_order_id] = OutsideOrder(order, f"outside-{len(self.arrivals)}")
        self._maybe_fail("place", done=True)
        return self._report(known)

    def resting(self) -> list[NewOrder]:
        """What rests in its book now."""
        return [one.placed for one in self.orders.values() if one.status is OrderStatus.OPEN]

    def liquidate(self, price: Decimal | int) -> None:
        """Close the position against its owner's will."""
        side = Side.SELL if self.base > 0 else Side.BUY
        size = abs(self.base)
        trade = Trade("liq-t", Decimal(price), size, size * Decimal(price), Decimal(1), "USD", False, clock.now())
        report = OrderReport(None, "liq-1", OrderStatus.FILLED, (trade,))
        self.forced.append(ForcedClose(self.symbol, side, size, report))
        self.base = Decimal(0)
        for order in self.orders.values():
            if order.placed.reduce_only and order.status is OrderStatus.OPEN:
                order.status = OrderStatus.CANCELLED

    # The contract of perpetuals ---------------------------------------------------------------------------------------

    def positions(self) -> list[VenuePosition]:
        self._maybe_fail("positions", done=False)
        if not self.base:
            return []
        direction = Direction.LONG if self.base > 0 else Direction.SHORT
        return [VenuePosition(self.symbol, direction, abs(self.base), self.entry, 5, MarginMode.ISOLATED, Decimal(20))]

    def funding_since(self, moment: datetime) -> list[FundingMovement]:
        return [one for one in self.funding if one.at >= moment]

    def forced_closes_since(self, moment: datetime) -> list[ForcedClose]:
        return [one for one in self.forced if one.report.trades[0].at >= moment]

    def _execute(self, order: OutsideOrder, base: Decimal, price: Decimal) -> Trade:
        sign = 1 if order.placed.side is Side.BUY else -1
        if order.placed.reduce_only:
            base = min(base, max(-sign * self.base, Decimal(0)))
        if not self.base:
            self.entry = price
        self.base, self.symbol = self.base + sign * base, order.placed.symbol
        number = sum(len(known.trades) for known in self.orders.values()) + 1
        trade = Trade(f"t{number}", price, base, base * price, base * price * FEE, "USD", False, clock.now())
        order.trades.append(trade)
        size = order.placed.base_size
        done = size is not None and sum(row.base for row in order.trades) >= size
        order.status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        if order.placed.order_type is OrderType.MARKET:
            order.status = OrderStatus.FILLED
        return trade

    def without_stops(self) -> None:
        self.capabilities = replace(self.capabilities, stop_orders=False)
