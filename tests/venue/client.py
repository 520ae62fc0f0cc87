"""Talking to the fake venue in a test, without a library in between, and through ccxt."""

from __future__ import annotations

import json
from typing import Any

import ccxt
import requests

from tests.venue.keys import ApiKey, sign
from tests.venue.server import FakeVenue

BROKERAGE = "/api/v3/brokerage"


class Client:
    """One key's requests, each with a token of its own."""

    def __init__(self, venue: FakeVenue, key: ApiKey, *, timeout: float = 10) -> None:
        self.venue, self.key, self.timeout = venue, key, timeout

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Send a request and return the answer, whatever it is."""
        token = sign(self.key.name, self.key.secret, method, f"127.0.0.1:{self.venue.port}", path)
        return requests.request(
            method,
            self.venue.url + path,
            params=query,
            data=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=self.timeout,
        )

    def get(self, path: str, **query: Any) -> Any:
        """Return what a GET below the brokerage path answers, which has to go well."""
        answer = self.ask("GET", BROKERAGE + path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        """Return what a POST below the brokerage path answers, which has to go well."""
        answer = self.ask("POST", BROKERAGE + path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def create(self, client_order_id: str, side: str, product_id: str, **configuration: Any) -> Any:
        """Place an order: ``market_market_ioc={"quote_size": "10"}`` and the like."""
        body = {"client_order_id": client_order_id, "product_id": product_id, "side": side}
        return self.post("/orders", body | {"order_configuration": configuration})

    def placed(self, client_order_id: str, side: str, product_id: str, **configuration: Any) -> str:
        """Place an order, which has to be accepted, and return its id."""
        answer = self.create(client_order_id, side, product_id, **configuration)
        assert answer["success"], answer
        return answer["success_response"]["order_id"]

    def limit(self, client_order_id: str, side: str, base: str, price: str, product_id: str = "BTC-USD") -> str:
        """Place a good-till-cancelled limit order and return its id."""
        values = {"base_size": base, "limit_price": price, "post_only": False}
        return self.placed(client_order_id, side, product_id, limit_limit_gtc=values)

    def order(self, order_id: str) -> Any:
        """Return an order."""
        return self.get(f"/orders/historical/{order_id}")["order"]

    def fills(self, **query: Any) -> list[Any]:
        """Return fills, newest first."""
        return self.get("/orders/historical/fills", **query)["fills"]

    def wallet(self, currency: str) -> tuple[str, str]:
        """Return what is available and what is on hold of a currency."""
        rows = {row["currency"]: row for row in self.get("/accounts", limit=250)["accounts"]}
        return rows[currency]["available_balance"]["value"], rows[currency]["hold"]["value"]


def ccxt_coinbase(venue: FakeVenue, key: ApiKey) -> ccxt.coinbase:
    """Return ccxt's Coinbase client, pointed at the fake."""
    exchange = ccxt.coinbase({"apiKey": key.name, "secret": key.secret, "enableRateLimit": False})
    exchange.urls["api"]["rest"] = venue.url
    return exchange


def ccxt_binance(venue: FakeVenue, key: ApiKey) -> ccxt.binance:
    """Return ccxt's Binance client, spot only, pointed at the fake."""
    options = {"fetchMarkets": {"types": ["spot"]}}
    exchange = ccxt.binance(
        {"apiKey": key.name, "secret": key.secret, "enableRateLimit": False, "options": options},
    )
    exchange.urls["api"] = {
        name: url.replace("https://api.binance.com", venue.url) for name, url in exchange.urls["api"].items()
    }
    return exchange


def ccxt_bybit(venue: FakeVenue, key: ApiKey) -> ccxt.bybit:
    """Return ccxt's Bybit client, spot and linear contracts, pointed at the fake."""
    options = {
        "fetchMarkets": {"types": ["spot", "linear"]},
        "enableUnifiedMargin": False,
        "enableUnifiedAccount": True,
        "defaultType": "swap",
        "defaultSettle": "USDT",
    }
    exchange = ccxt.bybit(
        {"apiKey": key.name, "secret": key.secret, "enableRateLimit": False, "options": options},
    )
    exchange.has["fetchCurrencies"] = False
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], venue.url)
    return exchange
