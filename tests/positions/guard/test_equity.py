"""What the guard measures: equity at the mark, what it does without a price, and where a day begins."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import EquitySnapshot, PropGuardEvent, PropGuardRules
from marketdata.models import Product
from positions.guard import equity, service
from tests.accounts.helpers import price
from tests.positions.conftest import MOMENT
from tests.positions.guard.firm import Firm, firm, open_deal
from tests.positions.helpers import refused
from tradebot.core import clock
from tradebot.core.errors import MissingInformation
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db
D = Decimal


# Measuring ------------------------------------------------------------------------------------------------------------


def test_equity_is_balances_at_the_mark_with_coins_of_open_deals_counted_once(desk: Firm) -> None:
    open_deal(desk, 10_000)  # 10,000 for 100 BTC, 60 of fees
    desk.tell(110)
    state = desk.refresh()
    assert state.last_equity == D(100_000) - 10_060 + 100 * 110
    assert state.last_equity_at == MOMENT


def test_what_is_registered_adds_to_the_equity(desk: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equity, "_parts", [])
    equity.register(lambda account, currency, now: D("-250.5"))
    assert desk.refresh().last_equity == D("99749.5")


def test_a_coin_without_a_pair_is_valued_through_another_one(db: None) -> None:
    with firm(on=False, USD=1000, XLM=10) as desk:
        Product.objects.create(
            exchange="coinbase", symbol="XLM-BTC", base="XLM", quote="BTC", price_increment=D("0.00000001"),
            base_increment=D("0.01"), quote_increment=D("0.00000001"), min_base=D("0.01"), min_quote=D("0.00001"),
        )  # fmt: skip
        price("0.01", "0.01", "XLM-BTC")
        measured = equity.measure(desk.account, "USD", timedelta(seconds=60))
        assert (measured.equity, measured.left_out) == (D(1010), ())


def test_a_coin_that_its_market_never_traded_is_left_out_and_named(db: None) -> None:
    with firm(on=False, USD=1000, SCAM=5) as desk:
        measured = equity.measure(desk.account, "USD", timedelta(seconds=60))
        assert (measured.equity, measured.left_out) == (D(1000), ("SCAM",))


def test_f61_a_coin_whose_price_is_missing_is_no_smaller_equity(desk: Firm) -> None:
    """A price that goes missing must not look like a loss, and not like nothing either."""
    open_deal(desk, 50_000)
    desk.refresh()
    with desk.later(seconds=50):
        desk.tell(100)
        desk.refresh()
    with desk.later(seconds=130):  # the price is 80 s old now
        state = desk.refresh()
        assert state.killed_at is None
        assert (state.error_code, state.last_equity_at) == ("missing_price", MOMENT + timedelta(seconds=50))
        desk.tell(100)
        with refused("guard_equity_unknown"):
            desk.desk.intend_open("100", max_active_deals=5, max_deals_per_pair=5)


def test_the_age_of_an_equity_is_that_of_the_oldest_price_in_it(db: None) -> None:
    with firm(on=False, USD=1000, BTC=1) as desk, desk.later(seconds=20):
        assert equity.measure(desk.account, "USD", timedelta(seconds=60)).at == MOMENT
        with pytest.raises(MissingInformation):
            equity.measure(desk.account, "USD", timedelta(seconds=10))


def test_snapshots_are_kept_every_few_minutes_and_for_a_while(desk: Firm) -> None:
    for seconds in (0, 10, 200, 310, 320):
        with clock.at(MOMENT + timedelta(seconds=seconds)):
            desk.refresh()
    assert EquitySnapshot.objects.count() == 2
    with clock.at(MOMENT + service.KEPT + timedelta(seconds=100)), detached("as the loop does"):
        assert service.prune() == 1


def test_f67_one_account_that_fails_keeps_no_other_one_unmeasured(desk: Firm) -> None:
    with detached("test data"), firm() as other:
        PropGuardRules.objects.filter(account=other.account).update(day_zone="No/Where")
    with detached("as the loop, without a scope of its own"):
        result = service.refresh_all()
    assert (result.measured, result.failed) == (1, {other.account.pk: "ZoneInfoNotFoundError"})


# Days -----------------------------------------------------------------------------------------------------------------


def at_five(day: int, **shift: int) -> Any:
    """17:00 in New York on a day of March 2026 (winter until the 8th), and a bit."""
    hour = 22 if day < 8 else 21
    return clock.at(MOMENT.replace(day=day, hour=hour, minute=0, second=0) + timedelta(**shift))


def test_the_daily_loss_is_measured_from_where_the_day_began(desk: Firm) -> None:
    """Losing 4 % a day for two days reaches neither limit of 4.5 % and 9 %."""
    open_deal(desk, 99_000)  # 990 BTC, 594 of fees
    desk.tell(97)
    assert desk.refresh().killed_at is None  # 96,436
    with at_five(2, seconds=2):
        desk.tell(97)
        state = desk.refresh()
        assert (state.day_start_equity, state.killed_at) == (D(406) + 990 * 97, None)
        desk.tell(93)
        assert desk.refresh().killed_at is None  # 4.1 % below today's start, 7.5 % below the deposit
        desk.tell("92.5")
        assert desk.refresh().kill_reason == "daily_limit"


def test_the_last_equity_right_before_a_day_begins_it(desk: Firm) -> None:
    open_deal(desk, 50_000)
    with at_five(2, seconds=-3):
        desk.tell(100)
        before = desk.refresh().last_equity
    with at_five(2, seconds=10):
        desk.tell(90)  # a loss of the first ten seconds is a loss of the new day
        state = desk.refresh()
        assert (state.day_start_equity, state.kill_reason) == (before, "daily_limit")


def test_a_day_whose_beginning_was_missed_begins_with_the_first_measurement_and_says_so(desk: Firm) -> None:
    with at_five(3, hours=2):
        desk.tell(100)
        with refused("guard_equity_unknown"):
            desk.desk.intend_open()
        assert desk.refresh().day_measured_at == clock.now()
        assert "first measured at" in PropGuardEvent.objects.filter(kind="day").latest("pk").message
        assert desk.desk.intend_open().pk


def test_f61_until_a_new_day_is_measured_its_loss_is_not_known(desk: Firm) -> None:
    with at_five(2, seconds=-10):
        desk.tell(100)
        desk.refresh()
    with at_five(2, seconds=5), refused("guard_day_unknown"):
        desk.tell(100)
        desk.desk.intend_open()


@pytest.mark.parametrize("day", [7, 8, 9])
def test_days_begin_at_five_in_new_york_when_the_clocks_change(desk: Firm, day: int) -> None:
    with at_five(day, seconds=-1):
        desk.tell(100)
        assert desk.refresh().day_began_at.day == day - 1
    with at_five(day):
        desk.tell(100)
        assert desk.refresh().day_began_at == clock.now()
