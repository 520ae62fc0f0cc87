"""INTERIM venue over raw HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import requests

from accounts.exchanges.base import Balance, Capabilities, NewOrder, OrderRef, OrderReport, Trade, VenueTrade
from tests.venue.keys import sign
from tradebot.core.decimals import floor_to, plain
from tradebot.core.errors import VenueDenied, VenueRejected, VenueThrottled, VenueUnavailable, VenueUnknown
from tradebot.core.words import OrderStatus, OrderType, Side

B = "/api/v3/brokerage"
STATUS = {
    "PENDING": OrderStatus.SUBMITTED,
    "OPEN": OrderStatus.OPEN,
    "FILLED": OrderStatus.FILLED,
    "CANCELLED": OrderStatus.CANCELLED,
    "EXPIRED": OrderStatus.EXPIRED,
    "FAILED": OrderStatus.REJECTED,
}


class Adapter:
    capabilities = Capabilities("Coinbase", edits_orders=True)

    def __init__(self, account: Any, url: str) -> None:
        self.account_id = account.pk
        self.url = url
        self.name, self.secret = account.credential.api_key.reveal(), account.credential.api_secret.reveal()
        self.host = url.removeprefix("http://")

    def _ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        write = method == "POST"
        token = sign(self.name, self.secret, method, self.host, B + path)
        try:
            answer = requests.request(
                method,
                self.url + B + path,
                params=query,
                data=None if body is None else json.dumps(body),
                headers={"Authorization": f"Bearer {token}"},
                timeout=3,
            )
            if answer.status_code == 429:
                raise VenueThrottled("throttled", "slow down")
            if answer.status_code in (401, 403):
                raise (VenueDenied if write else VenueUnavailable)("denied", answer.text)
            if answer.status_code == 404:
                return None
            if answer.status_code == 400:
                raise VenueRejected("bad", answer.text)
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as error:
            raise (VenueUnknown if write else VenueUnavailable)("lost", str(error)) from error

    def balances(self) -> dict[str, Balance]:
        rows = self._ask("GET", "/accounts", limit=250)["accounts"]
        found = {}
        for row in rows:
            free, held = Decimal(row["available_balance"]["value"]), Decimal(row["hold"]["value"])
            found[row["currency"]] = Balance(row["currency"], free + held, held)
        return found

    def fee_rates(self) -> tuple[Decimal, Decimal]:
        tier = self._ask("GET", "/transaction_summary")["fee_tier"]
        return Decimal(tier["maker_fee_rate"]), Decimal(tier["taker_fee_rate"])

    def place(self, order: NewOrder) -> OrderReport:
        if order.order_type is OrderType.MARKET:
            if order.quote_size is not None:
                size = floor_to(order.quote_size * Decimal("1.006"), Decimal("0.01"))
                conf: dict[str, Any] = {"market_market_ioc": {"quote_size": plain(size)}}
            else:
                assert order.base_size
                conf = {"market_market_ioc": {"base_size": plain(order.base_size)}}
        else:
            assert order.base_size
            assert order.limit_price
            values = {"base_size": plain(order.base_size), "limit_price": plain(order.limit_price), "post_only": False}
            conf = {"limit_limit_gtc": values}
            if order.expires_at is not None:
                values["end_time"] = order.expires_at.isoformat()
                conf = {"limit_limit_gtd": values}
        body = {
            "client_order_id": str(order.client_order_id),
            "product_id": order.symbol,
            "side": order.side.upper(),
            "order_configuration": conf,
        }
        answer = self._ask("POST", "/orders", body)
        if not answer["success"]:
            raise VenueRejected(answer["error_response"]["error"].lower(), answer["error_response"]["message"])
        venue_id = answer["success_response"]["order_id"]
        try:
            found = self.find_many([OrderRef(order.client_order_id, order.symbol, venue_id)])
        except VenueUnavailable as error:
            return OrderReport(order.client_order_id, venue_id, OrderStatus.OPEN)
        return found.get(order.client_order_id) or OrderReport(order.client_order_id, venue_id, OrderStatus.OPEN)

    def cancel(self, ref: OrderRef) -> OrderReport:
        venue_id = ref.venue_order_id
        if not venue_id:
            report = self.find(ref)
            if report is None:
                raise VenueRejected("unknown_order", "unknown")
            venue_id = report.venue_order_id
        row = self._ask("POST", "/orders/batch_cancel", {"order_ids": [venue_id]})["results"][0]
        if not row["success"] and row["failure_reason"] == "UNKNOWN_CANCEL_ORDER":
            raise VenueRejected("unknown_order", "unknown")
        try:
            report = self.find(OrderRef(ref.client_order_id, ref.symbol, venue_id))
        except VenueUnavailable as error:
            raise VenueUnknown("lost", str(error)) from error
        if report is None:
            raise VenueUnknown("lost", "not visible")
        return report

    def find(self, ref: OrderRef) -> OrderReport | None:
        return self.find_many([ref]).get(ref.client_order_id)

    def _pages(self, path: str, name: str, **query: Any) -> list[Any]:
        rows: list[Any] = []
        cursor = ""
        while True:
            answer = self._ask("GET", path, **query, **({"cursor": cursor} if cursor else {}))
            rows += answer[name]
            cursor = answer["cursor"]
            if not cursor:
                return rows

    def find_many(self, refs: Sequence[OrderRef]) -> dict[UUID, OrderReport]:
        by_id = [ref.venue_order_id for ref in refs if ref.venue_order_id]
        rows = []
        if by_id:
            rows += self._pages("/orders/historical/batch", "orders", order_ids=by_id)
        others = {str(ref.client_order_id): ref for ref in refs if not ref.venue_order_id}
        if others:
            moments = [ref.sent_at for ref in others.values() if ref.sent_at]
            since = {"start_date": (min(moments) - timedelta(minutes=5)).isoformat()} if moments else {}
            rows += [
                row
                for row in self._pages("/orders/historical/batch", "orders", **since)
                if row["client_order_id"] in others
            ]
        rows = list({row["order_id"]: row for row in rows}.values())
        fills: dict[str, dict[str, Any]] = {}
        wanted = [row["order_id"] for row in rows if row["number_of_fills"] != "0"]
        if wanted:
            for fill in self._pages("/orders/historical/fills", "fills", order_ids=wanted):
                fills.setdefault(fill["order_id"], {})[fill["trade_id"]] = fill
        return {
            UUID(row["client_order_id"]): OrderReport(
                UUID(row["client_order_id"]),
                row["order_id"],
                STATUS[row["status"]],
                tuple(sorted((trade(one) for one in fills.get(row["order_id"], {}).values()), key=lambda one: one.at)),
                symbol=row["product_id"],
            )
            for row in rows
        }

    def open_orders(self) -> list[OrderReport]:
        raise NotImplementedError

    def trades_since(self, moment: datetime) -> list[VenueTrade]:
        fills = self._pages("/orders/historical/fills", "fills", start_sequence_timestamp=moment.isoformat())
        fills = list({fill["trade_id"]: fill for fill in fills}.values())
        ids = sorted({fill["order_id"] for fill in fills})
        names: dict[str, Any] = {}
        for start in range(0, len(ids), 50):
            for row in self._pages("/orders/historical/batch", "orders", order_ids=ids[start : start + 50]):
                names[row["order_id"]] = row["client_order_id"]
        return [
            VenueTrade(
                trade(fill),
                fill["product_id"],
                Side(fill["side"].lower()),
                UUID(names[fill["order_id"]]) if fill["order_id"] in names else None,
                fill["order_id"],
            )
            for fill in fills
        ]


def trade(fill: Any) -> Trade:
    price, size = Decimal(fill["price"]), Decimal(fill["size"])
    base = size / price if fill["size_in_quote"] else size
    return Trade(
        fill["trade_id"],
        price,
        base,
        base * price,
        Decimal(fill["commission"]),
        fill["product_id"].split("-")[1],
        fill["liquidity_indicator"] == "MAKER",
        datetime.fromisoformat(fill["trade_time"]),
    )


_ = time
