"""Perpetual deals on the paper venue: opening, holds, results, closing, liquidation, funding by the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts import perps_settings
from accounts.exchanges import perps_rules
from accounts.exchanges.paper import match_resting
from accounts.models import Account, PaperEntry, PerpsSettings
from marketdata.models import Product
from positions import execution, figures, funds, limit_close, manual, perps
from positions.brackets import legs_of
from positions.execution import Intent, PerpsOpening
from positions.ledger import target_price
from positions.manual import CloseState
from positions.models import FundingPayment, Order, PerpsTerms, Position
from positions.perps import OpenState
from positions.perps_loop import accounts_with_perpetuals, tend_account, tend_all
from positions.reserves import spoken_for, worth_per_base
from positions.states import Direction, ExitReason, OrderStatus, PositionStatus, Purpose, Side
from tests.accounts.helpers import held, live_account, live_product, price, total
from tests.factories import BotFactory, FundingPaymentFactory, PerpsTermsFactory
from tests.positions.conftest import MOMENT
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.errors import InvalidInput, OrderRefused
from tradebot.core.scoping import acting_for_account, detached
from tradebot.core.words import MarginMode

D = Decimal
PERP = "BTC-USD-PERP"
LONG, SHORT = Direction.LONG, Direction.SHORT


@dataclass
class Futures:
    """A paper account with 1,000 USD and a perpetual at a price that the test sets."""

    account: Account
    product: Product

    def tell(self, at: str | int) -> None:
        price(at, at, self.product.symbol)

    def open(self, direction: Direction = LONG, **asked: Any) -> Position:
        if "base" not in asked and "margin" not in asked:
            asked["base"] = D(2)
        asked.setdefault("leverage", 10)
        return perps.open_position(self.account, self.product, direction, actor="a@example.com", **asked).position

    def fresh(self, position: Position) -> Position:
        found: Position = Position.objects.select_related("product", "account").get(pk=position.pk)
        return found


@pytest.fixture
def desk(db: None) -> Iterator[Futures]:
    with clock.at(MOMENT):
        account = live_account(USD=1000)
        product = live_product(PERP, kind="perpetual", maintenance_pct=D(2), max_leverage=10, funding_hours=8)
        futures = Futures(account, product)
        futures.tell(100)
        with acting_for_account(account.pk):
            yield futures


def cash(account: Account) -> Decimal:
    return total(account, "USD")


# Opening --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [LONG, SHORT])
@pytest.mark.parametrize(("leverage", "margin"), [(1, 200), (10, 20)])
def test_one_order_opens_one_position_with_margin_and_fee(
    desk: Futures, direction: Direction, leverage: int, margin: int
) -> None:
    deal = desk.open(direction, leverage=leverage)
    tend_account(desk.account.pk)
    deal = desk.fresh(deal)
    assert (deal.status, deal.strategy, deal.bot) == (PositionStatus.OPEN, "perpetual", None)
    assert deal.base_held == 2 * direction.sign
    assert deal.deal_number == 1
    order = deal.orders.get()
    assert (order.side, order.hold_currency, order.hold_amount) == (direction.entry_side, "USD", 0)
    terms = deal.perps_terms
    assert (terms.leverage, terms.margin_mode, terms.initial_margin) == (leverage, "isolated", D(margin))
    assert (terms.margin, terms.entry_price) == (D(margin), D(100))
    found = perps_rules.liquidation_price(
        perps_rules.enlarged(None, direction, D(2), D(200), leverage), D("0.02"), D(margin)
    )
    assert terms.liquidation_price == (None if found is None else round(found, 18))
    assert (held(desk.account, "USD"), cash(desk.account)) == (D(margin), D("998.8"))


def test_a_margin_is_turned_into_a_size_by_the_leverage(desk: Futures) -> None:
    deal = desk.open(margin=D(50), leverage=4)
    assert deal.base_held == D(2)


def test_a_resting_opening_holds_margin_and_fee_until_it_fills(desk: Futures) -> None:
    opening = perps.open_position(
        desk.account, desk.product, SHORT, actor="a", base=D(1), leverage=4, limit_price=D(120), stop_loss=D(130)
    )
    assert opening.state is OpenState.RESTING
    assert opening.order.hold_amount == D("30.72")
    assert "follow with the first fill" in opening.message
    desk.tell(121)
    match_resting(desk.account.exchange, clock.now())  # as the loop of resting orders does
    tend_account(desk.account.pk)
    deal = desk.fresh(opening.position)
    assert (deal.status, deal.average_price) == (PositionStatus.OPEN, D(120))
    assert set(legs_of(deal)) == {Purpose.BRACKET_STOP}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"leverage": 11}, "leverage"),
        ({"leverage": 0}, "leverage"),
        ({"base": D(-1)}, "base"),
        ({"base": D("NaN")}, "base"),
        ({"base": D(1), "margin": D(1)}, "margin"),
        ({"margin": D("0.01")}, "margin"),
        ({"limit_price": D(0)}, "price"),
        ({"take_profit": D(99)}, "take_profit"),
        ({"stop_loss": D(100)}, "stop_loss"),
        ({"stop_loss": D("91.5")}, "stop_loss"),  # it is liquidated at 91.84
    ],
)
def test_f23_what_cannot_be_is_refused_naming_the_field(desk: Futures, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        desk.open(**asked)
    assert error.value.field == field
    assert not Position.objects.exists()


def test_a_short_has_its_bracket_the_other_way_round(desk: Futures) -> None:
    for asked in ({"take_profit": D(101)}, {"stop_loss": D(99)}, {"stop_loss": D("108.5")}):
        with pytest.raises(InvalidInput):
            desk.open(SHORT, **asked)
    deal = desk.open(SHORT, take_profit=D(90), stop_loss=D(105))
    assert {purpose: order.side for purpose, order in legs_of(deal).items()} == {
        Purpose.BRACKET_PROFIT: Side.BUY,
        Purpose.BRACKET_STOP: Side.BUY,
    }


def test_f10_an_account_has_one_position_per_perpetual(desk: Futures) -> None:
    first = desk.open()
    with pytest.raises(OrderRefused) as refused:
        desk.open(SHORT)
    assert (refused.value.code, refused.value.detail["position"]) == ("position_exists", first.pk)
    manual.close_at_market(first, "a")
    assert desk.open(SHORT).base_held == D(-2)


def test_money_that_is_not_there_opens_nothing(desk: Futures) -> None:
    with pytest.raises(OrderRefused) as refused:
        desk.open(base=D(95))  # 950 margin, 57 fee
    assert refused.value.code == "insufficient_balance"
    assert not Position.objects.exists()


def test_perpetuals_can_be_switched_off_and_leverage_limited(desk: Futures) -> None:
    perps_settings.update(desk.account, "a", max_leverage=3, default_leverage=2)
    with pytest.raises(InvalidInput) as error:
        desk.open(leverage=4)
    assert (error.value.field, error.value.detail["limit"]) == ("leverage", 3)
    opened = perps.open_position(desk.account, desk.product, LONG, actor="a", base=D(1)).position
    assert opened.perps_terms.leverage == 2
    manual.close_at_market(opened, "a")
    perps_settings.update(desk.account, "a", enabled=False)
    with pytest.raises(OrderRefused) as refused:
        desk.open(leverage=2)
    assert refused.value.code == "perpetuals_off"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_leverage": 11}, "max_leverage"),
        ({"default_leverage": 0}, "default_leverage"),
        ({"default_leverage": 6, "max_leverage": 5}, "default_leverage"),
        ({"margin_mode": "both"}, "margin_mode"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(desk: Futures, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        perps_settings.update(desk.account, "a", **changes)
    assert error.value.field == field
    assert not PerpsSettings.objects.exists()


def test_a_bot_cannot_open_a_perpetual_by_any_way(desk: Futures) -> None:
    bot = BotFactory(account=desk.account, status="running")
    values: dict[str, Any] = {
        "account": desk.account,
        "bot": bot,
        "product": desk.product,
        "direction": LONG,
        "frozen_settings": {},
        "settings_version": 1,
        "strategy": "indicator_dca",
        "budget_quote": D(100),
        "max_active_deals": 1,
        "max_deals_per_pair": 1,
        "intent": Intent(purpose=Purpose.BASE_ORDER, sequence=1, quote_size=D(100), reference_price=D(100)),
    }
    with pytest.raises(OrderRefused) as refused:
        execution.intend_open(**values)
    assert refused.value.code == "perpetual_only_by_hand"
    values["product"] = live_product()
    price(100, 100)
    with pytest.raises(InvalidInput):
        execution.intend_open(**values, perps=PerpsOpening(2, MarginMode.ISOLATED))


# Results --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leverage", [1, 3, 10])
@pytest.mark.parametrize(("direction", "close", "profit"), [(LONG, 105, 10), (LONG, 96, -8), (SHORT, 95, 10)])
def test_the_result_is_booked_from_fills_in_both_directions(
    desk: Futures, direction: Direction, close: int, profit: int, leverage: int
) -> None:
    deal = desk.open(direction, leverage=leverage)
    desk.tell(close)
    closing = manual.close_at_market(deal, "a")
    assert closing.state is CloseState.CLOSED
    deal = desk.fresh(deal)
    fees = D(200) * D("0.006") + D(close) * 2 * D("0.006")
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.MANUAL)
    assert deal.realised_quote == D(profit) - fees
    assert deal.realised_pct is not None
    assert round(deal.realised_pct, 12) == round((D(profit) - fees) / (D(200) / leverage) * 100, 12)
    assert cash(desk.account) == D(1000) + deal.realised_quote  # journal and ledger agree to the last digit
    assert held(desk.account, "USD") == ZERO
    assert PerpsTerms.objects.get(position=deal).ended_at is not None


def test_parts_are_closed_and_add_up(desk: Futures) -> None:
    deal = desk.open(base=D(3), leverage=3)
    for at, part in ((104, D(1)), (98, D("0.7")), (101, None)):
        desk.tell(at)
        closing = manual.close_at_market(desk.fresh(deal), "a", base=part)
        assert closing.state is (CloseState.REDUCED if part else CloseState.CLOSED)
    deal = desk.fresh(deal)
    gross = D(4) - D("1.4") + D("1.3")
    fees = D("0.006") * (300 + 104 + D("68.6") + D("131.3"))
    assert deal.realised_quote == gross - fees
    assert cash(desk.account) == D(1000) + deal.realised_quote


@pytest.mark.parametrize("direction", [LONG, SHORT])
def test_unrealised_profit_is_on_the_mark_and_of_the_margin(desk: Futures, direction: Direction) -> None:
    deal = desk.open(direction, leverage=5)
    desk.tell(103 if direction is LONG else 97)
    (row,) = figures.deal_figures([desk.fresh(deal)])
    at = D(103 if direction is LONG else 97)
    expected = D(6) - D("1.2") - at * 2 * D("0.006")
    assert row.unrealised is not None
    assert row.unrealised.profit == expected
    assert row.unrealised.pct == expected / D(40) * 100
    assert row.profit_pct == row.unrealised.pct
    assert row.totals is not None
    even = target_price(row.totals, ZERO, D("0.006"))
    assert even is not None
    assert round(figures.ledger.unrealised(row.totals, even, D("0.006")).profit, 12) == ZERO


def test_an_open_perpetual_needs_no_coins_and_no_money_of_the_account(desk: Futures) -> None:
    long, short = desk.open(), None
    manual.close_at_market(long, "a")
    short = desk.fresh(desk.open(SHORT))
    for currency in ("BTC", "USD"):
        assert spoken_for([short], currency, lambda _: None, D("0.006"), {}) == ZERO
    assert worth_per_base(short, D(90)) == D(-10)
    assert worth_per_base(short, None) is None
    live_product()
    price(100, 100)
    free = execution.free_balance(desk.account, "USD")
    assert free == cash(desk.account) - held(desk.account, "USD")


# What is not done to it -----------------------------------------------------------------------------------------------


def test_what_is_for_coins_is_refused_with_the_way_out(desk: Futures) -> None:
    deal = desk.open()
    for act, code in (
        (lambda: funds.add_funds(deal, D(10), "a"), "not_added_to"),
        (lambda: limit_close.place(deal, "a", D(110)), "use_take_profit"),
        (lambda: manual.cancel_deal(deal, "a"), "close_it"),
    ):
        with pytest.raises(OrderRefused) as refused:
            act()
        assert refused.value.code == code
    assert desk.fresh(deal).status == PositionStatus.OPEN


def test_an_opening_that_waits_can_be_given_up(desk: Futures) -> None:
    deal = desk.open(limit_price=D(90))
    manual.cancel_deal(deal, "a")
    assert desk.fresh(deal).status == PositionStatus.CANCELLED
    assert held(desk.account, "USD") == ZERO
    assert desk.open().status == PositionStatus.OPEN


# What the venue does --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "beyond"), [(LONG, 91), (SHORT, 108)])
def test_a_liquidation_is_an_order_with_fills_like_any_other(desk: Futures, direction: Direction, beyond: int) -> None:
    deal = desk.open(direction, take_profit=D(120 if direction is LONG else 80))
    desk.tell(beyond)
    for _ in range(2):
        tend_account(desk.account.pk)
    deal = desk.fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.LIQUIDATION)
    order = deal.orders.get(purpose=Purpose.LIQUIDATION)
    assert (order.status, order.filled_base, order.actor) == (OrderStatus.FILLED, D(2), "venue")
    assert deal.fills.count() == 2
    assert deal.orders.get(purpose=Purpose.BRACKET_PROFIT).status == OrderStatus.CANCELLED
    assert cash(desk.account) == D(1000) + deal.realised_quote
    assert deal.realised_quote >= D("-21.2")  # margin and the entry's fee
    told = [event.payload for event in events(desk) if event.payload.get("code") == "liquidated"]
    assert len(told) == 1


def events(desk: Futures) -> list[Any]:
    from notifications.models import Event

    with detached("test"):
        return list(Event.objects.filter(kind="notification").order_by("id"))


def test_a_close_after_the_liquidation_says_so_honestly(desk: Futures) -> None:
    deal = desk.open()
    desk.tell(91)
    closing = manual.close_at_market(deal, "a")
    assert closing.state is CloseState.CLOSED
    assert desk.fresh(deal).exit_reason == ExitReason.LIQUIDATION


def test_nothing_is_written_while_nothing_changes(desk: Futures, django_assert_max_num_queries: Any) -> None:
    deal = desk.open(stop_loss=D(95), take_profit=D(110))
    tend_account(desk.account.pk)
    before = (Order.objects.count(), PaperEntry.objects.count(), desk.fresh(deal).perps_terms.checked_at)
    with django_assert_max_num_queries(32):
        tend_account(desk.account.pk)
    assert (Order.objects.count(), PaperEntry.objects.count(), desk.fresh(deal).perps_terms.checked_at) == before


def test_funding_is_booked_once_and_part_of_the_result(db: None) -> None:
    from tests.accounts.test_paper_perps import simulated

    account = simulated(USD=100_000)
    product = Product.objects.get(exchange="simulated", symbol=PERP)
    start = datetime(2026, 11, 29, 7, 59, tzinfo=clock.now().tzinfo)
    with acting_for_account(account.pk):
        with clock.at(start):
            deal = perps.open_position(account, product, LONG, actor="a", base=D("0.1"), leverage=2).position
        for minutes in (2, 3, 8 * 60 + 2):  # 08:00, again, 16:00
            with clock.at(start + timedelta(minutes=minutes)):
                tend_account(account.pk)
        payments = list(FundingPayment.objects.filter(position=deal))
        deal.refresh_from_db()
        assert len(payments) == 2
        funding = sum((payment.amount for payment in payments), ZERO)
        assert deal.perps_terms.funding_quote == funding == deal.realised_quote
        assert deal.perps_terms.last_funding_at == payments[-1].at
        with clock.at(start + timedelta(hours=9)):
            manual.close_at_market(deal, "a")
        deal.refresh_from_db()
        assert deal.status == PositionStatus.CLOSED
        assert cash(account) == D(100_000) + deal.realised_quote


def test_a_payment_is_in_the_table_once(db: None) -> None:
    from django.db import IntegrityError

    payment = FundingPaymentFactory()
    with pytest.raises(IntegrityError):
        FundingPaymentFactory(account=payment.account, position=payment.position, venue_id=payment.venue_id)


def test_f67_one_account_that_fails_does_not_stop_the_others(db: None) -> None:
    good, bad = PerpsTermsFactory(), PerpsTermsFactory(account__kind="exchange", account__exchange="nowhere")
    with detached("test"):
        Account.objects.filter(pk=bad.account_id).update(kind="exchange", exchange="nowhere")
    done = tend_all(accounts_with_perpetuals())
    assert (done.accounts, done.deals) == (1, 1)
    assert done.failed == {bad.account_id: "venue_unsupported"}
    assert good.account_id not in done.failed
