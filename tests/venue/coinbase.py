"""The fake venue's first dialect: Coinbase Advanced Trade (``/api/v3/brokerage``) and the wallets of ``/v2``."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tests.venue import coinbase_shapes as shapes
from tests.venue.coinbase_market import Market
from tests.venue.engine import Engine
from tests.venue.faults import CANCEL, ORDER, Faults
from tests.venue.model import ONE, WORKING, ZERO, Malformed, Refused, Status, VenueOrder, plain
from tests.venue.wire import Answer, Forbidden, Handler, NotFound, Request, amount_of, page

API = "/api/v3/brokerage"
GRANULARITIES = {
    "ONE_MINUTE": 60,
    "FIVE_MINUTE": 300,
    "FIFTEEN_MINUTE": 900,
    "THIRTY_MINUTE": 1800,
    "ONE_HOUR": 3600,
    "TWO_HOUR": 7200,
    "FOUR_HOUR": 14_400,
    "SIX_HOUR": 21_600,
    "ONE_DAY": 86_400,
}
MOST_CANDLES, TOO_MANY_CANDLES = 300, 350
STATUSES = {str(status) for status in Status} | {"QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED", "UNKNOWN_ORDER_STATUS"}
MESSAGES = {"INSUFFICIENT_FUND": "Insufficient balance in source account"}


class Coinbase(Market):
    """Reads requests, asks the engine, writes answers: every number a string, as the real one does."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self.engine, self.faults = engine, faults
        private: dict[tuple[str, str], Handler] = {
            ("GET", f"{API}/accounts"): self.accounts,
            ("GET", f"{API}/accounts/*"): self.account,
            ("GET", f"{API}/products"): self.products,
            ("GET", f"{API}/products/*"): self.product,
            ("GET", f"{API}/products/*/candles"): self.candles,
            ("GET", f"{API}/products/*/ticker"): self.ticker,
            ("GET", f"{API}/product_book"): self.product_book,
            ("GET", f"{API}/best_bid_ask"): self.best_bid_ask,
            ("GET", f"{API}/transaction_summary"): self.transaction_summary,
            ("GET", f"{API}/key_permissions"): self.key_permissions,
            ("GET", f"{API}/portfolios"): self.portfolios,
            ("POST", f"{API}/orders"): self.create,
            ("POST", f"{API}/orders/preview"): self.preview,
            ("POST", f"{API}/orders/edit"): self.edit,
            ("POST", f"{API}/orders/edit_preview"): self.edit_preview,
            ("POST", f"{API}/orders/batch_cancel"): self.batch_cancel,
            ("GET", f"{API}/orders/historical/batch"): self.list_orders,
            ("GET", f"{API}/orders/historical/fills"): self.list_fills,
            ("GET", f"{API}/orders/historical/*"): self.one_order,
            ("GET", "/v2/accounts"): self.wallets,
            ("GET", "/v2/accounts/*"): self.wallet,
            ("GET", "/v2/accounts/*/transactions"): self.transactions,
        }
        public: dict[tuple[str, str], Handler] = {
            ("GET", f"{API}/time"): self.time,
            ("GET", f"{API}/market/products"): self.products,
            ("GET", f"{API}/market/products/*"): self.product,
            ("GET", f"{API}/market/products/*/candles"): self.candles,
            ("GET", f"{API}/market/products/*/ticker"): self.ticker,
            ("GET", f"{API}/market/product_book"): self.product_book,
            ("GET", "/v2/time"): self.time_v2,
            ("GET", "/v2/currencies"): self.currencies,
            ("GET", "/v2/currencies/crypto"): self.cryptos,
            ("GET", "/v2/exchange-rates"): self.exchange_rates,
        }
        self.routes = {key: (handler, True) for key, handler in private.items()}
        self.routes |= {key: (handler, False) for key, handler in public.items()}

    @staticmethod
    def speaks(path: str) -> bool:
        """Return whether a path belongs to this dialect."""
        return path.startswith((f"{API}/", "/v2/"))

    @staticmethod
    def error(status: int, text: str = "", field: str = "") -> Any:
        """Return the body of an error answer."""
        if status == 401:
            return "Unauthorized\n"
        if status == 429:
            return {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}
        words = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
        return {"error": words.get(status, "INTERNAL"), "error_details": text, "message": text}

    # Orders -----------------------------------------------------------------------------------------------------------

    def create(self, request: Request) -> Answer:
        _may_trade(request)
        ask = shapes.read_ask(request.body)
        engine = self.engine
        with engine.lock:
            if (known := engine.known(request.account, ask.client_order_id)) is not None:
                return 200, _accepted(known)
            drawn = self.faults.draw(ORDER, "POST", request.path, request.account, (ask.client_order_id,))
            faults = {fault.action: fault for fault in drawn}
            try:
                if "reject" in faults:
                    raise Refused(faults["reject"].reason, "refused on order", f"PREVIEW_{faults['reject'].reason}")
                if any(name.startswith("stop_") for name in ask.configuration):
                    raise Refused("UNSUPPORTED_ORDER_CONFIGURATION", "no stop orders here", "PREVIEW_UNSUPPORTED")
                if ask.end_time is not None and ask.end_time <= engine.now():
                    raise Refused("INVALID_END_TIME", "end_time is over", "PREVIEW_INVALID_END_TIME")
                partial = Decimal(faults["partial"].share) if "partial" in faults else None
                pending = faults["pending"].looks if "pending" in faults else 0
                order = engine.place(request.account, ask, partial=partial, pending=pending)
            except Refused as refusal:
                return 200, _refused(refusal, ask.configuration)
            order.hidden_looks = faults["hidden"].looks if "hidden" in faults else 0
            order.late_looks = faults["late_fills"].looks if "late_fills" in faults else 0
            if "venue_cancel" in faults:
                engine.cancel(order, "Cancelled by the venue")
            return 200, _accepted(order)

    def preview(self, request: Request) -> Answer:
        ask = shapes.read_ask(request.body, is_preview=True)
        with self.engine.lock:
            errors: list[str] = []
            claim = ZERO
            try:
                claim = self.engine.check(request.account, ask)
            except Refused as refusal:
                if refusal.reason == "INVALID_PRODUCT_ID":
                    raise Malformed("product_id", refusal.message) from None
                errors = [refusal.preview]
            account, book = self.engine.accounts[request.account], self.engine.book_of(ask.product_id)
            price = ask.limit_price or book.last or ONE
            value = ask.quote_size if ask.quote_size is not None else (ask.base_size or ZERO) * price
            return 200, {
                "order_total": plain(claim),
                "commission_total": plain(value * account.taker),
                "errs": errors,
                "warning": [],
                "quote_size": plain(value),
                "base_size": plain(ask.base_size if ask.base_size is not None else value / price),
                "best_bid": plain(book.bids[0][0]) if book.bids else "",
                "best_ask": plain(book.asks[0][0]) if book.asks else "",
                "is_max": False,
                "order_margin_total": "",
                "leverage": "",
                "slippage": "0",
                "preview_id": self.engine.make_id(),
                "average_filled_price": plain(price),
            }

    def _own(self, request: Request, order_id: Any) -> VenueOrder | None:
        order = self.engine.orders.get(order_id) if isinstance(order_id, str) else None
        return order if order is not None and order.account == request.account else None

    def _edit(self, request: Request, *, really: bool) -> Answer:
        _may_trade(request)
        for name in request.body:
            if name not in ("order_id", "price", "size"):
                raise Malformed(name, "unknown field")
        price, size = amount_of("price", request.body.get("price")), amount_of("size", request.body.get("size"))
        with self.engine.lock:
            order = self._own(request, request.body.get("order_id"))
            try:
                if order is None:
                    raise Refused("ORDER_NOT_FOUND", "Order not found")
                if really:
                    self.engine.edit(order, price, size)
                elif order.status is not Status.OPEN:
                    raise Refused("ORDER_NOT_EDITABLE", "only an open order can be edited")
            except Refused as refusal:
                reasons = {"edit_failure_reason": refusal.reason, "preview_failure_reason": refusal.preview}
                return 200, {"success": False, "errors": [reasons]}
        if really:
            return 200, {"success": True, "success_response": {"order_id": order.order_id}, "errors": []}
        return 200, {"errors": [], "order_total": plain(price * size), "slippage": "0"}

    def edit(self, request: Request) -> Answer:
        return self._edit(request, really=True)

    def edit_preview(self, request: Request) -> Answer:
        return self._edit(request, really=False)

    def batch_cancel(self, request: Request) -> Answer:
        _may_trade(request)
        ids = request.body.get("order_ids")
        if not isinstance(ids, list) or not ids or not all(isinstance(name, str) for name in ids) or len(ids) > 100:
            raise Malformed("order_ids", "from 1 to 100 ids are needed")
        for name in request.body:
            if name != "order_ids":
                raise Malformed(name, "unknown field")
        with self.engine.lock:
            return 200, {"results": [self._cancel_one(request, order_id) for order_id in ids]}

    def _cancel_one(self, request: Request, order_id: str) -> dict[str, Any]:
        order, reason = self._own(request, order_id), "UNKNOWN_CANCEL_FAILURE_REASON"
        if order is None:
            return {"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": order_id}
        if order.status not in WORKING:
            return {"success": False, "failure_reason": "COMMANDER_REJECTED_CANCEL_ORDER", "order_id": order_id}
        if order.pending_cancel:
            return {"success": False, "failure_reason": "DUPLICATE_CANCEL_REQUEST", "order_id": order_id}
        for fault in self.faults.draw(
            CANCEL, "POST", request.path, request.account, (order.client_order_id, order.order_id)
        ):
            if fault.action == "race":
                self.engine.race_with_cancel(order, Decimal(fault.share))
            else:
                order.pending_cancel, order.race = True, Decimal(fault.share)
        if not order.pending_cancel:
            self.engine.cancel(order)
        return {"success": True, "failure_reason": reason, "order_id": order_id}

    # Looking orders and fills up --------------------------------------------------------------------------------------

    def _visible(self, orders: Iterable[VenueOrder]) -> list[VenueOrder]:
        """Return what can be seen of ``orders`` at this look."""
        rows = list(orders)
        hidden = {row.order_id for row in rows if row.hidden_looks}
        self.engine.take_looks(rows)
        return [row for row in rows if row.order_id not in hidden]

    def list_orders(self, request: Request) -> Answer:
        statuses = request.many("order_status")
        for status in statuses:
            if status not in STATUSES:
                raise Malformed("order_status", f"unknown status {status!r}")
        if "OPEN" in statuses and len(statuses) > 1:
            raise Malformed("order_status", "OPEN cannot be paired with other statuses")
        size = request.number("limit", 1000, 1000)
        starts, ends = request.moment("start_date"), request.moment("end_date")
        ids, products = request.many("order_ids"), request.many("product_ids", "product_id")
        sides = request.many("order_side")
        with self.engine.lock:
            self.engine.expire_due()
            wanted = [
                row
                for row in reversed(self.engine.orders.values())
                if row.account == request.account
                and (not ids or row.order_id in ids)
                and (not products or row.ask.product_id in products)
                and (not sides or row.ask.side in sides)
                and (starts is None or row.created_at >= starts)
                and (ends is None or row.created_at < ends)
            ]
            shown = [row for row in self._visible(wanted) if not statuses or str(row.status) in statuses]
            account = self.engine.accounts[request.account]
            rows, cursor = page(shown, int(request.one("cursor") or 0), size)
            orders = [shapes.order_row(row, account) for row in rows]
        orders = self.faults.disorder(orders, "GET", request.path, request.account)
        return 200, {"orders": orders, "sequence": "0", "has_next": bool(cursor), "cursor": cursor}

    def one_order(self, request: Request) -> Answer:
        with self.engine.lock:
            self.engine.expire_due()
            order = self._own(request, request.part)
            seen = self._visible([order]) if order is not None else []
            if not seen:
                raise NotFound("order with this orderID was not found")
            return 200, {"order": shapes.order_row(seen[0], self.engine.accounts[request.account])}

    def list_fills(self, request: Request) -> Answer:
        size = request.number("limit", 100, 3000)
        starts, ends = request.moment("start_sequence_timestamp"), request.moment("end_sequence_timestamp")
        ids, products = request.many("order_ids", "order_id"), request.many("product_ids", "product_id")
        trades = request.many("trade_ids")
        with self.engine.lock:
            late = self._late_orders(request.account, ids)
            wanted = [
                row
                for row in reversed(self.engine.fills)
                if row.account == request.account
                and row.order_id not in late
                and (not ids or row.order_id in ids)
                and (not products or row.product_id in products)
                and (not trades or row.trade_id in trades)
                and (starts is None or row.at >= starts)
                and (ends is None or row.at < ends)
            ]
            rows, cursor = page(wanted, int(request.one("cursor") or 0), size)
            account = self.engine.accounts[request.account]
            fills = [shapes.fill_row(row, account) for row in rows]
        fills = self.faults.disorder(fills, "GET", request.path, request.account)
        return 200, {"fills": fills, "cursor": cursor}

    def _late_orders(self, account: str, ids: list[str]) -> set[str]:
        """Return the orders whose fills this listing leaves out, and count the look."""
        late = set()
        for order in self.engine.orders.values():
            if order.account != account or not (order.late_looks or order.hidden_looks):
                continue
            if order.late_looks and order.fills and not order.hidden_looks and (not ids or order.order_id in ids):
                order.late_looks -= 1
            late.add(order.order_id)
        return late


def _may_trade(request: Request) -> None:
    if request.key is None or not request.key.can_trade:
        raise Forbidden("Missing required scopes")


def _accepted(order: VenueOrder) -> dict[str, Any]:
    answer = {
        "order_id": order.order_id,
        "product_id": order.ask.product_id,
        "side": order.ask.side,
        "client_order_id": order.client_order_id,
        "attached_order_id": "",
    }
    return {"success": True, "success_response": answer, "order_configuration": order.ask.configuration}


def _refused(refusal: Refused, configuration: dict[str, Any]) -> dict[str, Any]:
    error = {
        "error": refusal.reason,
        "message": MESSAGES.get(refusal.reason, refusal.message),
        "error_details": refusal.message,
        "preview_failure_reason": refusal.preview,
    }
    return {"success": False, "error_response": error, "order_configuration": configuration}
