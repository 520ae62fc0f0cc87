"""What people do with their accounts: open, fund, reset, rename, archive, share."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import RequestFactory

from accounts import services
from accounts.access import acting_for, scope_of
from accounts.adapter import AccountAdapter
from accounts.exchanges.paper import PaperVenue
from accounts.models import Account, Membership, PaperBalance, PaperEntry, PaperTerms, User
from tests.accounts.helpers import D, assert_books_agree, buy, live_account, live_product, price, total
from tests.factories import (
    AccountFactory,
    BotFactory,
    MembershipFactory,
    PaperOrderFactory,
    PositionFactory,
    UserFactory,
)
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import ForeignRow, bind_request, detached, request_holder

pytestmark = pytest.mark.django_db

ME = "me@example.com"


@pytest.fixture(autouse=True)
def _simulated_market(settings: Any) -> None:
    settings.MARKET = "simulated"


@pytest.fixture
def user() -> User:
    return UserFactory(email=ME)


@pytest.fixture
def account(user: User) -> Account:
    return AccountFactory(owner=user, name="Practice", is_default=True, balances={"USD": 1000})


def audit(user: User) -> list[tuple[str, str]]:
    with acting_for(user):
        return list(AuditEntry.objects.order_by("pk").values_list("action", "actor"))


# Opening


def test_a_first_account_has_the_start_balances_and_is_the_default(user: User) -> None:
    account = services.open_first_account(user)
    assert (account.name, account.kind, account.exchange, account.is_default) == ("Paper", "paper", "simulated", True)
    assert [total(account, currency) for currency in ("BTC", "ETH", "USD")] == [D(1), D(10), D(100_000)]
    assert_books_agree(account)
    assert audit(user) == [("account_opened", ME)]
    assert services.open_first_account(user) == account


def test_signing_up_opens_the_first_account(user: User) -> None:
    class Form:
        cleaned_data = {"email": "new@example.com", "password1": "a long pass phrase"}

        def _has_phone_field(self) -> bool:
            return False

    request = RequestFactory().post("/")
    request.session = {}
    with request_holder():
        adapter = AccountAdapter(request)
        person = adapter.save_user(request, adapter.new_user(request), Form())
    with acting_for(person):
        assert Account.objects.get().owner == person


def test_a_new_account_is_reachable_in_the_request_that_made_it(user: User) -> None:
    with request_holder():
        bind_request(scope_of(user))
        account = services.create_paper_account(user, " Second  try ", "coinbase", {"usd": D(5), "EUR": D(0)})
        assert Account.objects.get() == account
        assert account.name == "Second try"
        assert PaperTerms.objects.get().account_id == account.pk
        assert services.deposit(account, "USD", D(1), ME).total == D(6)
    assert_books_agree(account)


def test_f52_names_are_unique_for_one_person_and_nobody_elses_business(user: User, account: Account) -> None:
    AccountFactory(name="Theirs")
    with acting_for(user):
        assert services.create_paper_account(user, "Theirs", "simulated").name == "Theirs"
        with pytest.raises(InvalidInput) as caught:
            services.create_paper_account(user, "Practice", "simulated")
        assert (caught.value.code, caught.value.field) == ("name_taken", "name")
        assert Account.objects.filter(is_default=True).get() == account


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "x" * 61}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"exchange": "mtgox"}, "exchange"),
        ({"start": {"USD": D(-1)}}, "start"),
        ({"start": {"U$D": D(1)}}, "start"),
        ({"start": {"USD": D(10) ** 13}}, "start"),
    ],
)
def test_what_cannot_be_opened_names_the_field(user: User, arguments: dict[str, Any], field: str) -> None:
    with acting_for(user), pytest.raises(InvalidInput) as caught:
        services.create_paper_account(user, **{"name": "New", "exchange": "simulated", **arguments})
    assert caught.value.field == field
    with acting_for(user):
        assert not Account.objects.exists()


def test_an_account_cannot_be_opened_for_somebody_else(user: User) -> None:
    with acting_for(UserFactory()), pytest.raises(ForeignRow):
        services.create_paper_account(user, "Mine", "simulated")


# Money


def test_deposits_and_withdrawals_are_entries_and_audited(user: User, account: Account) -> None:
    with acting_for(user):
        assert services.deposit(account, " eth ", D("2.5"), ME).total == D("2.5")
        assert services.withdraw(account, "USD", D(400), ME).total == D(600)
        kinds = list(PaperEntry.objects.order_by("pk").values_list("currency", "kind", "amount"))
        detail = AuditEntry.objects.get(action="paper_deposit").detail
    assert kinds[1:] == [("ETH", "deposit", D("2.5")), ("USD", "withdrawal", D(-400))]
    assert detail == {"name": "Practice", "currency": "ETH", "amount": "2.5"}
    assert audit(user) == [("paper_deposit", ME), ("paper_withdrawal", ME)]
    assert_books_agree(account)


@pytest.mark.parametrize(
    ("currency", "amount", "field"),
    [
        ("USD", D(0), "amount"),
        ("USD", D(-1), "amount"),
        ("USD", D("NaN"), "amount"),
        ("USD", D("Infinity"), "amount"),
        ("USD", D("1e400"), "amount"),
        ("USD", D("1000000000000.01"), "amount"),
        ("USD", D("1e-19"), "amount"),
        ("USD", 0.5, "amount"),
        ("USD", "many", "amount"),
        ("", D(1), "currency"),
        ("US-D", D(1), "currency"),
        ("X" * 21, D(1), "currency"),
    ],
)
@pytest.mark.parametrize("act", [services.deposit, services.withdraw])
def test_f23_amounts_that_make_no_sense_name_the_field(
    user: User, account: Account, act: Any, currency: str, amount: Any, field: str
) -> None:
    with acting_for(user), pytest.raises(InvalidInput) as caught:
        act(account, currency, amount, ME)
    assert caught.value.field == field
    assert total(account, "USD") == D(1000)


def test_the_largest_amount_is_accepted(user: User, account: Account) -> None:
    with acting_for(user):
        assert services.deposit(account, "USD", services.LARGEST_AMOUNT, ME).total == D(1_000_000_001_000)


def test_only_what_is_free_can_be_withdrawn() -> None:
    live_product()
    price(49_990, 50_000)
    account = live_account(USD=1000)
    with acting_for(account.owner):
        PaperVenue(account).place(buy(base="0.01", limit=40_000))
        with pytest.raises(InvalidInput) as caught:
            services.withdraw(account, "USD", D("598.41"), ME)
        assert (caught.value.field, caught.value.detail["free"]) == ("amount", D("597.6"))
        services.withdraw(account, "USD", D("597.6"), ME)
    assert_books_agree(account)


def test_an_exchange_account_takes_no_paper_money(user: User) -> None:
    account = AccountFactory(owner=user, kind=Account.Kind.EXCHANGE, exchange="coinbase")
    with acting_for(user), pytest.raises(InvalidInput) as caught:
        services.deposit(account, "USD", D(1), ME)
    assert caught.value.code == "not_paper"


def test_strangers_and_observers_move_no_money(user: User, account: Account) -> None:
    observer = MembershipFactory(account=account).user
    for person in (UserFactory(), observer):
        with acting_for(person), pytest.raises(NotFound):
            services.deposit(account, "USD", D(1), "stranger@example.com")
    assert total(account, "USD") == D(1000)
    assert audit(user) == []


def test_what_a_manager_does_is_audited_for_the_owner(user: User, account: Account) -> None:
    manager = MembershipFactory(account=account, role=Membership.Role.MANAGER).user
    with acting_for(manager):
        services.deposit(account, "USD", D(1), manager.email)
    assert audit(user) == [("paper_deposit", manager.email)]
    assert audit(manager) == []


def test_a_reset_goes_on_in_the_journal(user: User, account: Account) -> None:
    with acting_for(user):
        services.deposit(account, "DOGE", D(7), ME)
        before = PaperEntry.objects.count()
        services.reset_paper(account, ME)
        assert PaperEntry.objects.count() == before + 4
        assert set(PaperEntry.objects.all()[:4].values_list("kind", flat=True)) == {"reset"}
        totals = dict(PaperBalance.objects.values_list("currency", "total"))
    assert totals == {"USD": D(100_000), "BTC": D(1), "ETH": D(10), "DOGE": D(0)}
    assert_books_agree(account)
    assert audit(user)[-1] == ("paper_reset", ME)


@pytest.mark.parametrize("act", [services.reset_paper, services.archive_account])
def test_an_account_at_work_is_neither_reset_nor_archived(user: User, account: Account, act: Any) -> None:
    AccountFactory(owner=user)
    order = PaperOrderFactory(account=account)
    with acting_for(user), pytest.raises(InvalidInput) as caught:
        act(account, ME)
    assert caught.value.code == "working_orders"
    with detached("test"):
        order.status = "cancelled"
        order.save()
    PositionFactory(open=True, bot=BotFactory(account=account))
    with acting_for(user), pytest.raises(InvalidInput) as caught:
        act(account, ME)
    assert caught.value.code == "open_deals"
    assert total(account, "USD") == D(1000)


# Terms


def test_terms_are_changed_and_audited(user: User, account: Account) -> None:
    with acting_for(user):
        row = services.update_terms(account, ME, taker_fee_pct=D("0.1"), fee_currency="base")
        assert (row.maker_fee_pct, row.taker_fee_pct, row.fee_currency) == (D("0.4"), D("0.1"), "base")
        assert PaperVenue(account).fee_rates() == (D("0.004"), D("0.001"))
        detail = AuditEntry.objects.get().detail
    assert detail["before"] == {"taker_fee_pct": "0.6", "fee_currency": "quote"}
    assert detail["after"] == {"taker_fee_pct": "0.1", "fee_currency": "base"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maker_fee_pct", D("5.01")),
        ("taker_fee_pct", D("-0.1")),
        ("slippage_pct", D("NaN")),
        ("slippage_pct", 0.5),
        ("fee_currency", "EUR"),
        ("account_id", 7),
    ],
)
def test_terms_out_of_range_name_the_field(user: User, account: Account, name: str, value: Any) -> None:
    with acting_for(user), pytest.raises(InvalidInput) as caught:
        services.update_terms(account, ME, **{name: value})
    assert caught.value.field == name


def test_the_fee_currency_stays_while_orders_rest(user: User, account: Account) -> None:
    PaperOrderFactory(account=account)
    with acting_for(user):
        services.update_terms(account, ME, maker_fee_pct=D("0.2"), fee_currency="quote")
        with pytest.raises(InvalidInput) as caught:
            services.update_terms(account, ME, fee_currency="base")
    assert caught.value.field == "fee_currency"


# The account itself


def test_renaming_keeps_names_unique(user: User, account: Account) -> None:
    other = AccountFactory(owner=user, name="Other")
    with acting_for(user):
        assert services.rename(account, "Practice", ME).name == "Practice"
        assert services.rename(account, "Main", ME).name == "Main"
        with pytest.raises(InvalidInput) as caught:
            services.rename(other, "Main", ME)
    assert (caught.value.code, caught.value.field) == ("name_taken", "name")


def test_there_is_one_default_account(user: User, account: Account) -> None:
    other = AccountFactory(owner=user)
    theirs = AccountFactory(is_default=True)
    with acting_for(user):
        services.set_default(other, ME)
        services.set_default(other, ME)
        assert Account.objects.get(is_default=True) == other
    assert audit(user) == [("account_default", ME)]
    with detached("test"):
        theirs.refresh_from_db()
    assert theirs.is_default


def test_archiving_the_default_account_passes_that_on(user: User, account: Account) -> None:
    other = AccountFactory(owner=user)
    with acting_for(user):
        assert services.archive_account(account, ME).archived_at is not None
        assert Account.objects.get(is_default=True) == other
        with pytest.raises(InvalidInput, match="archived"):
            services.set_default(account, ME)
        with pytest.raises(InvalidInput) as caught:
            services.archive_account(other, ME)
    assert caught.value.code == "only_account"


def test_an_account_with_running_bots_is_not_archived(user: User, account: Account) -> None:
    AccountFactory(owner=user)
    BotFactory(account=account, status="running")
    with acting_for(user), pytest.raises(InvalidInput) as caught:
        services.archive_account(account, ME)
    assert caught.value.code == "bots_running"


@pytest.mark.parametrize(
    "act",
    [
        lambda account: services.rename(account, "Taken over", ME),
        lambda account: services.set_default(account, ME),
        lambda account: services.archive_account(account, ME),
        lambda account: services.share(account, ME, "manager", None, ME),
        lambda account: services.revoke(account, account.owner_id, ME),
    ],
)
def test_f48_a_manager_does_not_rearrange_somebody_elses_account(user: User, account: Account, act: Any) -> None:
    manager = MembershipFactory(account=account, role=Membership.Role.MANAGER).user
    for person in (manager, UserFactory()):
        with acting_for(person), pytest.raises(NotFound):
            act(account)


# Sharing


def test_sharing_gives_access_and_revoking_takes_it(user: User, account: Account) -> None:
    friend = UserFactory(email="friend@example.com", verified=True)
    with acting_for(user):
        services.share(account, " Friend@example.com", "observer", None, ME)
    assert scope_of(friend).account_ids == {account.pk}
    assert scope_of(friend).editable_ids == frozenset()
    with acting_for(user):
        services.share(account, "friend@example.com", "manager", clock.now() + timedelta(days=1), ME)
        assert Membership.objects.count() == 1
    assert scope_of(friend).editable_ids == {account.pk}
    with clock.at(clock.now() + timedelta(days=2)):
        assert scope_of(friend).account_ids == frozenset()
    with acting_for(user):
        services.revoke(account, friend.pk, ME)
        with pytest.raises(NotFound):
            services.revoke(account, friend.pk, ME)
    assert scope_of(friend).account_ids == frozenset()
    assert [action for action, _ in audit(user)] == ["account_shared", "account_shared", "account_share_ended"]


@pytest.mark.parametrize(
    ("email", "role", "expires", "field"),
    [
        (ME, "observer", None, "email"),
        ("friend@example.com", "owner", None, "role"),
        ("friend@example.com", "observer", timedelta(seconds=-1), "expires"),
    ],
)
def test_shares_that_make_no_sense_name_the_field(
    user: User, account: Account, email: str, role: str, expires: timedelta | None, field: str
) -> None:
    UserFactory(email="friend@example.com")
    until = clock.now() + expires if expires is not None else None
    with acting_for(user), pytest.raises(InvalidInput) as caught:
        services.share(account, email, role, until, ME)
    assert caught.value.field == field


def test_f52_sharing_answers_alike_whoever_has_the_address(user: User, account: Account) -> None:
    UserFactory(email="unconfirmed@example.com")
    UserFactory(email="gone@example.com", verified=True, is_active=False)
    with acting_for(user):
        for address in ("nobody@example.com", "unconfirmed@example.com", "gone@example.com"):
            assert services.share(account, address, "manager", None, ME) is None
        assert not Membership.objects.exists()
    assert audit(user) == []


@pytest.mark.parametrize("role", Membership.Role.values)
def test_a_member_leaves_a_share(
    user: User, account: Account, role: str, django_capture_on_commit_callbacks: Any
) -> None:
    friend = MembershipFactory(account=account, role=role).user
    other = MembershipFactory(account=account).user
    with acting_for(friend), django_capture_on_commit_callbacks() as after_commit:
        services.leave(account, friend)
    assert len(after_commit) == 1, "the sockets are closed"
    assert scope_of(friend).account_ids == frozenset()
    assert scope_of(other).account_ids == {account.pk}
    assert [action for action, _ in audit(user)] == ["account_left"]
    with acting_for(friend), pytest.raises(NotFound):
        services.leave(account, friend)


def test_nobody_leaves_their_own_account_or_for_somebody_else(user: User, account: Account) -> None:
    friend = MembershipFactory(account=account).user
    with acting_for(user), pytest.raises(InvalidInput):
        services.leave(account, user)
    with acting_for(user), pytest.raises(ForeignRow):
        services.leave(account, friend)
    with acting_for(UserFactory()) as scope, pytest.raises(NotFound):
        services.leave(account, User(pk=scope.owner_id))
    assert scope_of(friend).account_ids == {account.pk}
