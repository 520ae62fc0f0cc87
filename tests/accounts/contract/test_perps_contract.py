"""What every venue of perpetuals does. One that says ``capabilities.perpetuals`` passes this."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.accounts.contract.perps_worlds import (
    START,
    PerpsWorld,
    opening,
    perps_world_of,
    reducing,
    venue_in,
)
from tests.accounts.contract.worlds import ref
from tradebot.core import clock
from tradebot.core.errors import VenueRejected
from tradebot.core.words import Direction, OrderStatus, Side

pytestmark = pytest.mark.django_db

BUY, SELL = Side.BUY, Side.SELL
LONG, SHORT = Direction.LONG, Direction.SHORT
TAKER = Decimal("0.006")
OTHER = {BUY: SELL, SELL: BUY}


@pytest.fixture(params=["paper", "bybit"])
def world(request: pytest.FixtureRequest) -> Iterator[PerpsWorld]:
    with perps_world_of(request.param) as made:
        yield made


def quote(world: PerpsWorld) -> str:
    return world.symbol.split("-")[1]


@pytest.mark.parametrize(("side", "direction", "price"), [(BUY, LONG, "60000.1"), (SELL, SHORT, "60000")])
def test_an_opening_order_makes_a_position_whose_margin_is_held(
    world: PerpsWorld, side: Side, direction: Direction, price: str
) -> None:
    venue = venue_in(world)
    report = venue.place(opening(world, side, "0.02"))
    assert report.status is OrderStatus.FILLED
    (trade,) = report.trades
    value = Decimal(price) * Decimal("0.02")
    assert (trade.price, trade.base, trade.quote) == (Decimal(price), Decimal("0.02"), value)
    assert (trade.fee, trade.fee_currency, trade.is_maker) == (value * TAKER, quote(world), False)
    (held,) = venue.positions()
    assert (held.symbol, held.direction, held.base) == (world.symbol, direction, Decimal("0.02"))
    assert (held.entry_price, held.leverage, held.margin) == (Decimal(price), 5, value / 5)
    assert held.liquidation_price is not None
    assert held.liquidation_price < 60_000 if direction is LONG else held.liquidation_price > 60_000
    balance = venue.balances()[quote(world)]
    assert (balance.total, balance.held) == (START - value * TAKER, value / 5)
    assert {name for name, row in venue.balances().items() if row.total} == {quote(world)}  # no coins


@pytest.mark.parametrize(("side", "profit"), [(BUY, Decimal(20)), (SELL, Decimal(-20))])
def test_a_reduce_only_order_realises_profit_and_gives_the_margin_back(
    world: PerpsWorld, side: Side, profit: Decimal
) -> None:
    venue = venue_in(world)
    opened = venue.place(opening(world, side, "0.02")).trades[0]
    world.stand_at(61_000)
    part = venue.place(reducing(world, OTHER[side], "0.005")).trades[0]
    assert venue.positions()[0].base == Decimal("0.015")
    rest = venue.place(reducing(world, OTHER[side], "0.015")).trades[0]
    assert venue.positions() == []
    balance = venue.balances()[quote(world)]
    sign = 1 if side is BUY else -1
    earned = sign * (part.quote + rest.quote - opened.quote)
    assert balance.held == 0
    assert balance.total == START + earned - opened.fee - part.fee - rest.fee
    assert abs(earned - profit) < Decimal("0.01")


def test_a_reduce_only_order_never_turns_a_position_around(world: PerpsWorld) -> None:
    venue = venue_in(world)
    with pytest.raises(VenueRejected, check=lambda error: error.code == "no_position"):
        venue.place(reducing(world, SELL, "0.01"))
    venue.place(opening(world, BUY, "0.01"))
    with pytest.raises(VenueRejected, check=lambda error: error.code == "no_position"):
        venue.place(reducing(world, BUY, "0.01"))
    report = venue.place(reducing(world, SELL, "0.03"))
    assert sum(trade.base for trade in report.trades) == Decimal("0.01")
    assert venue.positions() == []


def test_an_opening_order_meets_no_other_position(world: PerpsWorld) -> None:
    venue = venue_in(world)
    venue.place(opening(world, BUY, "0.01"))
    with pytest.raises(VenueRejected, check=lambda error: error.code == "other_position"):
        venue.place(opening(world, SELL, "0.01"))
    assert venue.positions()[0].base == Decimal("0.01")


def test_a_limit_opening_rests_with_its_margin_claimed(world: PerpsWorld) -> None:
    venue = venue_in(world)
    placed = opening(world, BUY, "0.02", limit_price=Decimal(59_000))
    report = venue.place(placed)
    assert (report.status, report.trades) == (OrderStatus.OPEN, ())
    assert Decimal(236) <= venue.balances()[quote(world)].held <= Decimal(245)
    assert [row.client_order_id for row in venue.open_orders()] == [placed.client_order_id]
    world.stand_at(58_999)
    found = venue.find(ref(placed, report))
    assert found is not None
    assert found.status is OrderStatus.FILLED
    assert [(trade.price, trade.is_maker) for trade in found.trades] == [(Decimal(59_000), True)]
    assert venue.positions()[0].entry_price == Decimal(59_000)


@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_stop_waits_claims_nothing_and_closes_at_market(world: PerpsWorld, side: Side) -> None:
    venue, sign = venue_in(world), 1 if side is BUY else -1
    venue.place(opening(world, side, "0.02"))
    held = venue.balances()[quote(world)].held
    stop = reducing(world, OTHER[side], "0.02", trigger_price=Decimal(60_000 - sign * 1_000))
    profit = reducing(world, OTHER[side], "0.02", limit_price=Decimal(60_000 + sign * 2_000))
    reports = [venue.place(leg) for leg in (stop, profit)]
    assert [report.status for report in reports] == [OrderStatus.OPEN, OrderStatus.OPEN]
    assert venue.balances()[quote(world)].held == held
    assert {row.client_order_id for row in venue.open_orders()} == {stop.client_order_id, profit.client_order_id}
    world.stand_at(60_000 - sign * 900)
    assert len(venue.positions()) == 1
    world.stand_at(60_000 - sign * 1_500)
    found = venue.find_many([ref(stop), ref(profit)])
    assert found[stop.client_order_id].status is OrderStatus.FILLED
    assert abs(found[stop.client_order_id].trades[0].price - (60_000 - sign * 1_500)) <= Decimal("0.1")
    assert found[profit.client_order_id].status is OrderStatus.CANCELLED
    assert venue.positions() == []
    assert venue.balances()[quote(world)].held == 0


def test_a_stop_is_cancelled_like_any_order(world: PerpsWorld) -> None:
    venue = venue_in(world)
    venue.place(opening(world, BUY, "0.02"))
    stop = reducing(world, SELL, "0.02", trigger_price=Decimal(59_000))
    placed = venue.place(stop)
    ended = venue.cancel(ref(stop, placed))
    assert (ended.status, ended.trades) == (OrderStatus.CANCELLED, ())
    assert venue.open_orders() == []
    world.stand_at(58_000)
    assert venue.positions()[0].base == Decimal("0.02")


def test_a_repeated_client_id_is_the_same_order(world: PerpsWorld) -> None:
    venue = venue_in(world)
    opened = opening(world, BUY, "0.01")
    first, again = venue.place(opened), venue.place(opened)
    assert (again.venue_order_id, again.trades) == (first.venue_order_id, first.trades)
    stop = reducing(world, SELL, "0.01", trigger_price=Decimal(59_000))
    assert venue.place(stop).venue_order_id == venue.place(stop).venue_order_id
    assert venue.positions()[0].base == Decimal("0.01")
    assert len(venue.open_orders()) == 1


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("bad_leverage", {"leverage": None}),
        ("bad_leverage", {"margin_mode": None}),
        ("bad_order", {"leverage": None, "margin_mode": None, "base_size": None, "quote_size": Decimal(100)}),
        ("bad_order", {"reduce_only": True}),
        ("bad_increment", {"base_size": Decimal("0.01000000001")}),
        ("below_minimum", {}),
        ("insufficient_funds", {"base_size": Decimal(2)}),
    ],
    ids=str,
)
def test_a_no_has_a_code_and_leaves_nothing_behind(world: PerpsWorld, code: str, change: dict[str, object]) -> None:
    venue = venue_in(world)
    if code == "below_minimum":
        change = {"base_size": world.too_little}
    with pytest.raises(VenueRejected) as refused:
        venue.place(replace(opening(world, BUY, "0.01"), **change))
    assert refused.value.code == code
    assert (venue.positions(), venue.open_orders()) == ([], [])
    assert venue.balances()[quote(world)].held == 0


def test_executions_are_listed_with_their_orders(world: PerpsWorld) -> None:
    venue, since = venue_in(world), clock.now() - timedelta(minutes=1)
    opened, closed = opening(world, SELL, "0.01"), reducing(world, BUY, "0.01")
    made = [venue.place(opened), venue.place(closed)]
    rows = venue.trades_since(since)
    assert [(row.client_order_id, row.side, row.symbol, row.is_forced) for row in rows] == [
        (opened.client_order_id, SELL, world.symbol, False),
        (closed.client_order_id, BUY, world.symbol, False),
    ]
    assert [row.trade for row in rows] == [trade for report in made for trade in report.trades]


@pytest.mark.parametrize(("side", "sign"), [(BUY, -1), (SELL, 1)])
def test_funding_is_received_above_zero_and_no_trade(world: PerpsWorld, side: Side, sign: int) -> None:
    if not world.pays_funding:
        pytest.skip("its funding comes with the clock, see test_paper_perps")
    venue, since = venue_in(world), clock.now() - timedelta(minutes=1)
    venue.place(opening(world, side, "0.02"))
    before = venue.balances()[quote(world)].total
    world.fund("0.0001")
    (payment,) = venue.funding_since(since)
    assert payment.symbol == world.symbol
    assert (payment.amount, payment.rate) == (sign * Decimal("0.12"), Decimal("0.0001"))
    assert venue.balances()[quote(world)].total == before + payment.amount
    assert len(venue.trades_since(since)) == 1
    assert venue.funding_since(clock.now() + timedelta(hours=1)) == []


@pytest.mark.parametrize(("side", "price"), [(BUY, 48_000), (SELL, 72_000)])
def test_a_liquidation_is_told_once_and_whole(world: PerpsWorld, side: Side, price: int) -> None:
    venue, since = venue_in(world), clock.now() - timedelta(minutes=1)
    venue.place(opening(world, side, "0.02"))
    assert venue.forced_closes_since(since) == []
    world.liquidate(price)
    (forced,) = venue.forced_closes_since(since)
    assert (forced.symbol, forced.side, forced.base) == (world.symbol, OTHER[side], Decimal("0.02"))
    assert forced.report.status is OrderStatus.FILLED
    assert sum(trade.base for trade in forced.report.trades) == Decimal("0.02")
    assert venue.positions() == []
    assert venue.forced_closes_since(since) == [forced]
