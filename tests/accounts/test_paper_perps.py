"""The paper venue's perpetuals: margin instead of coins, profit and loss, stops, funding, liquidation, the journal."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from accounts.exchanges import paper_settlement
from accounts.exchanges.base import NewOrder, OrderRef, OrderReport, perps_of
from accounts.exchanges.paper import PaperVenue, match_resting
from accounts.models import Account, PaperEntry, PaperPerp
from marketdata import market
from marketdata.series import oldest_first
from marketdata.sources.replay import import_candles
from marketdata.timeframes import Timeframe
from tests.accounts.helpers import LIVE, D, assert_books_agree, held, live_account, live_product, price, total
from tests.factories import AccountFactory, PaperTermsFactory, ProductFactory
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.errors import VenueRejected
from tradebot.core.scoping import acting_for_account, detached
from tradebot.core.words import MarginMode, OrderStatus, OrderType, Side

pytestmark = pytest.mark.django_db
PERP = "BTC-USD-PERP"
NOW = datetime(2026, 11, 29, 7, 0, tzinfo=UTC)


def perp(symbol: str = PERP) -> Any:
    return live_product(symbol, kind="perpetual", maintenance_pct=D(2), max_leverage=10, funding_hours=8)


def order(side: Side, base: str, leverage: int | None = None, symbol: str = PERP, **more: Any) -> NewOrder:
    mode = more.pop("mode", MarginMode.ISOLATED) if leverage else None
    kind = OrderType.LIMIT if "limit_price" in more else OrderType.MARKET
    return NewOrder(
        uuid.uuid4(), symbol, side, kind, D(base), leverage=leverage, margin_mode=mode, reduce_only=not leverage, **more
    )


def place(account: Account, new: NewOrder) -> OrderReport:
    with acting_for_account(account.pk):
        return PaperVenue(account).place(new)


def settle(account: Account, now: datetime | None = None) -> None:
    with acting_for_account(account.pk):
        paper_settlement.settle(account.exchange, now or clock.now())


def look(account: Account) -> None:
    with acting_for_account(account.pk):
        match_resting(account.exchange, clock.now())


def found(account: Account) -> list[Any]:
    with acting_for_account(account.pk):
        return perps_of(PaperVenue(account)).positions()


def entries(account: Account) -> dict[str, Decimal]:
    with detached("test"):
        rows = list(PaperEntry.objects.filter(account=account).exclude(kind="deposit"))
    return {kind: sum((row.amount for row in rows if row.kind == kind), ZERO) for kind in {row.kind for row in rows}}


def assert_margins_agree(account: Account) -> None:
    """What is held of a currency is what resting orders and positions claim, and the journal adds up."""
    with detached("test"):
        margins = sum((row.margin for row in PaperPerp.objects.filter(account=account)), ZERO)
        orders = sum((row.hold for row in account.paper_orders.all()), ZERO)
        sums = sum((row.amount for row in PaperEntry.objects.filter(account=account, currency="USD")), ZERO)
    assert held(account, "USD") == margins + orders
    assert total(account, "USD") == sums
    assert ZERO <= held(account, "USD") <= total(account, "USD")


# Opening and closing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leverage", "margin"), [(1, "200"), (10, "20")])
@pytest.mark.parametrize(
    ("side", "close", "profit"), [(Side.BUY, 110, "20"), (Side.BUY, 95, "-10"), (Side.SELL, 95, "10")]
)
def test_a_position_takes_margin_and_fee_and_gives_back_margin_and_profit(
    side: Side, close: int, profit: str, leverage: int, margin: str
) -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    report = place(account, order(side, "2", leverage))
    assert (report.status, report.trades[0].fee) == (OrderStatus.FILLED, D("1.2"))
    assert (held(account, "USD"), total(account, "USD")) == (D(margin), D("998.8"))
    assert total(account, "BTC") == ZERO  # no coins change hands
    price(close, close, PERP)
    other = Side.SELL if side is Side.BUY else Side.BUY
    report = place(account, order(other, "2"))
    fee = D(close) * 2 * D("0.006")
    assert report.trades[0].fee == fee
    assert entries(account) == {"fee": D("-1.2") - fee, "profit": D(profit)}
    assert (held(account, "USD"), total(account, "USD")) == (ZERO, D("998.8") + D(profit) - fee)
    assert found(account) == []
    assert_margins_agree(account)


def test_a_part_is_closed_and_the_rest_keeps_its_entry_and_its_liquidation_price() -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    place(account, order(Side.BUY, "2", 10))
    before = found(account)[0]
    price(104, 104, PERP)
    place(account, order(Side.SELL, "0.5"))
    after = found(account)[0]
    assert (after.base, after.entry_price, after.margin) == (D("1.5"), D(100), D(15))
    assert after.liquidation_price == before.liquidation_price
    assert entries(account)["profit"] == D(2)
    assert_margins_agree(account)


def test_a_reduce_only_order_never_turns_a_position_around() -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    with pytest.raises(VenueRejected) as refused:
        place(account, order(Side.SELL, "1"))
    assert refused.value.code == "no_position"
    place(account, order(Side.BUY, "1", 5))
    report = place(account, order(Side.SELL, "3"))
    assert (report.status, report.trades[0].base) == (OrderStatus.CANCELLED, D(1))
    assert found(account) == []


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (order(Side.BUY, "1", 11), "bad_leverage"),
        (NewOrder(uuid.uuid4(), PERP, Side.BUY, OrderType.MARKET, D(1)), "bad_leverage"),
        (NewOrder(uuid.uuid4(), PERP, Side.BUY, OrderType.MARKET, quote_size=D(1), leverage=2), "bad_order"),
        (order(Side.BUY, "1", 2, symbol="BTC-USD"), "bad_order"),
        (order(Side.BUY, "1", 2, trigger_price=D(90)), "bad_order"),
        (order(Side.SELL, "1", trigger_price=D("90.001")), "bad_increment"),
        (order(Side.BUY, "101", 10), "insufficient_funds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_code(new: NewOrder, code: str) -> None:
    perp()
    live_product()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    price(100, 100)
    with pytest.raises(VenueRejected) as refused:
        place(account, new)
    assert refused.value.code == code
    assert total(account, "USD") == D(1000)


def test_there_is_one_position_of_one_kind_per_product() -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    place(account, order(Side.BUY, "1", 5))
    for new in (order(Side.SELL, "1", 5), order(Side.BUY, "1", 3), order(Side.BUY, "1", 5, mode=MarginMode.CROSS)):
        with pytest.raises(VenueRejected) as refused:
            place(account, new)
        assert refused.value.code == "other_position"


def test_a_resting_order_claims_margin_and_fee_and_becomes_the_position() -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    new = order(Side.SELL, "1", 4, limit_price=D(120))
    assert place(account, new).status is OrderStatus.OPEN
    assert held(account, "USD") == D(30) + D("0.72")
    price(121, 122, PERP)
    look(account)
    assert (held(account, "USD"), total(account, "USD")) == (D(30), D(1000) - D("0.48"))
    assert found(account)[0].entry_price == D(120)
    assert_margins_agree(account)


# Brackets at the venue ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_one_leg_of_a_bracket_ends_the_other(side: Side) -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    up = 1 if side is Side.BUY else -1
    other = Side.SELL if up == 1 else Side.BUY
    place(account, order(side, "1", 5))
    profit = order(other, "1", limit_price=D(100 + 5 * up))
    stop = order(other, "1", trigger_price=D(100 - 5 * up))
    for leg in (profit, stop):
        assert place(account, leg).status is OrderStatus.OPEN
    assert held(account, "USD") == D(20)  # legs claim nothing
    look(account)
    assert len(found(account)) == 1
    price(100 - 6 * up, 100 - 6 * up, PERP)
    look(account)
    with acting_for_account(account.pk):
        venue = PaperVenue(account)
        reports = [venue.find(OrderRef(leg.client_order_id, PERP)) for leg in (stop, profit)]
    assert [report and report.status for report in reports] == [OrderStatus.FILLED, OrderStatus.CANCELLED]
    assert reports[0] is not None
    assert (reports[0].trades[0].price, reports[0].trades[0].is_maker) == (D(100 - 6 * up), False)
    assert found(account) == []
    assert_margins_agree(account)


def test_a_close_by_hand_ends_both_legs() -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    place(account, order(Side.BUY, "1", 5))
    legs = [order(Side.SELL, "1", limit_price=D(105)), order(Side.SELL, "1", trigger_price=D(95))]
    for leg in legs:
        place(account, leg)
    place(account, order(Side.SELL, "1"))
    with acting_for_account(account.pk):
        assert PaperVenue(account).open_orders() == []


# Liquidation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_an_isolated_position_is_liquidated_at_its_maintenance_margin(side: Side) -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    place(account, order(side, "2", 10))
    limit = found(account)[0].liquidation_price
    assert round(limit, 4) == (D("91.8367") if side is Side.BUY else D("107.8431"))
    near, beyond = (D("91.84"), D("91.83")) if side is Side.BUY else (D("107.84"), D("107.85"))
    price(near, near, PERP)  # type: ignore[arg-type]
    settle(account)
    assert len(found(account)) == 1
    price(beyond, beyond, PERP)  # type: ignore[arg-type]
    settle(account)
    assert found(account) == []
    with acting_for_account(account.pk):
        (forced,) = PaperVenue(account).forced_closes_since(clock.now() - timedelta(minutes=1))
    assert (forced.symbol, forced.base, forced.report.status) == (PERP, D(2), OrderStatus.FILLED)
    assert forced.report.trades[0].price == beyond
    assert_margins_agree(account)
    settle(account)  # again: nothing more happens
    assert len(entries(account)) == 2


@pytest.mark.parametrize(("side", "gap"), [(Side.BUY, 50), (Side.SELL, 150)])
def test_a_bankrupt_isolated_position_costs_its_margin_and_nothing_more(side: Side, gap: int) -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    place(account, order(side, "2", 10))
    price(gap, gap, PERP)
    settle(account)
    assert D("978.8") <= total(account, "USD") < D("978.83")  # 1000 less the fee of 1.2, less the margin of 20
    assert_margins_agree(account)


def test_a_close_that_comes_too_late_finds_the_position_liquidated() -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    place(account, order(Side.BUY, "2", 10))
    price(90, 90, PERP)
    with pytest.raises(VenueRejected) as refused:
        place(account, order(Side.SELL, "2"))
    assert refused.value.code == "no_position"
    assert total(account, "USD") > D("978")


def test_a_stop_acts_before_the_liquidation_behind_it() -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    place(account, order(Side.BUY, "2", 10))
    place(account, order(Side.SELL, "2", trigger_price=D(95)))
    price(91, 91, PERP)
    settle(account)
    with acting_for_account(account.pk):
        assert PaperVenue(account).forced_closes_since(clock.now() - timedelta(minutes=1)) == []
    assert found(account) == []


def test_cross_positions_stand_and_fall_with_the_account() -> None:
    perp()
    perp("ETH-USD-PERP")
    account = live_account(USD=100)
    price(100, 100, PERP)
    price(10, 10, "ETH-USD-PERP")
    place(account, order(Side.BUY, "5", 10, mode=MarginMode.CROSS))
    place(account, order(Side.SELL, "10", 10, mode=MarginMode.CROSS, symbol="ETH-USD-PERP"))
    cash = total(account, "USD")
    assert cash == D(100) - D(3) - D("0.6")
    price(82, 82, PERP)  # lost 90, maintenance 8.2 + 2: not covered by 96.4 any more
    settle(account)
    assert found(account) == []
    assert ZERO <= total(account, "USD") < D(10)
    assert_margins_agree(account)


def test_the_liquidation_price_of_a_cross_position_counts_the_whole_account() -> None:
    perp()
    account = live_account(USD=500)
    price(100, 100, PERP)
    place(account, order(Side.BUY, "5", 10, mode=MarginMode.CROSS))
    # cash 497: (500 - 497) / (5 * 0.98)
    assert round(found(account)[0].liquidation_price, 4) == D("0.6122")
    price(60, 60, PERP)
    settle(account)
    assert len(found(account)) == 1


def test_a_loss_of_one_cross_position_takes_from_the_margin_of_the_others() -> None:
    perp()
    perp("ETH-USD-PERP")
    account = live_account(USD=100)
    price(100, 100, PERP)
    price(10, 10, "ETH-USD-PERP")
    place(account, order(Side.BUY, "4", 10, mode=MarginMode.CROSS))
    place(account, order(Side.BUY, "40", 10, mode=MarginMode.CROSS, symbol="ETH-USD-PERP"))
    price(84, 84, PERP)
    place(account, order(Side.SELL, "4"))
    assert_margins_agree(account)
    assert found(account)[0].margin < D(40)


def test_without_a_price_nobody_is_liquidated() -> None:
    perp()
    account = live_account(USD=1000)
    price(100, 100, PERP)
    place(account, order(Side.BUY, "2", 10))
    price(50, 50, PERP, at=clock.now() - timedelta(hours=1))
    settle(account)
    assert len(found(account)) == 1


# Funding --------------------------------------------------------------------------------------------------------------


def simulated(**balances: Any) -> Account:
    account: Account = AccountFactory(exchange="simulated", balances=balances)
    PaperTermsFactory(account=account, slippage_pct=D(0))
    ProductFactory(
        symbol=PERP,
        kind="perpetual",
        price_increment=D("0.1"),
        base_increment=D("0.0001"),
        maintenance_pct=D(2),
        max_leverage=10,
        funding_hours=8,
    )
    return account


@pytest.mark.parametrize("mode", list(MarginMode))
@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_funding_is_settled_once_for_every_due_moment_also_after_a_pause(side: Side, mode: MarginMode) -> None:
    account = simulated(USD=100_000)
    with clock.at(NOW):
        place(account, order(side, "0.1", 2, mode=mode))
    margin = found(account)[0].margin
    later = NOW + timedelta(hours=18)  # 08:00, 16:00 and 00:00 were due meanwhile
    expected = ZERO
    for hours in (1, 9, 17):
        due = NOW + timedelta(hours=hours)
        rate = market.funding_rate("simulated", PERP, due)
        quote = market.quote("simulated", PERP, due)
        assert rate
        assert quote is not None
        expected += (1 if side is Side.SELL else -1) * D("0.1") * quote.mark * rate
    for _ in range(2):
        with clock.at(later):
            settle(account, later)
    assert entries(account)["funding"] == expected
    with acting_for_account(account.pk):
        movements = PaperVenue(account).funding_since(NOW)
    assert len(movements) == 3
    assert sum((one.amount for one in movements), ZERO) == expected
    assert {one.symbol for one in movements} == {PERP}
    assert found(account)[0].margin == margin + (expected if mode is MarginMode.ISOLATED else ZERO)
    assert_margins_agree(account)


def test_the_simulated_funding_is_the_same_for_everybody_and_within_bounds() -> None:
    rates = {market.funding_rate("simulated", PERP, NOW + timedelta(hours=8 * n)) for n in range(50)}
    assert len(rates) > 20
    assert all(D("-0.0004") <= rate <= D("0.0006") for rate in rates)
    assert market.funding_rate("simulated", "BTC-USD", NOW) == ZERO


# Recordings -----------------------------------------------------------------------------------------------------------


def recorded(closes: list[float], lows: list[float]) -> tuple[Account, datetime]:
    start = 1_700_000_100 // 300 * 300
    time = np.arange(start, start + 300 * len(closes), 300, dtype=np.int64)
    close = np.array(closes)
    rows = (time, close, close + 1, np.array(lows), close, np.full(len(closes), 1000.0))
    import_candles("XRP-USDT-PERP", Timeframe.M5, oldest_first(*rows))
    account: Account = AccountFactory(exchange="replay", balances={"USDT": 1000})
    PaperTermsFactory(account=account, slippage_pct=D(0))
    return account, datetime.fromtimestamp(start, UTC)


def test_a_recording_is_walked_candle_by_candle_however_far_the_clock_jumped() -> None:
    account, start = recorded([100.0] * 6, [99.0, 99.0, 91.0, 99.0, 99.0, 99.0])
    with clock.at(start + timedelta(minutes=5)):
        place(account, order(Side.BUY, "1", 10, symbol="XRP-USDT-PERP"))
        take = order(Side.SELL, "1", symbol="XRP-USDT-PERP", limit_price=D("100.5"))
        assert place(account, take).status is OrderStatus.OPEN
    with clock.at(start + timedelta(minutes=30)):  # the third candle touched 91.8367, all of them 100.5
        settle(account, clock.now())
        with acting_for_account(account.pk):
            report = PaperVenue(account).find(OrderRef(take.client_order_id, "XRP-USDT-PERP"))
    assert report is not None
    assert report.status is OrderStatus.FILLED  # the second candle came first


def test_a_recorded_low_liquidates_at_the_price_of_liquidation() -> None:
    account, start = recorded([100.0] * 6, [99.0, 99.0, 91.0, 99.0, 99.0, 99.0])
    with clock.at(start + timedelta(minutes=5)):
        place(account, order(Side.BUY, "1", 10, symbol="XRP-USDT-PERP"))
    with clock.at(start + timedelta(minutes=30)):
        settle(account, clock.now())
        with acting_for_account(account.pk):
            (forced,) = PaperVenue(account).forced_closes_since(start)
    assert forced.report.trades[0].price == D("91.83")
    assert forced.report.trades[0].at == start + timedelta(minutes=15)


def test_spot_books_are_as_they_were() -> None:
    live_product()
    account = live_account(USD=1000)
    price(100, 100)
    place(account, NewOrder(uuid.uuid4(), "BTC-USD", Side.BUY, OrderType.MARKET, D(1)))
    assert (total(account, "BTC"), total(account, "USD")) == (D(1), D("899.4"))
    assert_books_agree(account)
    assert account.exchange == LIVE
