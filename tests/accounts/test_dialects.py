"""Kraken, Bybit and OKX: what is put on the wire, and what is believed of answers in their documented forms."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.test import override_settings
from pytest_httpserver import HTTPServer

from accounts.exchanges.base import Balance, NewOrder, OrderRef
from accounts.models import Account
from marketdata import sources
from marketdata.sources.limiter import AddressLimiter
from tests.accounts import answers
from tests.accounts.answers import CLIENT_ID, Scripted, bybit, kraken, okx
from tests.accounts.live import PLENTY, unhurried
from tests.factories import AccountFactory, ExchangeCredentialFactory
from tradebot.core.crypto import Secret
from tradebot.core.errors import (
    VenueDenied,
    VenueRejected,
    VenueThrottled,
    VenueUnavailable,
    VenueUnknown,
)
from tradebot.core.words import OrderStatus, OrderType, Side

pytestmark = pytest.mark.django_db

ID = UUID(CLIENT_ID)
QUOTE = {"kraken": "USD", "bybit": "USDT", "okx": "USDT"}
ANSWERS = {"kraken": answers.KRAKEN_ANSWERS, "bybit": answers.BYBIT_ANSWERS, "okx": answers.OKX_ANSWERS}
ORDER_ID = {"kraken": "OQCLML-BW3P3-BUCMWZ", "bybit": "1523347543495541248", "okx": "312269865356374016"}
PLACE = {"kraken": "/0/private/AddOrder", "bybit": "/v5/order/create", "okx": "/api/v5/trade/order"}
NOTHING = {
    "kraken": {"/0/private/OpenOrders": kraken(open={}), "/0/private/QueryOrders": kraken()},
    "bybit": {"/v5/order/realtime": bybit(list=[])},
    "okx": {"/api/v5/trade/order": okx(code="51603", message="Order does not exist")},
}


class Case:
    """One venue with its answers."""

    def __init__(self, slug: str, scripted: Scripted, account: Account) -> None:
        self.slug, self.scripted, self.account = slug, scripted, account
        self.symbol = f"BTC-{QUOTE[slug]}"
        self.venue: Any = unhurried(account, scripted.url)
        sources.get(slug).limiter = AddressLimiter(scripted.url, PLENTY.public)  # type: ignore[attr-defined]

    def unknown(self, then: Any = None) -> None:
        """Let the order not be known when it is looked up first."""
        for path, answer in NOTHING[self.slug].items():
            after = self.scripted.answers[path] if then is None else then
            self.scripted.answers[path] = [answer, after]

    def order(self, **fields: Any) -> NewOrder:
        kind = OrderType.LIMIT if "limit_price" in fields else OrderType.MARKET
        return NewOrder(ID, self.symbol, fields.pop("side", Side.BUY), kind, **fields)

    def put(self, **fields: Any) -> dict[str, Any]:
        """Place an order and return the parameters that it was put with."""
        if self.slug == "okx":
            self.scripted.answers[PLACE["okx"]] = [
                okx(code="51603"),
                okx(answers.OKX_TAKEN),
                okx(answers.OKX_ORDER),
            ]
        else:
            self.unknown()
        self.venue.place(self.order(**fields))
        sent = [row for row in self.scripted.sent if row.path == PLACE[self.slug] and row.method == "POST"]
        assert len(sent) == 1
        return sent[0].parameters


@pytest.fixture(params=["kraken", "bybit", "okx"])
def case(request: pytest.FixtureRequest, httpserver: HTTPServer) -> Iterator[Case]:
    yield from _case(request.param, httpserver)


def _case(slug: str, httpserver: HTTPServer) -> Iterator[Case]:
    scripted = Scripted(httpserver, dict(ANSWERS[slug]))
    sources._exchange.cache_clear()  # its products are another server's
    with override_settings(**{f"{slug.upper()}_URL": scripted.url}):
        account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange=slug)
        ExchangeCredentialFactory(
            account=account, api_key=Secret("key"), api_secret=Secret("c2VjcmV0"), passphrase=Secret("words")
        )
        yield Case(slug, scripted, account)


def ref(case: Case, venue_order_id: str = "") -> OrderRef:
    return OrderRef(ID, case.symbol, venue_order_id)


def test_a_limit_order_is_put_digit_for_digit(case: Case) -> None:
    put = case.put(base_size=Decimal("0.0123450000"), limit_price=Decimal("50000.10"))
    expected = {
        "kraken": {
            "pair": "XXBTZUSD",
            "type": "buy",
            "ordertype": "limit",
            "volume": "0.012345",
            "price": "50000.1",
            "oflags": "fciq",
            "cl_ord_id": CLIENT_ID,
        },
        "bybit": {
            "category": "spot",
            "symbol": "BTCUSDT",
            "side": "Buy",
            "orderType": "Limit",
            "qty": "0.012345",
            "price": "50000.1",
            "timeInForce": "GTC",
            "orderLinkId": CLIENT_ID,
        },
        "okx": {
            "instId": "BTC-USDT",
            "tdMode": "cash",
            "side": "buy",
            "ordType": "limit",
            "sz": "0.012345",
            "px": "50000.1",
            "clOrdId": CLIENT_ID.replace("-", ""),
        },
    }
    assert put == expected[case.slug]


def test_a_market_buy_by_quote_and_one_by_base(case: Case) -> None:
    by_quote = case.put(quote_size=Decimal("250.5"))
    expected = {
        "kraken": {"ordertype": "market", "volume": "250.5", "oflags": "fciq,viqc"},
        "bybit": {"orderType": "Market", "qty": "250.5", "marketUnit": "quoteCoin"},
        "okx": {"ordType": "market", "sz": "250.5", "tgtCcy": "quote_ccy"},
    }[case.slug]
    assert expected.items() <= by_quote.items()
    assert not {"price", "px"} & set(by_quote)
    case.scripted.sent.clear()
    by_base = case.put(base_size=Decimal("0.01"), side=Side.SELL)
    expected = {
        "kraken": {"type": "sell", "volume": "0.01", "oflags": "fciq"},
        "bybit": {"side": "Sell", "qty": "0.01", "marketUnit": "baseCoin"},
        "okx": {"side": "sell", "sz": "0.01", "tgtCcy": "base_ccy"},
    }[case.slug]
    assert expected.items() <= by_base.items()


def test_an_end_is_put_where_it_is_offered(case: Case) -> None:
    until = datetime(2026, 12, 24, 18, 0, tzinfo=UTC)
    limit = {"base_size": Decimal("0.01"), "limit_price": Decimal(50000), "expires_at": until}
    if case.slug == "kraken":
        assert {"timeinforce": "GTD", "expiretm": str(int(until.timestamp()))}.items() <= case.put(**limit).items()
        return
    case.unknown()
    with pytest.raises(VenueRejected) as caught:
        case.venue.place(case.order(**limit))
    assert caught.value.code == "not_offered"
    assert all(row.method != "POST" or row.path != PLACE[case.slug] for row in case.scripted.sent)


def test_an_order_and_its_trades_are_read(case: Case) -> None:
    for found in (case.venue.find(ref(case)), case.venue.find(ref(case, ORDER_ID[case.slug]))):
        assert (found.client_order_id, found.venue_order_id) == (ID, ORDER_ID[case.slug])
        assert (found.status, found.symbol) == (OrderStatus.PARTIALLY_FILLED, case.symbol)
        (trade,) = found.trades
        assert (trade.price, trade.base, trade.quote, trade.is_maker) == (50000, Decimal("0.004"), 200, True)
        fee = {"kraken": (Decimal("0.8"), "USD")}.get(case.slug, (Decimal("0.000004"), "BTC"))
        assert (trade.fee, trade.fee_currency) == fee
        assert abs(trade.at - datetime(2023, 7, 6, 18, 23, 16, 880000, tzinfo=UTC)) < timedelta(milliseconds=1)


def test_an_order_is_known_by_the_venues_id_alone(case: Case) -> None:
    found = case.venue.find(OrderRef(None, case.symbol, ORDER_ID[case.slug]))
    assert found.client_order_id == ID


def test_an_order_nobody_knows_is_none(case: Case) -> None:
    case.unknown(then=next(iter(NOTHING[case.slug].values())))
    assert case.venue.find(ref(case)) is None


def test_a_client_id_that_is_known_is_not_sent_again(case: Case) -> None:
    """They take a repeated id anew once its order has ended, so it is looked up first."""
    report = case.venue.place(case.order(base_size=Decimal("0.01"), limit_price=Decimal(50000)))
    assert report.venue_order_id == ORDER_ID[case.slug]
    assert not [row for row in case.scripted.sent if row.path == PLACE[case.slug] and row.method == "POST"]


def test_a_look_that_fails_before_an_order_means_that_nothing_was_sent(case: Case) -> None:
    for path in NOTHING[case.slug]:
        case.scripted.answers[path] = (503, {})
    with pytest.raises(VenueThrottled) as caught:
        case.venue.place(case.order(quote_size=Decimal(100)))
    assert caught.value.outcome_known
    assert not [row for row in case.scripted.sent if row.path == PLACE[case.slug] and row.method == "POST"]


def test_f4_an_order_taken_without_an_id_is_unknown(case: Case) -> None:
    empty = {"kraken": kraken(txid=[]), "bybit": bybit(), "okx": [okx(code="51603"), okx()]}[case.slug]
    if case.slug != "okx":
        case.unknown()
    case.scripted.answers[PLACE[case.slug]] = empty
    with pytest.raises(VenueUnknown):
        case.venue.place(case.order(quote_size=Decimal(100)))


NO = [
    ("kraken", {"error": ["EOrder:Insufficient funds"]}, VenueRejected, "insufficient_funds"),
    ("kraken", {"error": ["EOrder:Order minimum not met"]}, VenueRejected, "below_minimum"),
    ("kraken", {"error": ["EOrder:Tick size check failed"]}, VenueRejected, "bad_increment"),
    ("kraken", {"error": ["EOrder:Something new"]}, VenueRejected, "rejected"),
    ("kraken", {"error": ["EAPI:Invalid key"]}, VenueDenied, "keys_refused"),
    ("kraken", {"error": ["EGeneral:Permission denied"]}, VenueDenied, "not_permitted"),
    ("kraken", {"error": ["EAPI:Rate limit exceeded"]}, VenueThrottled, "throttled"),
    ("kraken", {"error": ["EService:Unavailable"]}, VenueUnknown, "venue_failed"),
    ("kraken", {"error": ["EService:Timeout"]}, VenueUnknown, "venue_failed"),
    ("kraken", {"error": ["EWhatever:New"]}, VenueUnknown, "unclear_answer"),
    ("bybit", bybit(170131, "Balance insufficient"), VenueRejected, "insufficient_funds"),
    ("bybit", bybit(170140, "Order value exceeded lower limit"), VenueRejected, "below_minimum"),
    ("bybit", bybit(170134, "Order price has too many decimals."), VenueRejected, "bad_increment"),
    ("bybit", bybit(10003, "API key is invalid."), VenueDenied, "keys_refused"),
    ("bybit", bybit(10005, "Permission denied"), VenueDenied, "not_permitted"),
    ("bybit", bybit(10006, "Too many visits!"), VenueThrottled, "throttled"),
    ("bybit", bybit(10016, "Server error."), VenueUnknown, "venue_failed"),
    ("bybit", bybit(10000, "Server Timeout"), VenueUnknown, "venue_failed"),
    ("bybit", bybit(99999999, "something new"), VenueUnknown, "unclear_answer"),
    ("okx", okx({"sCode": "51008", "sMsg": "Insufficient balance"}, code="1"), VenueRejected, "insufficient_funds"),
    ("okx", okx({"sCode": "51020", "sMsg": "Below minimum"}, code="1"), VenueRejected, "below_minimum"),
    ("okx", okx({"sCode": "51121", "sMsg": "Lot size"}, code="1"), VenueRejected, "bad_increment"),
    ("okx", (401, okx(code="50111", message="Invalid OK-ACCESS-KEY")), VenueDenied, "keys_refused"),
    ("okx", (429, okx(code="50011", message="Too Many Requests")), VenueThrottled, "throttled"),
    ("okx", okx(code="50004", message="Endpoint request timeout"), VenueUnknown, "no_answer"),
    ("okx", (503, okx(code="50001", message="Service temporarily unavailable")), VenueUnknown, "venue_failed"),
    ("okx", okx(code="99999", message="something new"), VenueUnknown, "unclear_answer"),
]


@pytest.mark.parametrize(("slug", "answer", "error", "code"), NO, ids=lambda value: str(value)[:60])
def test_what_went_wrong_with_an_order(
    slug: str, answer: Any, error: type[Exception], code: str, httpserver: HTTPServer
) -> None:
    for case in _case(slug, httpserver):
        if slug == "okx":
            case.scripted.answers[PLACE[slug]] = [okx(code="51603"), answer]
        else:
            case.unknown()
            case.scripted.answers[PLACE[slug]] = answer
        with pytest.raises(error) as caught:
            case.venue.place(case.order(quote_size=Decimal(100)))
        assert caught.value.code == code  # type: ignore[attr-defined]
        assert len([row for row in case.scripted.sent if row.path == PLACE[slug] and row.method == "POST"]) == 1


def test_a_cancel_is_put_by_our_id_and_by_the_venues(case: Case) -> None:
    path = {"kraken": "/0/private/CancelOrder", "bybit": "/v5/order/cancel", "okx": "/api/v5/trade/cancel-order"}
    for asked in (ref(case), ref(case, ORDER_ID[case.slug])):
        assert case.venue.cancel(asked).venue_order_id == ORDER_ID[case.slug]
    ours, theirs = case.scripted.asked(path[case.slug])
    names = {"kraken": ("cl_ord_id", "txid"), "bybit": ("orderLinkId", "orderId"), "okx": ("clOrdId", "ordId")}
    by_us, by_them = names[case.slug]
    assert ours[by_us].replace("-", "") == ID.hex
    assert by_them not in ours
    assert theirs[by_them] == ORDER_ID[case.slug]


def test_balances_fees_and_permissions_are_read(case: Case) -> None:
    total, held = {"kraken": ("5325.12", "504")}.get(case.slug, ("5000", "300"))
    quote = QUOTE[case.slug]
    assert case.venue.balances() == {
        quote: Balance(quote, Decimal(total), Decimal(held)),
        "BTC": Balance("BTC", Decimal("0.5"), Decimal(0)),
    }
    fees = {"kraken": ("0.0025", "0.004"), "bybit": ("0.001", "0.0018"), "okx": ("0.0008", "0.001")}
    assert case.venue.fee_rates() == tuple(Decimal(rate) for rate in fees[case.slug])
    permissions = case.venue.permissions()
    assert permissions.can_view
    if case.venue.capabilities.tells_permissions:
        assert (permissions.can_trade, permissions.can_withdraw) == (True, False)
    else:
        assert (permissions.can_trade, permissions.can_withdraw) == (None, None)


def test_open_orders_and_executions_are_read(case: Case) -> None:
    (order,) = case.venue.open_orders()
    assert (order.client_order_id, order.status) == (ID, OrderStatus.PARTIALLY_FILLED)
    (row,) = case.venue.trades_since(datetime(2023, 7, 1, tzinfo=UTC))
    assert (row.client_order_id, row.venue_order_id, row.side) == (ID, ORDER_ID[case.slug], Side.BUY)


def test_half_an_answer_is_none(case: Case) -> None:
    broken = {
        "kraken": ("/0/private/QueryTrades", kraken(T1={"ordertxid": ORDER_ID["kraken"], "pair": "XXBTZUSD"})),
        "bybit": ("/v5/execution/list", bybit(list=[{**answers.BYBIT_FILL, "execQty": "1e-3"}])),
        "okx": ("/api/v5/trade/fills-history", okx({**answers.OKX_FILL, "fillPx": ""})),
    }
    path, answer = broken[case.slug]
    case.scripted.answers[path] = answer
    with pytest.raises(VenueUnavailable) as caught:
        case.venue.find(ref(case))
    assert caught.value.code == "malformed_answer"


def test_products_are_what_the_venue_lists(case: Case) -> None:
    (product,) = case.venue.products()
    steps = {"kraken": ("0.1", "0.00000001"), "bybit": ("0.01", "0.000001"), "okx": ("0.1", "0.00000001")}
    assert product.symbol == case.symbol
    assert (product.price_increment, product.base_increment) == tuple(Decimal(step) for step in steps[case.slug])
    assert product.min_base > 0
