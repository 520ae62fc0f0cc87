"""The fake venue's third dialect: Bybit (API v5), spot and linear perpetuals. Its habits:

- answers have status 200 and say in ``retCode`` what went wrong; numbers are texts;
- the category of every request is said, and ``BTCUSDT`` is a product in two of them;
- spot orders pay a buy's fee in base; contracts tell a fee without its currency, and list funding as an execution;
- lists of contracts need a symbol or a settlement currency; times in a list are seven days apart at most.

Requests are signed by HMAC over time, key, window and what is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from tests.venue import bybit_shapes as shapes
from tests.venue.contracts import Contract, ContractOrder, Contracts, No
from tests.venue.engine import Engine
from tests.venue.faults import CANCEL, ORDER, Faults
from tests.venue.keys import ApiKey, Keyring
from tests.venue.model import WORKING, Ask, Malformed, Product, Refused, VenueOrder, plain
from tests.venue.wire import Answer, Request, amount_of, page

API = "/v5/"
WEEK_MILLIS = 7 * 86_400_000
REASONS = {
    "INSUFFICIENT_FUND": (170131, "Insufficient balance."),
    "INVALID_SIZE_PRECISION": (170137, "Order quantity has too many decimals."),
    "INVALID_PRICE_PRECISION": (170134, "Order price has too many decimals."),
    "INVALID_ORDER_SIZE": (170140, "Order value exceeded lower limit."),
    "PRODUCT_DISABLED": (170121, "Invalid symbol."),
}
CODES = {400: 10001, 401: 10003, 403: 10005, 404: 10001, 429: 10006}
INTERVALS = {"1": 60, "3": 180, "5": 300, "15": 900, "30": 1800, "60": 3600, "120": 7200, "240": 14_400, "D": 86_400}


class Bybit:
    """Reads requests, asks the engine or the contracts, writes answers."""

    def __init__(self, engine: Engine, contracts: Contracts, faults: Faults) -> None:
        self.engine, self.contracts, self.faults = engine, contracts, faults
        self.clock_skew = 0.0
        public: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("GET", "/v5/market/time"): self.time,
            ("GET", "/v5/market/instruments-info"): self.instruments,
            ("GET", "/v5/market/tickers"): self.tickers,
            ("GET", "/v5/market/orderbook"): self.orderbook,
            ("GET", "/v5/market/kline"): self.kline,
            ("GET", "/v5/market/funding/history"): self.funding_history,
        }
        private: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("GET", "/v5/account/wallet-balance"): self.wallet,
            ("GET", "/v5/account/info"): self.account_info,
            ("GET", "/v5/account/fee-rate"): self.fee_rate,
            ("GET", "/v5/account/transaction-log"): self.transaction_log,
            ("POST", "/v5/account/set-margin-mode"): self.set_margin_mode,
            ("GET", "/v5/user/query-api"): self.query_api,
            ("GET", "/v5/position/list"): self.positions,
            ("POST", "/v5/position/set-leverage"): self.set_leverage,
            ("POST", "/v5/order/create"): self.create,
            ("POST", "/v5/order/cancel"): self.cancel,
            ("GET", "/v5/order/realtime"): self.realtime,
            ("GET", "/v5/order/history"): self.history,
            ("GET", "/v5/execution/list"): self.executions,
        }
        self.routes = {key: (self._told(handler), False) for key, handler in public.items()}
        self.routes |= {key: (self._told(handler), True) for key, handler in private.items()}

    @staticmethod
    def speaks(path: str) -> bool:
        """Return whether a path is one of this dialect."""
        return path.startswith(API)

    @staticmethod
    def error(status: int, text: str = "", field: str = "") -> Any:
        """Return the body of an error answer."""
        return _envelope(CODES.get(status, 10016), text or "Server error.", {})

    @staticmethod
    def refused(error: No) -> Any:
        """Return the body of a no."""
        return _envelope(error.code, error.message, {})

    def _told(self, handler: Callable[[Request], Any]) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            try:
                if _linear(request) and request.key is not None and not request.key.can_trade_contracts:
                    raise No(10005, "Permission denied, please check your API key permissions.")
                if request.one("category") == "inverse":  # there are none here
                    return 200, _envelope(0, "OK", {"category": "inverse", "list": [], "nextPageCursor": ""})
                with self.engine.lock:
                    return 200, _envelope(0, "OK", handler(request))
            except No as error:
                return 200, self.refused(error)
            except Malformed as error:
                return 200, _envelope(10001, error.message, {})

        return answer

    def verify(self, keyring: Keyring, request: Request, raw: bytes, now: float) -> ApiKey:
        """Return the key whose secret signed what was sent. Raises No."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        key = keyring.keys.get(headers.get("x-bapi-api-key", ""))
        if key is None or key.public is not None or key.is_revoked:
            raise No(10003, "API key is invalid.")
        stamp, window = headers.get("x-bapi-timestamp", ""), headers.get("x-bapi-recv-window", "5000")
        signed = stamp + key.name + window + (raw.decode() if request.method == "POST" else request.raw_query)
        wanted = hmac.new(key.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(headers.get("x-bapi-sign", ""), wanted):
            raise No(10004, "error sign! please check your signature generation algorithm.")
        if not -int(window) <= int(stamp) - now * 1000 <= 1000:
            raise No(10002, "invalid request, please check your server timestamp or recv_window param.")
        return key

    # Public -----------------------------------------------------------------------------------------------------------

    def _millis(self) -> int:
        return int((time.time() + self.clock_skew) * 1000)

    def time(self, request: Request) -> Any:
        return {"timeSecond": str(self._millis() // 1000), "timeNano": str(self._millis() * 1_000_000)}

    def _product(self, word: Any) -> Product:
        for product in self.engine.products.values():
            if product.base + product.quote == word:
                return product
        raise No(170121, "Invalid symbol.")

    def instruments(self, request: Request) -> Any:
        if not _linear(request):
            return {"category": "spot", "list": [shapes.pair_row(row) for row in self.engine.products.values()]}
        is_early = request.one("status") == "PreLaunch"
        found = [] if is_early else [shapes.contract_row(row) for row in self.contracts.contracts.values()]
        return {"category": "linear", "list": found, "nextPageCursor": ""}

    def tickers(self, request: Request) -> Any:
        if _linear(request):
            found = [shapes.contract_ticker(row) for row in self.contracts.contracts.values()]
        else:
            found = [shapes.pair_ticker(row, self.engine) for row in self.engine.products.values()]
        return {"category": request.one("category"), "list": found}

    def orderbook(self, request: Request) -> Any:
        limit = request.number("limit", 25, 500)
        if _linear(request):
            contract = self.contracts.by_word(request.one("symbol"))
            steps = [contract.price_increment * number for number in range(limit)]
            bids = [[plain(contract.last - step), "1000"] for step in steps]
            asks = [[plain(contract.ask + step), "1000"] for step in steps]
        else:
            book = self.engine.book_of(self._product(request.one("symbol")).product_id)
            bids, asks = (
                [[plain(price), plain(size)] for price, size in side[:limit]] for side in (book.bids, book.asks)
            )
        return {"s": request.one("symbol"), "b": bids, "a": asks, "ts": self._millis(), "u": 1}

    def kline(self, request: Request) -> Any:
        """Candles of a contract are those of its pair."""
        seconds = INTERVALS.get(request.one("interval"))
        if seconds is None:
            raise No(10001, "Invalid period!")
        product = self._product(request.one("symbol"))
        limit, start = request.number("limit", 200, 1000), int(request.one("start") or 0) // 1000
        end = int(request.one("end") or self._millis()) // 1000
        found = self.engine.candles(product.product_id, seconds, start, end)[:limit]
        rows = [[str(row[0] * 1000), *row[1:], "0"] for row in reversed(found)]
        return {"category": request.one("category"), "symbol": request.one("symbol"), "list": rows}

    def funding_history(self, request: Request) -> Any:
        contract = self.contracts.by_word(request.one("symbol"))
        start, end = int(request.one("startTime") or 0), int(request.one("endTime") or 1 << 60)
        rows = [
            {"symbol": contract.word, "fundingRate": plain(rate), "fundingRateTimestamp": shapes.millis(at)}
            for at, rate in contract.rates
            if start <= int(shapes.millis(at)) <= end
        ]
        return {"category": "linear", "list": rows[::-1]}

    # The account ------------------------------------------------------------------------------------------------------

    def wallet(self, request: Request) -> Any:
        coins = []
        for name, wallet in self.engine.accounts[request.account].wallets.items():
            positions, orders = self.contracts.margin_of(request.account, name)
            coins.append(
                {
                    "coin": name,
                    "equity": plain(wallet.balance),
                    "walletBalance": plain(wallet.balance),
                    "locked": plain(wallet.hold),
                    "totalOrderIM": plain(orders),
                    "totalPositionIM": plain(positions),
                    "availableToWithdraw": "",
                    "unrealisedPnl": "0",
                }
            )
        return {"list": [{"accountType": "UNIFIED", "coin": coins}]}

    def account_info(self, request: Request) -> Any:
        mode = self.contracts.terms_of(request.account).margin_mode
        return {"marginMode": mode, "updatedTime": "1697078946000", "unifiedMarginStatus": 5, "isMasterTrader": False}

    def set_margin_mode(self, request: Request) -> Any:
        terms = self.contracts.terms_of(request.account)
        if terms.is_mode_locked:
            raise No(3400045, "Set margin mode failed")
        terms.margin_mode = request.body["setMarginMode"]
        return {"reasons": []}

    def fee_rate(self, request: Request) -> Any:
        account = self.engine.accounts[request.account]
        rates = {"makerFeeRate": plain(account.maker), "takerFeeRate": plain(account.taker)}
        return {"list": [{"symbol": request.one("symbol"), **rates}]}

    def query_api(self, request: Request) -> Any:
        key = request.key
        assert key is not None
        return {
            "readOnly": 0 if key.can_trade else 1,
            "permissions": {
                "Spot": ["SpotTrade"] if key.can_trade else [],
                "ContractTrade": ["Order", "Position"] if key.can_trade_contracts else [],
                "Wallet": ["Withdraw"] if key.can_transfer else ["AccountTransfer"],
            },
            "uta": 1,
        }

    def transaction_log(self, request: Request) -> Any:
        start, end = _times(request)
        rows = [
            shapes.log_row(row)
            for row in self.contracts.log
            if row.account == request.account
            and request.one("type") in ("", row.kind)
            and request.one("currency") in ("", row.contract.quote)
            and start <= int(shapes.millis(row.at)) <= end
        ]
        return self._page(request, rows[::-1], 20, 50)

    def positions(self, request: Request) -> Any:
        terms = self.contracts.terms_of(request.account)
        if request.one("symbol"):
            some = [self.contracts.by_word(request.one("symbol"))]
        elif request.one("settleCoin"):
            some = [row for row in self._settled(request) if self.contracts.position(request.account, row).size]
        else:
            raise No(10001, "params error: symbol or settleCoin is needed")
        rows = [
            shapes.position_row(
                row,
                self.contracts.position(request.account, row),
                self.contracts.leverage(request.account, row),
                self.contracts.position_margin(request.account, row),
                idx,
            )
            for row in some
            for idx in ((1, 2) if terms.is_hedged else (0,))
        ]
        return self._page(request, rows, 20, 200)

    def _settled(self, request: Request) -> list[Contract]:
        return [row for row in self.contracts.contracts.values() if row.quote == request.one("settleCoin")]

    def set_leverage(self, request: Request) -> Any:
        body = request.body
        contract, terms = self.contracts.by_word(body["symbol"]), self.contracts.terms_of(request.account)
        leverage = amount_of("buyLeverage", body["buyLeverage"])
        if body["buyLeverage"] != body["sellLeverage"]:
            raise No(10001, "buy leverage must equal sell leverage")
        if leverage > contract.max_leverage:
            raise No(110013, "cannot set leverage due to risk limit")
        if leverage == self.contracts.leverage(request.account, contract):
            raise No(110043, "leverage not modified")
        terms.leverage[contract.name] = leverage
        return {}

    # Orders -----------------------------------------------------------------------------------------------------------

    def create(self, request: Request) -> Any:
        if request.key is None or not request.key.can_trade:
            raise No(10005, "Permission denied, please check your API key permissions.")
        link_id = str(request.body.get("orderLinkId") or "")
        drawn = self.faults.draw(ORDER, "POST", request.path, request.account, (link_id,))
        faults = {fault.action: fault for fault in drawn}
        if "reject" in faults:
            raise No(*_refusal(faults["reject"].reason, is_linear=_linear(request)))
        order: Any = self._create_linear(request, link_id) if _linear(request) else self._create_spot(request, faults)
        order.hidden_looks = faults["hidden"].looks if "hidden" in faults else 0
        order.late_looks = faults["late_fills"].looks if "late_fills" in faults else 0
        return {"orderId": order.order_id, "orderLinkId": link_id}

    def _create_linear(self, request: Request, link_id: str) -> ContractOrder:
        body = request.body
        kind, side = body.get("orderType"), body.get("side")
        if kind not in ("Market", "Limit") or side not in ("Buy", "Sell"):
            raise No(10001, "params error: orderType or side")
        trigger = amount_of("triggerPrice", body["triggerPrice"]) if body.get("triggerPrice") else None
        return self.contracts.place(
            request.account,
            self.contracts.by_word(body.get("symbol")),
            side,
            amount_of("qty", body.get("qty")),
            link_id=link_id,
            price=amount_of("price", body.get("price")) if kind == "Limit" else None,
            trigger=trigger,
            direction=int(body.get("triggerDirection") or 0),
            reduce_only=bool(body.get("reduceOnly")),
            position_idx=int(body.get("positionIdx") or 0),
        )

    def _create_spot(self, request: Request, faults: Any) -> VenueOrder:
        body = request.body
        product, size = self._product(body.get("symbol")), amount_of("qty", body.get("qty"))
        by_quote = body.get("orderType") == "Market" and body.get("marketUnit") == "quoteCoin"
        ask = Ask(
            product.product_id,
            str(body.get("side")).upper(),
            str(body.get("orderLinkId") or ""),
            base_size=None if by_quote else size,
            quote_size=size if by_quote else None,
            limit_price=amount_of("price", body.get("price")) if body.get("orderType") == "Limit" else None,
            time_in_force="IOC" if body.get("orderType") == "Market" else "GTC",
            fee_in_base=True,
            quote_with_fees=False,
        )
        known = self.engine.by_client.get((request.account, ask.client_order_id), [])
        if ask.client_order_id and any(row.status in WORKING for row in known):
            raise No(170141, "Duplicate clientOrderId")
        try:
            partial = Decimal(faults["partial"].share) if "partial" in faults else None
            return self.engine.place(request.account, ask, partial=partial)
        except Refused as refusal:
            raise No(*_refusal(refusal.reason, is_linear=False)) from None

    def _orders(self, request: Request) -> list[Any]:
        if _linear(request):
            return [row for row in self.contracts.orders if row.account == request.account and row.is_listed]
        return [row for row in self.engine.orders.values() if row.account == request.account]

    def _named(self, request: Request, order_id: str, link_id: str) -> list[Any]:
        """Return orders by id or client id, the newest one first; looks are counted, hidden ones left out."""
        found = []
        for order in reversed(self._orders(request)):
            ours = order.link_id if isinstance(order, ContractOrder) else order.client_order_id
            if order.order_id == order_id if order_id else ours == link_id:
                if order.hidden_looks:
                    order.hidden_looks -= 1
                else:
                    found.append(order)
        return found

    def cancel(self, request: Request) -> Any:
        body = request.body
        named = self._named(request, str(body.get("orderId") or ""), str(body.get("orderLinkId") or ""))
        if not named:
            raise No(110001 if _linear(request) else 170213, "Order does not exist.")
        order = named[0]
        ours = order.link_id if isinstance(order, ContractOrder) else order.client_order_id
        races = self.faults.draw(CANCEL, "POST", request.path, request.account, (ours,))
        if isinstance(order, ContractOrder):
            for fault in races:
                if order.price is not None and order.is_working:
                    self.contracts.fill(order, order.price, order.remaining * Decimal(fault.share), is_maker=True)
            self.contracts.cancel(order)
        else:
            for fault in races:
                self.engine.race_with_cancel(order, Decimal(fault.share))
            if not self.engine.cancel(order):
                raise No(170142, "Order has been filled.")
        return {"orderId": order.order_id, "orderLinkId": ours}

    def _rows(self, orders: Iterable[Any]) -> list[dict[str, Any]]:
        return [
            shapes.contract_order(row) if isinstance(row, ContractOrder) else shapes.pair_order(row, self.engine)
            for row in orders
        ]

    def realtime(self, request: Request) -> Any:
        """Orders by id, working or ended; without an id, those that work."""
        order_id, link_id = request.one("orderId"), request.one("orderLinkId")
        if order_id or link_id:
            return self._page(request, self._rows(self._named(request, order_id, link_id)), 20, 50)
        if not _linear(request):
            return self._page(
                request, self._rows(row for row in self._orders(request) if row.status in WORKING), 20, 50
            )
        if not (request.one("symbol") or request.one("settleCoin")):
            raise No(10001, "params error: symbol or settleCoin is needed")
        some = [
            row
            for row in self._orders(request)
            if row.is_working
            and request.one("symbol") in ("", row.contract.word)
            and request.one("settleCoin") in ("", row.contract.quote)
        ]
        return self._page(request, self._rows(some), 20, 50)

    def history(self, request: Request) -> Any:
        return self._page(request, [], 20, 50)

    def executions(self, request: Request) -> Any:
        start, end = _times(request)
        order_id = request.one("orderId")
        if not request.one("startTime"):
            start = self._millis() - WEEK_MILLIS
        found = self._contract_fills(request) if _linear(request) else self._spot_fills(request)
        rows = [row for row in found if order_id in ("", row["orderId"]) and start <= int(row["execTime"]) <= end]
        rows.sort(key=lambda row: -int(row["execTime"]))
        return self._page(request, self.faults.disorder(rows, "GET", request.path, request.account), 50, 100)

    def _spot_fills(self, request: Request) -> list[dict[str, Any]]:
        late = _late(row for row in self._orders(request) if row.fills)
        return [
            shapes.pair_fill(row, self.engine)
            for row in self.engine.fills
            if row.account == request.account and row.order_id not in late
        ]

    def _contract_fills(self, request: Request) -> list[dict[str, Any]]:
        mine = [row for row in self.contracts.orders if row.account == request.account and row.fills]
        late = _late(mine)
        rows = [shapes.contract_fill(row, fill) for row in mine if row.order_id not in late for fill in row.fills]
        settled = [row for row in self.contracts.log if row.account == request.account and row.kind == "SETTLEMENT"]
        return rows + [shapes.funding_fill(row) for row in settled]

    def _page(self, request: Request, rows: list[Any], usual: int, most: int) -> Any:
        cursor = request.one("cursor")
        found, following = page(rows, int(cursor or 0), request.number("limit", usual, most))
        return {"category": request.one("category"), "list": found, "nextPageCursor": following}


def _linear(request: Request) -> bool:
    return (request.one("category") or request.body.get("category")) == "linear"


def _envelope(code: int, text: str, result: Any) -> dict[str, Any]:
    return {"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": int(time.time() * 1000)}


def _refusal(reason: str, *, is_linear: bool) -> tuple[int, str]:
    if is_linear:
        return (110007, "ab not enough for new order") if reason == "INSUFFICIENT_FUND" else (110003, "price invalid")
    return REASONS.get(reason, (170005, reason))


def _times(request: Request) -> tuple[int, int]:
    """Return the stretch that is asked for, which is no longer than seven days. Raises No."""
    start, end = int(request.one("startTime") or 0), int(request.one("endTime") or 1 << 60)
    if request.one("startTime") and end - start > WEEK_MILLIS:
        raise No(10001, "The time range between startTime and endTime cannot exceed 7 days")
    return start, end


def _late(orders: Iterable[Any]) -> set[str]:
    """Return the orders whose executions are not listed yet, and count this look."""
    late = set()
    for order in orders:
        if order.late_looks:
            order.late_looks -= 1
            late.add(order.order_id)
    return late
