"""What every venue does, whichever it is. A new venue passes this suite before an account may be connected to it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from accounts.exchanges.base import NEVER_ARRIVED
from tests.accounts.contract.worlds import START, World, order, ref, world_of
from tradebot.core import clock
from tradebot.core.errors import Remedy, VenueRejected
from tradebot.core.words import OrderStatus, Side

pytestmark = pytest.mark.django_db

BUY, SELL = Side.BUY, Side.SELL
LOW, HIGH = Decimal(50_000), Decimal(70_000)


@pytest.fixture(params=["paper", "coinbase", "binance", "bybit"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(request.param) as made:
        yield made


def quote_of(world: World) -> str:
    return world.symbol.partition("-")[2]


def test_what_is_held_is_told_by_currency(world: World) -> None:
    balances = world.venue().balances()
    assert {name: (row.total, row.held) for name, row in balances.items() if row.total} == {
        quote_of(world): (START["quote"], Decimal(0)),
        "BTC": (START["base"], Decimal(0)),
    }


def test_a_market_buy_by_quote_fills_and_spends_no_more_than_that_and_the_fee(world: World) -> None:
    venue = world.venue()
    placed = order(world, BUY, quote_size=Decimal(600))
    report = venue.place(placed)
    assert (report.client_order_id, report.status) == (placed.client_order_id, OrderStatus.FILLED)
    _, taker = venue.fee_rates()
    value = sum(trade.quote for trade in report.trades)
    assert Decimal(580) < value <= Decimal(600)
    spent = START["quote"] - venue.balances()[quote_of(world)].total
    assert value <= spent <= Decimal(600) * (1 + taker)
    for trade in report.trades:
        assert trade.fee > 0
        assert not trade.is_maker
        assert trade.quote == trade.base * trade.price


def test_a_market_buy_by_base_buys_exactly_that(world: World) -> None:
    report = world.venue().place(order(world, BUY, base_size=Decimal("0.01")))
    assert report.status is OrderStatus.FILLED
    assert sum(trade.base for trade in report.trades) == Decimal("0.01")


def test_balances_move_by_trades_and_fees_and_by_nothing_else(world: World) -> None:
    venue = world.venue()
    reports = [
        venue.place(order(world, BUY, base_size=Decimal("0.02"))),
        venue.place(order(world, SELL, base_size=Decimal("0.005"))),
    ]
    expected = {quote_of(world): START["quote"], "BTC": START["base"]}
    for report, sign in zip(reports, (1, -1), strict=True):
        for trade in report.trades:
            expected["BTC"] += sign * trade.base
            expected[quote_of(world)] -= sign * trade.quote
            expected[trade.fee_currency] -= trade.fee
    assert {name: row.total for name, row in venue.balances().items()} == expected


def test_a_repeated_client_id_is_the_same_order(world: World) -> None:
    venue = world.venue()
    placed = order(world, BUY, quote_size=Decimal(600))
    first, again = venue.place(placed), venue.place(placed)
    assert again.venue_order_id == first.venue_order_id
    assert [trade.trade_id for trade in again.trades] == [trade.trade_id for trade in first.trades]
    resting = order(world, BUY, base_size=Decimal("0.01"), limit_price=LOW)
    assert venue.place(resting).venue_order_id == venue.place(resting).venue_order_id
    assert len(venue.open_orders()) == 1


def test_a_limit_order_rests_with_a_hold_and_fills_as_a_maker(world: World) -> None:
    venue = world.venue()
    placed = order(world, BUY, base_size=Decimal("0.01"), limit_price=LOW)
    report = venue.place(placed)
    assert (report.status, report.trades) == (OrderStatus.OPEN, ())
    held = venue.balances()[quote_of(world)].held
    assert Decimal(500) <= held <= Decimal("510")
    world.fill(report, placed, Decimal("0.01"))
    found = venue.find(ref(placed))
    assert found.status is OrderStatus.FILLED
    assert [(trade.price, trade.base, trade.is_maker) for trade in found.trades] == [(LOW, Decimal("0.01"), True)]
    assert venue.balances()[quote_of(world)].held == 0


def test_a_resting_sell_holds_base(world: World) -> None:
    venue = world.venue()
    venue.place(order(world, SELL, base_size=Decimal("0.4"), limit_price=HIGH))
    assert (venue.balances()["BTC"].held, venue.balances()["BTC"].free) == (Decimal("0.4"), Decimal("0.6"))


def test_fills_in_parts_are_each_reported_once_oldest_first(world: World) -> None:
    if not world.fills_in_part:
        pytest.skip("its market has no parts; recordings do, see test_paper_matching")
    venue = world.venue()
    placed = order(world, SELL, base_size=Decimal("0.03"), limit_price=HIGH)
    report = venue.place(placed)
    for base in ("0.01", "0.005"):
        world.fill(report, placed, Decimal(base))
    found = venue.find(ref(placed))
    assert found.status is OrderStatus.PARTIALLY_FILLED
    assert [trade.base for trade in found.trades] == [Decimal("0.01"), Decimal("0.005")]
    ended = venue.cancel(ref(placed))
    assert ended.status is OrderStatus.CANCELLED
    assert ended.trades == found.trades


def test_a_cancelled_order_gives_its_hold_back(world: World) -> None:
    venue = world.venue()
    placed = order(world, BUY, base_size=Decimal("0.01"), limit_price=LOW)
    report = venue.place(placed)
    assert venue.cancel(ref(placed, report)).status is OrderStatus.CANCELLED
    assert venue.balances()[quote_of(world)].held == 0
    assert venue.open_orders() == []
    assert venue.find(ref(placed)).status is OrderStatus.CANCELLED


def test_f18_f19_the_cancel_of_a_filled_order_returns_the_fill(world: World) -> None:
    venue = world.venue()
    placed = order(world, BUY, base_size=Decimal("0.01"), limit_price=LOW)
    report = venue.place(placed)
    world.fill(report, placed, Decimal("0.01"))
    for identified in (ref(placed), ref(placed, report)):
        ended = venue.cancel(identified)
        assert ended.status is OrderStatus.FILLED
        assert sum(trade.base for trade in ended.trades) == Decimal("0.01")


def test_what_was_never_placed_is_not_found_and_cannot_be_cancelled(world: World) -> None:
    venue = world.venue()
    never = order(world, BUY, quote_size=Decimal(600))
    assert venue.find(ref(never)) is None
    assert venue.find_many([ref(never)]) == {}
    with pytest.raises(VenueRejected) as caught:
        venue.cancel(ref(never))
    assert caught.value.code == "unknown_order"


def test_f12_an_id_is_given_up_for_good_or_the_venue_says_that_it_cannot(world: World) -> None:
    venue, placed, never = (
        world.venue(),
        order(world, BUY, base_size=Decimal("0.01")),
        order(world, BUY, base_size=Decimal("0.01"), limit_price=LOW),
    )
    done = venue.place(placed)
    if not venue.capabilities.lookup_is_definitive:
        with pytest.raises(VenueRejected, check=lambda error: error.code == "cannot_forget"):
            venue.forget(never)
        return
    assert venue.forget(placed) == done  # what is there stays as it is
    given_up = venue.forget(never)
    assert (given_up.status, given_up.error_code, given_up.trades) == (OrderStatus.REJECTED, NEVER_ARRIVED, ())
    assert venue.forget(never) == venue.find(ref(never)) == given_up
    with pytest.raises(VenueRejected, check=lambda error: error.code == NEVER_ARRIVED):
        venue.place(never)
    assert venue.open_orders() == []


def test_many_orders_are_found_at_once_with_and_without_the_venues_ids(world: World) -> None:
    venue = world.venue()
    orders = [order(world, BUY, base_size=Decimal("0.001"), limit_price=LOW) for _ in range(4)]
    orders.append(order(world, BUY, quote_size=Decimal(60)))
    reports = [venue.place(each) for each in orders]
    never = order(world, BUY, quote_size=Decimal(60))
    asked = [ref(orders[0], reports[0]), *(ref(each) for each in orders[1:]), ref(never)]
    found = venue.find_many(asked)
    assert set(found) == {each.client_order_id for each in orders}
    assert [found[each.client_order_id].status for each in orders] == [OrderStatus.OPEN] * 4 + [OrderStatus.FILLED]


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("bad_increment", {"base_size": Decimal("0.01"), "limit_price": Decimal("50000.001")}),
        ("bad_increment", {"base_size": Decimal("0.0100000001"), "limit_price": LOW}),
        ("below_minimum", {"base_size": Decimal("0.000001"), "limit_price": LOW}),
        ("insufficient_funds", {"base_size": Decimal(1), "limit_price": LOW}),
    ],
    ids=["price step", "size step", "minimum", "funds"],
)
def test_a_no_has_a_code_and_leaves_nothing_behind(world: World, code: str, fields: dict[str, Decimal]) -> None:
    venue = world.venue()
    refused = order(world, BUY, **fields)
    with pytest.raises(VenueRejected) as caught:
        venue.place(refused)
    assert caught.value.code == code
    assert caught.value.remedy is Remedy.NEVER
    assert venue.open_orders() == []
    assert venue.balances()[quote_of(world)].held == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"base_size": Decimal(0)},
        {"base_size": Decimal(-1)},
        {"base_size": Decimal("NaN")},
        {"base_size": Decimal("1e400")},
        {"base_size": Decimal(1), "quote_size": Decimal(1)},
        {},
        {"quote_size": Decimal(10), "limit_price": Decimal(1)},
    ],
    ids=str,
)
def test_f23_nonsense_is_refused_before_the_venue_hears_of_it(world: World, fields: dict[str, Decimal]) -> None:
    with pytest.raises(VenueRejected) as caught:
        world.venue().place(order(world, BUY, **fields))
    assert caught.value.code == "bad_order"


def test_an_unknown_product_is_refused(world: World) -> None:
    made = order(world, BUY, quote_size=Decimal(100))
    nowhere = type(made)(made.client_order_id, "NIX-USD", BUY, made.order_type, quote_size=Decimal(100))
    with pytest.raises(VenueRejected) as caught:
        world.venue().place(nowhere)
    assert caught.value.code == "unknown_product"


def test_an_edit_changes_size_and_price_or_is_not_offered(world: World) -> None:
    venue = world.venue()
    placed = order(world, BUY, base_size=Decimal("0.01"), limit_price=LOW)
    report = venue.place(placed)
    if not venue.capabilities.edits_orders:
        with pytest.raises(VenueRejected) as caught:
            venue.edit(ref(placed, report), Decimal("0.02"), Decimal(51_000))
        assert caught.value.code == "not_offered"
        return
    edited = venue.edit(ref(placed, report), Decimal("0.02"), Decimal(51_000))
    assert edited.status is OrderStatus.OPEN
    world.fill(edited, placed, Decimal("0.02"))
    assert [trade.price for trade in venue.find(ref(placed)).trades] == [Decimal(51_000)]


def test_an_order_good_till_a_time_expires_then_or_is_refused(world: World) -> None:
    venue = world.venue()
    placed = order(
        world, BUY, base_size=Decimal("0.01"), limit_price=LOW, expires_at=clock.now() + timedelta(minutes=10)
    )
    if not venue.capabilities.good_till_date:
        with pytest.raises(VenueRejected) as caught:
            venue.place(placed)
        assert caught.value.code == "not_offered"
        return
    report = venue.place(placed)
    assert report.status is OrderStatus.OPEN
    with world.pass_time(timedelta(minutes=11)):
        assert venue.find(ref(placed, report)).status is OrderStatus.EXPIRED
        assert venue.balances()[quote_of(world)].held == 0


def test_open_orders_are_ours_and_those_of_others(world: World) -> None:
    venue = world.venue()
    placed = order(world, BUY, base_size=Decimal("0.01"), limit_price=LOW)
    venue.place(placed)
    ended = order(world, BUY, base_size=Decimal("0.02"), limit_price=LOW)
    venue.place(ended)
    venue.cancel(ref(ended))
    if world.knows_strangers:
        world.stranger()
    found = sorted(venue.open_orders(), key=lambda row: row.client_order_id is None)
    assert [row.client_order_id for row in found] == [placed.client_order_id, None][: 1 + world.knows_strangers]
    assert {row.symbol for row in found} == {world.symbol}


def test_executions_since_a_moment_are_listed_oldest_first_with_their_orders(world: World) -> None:
    venue = world.venue()
    since = clock.now() - timedelta(minutes=1)
    bought = order(world, BUY, quote_size=Decimal(600))
    sold = order(world, SELL, base_size=Decimal("0.001"))
    made = [venue.place(bought), venue.place(sold)]
    rows = venue.trades_since(since)
    assert [(row.client_order_id, row.side, row.symbol) for row in rows] == [
        (bought.client_order_id, BUY, world.symbol),
        (sold.client_order_id, SELL, world.symbol),
    ]
    assert [row.trade for row in rows] == [trade for report in made for trade in report.trades]
    assert venue.trades_since(clock.now() + timedelta(days=1)) == []


def test_f26_products_come_with_steps_and_minimums(world: World) -> None:
    if world.account.is_paper:
        pytest.skip("its products are those of its market")
    product = next(row for row in world.venue().products() if row.symbol == world.symbol)
    assert product.price_increment == Decimal("0.01")
    assert product.base_increment == Decimal("0.00000001")
    assert product.min_quote > 0


def test_the_book_is_best_first(world: World) -> None:
    if world.account.is_paper:
        pytest.skip("its book is that of its market")
    book = world.venue().book(world.symbol, depth=3)
    assert [level.price for level in book.bids] == sorted((level.price for level in book.bids), reverse=True)
    assert [level.price for level in book.asks] == sorted(level.price for level in book.asks)
    assert (book.bids[0].price, book.asks[0].price, len(book.bids)) == (Decimal(60_000), Decimal("60000.01"), 3)


def test_fees_and_permissions_are_told(world: World) -> None:
    venue = world.venue()
    maker, taker = venue.fee_rates()
    assert (maker, taker) == (Decimal("0.004"), Decimal("0.006"))
    permissions = venue.permissions()
    assert permissions.can_trade
    if venue.capabilities.tells_permissions:
        assert permissions.can_withdraw is False
