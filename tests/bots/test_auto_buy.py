"""Auto-buy: it spends what nobody else needs, once, through the order protocol, and says why when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from accounts import automation
from accounts.access import acting_for
from accounts.exchanges.paper import match_resting
from accounts.models import Account, AutoBuyRule, PaperBalance
from accounts.services import deposit
from bots.autobuy import rules, service
from bots.autobuy.money import facts_of, spendable
from bots.models import AutoBuyDecision, Bot
from bots.strategies import get_strategy
from marketdata.models import Product
from positions import execution, figures, history, keeping, manual
from positions.guard import limits
from positions.guard import service as guard
from positions.intents import Intent, client_order_id
from positions.models import Order, Position
from positions.reconcile import reconcile_account
from positions.states import OrderStatus, OrderType, Purpose
from tests.accounts.helpers import live_account, live_product, price
from tests.bots.world import OPEN_AT_ONCE
from tests.factories import BotFactory, MembershipFactory, UserFactory
from tests.positions.conftest import MOMENT, Desk, many_connections
from tests.positions.helpers import in_threads
from tests.positions.outside import Killed
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.models import GlobalSettings
from tradebot.core.scoping import acting_for_account, detached

__all__ = ["many_connections"]

pytestmark = pytest.mark.django_db

ANN = "ann@example.com"
D = Decimal
FEE = D("1.006")


@dataclass
class Saver:
    """An account whose free dollars become coins. BTC stands at 100."""

    account: Account
    product: Product

    def rule(self, currency: str = "USD", **changes: Any) -> AutoBuyRule:
        changes.setdefault("enabled", True)
        with detached("the owner's part in a test"), acting_for(self.account.owner):
            return rules.set_rule(self.account, currency, ANN, **changes)

    def run(self) -> int:
        return service.run_account(self.account.pk)

    def total(self, currency: str) -> Decimal:
        row = PaperBalance.objects.filter(currency=currency).first()
        return row.total if row else D(0)

    def free(self, currency: str = "USD") -> Decimal:
        return PaperBalance.objects.get(currency=currency).free

    def may_spend(self, currency: str = "USD") -> Decimal:
        found = spendable(facts_of(self.account, clock.now()), self.account.pk, currency)
        assert not isinstance(found, str), found
        return found.amount

    def bot(self, *, fixed: int | None = None, pct: int | None = None, running: bool = True, **settings: Any) -> Bot:
        complete = get_strategy("indicator_dca").settings_from_json({**OPEN_AT_ONCE, **settings}).to_json()
        budget: dict[str, Any] = (
            {"budget_kind": "fixed", "budget_fixed": D(fixed)}
            if fixed is not None
            else {"budget_kind": "percent", "budget_pct": D(pct or 0)}
        )
        status = Bot.Status.RUNNING if running else Bot.Status.STOPPED
        return BotFactory(account=self.account, settings=complete, status=status, products=[self.product], **budget)

    def desk(self, bot: Bot | None) -> Desk:
        return Desk(self.account, bot, self.product)

    def code(self) -> str:
        return str(AutoBuyRule.objects.get(currency="USD").last_code)

    def message(self) -> str:
        return str(AutoBuyRule.objects.get(currency="USD").last_message)


@contextmanager
def saver(**balances: Any) -> Iterator[Saver]:
    with clock.at(MOMENT):
        account = live_account(**(balances or {"USD": 1000}))
        product = live_product(min_quote=1)
        price(100, 100)
        with acting_for_account(account.pk):
            yield Saver(account, product)


@pytest.fixture
def one(db: None) -> Iterator[Saver]:
    with saver() as made:
        yield made


def denied(code: str, field: str | None = None) -> Any:
    return pytest.raises(InvalidInput, check=lambda error: (error.code, error.field) == (code, field))


# Buying -------------------------------------------------------------------------------------------------------------


def test_what_is_free_becomes_coins_that_belong_to_the_account(one: Saver) -> None:
    one.rule()
    assert one.run() == 1
    deal = Position.objects.get()
    assert (deal.strategy, deal.status, deal.exit_reason, deal.bot_name) == (
        "auto_buy",
        "cancelled",
        "kept",
        "Auto-buy",
    )
    assert one.total("BTC") == deal.base_held == D("9.9403")  # 994.03 USD at 100, and 5.96418 of fees
    assert 0 <= one.total("USD") < 1
    assert one.run() == 0
    assert one.code() == "auto_buy_below_minimum"


def test_kept_coins_are_free_and_no_figure_takes_them_for_a_deal(one: Saver) -> None:
    one.rule()
    one.run()
    known = facts_of(one.account, clock.now())
    assert known.money.free(one.account.pk, "BTC") == one.total("BTC")
    deals = Position.objects.all()
    price(200, 200)
    assert figures.realised(deals, clock.now(), ZoneInfo("UTC")) == {}
    assert figures.by_pair(deals) == []
    assert figures.unrealised_by_quote(deals) == {}
    assert figures.win_rates(deals).strategy.deals == figures.win_rates(deals).manual.deals == 0
    nothing = {"q": "", "bot": None, "reason": "", "since": None, "until": None}
    assert list(history.ended_deals(deals, nothing)) == []
    assert len(history.ended_deals(deals, {**nothing, "reason": "kept"})) == 1


def test_orders_of_auto_buy_have_derived_client_ids(one: Saver) -> None:
    one.rule()
    one.run()
    order = Order.objects.get()
    assert order.client_order_id == client_order_id(order.position.uid, Purpose.BASE_ORDER, 1)
    assert order.actor == "auto-buy"


def test_f35_a_deposit_counts_at_the_very_next_look(one: Saver) -> None:
    one.rule()
    one.run()
    assert one.run() == 0
    deposit(one.account, "USD", D(200), ANN)
    assert one.run() == 1
    assert Order.objects.order_by("pk").last().quote_size > 198


def test_less_than_the_minimum_is_left_alone_with_the_numbers(one: Saver) -> None:
    one.rule(minimum="1000.01")
    assert one.run() == 0
    assert one.message() == "1000 USD may be spent, the minimum is 1000.01."
    one.rule(minimum="1000")
    assert one.run() == 1


def test_what_the_market_takes_no_order_for_is_left_alone(db: None) -> None:
    with saver(USD=1000) as one:
        Product.objects.update(min_base=D(50))
        one.rule()
        assert one.run() == 0
        assert one.code() == "below_minimum"


def test_each_stable_currency_has_its_own_rule_and_its_own_money(db: None) -> None:
    with saver(USD=1000, USDC=500) as one:
        live_product("BTC-USDC", min_quote=1)
        price(100, 100, "BTC-USDC")
        one.rule("USD")
        one.rule("USDC", minimum=600)
        assert one.run() == 1
        assert (one.total("USDC"), one.total("USD") < 1) == (D(500), True)
        one.rule("USDC", minimum=500)
        assert one.run() == 1
        assert one.total("USDC") < 1


@pytest.mark.parametrize("order_type", ["market", "limit"])
def test_the_coin_is_what_the_rule_says(db: None, order_type: str) -> None:
    with saver(USD=1000) as one:
        live_product("ETH-USD", min_quote=1)
        price(10, 10, "ETH-USD")
        one.rule(coin="ETH", order_type=order_type)
        assert one.run() == 1
        assert Position.objects.get().product.symbol == "ETH-USD"


# What others need ---------------------------------------------------------------------------------------------------


def test_it_never_spends_what_a_running_bot_may_use(one: Saver) -> None:
    bot = one.bot(fixed=700)
    one.rule()
    one.run()
    assert one.free() >= 700
    assert one.total("BTC") > D("2.9")
    assert one.run() == 0
    assert f"700 are kept for “{bot.name}”" in one.message()


def test_a_percentage_is_of_all_that_the_account_has_in_that_currency(one: Saver) -> None:
    one.bot(pct=40)
    assert one.may_spend() == D(600)


def test_budgets_beyond_all_there_is_leave_nothing(one: Saver) -> None:
    one.bot(pct=60)
    one.bot(pct=60)
    one.rule()
    assert one.run() == 0
    assert one.may_spend() == 0


def test_a_stopped_bot_keeps_nothing_but_what_its_deals_may_still_buy(one: Saver) -> None:
    bot = one.bot(fixed=700, running=False)
    assert one.may_spend() == D(1000)
    Bot.objects.update(status=Bot.Status.RUNNING)
    one.desk(bot).open("100", budget_quote=D(300))
    Bot.objects.update(status=Bot.Status.STOPPED)
    assert one.free() == D("899.4")
    assert one.may_spend() == D("899.4") - 200


def test_f31_what_a_deal_has_spent_is_not_kept_a_second_time(one: Saver) -> None:
    bot = one.bot(fixed=700)
    one.desk(bot).open("300", budget_quote=D(700))
    # 698.2 are free; of the budget of 700, 301.8 are used with the fee. The deal's own rest is part of it: 400 kept.
    assert one.may_spend() == D("698.2") - 400


def test_f31_what_a_resting_order_holds_is_not_kept_a_second_time(one: Saver) -> None:
    bot = one.bot(fixed=700)
    deal = one.desk(bot).open("300", budget_quote=D(700))
    before = one.may_spend()
    one.desk(bot).place(
        deal, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=D(1), limit_price=D(90), reference_price=None
    )
    held = PaperBalance.objects.get(currency="USD").held
    assert held == D(90) * D("1.006")
    assert one.free() == D("698.2") - held
    assert abs(one.may_spend() - before) <= held - 90  # it may be kept with its fee, never twice


def test_f31_a_base_order_that_rests_counts_once(one: Saver) -> None:
    bot = one.bot(fixed=700)
    one.desk(bot).open_limit("3", "90", budget_quote=D(700))  # 270, and 1.62 of fees
    assert one.free() == D(1000) - 270 * FEE
    assert one.may_spend() == one.free() - (700 - 270)


def test_what_bots_that_trade_both_ways_reserve_is_kept_once(one: Saver) -> None:
    """Half of a both-ways budget is quote for its longs; the other half is coins, and no dollars."""
    one.bot(fixed=600, direction="both", long_share_pct="50")
    assert one.may_spend() == D(700)


def test_deals_without_a_bot_keep_what_they_may_still_buy(one: Saver) -> None:
    one.desk(None).open("100", budget_quote=D(350))
    assert one.may_spend() == one.free() - 250


def test_f36_coins_that_a_deal_holds_are_not_free_to_spend(db: None) -> None:
    """A deal on a pair of stable coins holds what a rule would spend."""
    with saver(USD=1000, USDC=100) as one:
        live_product("BTC-USDC", min_quote=1)
        price(100, 100, "BTC-USDC")
        pair = live_product("USDC-USD", min_quote=1)
        price(1, 1, "USDC-USD")
        Desk(one.account, one.bot(fixed=900), pair).open("500", budget_quote=D(500))
        assert one.total("USDC") == 600
        assert one.may_spend("USDC") == 100
        one.rule("USDC")
        assert one.run() == 1
        assert one.total("USDC") >= 500


def test_f34_a_budget_that_is_not_known_buys_nothing(one: Saver) -> None:
    other = live_product("ETH-USD", min_quote=1)
    price(10, 10, "ETH-USD")
    bot = one.bot(pct=10)
    Desk(one.account, bot, other).open("50", budget_quote=D(50))
    one.rule()
    with clock.at(MOMENT + timedelta(seconds=90)):
        price(100, 100)  # and no price of ETH, so no one knows what ten percent are
        assert one.run() == 0
    assert one.code() == "balance_unknown"
    assert bot.name in one.message()


def test_f34_a_bot_whose_settings_cannot_be_read_keeps_an_unknown_amount(one: Saver) -> None:
    bot = one.bot(fixed=10)
    Bot.objects.update(settings={"direction": "sideways"}, settings_version=7)
    one.rule()
    assert one.run() == 0
    assert (one.code(), bot.name in one.message()) == ("balance_unknown", True)


def test_without_a_price_nothing_is_bought(one: Saver) -> None:
    one.rule()
    with clock.at(MOMENT + timedelta(seconds=90)):
        assert one.run() == 0
    assert one.code() == "missing_price"


# Once ---------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("many_connections")
def test_two_workers_at_once_buy_once() -> None:
    with saver(USD=10_000) as one:
        one.bot(fixed=5_000)
        one.rule()
        pk = one.account.pk

    def work(number: int) -> int:
        with clock.at(MOMENT):
            return service.run_account(pk)

    assert sum(in_threads(4, work)) == 1
    with clock.at(MOMENT), acting_for_account(pk):
        assert Order.objects.count() == 1
        assert PaperBalance.objects.get(currency="USD").free >= 5_000


@pytest.mark.parametrize("line", ["submit", "keep"])
def test_a_purchase_goes_on_wherever_it_was_cut_off(one: Saver, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """``kill -9`` before the order is sent, and before its coins are handed over."""
    one.rule()
    owner = execution if line == "submit" else keeping

    def died(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, line, died)
        with pytest.raises(Killed):
            one.run()
    reconcile_account(one.account.pk)
    one.run()
    assert Order.objects.get().status == OrderStatus.FILLED
    assert Position.objects.get().exit_reason == "kept"
    assert 0 <= one.total("USD") < 1


def test_a_limit_order_waits_below_the_bid_and_outlives_a_restart(one: Saver) -> None:
    one.rule(order_type="limit", limit_offset_pct="2")
    assert one.run() == 1
    order = Order.objects.get()
    assert (order.limit_price, order.status, order.expires_at) == (D(98), OrderStatus.OPEN, None)
    deposit(one.account, "USD", D(500), ANN)
    for _ in range(2):  # whoever looks next, whenever: everything is in the database
        assert one.run() == 0
        assert one.code() == "auto_buy_working"
    assert "98 or less is working" in one.message()
    price(97, 97)
    match_resting("coinbase", clock.now(), [one.account.pk])
    reconcile_account(one.account.pk)
    one.run()
    assert Position.objects.first() is not None
    assert [row.exit_reason for row in Position.objects.filter(orders=order)] == ["kept"]
    assert Order.objects.count() == 2  # the deposit, now that the first one has ended


def test_the_money_of_a_working_purchase_is_not_spent_again(one: Saver) -> None:
    one.rule(order_type="limit")
    one.run()
    assert one.may_spend() < 1


def test_a_refused_purchase_is_not_repeated_at_once(one: Saver) -> None:
    one.rule()
    PaperBalance.objects.update(held=0)
    one.run()
    Position.objects.update(status="failed", closed_at=MOMENT, deal_number=None, exit_reason="")
    deposit(one.account, "USD", D(500), ANN)
    assert one.run() == 0
    assert one.code() == "venue_rejected"
    with clock.at(MOMENT + service.WAIT):
        price(100, 100)
        assert one.run() == 1


# Off ----------------------------------------------------------------------------------------------------------------


def test_switching_a_rule_off_cancels_what_it_has_resting(one: Saver) -> None:
    one.rule(order_type="limit")
    one.run()
    one.rule(enabled=False)
    assert Order.objects.get().status == OrderStatus.CANCELLED
    assert one.free() == 1000
    assert one.run() == 0


def test_a_removed_rule_leaves_no_order_behind(one: Saver) -> None:
    one.rule(order_type="limit")
    one.run()
    with detached("the owner's part in a test"), acting_for(one.account.owner):
        rules.remove_rule(one.account, "USD", ANN)
    assert Order.objects.get().status == OrderStatus.CANCELLED
    assert not AutoBuyRule.objects.exists()


def test_f64_automation_that_is_switched_off_buys_nothing_back(one: Saver) -> None:
    """What a panic sale does first: off, and what it had resting is given up by the loop if nobody else does."""
    one.rule(order_type="limit")
    one.run()
    automation.switch_off(one.account, "panic sale")
    deposit(one.account, "USD", D(500), ANN)
    assert one.run() == 0
    assert Order.objects.get().status == OrderStatus.CANCELLED
    assert one.free() == 1500
    assert AutoBuyRule.objects.get().last_message == "Switched off by panic sale."


def test_f64_a_killed_account_buys_nothing_back(one: Saver) -> None:
    with detached("the owner's part in a test"), acting_for(one.account.owner):
        limits.change_rules(one.account, ANN, enabled=True, initial_deposit=1000)
    one.rule()
    guard.kill(one.account, ANN)
    assert not AutoBuyRule.objects.get().enabled
    AutoBuyRule.objects.update(enabled=True)  # and if somebody were faster
    assert one.run() == 0
    assert one.code() == "guard_killed"
    with denied("guard_killed", "enabled"):
        one.rule(minimum=60)


def test_f64_a_kill_cancels_a_purchase_and_keeps_the_coins_it_got(one: Saver) -> None:
    from positions.guard import closing

    with detached("the owner's part in a test"), acting_for(one.account.owner):
        limits.change_rules(one.account, ANN, enabled=True, initial_deposit=1000)
    one.rule(order_type="limit")
    one.run()
    guard.kill(one.account, ANN)
    assert closing.carry_out(one.account.pk) == 0
    assert Order.objects.get().status == OrderStatus.CANCELLED
    assert not Order.objects.filter(side="sell").exists()


def test_while_trading_is_paused_nothing_is_bought(one: Saver) -> None:
    one.rule()
    GlobalSettings.load()
    GlobalSettings.objects.update(trading_paused=True)
    assert one.run() == 0
    assert one.code() == "trading_paused"


def test_the_guards_refusal_is_the_rules_reason(one: Saver) -> None:
    with detached("the owner's part in a test"), acting_for(one.account.owner):
        limits.change_rules(one.account, ANN, enabled=True, initial_deposit=1000)
    one.rule()
    price(99, 101)
    assert one.run() == 0
    assert one.code() == "guard_spread"
    assert "the guard allows 0.5 %" in one.message()


# The trail, loops, rules --------------------------------------------------------------------------------------------


def test_f68_the_trail_has_a_line_for_each_change_and_each_purchase(one: Saver) -> None:
    one.rule(minimum=2000)
    for _ in range(3):
        one.run()
    one.rule(minimum=50)
    one.run()
    one.run()
    one.run()
    codes = list(AutoBuyDecision.objects.order_by("pk").values_list("code", flat=True))
    assert codes == ["auto_buy_below_minimum", "auto_buy_bought", "auto_buy_below_minimum"]
    assert AutoBuyDecision.objects.get(code="auto_buy_bought").position == Position.objects.get()
    with clock.at(MOMENT + service.KEPT + timedelta(days=1)), detached("as the loop does"):
        assert service.prune() == 3


def test_f67_one_account_that_fails_keeps_no_other_one_from_buying(one: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    one.rule()
    with detached("test data"), saver() as other:
        other.rule()
        real = service.facts_of

        def failing(account: Account, now: Any) -> Any:
            if account.pk == one.account.pk:
                raise ZeroDivisionError
            return real(account, now)

        monkeypatch.setattr(service, "facts_of", failing)
        with detached("as the loop does"):
            assert service.run_all(service.accounts_to_run()[0]).orders == 1
        assert other.total("BTC") > 0
    assert one.code() == "error"


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"minimum": "0"}, "out_of_range", "minimum"),
        ({"minimum": "NaN"}, "not_a_number", "minimum"),
        ({"minimum": "1e400"}, "out_of_range", "minimum"),
        ({"minimum": "0.5"}, "out_of_range", "minimum"),
        ({"order_type": "stop"}, "unknown_order_type", "order_type"),
        ({"limit_offset_pct": "-1"}, "out_of_range", "limit_offset_pct"),
        ({"limit_offset_pct": "51"}, "out_of_range", "limit_offset_pct"),
        ({"coin": "USDC"}, "stable_coin", "coin"),
        ({"coin": "DOGE"}, "unknown_pair", "currency"),
        ({"coin": "B-C"}, "bad_coin", "coin"),
        ({"nonsense": 1}, "unknown_field", "nonsense"),
    ],
)
def test_f23_a_rule_that_cannot_be_is_refused_with_its_field(
    one: Saver, changes: dict[str, Any], code: str, field: str
) -> None:
    with denied(code, field):
        one.rule(**changes)


def test_only_stable_currencies_are_spent(one: Saver) -> None:
    live_product("ETH-BTC")
    with denied("not_stable", "currency"):
        one.rule("BTC", coin="ETH")


def test_rules_are_the_owners_alone(one: Saver) -> None:
    manager = UserFactory()
    MembershipFactory(account=one.account, user=manager, role="manager")
    with detached("a manager's part"), acting_for(manager), pytest.raises(NotFound):
        rules.set_rule(one.account, "USD", manager.email, enabled=True)


def test_a_purchase_given_up_by_hand_is_no_deal_either(one: Saver) -> None:
    one.rule(order_type="limit")
    one.run()
    manual.cancel_deal(Position.objects.get(), ANN)
    assert figures.by_pair(Position.objects.all()) == []
    assert one.free() == 1000


def test_keeping_leaves_every_other_deal_alone(one: Saver) -> None:
    deal = one.desk(one.bot(fixed=100)).open("50")
    assert keeping.keep(deal) is False
    assert deal.status == "open"
    intent = Intent(purpose=Purpose.TAKE_PROFIT, sequence=1)
    execution.submit(execution.intend(deal, intent))
    assert keeping.keep(deal) is True
    assert deal.exit_reason == "take_profit"


def test_the_prices_that_rules_need_are_fetched(one: Saver) -> None:
    from bots.market_needs import needs

    with detached("as the loop does"):
        assert "BTC-USD" not in needs().get("coinbase", {})
    one.rule()
    with detached("as the loop does"):
        assert needs()["coinbase"]["BTC-USD"] == {}
