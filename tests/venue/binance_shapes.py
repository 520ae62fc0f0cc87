"""How Binance writes things: symbols, orders, trades. All pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.venue.engine import Engine
from tests.venue.model import WORKING, ZERO, Execution, Product, Status, VenueOrder, plain


def symbol_row(product: Product) -> dict[str, Any]:
    filters = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": plain(product.price_increment),
            "maxPrice": "1000000",
            "tickSize": plain(product.price_increment),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": plain(product.base_min_size),
            "maxQty": plain(product.base_max_size),
            "stepSize": plain(product.base_increment),
        },
        {"filterType": "NOTIONAL", "minNotional": plain(product.quote_min_size), "applyMinToMarket": True},
    ]
    places = {name: max(-int(value.as_tuple().exponent), 0) for name, value in _steps(product).items()}
    return {
        "symbol": product.base + product.quote,
        "status": "BREAK" if product.trading_disabled or product.is_disabled else "TRADING",
        "baseAsset": product.base,
        "baseAssetPrecision": places["base"],
        "quoteAsset": product.quote,
        "quotePrecision": places["quote"],
        "quoteAssetPrecision": places["quote"],
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters,
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
    }


def _steps(product: Product) -> dict[str, Decimal]:
    return {"base": product.base_increment.normalize(), "quote": product.quote_increment.normalize()}


def _status_word(order: VenueOrder) -> str:
    if order.status in WORKING:
        return "PARTIALLY_FILLED" if order.fills else "NEW"
    if order.status is Status.CANCELLED and order.ask.time_in_force in ("IOC", "FOK"):
        return "EXPIRED"
    return {Status.CANCELLED: "CANCELED", Status.FAILED: "REJECTED"}.get(order.status, str(order.status))


def order_row(order: VenueOrder, engine: Engine, *, with_fills: bool = False) -> dict[str, Any]:
    product, at = engine.products[order.ask.product_id], int(order.created_at.timestamp() * 1000)
    kind = "MARKET" if order.price is None else "LIMIT_MAKER" if order.ask.post_only else "LIMIT"
    last = int(order.fills[-1].at.timestamp() * 1000) if order.fills else at
    row: dict[str, Any] = {
        "symbol": product.base + product.quote,
        "orderId": order.number,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "transactTime": at,
        "time": at,
        "updateTime": last,
        "workingTime": at,
        "price": plain(order.price or ZERO),
        "origQty": plain(order.size if order.size is not None else order.filled),
        "executedQty": plain(order.filled),
        "origQuoteOrderQty": plain(order.ask.quote_size or ZERO),
        "cummulativeQuoteQty": plain(order.value),
        "status": _status_word(order),
        "timeInForce": "GTC" if kind == "MARKET" else order.ask.time_in_force,
        "type": kind,
        "side": order.ask.side,
        "isWorking": True,
        "stopPrice": "0",
        "selfTradePreventionMode": "NONE",
    }
    if with_fills:
        row["fills"] = [
            {
                "price": plain(fill.price),
                "qty": plain(fill.base),
                "commission": plain(fill.fee),
                "commissionAsset": fill.fee_currency,
                "tradeId": fill.number,
            }
            for fill in order.fills
        ]
    return row


def trade_row(fill: Execution, engine: Engine) -> dict[str, Any]:
    product = engine.products[fill.product_id]
    return {
        "symbol": product.base + product.quote,
        "id": fill.number,
        "orderId": engine.orders[fill.order_id].number,
        "orderListId": -1,
        "price": plain(fill.price),
        "qty": plain(fill.base),
        "quoteQty": plain(fill.quote),
        "commission": plain(fill.fee),
        "commissionAsset": fill.fee_currency,
        "time": int(fill.at.timestamp() * 1000),
        "isBuyer": fill.side == "BUY",
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }
