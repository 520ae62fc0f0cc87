"""Kraken spot.

* Orders are queried by its own ids, fifty at once; by our id only among the open and the closed ones, two requests.
* A trade names its order and no client id. Fees are asked to be taken in quote, so that they are in one currency.
* Every answer has status 200; what went wrong is a word in ``error``.
* It does not say what a key may do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

from accounts.exchanges.base import Capabilities, KeyPermissions, NewOrder, OrderRef
from accounts.exchanges.ccxt.amounts import Unreadable, amount, chunked, text
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import KeyField, Snapshot
from accounts.exchanges.ccxt.rows import OrderColumns, RowDialect, TradeColumns, is_market, trading_fee
from marketdata.wire import venues
from marketdata.wire.failures import Meaning, Refusal
from tradebot.core.decimals import ZERO, plain
from tradebot.core.words import OrderStatus, Side

__all__ = ["KrakenDialect"]

ORDERS_PER_REQUEST: Final = 50
TRADES_PER_REQUEST: Final = 20
MOST_PAGES: Final = 200
WORDS: Final = (
    ("EOrder:Insufficient", "insufficient_funds", Meaning.NO),
    ("EOrder:Order minimum not met", "below_minimum", Meaning.NO),
    ("EOrder:Cost minimum not met", "below_minimum", Meaning.NO),
    ("EOrder:Tick size check failed", "bad_increment", Meaning.NO),
    ("EOrder:Invalid price", "bad_increment", Meaning.NO),
    ("EOrder:Unknown order", "unknown_order", Meaning.NO),
    ("EOrder:Invalid order", "unknown_order", Meaning.NO),
    ("EOrder:Rate limit exceeded", "throttled", Meaning.SLOWER),
    ("EOrder:Orders limit exceeded", "too_many_orders", Meaning.NO),
    ("EOrder:", "rejected", Meaning.NO),
    ("EQuery:Unknown asset pair", "unknown_product", Meaning.NO),
    ("EGeneral:Invalid arguments", "bad_request", Meaning.NO),
    ("EGeneral:Permission denied", "not_permitted", Meaning.KEYS),
    ("EGeneral:Temporary lockout", "throttled", Meaning.SLOWER),
    ("EGeneral:Too many requests", "throttled", Meaning.SLOWER),
    ("EGeneral:Internal error", "venue_failed", Meaning.FAILED),
    ("EAPI:Invalid nonce", "clock_skew", Meaning.CLOCK),
    ("EAPI:Rate limit exceeded", "throttled", Meaning.SLOWER),
    ("EAPI:", "keys_refused", Meaning.KEYS),
    ("EAccount:", "not_permitted", Meaning.KEYS),
    ("EService:Market in", "not_trading", Meaning.NO),
    ("EService:", "venue_failed", Meaning.FAILED),
)
"""Beginnings of its error words, the special before the general."""


class KrakenDialect(RowDialect):
    """See the module."""

    info = venues.get("kraken")
    capabilities = Capabilities("Kraken", refuses_repeated_client_id=False)
    key_fields = (KeyField("api_key", "API key"), KeyField("api_secret", "Private key"))
    order_columns = OrderColumns(
        "txid",
        "cl_ord_id",
        "pair",
        "type",
        "status",
        "vol_exec",
        {"buy": Side.BUY, "sell": Side.SELL},
        {
            "pending": OrderStatus.OPEN,
            "open": OrderStatus.OPEN,
            "closed": OrderStatus.FILLED,
            "canceled": OrderStatus.CANCELLED,
            "expired": OrderStatus.EXPIRED,
        },
    )
    trade_columns = TradeColumns(
        "txid",
        "ordertxid",
        "pair",
        "type",
        "price",
        "vol",
        "fee",
        "",
        "maker",
        {"True": True},
        "time",
        quote="cost",
        client_id="cl_ord_id",
    )

    def refusal(self, body: Any, status: int | None) -> Refusal | None:
        """See :meth:`Dialect.refusal`."""
        errors = body.get("error") if isinstance(body, Mapping) else None
        if not isinstance(errors, list) or not errors:
            return None
        said = str(errors[0])
        for beginning, code, meaning in WORDS:
            if said.startswith(beginning):
                return Refusal(code, said[:200], meaning)
        return None

    # Requests ---------------------------------------------------------------------------------------------------------

    def put_order(self, client: Any, order: NewOrder, market: Mapping[str, Any]) -> Any:
        """See :meth:`RowDialect.put_order`."""
        request = {
            "pair": market["id"],
            "type": str(order.side),
            "ordertype": "market" if is_market(order) else "limit",
            "volume": plain(order.quote_size if order.quote_size is not None else order.base_size or ZERO),
            "oflags": "fciq,viqc" if order.quote_size is not None else "fciq",
            "cl_ord_id": self.client_word(order.client_order_id),
        }
        if order.limit_price is not None:
            request["price"] = plain(order.limit_price)
        if order.expires_at is not None:
            request |= {"timeinforce": "GTD", "expiretm": str(int(order.expires_at.timestamp()))}
        ids = _result(client.private_post_addorder(request)).get("txid")
        return ids[0] if isinstance(ids, list) and len(ids) == 1 else None

    def put_cancel(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> None:
        """See :meth:`RowDialect.put_cancel`."""
        named = (
            {"txid": ref.venue_order_id} if ref.venue_order_id else {"cl_ord_id": self.client_word(ref.client_order_id)}
        )
        client.private_post_cancelorder(named)

    def look(self, link: Connection, refs: Sequence[OrderRef]) -> list[tuple[OrderRef, Snapshot]]:
        """See :meth:`Dialect.look`: one request for fifty known ids, up to two for each other order."""
        self.prepare(link)
        by_id = {ref.venue_order_id: ref for ref in refs if ref.venue_order_id}
        found: list[tuple[OrderRef, Snapshot]] = []
        for ids in chunked(list(by_id), ORDERS_PER_REQUEST):
            found += [
                (by_id[row["txid"]], self.snapshot(link.client, row))
                for row in _rows(link.read(partial(_query_orders, ids)))
                if row["txid"] in by_id
            ]
        return found + super().look(link, [ref for ref in refs if not ref.venue_order_id])

    def ask_order(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> dict[str, Any] | None:
        """See :meth:`RowDialect.ask_order`: among the open orders, then among the closed ones."""
        query = {"cl_ord_id": self.client_word(ref.client_order_id), "trades": "true"}
        for row in _rows(_result(client.private_post_openorders(dict(query))).get("open")):
            if row.get("cl_ord_id") == query["cl_ord_id"]:
                return row
        for row in _rows(_result(client.private_post_closedorders(dict(query))).get("closed")):
            if row.get("cl_ord_id") == query["cl_ord_id"]:
                return row
        return None

    def ask_working(self, link: Connection) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_working`."""
        return _rows(link.read(lambda client: _result(client.private_post_openorders({"trades": "true"})).get("open")))

    def ask_trades(self, link: Connection, order: Snapshot, market: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades`: the order names its trades, twenty are queried at once."""
        for some in chunked(order.trade_ids, TRADES_PER_REQUEST):
            yield from _rows(link.read(partial(_query_trades, some)))

    def ask_trades_since(self, link: Connection, moment: datetime) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades_since`. Their orders are queried for the client ids."""
        found: dict[str, dict[str, Any]] = {}
        for _ in range(MOST_PAGES):
            query = {"start": str(int(moment.timestamp())), "ofs": str(len(found))}
            answer = link.read(partial(_history, query))
            page = _rows(answer.get("trades"))
            found |= {row["txid"]: row for row in page}
            if not page or len(found) >= int(amount(answer, "count")):
                break
        else:
            raise Unreadable("pages without end")
        clients: dict[str, Any] = {}
        orders = list(dict.fromkeys(text(row, "ordertxid") for row in found.values()))
        for ids in chunked(orders, ORDERS_PER_REQUEST):
            clients |= {row["txid"]: row.get("cl_ord_id") for row in _rows(link.read(partial(_query_orders, ids)))}
        return [{**row, "cl_ord_id": clients.get(row["ordertxid"])} for row in found.values()]

    def snapshot(self, client: Any, row: Mapping[str, Any]) -> Snapshot:
        """See :meth:`RowDialect.snapshot`: pair and side are described in a part of the row."""
        described = row.get("descr")
        if not isinstance(described, Mapping):
            raise Unreadable("descr")
        seen = super().snapshot(client, {**row, "pair": described.get("pair"), "type": described.get("type")})
        return replace(seen, trade_ids=tuple(str(name) for name in row.get("trades") or ()))

    def moment(self, row: Mapping[str, Any], name: str) -> datetime:
        """See :meth:`RowDialect.moment`: seconds, with a fraction."""
        micros = int(amount(row, name) * 1_000_000)
        return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)

    # The account ------------------------------------------------------------------------------------------------------

    def fee_rates(self, link: Connection) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""
        return trading_fee(self, link, ("BTC/USD", "BTC/EUR", "BTC/USDT"))

    def permissions(self, link: Connection) -> KeyPermissions:
        """See :meth:`Venue.permissions`: that the key is accepted is all that can be found out."""
        link.read(lambda client: client.private_post_balance())
        return KeyPermissions(can_view=True, can_trade=None, can_withdraw=None)


def _result(answer: Any) -> dict[str, Any]:
    result = answer.get("result") if isinstance(answer, Mapping) else None
    if not isinstance(result, dict):
        raise Unreadable("result")
    return result


def _rows(by_id: Any) -> list[dict[str, Any]]:
    """Return an object of rows as rows that name themselves."""
    if not isinstance(by_id, Mapping) or not all(isinstance(row, Mapping) for row in by_id.values()):
        raise Unreadable("rows")
    return [{**row, "txid": str(name)} for name, row in by_id.items()]


def _query_orders(ids: Sequence[str], client: Any) -> dict[str, Any]:
    return _result(client.private_post_queryorders({"txid": ",".join(ids), "trades": "true"}))


def _query_trades(ids: Sequence[str], client: Any) -> dict[str, Any]:
    return _result(client.private_post_querytrades({"txid": ",".join(ids)}))


def _history(query: Mapping[str, str], client: Any) -> dict[str, Any]:
    return _result(client.private_post_tradeshistory(dict(query)))
