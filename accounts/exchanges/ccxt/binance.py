"""Binance spot.

* A client id is unique among open orders only: once an order has ended, the same id would place another one. So an
  order is looked up before it is put.
* Orders, and trades, are listed by pair. Executions since a moment are looked for in the pairs of currencies that the
  account holds; one that sold the last of a currency is found by its order, not by that list.
* The fee of a buy is taken in base unless the account pays in BNB.
* Orders do not expire; ``quote_size`` is before fees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

from accounts.exchanges.base import Capabilities, KeyPermissions, NewOrder, OrderRef
from accounts.exchanges.ccxt.amounts import Unreadable, amount, client_uuid, text
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import KeyField, Snapshot
from accounts.exchanges.ccxt.rows import OrderColumns, RowDialect, TradeColumns, is_market
from marketdata.wire import venues
from marketdata.wire.client import Exchanged
from marketdata.wire.failures import Meaning, Refusal
from tradebot.core.decimals import ZERO, plain
from tradebot.core.words import OrderStatus, Side

__all__ = ["BinanceDialect"]

ROWS_PER_REQUEST: Final = 1000
MOST_PAGES: Final = 200
REFUSALS: Final = {
    -1003: ("throttled", Meaning.SLOWER),
    -1006: ("unknown_status", Meaning.FAILED),
    -1007: ("unknown_status", Meaning.FAILED),
    -1008: ("throttled", Meaning.SLOWER),
    -1015: ("throttled", Meaning.SLOWER),
    -1021: ("clock_skew", Meaning.CLOCK),
    -1022: ("keys_refused", Meaning.KEYS),
    -1100: ("bad_request", Meaning.NO),
    -1102: ("bad_request", Meaning.NO),
    -1111: ("bad_increment", Meaning.NO),
    -1121: ("unknown_product", Meaning.NO),
    -2011: ("unknown_order", Meaning.NO),
    -2013: ("unknown_order", Meaning.NO),
    -2014: ("keys_refused", Meaning.KEYS),
    -2015: ("keys_refused", Meaning.KEYS),
}
TEXTS: Final = (
    ("insufficient balance", "insufficient_funds"),
    ("Duplicate order", "duplicate_client_id"),
    ("Market is closed", "not_trading"),
    ("immediately match", "would_trade_at_once"),
    ("NOTIONAL", "below_minimum"),
    ("LOT_SIZE", "bad_increment"),
    ("PRICE_FILTER", "bad_increment"),
)
"""Parts of messages: -1013 and -2010 say what they mean in words only."""


class BinanceDialect(RowDialect):
    """See the module."""

    info = venues.get("binance")
    capabilities = Capabilities(
        "Binance",
        refuses_repeated_client_id=False,
        good_till_date=False,
        tells_permissions=True,
    )
    key_fields = (KeyField("api_key", "API key"), KeyField("api_secret", "Secret key"))
    order_columns = OrderColumns(
        "orderId",
        "clientOrderId",
        "symbol",
        "side",
        "status",
        "executedQty",
        {"BUY": Side.BUY, "SELL": Side.SELL},
        {
            "NEW": OrderStatus.OPEN,
            "PENDING_NEW": OrderStatus.OPEN,
            "PARTIALLY_FILLED": OrderStatus.OPEN,
            "PENDING_CANCEL": OrderStatus.OPEN,
            "FILLED": OrderStatus.FILLED,
            "CANCELED": OrderStatus.CANCELLED,
            "EXPIRED": OrderStatus.CANCELLED,  # of a market order: the rest could not be filled
            "EXPIRED_IN_MATCH": OrderStatus.CANCELLED,
            "REJECTED": OrderStatus.REJECTED,
        },
    )
    trade_columns = TradeColumns(
        "id",
        "orderId",
        "symbol",
        "side",
        "price",
        "qty",
        "commission",
        "commissionAsset",
        "isMaker",
        {"True": True},
        "time",
        quote="quoteQty",
        client_id="clientOrderId",
    )

    def refusal(self, body: Any, status: int | None) -> Refusal | None:
        """See :meth:`Dialect.refusal`."""
        if not isinstance(body, Mapping) or not isinstance(body.get("code"), int):
            return None
        code, said = int(body["code"]), str(body.get("msg") or "")[:200]
        for part, ours in TEXTS:
            if part in said:
                return Refusal(ours, said)
        if code in REFUSALS:
            ours, meaning = REFUSALS[code]
            return Refusal(ours, said, meaning)
        return Refusal("rejected", said) if code in (-1013, -2010) else None

    def bans_address(self, wire: Exchanged) -> bool:
        """See :meth:`Dialect.bans_address`: weights are counted by address."""
        return True

    # Requests ---------------------------------------------------------------------------------------------------------

    def put_order(self, client: Any, order: NewOrder, market: Mapping[str, Any]) -> Any:
        """See :meth:`RowDialect.put_order`."""
        request = {
            "symbol": market["id"],
            "side": "BUY" if order.side is Side.BUY else "SELL",
            "type": "MARKET" if is_market(order) else "LIMIT",
            "newClientOrderId": self.client_word(order.client_order_id),
            "newOrderRespType": "ACK",
        }
        if order.quote_size is not None:
            request["quoteOrderQty"] = plain(order.quote_size)
        else:
            request["quantity"] = plain(order.base_size or ZERO)
        if order.limit_price is not None:
            request |= {"price": plain(order.limit_price), "timeInForce": "GTC"}
        answer = client.private_post_order(request)
        if client_uuid(answer.get("clientOrderId")) not in (None, order.client_order_id):
            raise Unreadable("another order")
        return answer.get("orderId")

    def put_cancel(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> None:
        """See :meth:`RowDialect.put_cancel`."""
        client.private_delete_order({"symbol": market["id"], **self._which(ref)})

    def ask_order(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> dict[str, Any] | None:
        """See :meth:`RowDialect.ask_order`."""
        row: dict[str, Any] = client.private_get_order({"symbol": market["id"], **self._which(ref)})
        return row

    def _which(self, ref: OrderRef) -> dict[str, str]:
        if ref.venue_order_id:
            return {"orderId": ref.venue_order_id}
        return {"origClientOrderId": self.client_word(ref.client_order_id)}

    def ask_working(self, link: Connection) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_working`."""
        return _list(link.read(lambda client: client.private_get_openorders()))

    def ask_trades(self, link: Connection, order: Snapshot, market: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades`."""
        return self._trades(link, {"symbol": market["id"], "orderId": order.venue_order_id})

    def ask_trades_since(self, link: Connection, moment: datetime) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades_since`, and the module for where it looks."""
        held = set(self.balances(link))
        start = str(int(moment.timestamp() * 1000))
        clients: dict[str, Any] = {}
        for market in list(link.client.markets.values()):
            if market.get("spot") and {market["base"], market["quote"]} <= held:
                found = list(self._trades(link, {"symbol": market["id"], "startTime": start}))
                if found:
                    clients |= self._client_ids(link, market, start)
                for row in found:
                    yield {**row, "clientOrderId": clients.get(text(row, "orderId"))}

    def _client_ids(self, link: Connection, market: Mapping[str, Any], start: str) -> dict[str, Any]:
        query = {"symbol": market["id"], "limit": ROWS_PER_REQUEST}
        answer = link.read(lambda client: client.private_get_allorders(query))
        return {text(row, "orderId"): row.get("clientOrderId") for row in _list(answer)}

    def _trades(self, link: Connection, query: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """Yield trades of a pair, oldest first, page by page; the next page begins after the last one's newest."""
        page = dict(query)
        for _ in range(MOST_PAGES):
            answer = link.read(partial(_my_trades, {**page, "limit": ROWS_PER_REQUEST}))
            found = _list(answer)
            yield from found
            if len(found) < ROWS_PER_REQUEST:
                return
            newest = max(int(amount(row, "id")) for row in found)
            page = {"symbol": query["symbol"], "fromId": str(newest + 1)}
        raise Unreadable("pages without end")

    def trade(self, client: Any, row: Mapping[str, Any]) -> Any:
        """See :meth:`RowDialect.trade`: the side is a flag here."""
        side = "BUY" if row.get("isBuyer") is True else "SELL" if row.get("isBuyer") is False else None
        return super().trade(client, {**row, "side": side})

    # The account ------------------------------------------------------------------------------------------------------

    def fee_rates(self, link: Connection) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""
        rates = link.read(lambda client: client.private_get_account()).get("commissionRates")
        if not isinstance(rates, Mapping):
            raise Unreadable("commissionRates")
        return amount(rates, "maker"), amount(rates, "taker")

    def permissions(self, link: Connection) -> KeyPermissions:
        """See :meth:`Venue.permissions`."""
        answer = link.read(lambda client: client.sapi_get_account_apirestrictions())
        names = ("enableReading", "enableSpotAndMarginTrading", "enableWithdrawals")
        told = [answer.get(name) for name in names]
        view, trade, withdraw = (value if isinstance(value, bool) else None for value in told)
        return KeyPermissions(view, trade, withdraw)


def _my_trades(query: Mapping[str, Any], client: Any) -> Any:
    return client.private_get_mytrades(dict(query))


def _list(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise Unreadable("list")
    return answer
