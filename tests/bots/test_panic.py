"""The kill switch and the panic sale: automation off first, all is cancelled and sold, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import Account, AutoBuyRule
from bots import safety
from bots.models import Bot, PanicRun, PanicStep
from bots.panic import services, work
from positions.models import Order, Position
from positions.states import WORKING, ExitReason, OrderType, Purpose
from tests.factories import AccountFactory, AutoBuyRuleFactory, BotFactory, MembershipFactory, UserFactory
from tests.positions.conftest import MOMENT, Desk, desk_outside
from tests.positions.outside import Killed
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound, OrderRefused, VenueThrottled, VenueUnknown
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import acting_for_account, detached

D = Decimal


@pytest.fixture
def desk(db: None) -> Iterator[Desk]:
    """A desk at an exchange outside the process, at a price of 100 that our market data knows. No scope is bound."""
    with clock.at(MOMENT), desk_outside("coinbase") as found:
        with detached("test data"):
            found.tell(100)
        yield found


def deals(desk: Desk, count: int) -> list[Position]:
    with acting_for_account(desk.account.pk):
        return [desk.open(max_active_deals=9, max_deals_per_pair=9) for _ in range(count)]


def start(desk: Desk) -> PanicRun:
    with acting_for(desk.account.owner):
        return services.start(desk.account, desk.account.owner.email, desk.account.name)


def turn(run: PanicRun, later: timedelta = timedelta(0)) -> PanicRun:
    """Let a worker take a turn, and return the run as it is then."""
    with clock.at(MOMENT + later):
        work.take_turn(run.pk)
    with detached("test looks"):
        found: PanicRun = PanicRun.objects.get(pk=run.pk)
    return found


def steps(run: PanicRun, kind: str) -> list[PanicStep]:
    with detached("test looks"):
        return list(PanicStep.objects.filter(run=run, kind=kind).select_related("order", "position"))


def looked(model: Any, **wanted: Any) -> list[Any]:
    with detached("test looks"):
        return list(model.objects.filter(**wanted).order_by("pk"))


# The kill switch ------------------------------------------------------------------------------------------------------


def test_f48_stopping_everything_stops_only_ones_own(db: None) -> None:
    ann, bob = UserFactory.create_batch(2)
    mine, shared, other = AccountFactory(owner=ann), AccountFactory(owner=bob), AccountFactory(owner=bob)
    MembershipFactory(account=shared, user=ann, role="manager")
    bots = [BotFactory(account=account, status="running") for account in (mine, shared, other)]

    with acting_for(ann):
        stopped = safety.stop_everything(ann, ann.email)

    assert [account.pk for account in stopped.accounts] == [mine.pk]
    assert [bot.status for bot in looked(Bot, pk__in=[bot.pk for bot in bots])] == ["stopped", "running", "running"]
    assert [row.trading_state for row in looked(Account, owner=bob)] == ["armed", "armed"]


def test_a_manager_may_stop_an_account_and_an_observer_may_not(db: None) -> None:
    manager, observer = UserFactory.create_batch(2)
    account = AccountFactory()
    MembershipFactory(account=account, user=manager, role="manager")
    MembershipFactory(account=account, user=observer, role="observer")

    with acting_for(observer), pytest.raises(NotFound):
        safety.stop_account(account, observer.email)
    with acting_for(manager):
        safety.stop_account(account, manager.email)

    account = looked(Account, pk=account.pk)[0]
    assert (account.trading_state, account.trading_state_by) == ("killed", manager.email)
    assert looked(AuditEntry, action="account_stopped", user=account.owner)


def test_f64_automatic_buying_is_turned_off_as_well(desk: Desk) -> None:
    rule = AutoBuyRuleFactory(account=desk.account, enabled=True)
    with acting_for(desk.account.owner):
        assert safety.stop_account(desk.account, "ann").automations == 1
    assert [row.enabled for row in looked(AutoBuyRule, pk=rule.pk)] == [False]


def test_open_deals_of_a_stopped_account_are_still_managed(desk: Desk) -> None:
    deals(desk, 1)
    with acting_for(desk.account.owner):
        safety.stop_account(desk.account, "ann")
    assert looked(Bot)[0].next_check_at is None or looked(Bot)[0].status == "stopped"
    assert looked(Position)[0].status == "open"


# The panic sale -------------------------------------------------------------------------------------------------------


def test_f64_automation_goes_first_and_nothing_buys_back(desk: Desk) -> None:
    deals(desk, 2)
    start(desk)

    assert looked(Bot)[0].status == "stopped"
    assert looked(Account, pk=desk.account.pk)[0].trading_state == "killed"
    with acting_for_account(desk.account.pk), pytest.raises(OrderRefused):
        desk.intend_open(max_active_deals=9, max_deals_per_pair=9)


def test_f64_resting_closes_are_cancelled_and_every_deal_is_sold(desk: Desk) -> None:
    first, _ = deals(desk, 2)
    with acting_for_account(desk.account.pk):
        resting = desk.place(first, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=D(150))
        entry = desk.open_limit("1", "50", max_active_deals=9, max_deals_per_pair=9)

    run = turn(start(desk))

    assert (run.status, run.orders_left, run.deals_left) == ("finished", 0, 0)
    assert {step.order_id for step in steps(run, "cancel")} <= {resting.pk, entry.pk}
    assert [row.status for row in looked(Order, pk__in=[resting.pk, entry.pk])] == ["cancelled", "cancelled"]
    closed = looked(Position, status="closed")
    assert [row.exit_reason for row in closed] == [ExitReason.PANIC, ExitReason.PANIC]
    assert not looked(Order, status__in=WORKING)
    assert [step.order.purpose for step in steps(run, "sell") if step.order] == ["panic_close", "panic_close"]


def test_one_step_that_fails_stops_none_of_the_others(desk: Desk) -> None:
    deals(desk, 3)
    run = start(desk)
    assert desk.venue is not None
    desk.venue.fail("place", VenueThrottled("throttled", "not now"))

    run = turn(run)
    assert run.status == "running"
    assert sorted(step.state for step in steps(run, "sell")) == ["done", "done", "working"]
    run = turn(run)
    assert (run.status, run.deals_left) == ("finished", 0)


@pytest.mark.parametrize("done", [False, True], ids=["before it was sent", "after the venue had it"])
def test_a_run_goes_on_after_kill_9_and_sells_nothing_twice(desk: Desk, done: bool) -> None:
    deals(desk, 3)
    run = start(desk)
    assert desk.venue is not None
    desk.venue.fail("place", Killed(), done=done)
    with pytest.raises(Killed):
        turn(run)
    with detached("the process that died could not give its lease back"):
        PanicRun.objects.filter(pk=run.pk).update(lease_token="dead", lease_until=MOMENT + timedelta(seconds=60))

    assert work.take_turn(run.pk) is None  # nobody else works on it meanwhile
    for number in range(1, 6):
        with detached("prices go on"), clock.at(MOMENT + timedelta(seconds=61 * number)):
            desk.tell(100)
        run = turn(run, timedelta(seconds=61 * number))

    assert (run.status, run.deals_left) == ("finished", 0)
    sells = [order for order in desk.venue.orders.values() if order.placed.side == "sell"]
    assert sum(trade.base for order in sells for trade in order.trades) == D(3)
    assert desk.venue.wallet.get("BTC", D(0)) == 0


def test_an_answer_that_is_not_known_is_asked_for_and_never_sent_again(desk: Desk) -> None:
    deals(desk, 1)
    run = start(desk)
    assert desk.venue is not None
    desk.venue.fail("place", VenueUnknown("timeout", "no answer"), done=True)

    run = turn(run)
    for number in range(1, 4):
        run = turn(run, timedelta(seconds=30 * number))

    assert run.status == "finished"
    assert sum(order.placed.side == "sell" for order in desk.venue.orders.values()) == 1


def test_what_cannot_be_done_ends_the_run_with_what_is_left(desk: Desk) -> None:
    deals(desk, 1)
    run = start(desk)
    assert desk.venue is not None
    for _ in range(20):
        desk.venue.fail("place", VenueThrottled("throttled", "not now"))
    for number in range(18):
        with detached("prices go on"), clock.at(MOMENT + timedelta(minutes=number)):
            desk.tell(100)
        run = turn(run, timedelta(minutes=number))

    assert (run.status, run.deals_left) == ("incomplete", 1)
    assert [(step.state, step.error_code) for step in steps(run, "sell")] == [("failed", "throttled")]
    entry = looked(AuditEntry, action="panic_ended")[0]
    assert entry.detail["deals_left"] == 1


def test_there_is_one_run_at_a_time(desk: Desk) -> None:
    deals(desk, 1)
    first, second = start(desk), start(desk)
    assert first.pk == second.pk


def test_the_name_has_to_be_typed(desk: Desk) -> None:
    with acting_for(desk.account.owner), pytest.raises(InvalidInput, check=lambda error: error.field == "name"):
        services.start(desk.account, "ann", "something")
    assert looked(Account, pk=desk.account.pk)[0].trading_state == "armed"


def test_only_the_owner_sells_everything(desk: Desk) -> None:
    manager = UserFactory()
    MembershipFactory(account=desk.account, user=manager, role="manager")
    with acting_for(manager), pytest.raises(NotFound):
        services.start(desk.account, manager.email, desk.account.name)


def test_the_loop_carries_every_run_on(desk: Desk) -> None:
    deals(desk, 1)
    run = start(desk)
    assert work.go_on_with_all() == 1
    assert looked(PanicRun, pk=run.pk)[0].status == "finished"
    assert work.go_on_with_all() == 0
