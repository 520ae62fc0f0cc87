"""How Bybit writes things: instruments, orders, executions, positions, log. All pure."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.venue.contracts import Contract, ContractFill, ContractOrder, Held, LogRow
from tests.venue.engine import Engine
from tests.venue.model import WORKING, ZERO, Execution, Product, Status, VenueOrder, plain


def millis(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1000))


def pair_row(product: Product) -> dict[str, Any]:
    return {
        "symbol": product.base + product.quote,
        "baseCoin": product.base,
        "quoteCoin": product.quote,
        "innovation": "0",
        "status": "Closed" if product.trading_disabled or product.is_disabled else "Trading",
        "marginTrading": "none",
        "lotSizeFilter": {
            "basePrecision": plain(product.base_increment),
            "quotePrecision": plain(product.quote_increment),
            "minOrderQty": plain(product.base_min_size),
            "maxOrderQty": plain(product.base_max_size),
            "minOrderAmt": plain(product.quote_min_size),
            "maxOrderAmt": plain(product.quote_max_size),
        },
        "priceFilter": {"tickSize": plain(product.price_increment)},
    }


def contract_row(contract: Contract) -> dict[str, Any]:
    return {
        "symbol": contract.word,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": contract.base,
        "quoteCoin": contract.quote,
        "settleCoin": contract.quote,
        "launchTime": "1585526400000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": "2",
        "leverageFilter": {
            "minLeverage": "1",
            "maxLeverage": format(contract.max_leverage, ".2f"),
            "leverageStep": "0.01",
        },
        "priceFilter": {
            "minPrice": plain(contract.price_increment),
            "maxPrice": "1999999.8",
            "tickSize": plain(contract.price_increment),
        },
        "lotSizeFilter": {
            "maxOrderQty": "1190.000",
            "minOrderQty": plain(contract.base_min_size),
            "qtyStep": plain(contract.base_increment),
            "postOnlyMaxOrderQty": "1190.000",
            "maxMktOrderQty": "500.000",
            "minNotionalValue": plain(contract.quote_min_size),
        },
        "unifiedMarginTrade": True,
        "fundingInterval": contract.funding_minutes,
        "copyTrading": "both",
        "isPreListing": False,
    }


def pair_ticker(product: Product, engine: Engine) -> dict[str, Any]:
    book = engine.book_of(product.product_id)
    bid = book.bids[0] if book.bids else [ZERO, ZERO]
    ask = book.asks[0] if book.asks else [ZERO, ZERO]
    last = plain(book.last or ZERO)
    return {
        "symbol": product.base + product.quote,
        "bid1Price": plain(bid[0]),
        "bid1Size": plain(bid[1]),
        "ask1Price": plain(ask[0]),
        "ask1Size": plain(ask[1]),
        "lastPrice": last,
        "prevPrice24h": last,
        "price24hPcnt": "0",
        "highPrice24h": last,
        "lowPrice24h": last,
        "turnover24h": "0",
        "volume24h": "0",
    }


def contract_ticker(contract: Contract) -> dict[str, Any]:
    last = plain(contract.last)
    return {
        "symbol": contract.word,
        "lastPrice": last,
        "indexPrice": last,
        "markPrice": last,
        "prevPrice24h": last,
        "price24hPcnt": "0.0068",
        "highPrice24h": last,
        "lowPrice24h": last,
        "openInterest": "62345",
        "openInterestValue": "3740700000",
        "turnover24h": "100",
        "volume24h": "49337.3",
        "fundingRate": "0.0001",
        "nextFundingTime": "1672387200000",
        "bid1Price": last,
        "bid1Size": "1000",
        "ask1Price": plain(contract.ask),
        "ask1Size": "1000",
    }


# Spot ----------------------------------------------------------------------------------------------------------------


def _word_of(order: VenueOrder) -> str:
    if order.status in WORKING:
        return "PartiallyFilled" if order.fills else "New"
    if order.status is Status.CANCELLED and order.fills:
        return "PartiallyFilledCanceled"
    return {Status.CANCELLED: "Cancelled", Status.FILLED: "Filled", Status.EXPIRED: "Cancelled"}.get(
        order.status, "Rejected"
    )


def pair_order(order: VenueOrder, engine: Engine) -> dict[str, Any]:
    product = engine.products[order.ask.product_id]
    size = order.ask.quote_size if order.ask.quote_size is not None else order.size or ZERO
    last = order.fills[-1].at if order.fills else order.created_at
    return {
        "orderId": order.order_id,
        "orderLinkId": order.client_order_id,
        "symbol": product.base + product.quote,
        "side": order.ask.side.title(),
        "orderStatus": _word_of(order),
        "orderType": "Market" if order.price is None else "Limit",
        "timeInForce": order.ask.time_in_force,
        "price": plain(order.price or ZERO),
        "qty": plain(size),
        "avgPrice": plain(order.value / order.filled) if order.fills else "",
        "leavesQty": plain(order.remaining) if order.status in WORKING else "0",
        "cumExecQty": plain(order.filled),
        "cumExecValue": plain(order.value),
        "cumExecFee": plain(order.fees),
        "rejectReason": "EC_NoError",
        "createdTime": millis(order.created_at),
        "updatedTime": millis(last),
    }


def pair_fill(fill: Execution, engine: Engine) -> dict[str, Any]:
    product = engine.products[fill.product_id]
    return {
        "symbol": product.base + product.quote,
        "orderType": "Market",
        "orderLinkId": fill.client_order_id,
        "orderId": fill.order_id,
        "side": fill.side.title(),
        "execTime": millis(fill.at),
        "feeCurrency": fill.fee_currency,
        "isMaker": fill.is_maker,
        "execFee": plain(fill.fee),
        "execId": f"21{fill.number:017d}",
        "execPrice": plain(fill.price),
        "execQty": plain(fill.base),
        "execType": "Trade",
        "execValue": plain(fill.quote),
    }


# Contracts -----------------------------------------------------------------------------------------------------------


def contract_order(order: ContractOrder) -> dict[str, Any]:
    value = sum((fill.base * fill.price for fill in order.fills), ZERO)
    last = order.fills[-1].at if order.fills else order.created_at
    return {
        "orderId": order.order_id,
        "orderLinkId": order.link_id,
        "symbol": order.contract.word,
        "side": order.side,
        "positionIdx": 0,
        "orderStatus": order.status,
        "createType": order.created_by,
        "orderType": "Market" if order.price is None else "Limit",
        "stopOrderType": "" if order.trigger is None else "Stop",
        "timeInForce": "IOC" if order.price is None else "GTC",
        "price": plain(order.price or ZERO),
        "qty": plain(order.size),
        "avgPrice": plain(value / order.filled) if order.fills else "",
        "leavesQty": plain(order.remaining) if order.is_working else "0",
        "cumExecQty": plain(order.filled),
        "cumExecValue": plain(value),
        "cumExecFee": plain(sum((fill.fee for fill in order.fills), ZERO)),
        "rejectReason": "EC_NoError",
        "triggerPrice": "" if order.trigger is None else plain(order.trigger),
        "triggerDirection": 0 if order.trigger is None else 1 if order.rises else 2,
        "triggerBy": "" if order.trigger is None else "LastPrice",
        "reduceOnly": order.reduce_only,
        "closeOnTrigger": False,
        "createdTime": millis(order.created_at),
        "updatedTime": millis(last),
    }


def contract_fill(order: ContractOrder, fill: ContractFill) -> dict[str, Any]:
    return {
        "symbol": order.contract.word,
        "orderType": "Market" if order.price is None else "Limit",
        "orderLinkId": order.link_id,
        "orderId": order.order_id,
        "side": order.side,
        "createType": order.created_by,
        "orderQty": plain(order.size),
        "leavesQty": plain(fill.leaves),
        "execTime": millis(fill.at),
        "feeCurrency": "",
        "isMaker": fill.is_maker,
        "execFee": plain(fill.fee),
        "execId": fill.fill_id,
        "execPrice": plain(fill.price),
        "execQty": plain(fill.base),
        "execType": fill.kind,
        "execValue": plain(fill.base * fill.price),
        "markPrice": plain(order.contract.last),
    }


def funding_fill(row: LogRow) -> dict[str, Any]:
    """Funding as it stands among the executions, where it looks like a trade."""
    return {
        "symbol": row.contract.word,
        "orderType": "UNKNOWN",
        "orderLinkId": "",
        "orderId": f"funding-{row.log_id}",
        "side": "Sell" if row.side == "Buy" else "Buy",
        "execTime": millis(row.at),
        "feeCurrency": "",
        "isMaker": False,
        "execFee": plain(-row.funding),
        "execId": row.log_id,
        "execPrice": plain(row.price),
        "execQty": plain(row.size),
        "execType": "Funding",
        "execValue": plain(row.size * row.price),
    }


def log_row(row: LogRow) -> dict[str, Any]:
    return {
        "id": f"{row.log_id}_{row.contract.word}_{millis(row.at)}",
        "symbol": row.contract.word,
        "category": "linear",
        "side": row.side,
        "transactionTime": millis(row.at),
        "type": row.kind,
        "transSubType": "",
        "qty": plain(row.size),
        "currency": row.contract.quote,
        "tradePrice": plain(row.price),
        "funding": plain(row.funding) if row.kind == "SETTLEMENT" else "",
        "fee": "0",
        "cashFlow": "0",
        "change": plain(row.funding),
        "feeRate": plain(row.rate),
        "tradeId": row.log_id,
        "orderId": "",
        "orderLinkId": "",
    }


def position_row(contract: Contract, held: Held, leverage: Decimal, margin: Decimal, idx: int) -> dict[str, Any]:
    sign = 1 if held.size > ZERO else -1
    profit = held.size * (contract.last - held.entry)
    # Without maintenance margin and fees, as far as a fake needs to go.
    end = held.entry * (1 - sign / leverage)
    return {
        "symbol": contract.word,
        "positionIdx": idx,
        "side": "" if not held.size else "Buy" if sign > 0 else "Sell",
        "size": plain(abs(held.size)),
        "avgPrice": plain(held.entry) if held.size else "0",
        "positionValue": plain(abs(held.size) * held.entry) if held.size else "",
        "leverage": plain(leverage),
        "tradeMode": 0,
        "markPrice": plain(contract.last),
        "liqPrice": plain(end) if held.size and end > ZERO else "",
        "positionIM": plain(margin) if held.size else "",
        "positionMM": "",
        "unrealisedPnl": plain(profit) if held.size else "",
        "cumRealisedPnl": "0",
        "positionStatus": "Normal",
        "createdTime": "1676538056258",
        "updatedTime": "1676538056258",
    }
