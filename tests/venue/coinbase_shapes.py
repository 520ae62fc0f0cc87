"""How Coinbase Advanced Trade writes things: orders, fills, products, wallets; and how it reads an order. All pure."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.venue.model import ZERO, Account, Ask, Book, Execution, Malformed, Product, VenueOrder, Wallet, plain, stamp
from tests.venue.wire import amount_of, moment_of

FIAT = {"USD": "US Dollar", "EUR": "Euro", "GBP": "British Pound"}
CONFIGURATIONS: dict[str, tuple[set[str], set[str]]] = {
    "market_market_ioc": (set(), {"quote_size", "base_size", "rfq_disabled", "reduce_only"}),
    "market_market_fok": (set(), {"quote_size", "base_size", "rfq_disabled", "reduce_only"}),
    "sor_limit_ioc": ({"limit_price"}, {"quote_size", "base_size", "rfq_disabled", "reduce_only"}),
    "limit_limit_gtc": ({"limit_price"}, {"quote_size", "base_size", "post_only", "rfq_disabled", "reduce_only"}),
    "limit_limit_gtd": ({"limit_price", "end_time"}, {"quote_size", "base_size", "post_only", "reduce_only"}),
    "limit_limit_fok": ({"limit_price"}, {"quote_size", "base_size", "rfq_disabled", "reduce_only"}),
    "stop_limit_stop_limit_gtc": ({"limit_price", "stop_price", "stop_direction"}, {"base_size", "reduce_only"}),
    "stop_limit_stop_limit_gtd": (
        {"limit_price", "stop_price", "stop_direction", "end_time"},
        {"base_size", "reduce_only"},
    ),
}
"""What each order configuration needs, and what it may have beside."""
ORDER_FIELDS = {
    "client_order_id",
    "product_id",
    "side",
    "order_configuration",
    "leverage",
    "margin_type",
    "retail_portfolio_id",
    "preview_id",
    "attached_order_configuration",
    "sor_preference",
    "is_max",
    "tradable_balance",
    "commission_rate",
}
IN_FORCE = {
    "GTC": "GOOD_UNTIL_CANCELLED",
    "GTD": "GOOD_UNTIL_DATE_TIME",
    "IOC": "IMMEDIATE_OR_CANCEL",
    "FOK": "FILL_OR_KILL",
}


def read_ask(body: dict[str, Any], *, is_preview: bool = False) -> Ask:
    """Return the order that a request's body asks for. Raises Malformed, naming the field."""
    for name in body:
        if name not in ORDER_FIELDS:
            raise Malformed(name, "unknown field")
    texts = {name: _text(body, name) for name in ("product_id", "side")}
    if texts["side"] not in ("BUY", "SELL"):
        raise Malformed("side", f"BUY or SELL is needed, not {texts['side']!r}")
    client_order_id = "" if is_preview else _text(body, "client_order_id")
    configurations = body.get("order_configuration")
    if not isinstance(configurations, dict) or len(configurations) != 1:
        raise Malformed("order_configuration", "exactly one configuration is needed")
    ((kind, values),) = configurations.items()
    if kind not in CONFIGURATIONS or not isinstance(values, dict):
        raise Malformed("order_configuration", f"unknown configuration {kind!r}")
    needed, allowed = CONFIGURATIONS[kind]
    for name in values:
        if name not in needed | allowed:
            raise Malformed(f"order_configuration.{kind}.{name}", "unknown field")
    for name in needed:
        if name not in values:
            raise Malformed(f"order_configuration.{kind}.{name}", "is missing")
    ask = Ask(texts["product_id"], texts["side"], client_order_id, configuration=configurations)
    _read_values(ask, kind, values)
    return ask


def _read_values(ask: Ask, kind: str, values: dict[str, Any]) -> None:
    where = f"order_configuration.{kind}."
    sizes = {name: amount_of(where + name, values[name]) for name in ("base_size", "quote_size") if name in values}
    if len(sizes) != 1:
        raise Malformed(where + "base_size", "exactly one of base_size and quote_size is needed")
    if "quote_size" in sizes and (ask.side == "SELL" or not kind.startswith("market_")):
        raise Malformed(where + "quote_size", "only a market buy is sized in quote")
    for name in ("post_only", "rfq_disabled", "reduce_only"):
        if not isinstance(values.get(name, False), bool):
            raise Malformed(where + name, f"invalid value for bool type: {values[name]!r}")
    ask.base_size, ask.quote_size = sizes.get("base_size"), sizes.get("quote_size")
    ask.post_only = values.get("post_only", False)
    ask.time_in_force = kind.rsplit("_", 1)[-1].upper()
    for name in ("limit_price", "stop_price"):
        if name in values:
            amount = amount_of(where + name, values[name])
            ask.limit_price = amount if name == "limit_price" else ask.limit_price
    if "end_time" in values:
        ask.end_time = moment_of(where + "end_time", values["end_time"])


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(name, "a string is needed")
    return value


def order_row(order: VenueOrder, account: Account) -> dict[str, Any]:
    """Return an order as ``orders/historical`` shows it."""
    filled, value, fees = order.filled, order.value, order.fees
    buys, by_quote = order.ask.side == "BUY", order.ask.quote_size is not None
    whole = order.ask.quote_size if by_quote else order.size
    part = (value + fees if by_quote else filled) / whole * 100 if whole else ZERO
    is_done = str(order.status) == "FILLED"
    average = (value / filled).quantize(Decimal("1e-16")) if filled else ZERO
    last = order.fills[-1].at if order.fills else None
    return {
        "order_id": order.order_id,
        "product_id": order.ask.product_id,
        "user_id": account.user_id,
        "order_configuration": order.ask.configuration,
        "side": order.ask.side,
        "client_order_id": order.client_order_id,
        "status": str(order.status),
        "time_in_force": IN_FORCE[order.ask.time_in_force],
        "created_time": stamp(order.created_at),
        "completion_percentage": "100" if is_done else plain(min(part, Decimal(100)).quantize(Decimal("0.01"))),
        "filled_size": plain(filled),
        "average_filled_price": plain(average),
        "fee": "",
        "number_of_fills": str(len(order.fills)),
        "filled_value": plain(value),
        "pending_cancel": order.pending_cancel,
        "size_in_quote": by_quote,
        "total_fees": plain(fees),
        "size_inclusive_of_fees": by_quote,
        "total_value_after_fees": plain(value + fees if buys else value - fees),
        "trigger_status": "INVALID_ORDER_TYPE",
        "order_type": "MARKET" if order.price is None else "LIMIT",
        "reject_reason": order.reject_reason or "REJECT_REASON_UNSPECIFIED",
        "settled": is_done,
        "product_type": "SPOT",
        "reject_message": "",
        "cancel_message": order.cancel_message,
        "order_placement_source": "RETAIL_ADVANCED",
        "outstanding_hold_amount": plain(order.hold),
        "is_liquidation": False,
        "last_fill_time": stamp(last) if last else None,
        "edit_history": order.edits,
        "leverage": "",
        "margin_type": "UNKNOWN_MARGIN_TYPE",
        "retail_portfolio_id": account.portfolio_id,
    }


def fill_row(fill: Execution, account: Account) -> dict[str, Any]:
    """Return a fill as ``orders/historical/fills`` shows it. Of an order sized in quote, so is its ``size``."""
    return {
        "entry_id": f"{fill.number:064x}",
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "trade_time": stamp(fill.at),
        "trade_type": "FILL",
        "price": plain(fill.price),
        "size": plain(fill.quote if fill.size_in_quote else fill.base),
        "commission": plain(fill.fee),
        "product_id": fill.product_id,
        "sequence_timestamp": stamp(fill.at),
        "liquidity_indicator": "MAKER" if fill.is_maker else "TAKER",
        "size_in_quote": fill.size_in_quote,
        "user_id": account.user_id,
        "side": fill.side,
        "retail_portfolio_id": account.portfolio_id,
    }


def product_row(product: Product, book: Book, aliases: list[str], now: datetime) -> dict[str, Any]:
    """Return a product as ``products`` lists it."""
    day = [row for row in book.prints if (now - row[0]).total_seconds() <= 86_400]
    last, first = book.last or ZERO, day[0][1] if day else ZERO
    change = (last / first - 1) * 100 if first else ZERO
    middle = (book.bids[0][0] + book.asks[0][0]) / 2 if book.bids and book.asks else ZERO
    return {
        "product_id": product.product_id,
        "price": plain(last),
        "price_percentage_change_24h": plain(change.quantize(Decimal("1e-10"))),
        "volume_24h": plain(sum((row[2] for row in day), ZERO)),
        "volume_percentage_change_24h": "0",
        "base_increment": plain(product.base_increment),
        "quote_increment": plain(product.quote_increment),
        "quote_min_size": plain(product.quote_min_size),
        "quote_max_size": plain(product.quote_max_size),
        "base_min_size": plain(product.base_min_size),
        "base_max_size": plain(product.base_max_size),
        "base_name": product.base,
        "quote_name": FIAT.get(product.quote, product.quote),
        "watched": False,
        "is_disabled": product.is_disabled,
        "new": False,
        "status": product.status,
        "cancel_only": product.cancel_only,
        "limit_only": product.limit_only,
        "post_only": product.post_only,
        "trading_disabled": product.trading_disabled,
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": product.quote,
        "base_currency_id": product.base,
        "fcm_trading_session_details": None,
        "mid_market_price": plain(middle),
        "alias": product.book if product.book != product.product_id else "",
        "alias_to": aliases,
        "base_display_symbol": product.base,
        "quote_display_symbol": "USD" if product.quote == "USDC" else product.quote,
        "view_only": product.view_only,
        "price_increment": plain(product.price_increment),
        "display_name": product.product_id,
        "product_venue": "CBE",
        "approximate_quote_24h_volume": plain(sum((row[2] * row[1] for row in day), ZERO)),
    }


def account_row(wallet: Wallet, account: Account) -> dict[str, Any]:
    """Return a wallet as ``accounts`` lists it."""
    return {
        "uuid": wallet.uuid,
        "name": f"{wallet.currency} Wallet",
        "currency": wallet.currency,
        "available_balance": {"value": plain(wallet.available), "currency": wallet.currency},
        "default": True,
        "active": True,
        "created_at": "2023-01-04T06:20:06.456Z",
        "updated_at": "2023-01-04T06:20:07.181Z",
        "deleted_at": None,
        "type": "ACCOUNT_TYPE_FIAT" if wallet.currency in FIAT else "ACCOUNT_TYPE_CRYPTO",
        "ready": True,
        "hold": {"value": plain(wallet.hold), "currency": wallet.currency},
        "retail_portfolio_id": account.portfolio_id,
        "platform": "ACCOUNT_PLATFORM_CONSUMER",
    }


def wallet_row(wallet: Wallet) -> dict[str, Any]:
    """Return a wallet as ``/v2/accounts`` lists it: its balance with what is on hold."""
    kind = "fiat" if wallet.currency in FIAT else "crypto"
    return {
        "id": wallet.uuid,
        "name": f"{wallet.currency} Wallet",
        "primary": True,
        "type": "fiat" if kind == "fiat" else "wallet",
        "balance": {"amount": plain(wallet.balance), "currency": wallet.currency},
        "created_at": "2023-01-04T06:20:06Z",
        "updated_at": "2023-01-04T06:20:07Z",
        "resource": "account",
        "resource_path": f"/v2/accounts/{wallet.uuid}",
        "currency": {"code": wallet.currency, "name": FIAT.get(wallet.currency, wallet.currency), "type": kind},
        "allow_deposits": True,
        "allow_withdrawals": True,
    }
