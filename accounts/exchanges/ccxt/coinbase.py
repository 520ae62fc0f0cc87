"""Coinbase Advanced Trade, through ccxt's signing and paths; bodies and answers are put and read here, as text.

Facts that matter:

* Orders are looked up by the venue's id. Without it, all orders since the order was sent are listed and matched by
  client id, whatever their product: the books of USD and USDC pairs are one, their wallets are not.
* A repeated client id is answered with the order that it has.
* The ``OPEN`` filter hides ``PENDING`` and ``QUEUED`` and cannot be combined, so working orders are asked for twice,
  the waiting ones first: one that moves on in between is then listed twice, not missed.
* Fees are only in fills. The size of a fill of an order sized in quote is in quote.
* ``quote_size`` of a market buy includes the fee.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from accounts.exchanges.base import (
    Balance,
    Capabilities,
    KeyPermissions,
    Movement,
    NewOrder,
    OrderRef,
    Trade,
    VenueTrade,
)
from accounts.exchanges.ccxt.amounts import Unreadable, amount, chunked, client_uuid, moment, one_of, rows, text
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import Dialect, KeyField, Snapshot, numbers_of
from marketdata.models import Product
from marketdata.wire import venues
from marketdata.wire.failures import Meaning, Refusal
from tradebot.core import clock
from tradebot.core.decimals import ZERO, plain, quantize, round_to
from tradebot.core.errors import VenueRejected, VenueUnknown
from tradebot.core.words import OrderStatus, OrderType, Side

__all__ = ["CoinbaseDialect"]

SIDES: Final = {"BUY": Side.BUY, "SELL": Side.SELL}
STATUSES: Final = {
    "PENDING": OrderStatus.OPEN,
    "QUEUED": OrderStatus.OPEN,
    "OPEN": OrderStatus.OPEN,
    "CANCEL_QUEUED": OrderStatus.OPEN,
    "EDIT_QUEUED": OrderStatus.OPEN,
    "UNKNOWN_ORDER_STATUS": OrderStatus.OPEN,  # not known to have ended, so it is asked for again
    "FILLED": OrderStatus.FILLED,
    "CANCELLED": OrderStatus.CANCELLED,
    "EXPIRED": OrderStatus.EXPIRED,
    "FAILED": OrderStatus.REJECTED,
}
REASONS: Final = {
    "INSUFFICIENT_FUND": "insufficient_funds",
    "INVALID_PRICE_PRECISION": "bad_increment",
    "INVALID_SIZE_PRECISION": "bad_increment",
    "INVALID_ORDER_SIZE": "bad_size",
    "INVALID_LIMIT_PRICE": "bad_price",
    "INVALID_LIMIT_PRICE_POST_ONLY": "would_trade_at_once",
    "INVALID_PRODUCT_ID": "unknown_product",
    "INVALID_NO_LIQUIDITY": "no_liquidity",
    "PRODUCT_DISABLED": "not_trading",
    "TRADING_DISABLED": "not_trading",
    "INVALID_END_TIME": "bad_expiry",
    "UNSUPPORTED_ORDER_CONFIGURATION": "bad_order",
    "ORDER_NOT_FOUND": "unknown_order",
    "ORDER_NOT_EDITABLE": "not_editable",
    "CANNOT_EDIT_TO_BELOW_FILLED_SIZE": "below_filled",
    "UNKNOWN_CANCEL_ORDER": "unknown_order",
    "COMMANDER_REJECTED_CANCEL_ORDER": "not_cancellable",
    "DUPLICATE_CANCEL_REQUEST": "being_cancelled",
}
"""The venue's reasons in our words; one that is not here is ``rejected`` with its text."""
PREVIEW_PARTS: Final = (
    ("SIZE_TOO_SMALL", "below_minimum"),
    ("SIZE_TOO_LARGE", "above_maximum"),
    ("INSUFFICIENT", "insufficient_funds"),
    ("PRECISION", "bad_increment"),
    ("TRADING_DISABLED", "not_trading"),
    ("INVALID_PRODUCT", "unknown_product"),
)
"""Parts of preview reasons, which say more than the reason itself."""
NOT_MOVEMENTS: Final = frozenset({"advanced_trade_fill", "trade", "tx", "clawback_reversal", "derivatives_settlement"})
"""Lines of a wallet's history that exchange one currency for another inside the account."""
ROWS_PER_PAGE: Final = 1000
IDS_PER_REQUEST: Final = 100
MOST_PAGES: Final = 200
CLOCK_MARGIN: Final = timedelta(minutes=10)
"""How far the venue's clock may be behind ours when orders are listed by time."""
NO_TIME_WINDOW: Final = timedelta(days=2)


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class CoinbaseDialect(Dialect):
    """See the module."""

    info = venues.get("coinbase")
    capabilities = Capabilities(
        "Coinbase",
        edits_orders=True,
        post_only=True,
        tells_permissions=True,
        lists_movements=True,
    )
    key_fields = (
        KeyField("api_key", "API key name", "It begins with organizations/ or is a plain id."),
        KeyField("api_secret", "Private key", "The whole text, with its BEGIN and END lines if it has any.", lines=6),
    )

    def refusal(self, body: Any, status: int | None) -> Refusal | None:
        """See :meth:`Dialect.refusal`."""
        if not isinstance(body, Mapping):
            return None
        error = body.get("error_response")
        if isinstance(error, Mapping):
            return _refusal(error)
        word, said = body.get("error"), str(body.get("message") or body.get("error_details") or "")[:200]
        if word in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            return Refusal("not_permitted", said, Meaning.KEYS)
        codes = {"INVALID_ARGUMENT": "bad_request", "invalid_request": "bad_request", "NOT_FOUND": "not_found"}
        return Refusal(codes[word], said) if word in codes else None

    def time(self, client: Any) -> float:
        """See :meth:`Dialect.time`."""
        answer = client.v3_public_get_brokerage_time()
        return float(amount(answer, "epochMillis")) / 1000

    # The account ------------------------------------------------------------------------------------------------------

    def balances(self, link: Connection) -> dict[str, Balance]:
        """See :meth:`Venue.balances`. Vaults and futures wallets are not for spot orders and are left out."""
        wallets: dict[str, dict[str, Any]] = {}
        for row in _pages(link, "v3_private_get_brokerage_accounts", "accounts", 250):
            if row.get("type") in ("ACCOUNT_TYPE_CRYPTO", "ACCOUNT_TYPE_FIAT"):
                wallets[text(row, "uuid")] = row
        found: dict[str, Balance] = {}
        for row in wallets.values():
            currency = text(row, "currency")
            free, held = _value(row, "available_balance"), _value(row, "hold")
            if free + held > ZERO:
                before = found.get(currency, Balance(currency, ZERO, ZERO))
                found[currency] = Balance(currency, before.total + free + held, before.held + held)
        return found

    def fee_rates(self, link: Connection) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""
        answer = link.read(lambda client: client.v3_private_get_brokerage_transaction_summary())
        tier = answer.get("fee_tier")
        if not isinstance(tier, dict):
            raise Unreadable("fee_tier")
        return amount(tier, "maker_fee_rate"), amount(tier, "taker_fee_rate")

    def permissions(self, link: Connection) -> KeyPermissions:
        """See :meth:`Venue.permissions`."""
        answer = link.read(lambda client: client.v3_private_get_brokerage_key_permissions())
        told = [answer.get(name) for name in ("can_view", "can_trade", "can_transfer")]
        view, trade, transfer = (value if isinstance(value, bool) else None for value in told)
        return KeyPermissions(view, trade, transfer, str(answer.get("portfolio_uuid") or ""))

    def movements_since(self, link: Connection, moment: datetime) -> list[Movement]:
        """See :meth:`Venue.movements_since`: one request for the wallets, one or more for each wallet's history."""
        found: list[Movement] = []
        for wallet in _v2_pages(link, "v2_private_get_accounts", {}, None):
            history = _v2_pages(
                link, "v2_private_get_accounts_account_id_transactions", {"account_id": text(wallet, "id")}, moment
            )
            moves = [_movement(row) for row in history if text(row, "type") not in NOT_MOVEMENTS]
            found += [move for move in moves if move is not None]
        return found

    # Orders -----------------------------------------------------------------------------------------------------------

    def create(self, link: Connection, order: NewOrder) -> str:
        """See :meth:`Dialect.create`."""
        request = {
            "client_order_id": str(order.client_order_id),
            "product_id": order.symbol,
            "side": "BUY" if order.side is Side.BUY else "SELL",
            "order_configuration": _configuration(order),
        }

        def put(client: Any) -> str:
            answer = client.v3_private_post_brokerage_orders(request)
            taken = answer.get("success_response")
            if answer.get("success") is not True or not isinstance(taken, Mapping):
                raise VenueUnknown("unclear_answer", "Coinbase neither took the order nor said no.")
            order_id = taken.get("order_id")
            if not isinstance(order_id, str) or not order_id:
                raise VenueUnknown("no_order_id", "Coinbase took the order without an id.")  # F4
            if taken.get("client_order_id") not in (None, "", request["client_order_id"]):
                raise VenueUnknown("other_order", "Coinbase answered about another order.")
            return order_id

        return link.write(put, symbol=order.symbol, **numbers_of(order))

    def cancel(self, link: Connection, ref: OrderRef) -> None:
        """See :meth:`Dialect.cancel`."""

        def put(client: Any) -> None:
            answer = client.v3_private_post_brokerage_orders_batch_cancel({"order_ids": [ref.venue_order_id]})
            for row in rows(answer, "results"):
                if row.get("order_id") == ref.venue_order_id:
                    if row.get("success") is True:
                        return
                    raise _rejected(str(row.get("failure_reason") or ""), "the order cannot be cancelled")
            raise Unreadable("results")

        link.write(put, symbol=ref.symbol)

    def edit(self, link: Connection, ref: OrderRef, base_size: Decimal, limit_price: Decimal) -> None:
        """See :meth:`Dialect.edit`. Both size and price are always sent."""
        request = {"order_id": ref.venue_order_id, "size": plain(base_size), "price": plain(limit_price)}

        def put(client: Any) -> None:
            answer = client.v3_private_post_brokerage_orders_edit(request)
            if answer.get("success") is True:
                return
            if answer.get("success") is False:
                errors = answer.get("errors")
                first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], Mapping) else {}
                raise _rejected(str(first.get("edit_failure_reason") or ""), "the order cannot be changed")
            raise Unreadable("success")

        link.write(put, symbol=ref.symbol, base_size=base_size, limit_price=limit_price)

    def look(self, link: Connection, refs: Sequence[OrderRef]) -> list[tuple[OrderRef, Snapshot]]:
        """See :meth:`Dialect.look`. One list for the orders whose id is known, one for all others."""
        by_id = {ref.venue_order_id: ref for ref in refs if ref.venue_order_id}
        by_client = {ref.client_order_id: ref for ref in refs if not ref.venue_order_id}
        found: dict[OrderRef, Snapshot] = {}
        for ids in chunked(list(by_id), IDS_PER_REQUEST):
            for row in _order_pages(link, {"order_ids": list(ids)}):
                if (ref := by_id.get(text(row, "order_id"))) is not None:
                    found[ref] = _snapshot(row)
                    if ref.client_order_id not in (None, found[ref].client_order_id):
                        raise Unreadable("another order")
        missing = set(by_client)
        for row in _order_pages(link, {"start_date": _stamp(_oldest(list(by_client.values())))}) if by_client else ():
            client_id = client_uuid(row.get("client_order_id"))
            if client_id in missing:
                found[by_client[client_id]] = _snapshot(row)
                missing.remove(client_id)
                if not missing:
                    break
        return list(found.items())

    def working(self, link: Connection) -> list[Snapshot]:
        """See :meth:`Dialect.working`."""
        waiting = list(_order_pages(link, {"order_status": ["PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED"]}))
        return [_snapshot(row) for row in (*waiting, *_order_pages(link, {"order_status": ["OPEN"]}))]

    def trades_of(self, link: Connection, orders: Sequence[Snapshot]) -> dict[str, list[Trade]]:
        """See :meth:`Dialect.trades_of`."""
        by_id = {order.venue_order_id: order for order in orders}
        found: dict[str, list[Trade]] = {pk: [] for pk in by_id}
        for ids in chunked(list(by_id), IDS_PER_REQUEST):
            for row in _fill_pages(link, {"order_ids": list(ids)}):
                if (order := by_id.get(text(row, "order_id"))) is not None:
                    found[order.venue_order_id].append(_trade(row, order.symbol))
        return found

    def trades_since(self, link: Connection, moment: datetime) -> list[VenueTrade]:
        """See :meth:`Dialect.trades_since`. Fills name no client id, so their orders are listed too."""
        fills = list(_fill_pages(link, {"start_sequence_timestamp": _stamp(moment)}))
        clients: dict[str, UUID | None] = {}
        for ids in chunked(list(dict.fromkeys(text(row, "order_id") for row in fills)), IDS_PER_REQUEST):
            for row in _order_pages(link, {"order_ids": list(ids)}):
                clients[text(row, "order_id")] = client_uuid(row.get("client_order_id"))
        return [
            VenueTrade(
                _trade(row, text(row, "product_id")),
                text(row, "product_id"),
                one_of(row, "side", SIDES),
                clients.get(text(row, "order_id")),
                text(row, "order_id"),
            )
            for row in fills
        ]


# Requests ------------------------------------------------------------------------------------------------------------


def _configuration(order: NewOrder) -> dict[str, Any]:
    if order.order_type is OrderType.MARKET:
        if order.quote_size is not None:
            return {"market_market_ioc": {"quote_size": plain(order.quote_size)}}
        return {"market_market_ioc": {"base_size": plain(order.base_size or ZERO)}}
    limit = {
        "base_size": plain(order.base_size or ZERO),
        "limit_price": plain(order.limit_price or ZERO),
        "post_only": False,
    }
    if order.expires_at is not None:
        return {"limit_limit_gtd": {**limit, "end_time": _stamp(order.expires_at)}}
    return {"limit_limit_gtc": limit}


def _oldest(refs: Sequence[OrderRef]) -> datetime:
    """Return since when orders have to be listed to find all of these."""
    return min(ref.sent_at or clock.now() - NO_TIME_WINDOW for ref in refs) - CLOCK_MARGIN


def _pages(
    link: Connection, method: str, name: str, limit: int, query: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of every page. A page that fails, or pages without end, fail the whole (F66)."""
    cursor, seen = "", set[str]()
    for _ in range(MOST_PAGES):
        answer = _asked(link, method, {**(query or {}), "limit": limit, **({"cursor": cursor} if cursor else {})})
        found = rows(answer, name)
        yield from found
        cursor = str(answer.get("cursor") or "")
        if not cursor or answer.get("has_next") is False or not found:
            return
        if cursor in seen:
            raise Unreadable("cursor")
        seen.add(cursor)
    raise Unreadable("pages without end")


def _asked(link: Connection, method: str, query: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = link.read(lambda client: getattr(client, method)(dict(query)))
    return answer


def _order_pages(link: Connection, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return _pages(link, "v3_private_get_brokerage_orders_historical_batch", "orders", ROWS_PER_PAGE, query)


def _fill_pages(link: Connection, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return _pages(link, "v3_private_get_brokerage_orders_historical_fills", "fills", ROWS_PER_PAGE, query)


def _v2_pages(
    link: Connection, method: str, query: Mapping[str, Any], since: datetime | None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a ``/v2`` listing, newest first, until those before ``since``."""
    after = ""
    for _ in range(MOST_PAGES):
        answer = _asked(link, method, {**query, "limit": 100, **({"starting_after": after} if after else {})})
        found = rows(answer, "data")
        yield from found
        if since is not None and found and moment(found[-1], "created_at") < since:
            return
        paging = answer.get("pagination")
        following = str(paging.get("next_starting_after") or "") if isinstance(paging, Mapping) else ""
        if not following:
            return
        if following == after:
            raise Unreadable("pagination")
        after = following
    raise Unreadable("pages without end")


# Answers -------------------------------------------------------------------------------------------------------------


def _refusal(error: Mapping[str, Any]) -> Refusal:
    reason, preview = str(error.get("error") or ""), str(error.get("preview_failure_reason") or "")
    said = str(error.get("message") or error.get("error_details") or reason)[:200]
    for part, code in PREVIEW_PARTS:
        if part in preview:
            return Refusal(code, said)
    return Refusal(REASONS.get(reason, "rejected"), said)


def _rejected(reason: str, text_for_people: str) -> VenueRejected:
    return VenueRejected(REASONS.get(reason, "rejected"), f"Coinbase said no: {text_for_people}.", reason=reason)


def _value(row: Mapping[str, Any], name: str) -> Decimal:
    money = row.get(name)
    if not isinstance(money, Mapping):
        raise Unreadable(name)
    return amount(money, "value")


def _snapshot(row: Mapping[str, Any]) -> Snapshot:
    status: OrderStatus = one_of(row, "status", STATUSES)
    filled, count = amount(row, "filled_size", ZERO), amount(row, "number_of_fills", ZERO)
    if status is OrderStatus.REJECTED and filled > ZERO:
        status = OrderStatus.CANCELLED
    reason = str(row.get("reject_reason") or "")
    code = REASONS.get(reason, "rejected") if status is OrderStatus.REJECTED else ""
    said = str(row.get("reject_message") or row.get("cancel_message") or "")
    return Snapshot(
        client_uuid(row.get("client_order_id")),
        text(row, "order_id"),
        text(row, "product_id"),
        one_of(row, "side", SIDES),
        status,
        filled,
        int(count),
        code,
        said[:300],
        moment(row, "created_time"),
        row.get("size_in_quote") is True,
    )


def _trade(row: Mapping[str, Any], symbol: str) -> Trade:
    price, size = amount(row, "price"), amount(row, "size")
    if price <= ZERO or size <= ZERO:
        raise Unreadable("fill")
    if row.get("size_in_quote") is True:
        base, quote = _base_of(symbol, size, price), size
    else:
        base, quote = size, quantize(size * price)
    return Trade(
        text(row, "trade_id"),
        price,
        base,
        quote,
        amount(row, "commission"),
        symbol.partition("-")[2],
        row.get("liquidity_indicator") == "MAKER",
        moment(row, "trade_time"),
    )


def _base_of(symbol: str, quote: Decimal, price: Decimal) -> Decimal:
    """Return the base of a fill whose size is in quote: a multiple of the product's step, as every fill is."""
    step = Product.objects.filter(exchange="coinbase", symbol=symbol).values_list("base_increment", flat=True).first()
    return quantize(quote / price) if step is None else round_to(quote / price, step)


def _movement(row: Mapping[str, Any]) -> Movement | None:
    """Return what came in or left: what is complete, and withdrawals under way, which have left the balance already.

    A deposit under way is in no balance yet; what failed or was taken back never was.
    """
    is_settled = row.get("status") == "completed"
    if not is_settled and row.get("status") != "pending":
        return None
    money = row.get("amount")
    if not isinstance(money, Mapping):
        raise Unreadable("amount")
    moved = amount(money, "amount")
    if not is_settled and moved >= ZERO:
        return None
    at, what = moment(row, "created_at"), text(row, "type").replace("_", " ")
    return Movement(text(row, "id"), text(money, "currency"), moved, at, what, is_settled)
