"""What the guard stops: a breach closes and cancels everything, once, and goes on after a crash; and the release."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.exchanges.paper import match_resting
from accounts.models import PaperBalance, PropGuardRules
from bots import services as bot_services
from bots.models import Bot
from marketdata.models import Product
from positions import execution, manual
from positions.guard import closing, service
from positions.models import Order, Position
from positions.reconcile import reconcile_account
from positions.states import OrderStatus, OrderType, Purpose
from tests.factories import AutoBuyRuleFactory, MembershipFactory, UserFactory
from tests.positions.conftest import MOMENT
from tests.positions.guard.firm import ANN, Firm, breach, denied, firm, open_deal, release
from tests.positions.helpers import refused
from tests.positions.outside import Killed
from tradebot.core import clock
from tradebot.core.errors import NotFound
from tradebot.core.scoping import acting_for_account, detached

pytestmark = pytest.mark.django_db
D = Decimal


# The kill -------------------------------------------------------------------------------------------------------------


def test_a_breach_stops_bots_closes_deals_cancels_orders_and_tells_the_owner(desk: Firm) -> None:
    deal = open_deal(desk, 50_000)
    resting = desk.desk.place(
        deal, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=D(1), limit_price=D(80), reference_price=None
    )
    desk.tell(90)
    desk.refresh()
    desk.bot.refresh_from_db()
    assert desk.bot.status == Bot.Status.STOPPED  # with the kill, not some time after it
    assert closing.carry_out(desk.account.pk) == 0
    deal.refresh_from_db()
    resting.refresh_from_db()
    assert (deal.status, deal.exit_reason, deal.base_held) == ("closed", "panic", 0)
    assert resting.status == OrderStatus.CANCELLED
    state = desk.state()
    assert state.settled_at == MOMENT
    assert state.kill_numbers["limit_pct"] == "4.5"
    assert desk.kinds() == ["rules", "killed", "settled"]
    assert desk.told() == ["guard_killed", "guard_settled"]
    assert PaperBalance.objects.get(currency="USD").held == 0


def test_the_total_limit_kills_where_the_daily_one_does_not(desk: Firm) -> None:
    desk.rules(daily_limit_pct="50")
    open_deal(desk, 90_000)
    desk.tell("90.01")
    assert desk.refresh().kill_reason == "total_limit"


def test_at_exactly_the_limit_the_account_is_stopped(desk: Firm) -> None:
    PaperBalance.objects.filter(currency="USD").update(total=D("95500.000000000000000001"))
    assert desk.refresh().killed_at is None
    PaperBalance.objects.filter(currency="USD").update(total=D(95_500))
    assert desk.refresh().kill_reason == "daily_limit"


def test_a_kill_happens_once(desk: Firm) -> None:
    breach(desk)
    desk.tell(50)
    desk.refresh()
    service.kill(desk.account, ANN)
    with detached("as the loop does"):
        assert closing.carry_out_all(closing.accounts_to_settle()).settled == 1
        assert closing.accounts_to_settle() == []
        assert closing.carry_out_all([desk.account.pk]).settled == 1  # there is nothing to do any more
    assert closing.carry_out(desk.account.pk) == 0
    assert desk.kinds() == ["rules", "killed", "settled"]
    assert desk.state().kill_reason == "daily_limit"


def test_a_kill_survives_a_gain(desk: Firm) -> None:
    breach(desk)
    desk.tell(200)
    assert desk.refresh().killed_at is not None
    with refused("guard_killed"):
        desk.desk.intend_open("100", bot=None)


def test_a_killed_accounts_bots_do_not_start(desk: Firm) -> None:
    breach(desk)
    with denied("guard_killed"):
        bot_services.start_bot(desk.bot, ANN)


def test_f64_the_kill_switches_automation_off_before_anything_is_sold(desk: Firm) -> None:
    rule = AutoBuyRuleFactory(account=desk.account)
    breach(desk)
    rule.refresh_from_db()
    assert not rule.enabled
    assert Position.objects.filter(closed_at__isnull=True).exists()  # nothing is sold yet


@pytest.mark.parametrize("line", ["intend", "submit", "_settle"])
def test_a_close_after_a_kill_goes_on_wherever_it_was_cut_off(
    desk: Firm, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """``kill -9`` before the close is written, before it is sent, and before the end is noted."""
    breach(desk)
    owner = closing if line == "_settle" else execution

    def died(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, line, died)
        with pytest.raises(Killed):
            closing.carry_out(desk.account.pk)
    assert desk.state().settled_at is None
    reconcile_account(desk.account.pk)
    assert closing.carry_out(desk.account.pk) == 0
    closes = Order.objects.filter(purpose=Purpose.PANIC_CLOSE, status=OrderStatus.FILLED)
    assert closes.count() == 1
    assert PaperBalance.objects.get(currency="BTC").total == 0
    assert desk.state().settled_at == MOMENT


def test_f67_a_deal_that_cannot_be_closed_keeps_no_other_one_open(desk: Firm) -> None:
    stuck = open_deal(desk, 20_000)
    other = desk.desk.open("20000", max_active_deals=5, max_deals_per_pair=5)
    # The wallet lacks what the first deal records: its close is refused, by us or by the venue.
    Position.objects.filter(pk=stuck.pk).update(product=eth(desk))
    service.kill(desk.account, ANN)
    assert closing.carry_out(desk.account.pk) == 1
    other.refresh_from_db()
    assert other.status == "closed"
    state = desk.state()
    assert state.settled_at is None
    assert "ETH-USD" in state.closing_error
    with denied("still_closing"):
        release(desk)
    manual.cancel_deal(stuck, ANN)  # a person takes it out
    assert closing.carry_out(desk.account.pk) == 0
    assert desk.state().settled_at is not None


def eth(desk: Firm) -> Product:
    return Product.objects.create(
        exchange="coinbase", symbol="ETH-USD", base="ETH", quote="USD", price_increment=D("0.01"),
        base_increment=D("0.00000001"), quote_increment=D("0.01"), min_base=D("0.00000001"), min_quote=1,
    )  # fmt: skip


def test_f27_closes_that_the_venue_rejects_are_tried_less_and_less_often(desk: Firm) -> None:
    deal = open_deal(desk, 20_000)
    service.kill(desk.account, ANN)
    PaperBalance.objects.filter(currency="BTC").update(held=0)
    tries = []
    for second in range(0, 200, 10):
        with clock.at(MOMENT + timedelta(seconds=second)):  # without a price the paper venue rejects from second 70 on
            if second == 0:
                PaperBalance.objects.filter(currency="BTC").update(total=D(1), held=D(1))
            closing.carry_out(desk.account.pk)
            tries.append(Order.objects.filter(position=deal, purpose=Purpose.PANIC_CLOSE).count())
    assert tries[-1] <= 6


def test_f14_a_kill_and_its_history_are_there_after_a_restart(desk: Firm) -> None:
    """Nothing of it lives in a process: another connection's scope sees and enforces the same."""
    breach(desk)
    with detached("another process"), acting_for_account(desk.account.pk):
        assert desk.state().is_killed
        with refused("guard_killed"):
            desk.desk.intend_open("10", bot=None)


def test_a_kill_by_hand_does_the_same_and_names_the_person(desk: Firm) -> None:
    deal = open_deal(desk)
    state = service.kill(desk.account, ANN, "news ahead")
    assert (state.kill_reason, state.kill_message) == ("manual", f"Stopped by {ANN}. news ahead")
    closing.carry_out(desk.account.pk)
    deal.refresh_from_db()
    assert deal.status == "closed"


def test_a_kill_by_hand_needs_a_guard(db: None) -> None:
    with firm(on=False) as desk, denied("guard_off"):
        service.kill(desk.account, ANN)


def test_an_observer_cannot_stop_the_account(desk: Firm) -> None:
    observer = UserFactory()
    MembershipFactory(account=desk.account, user=observer, role="observer")
    with detached("an observer's part"), acting_for(observer), pytest.raises(NotFound):
        service.kill(desk.account, observer.email)


def test_resting_limit_orders_survive_without_a_breach(desk: Firm) -> None:
    order = desk.desk.open_limit("1", "90")
    desk.refresh()
    match_resting("coinbase", clock.now(), [desk.account.pk])
    order.refresh_from_db()
    assert order.status == OrderStatus.OPEN


# Releasing ------------------------------------------------------------------------------------------------------------


def test_a_released_account_trades_again_with_a_day_of_its_own(desk: Firm) -> None:
    breach(desk)
    closing.carry_out(desk.account.pk)
    worth = PaperBalance.objects.get(currency="USD").total
    state = release(desk)
    assert (state.killed_at, state.kill_reason, state.day_start_equity) == (None, "", worth)
    assert desk.desk.intend_open("100", bot=None).pk
    desk.bot.refresh_from_db()
    assert desk.bot.status == Bot.Status.STOPPED  # a person starts it
    bot_services.start_bot(desk.bot, ANN)
    assert desk.kinds()[-1] == "reset"


def test_it_is_not_released_by_a_slip(desk: Firm) -> None:
    breach(desk)
    closing.carry_out(desk.account.pk)
    with denied("not_confirmed"):
        release(desk, "yes")


def test_below_the_total_limit_it_is_released_only_with_a_new_deposit(desk: Firm) -> None:
    open_deal(desk, 95_000)
    desk.tell(90)
    desk.refresh()
    closing.carry_out(desk.account.pk)
    with denied("still_breached"):
        release(desk)
    assert desk.state().is_killed
    worth = PaperBalance.objects.get(currency="USD").total
    release(desk, rebase=True)
    found = PropGuardRules.objects.get()
    assert found.initial_deposit == worth
    assert desk.refresh().killed_at is None


def test_f61_it_is_not_released_while_its_equity_is_unknown(desk: Firm) -> None:
    breach(desk)
    closing.carry_out(desk.account.pk)
    PaperBalance.objects.filter(currency="BTC").update(total=1)
    with desk.later(seconds=400), denied("equity_unknown"):
        release(desk)


def test_only_a_killed_account_is_released(desk: Firm) -> None:
    with denied("not_killed"):
        release(desk)
