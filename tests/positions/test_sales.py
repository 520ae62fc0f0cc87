"""Selling and converting coins of no deal: one way to the venue, never a doubled step, and an honest word about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import cache

from accounts.access import acting_for
from accounts.exchanges.base import NewOrder
from accounts.models import Account, PaperBalance, PaperOrder, TradingLimits
from bots.autobuy import service as auto_buy
from bots.autobuy.money import facts_of, spendable
from bots.panic import services as panic_services
from bots.panic import work as panic
from marketdata.models import Product
from marketdata.prices import key
from notifications.models import Event
from positions import execution, figures, funds, history, keeping, limit_close, manual, standstill, tasks
from positions.guard import closing, limits
from positions.guard import service as guard
from positions.intents import Intent, client_order_id
from positions.models import Order, Position
from positions.portfolio.holdings import holdings_of
from positions.portfolio.untracked import explain
from positions.reconcile import reconcile_account
from positions.sales import service
from positions.sales.plan import plan_of
from positions.sales.story import StoryState, latest, next_uid, story_of
from positions.sales.ways import ways_from
from positions.states import Direction, OrderStatus, Purpose, Side
from tests.accounts.helpers import assert_books_agree, live_account, live_product, price
from tests.factories import AutoBuyRuleFactory
from tests.positions.conftest import MOMENT, Desk, desk_outside, many_connections
from tests.positions.helpers import in_threads, refused
from tests.positions.outside import Killed, OutsideOrder
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, MissingInformation, VenueUnknown
from tradebot.core.models import AuditEntry, GlobalSettings
from tradebot.core.scoping import acting_for_account, detached

__all__ = ["many_connections"]

pytestmark = pytest.mark.django_db
D = Decimal
ANN = "ann@example.com"


@dataclass
class Holder:
    """An account with coins that no deal holds. ADA stands at 2, ETH at 10, BTC at 100 dollars."""

    account: Account

    def sell(self, currency: str = "ADA", into: str = "", **asked: Any) -> service.Exchanged:
        return service.sell(self.account, currency, into, actor=ANN, **asked)

    def convert(self, currency: str, into: str, **asked: Any) -> service.Exchanged:
        return service.convert(self.account, currency, into, actor=ANN, **asked)

    def total(self, currency: str) -> Decimal:
        row = PaperBalance.objects.filter(currency=currency).first()
        return row.total if row else D(0)

    def go_on(self) -> service.WentOn:
        with detached("as the loop does"):
            return service.go_on_all(service.accounts_to_go_on_with())


def prices() -> None:
    price("1.99", "2.01", "ADA-USD")
    price("9.99", "10.01", "ETH-USD")
    price(100, 100, "BTC-USD")
    price("0.0198", "0.0202", "ADA-BTC")
    price("0.0990", "0.1010", "XLM-BTC")


@contextmanager
def holder(**balances: Any) -> Iterator[Holder]:
    with clock.at(MOMENT):
        account = live_account(**(balances or {"ADA": 500, "ETH": 3, "USD": 100}))
        for symbol in ("ADA-USD", "ETH-USD", "BTC-USD"):
            live_product(symbol, min_quote=1, base_increment=D("0.0001" if symbol == "ADA-USD" else "0.00000001"))
        for symbol in ("ADA-BTC", "XLM-BTC"):
            small = {"price_increment": D("0.00000001"), "quote_increment": D("0.00000001")}
            live_product(symbol, min_quote=D("0.0001"), base_increment=D("0.01"), **small)
        prices()
        with acting_for_account(account.pk):
            yield Holder(account)


@pytest.fixture
def one(db: None) -> Iterator[Holder]:
    with holder() as made:
        yield made


def denied(code: str, field: str | None = None) -> Any:
    return pytest.raises(InvalidInput, check=lambda error: (error.code, error.field) == (code, field))


# What the market offers ---------------------------------------------------------------------------------------------


def test_the_ways_are_those_that_the_market_trades(one: Holder) -> None:
    found = ways_from(one.account, "ADA")
    assert list(found) == ["USD", "BTC", "ETH", "XLM"]
    assert [found[name].is_sale for name in found] == [True, True, False, False]
    assert (found["ETH"].over, found["XLM"].over, found["BTC"].over) == ("USD", "BTC", "")
    back = ways_from(one.account, "USD")
    assert list(back) == ["ADA", "BTC", "ETH"]
    assert not back["ADA"].first.sells
    assert list(ways_from(one.account, "BTC")) == ["USD", "ADA", "ETH", "XLM"]


def test_pairs_that_do_not_trade_are_no_way(one: Holder) -> None:
    Product.objects.filter(symbol="ADA-USD").update(status="offline")
    live_product("ADA-EUR", kind="perpetual")
    assert list(ways_from(one.account, "ADA")) == ["BTC", "XLM"]
    with denied("no_way", "into"):
        one.convert("ADA", "ETH")
    with denied("no_way", "into"):
        one.convert("ADA", "ADA")
    with denied("no_way", "into"):
        one.sell("ADA", "ETH")  # that is a conversion
    with denied("no_way", "currency"):
        one.sell("USD")


# Selling ------------------------------------------------------------------------------------------------------------


def test_a_sale_is_one_order_whose_money_is_free_at_once(one: Holder) -> None:
    answer = one.sell(amount=D(100))
    assert (answer.state, answer.second) == (StoryState.DONE, None)
    assert answer.message == "Sold 100 ADA for 197.81 USD after fees."
    assert (one.total("ADA"), one.total("USD")) == (400, D("297.806"))
    deal, order = Position.objects.get(), Order.objects.get()
    assert (deal.strategy, deal.direction, deal.status, deal.exit_reason, deal.bot_name) == (
        "sale",
        "short",
        "cancelled",
        "kept",
        "Sale",
    )
    assert order.client_order_id == client_order_id(deal.uid, Purpose.BASE_ORDER, 1)
    assert (order.side, order.order_type, order.actor, order.base_size) == ("sell", "market", ANN, 100)
    known = facts_of(one.account, clock.now())
    assert known.money.free(one.account.pk, "USD") == one.total("USD")  # nothing has to be bought back
    found = spendable(known, one.account.pk, "USD")
    assert not isinstance(found, str)
    assert found.kept == 0
    assert_books_agree(one.account)


def test_all_that_is_free_is_sold_down_to_the_step(db: None) -> None:
    with holder(ADA="10.00019") as one:
        one.sell()
        assert one.total("ADA") == D("0.00009")


def test_no_figure_takes_a_sale_for_a_deal(one: Holder) -> None:
    one.sell(amount=D(100))
    price(4, 4, "ADA-USD")
    deals = Position.objects.all()
    assert figures.realised(deals, clock.now(), ZoneInfo("UTC")) == {}
    assert figures.unrealised_by_quote(deals) == {}
    assert figures.by_pair(deals) == []
    nothing = {"q": "", "bot": None, "reason": "", "since": None, "until": None}
    assert list(history.ended_deals(deals, nothing)) == []
    assert len(history.ended_deals(deals, {**nothing, "reason": "kept"})) == 1
    from positions.daymarks import _results

    assert _results(one.account, MOMENT - timedelta(hours=1)) == {}  # what the coin does afterwards is no loss
    usd = next(row for row in holdings_of([one.account])[0].holdings if row.currency == "USD")
    assert (usd.in_deals, usd.free) == (0, usd.total)


def test_kept_coins_that_were_sold_are_no_explanation_any_more(one: Holder) -> None:
    one.convert("USD", "ADA")
    one.sell(amount=D(20))
    explained = next(row for row in explain(holdings_of([one.account])) if row.currency == "ADA")
    bought = Position.objects.get(strategy="purchase").base_held
    assert explained.kept == bought - 20


def test_more_than_is_free_is_refused_with_the_numbers(one: Holder) -> None:
    with denied("too_large", "amount") as caught:
        one.sell(amount=D("500.0001"))
    assert caught.value.message == "It is 500.0001 ADA; 500 ADA are free."
    assert not Order.objects.exists()


def test_f36_what_an_open_deal_holds_is_not_for_sale(one: Holder) -> None:
    ada = Product.objects.get(symbol="ADA-USD")
    Desk(one.account, None, ada).open("50")
    held = Position.objects.get().base_held
    assert one.total("ADA") == 500 + held
    assert plan_of(one.account, "ADA", "USD").free == 500
    with denied("too_large", "amount"):
        one.sell(amount=D(501))
    one.sell()
    assert one.total("ADA") == held
    with refused("nothing_free"):
        one.sell()


def test_what_a_short_has_to_buy_back_is_not_for_conversion(one: Holder) -> None:
    eth = Product.objects.get(symbol="ETH-USD")
    intent = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=D(2))
    Desk(one.account, None, eth).open(intent=intent, direction=Direction.SHORT)
    assert plan_of(one.account, "USD", "ADA").free < 100


def test_what_an_order_holds_is_not_for_sale(one: Holder) -> None:
    ada = Product.objects.get(symbol="ADA-USD")
    deal = Desk(one.account, None, ada).open("50")
    limit_close.place(deal, ANN, D(3))
    assert plan_of(one.account, "ADA", "USD").free == 500
    one.sell(amount=D(500))


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "Infinity", "1e30"])
def test_f23_an_amount_that_is_none_is_refused(one: Holder, amount: str) -> None:
    with pytest.raises(InvalidInput, check=lambda error: error.field == "amount"):
        one.sell(amount=D(amount))


def test_below_the_minimum_names_the_limit(one: Holder) -> None:
    with denied("below_minimum", "amount") as caught:
        one.sell(amount=D("0.4"))
    assert "smallest order on ADA-USD" in caught.value.message
    assert "1 USD" in caught.value.message
    assert caught.value.detail["min_quote"] == 1


def test_without_a_price_nothing_is_sold(one: Holder) -> None:
    with clock.at(MOMENT + timedelta(minutes=5)), pytest.raises(MissingInformation):
        one.sell()
    assert not Order.objects.exists()


def test_f34_an_unknown_balance_sells_nothing() -> None:
    with clock.at(MOMENT), desk_outside("coinbase") as desk, acting_for_account(desk.account.pk):
        desk.tell(100)
        assert desk.venue is not None
        desk.venue.fail("balances", VenueUnknown("unknown_outcome", "no answer"))
        with refused("balance_unknown"):
            service.sell(desk.account, "BTC", actor=ANN)


@pytest.mark.parametrize(("state", "code"), [("read_only", "account_read_only"), ("killed", "account_stopped")])
def test_an_account_that_is_not_armed_sells_nothing(state: str, code: str) -> None:
    with clock.at(MOMENT), desk_outside("coinbase") as desk, acting_for_account(desk.account.pk):
        assert desk.venue is not None
        desk.tell(100)
        desk.venue.wallet = {"BTC": D(4)}
        Account.objects.update(trading_state=state)
        with refused(code):
            service.sell(desk.account, "BTC", actor=ANN)
        assert desk.venue.orders == {}


def test_while_trading_is_paused_nothing_is_sold(one: Holder) -> None:
    GlobalSettings.load()
    GlobalSettings.objects.update(trading_paused=True)
    with refused("trading_paused"):
        one.sell()


def test_an_archived_account_and_a_recording_sell_nothing(one: Holder) -> None:
    one.account.archived_at = clock.now()
    with refused("account_archived"):
        one.sell()
    one.account.archived_at, one.account.exchange = None, "replay"
    with refused("no_sales"):
        one.convert("ADA", "USD")


def test_the_owners_limits_hold_for_sales(one: Holder) -> None:
    TradingLimits.objects.create(account=one.account, currency="USD", largest_order=D(50))
    with refused("order_too_large"):
        one.sell()


def test_who_sold_what_is_in_the_audit(one: Holder) -> None:
    one.sell(amount=D(100))
    with detached("test"):
        assert [row.payload["fill_type"] for row in Event.objects.filter(kind="order_fill")] == ["sell"]
        entry = AuditEntry.objects.get(action="coins_sold")
    assert (entry.actor, entry.detail["gives"], entry.detail["into"]) == (ANN, "ADA", "USD")


# Converting ---------------------------------------------------------------------------------------------------------


def test_a_pair_of_both_is_one_order_whichever_way_round(one: Holder) -> None:
    answer = one.convert("ADA", "BTC", amount=D(100))
    assert (answer.state, answer.order.position.product.symbol, answer.order.side) == ("done", "ADA-BTC", Side.SELL)
    btc = one.total("BTC")
    assert btc == D("1.98") * (1 - D("0.006"))
    answer = one.convert("BTC", "ADA")
    assert (answer.state, answer.order.position.product.symbol, answer.order.side) == ("done", "ADA-BTC", Side.BUY)
    assert answer.order.position.strategy == "purchase"
    assert 0 <= one.total("BTC") < D("0.0002")  # less than a step of ADA
    assert one.total("ADA") > 490
    assert [row.exit_reason for row in Position.objects.all()] == ["kept", "kept"]
    assert_books_agree(one.account)


def test_money_buys_a_coin_with_its_fee_inside_the_amount(one: Holder) -> None:
    one.convert("USD", "ETH", amount=D(50))
    order = Order.objects.get()
    assert order.quote_size == D("49.70")  # 50 / 1.006, down to a cent
    assert 0 <= one.total("USD") - (100 - D("49.70") * D("1.006")) < D("0.0000002")
    assert Position.objects.get().bot_name == "Conversion"


def test_two_steps_over_a_common_currency(one: Holder) -> None:
    answer = one.convert("ADA", "ETH", amount=D(100))
    assert (answer.state, answer.second is not None) == (StoryState.DONE, True)
    first, second = Position.objects.order_by("pk")
    brought = D("199") * (1 - D("0.006"))
    order = second.orders.get()
    assert order.quote_size == D("196.62")  # what was brought, less the fee, down to a cent
    assert second.quote_spent * D("1.006") <= brought
    assert (first.exit_reason, second.exit_reason) == ("kept", "kept")
    assert (second.uid, second.settings["after"]) == (next_uid(first), first.pk)
    assert one.total("USD") - 100 == brought - second.quote_spent * D("1.006")
    assert one.total("ETH") == 3 + second.base_held
    assert answer.message.startswith("Sold 100 ADA for 197.81 USD after fees. Bought 19.642")
    assert [row.first.pk for row in latest([one.account], 5)] == [first.pk]
    assert story_of(second) == story_of(first)
    assert_books_agree(one.account)


def test_the_money_that_was_there_before_is_not_spent(db: None) -> None:
    with holder(ADA=100, USD=10_000) as one:
        one.convert("ADA", "ETH")
        assert one.total("USD") >= 10_000


def test_a_second_step_that_would_be_too_small_is_refused_before_the_first(one: Holder) -> None:
    Product.objects.filter(symbol="ETH-USD").update(min_quote=D(500))
    with denied("below_minimum", "amount") as caught:
        one.convert("ADA", "ETH", amount=D(100))
    assert "The second step would be too small" in caught.value.message
    assert not Order.objects.exists()


def _after_the_first(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let ``change`` happen between the two steps."""
    submit = execution.submit

    def submitted(order: Order) -> Order:
        done = submit(order)
        if order.position.strategy == "sale":
            change()
        return done

    monkeypatch.setattr(execution, "submit", submitted)


def test_a_second_step_that_is_refused_leaves_the_money_in_between_and_says_so(
    one: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _after_the_first(monkeypatch, lambda: Product.objects.filter(symbol="ETH-USD").update(status="offline"))
    answer = one.convert("ADA", "ETH", amount=D(100))
    assert (answer.state, answer.second) == (StoryState.STOPPED, None)
    assert "ETH-USD is not trading at present." in answer.message
    assert answer.message.endswith("The money stays in USD.")
    assert one.total("USD") == 100 + D("197.806")
    with detached("test"):
        told = Event.objects.get(kind="notification")
    assert told.payload["code"] == "conversion_stopped"
    Product.objects.update(status="online")
    assert one.go_on().orders == 0  # it is not tried again
    assert Order.objects.count() == 1


def test_an_account_that_is_stopped_between_the_steps_buys_nothing(
    one: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _after_the_first(monkeypatch, lambda: Account.objects.update(trading_state="killed"))
    answer = one.convert("ADA", "ETH", amount=D(100))
    assert answer.state is StoryState.STOPPED
    assert Order.objects.count() == 1


def test_what_is_not_known_for_a_moment_is_waited_for(one: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    _after_the_first(monkeypatch, lambda: cache.delete(key("coinbase", "ETH-USD")))
    answer = one.convert("ADA", "ETH", amount=D(100))
    assert answer.state is StoryState.WORKING
    assert "The second step waits: There is no current price of ETH-USD." in answer.message
    assert Position.objects.get().status == "open"
    with clock.at(MOMENT + timedelta(seconds=30)):
        assert plan_of(one.account, "USD", "ADA").free <= 100  # what was brought is nobody else's meanwhile
        prices()
        assert one.go_on().orders == 1
        assert one.go_on().orders == 0
    assert [row.exit_reason for row in Position.objects.all()] == ["kept", "kept"]


def test_it_is_not_waited_for_for_ever(one: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    _after_the_first(monkeypatch, lambda: cache.delete(key("coinbase", "ETH-USD")))
    one.convert("ADA", "ETH", amount=D(100))
    with clock.at(MOMENT + service.PATIENCE):
        one.go_on()
    found = story_of(Position.objects.get())
    assert found is not None
    assert found.state is StoryState.STOPPED


# Cut off ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["submit", "go_on", "followed", "second", "handed"])
def test_a_conversion_goes_on_wherever_it_was_cut_off(one: Holder, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """``kill -9`` around the first order, between the steps, around the second order."""
    submit, kept = execution.submit, keeping.keep

    def died(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    def second_dies(order: Order) -> Order:
        return died() if order.position.strategy == "purchase" else submit(order)

    def end_dies(position: Position) -> bool:
        return died() if position.strategy == "purchase" else kept(position)

    with monkeypatch.context() as patched:
        if line == "submit":
            patched.setattr(execution, "submit", died)
        elif line == "go_on":
            patched.setattr(service, "go_on", died)
        elif line == "followed":
            patched.setattr(service, "_followed", died)
        elif line == "second":
            patched.setattr(execution, "submit", second_dies)
        else:
            patched.setattr(keeping, "keep", end_dies)
        with pytest.raises(Killed):
            one.convert("ADA", "ETH", amount=D(100))
    for _ in range(3):  # the loops, in any order and any number
        reconcile_account(one.account.pk)
        one.go_on()
    first, second = Position.objects.order_by("pk")
    assert (first.exit_reason, second.exit_reason) == ("kept", "kept")
    assert [order.status for order in Order.objects.all()] == [OrderStatus.FILLED] * 2
    assert PaperOrder.objects.count() == 2
    assert (one.total("ADA"), one.total("ETH")) == (400, 3 + second.base_held)
    assert_books_agree(one.account)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("many_connections")
def test_many_that_go_on_at_once_begin_one_second_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with holder() as one:
        with monkeypatch.context() as patched:
            patched.setattr(service, "go_on", lambda position: None)
            one.convert("ADA", "ETH", amount=D(100))
        pk, position_id = one.account.pk, Position.objects.get().pk

    def work(number: int) -> Any:
        with clock.at(MOMENT), acting_for_account(pk):
            return service.go_on(Position.objects.get(pk=position_id))

    assert sum(order is not None for order in in_threads(4, work)) == 1
    with clock.at(MOMENT), acting_for_account(pk):
        assert Order.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("many_connections")
def test_two_sales_at_once_sell_what_there_is_once() -> None:
    with holder() as one:
        pk = one.account.pk

    def work(number: int) -> Any:
        with clock.at(MOMENT), acting_for_account(pk):
            try:
                return service.sell(Account.objects.get(pk=pk), "ADA", "USD", actor=ANN, amount=D(300))
            except InvalidInput as error:
                return error.code

    results = in_threads(3, work)
    assert sum(isinstance(result, service.Exchanged) for result in results) == 1
    with clock.at(MOMENT), acting_for_account(pk):
        assert PaperBalance.objects.get(currency="ADA").total == 200


def test_the_loop_finds_accounts_without_rules_and_leaves_auto_buy_its_own(one: Holder) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(service, "go_on", lambda position: None)
        one.sell(amount=D(100))
    AutoBuyRuleFactory(account=one.account, enabled=False)
    with detached("as the loop does"):
        assert auto_buy.accounts_to_run() == ([], [])
    assert auto_buy.run_account(one.account.pk) == 0  # which neither cancels nor hands over what is not its own
    assert Position.objects.get().status == "open"
    with detached("as the loop does"):
        tasks.go_on_with_sales()
    assert Position.objects.get().exit_reason == "kept"


# Meanwhile ----------------------------------------------------------------------------------------------------------


@contextmanager
def in_flight(filled: str = "") -> Iterator[tuple[Desk, Order]]:
    """A sale of 4 BTC at an exchange that took it and has filled ``filled`` of it so far."""
    with clock.at(MOMENT), desk_outside("coinbase") as desk, acting_for_account(desk.account.pk):
        assert desk.venue is not None
        desk.tell(100)
        desk.venue.wallet = {"BTC": D(4), "USD": D(0)}
        desk.venue.fail("place", VenueUnknown("unknown_outcome", "no answer"))
        answer = service.sell(desk.account, "BTC", actor=ANN)
        assert answer.state is StoryState.WORKING
        order = answer.order
        placed = NewOrder(order.client_order_id, "BTC-USD", Side.SELL, order.order_type, order.base_size)
        desk.venue.orders[order.client_order_id] = OutsideOrder(placed, "outside-1")
        if filled:
            desk.venue.fill(order.client_order_id, filled, D(100))
        reconcile_account(desk.account.pk)
        order.refresh_from_db()
        yield desk, order


def test_an_answer_that_is_lost_is_said_and_found() -> None:
    with in_flight("4") as (desk, order):
        assert order.status == OrderStatus.FILLED
        assert service.go_on_all([desk.account.pk]).failed == {}
        order.position.refresh_from_db()
        assert order.position.exit_reason == "kept"


def test_what_was_filled_in_part_is_kept_and_said() -> None:
    with in_flight("1.5") as (_, order):
        assert order.status == OrderStatus.PARTIALLY_FILLED
        assert service.go_on(order.position) is None
        assert order.position.status == "open"
        keeping.give_up(order.position, ANN)
        assert (order.position.status, order.position.exit_reason) == ("cancelled", "kept")
        found = story_of(order.position)
        assert found is not None
        assert (found.state, found.words) == (StoryState.PARTLY, "Sold 1.5 of 4 BTC for 149.1 USD after fees.")


def test_nothing_buys_back_what_is_being_sold() -> None:
    with in_flight("1.5") as (_, order):
        with refused("sale_is_final"):
            manual.close_at_market(order.position, ANN)
        with refused("sale_is_final"):
            limit_close.place(order.position, ANN, D(90))
        with refused("sale_is_final"):
            funds.add_funds(order.position, D(50), ANN)
        with refused("sale_is_final"):
            execution.intend(order.position, Intent(purpose=Purpose.PANIC_CLOSE, sequence=1))
        order.refresh_from_db()
        assert order.status == OrderStatus.PARTIALLY_FILLED
        manual.cancel_deal(order.position, ANN)
        assert (order.position.status, order.position.exit_reason) == ("cancelled", "kept")


def test_f64_a_panic_sale_ends_a_sale_and_buys_nothing_back() -> None:
    with in_flight("1.5") as (desk, order):
        with detached("test"):
            with acting_for(desk.account.owner):
                run = panic_services.start(desk.account, ANN, desk.account.name)
            panic.take_turn(run.pk)
            panic.take_turn(run.pk)
        run.refresh_from_db()
        order.position.refresh_from_db()
        assert (run.status, order.position.exit_reason) == ("finished", "kept")
        assert not Order.objects.filter(side="buy").exists()


def test_f64_a_kill_ends_a_sale_that_works_and_buys_nothing_back() -> None:
    with in_flight("1.5") as (desk, order):
        with detached("the owner's part in a test"), acting_for(desk.account.owner):
            limits.change_rules(desk.account, ANN, enabled=True, initial_deposit=400)
        guard.kill(desk.account, ANN)
        assert closing.carry_out(desk.account.pk) == 0
        order.position.refresh_from_db()
        assert order.position.exit_reason == "kept"
        assert not Order.objects.filter(side="buy").exists()


def test_a_stopped_account_takes_a_working_sale_back() -> None:
    with in_flight("1.5") as (desk, order):
        Account.objects.update(trading_state="killed")
        assert standstill.cancel_entries(desk.account.pk) == 1
        service.go_on_all([desk.account.pk])
        order.position.refresh_from_db()
        assert order.position.exit_reason == "kept"


def test_f67_one_that_fails_stops_no_other(one: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(service, "go_on", lambda position: None)
        one.convert("ADA", "ETH", amount=D(100))
        one.sell(amount=D(50))
    with monkeypatch.context() as patched:
        patched.setattr(service, "_followed", lambda *args: 1 / 0)
        ran = one.go_on()
    assert ran.failed == {one.account.pk: "ZeroDivisionError"}
    assert [row.status for row in Position.objects.order_by("pk")] == ["open", "cancelled"]
    assert one.go_on().orders == 1


def test_f64_a_kill_ends_sales_and_conversions_and_begins_no_second_step(
    one: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with detached("the owner's part in a test"), acting_for(one.account.owner):
        limits.change_rules(one.account, ANN, enabled=True, initial_deposit=1000, max_spread_pct=5)
        guard.refresh(one.account.pk)
    with monkeypatch.context() as patched:
        patched.setattr(service, "go_on", lambda position: None)
        one.convert("ADA", "ETH", amount=D(100))
    guard.kill(one.account, ANN)
    assert closing.carry_out(one.account.pk) == 0
    one.go_on()
    assert Order.objects.count() == 1
    found = story_of(Position.objects.get())
    assert found is not None
    assert found.state is StoryState.STOPPED


def test_a_first_step_that_somebody_cancelled_is_followed_by_nothing() -> None:
    with clock.at(MOMENT), desk_outside("coinbase") as desk, acting_for_account(desk.account.pk):
        assert desk.venue is not None
        live_product("ETH-USD", min_quote=1)
        desk.tell(100)
        price(10, 10, "ETH-USD")
        desk.venue.wallet = {"BTC": D(4)}
        desk.venue.fail("place", VenueUnknown("unknown_outcome", "no answer"))
        order = service.convert(desk.account, "BTC", "ETH", actor=ANN).order
        placed = NewOrder(order.client_order_id, "BTC-USD", Side.SELL, order.order_type, order.base_size)
        desk.venue.orders[order.client_order_id] = OutsideOrder(placed, "outside-1")
        desk.venue.fill(order.client_order_id, "1", D(100))
        execution.cancel(order, ANN)
        service.go_on(order.position)
        found = story_of(order.position)
        assert found is not None
        assert (found.state, Order.objects.count()) == (StoryState.STOPPED, 1)
        assert "The second step was not taken: The first one was cancelled." in found.words


def test_the_second_step_follows_what_the_first_one_really_brought() -> None:
    """At an exchange: an answer that came late, and half of what was asked for."""
    with clock.at(MOMENT), desk_outside("coinbase") as desk, acting_for_account(desk.account.pk):
        assert desk.venue is not None
        live_product("ETH-USD", min_quote=1)
        desk.tell(100)
        price(100, 100, "ETH-USD")
        desk.venue.wallet = {"BTC": D(4)}
        desk.venue.fail("place", VenueUnknown("unknown_outcome", "no answer"))
        order = service.convert(desk.account, "BTC", "ETH", actor=ANN).order
        placed = NewOrder(order.client_order_id, "BTC-USD", Side.SELL, order.order_type, order.base_size)
        desk.venue.orders[order.client_order_id] = OutsideOrder(placed, "outside-1")
        desk.venue.fill(order.client_order_id, "2", D(100))
        desk.venue.orders[order.client_order_id].status = OrderStatus.CANCELLED  # by the exchange itself
    with clock.at(MOMENT + timedelta(seconds=5)), acting_for_account(desk.account.pk):
        from accounts.exchanges import factory as exchanges

        exchanges.register("coinbase", lambda _account: desk.venue)
        reconcile_account(desk.account.pk)
        with detached("as the loop does"):
            assert service.go_on_all([desk.account.pk]).orders == 1
        second = Order.objects.get(side="buy")
        assert second.quote_size == D("197.61")  # (200 - 1.2) / 1.006, down to a cent
        exchanges.register("coinbase", None)
