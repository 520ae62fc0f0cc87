"""Resting paper orders: what fills them, how much, and when they end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.exchanges.base import NewOrder, OrderReport
from accounts.exchanges.paper import PaperVenue, match_resting
from accounts.models import Account, PaperBalance, PaperOrder
from marketdata.series import from_rows
from marketdata.sources.replay import import_candles
from marketdata.timeframes import Timeframe
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
from tests.factories import AccountFactory, PaperTermsFactory, ProductFactory
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account, all_accounts, detached
from tradebot.core.words import OrderStatus

pytestmark = pytest.mark.django_db


def place(account: Account, *orders: NewOrder) -> list[OrderReport]:
    with acting_for_account(account.pk):
        return [PaperVenue(account).place(order) for order in orders]


def match(exchange: str = LIVE, account_ids: list[int] | None = None) -> dict[int, list[OrderReport]]:
    with all_accounts("test"):
        return match_resting(exchange, clock.now(), account_ids)


def status(order: NewOrder) -> str:
    with detached("test"):
        return PaperOrder.objects.get(client_order_id=order.client_order_id).status


# Live markets


@pytest.fixture
def account() -> Account:
    live_product()
    price(49_990, 50_000)
    return live_account(slippage_pct="0.5", USD=10_000, BTC=1)


def test_f59_a_resting_buy_fills_at_exactly_its_limit_with_the_maker_fee(account: Account) -> None:
    order = buy(base="0.1", limit=49_000)
    place(account, order)
    assert match() == {}
    price(48_700, 48_800)
    (report,) = match()[account.pk]
    (trade,) = report.trades
    assert (report.client_order_id, report.status) == (order.client_order_id, OrderStatus.FILLED)
    assert (trade.price, trade.quote, trade.fee, trade.is_maker) == (D(49_000), D(4900), D("19.6"), True)
    assert (total(account, "USD"), held(account, "USD")) == (D("5080.4"), D(0))
    assert_books_agree(account)


def test_a_resting_sell_fills_when_the_bid_comes_up_to_it(account: Account) -> None:
    order = sell(base="0.5", limit=51_000)
    place(account, order)
    price("50999.99", 51_005)
    assert match() == {}
    price(51_000, 51_005)
    assert match()[account.pk][0].trades[0].price == D(51_000)
    assert (total(account, "BTC"), held(account, "BTC")) == (D("0.5"), D(0))
    assert_books_agree(account)


def test_what_is_filled_is_not_filled_again(account: Account) -> None:
    place(account, buy(base="0.1", limit=49_000))
    price(48_700, 48_800)
    assert match()
    assert match() == {}
    assert total(account, "BTC") == D("1.1")


def test_an_unknown_price_leaves_orders_alone(account: Account) -> None:
    order = buy(base="0.1", limit=49_000)
    place(account, order)
    price(40_000, 40_001, at=clock.now() - timedelta(hours=1))
    assert match() == {}
    assert status(order) == OrderStatus.OPEN


def test_orders_past_their_end_expire_and_give_their_hold_back(account: Account) -> None:
    now = clock.now()
    order, lasting = (buy(base="0.05", limit=40_000, expires_at=now + timedelta(hours=n)) for n in (1, 3))
    place(account, order, lasting)
    with clock.at(now + timedelta(hours=2)):
        price(39_000, 39_001, at=now)  # long ago by then, and no reason not to expire
        (report,) = match()[account.pk]
    assert (report.client_order_id, report.status) == (order.client_order_id, OrderStatus.EXPIRED)
    assert held(account, "USD") == D(2012)
    assert_books_agree(account)


def test_only_the_accounts_and_the_market_asked_for_are_matched(account: Account) -> None:
    other = live_account(USD=10_000)
    for one in (account, other):
        place(one, buy(base="0.1", limit=49_000))
    price(48_000, 48_001)
    assert match("simulated") == {}
    assert set(match(account_ids=[other.pk])) == {other.pk}
    assert set(match()) == {account.pk}


def test_matching_takes_the_same_number_of_queries_for_one_order_or_many(account: Account) -> None:
    def queries() -> int:
        price(48_000, 48_001)
        with (
            all_accounts("test"),
            CaptureQueriesContext(
                connection,
            ) as caught,
        ):
            assert match_resting(LIVE, clock.now())
        return len(caught)

    place(account, buy(base="0.001", limit=49_000))
    one = queries()
    price(49_990, 50_000)
    for some in (account, live_account(USD=1000), live_account(USD=1000)):
        place(some, *(buy(base="0.001", limit=49_000 + n) for n in range(5)))
    # New accounts get a first balance of what they buy: one insert more.
    assert queries() <= one + 1


def test_f67_an_account_that_cannot_be_matched_does_not_stop_the_others(account: Account) -> None:
    broken = live_account(USD=10_000)
    for one in (broken, account):
        place(one, buy(base="0.1", limit=49_000))
    with detached("test"):
        PaperBalance.objects.filter(account=broken, currency="USD").update(held=D(0))
    price(48_000, 48_001)
    assert set(match()) == {account.pk}
    assert total(broken, "USD") == D(10_000)
    assert_books_agree(account)


def test_fees_raised_while_an_order_rests_cost_at_most_what_was_claimed(account: Account) -> None:
    place(account, buy(base="0.2", limit=49_000))
    claimed = held(account, "USD")
    with detached("test"):
        terms = account.paper_terms
        terms.maker_fee_pct = terms.taker_fee_pct = D(5)
        terms.save()
    price(48_000, 48_001)
    match()
    assert total(account, "USD") == D(10_000) - claimed
    assert_books_agree(account)


def test_a_market_with_a_book_fills_as_much_as_it_offers_oldest_first() -> None:
    ProductFactory(exchange="simulated", symbol="BTC-USD")
    account = AccountFactory(balances={"USD": 10_000_000_000})
    now = datetime(2026, 3, 1, tzinfo=UTC)
    with clock.at(now):
        ask = place(account, buy(quote=10))[0].trades[0].price
    limit = (ask * D("0.999")).quantize(D("0.01"))
    first, second = buy(base=200, limit=limit), buy(base=200, limit=limit)
    with clock.at(now):
        reports = place(account, first, second)
        assert [report.status for report in reports] == [OrderStatus.OPEN] * 2
    for _ in range(2000):
        now += timedelta(seconds=30)
        with clock.at(now):
            if found := match("simulated"):
                break
    (report,) = found[account.pk]
    assert (report.client_order_id, report.status) == (first.client_order_id, OrderStatus.PARTIALLY_FILLED)
    assert report.trades[0].price == limit
    assert status(second) == OrderStatus.OPEN
    assert_books_agree(account)


# Recordings


START = 1_700_006_400
Row = tuple[float, float, float, float, float]


def moment(minutes: float) -> datetime:
    return datetime.fromtimestamp(START + 60 * minutes, UTC)


def record(*candles: Row) -> None:
    """Record one-minute candles of LTC-USD: (open, high, low, close, volume)."""
    rows = [(START + 60 * n, *candle) for n, candle in enumerate(candles)]
    import_candles("LTC-USD", Timeframe.M1, from_rows(rows))


FLAT: Row = (100.0, 100.5, 99.5, 100.0, 40.0)


@pytest.fixture
def replay() -> Account:
    account = AccountFactory(exchange="replay", balances={"USD": 100_000, "LTC": 1000})
    PaperTermsFactory(account=account, slippage_pct=D(0))
    return account


def run(account: Account, minutes: list[float]) -> list[OrderReport]:
    found = []
    for minute in minutes:
        with clock.at(moment(minute)):
            found += match("replay").get(account.pk, [])
    return found


def place_at(minute: float, account: Account, *orders: NewOrder) -> None:
    with clock.at(moment(minute)):
        place(account, *orders)


def test_a_recorded_low_below_the_limit_fills_a_buy_and_a_touch_does_not(replay: Account) -> None:
    record(FLAT, (100, 100, 95, 99, 40.0), (99, 99, 94.99, 98, 40.0))
    order = buy("LTC-USD", base=5, limit=95)
    place_at(1, replay, order)
    assert run(replay, [1, 2]) == []
    (report,) = run(replay, [3])
    assert report.status is OrderStatus.FILLED
    assert (report.trades[0].price, report.trades[0].at) == (D(95), moment(3))
    assert_books_agree(replay)


def test_a_recorded_high_above_the_limit_fills_a_sell(replay: Account) -> None:
    record(FLAT, (100, 105, 100, 101, 40.0), (101, 105.01, 100, 101, 40.0))
    place_at(1, replay, sell("LTC-USD", base=5, limit=105))
    (report,) = run(replay, [1, 2, 3])
    assert report.trades[0].at == moment(3)


def test_f59_one_candle_fills_at_most_its_share_and_the_next_goes_on(replay: Account) -> None:
    dip: Row = (100, 100, 90, 99, 40.0)
    record(FLAT, dip, dip, dip)
    place_at(1, replay, buy("LTC-USD", base=25, limit=95))
    reports = run(replay, [2, 2, 2, 3, 4])
    assert [report.status for report in reports] == [OrderStatus.PARTIALLY_FILLED] * 2 + [OrderStatus.FILLED]
    assert [trade.base for trade in reports[-1].trades] == [D(10), D(10), D(5)]
    assert held(replay, "USD") == D(0)
    assert_books_agree(replay)


def test_the_oldest_order_has_its_share_first(replay: Account) -> None:
    record(FLAT, (100, 100, 90, 99, 40.0))
    first, second, third = (
        buy("LTC-USD", base=8, limit=92),
        buy("LTC-USD", base=8, limit=95),
        sell("LTC-USD", base=1, limit=150),
    )
    place_at(1, replay, first, second, third)
    reports = {report.client_order_id: report for report in run(replay, [2])}
    assert reports[first.client_order_id].status is OrderStatus.FILLED
    assert [trade.base for trade in reports[second.client_order_id].trades] == [D(2)]
    assert third.client_order_id not in reports


def test_one_look_after_an_hour_gives_the_fills_of_sixty_looks() -> None:
    candles: list[Row] = [FLAT, *[(100 - n % 7, 101.0 + n % 3, 90.0 + n % 5, 100 - n % 7, 8.0) for n in range(60)]]
    record(*candles)
    results = []
    for minutes in ([61.0], [float(n) for n in range(1, 62)]):
        account = AccountFactory(exchange="replay", balances={"USD": 100_000, "LTC": 1000})
        orders = [
            buy("LTC-USD", base=30, limit=94),
            buy("LTC-USD", base=500, limit=95),
            sell("LTC-USD", base=7, limit=101),
        ]
        place_at(1, account, *orders)
        run(account, minutes)
        with acting_for_account(account.pk):
            found = PaperVenue(account).find_many([ref(order.client_order_id) for order in orders])
        results.append(
            [
                (
                    found[order.client_order_id].status,
                    [(t.price, t.base, t.fee) for t in found[order.client_order_id].trades],
                )
                for order in orders
            ]
        )
        assert_books_agree(account)
    assert results[0] == results[1]
    assert results[0][0][0] is OrderStatus.FILLED
    assert len(results[0][1][1]) > 10


def test_what_happened_before_an_order_was_placed_does_not_fill_it(replay: Account) -> None:
    record((100, 100, 80, 100, 40.0), (100, 100, 80, 100, 40.0), FLAT)
    order = buy("LTC-USD", base=5, limit=95)
    place_at(1.5, replay, order)  # in the middle of the second candle: its low may have been before
    assert run(replay, [2, 3]) == []


def test_a_recorded_order_ends_with_the_last_candle_before_its_end(replay: Account) -> None:
    record(FLAT, FLAT, (100, 100, 90, 99, 40.0), (100, 100, 90, 99, 40.0))
    early = buy("LTC-USD", base=5, limit=95, expires_at=moment(2.5))
    late = buy("LTC-USD", base=15, limit=95, expires_at=moment(3))
    place_at(1, replay, early, late)
    reports = {report.client_order_id: report for report in run(replay, [4])}
    assert (reports[early.client_order_id].status, reports[early.client_order_id].trades) == (OrderStatus.EXPIRED, ())
    assert reports[late.client_order_id].status is OrderStatus.EXPIRED
    assert [trade.base for trade in reports[late.client_order_id].trades] == [D(10)]
    assert_books_agree(replay)


def test_accounts_do_not_compete_for_a_candle(replay: Account) -> None:
    record(FLAT, (100, 100, 90, 99, 40.0))
    other = AccountFactory(exchange="replay", balances={"USD": 100_000})
    for account in (replay, other):
        place_at(1, account, buy("LTC-USD", base=10, limit=95))
    with clock.at(moment(2)):
        assert {key: reports[0].status for key, reports in match("replay").items()} == {
            replay.pk: OrderStatus.FILLED,
            other.pk: OrderStatus.FILLED,
        }


def test_periods_without_trades_fill_nothing(replay: Account) -> None:
    rows: list[Any] = [(START, *FLAT), (START + 60 * 5, 100, 100, 90, 99, 40.0)]
    import_candles("LTC-USD", Timeframe.M1, from_rows(rows))
    place_at(1, replay, buy("LTC-USD", base=30, limit="99.99"))
    reports = run(replay, [1, 2, 3, 4, 5, 6])
    assert [trade.at for trade in reports[-1].trades] == [moment(6)]
