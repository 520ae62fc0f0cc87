"""What the venues beside Coinbase have in common: orders and trades as flat rows, named differently.

A dialect of this kind says which requests there are and what the columns are called (:class:`OrderColumns`,
:class:`TradeColumns`); reading them, strictly, is the same for all. Requests are put together here digit for digit and
only signed by ccxt, whose own way of putting an order would round it.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final
from uuid import UUID

from accounts.exchanges.base import Balance, NewOrder, OrderRef, Trade, VenueTrade
from accounts.exchanges.ccxt.amounts import Unreadable, amount, client_uuid, millis, one_of, text
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import Dialect, Snapshot, numbers_of
from marketdata import sources
from marketdata.sources.base import PERPETUAL
from marketdata.sources.exchange import ExchangeSource, pair_of, symbol_of
from tradebot.core.decimals import ZERO, quantize
from tradebot.core.errors import VenueRejected, VenueUnknown
from tradebot.core.words import OrderStatus, OrderType, Side

__all__ = ["OrderColumns", "RowDialect", "TradeColumns", "is_market", "trading_fee"]

MARKETS_KEPT_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class OrderColumns:
    """What an order's columns are called, and what the venue's words for sides and states mean."""

    order_id: str
    client_id: str
    pair: str
    side: str
    status: str
    filled: str
    sides: Mapping[str, Side]
    statuses: Mapping[str, OrderStatus]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TradeColumns:
    """What a trade's columns are called. Without ``fee_currency`` fees are in quote; a fee below zero is a rebate where
    ``fee_sign`` is 1, and what was paid where it is −1."""

    trade_id: str
    order_id: str
    pair: str
    side: str
    price: str
    base: str
    fee: str
    fee_currency: str
    maker: str
    makers: Mapping[str, bool]
    at: str
    quote: str = ""
    client_id: str = ""
    fee_sign: int = 1


class RowDialect(Dialect):
    """See the module."""

    order_columns: ClassVar[OrderColumns]
    trade_columns: ClassVar[TradeColumns]
    cancels_by_client_id = True

    # What each venue says ---------------------------------------------------------------------------------------------

    @abstractmethod
    def put_order(self, client: Any, order: NewOrder, market: Mapping[str, Any]) -> Any:
        """Send the order and return the venue's id of it, whatever type that has."""

    @abstractmethod
    def put_cancel(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> None:
        """Send the cancel."""

    @abstractmethod
    def ask_order(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the order's row, None (or a refusal with ``unknown_order``) when the venue does not know it."""

    @abstractmethod
    def ask_working(self, link: Connection) -> Iterable[dict[str, Any]]:
        """Return the rows of all working orders."""

    @abstractmethod
    def ask_trades(self, link: Connection, order: Snapshot, market: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """Return the rows of one order's trades."""

    @abstractmethod
    def ask_trades_since(self, link: Connection, moment: datetime) -> Iterable[dict[str, Any]]:
        """Return the rows of the account's trades since ``moment``."""

    def client_word(self, client_order_id: UUID | None) -> str:
        """Return our client id as the venue takes it."""
        if client_order_id is None:
            raise ValueError("an order is told by our id or the venue's")
        return str(client_order_id)

    # Products ---------------------------------------------------------------------------------------------------------

    def prepare(self, link: Connection, symbol: str = "") -> None:
        """See :meth:`Dialect.prepare`: ccxt learns the venue's products, which one public client keeps for all."""
        source = sources.get(self.info.slug)
        assert isinstance(source, ExchangeSource)
        client = link.client
        known_at = getattr(client, "markets_known_at", None)
        fresh = known_at is not None and time.monotonic() - known_at < MARKETS_KEPT_SECONDS
        if not fresh or (symbol and pair_of(symbol) not in client.markets):
            markets, currencies = source.markets()
            client.set_markets(markets, currencies)
            client.symbols_by_word = _words(market for market in markets.values() if market.get("spot"))
            client.contracts_by_word = _words(market for market in markets.values() if market.get("swap"))
            client.markets_known_at = time.monotonic()
        if symbol and pair_of(symbol) not in client.markets:
            raise VenueRejected("unknown_product", f"{self.info.name} does not list {symbol}.", symbol=symbol)

    def market(self, client: Any, symbol: str) -> Mapping[str, Any]:
        """Return what ccxt knows of a product."""
        found: Mapping[str, Any] = client.markets[pair_of(symbol)]
        return found

    def symbol(self, client: Any, word: str, *, is_contract: bool = False) -> str:
        """Return our name of the product that the venue calls ``word``; some have two words for one product, and some
        one word for a pair and a contract."""
        words = client.contracts_by_word if is_contract else client.symbols_by_word
        if (found := words.get(word)) is None:
            raise Unreadable(f"product {word[:40]}")
        return str(found)

    def is_contract(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row of an order or a trade is about a perpetual."""
        return False

    # The contract -----------------------------------------------------------------------------------------------------

    def balances(self, link: Connection) -> dict[str, Balance]:
        """See :meth:`Venue.balances`."""
        self.prepare(link)
        answer = link.read(lambda client: client.fetch_balance())
        found: dict[str, Balance] = {}
        for currency, total in (answer.get("total") or {}).items():
            held = (answer.get("used") or {}).get(currency)
            if not isinstance(total, Decimal) or not total.is_finite():
                raise Unreadable(f"balance of {currency}")
            if total != ZERO or held:
                if not isinstance(held, Decimal) or not held.is_finite():
                    raise Unreadable(f"balance of {currency}")
                found[str(currency)] = Balance(str(currency), total, held)
        return found

    def create(self, link: Connection, order: NewOrder) -> str:
        """See :meth:`Dialect.create`."""
        if order.expires_at is not None and not self.capabilities.good_till_date:
            raise VenueRejected(
                "not_offered", f"Orders on {self.info.name} do not expire.", expires_at=order.expires_at
            )
        market = self.market(link.client, order.symbol)

        def put(client: Any) -> str:
            order_id = self.put_order(client, order, market)
            if isinstance(order_id, bool) or not isinstance(order_id, str | int) or order_id == "":
                raise VenueUnknown("no_order_id", f"{self.info.name} took the order without an id.")  # F4
            return str(order_id)

        return link.write(put, symbol=order.symbol, **numbers_of(order))

    def cancel(self, link: Connection, ref: OrderRef) -> None:
        """See :meth:`Dialect.cancel`."""
        market = self.market(link.client, ref.symbol)
        link.write(lambda client: self.put_cancel(client, ref, market), symbol=ref.symbol)

    def look(self, link: Connection, refs: Sequence[OrderRef]) -> list[tuple[OrderRef, Snapshot]]:
        """See :meth:`Dialect.look`: one request for each order; no list of the venue finds them by our id."""
        found: list[tuple[OrderRef, Snapshot]] = []
        for ref in refs:
            self.prepare(link, ref.symbol)
            if (row := self._row_of(link, ref)) is not None:
                seen = self.snapshot(link.client, row)
                if ref.client_order_id not in (None, seen.client_order_id):
                    raise Unreadable("another order")
                found.append((ref, seen))
        return found

    def _row_of(self, link: Connection, ref: OrderRef) -> dict[str, Any] | None:
        market = self.market(link.client, ref.symbol)
        try:
            return link.read(lambda client: self.ask_order(client, ref, market), symbol=ref.symbol)
        except VenueRejected as error:
            if error.code == "unknown_order":
                return None
            raise

    def working(self, link: Connection) -> list[Snapshot]:
        """See :meth:`Dialect.working`."""
        self.prepare(link)
        return [self.snapshot(link.client, row) for row in self.ask_working(link)]

    def trades_of(self, link: Connection, orders: Sequence[Snapshot]) -> dict[str, list[Trade]]:
        """See :meth:`Dialect.trades_of`."""
        return {
            order.venue_order_id: [
                self.trade(link.client, row).trade
                for row in self.ask_trades(link, order, self.market(link.client, order.symbol))
                if text(row, self.trade_columns.order_id) == order.venue_order_id
            ]
            for order in orders
        }

    def trades_since(self, link: Connection, moment: datetime) -> list[VenueTrade]:
        """See :meth:`Dialect.trades_since`."""
        self.prepare(link)
        return [self.trade(link.client, row) for row in self.ask_trades_since(link, moment)]

    # Reading rows -----------------------------------------------------------------------------------------------------

    def snapshot(self, client: Any, row: Mapping[str, Any]) -> Snapshot:
        """Return the order that a row describes."""
        columns = self.order_columns
        filled = amount(row, columns.filled, ZERO)
        status: OrderStatus = one_of(row, columns.status, columns.statuses)
        if status is OrderStatus.REJECTED and filled > ZERO:
            status = OrderStatus.CANCELLED
        rejected = status is OrderStatus.REJECTED
        return Snapshot(
            client_uuid(row.get(columns.client_id)),
            text(row, columns.order_id),
            self.symbol(client, text(row, columns.pair), is_contract=self.is_contract(row)),
            one_of(row, columns.side, columns.sides),
            status,
            filled,
            error_code="rejected" if rejected else "",
            error_text=str(row.get(columns.reason) or "")[:300] if rejected else "",
        )

    def trade(self, client: Any, row: Mapping[str, Any]) -> VenueTrade:
        """Return the execution that a row describes."""
        columns = self.trade_columns
        symbol = self.symbol(client, text(row, columns.pair), is_contract=self.is_contract(row))
        price, base = amount(row, columns.price), amount(row, columns.base)
        if price <= ZERO or base <= ZERO:
            raise Unreadable("trade")
        currency = text(row, columns.fee_currency) if columns.fee_currency and row.get(columns.fee_currency) else ""
        made = Trade(
            text(row, columns.trade_id),
            price,
            base,
            amount(row, columns.quote) if columns.quote else quantize(price * base),
            amount(row, columns.fee, ZERO) * columns.fee_sign,
            str(client.safe_currency_code(currency)) if currency else _quote_of(symbol),
            columns.makers.get(str(row.get(columns.maker)), False),
            self.moment(row, columns.at),
        )
        sides = self.order_columns.sides
        client_id = client_uuid(row.get(columns.client_id)) if columns.client_id else None
        return VenueTrade(
            made,
            symbol,
            one_of({"side": str(row.get(columns.side))}, "side", sides),
            client_id,
            text(row, columns.order_id),
        )

    def moment(self, row: Mapping[str, Any], name: str) -> datetime:
        """Return a row's time; milliseconds unless the venue counts otherwise."""
        return millis(row, name)


def _words(markets: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    words: dict[str, str] = {}
    for market in markets:
        info = market.get("info")
        other = info.get("altname") if isinstance(info, Mapping) else None
        words |= {str(word): symbol_of(str(market["symbol"])) for word in (market["id"], other) if word}
    return words


def _quote_of(symbol: str) -> str:
    """Return what a product is traded for, which is also what a perpetual is settled in; "" of one that is not ours."""
    return "" if ":" in symbol else symbol.removesuffix(PERPETUAL).partition("-")[2]


def trading_fee(dialect: RowDialect, link: Connection, pairs: Sequence[str]) -> tuple[Decimal, Decimal]:
    """Return (maker, taker) of the first of these pairs that is listed: most venues tell fees by pair only."""
    dialect.prepare(link)
    pair = next((name for name in pairs if name in link.client.markets), None)
    if pair is None:
        raise Unreadable("fees")
    answer = link.read(lambda client: client.fetch_trading_fee(pair))
    rates = [answer.get(name) for name in ("maker", "taker")]
    if not all(isinstance(rate, Decimal) and rate.is_finite() for rate in rates):
        raise Unreadable("fees")
    return rates[0], rates[1]


def is_market(order: NewOrder) -> bool:
    """Return whether an order goes to market."""
    return order.order_type is OrderType.MARKET
