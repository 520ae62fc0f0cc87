"""Placing, cancelling and asking at the paper venue."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from accounts.exchanges.base import NewOrder
from accounts.exchanges.factory import venue_of
from accounts.exchanges.paper import PaperVenue, match_resting
from accounts.models import Account, PaperEntry, PaperOrder, PaperTrade
from tests.accounts.helpers import (
    LIVE,
    D,
    assert_books_agree,
    buy,
    held,
    live_account,
    live_product,
    price,
    ref,
    sell,
    total,
)
from tests.factories import AccountFactory, ProductFactory
from tradebot.core import clock
from tradebot.core.errors import MissingInformation, NotFound, VenueDenied, VenueRejected
from tradebot.core.scoping import acting_for_account, acting_for_accounts
from tradebot.core.words import OrderStatus, OrderType, Side

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    live_product()
    price("49990", "50000")
    return live_account(USD=10_000, BTC=1)


def venue(account: Account) -> PaperVenue:
    return PaperVenue(account)


# Market orders


def test_market_buy_fills_at_the_ask_with_the_taker_fee(account: Account) -> None:
    with acting_for_account(account.pk):
        report = venue(account).place(buy(quote=1000))
    (trade,) = report.trades
    assert report.status is OrderStatus.FILLED
    assert (trade.price, trade.base, trade.quote) == (D(50_000), D("0.02"), D(1000))
    assert (trade.fee, trade.fee_currency, trade.is_maker) == (D(6), "USD", False)
    assert (total(account, "USD"), total(account, "BTC")) == (D(8994), D("1.02"))
    assert_books_agree(account)


def test_market_sell_fills_at_the_bid(account: Account) -> None:
    with acting_for_account(account.pk):
        (trade,) = venue(account).place(sell(base="0.5")).trades
    assert (trade.price, trade.quote, trade.fee) == (D(49_990), D(24_995), D("149.97"))
    assert total(account, "USD") == D(10_000) + D(24_995) - D("149.97")
    assert_books_agree(account)


def test_slippage_makes_both_sides_worse_on_a_valid_price_step() -> None:
    live_product(price_increment=D(1))
    price("49990", "50001")
    account = live_account(slippage_pct="0.05", USD=100_000, BTC=1)
    with acting_for_account(account.pk):
        bought = venue(account).place(buy(base="0.1")).trades[0].price
        sold = venue(account).place(sell(base="0.1")).trades[0].price
    assert bought == D(50_027)  # 50001 x 1.0005 = 50026.0005
    assert sold == D(49_965)  # 49990 x 0.9995 = 49965.005


def test_f24_what_a_quote_amount_buys_is_floored_and_never_costs_more() -> None:
    live_product(base_increment=D("0.001"), min_base=D("0.001"))
    price(29_999, 30_000)
    account = live_account(USD=1000)
    with acting_for_account(account.pk):
        (trade,) = venue(account).place(buy(quote=100)).trades
    assert (trade.base, trade.quote) == (D("0.003"), D(90))
    assert total(account, "USD") == D(1000) - D("90.54")


def test_f24_whole_number_increments_are_floored_too() -> None:
    live_product("ADA-USD", base_increment=D(1), min_base=D(1))
    price("0.69", "0.70", "ADA-USD")
    account = live_account(USD=1000)
    with acting_for_account(account.pk):
        (trade,) = venue(account).place(buy("ADA-USD", quote=10)).trades
    assert trade.base == D(14)


def test_f25_a_fee_in_base_reduces_what_is_received_and_costs_no_quote() -> None:
    live_product()
    price(49_990, 50_000)
    account = live_account(fee_currency="base", USD=1000)
    with acting_for_account(account.pk):
        (trade,) = venue(account).place(buy(quote=1000)).trades
        assert (trade.fee, trade.fee_currency) == (D("0.00012"), "BTC")
        assert (total(account, "USD"), total(account, "BTC")) == (D(0), D("0.01988"))
        with pytest.raises(VenueRejected, match="BTC is free"):
            venue(account).place(sell(base="0.02"))
        (sold,) = venue(account).place(sell(base="0.01988")).trades
    assert sold.fee_currency == "USD"
    assert_books_agree(account)


def test_a_short_buys_back_by_base_size(account: Account) -> None:
    with acting_for_account(account.pk):
        (trade,) = venue(account).place(buy(base="0.1")).trades
    assert (trade.base, trade.quote) == (D("0.1"), D(5000))


def test_a_large_market_order_walks_the_order_book() -> None:
    ProductFactory(exchange="simulated", symbol="BTC-USD")
    account = AccountFactory(balances={"USD": 100_000_000})
    with acting_for_account(account.pk), clock.at(clock.now()):
        small = venue(account).place(buy(quote=100)).trades[0].price
        large = venue(account).place(buy(quote=1_000_000)).trades[0].price
    assert large > small
    assert_books_agree(account)


# Refusals


def refused(account: Account, order: NewOrder) -> VenueRejected:
    before = (total(account, "USD"), total(account, "BTC"), held(account, "USD"), held(account, "BTC"))
    with acting_for_account(account.pk):
        with pytest.raises(VenueRejected) as caught:
            venue(account).place(order)
        assert not PaperTrade.objects.exists()
        assert not PaperOrder.objects.exclude(status=OrderStatus.REJECTED).exists()
    assert before == (total(account, "USD"), total(account, "BTC"), held(account, "USD"), held(account, "BTC"))
    assert_books_agree(account)
    return caught.value


@pytest.mark.parametrize("order", [buy(quote=100), sell(base="0.1"), buy(base="0.1", limit=10)])
def test_f59_an_unknown_price_refuses_the_order_and_changes_nothing(order: NewOrder) -> None:
    live_product()
    account = live_account(USD=1000, BTC=1)
    assert refused(account, order).code == "no_price"


def test_a_stale_price_is_no_price(account: Account) -> None:
    price(49_990, 50_000, at=clock.now() - timedelta(minutes=5))
    assert refused(account, buy(quote=100)).code == "no_price"


def test_what_is_not_listed_or_not_trading_is_refused(account: Account) -> None:
    live_product("ETH-USD", status="delisted")
    assert refused(account, buy("DOGE-USD", quote=100)).code == "unknown_product"
    assert refused(account, buy("ETH-USD", quote=100)).code == "not_trading"


@pytest.mark.parametrize(
    ("order", "numbers"),
    [
        (buy(quote="0.99"), {"asked": D("0.99"), "minimum": D(1), "currency": "USD"}),
        (sell(base="0.00001"), {"asked": D("0.4999"), "minimum": D(1), "currency": "USD"}),
        (buy(base="0.00001", limit=50_000), {"asked": D("0.5"), "minimum": D(1), "currency": "USD"}),
    ],
)
def test_below_the_minimum_is_refused_with_the_numbers(
    account: Account, order: NewOrder, numbers: dict[str, Any]
) -> None:
    error = refused(account, order)
    assert (error.code, error.detail) == ("below_minimum", numbers)


def test_the_smallest_base_size_holds_for_quote_sized_buys_too() -> None:
    live_product(base_increment=D("0.01"), min_base=D("0.01"))
    price(49_990, 50_000)
    error = refused(live_account(USD=10_000), buy(quote=499))
    assert (error.code, error.detail["minimum"]) == ("below_minimum", D("0.01"))


@pytest.mark.parametrize(
    ("order", "increment"),
    [(sell(base="0.123456789"), D("0.00000001")), (buy(base="0.1", limit="49000.001"), D("0.01"))],
)
def test_sizes_and_prices_off_the_step_are_refused(account: Account, order: NewOrder, increment: Decimal) -> None:
    error = refused(account, order)
    assert (error.code, error.detail["increment"]) == ("bad_increment", increment)


@pytest.mark.parametrize(
    ("order", "asked", "currency"),
    [
        (buy(quote=10_000), D(10_060), "USD"),  # the fee counts
        (buy(base=1, limit=40_000), D(40_240), "USD"),
        (sell(base="1.00000001"), D("1.00000001"), "BTC"),
        (sell(base="1.5", limit=60_000), D("1.5"), "BTC"),
    ],
)
def test_more_than_is_free_is_refused_with_the_numbers(
    account: Account, order: NewOrder, asked: Decimal, currency: str
) -> None:
    error = refused(account, order)
    assert (error.code, error.detail["asked"], error.detail["currency"]) == ("insufficient_funds", asked, currency)
    assert error.detail["free"] == total(account, currency)


def test_what_a_resting_order_holds_is_not_free(account: Account) -> None:
    with acting_for_account(account.pk):
        venue(account).place(sell(base="0.9", limit=60_000))
        with pytest.raises(VenueRejected) as caught:
            venue(account).place(sell(base="0.2"))
    assert (caught.value.code, caught.value.detail["free"]) == ("insufficient_funds", D("0.1"))


@pytest.mark.parametrize(
    "order",
    [
        buy(),
        buy(quote=1, base=1),
        buy(quote=0),
        buy(quote="-5"),
        buy(quote="NaN"),
        buy(quote="Infinity"),
        buy(quote="1e400"),
        buy(quote="1e-19"),
        buy(base=1, limit=0),
        buy(quote=10, limit=100),
        sell(quote=10),
        buy("BTCUSD", quote=10),
        buy(quote=10, expires_at=clock.now()),
        NewOrder(uuid.uuid4(), "BTC-USD", Side.BUY, OrderType.LIMIT, base_size=D(1)),
        NewOrder(uuid.uuid4(), "BTC-USD", Side.SELL, OrderType.MARKET, base_size=D(1), limit_price=D(1)),
        NewOrder(uuid.uuid4(), "BTC-USD", Side.SELL, OrderType.MARKET, base_size=0.5),  # type: ignore[arg-type]
    ],
)
def test_f23_orders_that_make_no_sense_are_refused(account: Account, order: NewOrder) -> None:
    assert refused(account, order).code == "bad_order"


def test_an_order_that_would_have_expired_already_is_refused(account: Account) -> None:
    order = buy(base="0.1", limit=40_000, expires_at=clock.now() - timedelta(seconds=1))
    assert refused(account, order).code == "bad_expiry"


# Client ids


def test_repeating_a_client_id_returns_the_first_order(account: Account) -> None:
    order = buy(quote=1000)
    with acting_for_account(account.pk):
        first = venue(account).place(order)
        again = venue(account).place(order)
        assert again == first == venue(account).find(ref(order.client_order_id))
        assert PaperTrade.objects.count() == 1


def test_a_refusal_is_remembered_so_that_a_repeat_is_not_suddenly_filled(account: Account) -> None:
    order = buy(quote=1000)
    price(49_990, 50_000, at=clock.now() - timedelta(hours=1))
    with acting_for_account(account.pk):
        for _ in range(2):
            with pytest.raises(VenueRejected) as caught:
                venue(account).place(order)
            assert caught.value.code == "no_price"
            price(49_990, 50_000)
        report = venue(account).find(ref(order.client_order_id))
    assert report is not None
    assert (report.status, report.error_code) == (OrderStatus.REJECTED, "no_price")


def test_two_accounts_may_use_the_same_client_id(account: Account) -> None:
    other = live_account(USD=10_000)
    order = buy(quote=1000)
    with acting_for_accounts([account.pk, other.pk]):
        venue(account).place(order)
        assert venue(other).find(ref(order.client_order_id)) is None
        venue(other).place(order)
    assert total(account, "USD") == total(other, "USD") == D(8994)


# Limit orders


def test_f59_a_limit_order_below_the_market_rests_with_a_hold_that_covers_the_fee(account: Account) -> None:
    with acting_for_account(account.pk):
        report = venue(account).place(buy(base="0.1", limit=40_000))
        balance = venue(account).balances()["USD"]
    assert (report.status, report.trades) == (OrderStatus.OPEN, ())
    assert (balance.total, balance.held, balance.free) == (D(10_000), D(4024), D(5976))
    assert_books_agree(account)


def test_a_resting_sell_holds_base(account: Account) -> None:
    with acting_for_account(account.pk):
        venue(account).place(sell(base="0.25", limit=60_000))
    assert (held(account, "BTC"), held(account, "USD")) == (D("0.25"), D(0))


def test_a_resting_buy_with_fees_in_base_holds_quote_without_fee() -> None:
    live_product()
    price(49_990, 50_000)
    account = live_account(fee_currency="base", USD=4000)
    with acting_for_account(account.pk):
        venue(account).place(buy(base="0.1", limit=40_000))
    assert held(account, "USD") == D(4000)


@pytest.mark.parametrize(
    ("order", "expected"), [(buy(base="0.1", limit=51_000), 50_000), (sell(base="0.1", limit=49_000), 49_990)]
)
def test_a_limit_order_that_crosses_fills_at_once_as_taker_at_the_market(
    account: Account, order: NewOrder, expected: int
) -> None:
    with acting_for_account(account.pk):
        report = venue(account).place(order)
    assert report.status is OrderStatus.FILLED
    assert (report.trades[0].price, report.trades[0].is_maker) == (D(expected), False)
    assert held(account, "USD") == held(account, "BTC") == D(0)
    assert_books_agree(account)


def test_slippage_never_takes_a_limit_order_beyond_its_limit() -> None:
    live_product()
    price(49_990, 50_000)
    account = live_account(slippage_pct="5", USD=10_000, BTC=1)
    with acting_for_account(account.pk):
        bought = venue(account).place(buy(base="0.1", limit=50_010)).trades[0].price
        sold = venue(account).place(sell(base="0.1", limit=49_980)).trades[0].price
    assert (bought, sold) == (D(50_010), D(49_980))


def test_a_crossing_limit_order_takes_what_the_book_offers_and_rests_with_the_remainder() -> None:
    ProductFactory(exchange="simulated", symbol="BTC-USD")
    account = AccountFactory(balances={"USD": 1_000_000_000})
    with acting_for_account(account.pk), clock.at(clock.now()):
        ask = venue(account).place(buy(quote=10)).trades[0].price
        limit = (ask * D("1.001")).quantize(D("0.01"))
        report = venue(account).place(buy(base=1000, limit=limit))
        row = PaperOrder.objects.get(client_order_id=report.client_order_id)
    assert report.status is OrderStatus.PARTIALLY_FILLED
    assert D(0) < row.filled_base < D(1000)
    assert report.trades[0].price <= limit
    assert_books_agree(account)


# Cancelling and asking


def test_cancel_gives_the_hold_back(account: Account) -> None:
    order = buy(base="0.1", limit=40_000)
    with acting_for_account(account.pk):
        venue(account).place(order)
        report = venue(account).cancel(ref(order.client_order_id))
    assert report.status is OrderStatus.CANCELLED
    assert held(account, "USD") == D(0)
    assert_books_agree(account)


def test_f19_cancel_returns_the_fills_that_came_first(account: Account) -> None:
    order = buy(base="0.1", limit=40_000)
    with acting_for_account(account.pk):
        venue(account).place(order)
        price(39_980, 39_990)
        match_resting(LIVE, clock.now())
        report = venue(account).cancel(ref(order.client_order_id))
    assert report.status is OrderStatus.FILLED
    assert [trade.base for trade in report.trades] == [D("0.1")]


def test_cancelling_what_does_not_exist_is_refused(account: Account) -> None:
    with acting_for_account(account.pk), pytest.raises(VenueRejected) as caught:
        venue(account).cancel(ref(uuid.uuid4()))
    assert caught.value.code == "unknown_order"


def test_many_orders_are_found_in_two_queries(account: Account, django_assert_num_queries: Any) -> None:
    orders = [buy(quote=10) for _ in range(3)] + [buy(base="0.01", limit=100 + n) for n in range(5)]
    with acting_for_account(account.pk):
        placed = {order.client_order_id: venue(account).place(order) for order in orders}
        with django_assert_num_queries(2):
            found = venue(account).find_many([ref(pk) for pk in (*placed, uuid.uuid4())])
        assert found == placed
        assert venue(account).find(ref(uuid.uuid4())) is None
    assert PaperVenue.capabilities.lookup_is_definitive


def test_trades_since_a_moment_are_oldest_first(account: Account) -> None:
    start = clock.now()
    orders = [buy(quote=10), sell(base="0.1"), buy(quote=20)]
    with acting_for_account(account.pk):
        for number, order in enumerate(orders):
            with clock.at(start + timedelta(seconds=number)):
                venue(account).place(order)
        found = venue(account).trades_since(start + timedelta(seconds=1))
    assert [(row.client_order_id, row.symbol, row.side) for row in found] == [
        (order.client_order_id, "BTC-USD", order.side) for order in orders[1:]
    ]
    assert found[0].trade.at == start + timedelta(seconds=1)


def test_fee_rates_are_fractions_of_the_accounts_own_terms(account: Account) -> None:
    with acting_for_account(account.pk):
        assert venue(account).fee_rates() == (D("0.004"), D("0.006"))
    bare = AccountFactory()
    with acting_for_account(bare.pk):
        assert venue(bare).fee_rates() == (D("0.004"), D("0.006"))


# Whose venue it is


def test_f51_the_venue_comes_from_the_account(account: Account) -> None:
    made = venue_of(account)
    assert isinstance(made, PaperVenue)
    assert made.account_id == account.pk
    exchange = AccountFactory(kind=Account.Kind.EXCHANGE, exchange=LIVE)
    with acting_for_account(exchange.pk), pytest.raises(VenueDenied) as caught:
        venue_of(exchange)
    assert caught.value.code == "no_keys"
    with pytest.raises(MissingInformation):
        venue_of(AccountFactory(kind=Account.Kind.EXCHANGE, exchange="nowhere"))
    with pytest.raises(ValueError, match="paper"):
        PaperVenue(exchange)


def test_f49_an_account_outside_the_scope_cannot_be_traded_on(account: Account) -> None:
    other = live_account(USD=10_000)
    with acting_for_account(other.pk), pytest.raises(NotFound):
        venue(account).place(buy(quote=100))
    assert total(account, "USD") == total(other, "USD") == D(10_000)
    with acting_for_account(account.pk):
        assert not PaperEntry.objects.exclude(kind=PaperEntry.Kind.DEPOSIT).exists()


def test_a_call_inside_somebody_elses_transaction_is_refused(account: Account) -> None:
    with acting_for_account(account.pk), transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        venue(account).place(buy(quote=100))
