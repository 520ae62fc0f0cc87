"""Answers of Kraken, Bybit and OKX, written after their documentation, and a server that gives them.

The server notes every request; the tests look at what was put on the wire and at what is believed of the answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

CLIENT_ID = "6ebdab2d-20c4-4dc2-b1fe-6d2062896a74"


@dataclass
class Sent:
    """A request that arrived: its path, and its parameters wherever they stood."""

    method: str
    path: str
    parameters: dict[str, Any]
    headers: dict[str, str]


@dataclass
class Scripted:
    """A venue that answers by path, or path and category: always the same, or one after the other."""

    server: HTTPServer
    answers: dict[str, Any]
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.clear()
        import re

        self.server.expect_request(re.compile(".*")).respond_with_handler(self._answer)

    @property
    def url(self) -> str:
        return self.server.url_for("").rstrip("/")

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Return the parameters of every request to ``path``."""
        return [row.parameters for row in self.sent if row.path == path]

    def _answer(self, request: Request) -> Response:
        raw = request.get_data(as_text=True)
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            body = dict(parse_qsl(raw))
        body.pop("nonce", None)
        self.sent.append(Sent(request.method, request.path, {**request.args, **body}, dict(request.headers)))
        category = {**request.args, **body}.get("category")
        answer = self.answers.get(f"{request.path}?category={category}", self.answers.get(request.path))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer is None:
            return Response(f"nothing is scripted for {request.path}", 404)
        status, answer = answer if isinstance(answer, tuple) else (200, answer)
        return Response(json.dumps(answer), status, content_type="application/json")


# Kraken --------------------------------------------------------------------------------------------------------------


def kraken(**result: Any) -> dict[str, Any]:
    return {"error": [], "result": result}


KRAKEN_ORDER = {
    "refid": None,
    "userref": None,
    "cl_ord_id": CLIENT_ID,
    "status": "open",
    "opentm": 1688666559.8974,
    "starttm": 0,
    "expiretm": 0,
    "descr": {
        "pair": "XBTUSD",
        "aclass": "forex",
        "type": "buy",
        "ordertype": "limit",
        "price": "50000.0",
        "price2": "0",
        "leverage": "none",
        "order": "buy 0.01000000 XBTUSD @ limit 50000.0",
        "close": "",
    },
    "vol": "0.01000000",
    "vol_exec": "0.00400000",
    "cost": "200.00000",
    "fee": "0.80000",
    "price": "50000.0",
    "stopprice": "0.00000",
    "limitprice": "0.00000",
    "misc": "",
    "oflags": "fciq",
    "reason": None,
    "trades": ["TCWJEG-FL4SZ-3FKGH6"],
}
KRAKEN_TRADE = {
    "ordertxid": "OQCLML-BW3P3-BUCMWZ",
    "postxid": "TKH2SE-M7IF5-CFI7LT",
    "pair": "XXBTZUSD",
    "time": 1688667796.8802,
    "type": "buy",
    "ordertype": "limit",
    "price": "50000.00000",
    "cost": "200.00000",
    "fee": "0.80000",
    "vol": "0.00400000",
    "margin": "0.00000",
    "leverage": "0",
    "misc": "",
    "trade_id": 93748276,
    "maker": True,
}
KRAKEN_ANSWERS: dict[str, Any] = {
    "/0/public/AssetPairs": kraken(
        XXBTZUSD={
            "altname": "XBTUSD",
            "wsname": "XBT/USD",
            "aclass_base": "currency",
            "base": "XXBT",
            "aclass_quote": "currency",
            "quote": "ZUSD",
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": 1,
            "lot_decimals": 8,
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": [[0, 0.4]],
            "fees_maker": [[0, 0.25]],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": "0.0001",
            "costmin": "0.5",
            "tick_size": "0.1",
            "status": "online",
        }
    ),
    "/0/public/Assets": kraken(
        XXBT={"aclass": "currency", "altname": "XBT", "decimals": 10, "display_decimals": 5, "status": "enabled"},
        ZUSD={"aclass": "currency", "altname": "USD", "decimals": 4, "display_decimals": 2, "status": "enabled"},
    ),
    "/0/private/BalanceEx": kraken(
        ZUSD={"balance": "5325.1200", "hold_trade": "504.0000"}, XXBT={"balance": "0.5000000000", "hold_trade": "0"}
    ),
    "/0/private/AddOrder": kraken(descr={"order": "buy"}, txid=["OQCLML-BW3P3-BUCMWZ"]),
    "/0/private/CancelOrder": kraken(count=1),
    "/0/private/OpenOrders": kraken(open={"OQCLML-BW3P3-BUCMWZ": KRAKEN_ORDER}),
    "/0/private/ClosedOrders": kraken(closed={}, count=0),
    "/0/private/QueryOrders": kraken(**{"OQCLML-BW3P3-BUCMWZ": KRAKEN_ORDER}),
    "/0/private/QueryTrades": kraken(**{"TCWJEG-FL4SZ-3FKGH6": KRAKEN_TRADE}),
    "/0/private/TradesHistory": kraken(trades={"TCWJEG-FL4SZ-3FKGH6": KRAKEN_TRADE}, count=1),
    "/0/private/TradeVolume": kraken(
        currency="ZUSD",
        volume="200.0",
        fees={"XXBTZUSD": {"fee": "0.4000", "minfee": "0.1000", "maxfee": "0.4000", "tiervolume": "0.0000"}},
        fees_maker={"XXBTZUSD": {"fee": "0.2500", "minfee": "0.0000", "maxfee": "0.2500", "tiervolume": "0.0000"}},
    ),
    "/0/private/Balance": kraken(ZUSD="5325.1200"),
}

# Bybit ---------------------------------------------------------------------------------------------------------------


def bybit(code: int = 0, message: str = "OK", **result: Any) -> dict[str, Any]:
    return {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": 1688667796880}


BYBIT_ORDER = {
    "orderId": "1523347543495541248",
    "orderLinkId": CLIENT_ID,
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderStatus": "PartiallyFilled",
    "orderType": "Limit",
    "timeInForce": "GTC",
    "price": "50000",
    "qty": "0.01",
    "avgPrice": "50000",
    "leavesQty": "0.006",
    "cumExecQty": "0.004",
    "cumExecValue": "200",
    "cumExecFee": "0.000004",
    "rejectReason": "EC_NoError",
    "createdTime": "1688667796000",
    "updatedTime": "1688667797000",
}
BYBIT_FILL = {
    "symbol": "BTCUSDT",
    "orderType": "Limit",
    "orderLinkId": CLIENT_ID,
    "side": "Buy",
    "orderId": "1523347543495541248",
    "leavesQty": "0.006",
    "execTime": "1688667796880",
    "feeCurrency": "BTC",
    "isMaker": True,
    "execFee": "0.000004",
    "feeRate": "0.001",
    "execId": "2100000000007764263",
    "execPrice": "50000",
    "execQty": "0.004",
    "execType": "Trade",
    "execValue": "200",
}
BYBIT_ANSWERS: dict[str, Any] = {
    "/v5/market/instruments-info": bybit(
        category="spot",
        list=[
            {
                "symbol": "BTCUSDT",
                "baseCoin": "BTC",
                "quoteCoin": "USDT",
                "innovation": "0",
                "status": "Trading",
                "marginTrading": "utaOnly",
                "lotSizeFilter": {
                    "basePrecision": "0.000001",
                    "quotePrecision": "0.0000001",
                    "minOrderQty": "0.000011",
                    "maxOrderQty": "83",
                    "minOrderAmt": "5",
                    "maxOrderAmt": "8000000",
                },
                "priceFilter": {"tickSize": "0.01"},
            }
        ],
    ),
    "/v5/account/wallet-balance": bybit(
        list=[
            {
                "accountType": "UNIFIED",
                "coin": [
                    {"coin": "USDT", "equity": "5000", "walletBalance": "5000", "locked": "300"},
                    {"coin": "BTC", "equity": "0.5", "walletBalance": "0.5", "locked": "0"},
                ],
            }
        ]
    ),
    "/v5/user/query-api": bybit(
        id="13770661",
        note="bot",
        apiKey="key",
        readOnly=0,
        permissions={"Spot": ["SpotTrade"], "Wallet": ["AccountTransfer"]},
        unified=1,
        uta=1,
        userID=24600000,
    ),
    "/v5/market/instruments-info?category=linear": bybit(category="linear", list=[]),
    "/v5/order/realtime?category=linear": bybit(category="linear", nextPageCursor="", list=[]),
    "/v5/execution/list?category=linear": bybit(category="linear", nextPageCursor="", list=[]),
    "/v5/order/create": bybit(orderId="1523347543495541248", orderLinkId=CLIENT_ID),
    "/v5/order/cancel": bybit(orderId="1523347543495541248", orderLinkId=CLIENT_ID),
    "/v5/order/realtime": bybit(category="spot", nextPageCursor="", list=[BYBIT_ORDER]),
    "/v5/order/history": bybit(category="spot", nextPageCursor="", list=[]),
    "/v5/execution/list": bybit(category="spot", nextPageCursor="", list=[BYBIT_FILL]),
    "/v5/account/fee-rate": bybit(list=[{"symbol": "BTCUSDT", "takerFeeRate": "0.0018", "makerFeeRate": "0.001"}]),
}

# OKX -----------------------------------------------------------------------------------------------------------------


def okx(*data: Any, code: str = "0", message: str = "") -> dict[str, Any]:
    return {"code": code, "msg": message, "data": list(data)}


OKX_ORDER = {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "ordId": "312269865356374016",
    "clOrdId": CLIENT_ID.replace("-", ""),
    "px": "50000",
    "sz": "0.01",
    "ordType": "limit",
    "side": "buy",
    "tdMode": "cash",
    "accFillSz": "0.004",
    "avgPx": "50000",
    "state": "partially_filled",
    "fee": "-0.000004",
    "feeCcy": "BTC",
    "cTime": "1688667796000",
    "uTime": "1688667797000",
}
OKX_FILL = {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "tradeId": "123",
    "ordId": "312269865356374016",
    "clOrdId": CLIENT_ID.replace("-", ""),
    "billId": "1111",
    "fillPx": "50000",
    "fillSz": "0.004",
    "side": "buy",
    "execType": "M",
    "feeCcy": "BTC",
    "fee": "-0.000004",
    "ts": "1688667796880",
}
OKX_ANSWERS: dict[str, Any] = {
    "/api/v5/public/instruments": okx(
        {
            "instType": "SPOT",
            "instId": "BTC-USDT",
            "instFamily": "",
            "uly": "",
            "baseCcy": "BTC",
            "quoteCcy": "USDT",
            "settleCcy": "",
            "ctVal": "",
            "tickSz": "0.1",
            "lotSz": "0.00000001",
            "minSz": "0.00001",
            "maxLmtSz": "9999999999",
            "maxMktSz": "1000000",
            "maxLmtAmt": "20000000",
            "maxMktAmt": "1000000",
            "state": "live",
            "lever": "",
            "category": "1",
            "expTime": "",
        }
    ),
    "/api/v5/account/balance": okx(
        {
            "uTime": "1688667796880",
            "totalEq": "30000",
            "details": [
                {
                    "ccy": "USDT",
                    "cashBal": "5000",
                    "eq": "5000",
                    "availBal": "4700",
                    "availEq": "4700",
                    "frozenBal": "300",
                },
                {"ccy": "BTC", "cashBal": "0.5", "eq": "0.5", "availBal": "0.5", "availEq": "0.5", "frozenBal": "0"},
            ],
        }
    ),
    "/api/v5/account/config": okx({"uid": "44705892343619584", "perm": "read_only,trade", "label": "bot"}),
    "/api/v5/trade/order": okx(OKX_ORDER),
    "/api/v5/trade/cancel-order": okx({"clOrdId": "", "ordId": "312269865356374016", "sCode": "0", "sMsg": ""}),
    "/api/v5/trade/orders-pending": okx(OKX_ORDER),
    "/api/v5/trade/fills-history": okx(OKX_FILL),
    "/api/v5/account/trade-fee": okx({"category": "1", "instType": "SPOT", "maker": "-0.0008", "taker": "-0.001"}),
}
OKX_TAKEN = {"clOrdId": CLIENT_ID.replace("-", ""), "ordId": "312269865356374016", "sCode": "0", "sMsg": "", "tag": ""}
