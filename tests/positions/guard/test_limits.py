"""The guard's limits: what they may be, when they may change, and by whom."""

from __future__ import annotations

from decimal import Decimal

import pytest

from accounts.access import acting_for
from accounts.models import PropGuardRules
from accounts.services import deposit, reset_paper, withdraw
from positions.guard import limits, service
from tests.factories import MembershipFactory, UserFactory
from tests.positions.conftest import MOMENT
from tests.positions.guard.firm import ANN, Firm, breach, denied, firm, open_deal
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("daily_limit_pct", "0", "out_of_range"),
        ("daily_limit_pct", "100.1", "out_of_range"),
        ("total_limit_pct", "NaN", "not_a_number"),
        ("initial_deposit", "-1", "out_of_range"),
        ("initial_deposit", "1e400", "out_of_range"),
        ("max_spread_pct", "21", "out_of_range"),
        ("equity_max_age_seconds", "4", "out_of_range"),
        ("equity_max_age_seconds", "60.5", "out_of_range"),
        ("day_start", "25:00", "bad_time"),
        ("day_zone", "../etc/passwd", "bad_zone"),
        ("day_zone", "Mars/Base", "bad_zone"),
        ("currency", "U$D", "bad_currency"),
        ("nonsense", "1", "unknown_field"),
    ],
)
def test_f23_a_limit_that_cannot_be_is_refused_with_its_field(desk: Firm, field: str, value: str, code: str) -> None:
    with pytest.raises(InvalidInput, check=lambda error: (error.code, error.field) == (code, field)):
        desk.rules(**{field: value})


def test_a_guard_does_not_go_on_where_it_would_stop_the_account_at_once(db: None) -> None:
    with firm(on=False, USD=90_000) as desk:
        with pytest.raises(InvalidInput, check=lambda error: error.code == "would_breach"):
            desk.rules(enabled=True)
        assert not PropGuardRules.objects.filter(enabled=True).exists()
        assert desk.rules(enabled=True, initial_deposit="90000").enabled


def test_a_tighter_limit_does_not_stop_the_account_either(desk: Firm) -> None:
    open_deal(desk, 50_000)
    desk.tell(98)
    desk.refresh()
    with denied("would_breach"):
        desk.rules(daily_limit_pct="1")
    assert PropGuardRules.objects.get().daily_limit_pct == D("4.5")


def test_f61_a_guard_goes_on_with_a_known_equity_only(db: None) -> None:
    with firm(on=False, USD=100_000, BTC=1) as desk, desk.later(seconds=400), denied("equity_unknown"):
        desk.rules(enabled=True)


def test_while_it_is_killed_no_limit_is_changed(desk: Firm) -> None:
    breach(desk)
    with denied("guard_killed"):
        desk.rules(enabled=False)
    with denied("guard_killed"):
        desk.rules(daily_limit_pct="50")


def test_another_zone_begins_another_day_with_the_present_equity(desk: Firm) -> None:
    open_deal(desk, 10_000)
    desk.tell(90)
    desk.refresh()
    desk.rules(day_zone="UTC", day_start="00:00")
    state = desk.state()
    assert state.day_began_at == MOMENT.replace(hour=0, minute=0, second=0)
    assert state.day_start_equity == state.last_equity == D(100_000) - 10_060 + 9_000
    assert desk.desk.intend_open("10", max_active_deals=5, max_deals_per_pair=5).pk


def test_limits_and_releases_are_the_owners_alone(desk: Firm) -> None:
    manager = UserFactory()
    MembershipFactory(account=desk.account, user=manager, role="manager")
    with detached("a manager's part"), acting_for(manager):
        with pytest.raises(NotFound):
            limits.change_rules(desk.account, manager.email, daily_limit_pct="50")
        with pytest.raises(NotFound):
            limits.reset(desk.account, manager.email, desk.account.name)
        assert service.kill(desk.account, manager.email).is_killed  # a manager may stop it


def test_f35_money_that_moves_is_neither_gain_nor_loss(desk: Firm) -> None:
    """A withdrawal must not stop the account, and a deposit must not hide a loss: while limits are on, none is made."""
    for move in (deposit, withdraw):
        with denied("guarded"):
            move(desk.account, "USD", D(20_000), ANN)
    with denied("guarded"):
        reset_paper(desk.account, ANN)
    assert desk.refresh().last_equity == D(100_000)
    desk.rules(enabled=False)
    withdraw(desk.account, "USD", D(20_000), ANN)
