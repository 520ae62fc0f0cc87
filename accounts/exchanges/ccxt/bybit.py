"""Bybit, unified accounts (API v5): spot, and linear perpetuals settled in USDT, whose own matters are ``bybit_perps``.

* Answers have status 200 and say in ``retCode`` what went wrong.
* An order is in the list of recent ones, and later in the history; both are asked by our id, in the product's category.
* Orders do not expire. A repeated client id may be taken anew once its order has ended, so it is looked up first.
* ``BTCUSDT`` is a pair and a contract: rows do not say which, so what was asked for is written into them.
* Contracts tell their fees without a currency: they are in what the contract is settled in. Funding is listed among the
  executions and is none.
* A key that may not see contracts is not asked about them again for an hour; its account has none by that key.
* What an account holds of a currency is its wallet balance. Held are what spot orders have locked and the margins of
  contracts, orders and positions; profit that is not realised is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import Any, Final

from accounts.exchanges.base import (
    Balance,
    Capabilities,
    FundingMovement,
    KeyPermissions,
    NewOrder,
    OrderRef,
    VenueTrade,
)
from accounts.exchanges.ccxt.amounts import Unreadable, amount, millis, rows, text
from accounts.exchanges.ccxt.bybit_perps import (
    LINEAR,
    SETTLED_IN,
    UNLISTED,
    BybitPerps,
    is_forced,
    is_perpetual,
    result_of,
    windows,
)
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import KeyField, Snapshot
from accounts.exchanges.ccxt.rows import OrderColumns, TradeColumns, is_market, trading_fee
from marketdata.wire import venues
from marketdata.wire.failures import Meaning, Refusal
from tradebot.core import clock
from tradebot.core.decimals import ZERO, plain
from tradebot.core.errors import VenueDenied
from tradebot.core.words import OrderStatus, Side

__all__ = ["BybitDialect"]

MOST_PAGES: Final = 200
LONGEST_LIST: Final = timedelta(days=7)
AHEAD: Final = timedelta(minutes=10)
"""How far the venue's clock may be ahead of ours."""
DENIED_SECONDS: Final = 3600
CODES: Final = {
    10000: ("venue_failed", Meaning.FAILED),
    10002: ("clock_skew", Meaning.CLOCK),
    10003: ("keys_refused", Meaning.KEYS),
    10004: ("keys_refused", Meaning.KEYS),
    10005: ("not_permitted", Meaning.KEYS),
    10006: ("throttled", Meaning.SLOWER),
    10009: ("restricted_location", Meaning.KEYS),
    10010: ("keys_refused", Meaning.KEYS),
    10016: ("venue_failed", Meaning.FAILED),
    10018: ("throttled", Meaning.SLOWER),
    33004: ("keys_refused", Meaning.KEYS),
    110001: ("unknown_order", Meaning.NO),
    110003: ("bad_price", Meaning.NO),
    110004: ("insufficient_funds", Meaning.NO),
    110006: ("insufficient_funds", Meaning.NO),
    110007: ("insufficient_funds", Meaning.NO),
    110008: ("already_ended", Meaning.NO),
    110009: ("too_many_orders", Meaning.NO),
    110010: ("already_ended", Meaning.NO),
    110012: ("insufficient_funds", Meaning.NO),
    110013: ("bad_leverage", Meaning.NO),
    110017: ("no_position", Meaning.NO),
    110020: ("too_many_orders", Meaning.NO),
    110023: ("reduce_only", Meaning.NO),
    110043: ("leverage_not_modified", Meaning.NO),
    110044: ("insufficient_funds", Meaning.NO),
    110045: ("insufficient_funds", Meaning.NO),
    110072: ("duplicate_client_id", Meaning.NO),
    110092: ("would_trigger_at_once", Meaning.NO),
    110093: ("would_trigger_at_once", Meaning.NO),
    110094: ("below_minimum", Meaning.NO),
    3400045: ("margin_mode_refused", Meaning.NO),
    170121: ("unknown_product", Meaning.NO),
    170124: ("above_maximum", Meaning.NO),
    170131: ("insufficient_funds", Meaning.NO),
    170134: ("bad_increment", Meaning.NO),
    170136: ("below_minimum", Meaning.NO),
    170137: ("bad_increment", Meaning.NO),
    170140: ("below_minimum", Meaning.NO),
    170141: ("duplicate_client_id", Meaning.NO),
    170142: ("unknown_order", Meaning.NO),
    170143: ("unknown_order", Meaning.NO),
    170213: ("unknown_order", Meaning.NO),
}
BAD_PARAMETER: Final = 10001
PARAMETERS: Final = (
    ("position idx", "hedge_mode"),
    ("minimum limit", "below_minimum"),
    ("qty invalid", "bad_increment"),
    ("price invalid", "bad_increment"),
)
"""What is wrong with a request that Bybit only calls wrong, by words of its text."""
SPOT: Final = {"category": "spot"}
NO_TRADE: Final = "Funding"
HELD: Final = ("locked", "totalOrderIM", "totalPositionIM")
RISES_TO, FALLS_TO = 1, 2


class BybitDialect(BybitPerps):
    """See the module."""

    info = venues.get("bybit")
    capabilities = Capabilities(
        "Bybit",
        refuses_repeated_client_id=False,
        good_till_date=False,
        tells_permissions=True,
        perpetuals=True,
        stop_orders=True,
        one_margin_mode=True,
    )
    key_fields = (KeyField("api_key", "API key"), KeyField("api_secret", "API secret"))
    order_columns = OrderColumns(
        "orderId",
        "orderLinkId",
        "symbol",
        "side",
        "orderStatus",
        "cumExecQty",
        {"Buy": Side.BUY, "Sell": Side.SELL},
        {
            "New": OrderStatus.OPEN,
            "PartiallyFilled": OrderStatus.OPEN,
            "Untriggered": OrderStatus.OPEN,
            "Triggered": OrderStatus.OPEN,
            "Filled": OrderStatus.FILLED,
            "Cancelled": OrderStatus.CANCELLED,
            "PartiallyFilledCanceled": OrderStatus.CANCELLED,
            "Deactivated": OrderStatus.CANCELLED,
            "Rejected": OrderStatus.REJECTED,
        },
        "rejectReason",
    )
    trade_columns = TradeColumns(
        "execId",
        "orderId",
        "symbol",
        "side",
        "execPrice",
        "execQty",
        "execFee",
        "feeCurrency",
        "isMaker",
        {"True": True},
        "execTime",
        quote="execValue",
        client_id="orderLinkId",
    )

    def refusal(self, body: Any, status: int | None) -> Refusal | None:
        """See :meth:`Dialect.refusal`."""
        code = body.get("retCode") if isinstance(body, Mapping) else None
        if not isinstance(code, int):
            return None
        said = str(body.get("retMsg") or "")[:200]
        if code == BAD_PARAMETER:
            return next((Refusal(ours, said) for words, ours in PARAMETERS if words in said.lower()), None)
        if code not in CODES:
            return None
        ours, meaning = CODES[code]
        return Refusal(ours, said, meaning)

    # Products ---------------------------------------------------------------------------------------------------------

    def prepare(self, link: Connection, symbol: str = "") -> None:
        """See :meth:`Dialect.prepare`."""
        super().prepare(link, "" if symbol.startswith(UNLISTED) else symbol)

    def market(self, client: Any, symbol: str) -> Mapping[str, Any]:
        """See :meth:`RowDialect.market`."""
        if symbol.startswith(UNLISTED):
            return {"id": symbol.removeprefix(UNLISTED)}
        return super().market(client, symbol)

    def symbol(self, client: Any, word: str, *, is_contract: bool = False) -> str:
        """See :meth:`RowDialect.symbol`."""
        if is_contract and word not in client.contracts_by_word:
            return f"{UNLISTED}{word[:30]}"
        return super().symbol(client, word, is_contract=is_contract)

    def is_contract(self, row: Mapping[str, Any]) -> bool:
        """See :meth:`RowDialect.is_contract`."""
        return row.get("category") == LINEAR["category"]

    # Requests ---------------------------------------------------------------------------------------------------------

    def put_order(self, client: Any, order: NewOrder, market: Mapping[str, Any]) -> Any:
        """See :meth:`RowDialect.put_order`."""
        request = {
            **_category(order.symbol),
            "symbol": market["id"],
            "side": "Buy" if order.side is Side.BUY else "Sell",
            "orderType": "Market" if is_market(order) else "Limit",
            "qty": plain(order.quote_size if order.quote_size is not None else order.base_size or ZERO),
            "orderLinkId": self.client_word(order.client_order_id),
        }
        if is_perpetual(order.symbol):
            request |= {"positionIdx": 0, "reduceOnly": order.reduce_only}
            if order.trigger_price is not None:
                request |= {
                    "triggerPrice": plain(order.trigger_price),
                    "triggerDirection": RISES_TO if order.side is Side.BUY else FALLS_TO,
                    "triggerBy": "LastPrice",
                }
        elif is_market(order):
            request["marketUnit"] = "quoteCoin" if order.quote_size is not None else "baseCoin"
        if not is_market(order):
            request |= {"price": plain(order.limit_price or ZERO), "timeInForce": "GTC"}
        return result_of(client.private_post_v5_order_create(request)).get("orderId")

    def put_cancel(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> None:
        """See :meth:`RowDialect.put_cancel`."""
        client.private_post_v5_order_cancel({**_category(ref.symbol), "symbol": market["id"], **self._which(ref)})

    def ask_order(self, client: Any, ref: OrderRef, market: Mapping[str, Any]) -> dict[str, Any] | None:
        """See :meth:`RowDialect.ask_order`."""
        category = _category(ref.symbol)
        query = {**category, "symbol": market["id"], **self._which(ref)}
        for ask in (client.private_get_v5_order_realtime, client.private_get_v5_order_history):
            if found := rows(result_of(ask(dict(query))), "list"):
                return {**found[0], **category}
        return None

    def _which(self, ref: OrderRef) -> dict[str, str]:
        if ref.venue_order_id:
            return {"orderId": ref.venue_order_id}
        return {"orderLinkId": self.client_word(ref.client_order_id)}

    def ask_working(self, link: Connection) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_working`."""
        yield from self.pages(link, "private_get_v5_order_realtime", {**SPOT, "openOnly": 0, "limit": 50})
        query = {**LINEAR, "settleCoin": SETTLED_IN, "openOnly": 0, "limit": 50}
        yield from self._if_seen(link, self.pages(link, "private_get_v5_order_realtime", query))

    def ask_trades(self, link: Connection, order: Snapshot, market: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades`: the last seven days unless others are asked for, so an order that has
        rested for longer is asked for from its beginning."""
        query = {**_category(order.symbol), "orderId": order.venue_order_id, "limit": 100}
        now = clock.now()
        if order.created_at is None or now - order.created_at < LONGEST_LIST - AHEAD:
            return self.pages(link, "private_get_v5_execution_list", query)
        stretches = windows(order.created_at - AHEAD, now + AHEAD, LONGEST_LIST)
        lists = (self.pages(link, "private_get_v5_execution_list", {**query, **times}) for times in stretches)
        return chain.from_iterable(lists)

    def ask_trades_since(self, link: Connection, moment: datetime) -> Iterable[dict[str, Any]]:
        """See :meth:`RowDialect.ask_trades_since`: seven days in one list at most."""
        yield from self._executions(link, SPOT, moment)
        yield from self._if_seen(link, self.contract_executions(link, moment))

    def contract_executions(self, link: Connection, moment: datetime) -> Iterable[dict[str, Any]]:
        """See :meth:`BybitPerps.contract_executions`."""
        return (row for row in self._executions(link, LINEAR, moment) if row.get("execType") != NO_TRADE)

    def _executions(self, link: Connection, category: Mapping[str, str], moment: datetime) -> Iterable[dict[str, Any]]:
        for times in windows(moment, clock.now() + AHEAD, LONGEST_LIST):
            yield from self.pages(link, "private_get_v5_execution_list", {**category, **times, "limit": 100})

    def _if_seen(self, link: Connection, found: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """Return the rows, none for a key that may not see contracts: then nothing was placed with it."""
        denied_at = getattr(link.client, "contracts_denied_at", None)
        if denied_at is not None and time.monotonic() - denied_at < DENIED_SECONDS:
            return
        try:
            yield from found
        except VenueDenied as error:
            if error.code != "not_permitted":
                raise
            link.client.contracts_denied_at = time.monotonic()

    def pages(self, link: Connection, method: str, query: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        """See :meth:`BybitPerps.pages`; each row with its category."""
        cursor, category = "", {"category": query["category"]} if "category" in query else {}
        for _ in range(MOST_PAGES):
            answer = link.read(partial(_asked, method, {**query, **({"cursor": cursor} if cursor else {})}))
            found = rows(answer, "list")
            for row in found:
                yield {**row, **category}
            following = str(answer.get("nextPageCursor") or "")
            if not following or not found:
                return
            if following == cursor:
                raise Unreadable("cursor")
            cursor = following
        raise Unreadable("pages without end")

    def snapshot(self, client: Any, row: Mapping[str, Any]) -> Snapshot:
        """See :meth:`RowDialect.snapshot`."""
        return replace(super().snapshot(client, row), created_at=millis(row, "createdTime"))

    def trade(self, client: Any, row: Mapping[str, Any]) -> VenueTrade:
        """See :meth:`RowDialect.trade`."""
        return replace(super().trade(client, row), is_forced=is_forced(row))

    # The account ------------------------------------------------------------------------------------------------------

    def balances(self, link: Connection) -> dict[str, Balance]:
        """See :meth:`Venue.balances`."""
        self.prepare(link)
        query = {"accountType": "UNIFIED"}
        answer = link.read(partial(_asked, "private_get_v5_account_wallet_balance", query))
        found: dict[str, Balance] = {}
        for row in (coin for account in rows(answer, "list") for coin in rows(account, "coin")):
            currency = str(link.client.safe_currency_code(text(row, "coin")))
            total, held = amount(row, "walletBalance"), sum((amount(row, name, ZERO) for name in HELD), ZERO)
            if total != ZERO or held != ZERO:
                found[currency] = Balance(currency, total, held)
        return found

    def funding_since(self, link: Connection, moment: datetime) -> list[FundingMovement]:
        """See :meth:`Dialect.funding_since`."""
        self.prepare(link)
        query = {"accountType": "UNIFIED", **LINEAR, "currency": SETTLED_IN, "type": "SETTLEMENT", "limit": 50}
        return [
            movement
            for times in windows(moment, clock.now() + AHEAD, LONGEST_LIST)
            for movement in self.funding_movements(
                link.client, self.pages(link, "private_get_v5_account_transaction_log", {**query, **times})
            )
        ]

    def fee_rates(self, link: Connection) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""
        return trading_fee(self, link, ("BTC/USDT", "BTC/USDC"))

    def permissions(self, link: Connection) -> KeyPermissions:
        """See :meth:`Venue.permissions`."""
        answer = result_of(link.read(lambda client: client.private_get_v5_user_query_api()))
        may = answer.get("permissions")
        if not isinstance(may, Mapping):
            raise Unreadable("permissions")
        trades = "SpotTrade" in (may.get("Spot") or []) and answer.get("readOnly") == 0
        return KeyPermissions(True, trades, "Withdraw" in (may.get("Wallet") or []))


def _category(symbol: str) -> dict[str, str]:
    return LINEAR if is_perpetual(symbol) else SPOT


def _asked(method: str, query: Mapping[str, Any], client: Any) -> dict[str, Any]:
    return result_of(getattr(client, method)(dict(query)))
