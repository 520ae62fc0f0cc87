"""Money that came in or went out: read once, told apart from profit (F35), valued as far as that is known (F34)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts import balances, manual_transfers, services, transfers
from accounts.access import acting_for
from accounts.exchanges import factory as exchanges
from accounts.exchanges.base import Movement
from accounts.models import Account, Membership, Transfer, User, ValueSnapshot, VenueFunds
from accounts.tasks import read_transfers
from positions.portfolio import snapshots
from positions.portfolio.holdings import holdings_of
from tests.accounts.live import fake_venue, live_account
from tests.factories import (
    AccountFactory,
    MembershipFactory,
    PaperEntryFactory,
    ProductFactory,
    TransferFactory,
    UserFactory,
)
from tests.positions.outside import OutsideVenue
from tests.positions.portfolio.listing import listed
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound, VenueUnavailable
from tradebot.core.scoping import ForeignRow, acting_for_account, detached

pytestmark = pytest.mark.django_db
D = Decimal
DAY = timedelta(days=1)


def known(account: Account) -> list[Transfer]:
    with detached("test looks"):
        return list(Transfer.objects.filter(account=account).order_by("at", "pk"))


# Paper ----------------------------------------------------------------------------------------------------------------


def test_paper_money_moves_are_transfers_at_once(django_user_model: Any) -> None:
    person = UserFactory()
    with acting_for(person):
        account = services.create_paper_account(person, "Practice", "simulated", {"USD": D(1000), "BTC": D(1)})
        services.deposit(account, "USD", D(50), person.email)
        services.withdraw(account, "BTC", D("0.25"), person.email)
        services.reset_paper(account, person.email, {"USD": D(500)})
        found = known(account)
        assert [(row.currency, row.amount, row.note, row.source) for row in found] == [
            ("USD", 1000, "Deposit", "paper"),
            ("BTC", 1, "Deposit", "paper"),
            ("USD", 50, "Deposit", "paper"),
            ("BTC", D("-0.25"), "Withdrawal", "paper"),
            ("BTC", D("-0.75"), "Reset", "paper"),
            ("USD", -550, "Reset", "paper"),
        ]
        assert found[0].value_usd == 1000
        assert all(row.value_usd is not None and row.value_btc is not None for row in found)
    assert transfers.read_account(account.pk) == 0  # the loop finds nothing that is not known
    assert len(known(account)) == 6


def test_f35_what_a_journal_held_before_is_read_once() -> None:
    account = AccountFactory(created_at=clock.now() - DAY)
    PaperEntryFactory(account=account, amount=D(700))
    PaperEntryFactory(account=account, kind="fee", amount=D(-1))  # a cost, not a transfer
    assert transfers.read_account(account.pk) == 1
    assert transfers.read_account(account.pk) == 0
    assert [row.amount for row in known(account)] == [700]


def test_f35_a_paper_deposit_is_not_profit() -> None:
    person = UserFactory()
    with acting_for(person):
        account = services.create_paper_account(person, "Practice", "simulated", {"USD": D(1000)})
    assert snapshots.take(account.pk) == ""
    with acting_for(person):
        services.deposit(account, "USD", D(5000), person.email)
        gain = snapshots.curve_of(holdings_of([account]), "USD", None).gain
    assert gain is not None
    assert (gain.amount, gain.put_in, gain.last) == (0, 5000, 6000)


# An exchange that lists them ------------------------------------------------------------------------------------------


@dataclass
class Place:
    account: Account
    venue: OutsideVenue

    def moved(self, name: str, amount: str, at: datetime, currency: str = "USD") -> None:
        self.venue.movements.append(Movement(name, currency, D(amount), at, "deposit"))


@pytest.fixture
def moment() -> Iterator[datetime]:
    at = datetime.fromisoformat("2026-03-02T12:00:20+00:00")
    with clock.at(at):
        yield at


@pytest.fixture
def outside(moment: datetime) -> Iterator[Place]:
    account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange="outside", created_at=moment - 10 * DAY)
    venue = OutsideVenue(account.pk)
    venue.capabilities = replace(venue.capabilities, lists_movements=True)
    exchanges.register("outside", lambda _account: venue)
    yield Place(account, venue)
    exchanges.register("outside", None)


def test_a_venues_list_is_read_with_an_overlap_and_counted_once(outside: Place, moment: datetime) -> None:
    outside.moved("one", "700", moment - DAY)
    assert transfers.read_account(outside.account.pk) == 1
    outside.moved("late", "30", moment - 6 * DAY)  # begun before the other one, listed after it
    outside.moved("two", "-200", moment)
    outside.moved("nothing", "0", moment)
    assert transfers.read_account(outside.account.pk) == 2
    assert transfers.read_account(outside.account.pk) == 0
    assert [(row.external_id, row.amount, row.source) for row in known(outside.account)] == [
        ("late", 30, "venue"),
        ("one", 700, "venue"),
        ("two", -200, "venue"),
    ]


def test_f35_what_is_listed_late_counts_from_when_it_is_listed(outside: Place, moment: datetime) -> None:
    """Begun three days ago, arrived just now: on the days between it was in no balance."""
    outside.moved("first", "1000", moment - 5 * DAY)
    transfers.read_account(outside.account.pk)
    with clock.at(moment + timedelta(hours=1)):
        outside.moved("late", "500", moment - 3 * DAY)
        outside.moved("new", "70", moment + timedelta(minutes=50))
        transfers.read_account(outside.account.pk)
    counted = {row.external_id: row.counted_at for row in known(outside.account)}
    assert counted == {
        "first": moment - 5 * DAY,  # of the first list nothing more is known
        "late": moment + timedelta(hours=1),
        "new": moment + timedelta(minutes=50),
    }


def test_f35_a_withdrawal_counts_from_when_it_was_begun_and_is_no_transfer_before_it_is_complete(
    outside: Place, moment: datetime
) -> None:
    transfers.read_account(outside.account.pk)
    begun = moment + timedelta(minutes=5)
    outside.venue.movements.append(Movement("out", "BTC", D("-0.5"), begun, "send", is_settled=False))
    with clock.at(moment + timedelta(minutes=10)):
        assert transfers.read_account(outside.account.pk) == 0
    with detached("test looks"):
        told = VenueFunds.objects.get(account=outside.account)
    assert told.leaving == [["BTC", "-0.5", begun.isoformat()]]
    outside.venue.movements[-1] = Movement("out", "BTC", D("-0.5"), begun, "send")
    with clock.at(moment + timedelta(minutes=40)):
        assert transfers.read_account(outside.account.pk) == 1
    assert [row.counted_at for row in known(outside.account)] == [begun]
    with detached("test looks"):
        assert VenueFunds.objects.get(account=outside.account).leaving == []


def test_two_accounts_may_have_a_transfer_of_the_same_name(outside: Place, moment: datetime) -> None:
    other = TransferFactory(external_id="one")
    outside.moved("one", "700", moment)
    assert transfers.read_account(outside.account.pk) == 1
    assert len(known(other.account)) == 1


def test_f67_a_venue_that_fails_stops_nobody_else(outside: Place, moment: datetime) -> None:
    paper = AccountFactory(created_at=moment - DAY)
    PaperEntryFactory(account=paper, amount=D(700), at=moment)
    outside.venue.fail("movements_since", VenueUnavailable())
    result = transfers.read_all([outside.account.pk, paper.pk])
    assert set(result.failed) == {outside.account.pk}
    assert (result.accounts, result.found) == (1, 1)


def test_f69_the_loop_gives_each_exchange_account_a_task_of_its_own(
    outside: Place, moment: datetime, settings: Any
) -> None:
    from tradebot.celery import app

    outside.moved("one", "700", moment)
    archived = AccountFactory(archived_at=moment)
    PaperEntryFactory(account=archived)
    before = app.conf.task_always_eager
    app.conf.task_always_eager = True
    try:
        read_transfers.apply(throw=True)
    finally:
        app.conf.task_always_eager = before
    assert len(known(outside.account)) == 1
    assert known(archived) == []


def test_a_venue_that_does_not_list_them_is_not_asked(outside: Place, moment: datetime) -> None:
    outside.venue.capabilities = replace(outside.venue.capabilities, lists_movements=False)
    outside.venue.fail("movements_since", AssertionError("asked all the same"))
    assert transfers.read_account(outside.account.pk) == 0


def test_f35_a_real_deposit_over_the_wire_is_not_profit() -> None:
    """Coinbase's own paths over HTTP: wallets, their history, the product list; then money comes in."""
    with fake_venue() as fake:
        fake.add_account("ann", {"USD": "1000"})
        account = live_account(fake.add_key("ann"))
        assert read(account) == 1
        assert snapshots.take(account.pk) == ""
        an_hour_passes(account)
        fake.control.deposit("ann", "USD", "5000")
        assert read(account) == 1
        with acting_for_account(account.pk):
            curve = snapshots.curve_of(holdings_of([account]), "USD", None)
    assert [row.amount for row in known(account)] == [1000, 5000]
    assert curve.gain is not None
    assert (curve.gain.first, curve.gain.last, curve.gain.put_in, curve.gain.amount) == (1000, 6000, 5000, 0)


def an_hour_passes(account: Account) -> None:
    """What was written down is an hour older: the wire tells whole seconds."""
    with detached("time passes"):
        for row in Transfer.objects.filter(account=account):
            Transfer.objects.filter(pk=row.pk).update(counted_at=row.counted_at - timedelta(hours=1))
        for day in ValueSnapshot.objects.filter(account=account):
            ValueSnapshot.objects.filter(pk=day.pk).update(taken_at=day.taken_at - timedelta(minutes=59))


def read(account: Account) -> int:
    """What the loops do: ask for transfers and for balances."""
    found = transfers.read_account(account.pk)
    with acting_for_account(account.pk):
        balances.refresh(account)
    return found


# Values ---------------------------------------------------------------------------------------------------------------


def test_a_recent_transfer_is_worth_what_the_price_list_says(moment: datetime) -> None:
    account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange="coinbase")
    listed(BTC_USD=50_000)
    with acting_for_account(account.pk):
        transfers.record(account, [Movement("one", "BTC", D("-0.5"), moment)])
    row = known(account)[0]
    assert (row.value_usd, row.value_btc) == (-25_000, D("-0.5"))


def test_an_old_transfer_is_worth_what_the_candles_say(moment: datetime) -> None:
    account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange="simulated")
    ProductFactory(symbol="BTC-USD")
    ProductFactory(symbol="ETH-USD")
    with acting_for_account(account.pk):
        transfers.record(account, [Movement("one", "ETH", D(2), moment - 300 * DAY)])
        assert known(account)[0].value_usd is None  # today's price is not that day's
        assert transfers.value_missing(account) == 1
        assert transfers.value_missing(account) == 0
    row = known(account)[0]
    assert row.value_usd is not None
    assert 2000 < row.value_usd < 12_000
    assert row.value_btc is not None


def test_f34_a_value_that_nobody_knows_stays_empty(moment: datetime) -> None:
    account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange="simulated")
    with acting_for_account(account.pk):
        transfers.record(account, [Movement("one", "XYZ", D(2), moment)])
        assert transfers.value_missing(account) == 0
    row = known(account)[0]
    assert (row.value_usd, row.value_btc) == (None, None)


def test_a_value_is_looked_for_for_a_week(moment: datetime) -> None:
    account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange="simulated")
    ProductFactory(symbol="BTC-USD")
    TransferFactory(account=account, recorded_at=moment - 8 * DAY, value_usd=None)
    with acting_for_account(account.pk):
        assert transfers.value_missing(account) == 0


# By hand --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent(outside: Place) -> Account:
    """An account whose venue lists nothing."""
    outside.venue.capabilities = replace(outside.venue.capabilities, lists_movements=False)
    return outside.account


def enter(account: Account, person: User, **changes: Any) -> Transfer:
    values = {"currency": "usd", "amount": D(-250), "at": clock.now() - DAY, "note": "to the bank", **changes}
    with acting_for(person):
        return manual_transfers.enter(account, actor=person.email, **values)


def test_where_nobody_lists_them_they_are_entered_and_removed_by_hand(silent: Account) -> None:
    made = enter(silent, silent.owner)
    assert (made.currency, made.amount, made.value_usd, made.source) == ("USD", -250, -250, "manual")
    with acting_for(silent.owner):
        manual_transfers.remove(made, silent.owner.email)
    assert known(silent) == []


def test_where_they_are_listed_an_entry_by_hand_would_count_twice(outside: Place) -> None:
    for account in (outside.account, AccountFactory()):
        with pytest.raises(InvalidInput, match="would count twice"):
            enter(account, account.owner)
        assert known(account) == []
    listed_one = TransferFactory(account=outside.account)
    with acting_for(outside.account.owner), pytest.raises(InvalidInput, match="by hand"):
        manual_transfers.remove(listed_one, "ann@example.com")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", D(0)),
        ("amount", D("NaN")),
        ("amount", D("1e13")),
        ("amount", D("0.0000000000000000001")),
        ("currency", "not a code"),
        ("note", "x" * 201),
    ],
)
def test_f23_what_makes_no_sense_is_refused_by_name(silent: Account, field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as error:
        enter(silent, silent.owner, **{field: value})
    assert error.value.field == field
    assert known(silent) == []


def test_a_transfer_has_happened_already(silent: Account, moment: datetime) -> None:
    for at in (moment + timedelta(minutes=1), moment.replace(tzinfo=None)):
        with pytest.raises(InvalidInput) as error:
            enter(silent, silent.owner, at=at)
        assert error.value.field == "at"


def test_only_those_who_may_change_the_account_enter_and_remove(silent: Account) -> None:
    made = enter(silent, silent.owner)
    observer = UserFactory()
    MembershipFactory(account=silent, user=observer, role=Membership.Role.OBSERVER)
    for person in (observer, UserFactory()):
        with pytest.raises((NotFound, ForeignRow)):
            enter(silent, person)
        with acting_for(person), pytest.raises(NotFound):
            manual_transfers.remove(made, person.email)
    assert len(known(silent)) == 1
