"""OKX spot.

* Keys come with a passphrase. Client ids are 32 letters and digits: ours without its hyphens.
* Answers have status 200 and say in ``code`` and ``sCode`` what went wrong.
* A fee is below zero when it was paid. Orders do not expire. A repeated client id may be taken anew once its order has
  ended, so it is looked up first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import UUID

from accounts.exchanges.base import Capabilities, KeyPermissions, NewOrder, OrderRef
from accounts.exchanges.ccxt.amounts import Unreadable, rows, text
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import KeyField, Snapshot
from accounts.exchanges.ccxt.rows import OrderColumns, RowDialect, TradeColumns, is_market, trading_fee
from marketdata.wire import venues
from marketdata.wire.failures import Meaning, Refusal
from tradebot.core.decimals import ZERO, plain
from tradebot.core.words import OrderStatus, Side

__all__ = ["OkxDialect"]

ROWS_PER_REQUEST: Final = 100
MOST_PAGES: Final = 200
CODES: Final = {
    "50001": ("venue_failed", Meaning.FAILED),
    "50004": ("no_answer", Meaning.FAILED),
    "50011": ("throttled", Meaning.SLOWER),
    "50013": ("venue_failed", Meaning.FAILED),
    "50026": ("venue_failed", Meaning.FAILED),
    "50061": ("throttled", Meaning.SLOWER),
    "50100": ("keys_refused", Meaning.KEYS),
    "50102": ("clock_skew", Meaning.CLOCK),
    "50105": ("keys_refused", Meaning.KEYS),
    "50110": ("keys_refused", Meaning.KEYS),
    "50111": ("keys_refused", Meaning.KEYS),
    "50113": ("keys_refused", Meaning.KEYS),
    "50120": ("not_permitted", Meaning.KEYS),
    "51001": ("unknown_product", Meaning.NO),
    "51006": ("bad_price", Meaning.NO),
    "51008": ("insufficient_funds", Meaning.NO),
    "51016": ("duplicate_client_id", Meaning.NO),
    "51020": ("below_minimum", Meaning.NO),
    "51121": ("bad_increment", Meaning.NO),
    "51400": ("unknown_order", Meaning.NO),
    "51401": ("unknown_order", Meaning.NO),
    "51402": ("unknown_order", Meaning.NO),
    "51603": ("unknown_order", Meaning.NO),
}


class OkxDialect(RowDialect):
    """See the module."""

    info = venues.get("okx")
    capabilities = Capabilities(
        "OKX",
        refuses_repeated_client_id=False,
        good_till_date=False,
        tells_permissions=True,
        needs_passphrase=True,
    )
    key_fields = (
        KeyField("api_key", "API key"),
        KeyField("api_secret", "Secret key"),
        KeyField("passphrase", "Passphrase", "The one that was chosen when the key was made."),
    )
    order_columns = OrderColumns(
        "ordId",
        "clOrdId",
        "instId",
        "side",
        "state",
        "accFillSz",
        {"buy": Side.BUY, "sell": Side.SELL},
        {
            "live": OrderStatus.OPEN,
            "partially_filled": OrderStatus.OPEN,
            "filled": OrderStatus.FILLED,
            "canceled": OrderStatus.CANCELLED,
            "mmp_canceled": OrderStatus.CANCELLED,
        },
    )
    trade_columns = TradeColumns(
        "tradeId",
        "ordId",
        "instId",
        "side",
        "fillPx",
        "fillSz",
        "fee",
        "feeCcy",
        "execType",
        {"M": True},
        "ts",
        client_id="clOrdId",
        fee_sign=-1,
    )

    def client_word(self, client_order_id: UUID | None) -> str:
        """See :meth:`RowDialect.client_word`."""
        return super().client_word(client_order_id).replace("-", "")

    def refusal(self, body: Any, status: int | None) -> Refusal | None:
        """See :meth:`Dialect.refusal`: what is said about the order itself says more than what is said about all."""
        if not isinstance(body, Mapping):
            return None
        data = body.get("data")
        first = data[0] if isinstance(data, list) and data and isinstance(data[0], Mapping) else {}
        for code, said in ((first.get("sCode"), first.get("sMsg")), (body.get("code"), body.get("msg"))):
            if str(code) in CODES:
                ours, meaning = CODES[str(code)]
                return Refusal(ours, str(said or "")[:200], meaning)
        return None

    # Requests ---------------------------------------------------------------------------------------------------------

    def put_order(self, client: Any, order: NewOrder, market: Mapping[str, Any]) -> Any:
        """See :meth:`RowDialect.put_order`."""
        request = {
            "instId": market["id"],
            "tdMode": "cash",
            "side": str(order.side),
            "ordType": "market" if is_market(order) else "limit",
            "sz": plain(order.quote_size if order.quote_size is not None else order.base_size or ZERO),
            "clOrdId": self.client_word(order.client_order_id),
        }
        if is_market(order):
            request["tgtCcy"] = "quote_ccy" if order.quote_size is not None else "base_ccy"
        else:
            request["px"] = plain(order.limit_price or ZERO)
        (row,) = rows(client.private_post_trade_order(request), "data")[:1] or [{}]
        return row.get("ordId")

    def put_cancel(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> None:
        """See :meth:`RowDialect.put_cancel`."""
        client.private_post_trade_cancel_order({"instId": market["id"], **self._which(ref)})

    def ask_order(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> dict[str, Any] | None:
        """See :meth:`RowDialect.ask_order`."""
        found = rows(client.private_get_trade_order({"instId": market["id"], **self._which(ref)}), "data")
        return found[0] if found else None

    def _which(self, ref: OrderRef) -> dict[str, str]:
        if ref.venue_order_id:
            return {"ordId": ref.venue_order_id}
        return {"clOrdId": self.client_word(ref.client_order_id)}

    def ask_working(self, link: Connection) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_working`."""
        return _pages(link, "private_get_trade_orders_pending", {"instType": "SPOT"}, "ordId")

    def ask_trades(self, link: Connection, order: Snapshot, market: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades`."""
        query = {"instType": "SPOT", "instId": market["id"], "ordId": order.venue_order_id}
        return _pages(link, "private_get_trade_fills_history", query, "billId")

    def ask_trades_since(self, link: Connection, moment: datetime) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades_since`."""
        query = {"instType": "SPOT", "begin": str(int(moment.timestamp() * 1000))}
        return _pages(link, "private_get_trade_fills_history", query, "billId")

    # The account ------------------------------------------------------------------------------------------------------

    def fee_rates(self, link: Connection) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""
        return trading_fee(self, link, ("BTC/USDT", "BTC/USDC"))

    def permissions(self, link: Connection) -> KeyPermissions:
        """See :meth:`Venue.permissions`."""
        (row,) = rows(link.read(lambda client: client.private_get_account_config()), "data")[:1] or [{}]
        may = text(row, "perm").split(",")
        return KeyPermissions("read_only" in may or "trade" in may, "trade" in may, "withdraw" in may)


def _asked(method: str, query: Mapping[str, Any], client: Any) -> list[dict[str, Any]]:
    return rows(getattr(client, method)(dict(query)), "data")


def _pages(link: Connection, method: str, query: Mapping[str, Any], cursor: str) -> Iterable[dict[str, Any]]:
    after = ""
    for _ in range(MOST_PAGES):
        page = {**query, "limit": str(ROWS_PER_REQUEST), **({"after": after} if after else {})}
        found = link.read(partial(_asked, method, page))
        yield from found
        if len(found) < ROWS_PER_REQUEST:
            return
        after = text(found[-1], cursor)
    raise Unreadable("pages without end")
