"""The value of each day: written down once, not at all rather than too low, and read as a curve."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Account, Transfer, ValueSnapshot
from positions.portfolio import snapshots
from positions.portfolio.holdings import holdings_of
from tests.factories import (
    AccountFactory,
    LeftOutFactory,
    TransferFactory,
    ValueSnapshotFactory,
    VenueBalanceFactory,
)
from tests.positions.portfolio.listing import LIVE, exchange_account, listed
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account, acting_for_accounts, detached

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
D = Decimal


def written(account: Account) -> list[ValueSnapshot]:
    with detached("test looks"):
        return list(ValueSnapshot.objects.filter(account=account).order_by("date"))


def test_a_value_is_written_down_once_a_day(moment: Any) -> None:
    account = exchange_account(BTC="1.5", USD=100)
    listed(BTC_USD=50_000)
    assert snapshots.take_all().taken == [account.pk]
    assert snapshots.take_all().taken == []
    row = written(account)[0]
    assert (row.date, row.taken_at) == (moment.date(), moment)
    assert (row.value_usd, row.value_btc, row.complete) == (75_100, D("1.502"), True)
    assert row.by_currency == {
        "BTC": {"total": "1.5", "usd": "75000", "btc": "1.5"},
        "USD": {"total": "100", "usd": "100", "btc": "0.002"},
    }
    with clock.at(moment + DAY):
        listed(BTC_USD=50_000)
        with detached("test data"):
            account.venue_funds.asked_at = clock.now()
            account.venue_funds.save()
        assert snapshots.take_all().taken == [account.pk]
    assert len(written(account)) == 2


def test_two_runs_at_once_write_one_row(moment: Any) -> None:
    account = AccountFactory(balances={"USD": 100})
    assert snapshots.take(account.pk) == ""
    assert snapshots.take(account.pk) == ""
    assert len(written(account)) == 1


def test_f34_a_value_is_skipped_not_stored_low_when_a_price_is_missing(moment: Any) -> None:
    account = exchange_account(BTC=1, XYZ=7)
    listed(BTC_USD=50_000)
    assert snapshots.take_all().waiting == {account.pk: "There is no price of XYZ."}
    assert written(account) == []
    with clock.at(moment + timedelta(hours=3)):  # later that day there is one
        listed(BTC_USD=50_000, XYZ_USD=100)
        with detached("test data"):
            account.venue_funds.asked_at = clock.now()
            account.venue_funds.save()
        assert snapshots.take_all().taken == [account.pk]
    assert [row.value_usd for row in written(account)] == [50_700]


def test_f34_a_value_is_skipped_when_a_balance_is_missing_or_old(moment: Any) -> None:
    silent = AccountFactory(kind=Account.Kind.EXCHANGE, exchange=LIVE)
    old = exchange_account(moment - timedelta(minutes=10), USD=5)
    assert snapshots.take_all().waiting == {
        silent.pk: "The balances are not known.",
        old.pk: "The balances are old.",
    }
    assert written(silent) == written(old) == []


def test_no_prices_at_all_write_nothing(moment: Any) -> None:
    account = exchange_account(USD=100)
    reason = snapshots.take(account.pk)  # what a dollar is in BTC is not known
    assert reason == "There is no price of USD."
    assert written(account) == []


def test_what_the_owner_leaves_out_does_not_stop_it(moment: Any) -> None:
    account = exchange_account(BTC=1, XYZ=7)
    listed(BTC_USD=50_000)
    LeftOutFactory(account=account, currency="XYZ")
    assert snapshots.take(account.pk) == ""
    row = written(account)[0]
    assert (row.value_usd, row.complete, row.left_out) == (50_000, False, ["XYZ"])
    assert "XYZ" not in row.by_currency


@pytest.mark.django_db(transaction=True)
def test_f67_one_account_does_not_stop_the_rest(moment: Any) -> None:
    broken = exchange_account()
    VenueBalanceFactory(account=broken, currency="BTC", total=D("9" * 20))
    fine = exchange_account(USD=100)
    listed(BTC_USD=50_000_000)  # the product does not fit the column
    result = snapshots.take_all()
    assert set(result.failed) == {broken.pk}
    assert result.taken == [fine.pk]


def test_archived_accounts_and_recordings_are_left_alone(moment: Any) -> None:
    AccountFactory(archived_at=moment, balances={"USD": 1})
    AccountFactory(exchange="replay", balances={"USD": 1})
    assert snapshots.take_all() == snapshots.Taken()


# The curve ------------------------------------------------------------------------------------------------------------


def reading(account: Account, days_ago: int, value: int) -> None:
    at = clock.now() - days_ago * DAY
    ValueSnapshotFactory(account=account, taken_at=at, value_usd=D(value), value_btc=D(value) / 50_000)


def curve(*accounts: Account, days: int | None = 90, into: str = "USD") -> snapshots.Curve:
    with acting_for_accounts([account.pk for account in accounts]):
        return snapshots.curve_of(holdings_of(accounts), into, days)


def test_f35_the_curve_knows_what_was_put_in(moment: Any, django_assert_num_queries: Any) -> None:
    account = exchange_account(USD=1720)
    listed(BTC_USD=50_000)
    reading(account, 3, 1000)
    reading(account, 2, 1020)
    reading(account, 1, 1710)
    TransferFactory(account=account, amount=D(700), at=moment - 1.5 * DAY, value_btc=D("0.014"))
    TransferFactory(account=account, amount=D(9999), at=moment - 8 * DAY)  # before the first reading
    found = curve(account)
    assert [step.value for step in found.steps] == [1000, 1020, 1710, 1720]
    assert found.put_in == [1000, 1000, 1700, 1700]
    assert [row.amount for row in found.transfers] == [700]
    assert found.gain is not None
    assert (found.gain.amount, found.gain.put_in) == (20, 700)
    assert curve(account, into="BTC").gain.amount == D("0.0004")  # type: ignore[union-attr]
    with acting_for_account(account.pk):
        rows = holdings_of([account])
        with django_assert_num_queries(3):
            snapshots.curve_of(rows, "USD", None)


def test_a_day_without_a_value_is_a_gap(moment: Any) -> None:
    account = exchange_account(USD=10)
    listed(BTC_USD=50_000)
    for days_ago in (4, 3, 1):
        reading(account, days_ago, 10)
    found = curve(account)
    assert found.gaps == [(moment - 2 * DAY).date()]
    assert [step.key[0].day for step in found.steps] == [26, 27, 1, 2]  # 26 and 27 February, 1 and 2 March


def test_the_present_is_left_out_while_it_is_not_known_for_certain(moment: Any) -> None:
    account = exchange_account(USD=10, XYZ=1)
    listed(BTC_USD=50_000)
    reading(account, 1, 10)
    assert [step.value for step in curve(account).steps] == [10]


def test_an_account_outside_the_window_does_not_join_in_it(moment: Any) -> None:
    old, new = exchange_account(USD=100), exchange_account(moment - DAY, USD=50)
    listed(BTC_USD=50_000)
    reading(old, 2, 100)
    reading(old, 1, 100)
    reading(new, 40, 50)
    assert curve(old, new, days=30).steps == []  # the other one was there and nobody knows with how much
    assert [step.value for step in curve(old, days=30).steps] == [100, 100, 100]


def test_what_today_earned_starts_at_todays_first_reading(moment: Any) -> None:
    account = exchange_account(USD=1130)
    listed(BTC_USD=50_000)
    reading(account, 1, 900)
    ValueSnapshotFactory(account=account, taken_at=moment - timedelta(hours=11), value_usd=D(1000))
    TransferFactory(account=account, amount=D(100), at=moment - timedelta(hours=1))
    today = snapshots.today_of(curve(account), moment)
    assert today is not None
    assert (today.amount, today.put_in) == (30, 100)
    assert snapshots.today_of(curve(account), moment + DAY) is None


def test_f34_a_transfer_without_a_value_leaves_the_gain_unknown(moment: Any) -> None:
    account = exchange_account(USD=1000)
    listed(BTC_USD=50_000)
    reading(account, 2, 1000)
    TransferFactory(account=account, currency="XYZ", amount=D(5), at=moment - DAY, value_usd=None)
    found = curve(account)
    assert found.put_in == [1000, None]
    assert found.gain is not None
    assert found.gain.amount is None
    with detached("test data"):
        Transfer.objects.update(value_usd=D(5))
    assert curve(account).gain.amount == -5  # type: ignore[union-attr]
