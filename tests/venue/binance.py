"""The fake venue's second dialect: Binance spot. The same accounts and books, other words, and other habits:

- a client id is unique among *open* orders only: once an order has ended, the same id places another one;
- orders are looked up by client id and symbol; fees of a buy are taken in base; trades are listed by symbol;
- requests are signed by HMAC over what is sent, with a time stamp.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.venue.binance_shapes import order_row, symbol_row, trade_row
from tests.venue.engine import Engine
from tests.venue.faults import CANCEL, ORDER, Faults
from tests.venue.keys import ApiKey, Keyring
from tests.venue.model import (
    WORKING,
    ZERO,
    Ask,
    Malformed,
    Product,
    Refused,
    VenueOrder,
    plain,
)
from tests.venue.wire import Answer, Forbidden, Handler, Request, amount_of

API = "/api/v3"
INTERVALS = {"1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14_400, "1d": 86_400}
REASONS = {
    "INSUFFICIENT_FUND": (-2010, "Account has insufficient balance for requested action."),
    "INVALID_SIZE_PRECISION": (-1013, "Filter failure: LOT_SIZE"),
    "INVALID_PRICE_PRECISION": (-1013, "Filter failure: PRICE_FILTER"),
    "INVALID_ORDER_SIZE": (-1013, "Filter failure: NOTIONAL"),
    "PRODUCT_DISABLED": (-2010, "Market is closed."),
    "INVALID_LIMIT_PRICE_POST_ONLY": (-2010, "Order would immediately match and take."),
}
CODES = {400: -1100, 401: -2015, 403: -2015, 404: -1000, 418: -1003, 429: -1003, 500: -1000, 502: -1000, 503: -1008}


class Rejected(Exception):
    """An error in the dialect's own words."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"code": code, "msg": message}


def _told(handler: Handler) -> Handler:
    """Answer with a dialect's own error where the handler raises one."""

    def answer(request: Request) -> Answer:
        try:
            return handler(request)
        except Rejected as error:
            return error.status, error.body

    return answer


class Binance:
    """Reads requests, asks the engine, writes answers."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self.engine, self.faults = engine, faults
        self.clock_skew = 0.0
        private: dict[tuple[str, str], Handler] = {
            ("GET", f"{API}/account"): self.account,
            ("POST", f"{API}/order"): self.create,
            ("GET", f"{API}/order"): self.look_up,
            ("DELETE", f"{API}/order"): self.cancel,
            ("GET", f"{API}/openOrders"): self.open_orders,
            ("GET", f"{API}/allOrders"): self.all_orders,
            ("GET", f"{API}/myTrades"): self.my_trades,
            ("GET", "/sapi/v1/account/apiRestrictions"): self.restrictions,
            ("GET", "/sapi/v1/capital/config/getall"): self.coins,
            ("GET", "/sapi/v1/asset/tradeFee"): self.trade_fees,
            ("GET", "/sapi/v1/margin/allPairs"): lambda request: (200, []),
            ("GET", "/sapi/v1/margin/isolated/allPairs"): lambda request: (200, []),
        }
        public: dict[tuple[str, str], Handler] = {
            ("GET", f"{API}/ping"): lambda request: (200, {}),
            ("GET", f"{API}/time"): lambda request: (200, {"serverTime": self._millis()}),
            ("GET", f"{API}/exchangeInfo"): self.exchange_info,
            ("GET", f"{API}/depth"): self.depth,
            ("GET", f"{API}/klines"): self.klines,
            ("GET", f"{API}/ticker/24hr"): self.tickers,
            ("GET", f"{API}/ticker/price"): self.prices,
            ("GET", f"{API}/ticker/bookTicker"): self.book_tickers,
        }
        self.routes = {key: (_told(handler), True) for key, handler in private.items()}
        self.routes |= {key: (_told(handler), False) for key, handler in public.items()}

    @staticmethod
    def error(status: int, text: str = "", field: str = "") -> Any:
        """Return the body of an error answer."""
        words = {429: "Too many requests.", 401: "Invalid API-key, IP, or permissions for action."}
        return {"code": CODES.get(status, -1000), "msg": words.get(status, text or "An unknown error occurred.")}

    def verify(self, keyring: Keyring, request: Request, raw: bytes, now: float) -> ApiKey:
        """Return the key whose secret signed what was sent, and make its parameters the request's. Raises Rejected."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        key = keyring.keys.get(headers.get("x-mbx-apikey", ""))
        if key is None or key.public is not None or key.is_revoked:
            raise Rejected(401, -2015, "Invalid API-key, IP, or permissions for action.")
        sent = request.raw_query + raw.decode()
        signed, _, signature = sent.rpartition("&signature=")
        wanted = hmac.new(key.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(unquote(signature), wanted):
            raise Rejected(400, -1022, "Signature for this request is not valid.")
        request.query = parse_qs(signed, keep_blank_values=True)
        stamp, window = request.one("timestamp"), request.one("recvWindow", "5000")
        if not stamp.isdigit() or not window.isdigit() or int(window) > 60_000:
            raise Rejected(400, -1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.")
        if not -int(window) <= int(stamp) - now * 1000 <= 1000:
            raise Rejected(400, -1021, "Timestamp for this request is outside of the recvWindow.")
        return key

    # Public -----------------------------------------------------------------------------------------------------------

    def _millis(self) -> int:
        return int((time.time() + self.clock_skew) * 1000)

    def _product(self, request: Request) -> Product:
        symbol = request.one("symbol")
        if not symbol:
            raise Rejected(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        for product in self.engine.products.values():
            if product.base + product.quote == symbol:
                return product
        raise Rejected(400, -1121, "Invalid symbol.")

    def _some_products(self, request: Request) -> list[Product]:
        if request.one("symbol"):
            return [self._product(request)]
        wanted = re.findall(r'"(\w+)"', request.one("symbols"))
        return [row for row in self.engine.products.values() if not wanted or row.base + row.quote in wanted]

    def exchange_info(self, request: Request) -> Answer:
        with self.engine.lock:
            rows = [symbol_row(product) for product in self._some_products(request)]
        return 200, {
            "timezone": "UTC",
            "serverTime": self._millis(),
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": rows,
        }

    def depth(self, request: Request) -> Answer:
        with self.engine.lock:
            book = self.engine.book_of(self._product(request).product_id)
            limit = request.number("limit", 100, 5000)
            sides = {
                name: [[plain(price), plain(size)] for price, size in levels[:limit]]
                for name, levels in (("bids", book.bids), ("asks", book.asks))
            }
        return 200, {"lastUpdateId": len(book.prints), **sides}

    def klines(self, request: Request) -> Answer:
        seconds = INTERVALS.get(request.one("interval"))
        if seconds is None:
            raise Rejected(400, -1120, "Invalid interval.")
        limit, now = request.number("limit", 500, 1000), self._millis() // 1000
        start = int(request.one("startTime") or (now - limit * seconds) * 1000) // 1000
        end = int(request.one("endTime") or now * 1000) // 1000
        with self.engine.lock:
            rows = self.engine.candles(self._product(request).product_id, seconds, start, end)
        rows = rows[:limit] if request.one("startTime") else rows[-limit:]
        return 200, [[row[0] * 1000, *row[1:], (row[0] + seconds) * 1000 - 1, "0", 0, "0", "0", "0"] for row in rows]

    def tickers(self, request: Request) -> Answer:
        with self.engine.lock:
            rows = [self._ticker_row(product) for product in self._some_products(request)]
        return 200, rows[0] if request.one("symbol") else rows

    def _ticker_row(self, product: Product) -> dict[str, Any]:
        book = self.engine.book_of(product.product_id)
        last, now = plain(book.last or ZERO), self._millis()
        return {
            **self._best(product),
            "lastPrice": last,
            "openPrice": last,
            "highPrice": last,
            "lowPrice": last,
            "prevClosePrice": last,
            "weightedAvgPrice": last,
            "priceChange": "0",
            "priceChangePercent": "0",
            "volume": "0",
            "quoteVolume": "0",
            "openTime": now - 86_400_000,
            "closeTime": now,
        }

    def prices(self, request: Request) -> Answer:
        with self.engine.lock:
            rows = [
                {"symbol": row.base + row.quote, "price": plain(self.engine.book_of(row.product_id).last or ZERO)}
                for row in self._some_products(request)
            ]
        return 200, rows[0] if request.one("symbol") else rows

    def _best(self, product: Product) -> dict[str, str]:
        book = self.engine.book_of(product.product_id)
        bid = book.bids[0] if book.bids else [ZERO, ZERO]
        ask = book.asks[0] if book.asks else [ZERO, ZERO]
        return {
            "symbol": product.base + product.quote,
            "bidPrice": plain(bid[0]),
            "bidQty": plain(bid[1]),
            "askPrice": plain(ask[0]),
            "askQty": plain(ask[1]),
        }

    def book_tickers(self, request: Request) -> Answer:
        with self.engine.lock:
            rows = [self._best(product) for product in self._some_products(request)]
        return 200, rows[0] if request.one("symbol") else rows

    # The account ------------------------------------------------------------------------------------------------------

    def account(self, request: Request) -> Answer:
        with self.engine.lock:
            account = self.engine.accounts[request.account]
            balances = [
                {"asset": name, "free": plain(row.available), "locked": plain(row.hold)}
                for name, row in account.wallets.items()
            ]
        rates = {"maker": plain(account.maker), "taker": plain(account.taker), "buyer": "0", "seller": "0"}
        return 200, {
            "commissionRates": rates,
            "canTrade": request.key is not None and request.key.can_trade,
            "canWithdraw": request.key is not None and request.key.can_transfer,
            "canDeposit": True,
            "updateTime": self._millis(),
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
        }

    def restrictions(self, request: Request) -> Answer:
        key = request.key
        assert key is not None
        return 200, {
            "ipRestrict": False,
            "createTime": 1_700_000_000_000,
            "enableReading": key.can_view,
            "enableSpotAndMarginTrading": key.can_trade,
            "enableWithdrawals": key.can_transfer,
        }

    def coins(self, request: Request) -> Answer:
        with self.engine.lock:
            names = sorted({name for row in self.engine.products.values() for name in (row.base, row.quote)})
        return 200, [{"coin": name, "name": name, "trading": True, "networkList": []} for name in names]

    def trade_fees(self, request: Request) -> Answer:
        with self.engine.lock:
            account = self.engine.accounts[request.account]
            rates = {"makerCommission": plain(account.maker), "takerCommission": plain(account.taker)}
            return 200, [{"symbol": row.base + row.quote, **rates} for row in self._some_products(request)]

    # Orders -----------------------------------------------------------------------------------------------------------

    def create(self, request: Request) -> Answer:
        if request.key is None or not request.key.can_trade:
            raise Forbidden("Invalid API-key, IP, or permissions for action.")
        engine = self.engine
        with engine.lock:
            ask = self._read_ask(request)
            known = engine.by_client.get((request.account, ask.client_order_id), [])
            if any(row.status in WORKING for row in known):
                raise Rejected(400, -2010, "Duplicate order sent.")
            drawn = self.faults.draw(ORDER, "POST", request.path, request.account, (ask.client_order_id,))
            faults = {fault.action: fault for fault in drawn}
            try:
                if "reject" in faults:
                    raise Refused(faults["reject"].reason, "refused on order")
                partial = Decimal(faults["partial"].share) if "partial" in faults else None
                order = engine.place(request.account, ask, partial=partial)
            except Refused as refusal:
                raise Rejected(400, *REASONS.get(refusal.reason, (-2010, refusal.message))) from None
            order.hidden_looks = faults["hidden"].looks if "hidden" in faults else 0
            order.late_looks = faults["late_fills"].looks if "late_fills" in faults else 0
            if "venue_cancel" in faults:
                engine.cancel(order, "Cancelled by the venue")
            return 200, order_row(order, engine, with_fills=True)

    def _read_ask(self, request: Request) -> Ask:
        product, kind, side = self._product(request), request.one("type"), request.one("side")
        if side not in ("BUY", "SELL"):
            raise Rejected(400, -1117, "Invalid side.")
        if kind not in ("MARKET", "LIMIT", "LIMIT_MAKER"):
            raise Rejected(400, -1116, "Invalid orderType.")
        needed = {"MARKET": [], "LIMIT": ["timeInForce", "quantity", "price"], "LIMIT_MAKER": ["quantity", "price"]}[
            kind
        ]
        for name in needed:
            if not request.one(name):
                raise Rejected(400, -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        sizes = {name: request.one(name) for name in ("quantity", "quoteOrderQty") if request.one(name)}
        if len(sizes) != 1 or ("quoteOrderQty" in sizes and kind != "MARKET"):
            raise Rejected(400, -1106, "Exactly one of quantity and quoteOrderQty is needed.")
        client_order_id = request.one("newClientOrderId") or self.engine.make_id()
        if not re.fullmatch(r"[.A-Z:/a-z0-9_-]{1,36}", client_order_id):
            raise Rejected(400, -1100, "Illegal characters found in parameter 'newClientOrderId'.")
        try:
            amounts = {name: amount_of(name, value) for name, value in sizes.items()}
            price = amount_of("price", request.one("price")) if kind != "MARKET" else None
        except Malformed as error:
            raise Rejected(400, -1100, error.message) from None
        in_force = request.one("timeInForce") if kind == "LIMIT" else {"MARKET": "IOC", "LIMIT_MAKER": "GTC"}[kind]
        if in_force not in ("GTC", "IOC", "FOK"):
            raise Rejected(400, -1115, "Invalid timeInForce.")
        return Ask(
            product.product_id,
            side,
            client_order_id,
            base_size=amounts.get("quantity"),
            quote_size=amounts.get("quoteOrderQty"),
            limit_price=price,
            time_in_force=in_force,
            post_only=kind == "LIMIT_MAKER",
            fee_in_base=True,
            quote_with_fees=False,
        )

    def _find(self, request: Request) -> VenueOrder:
        """Return the order asked for by id or client id (the newest one with it). Raises Rejected."""
        product = self._product(request)
        order_id, client_order_id = request.one("orderId"), request.one("origClientOrderId")
        if not order_id and not client_order_id:
            raise Rejected(400, -1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        for order in reversed(self.engine.orders.values()):
            is_it = str(order.number) == order_id if order_id else order.client_order_id == client_order_id
            if is_it and order.account == request.account and order.ask.product_id == product.product_id:
                return order
        raise Rejected(400, -2013, "Order does not exist.")

    def look_up(self, request: Request) -> Answer:
        with self.engine.lock:
            order = self._find(request)
            hidden = order.hidden_looks > 0
            self.engine.take_looks([order])
            if hidden:
                raise Rejected(400, -2013, "Order does not exist.")
            return 200, order_row(order, self.engine)

    def cancel(self, request: Request) -> Answer:
        with self.engine.lock:
            try:
                order = self._find(request)
            except Rejected:
                raise Rejected(400, -2011, "Unknown order sent.") from None
            if order.status not in WORKING:
                raise Rejected(400, -2011, "Unknown order sent.")
            ids = (order.client_order_id, str(order.number))
            for fault in self.faults.draw(CANCEL, "DELETE", request.path, request.account, ids):
                if fault.action == "race":
                    self.engine.race_with_cancel(order, Decimal(fault.share))
                else:
                    order.pending_cancel, order.race = True, Decimal(fault.share)
            if not order.pending_cancel:
                self.engine.cancel(order)
            return 200, order_row(order, self.engine) | {"origClientOrderId": order.client_order_id}

    def _listed(self, request: Request, *, working: bool) -> list[dict[str, Any]]:
        name = self._product(request).product_id if request.one("symbol") else ""
        rows = [
            row
            for row in self.engine.orders.values()
            if row.account == request.account and name in ("", row.ask.product_id)
        ]
        hidden = {row.order_id for row in rows if row.hidden_looks}
        self.engine.take_looks(rows)
        seen = [row for row in rows if row.order_id not in hidden and (not working or row.status in WORKING)]
        return [order_row(row, self.engine) for row in seen]

    def open_orders(self, request: Request) -> Answer:
        with self.engine.lock:
            rows = self._listed(request, working=True)
        return 200, self.faults.disorder(rows, "GET", request.path, request.account)

    def all_orders(self, request: Request) -> Answer:
        with self.engine.lock:
            self._product(request)
            rows = self._listed(request, working=False)[-request.number("limit", 500, 1000) :]
        return 200, self.faults.disorder(rows, "GET", request.path, request.account)

    def my_trades(self, request: Request) -> Answer:
        with self.engine.lock:
            product, order_id = self._product(request), request.one("orderId")
            start, end = int(request.one("startTime") or 0), int(request.one("endTime") or 1 << 60)
            late = set()
            for order in self.engine.orders.values():
                if order.account == request.account and order.late_looks and order.fills:
                    late.add(order.order_id)
                    order.late_looks -= 1
            rows = [
                trade_row(row, self.engine)
                for row in self.engine.fills
                if row.account == request.account
                and row.product_id == product.product_id
                and row.order_id not in late
                and order_id in ("", str(self.engine.orders[row.order_id].number))
                and start <= row.at.timestamp() * 1000 <= end
                and row.number >= int(request.one("fromId") or 0)
            ]
        rows = rows[: request.number("limit", 500, 1000)] if start else rows[-request.number("limit", 500, 1000) :]
        return 200, self.faults.disorder(rows, "GET", request.path, request.account)
