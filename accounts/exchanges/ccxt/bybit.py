"""Bybit spot, unified accounts (API v5).

* Answers have status 200 and say in ``retCode`` what went wrong.
* An order is in the list of recent ones, and later in the history; both are asked by our id.
* Orders do not expire. A repeated client id may be taken anew once its order has ended, so it is looked up first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

from accounts.exchanges.base import Capabilities, KeyPermissions, NewOrder, OrderRef
from accounts.exchanges.ccxt.amounts import Unreadable, rows
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import KeyField, Snapshot
from accounts.exchanges.ccxt.rows import OrderColumns, RowDialect, TradeColumns, is_market, trading_fee
from marketdata.wire import venues
from marketdata.wire.failures import Meaning, Refusal
from tradebot.core import clock
from tradebot.core.decimals import ZERO, plain
from tradebot.core.words import OrderStatus, Side

__all__ = ["BybitDialect"]

MOST_PAGES: Final = 200
LONGEST_LIST: Final = timedelta(days=7)
CODES: Final = {
    10000: ("venue_failed", Meaning.FAILED),
    10002: ("clock_skew", Meaning.CLOCK),
    10003: ("keys_refused", Meaning.KEYS),
    10004: ("keys_refused", Meaning.KEYS),
    10005: ("not_permitted", Meaning.KEYS),
    10006: ("throttled", Meaning.SLOWER),
    10009: ("restricted_location", Meaning.KEYS),
    10010: ("keys_refused", Meaning.KEYS),
    10016: ("venue_failed", Meaning.FAILED),
    10018: ("throttled", Meaning.SLOWER),
    33004: ("keys_refused", Meaning.KEYS),
    170121: ("unknown_product", Meaning.NO),
    170124: ("above_maximum", Meaning.NO),
    170131: ("insufficient_funds", Meaning.NO),
    170134: ("bad_increment", Meaning.NO),
    170136: ("below_minimum", Meaning.NO),
    170137: ("bad_increment", Meaning.NO),
    170140: ("below_minimum", Meaning.NO),
    170141: ("duplicate_client_id", Meaning.NO),
    170142: ("unknown_order", Meaning.NO),
    170143: ("unknown_order", Meaning.NO),
    170213: ("unknown_order", Meaning.NO),
}
SPOT: Final = {"category": "spot"}


class BybitDialect(RowDialect):
    """See the module."""

    info = venues.get("bybit")
    capabilities = Capabilities("Bybit", refuses_repeated_client_id=False, good_till_date=False, tells_permissions=True)
    key_fields = (KeyField("api_key", "API key"), KeyField("api_secret", "API secret"))
    order_columns = OrderColumns(
        "orderId",
        "orderLinkId",
        "symbol",
        "side",
        "orderStatus",
        "cumExecQty",
        {"Buy": Side.BUY, "Sell": Side.SELL},
        {
            "New": OrderStatus.OPEN,
            "PartiallyFilled": OrderStatus.OPEN,
            "Untriggered": OrderStatus.OPEN,
            "Triggered": OrderStatus.OPEN,
            "Filled": OrderStatus.FILLED,
            "Cancelled": OrderStatus.CANCELLED,
            "PartiallyFilledCanceled": OrderStatus.CANCELLED,
            "Deactivated": OrderStatus.CANCELLED,
            "Rejected": OrderStatus.REJECTED,
        },
        "rejectReason",
    )
    trade_columns = TradeColumns(
        "execId",
        "orderId",
        "symbol",
        "side",
        "execPrice",
        "execQty",
        "execFee",
        "feeCurrency",
        "isMaker",
        {"True": True},
        "execTime",
        quote="execValue",
        client_id="orderLinkId",
    )

    def refusal(self, body: Any, status: int | None) -> Refusal | None:
        """See :meth:`Dialect.refusal`."""
        code = body.get("retCode") if isinstance(body, Mapping) else None
        if not isinstance(code, int) or code not in CODES:
            return None
        ours, meaning = CODES[code]
        return Refusal(ours, str(body.get("retMsg") or "")[:200], meaning)

    # Requests ---------------------------------------------------------------------------------------------------------

    def put_order(self, client: Any, order: NewOrder, market: Mapping[str, Any]) -> Any:
        """See :meth:`RowDialect.put_order`."""
        request = {
            **SPOT,
            "symbol": market["id"],
            "side": "Buy" if order.side is Side.BUY else "Sell",
            "orderType": "Market" if is_market(order) else "Limit",
            "qty": plain(order.quote_size if order.quote_size is not None else order.base_size or ZERO),
            "orderLinkId": self.client_word(order.client_order_id),
        }
        if is_market(order):
            request["marketUnit"] = "quoteCoin" if order.quote_size is not None else "baseCoin"
        else:
            request |= {"price": plain(order.limit_price or ZERO), "timeInForce": "GTC"}
        return _result(client.private_post_v5_order_create(request)).get("orderId")

    def put_cancel(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> None:
        """See :meth:`RowDialect.put_cancel`."""
        client.private_post_v5_order_cancel({**SPOT, "symbol": market["id"], **self._which(ref)})

    def ask_order(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> dict[str, Any] | None:
        """See :meth:`RowDialect.ask_order`."""
        query = {**SPOT, "symbol": market["id"], **self._which(ref)}
        for ask in (client.private_get_v5_order_realtime, client.private_get_v5_order_history):
            if found := rows(_result(ask(dict(query))), "list"):
                return found[0]
        return None

    def _which(self, ref: OrderRef) -> dict[str, str]:
        if ref.venue_order_id:
            return {"orderId": ref.venue_order_id}
        return {"orderLinkId": self.client_word(ref.client_order_id)}

    def ask_working(self, link: Connection) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_working`."""
        return _pages(link, "private_get_v5_order_realtime", {**SPOT, "openOnly": 0, "limit": 50})

    def ask_trades(self, link: Connection, order: Snapshot, market: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades`."""
        return _pages(link, "private_get_v5_execution_list", {**SPOT, "orderId": order.venue_order_id, "limit": 100})

    def ask_trades_since(self, link: Connection, moment: datetime) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades_since`: seven days in one list at most."""
        start, now = moment, clock.now() + timedelta(minutes=10)
        while start < now:
            end = min(start + LONGEST_LIST, now)
            times = {"startTime": int(start.timestamp() * 1000), "endTime": int(end.timestamp() * 1000)}
            yield from _pages(link, "private_get_v5_execution_list", {**SPOT, **times, "limit": 100})
            start = end

    # The account ------------------------------------------------------------------------------------------------------

    def fee_rates(self, link: Connection) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""
        return trading_fee(self, link, ("BTC/USDT", "BTC/USDC"))

    def permissions(self, link: Connection) -> KeyPermissions:
        """See :meth:`Venue.permissions`."""
        answer = _result(link.read(lambda client: client.private_get_v5_user_query_api()))
        may = answer.get("permissions")
        if not isinstance(may, Mapping):
            raise Unreadable("permissions")
        trades = "SpotTrade" in (may.get("Spot") or []) and answer.get("readOnly") == 0
        return KeyPermissions(True, trades, "Withdraw" in (may.get("Wallet") or []))


def _result(answer: Any) -> dict[str, Any]:
    result = answer.get("result") if isinstance(answer, Mapping) else None
    if not isinstance(result, dict):
        raise Unreadable("result")
    return result


def _asked(method: str, query: Mapping[str, Any], client: Any) -> dict[str, Any]:
    return _result(getattr(client, method)(dict(query)))


def _pages(link: Connection, method: str, query: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    cursor = ""
    for _ in range(MOST_PAGES):
        answer = link.read(partial(_asked, method, {**query, **({"cursor": cursor} if cursor else {})}))
        found = rows(answer, "list")
        yield from found
        following = str(answer.get("nextPageCursor") or "")
        if not following or not found:
            return
        if following == cursor:
            raise Unreadable("cursor")
        cursor = following
    raise Unreadable("pages without end")
