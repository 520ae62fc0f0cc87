"""A perpetual position on a live account, over HTTP: opened with its bracket, funded, stopped, liquidated, doubted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import balances, perps_settings, trading
from accounts.access import scope_of
from accounts.models import Account
from bots.panic import services as panic
from bots.panic import work
from marketdata import services, sources
from marketdata.models import Product
from marketdata.sources.limiter import AddressLimiter
from notifications.models import Event
from positions import figures, manual, perps, perps_news, perps_worth, strangers
from positions.brackets import legs_of
from positions.manual import CloseState
from positions.models import Bracket, FundingPayment, Order, PerpsTerms, Position, UnmatchedFill
from positions.perps import OpenState
from positions.perps_loop import accounts_with_perpetuals, tend_account
from positions.states import Direction, ExitReason, OrderStatus, PositionStatus, Purpose
from positions.tasks import read_late_funding
from tests.accounts.live import fake_venue, live_account, unhurried
from tests.venue.model import Ask
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.errors import OrderRefused
from tradebot.core.scoping import bound, detached
from tradebot.core.words import MarginMode, Side

pytestmark = pytest.mark.django_db(transaction=True)
D = Decimal
PERP = "BTC-USDT-PERP"
LONG, SHORT = Direction.LONG, Direction.SHORT
TAKER, MAKER = D("0.006"), D("0.004")


@dataclass
class Desk:
    """An armed account on the fake Bybit with 10,000 USDT, and one perpetual at 60,000."""

    fake: FakeVenue
    account: Account
    product: Product

    def stand_at(self, price: int) -> None:
        self.fake.control.set_price(PERP, str(price))
        services.refresh_prices("bybit", [PERP])

    def open(self, direction: Direction = LONG, **asked: Any) -> perps.Opening:
        given = {"base": D("0.1"), "leverage": 5, "margin_mode": MarginMode.ISOLATED, **asked}
        return perps.open_position(self.account, self.product, direction, actor="ann@example.com", **given)

    def open_other(self, product: Product, mode: MarginMode) -> perps.Opening:
        return perps.open_position(self.account, product, LONG, actor="a", base=D(1), leverage=2, margin_mode=mode)

    def tend(self) -> None:
        tend_account(self.account.pk)

    def fresh(self, position: Position) -> Position:
        found: Position = Position.objects.select_related("product", "account").get(pk=position.pk)
        return found

    def cash(self) -> Decimal:
        return D(self.fake.control.balances("ann")["USDT"]["total"])

    def standing(self) -> list[tuple[str, str, bool]]:
        rows = self.fake.control.contract_orders("ann")
        working = ("New", "PartiallyFilled", "Untriggered")
        return [(row["orderType"], row["side"], row["reduceOnly"]) for row in rows if row["orderStatus"] in working]

    def placed(self) -> int:
        return len(self.fake.sent("/order/create"))

    def told(self, code: str) -> list[str]:
        with detached("test"):
            events = Event.objects.filter(kind="notification").order_by("id")
            return [row.payload["message"] for row in events if row.payload.get("code") == code]


@pytest.fixture
def desk() -> Iterator[Desk]:
    sources._exchange.cache_clear()
    with fake_venue() as fake:
        sources.get("bybit").limiter = AddressLimiter(fake.url, 10_000)  # type: ignore[attr-defined]
        key = fake.add_account("ann", {"USDT": "10000", "BTC": "1"}, algorithm="HMAC")
        account = live_account(key, "bybit", trading_state=Account.TradingState.READ_ONLY)
        unhurried(account, fake.url)
        services.refresh_products("bybit")
        with bound(scope_of(account.owner)):
            perps_settings.update(account, "ann@example.com", enabled=True)
            trading.arm(account, "ann@example.com", account.name)
            account.refresh_from_db()
            made = Desk(fake, account, Product.objects.get(exchange="bybit", symbol=PERP))
            made.stand_at(60_000)
            yield made
    sources._exchange.cache_clear()


# The whole story ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [LONG, SHORT])
def test_a_position_from_its_opening_to_its_stop(desk: Desk, direction: Direction) -> None:
    sign = direction.sign
    stop, profit = D(60_000 - sign * 3_000), D(60_000 + sign * 3_000)
    opening = desk.open(direction, stop_loss=stop, take_profit=profit)
    assert (opening.state, opening.bracket.alarm_code) == (OpenState.OPEN, "")
    assert "stand as wanted" in opening.message
    exit_side = "Sell" if direction is LONG else "Buy"
    assert sorted(desk.standing()) == [("Limit", exit_side, True), ("Market", exit_side, True)]
    deal = desk.fresh(opening.position)
    entry = D("60000.1") if direction is LONG else D(60_000)
    assert (deal.status, deal.base_held, deal.average_price) == (PositionStatus.OPEN, sign * D("0.1"), entry)
    terms = deal.perps_terms
    assert (terms.leverage, terms.margin_mode, terms.entry_price) == (5, "isolated", entry)
    assert (terms.initial_margin, terms.margin) == (entry / 50, entry / 50)
    assert terms.liquidation_price == entry * (1 - sign * D("0.2"))

    # What the account is worth: the balance, and the profit that is in no balance.
    balances.refresh(desk.account)
    known = balances.funds_of(desk.account).balances["USDT"]
    assert (known.total, known.held) == (10_000 - entry / 10 * TAKER, entry / 50)
    desk.stand_at(60_000 + sign * 500)
    mark = D(60_000 + sign * 500) + D("0.05")
    assert perps_worth.equity_part(desk.account, "USDT", clock.now()) == sign * D("0.1") * (mark - entry)

    desk.fake.control.fund(PERP, "0.0001")
    for _ in range(2):
        desk.tend()
    payment = FundingPayment.objects.get(position=deal)
    assert (payment.amount, payment.rate) == (-sign * D("0.1") * D(60_000 + sign * 500) * D("0.0001"), D("0.0001"))
    assert desk.fresh(deal).perps_terms.funding_quote == payment.amount

    desk.stand_at(60_000 - sign * 3_200)  # a gap beyond the stop
    for _ in range(2):
        desk.tend()
    deal = desk.fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.STOP_LOSS)
    assert desk.standing() == []
    closed = D(60_000 - sign * 3_200) + (D("0.1") if direction is SHORT else 0)
    gross = sign * (closed - entry) * D("0.1")
    fees = (entry + closed) * D("0.1") * TAKER
    assert deal.realised_quote == gross - fees + payment.amount
    assert desk.cash() == 10_000 + deal.realised_quote  # to the last digit
    assert PerpsTerms.objects.get(position=deal).ended_at is not None
    statuses = dict(deal.orders.values_list("purpose", "status"))
    assert statuses == {
        Purpose.BASE_ORDER: OrderStatus.FILLED,
        Purpose.BRACKET_STOP: OrderStatus.FILLED,
        Purpose.BRACKET_PROFIT: OrderStatus.CANCELLED,
    }
    balances.refresh(desk.account)
    assert balances.funds_of(desk.account).balances["USDT"].held == 0


def test_a_take_profit_ends_the_stop(desk: Desk) -> None:
    deal = desk.open(take_profit=D(62_000), stop_loss=D(58_000)).position
    desk.stand_at(62_000)
    for _ in range(2):
        desk.tend()
    deal = desk.fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.TAKE_PROFIT)
    assert desk.standing() == []
    assert desk.cash() == 10_000 + deal.realised_quote
    assert deal.realised_quote == D("199.99") - D("6000.01") * TAKER - D(6_200) * MAKER


def test_a_resting_opening_gets_its_bracket_with_the_fill(desk: Desk) -> None:
    opening = desk.open(limit_price=D(59_000), stop_loss=D(58_000))
    assert opening.state is OpenState.RESTING
    assert desk.standing() == [("Limit", "Buy", False)]
    desk.stand_at(58_900)
    desk.tend()
    assert desk.fresh(opening.position).average_price == D(59_000)
    assert desk.standing() == [("Market", "Sell", True)]


def test_a_close_by_hand_and_a_part_of_it(desk: Desk) -> None:
    deal = desk.open(stop_loss=D(58_000)).position
    assert manual.close_at_market(deal, "ann@example.com", base=D("0.04")).state is CloseState.REDUCED
    desk.tend()
    assert legs_of(desk.fresh(deal))[Purpose.BRACKET_STOP].base_size == D("0.06")
    assert manual.close_at_market(desk.fresh(deal), "ann@example.com").state is CloseState.CLOSED
    desk.tend()
    deal = desk.fresh(deal)
    assert (deal.status, deal.exit_reason, desk.standing()) == (PositionStatus.CLOSED, ExitReason.MANUAL, [])
    assert desk.cash() == 10_000 + deal.realised_quote


def test_a_stop_that_finds_less_than_it_was_for_ends_with_the_position(desk: Desk) -> None:
    """The take profit was filled in part when the price fell through the stop: Bybit cuts the stop to what is left."""
    deal = desk.open(take_profit=D(62_000), stop_loss=D(58_000)).position
    resting = next(row for row in desk.fake.contracts.orders if row.price == D(62_000))
    desk.fake.contracts.fill(resting, D(62_000), D("0.03"), is_maker=True)
    desk.stand_at(57_900)
    for _ in range(2):
        desk.tend()
    deal = desk.fresh(deal)
    stop = deal.orders.get(purpose=Purpose.BRACKET_STOP)
    assert (stop.status, stop.filled_base) == (OrderStatus.CANCELLED, D("0.07"))
    assert (deal.status, deal.base_held) == (PositionStatus.CLOSED, 0)
    assert desk.cash() == 10_000 + deal.realised_quote


# Doubt ----------------------------------------------------------------------------------------------------------------


def test_f5_a_time_out_after_acceptance_neither_loses_nor_doubles(desk: Desk) -> None:
    desk.fake.control.fail("timeout", "order/create", when="after")
    opening = desk.open(stop_loss=D(58_000))
    assert opening.state is OpenState.SENT
    assert opening.order.status == OrderStatus.SUBMITTED
    desk.tend()
    deal = desk.fresh(opening.position)
    assert (deal.status, deal.base_held) == (PositionStatus.OPEN, D("0.1"))
    assert desk.placed() == 2  # the opening and its stop
    assert desk.standing() == [("Market", "Sell", True)]
    assert D(desk.fake.control.contract_position("ann", PERP)["size"]) == D("0.1")


def test_f5_a_stop_whose_answer_was_lost_raises_the_alarm_until_it_is_seen(desk: Desk) -> None:
    desk.fake.control.fail("cut", "order/create", when="after", skip=1)
    opening = desk.open(stop_loss=D(58_000))
    assert opening.bracket.alarm_code == "unconfirmed"
    desk.tend()
    Bracket.objects.filter(position=opening.position).update(next_try_at=None)
    desk.tend()
    assert Bracket.objects.get(position=opening.position).alarm_code == ""
    assert desk.standing() == [("Market", "Sell", True)]
    assert desk.placed() == 2


def test_a_bracket_that_cannot_be_placed_raises_the_alarm(desk: Desk) -> None:
    desk.fake.control.fail("reject", "order/create", skip=1, count=None)
    opening = desk.open(stop_loss=D(58_000))
    deal = desk.fresh(opening.position)
    assert opening.bracket.alarm_code
    assert (deal.status, deal.error_code) == (PositionStatus.OPEN, "unprotected")
    (message,) = desk.told("bracket")
    assert "is not protected" in message
    desk.fake.control.clear_faults()
    Bracket.objects.filter(position=deal).update(next_try_at=None)
    desk.tend()
    assert desk.fresh(deal).error_code == ""
    assert desk.standing() == [("Market", "Sell", True)]
    assert len(desk.told("bracket")) == 2


def test_a_failure_before_the_order_opens_nothing_and_says_so(desk: Desk) -> None:
    desk.fake.control.fail("status", "set-leverage", status=502)
    with pytest.raises(OrderRefused):
        desk.open()
    assert desk.placed() == 0
    assert Position.objects.get().status == PositionStatus.FAILED
    assert desk.open().state is OpenState.OPEN


def test_f10_positions_of_an_account_have_one_margin_mode(desk: Desk) -> None:
    """Even while the first one's order is still on its way: what counts is what was written down under the lock."""
    desk.fake.control.fail("cut", "order/create", when="before")
    first = desk.open(margin_mode=MarginMode.ISOLATED)
    assert first.order.status == OrderStatus.SUBMITTED
    eth = Product.objects.get(exchange="bybit", symbol="ETH-USDT-PERP")
    with pytest.raises(OrderRefused) as refused:
        desk.open_other(eth, MarginMode.CROSS)
    assert refused.value.code == "margin_mode_differs"
    assert "a position with isolated margin is open" in refused.value.message
    assert len(desk.fake.sent("/set-margin-mode")) == 1
    desk.open_other(eth, MarginMode.ISOLATED)


# Who may --------------------------------------------------------------------------------------------------------------


def test_f63_a_read_only_account_opens_nothing_and_closes_what_it_has(desk: Desk) -> None:
    deal = desk.open(stop_loss=D(58_000)).position
    trading.disarm(desk.account, "ann@example.com")
    perps.change_bracket(desk.fresh(deal), "ann@example.com", take_profit=None, stop_loss=D(58_500))
    assert desk.standing() == [("Market", "Sell", True)]
    assert manual.close_at_market(desk.fresh(deal), "ann@example.com").state is CloseState.CLOSED
    before = desk.placed()
    with pytest.raises(OrderRefused) as refused:
        desk.open()
    assert refused.value.code == "account_read_only"
    assert desk.placed() == before


def test_perpetuals_are_off_on_a_live_account_until_they_are_switched_on(desk: Desk) -> None:
    perps_settings.update(desk.account, "ann@example.com", enabled=False)
    with pytest.raises(OrderRefused, check=lambda error: error.code == "perpetuals_off"):
        desk.open()


# Told late ------------------------------------------------------------------------------------------------------------


def later(seconds: int = 120) -> Any:
    return clock.at(clock.now() + timedelta(seconds=seconds))


def hours_on(hours: float) -> Any:
    return later(int(hours * 3600))


def test_funding_that_is_told_after_newer_one_is_booked_once(desk: Desk) -> None:
    deal = desk.open().position
    opened, day = clock.now(), timedelta(days=1)
    desk.fake.contracts.fund(PERP, "0.0001", opened + day)
    with hours_on(24.1):
        desk.tend()
        assert FundingPayment.objects.filter(position=deal).count() == 1
        asked = len(desk.fake.requests)
        desk.tend()
        asked_each_time = len(desk.fake.requests) - asked
    desk.fake.contracts.fund(PERP, "0.0002", opened + timedelta(hours=8))
    desk.fake.contracts.fund(PERP, "0.0003", opened + timedelta(hours=16))
    with hours_on(24.2):
        for _ in range(3):
            asked = len(desk.fake.requests)
            desk.tend()
            assert len(desk.fake.requests) - asked == asked_each_time
    rates = FundingPayment.objects.filter(position=deal).order_by("at").values_list("rate", flat=True)
    assert list(rates) == [D("0.0002"), D("0.0003"), D("0.0001")]
    terms = PerpsTerms.objects.get(position=deal)
    assert terms.funding_quote == -D(6_000) * D("0.0006")
    assert terms.last_funding_at is not None
    assert abs(terms.last_funding_at - opened - day) < timedelta(seconds=1)
    assert desk.cash() == 10_000 - D("6000.01") * TAKER + terms.funding_quote


def test_reading_what_is_known_costs_the_same_whatever_is_known(desk: Desk) -> None:
    desk.open()
    opened = clock.now()

    def costs() -> int:
        with CaptureQueriesContext(connection) as queries:
            perps_news.read(desk.account.pk)
        return len(queries)

    found = []
    for count in (1, 20):
        for number in range(count):
            desk.fake.contracts.fund(PERP, "0.0001", opened + timedelta(minutes=count + number))
        with hours_on(1):
            desk.tend()
            found.append(costs())
    assert FundingPayment.objects.count() == 21
    assert found[0] == found[1]


def test_the_last_funding_of_a_deal_that_has_ended_is_booked_within_a_day(desk: Desk) -> None:
    deal = desk.open().position
    held_at = clock.now()
    desk.fake.contracts.fund(PERP, "0.0001", held_at)
    row = desk.fake.contracts.log.pop()
    assert manual.close_at_market(desk.fresh(deal), "ann@example.com").state is CloseState.CLOSED
    before = desk.fresh(deal).realised_quote
    with hours_on(3):
        with detached("test"):
            assert accounts_with_perpetuals() == []
            read_late_funding()
        desk.fake.contracts.log.append(row)  # told only now
        for _ in range(2):
            with detached("test"):
                read_late_funding()
    assert desk.fresh(deal).realised_quote == before - D(6_000) * D("0.0001")
    assert desk.cash() == 10_000 + desk.fresh(deal).realised_quote
    with hours_on(25), detached("test"):
        asked = len(desk.fake.requests)
        read_late_funding()
        assert len(desk.fake.requests) == asked


def test_a_liquidation_that_is_told_after_newer_funding_is_booked_once_the_position_differs(desk: Desk) -> None:
    deal = desk.open().position
    desk.fake.contracts.fund(PERP, "0.0001", clock.now() + timedelta(hours=8))
    with hours_on(8.1):
        desk.tend()
    desk.fake.control.liquidate("ann", PERP, "48000")  # eight hours before
    with hours_on(8.2):
        for _ in range(3):
            desk.tend()
    deal = desk.fresh(deal)
    assert (deal.status, deal.exit_reason, deal.error_code) == (PositionStatus.CLOSED, ExitReason.LIQUIDATION, "")
    assert deal.orders.filter(purpose=Purpose.LIQUIDATION).count() == 1


# Liquidations and strangers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken_over", [True, False])
@pytest.mark.parametrize("strangers_first", [True, False])
def test_a_liquidation_is_booked_told_and_no_stranger(desk: Desk, *, taken_over: bool, strangers_first: bool) -> None:
    deal = desk.open(take_profit=D(70_000)).position
    desk.fake.control.set_price(PERP, "48000")
    desk.fake.control.liquidate("ann", PERP, "48000", taken_over=taken_over)
    with later():
        if strangers_first:
            assert strangers.report_strangers(desk.account.pk) == []
        for _ in range(2):
            desk.tend()
        assert strangers.report_strangers(desk.account.pk) == []
    deal = desk.fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.LIQUIDATION)
    order = deal.orders.get(purpose=Purpose.LIQUIDATION)
    assert (order.status, order.filled_base, order.actor) == (OrderStatus.FILLED, D("0.1"), "venue")
    assert desk.cash() == 10_000 + deal.realised_quote
    assert len(desk.told("liquidated")) == 1
    assert "was liquidated by the venue: 0.1 at 48000" in desk.told("liquidated")[0]
    assert not UnmatchedFill.objects.exists()
    assert desk.standing() == []


def test_f11_what_is_nobodys_is_reported_in_both_categories(desk: Desk) -> None:
    opened = desk.open().position
    desk.fake.control.trade_contract("ann", "ETH-USDT-PERP", "Buy", "1")
    desk.fake.control.liquidate("ann", "ETH-USDT-PERP", "2500")  # of a position that is nobody's here
    desk.fake.engine.place("ann", Ask("BTC-USDT", "SELL", base_size=D("0.01")))
    with later():
        found = strangers.report_strangers(desk.account.pk)
        assert sorted((row.symbol, row.side, row.base) for row in found) == [
            ("BTC-USDT", Side.SELL, D("0.01")),
            ("ETH-USDT-PERP", Side.BUY, D(1)),
            ("ETH-USDT-PERP", Side.SELL, D(1)),
        ]
        assert strangers.report_strangers(desk.account.pk) == []
    assert len(desk.told("unmatched_fill")) == 3
    assert Order.objects.filter(position=opened).count() == 1  # nothing was adopted


def test_a_position_that_was_changed_at_bybit_is_noted_and_not_touched(desk: Desk) -> None:
    deal = desk.open().position
    desk.fake.control.trade_contract("ann", PERP, "Sell", "0.04")
    desk.tend()
    with later(90):
        desk.tend()
    assert desk.fresh(deal).error_code == "venue_differs"
    assert desk.placed() == 1


def test_terms_that_were_changed_at_bybit_are_told_once_and_calmed_when_they_are_back(desk: Desk) -> None:
    deal = desk.open().position
    desk.tend()
    assert not desk.fresh(deal).error_code
    desk.fake.control.set_contract_terms("ann", margin_mode="REGULAR_MARGIN", leverage={PERP: D(8)})
    desk.tend()
    desk.tend()
    noted = desk.fresh(deal)
    assert noted.error_code == "venue_terms_differ"
    assert "leverage is 8× there, 5× was chosen here" in noted.last_error
    assert "margin is cross there, isolated was chosen here" in noted.last_error
    assert [noted.last_error in told for told in desk.told("venue_terms_differ")] == [True]
    desk.fake.control.set_contract_terms("ann", margin_mode="ISOLATED_MARGIN", leverage={PERP: D(5)})
    desk.tend()
    assert not desk.fresh(deal).error_code
    assert desk.placed() == 1


def test_the_account_is_looked_after_while_it_has_a_position(desk: Desk) -> None:
    with detached("test"):
        assert accounts_with_perpetuals() == []
    desk.open()
    with detached("test"):
        assert accounts_with_perpetuals() == [desk.account.pk]


def test_figures_of_an_open_position_are_at_the_mark(desk: Desk) -> None:
    deal = desk.open().position
    desk.stand_at(61_000)
    (row,) = figures.deal_figures([desk.fresh(deal)])
    mark = D("61000.05")
    assert row.unrealised is not None
    assert row.mark == mark
    gross = D("0.1") * (mark - D("60000.1"))
    assert abs(row.unrealised.profit - (gross - (D("6000.01") + D("0.1") * mark) * TAKER)) < D("0.01")


def test_f64_selling_everything_closes_the_position_and_its_bracket(desk: Desk) -> None:
    desk.open(SHORT, stop_loss=D(62_000), take_profit=D(58_000))
    run = panic.start(desk.account, "ann@example.com", desk.account.name)
    for _ in range(3):
        with detached("a worker"):
            work.take_turn(run.pk)
        desk.tend()
    deal = Position.objects.get()
    assert (deal.status, desk.standing()) == (PositionStatus.CLOSED, [])
    assert desk.fake.control.contract_position("ann", PERP)["size"] == "0"
    assert desk.cash() == 10_000 + deal.realised_quote
