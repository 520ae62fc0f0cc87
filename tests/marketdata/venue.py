"""A Coinbase on a local port: answers public requests as the venue does, newest candle first, with faults on order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from marketdata.sources.coinbase import GRANULARITY

MARKET = "/api/v3/brokerage/market"
SECONDS = {name: timeframe.seconds for timeframe, name in GRANULARITY.items()}
PAGE = 300

Answer = Callable[[Request], Response]


def product_row(symbol: str, **changes: Any) -> dict[str, Any]:
    """A product as the venue lists it, with fields we do not know."""
    base, quote = symbol.split("-")
    row = {
        "product_id": symbol,
        "price": "66363.03",
        "price_percentage_change_24h": "-1.25",
        "volume_24h": "5210.5",
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "quote_min_size": "1",
        "quote_max_size": "150000000",
        "base_min_size": "0.00000001",
        "base_max_size": "3400",
        "base_currency_id": base,
        "quote_currency_id": quote,
        "status": "online",
        "is_disabled": False,
        "trading_disabled": False,
        "cancel_only": False,
        "view_only": False,
        "product_type": "SPOT",
        "price_increment": "0.01",
        "something_new": {"nested": [1, 2]},
    }
    return row | changes


def candle_row(start: int, seconds: int) -> dict[str, str]:
    """A candle that can be told from every other: it opens at its own number."""
    price = 100 + (start // seconds) % 1000
    return {
        "start": str(start),
        "low": f"{price - 1}",
        "high": f"{price + 2}",
        "open": f"{price}",
        "close": f"{price + 1}",
        "volume": "3.5",
    }


@dataclass
class Venue:
    """What the venue knows, what it was asked, and the answers it gives before the true ones."""

    server: HTTPServer
    products: list[dict[str, Any]] = field(default_factory=lambda: [product_row("BTC-USD"), product_row("ETH-USD")])
    prices: dict[str, tuple[str, str, str]] = field(
        default_factory=lambda: {
            "BTC-USD": ("66367.58", "66367.59", "66363.03"),
            "ETH-USD": ("3100.1", "3100.2", "3100"),
        }
    )
    quiet: set[int] = field(default_factory=set)
    """Opening times without trades."""
    faults: list[Answer] = field(default_factory=list)
    page_size: int | None = None
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url_for("").rstrip("/")

    def paths(self, ending: str) -> list[dict[str, list[str]]]:
        return [query for path, query in self.asked if path.endswith(ending)]

    def answer(self, request: Request) -> Response:
        self.asked.append((request.path, dict(request.args.lists())))
        if self.faults:
            return self.faults.pop(0)(request)
        if request.path.endswith("/time"):
            return reply({"iso": "2024-04-24T09:56:38Z", "epochSeconds": "1713952598", "epochMillis": "1713952598063"})
        path = request.path.removeprefix(MARKET)
        if path == "/products":
            return self._products(request)
        if path == "/product_book":
            return self._book(request)
        _, _, symbol, what = path.split("/")
        if symbol not in {row["product_id"] for row in self.products}:
            return reply({"error": "NOT_FOUND"}, 404)
        return self._candles(request) if what == "candles" else self._ticker(symbol)

    def _products(self, request: Request) -> Response:
        rows = self.products
        if wanted := request.args.getlist("product_ids"):
            rows = [row for row in rows if row["product_id"] in wanted]
        if self.page_size is None:
            return reply({"products": rows, "num_products": len(rows)})
        at = int(request.args.get("cursor") or 0)
        after = at + self.page_size
        paging = {"has_next": after < len(rows), "next_cursor": str(after)}
        return reply({"products": rows[at:after], "num_products": len(rows), "pagination": paging})

    def _candles(self, request: Request) -> Response:
        seconds = SECONDS[request.args["granularity"]]
        start, end = int(request.args["start"]), int(request.args["end"])
        opens = range(-(-start // seconds) * seconds, end + 1, seconds)
        if len(opens) > PAGE:
            return reply(
                {"error": "INVALID_ARGUMENT", "message": "number of candles requested should be less than 350"}, 400
            )
        return reply({"candles": [candle_row(at, seconds) for at in reversed(opens) if at not in self.quiet]})

    def _ticker(self, symbol: str) -> Response:
        bid, ask, last = self.prices.get(symbol, ("", "", ""))
        trade = {
            "trade_id": "635541194",
            "product_id": symbol,
            "price": last,
            "size": "0.03720194",
            "time": "2024-04-24T09:56:38.063595Z",
            "side": "BUY",
            "bid": "",
            "ask": "",
        }
        return reply({"trades": [trade], "best_bid": bid, "best_ask": ask})

    def _book(self, request: Request) -> Response:
        level = [{"price": "100.1", "size": "2"}, {"price": "100.2", "size": "3"}]
        bids = [{"price": "100.0", "size": "1"}, {"price": "99.9", "size": "4"}]
        return reply({"pricebook": {"product_id": request.args["product_id"], "bids": bids, "asks": level, "time": ""}})


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, content_type="application/json")


def status(code: int, headers: dict[str, str] | None = None) -> Answer:
    """Answer with a status and no data."""
    return lambda request: reply({"error": "?"}, code, headers)


def text(body: str) -> Answer:
    """Answer 200 with this text."""
    return lambda request: Response(body, 200, content_type="application/json")


def cut(request: Request) -> Response:
    """Promise more than is sent, then close the connection."""
    return Response('{"candles": [', 200, {"Content-Length": "5000"}, content_type="application/json")


@contextmanager
def venue_on(server: HTTPServer) -> Iterator[Venue]:
    """Serve a venue for the length of a test."""
    venue = Venue(server)
    server.clear()
    server.expect_request("/api/v3/brokerage/time").respond_with_handler(venue.answer)
    server.expect_request(re.compile(f"^{MARKET}/.*")).respond_with_handler(venue.answer)
    yield venue
    server.clear()
