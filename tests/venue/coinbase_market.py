"""Coinbase's market data, and what it says about an account: wallets, fees, permissions, history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.venue import coinbase_shapes as shapes
from tests.venue.engine import Engine
from tests.venue.model import ZERO, Malformed, Status, plain, stamp
from tests.venue.wire import Answer, NotFound, Request, page

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


class Market:
    """What is only looked at."""

    engine: Engine
    clock_skew = 0.0

    # Public -----------------------------------------------------------------------------------------------------------

    def _clock(self) -> datetime:
        """Return the time by which tokens are judged: not the market's, which a test may have moved."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_skew)

    def time(self, request: Request) -> Answer:
        now = self._clock()
        seconds = int(now.timestamp())
        iso = now.isoformat(timespec="seconds").replace("+00:00", "Z")
        millis = str(int(now.timestamp() * 1000))
        return 200, {"iso": iso, "epochSeconds": str(seconds), "epochMillis": millis}

    def time_v2(self, request: Request) -> Answer:
        now = self._clock()
        iso = now.isoformat(timespec="seconds").replace("+00:00", "Z")
        return 200, {"data": {"iso": iso, "epoch": int(now.timestamp())}}

    def _row(self, product_id: str) -> dict[str, Any]:
        engine = self.engine
        product = engine.products[product_id]
        family = [name for name, row in engine.products.items() if row.book == product.book and name != product_id]
        aliases = family if product.book == product_id else []
        return shapes.product_row(product, engine.book_of(product_id), aliases, engine.now())

    def products(self, request: Request) -> Answer:
        if request.one("product_type") not in ("", "SPOT", "UNKNOWN_PRODUCT_TYPE"):
            return 200, {"products": [], "num_products": 0}
        wanted = request.many("product_ids")
        with self.engine.lock:
            names = [name for name in self.engine.products if not wanted or name in wanted]
            size = request.number("limit", max(len(names), 1), 10_000)
            shown, cursor = page(names, int(request.one("cursor") or request.one("offset") or 0), size)
            rows = [self._row(name) for name in shown]
        paging = {"prev_cursor": "", "next_cursor": cursor, "has_next": bool(cursor), "has_prev": False}
        return 200, {"products": rows, "num_products": len(rows), "pagination": paging}

    def _known(self, request: Request, name: str = "") -> str:
        product_id = name or request.part
        if product_id not in self.engine.products:
            raise NotFound(f"ProductID {product_id!r} is invalid")
        return product_id

    def product(self, request: Request) -> Answer:
        with self.engine.lock:
            return 200, self._row(self._known(request))

    def candles(self, request: Request) -> Answer:
        product_id = self._known(request)
        seconds = GRANULARITIES.get(request.one("granularity"))
        if seconds is None:
            raise Malformed("granularity", f"unknown granularity {request.one('granularity')!r}")
        for name in ("start", "end"):
            if not request.one(name).isdigit():
                raise Malformed(name, "Unix seconds are needed")
        start, end = int(request.one("start")), int(request.one("end"))
        if (end - start) // seconds >= TOO_MANY_CANDLES:
            raise Malformed("start", f"number of candles requested should be less than {TOO_MANY_CANDLES}")
        rows = self.engine.candles(product_id, seconds, start, end)[-MOST_CANDLES:]
        names = ("start", "open", "high", "low", "close", "volume")
        return 200, {"candles": [dict(zip(names, (str(row[0]), *row[1:]), strict=True)) for row in reversed(rows)]}

    def _levels(self, product_id: str) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        book = self.engine.book_of(product_id)
        sides: list[dict[Decimal, Decimal]] = [{}, {}]
        for number, levels in enumerate((book.bids, book.asks)):
            for price, size in levels:
                sides[number][price] = sides[number].get(price, ZERO) + size
        for order in self.engine.working.values():
            shares = self.engine.products[order.ask.product_id].book == self.engine.products[product_id].book
            if shares and order.status is Status.OPEN and order.price is not None:
                side = sides[0 if order.ask.side == "BUY" else 1]
                side[order.price] = side.get(order.price, ZERO) + order.remaining
        return sorted(sides[0].items(), reverse=True), sorted(sides[1].items())

    def _book(self, product_id: str, limit: int) -> dict[str, Any]:
        bids, asks = self._levels(product_id)
        return {
            "product_id": product_id,
            "bids": [{"price": plain(price), "size": plain(size)} for price, size in bids[:limit]],
            "asks": [{"price": plain(price), "size": plain(size)} for price, size in asks[:limit]],
            "time": stamp(self.engine.now()),
        }

    def product_book(self, request: Request) -> Answer:
        if not request.one("product_id"):
            raise Malformed("product_id", "is missing")
        limit = request.number("limit", 50, 1000)
        with self.engine.lock:
            product_id = self._known(request, request.one("product_id"))
            last = plain(self.engine.book_of(product_id).last or ZERO)
            return 200, {"pricebook": self._book(product_id, limit), "last": last}

    def best_bid_ask(self, request: Request) -> Answer:
        wanted = request.many("product_ids")
        with self.engine.lock:
            names = [name for name in self.engine.products if not wanted or name in wanted]
            return 200, {"pricebooks": [self._book(name, 1) for name in names]}

    def ticker(self, request: Request) -> Answer:
        product_id, limit = self._known(request), request.number("limit", 100, 1000)
        with self.engine.lock:
            prints = self.engine.book_of(product_id).prints
            trades = [
                {
                    "trade_id": str(number),
                    "product_id": product_id,
                    "price": plain(prints[number][1]),
                    "size": plain(prints[number][2]),
                    "time": stamp(prints[number][0]),
                    "side": prints[number][3],
                    "bid": "",
                    "ask": "",
                }
                for number in range(len(prints) - 1, -1, -1)
            ]
            book = self._book(product_id, 1)
        best = {name: book[side][0]["price"] if book[side] else "" for name, side in _SIDES}
        return 200, {"trades": trades[:limit], **best}

    def currencies(self, request: Request) -> Answer:
        rows = [{"id": code, "name": name, "min_size": "0.01"} for code, name in shapes.FIAT.items()]
        return 200, {"data": rows}

    def _currencies(self) -> list[str]:
        with self.engine.lock:
            return sorted({name for row in self.engine.products.values() for name in (row.base, row.quote)})

    def cryptos(self, request: Request) -> Answer:
        names = [name for name in self._currencies() if name not in shapes.FIAT]
        return 200, {"data": [{"asset_id": f"asset-{name}", "code": name, "name": name} for name in names]}

    def exchange_rates(self, request: Request) -> Answer:
        rates = dict.fromkeys(self._currencies(), "1")
        return 200, {"data": {"currency": "USD", "rates": rates}}

    # The account ------------------------------------------------------------------------------------------------------

    def accounts(self, request: Request) -> Answer:
        size = request.number("limit", 49, 250)
        with self.engine.lock:
            account = self.engine.accounts[request.account]
            wallets, cursor = page(list(account.wallets.values()), int(request.one("cursor") or 0), size)
            rows = [shapes.account_row(wallet, account) for wallet in wallets]
        return 200, {"accounts": rows, "has_next": bool(cursor), "cursor": cursor, "size": len(rows)}

    def account(self, request: Request) -> Answer:
        with self.engine.lock:
            account = self.engine.accounts[request.account]
            for wallet in account.wallets.values():
                if wallet.uuid == request.part:
                    return 200, {"account": shapes.account_row(wallet, account)}
        raise NotFound("account not found")

    def transaction_summary(self, request: Request) -> Answer:
        with self.engine.lock:
            account = self.engine.accounts[request.account]
            fills = [row for row in self.engine.fills if row.account == request.account]
            volume, fees = sum((row.quote for row in fills), ZERO), sum((row.fee for row in fills), ZERO)
        tier = {
            "pricing_tier": "Advanced 1",
            "usd_from": "0",
            "usd_to": "1000",
            "taker_fee_rate": plain(account.taker),
            "maker_fee_rate": plain(account.maker),
            "aop_from": "",
            "aop_to": "",
        }
        return 200, {
            "total_volume": float(volume),
            "total_fees": float(fees),
            "fee_tier": tier,
            "margin_rate": None,
            "goods_and_services_tax": None,
            "advanced_trade_only_volume": float(volume),
            "advanced_trade_only_fees": float(fees),
            "coinbase_pro_volume": 0,
            "coinbase_pro_fees": 0,
            "total_balance": "",
            "has_promo_fee": False,
        }

    def key_permissions(self, request: Request) -> Answer:
        key = request.key
        assert key is not None
        account = self.engine.accounts[key.account]
        return 200, {
            "can_view": key.can_view,
            "can_trade": key.can_trade,
            "can_transfer": key.can_transfer,
            "portfolio_uuid": account.portfolio_id,
            "portfolio_type": "CONSUMER",
        }

    def portfolios(self, request: Request) -> Answer:
        account = self.engine.accounts[request.account]
        row = {"name": account.name, "uuid": account.portfolio_id, "type": "CONSUMER", "deleted": False}
        return 200, {"portfolios": [row]}

    # Wallets and their history ----------------------------------------------------------------------------------------

    def wallets(self, request: Request) -> Answer:
        with self.engine.lock:
            rows = [shapes.wallet_row(row) for row in self.engine.accounts[request.account].wallets.values()]
        return 200, _listing(rows, request, "/v2/accounts", 25, 250)

    def _wallet(self, request: Request) -> Any:
        for wallet in self.engine.accounts[request.account].wallets.values():
            if request.part in (wallet.uuid, wallet.currency):
                return wallet
        raise NotFound("Not found")

    def wallet(self, request: Request) -> Answer:
        with self.engine.lock:
            return 200, {"data": shapes.wallet_row(self._wallet(request))}

    def transactions(self, request: Request) -> Answer:
        with self.engine.lock:
            wallet = self._wallet(request)
            movements = self.engine.accounts[request.account].movements
            fiat = wallet.currency in shapes.FIAT
            rows = [
                {
                    "id": row.movement_id,
                    "type": row.kind if row.kind == "advanced_trade_fill" else f"fiat_{row.kind}" if fiat else "send",
                    "status": row.status,
                    "amount": {"amount": plain(row.amount), "currency": row.currency},
                    "native_amount": {"amount": plain(row.amount), "currency": "USD"},
                    "description": None,
                    "created_at": row.at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                    "resource": "transaction",
                    "resource_path": f"/v2/accounts/{wallet.uuid}/transactions/{row.movement_id}",
                }
                for row in reversed(movements)
                if row.currency == wallet.currency
            ]
        return 200, _listing(rows, request, f"/v2/accounts/{wallet.uuid}/transactions", 25, 100)


_SIDES = (("best_bid", "bids"), ("best_ask", "asks"))


def _listing(rows: list[dict[str, Any]], request: Request, path: str, default: int, most: int) -> dict[str, Any]:
    """Return a page of a ``/v2`` listing; ``starting_after`` is the id of the last row that was seen."""
    size, after = request.number("limit", default, most), request.one("starting_after")
    ids = [row["id"] for row in rows]
    start = ids.index(after) + 1 if after in ids else 0
    shown = rows[start : start + size]
    more = start + size < len(rows)
    following = shown[-1]["id"] if more else None
    paging = {
        "ending_before": None,
        "starting_after": after or None,
        "previous_ending_before": None,
        "next_starting_after": following,
        "limit": size,
        "order": "desc",
        "previous_uri": None,
        "next_uri": f"{path}?limit={size}&starting_after={following}" if more else None,
    }
    return {"pagination": paging, "data": shown}
