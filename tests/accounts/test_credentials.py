"""Keys are tried before they are kept, replaced, removed, checked again; they go in and never come out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from accounts import credentials
from accounts.access import acting_for
from accounts.exchanges.factory import venue_of
from accounts.models import Account, ExchangeCredential, User
from tests.accounts.live import fake_venue
from tests.factories import PositionFactory, UserFactory
from tests.venue.keys import ApiKey, make_key
from tests.venue.server import FakeVenue
from tradebot.core.errors import InvalidInput, TradebotError, VenueDenied, VenueUnavailable
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import detached

WALLETS = {"USD": "10000", "BTC": "0.5"}


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with fake_venue() as started:
        yield started


@pytest.fixture
def trader(db: None) -> Iterator[User]:
    person = UserFactory(email="trader@example.com")
    with acting_for(person):
        yield person


def connect(trader: User, key: ApiKey, name: str = "Main", **changes: Any) -> Account:
    given = {"api_key": key.name, "api_secret": key.secret} | changes
    accept = given.pop("accept_withdrawal", False)
    keys = credentials.read_keys("coinbase", given["api_key"], given["api_secret"])
    return credentials.connect(trader, "coinbase", name, keys, accept_withdrawal=accept)[0]


def refusal(code: str, field: str | None) -> Any:
    """Expect a refusal with this code at this field."""
    return pytest.raises(TradebotError, check=lambda error: (error.code, error.field) == (code, field))


def stored() -> int:
    with detached("test"):
        return int(ExchangeCredential.objects.count()) + int(Account.objects.filter(kind="exchange").count())


def test_an_account_is_connected_after_the_venue_has_answered(trader: User, venue: FakeVenue) -> None:
    account = connect(trader, venue.add_account("anna", WALLETS))

    row = ExchangeCredential.objects.get(account=account)
    assert (account.kind, account.exchange, account.trading_state) == ("exchange", "coinbase", "read_only")
    assert (row.can_view, row.can_trade, row.can_withdraw) == (True, True, False)
    assert row.portfolio
    assert row.checked_at is not None
    assert venue_of(account).balances()["BTC"].total == credentials.Decimal("0.5")


def test_nothing_is_stored_when_the_venue_refuses_the_key(trader: User, venue: FakeVenue) -> None:
    with refusal("key_refused", "api_key"):
        connect(trader, make_key("nobody"))
    assert stored() == 0


@pytest.mark.parametrize(
    ("rights", "code"),
    [({"can_trade": False}, "key_cannot_trade"), ({"can_view": False}, "key_refused")],
)
def test_a_key_that_may_not_look_or_trade_is_refused_with_the_reason(
    trader: User, venue: FakeVenue, rights: dict[str, bool], code: str
) -> None:
    venue.add_account("anna", WALLETS)
    with refusal(code, "api_key"):
        connect(trader, venue.add_key("anna", **rights))
    assert stored() == 0


def test_a_key_that_may_withdraw_needs_an_explicit_yes(trader: User, venue: FakeVenue) -> None:
    venue.add_account("anna", WALLETS)
    key = venue.add_key("anna", can_transfer=True)

    with refusal("key_may_withdraw", "accept_withdrawal"):
        connect(trader, key)
    assert stored() == 0
    account = connect(trader, key, accept_withdrawal=True)

    assert account.credential.can_withdraw
    entry = AuditEntry.objects.get(action="exchange_connected")
    assert (entry.detail["can_withdraw"], entry.detail["accepted_withdrawal"]) == (True, True)


def test_a_venue_that_does_not_answer_leaves_nothing_behind(trader: User, venue: FakeVenue) -> None:
    key = venue.add_account("anna", WALLETS)
    venue.control.fail("status", "key_permissions", count=None, status=500)

    with pytest.raises(VenueUnavailable):
        connect(trader, key)
    assert stored() == 0


@pytest.mark.parametrize(
    "pasted",
    [
        lambda pem: pem.replace("\n", "\\n"),
        lambda pem: f'"{pem.replace(chr(10), chr(92) + "n")}",',
        lambda pem: pem.replace("\n", "\r\n"),
        lambda pem: pem.replace("\n", " "),
        lambda pem: f"\n  {pem}  \n",
    ],
    ids=["escaped line ends", "a line of the JSON file", "Windows", "one line", "blanks around it"],
)
def test_a_private_key_of_several_lines_survives_pasting(trader: User, venue: FakeVenue, pasted: Any) -> None:
    key = venue.add_account("anna", WALLETS)

    account = connect(trader, key, api_secret=pasted(key.secret))

    assert account.credential.api_secret.reveal() == key.secret


def test_a_key_of_the_other_algorithm_is_taken_as_well(trader: User, venue: FakeVenue) -> None:
    key = venue.add_account("anna", WALLETS, algorithm="EdDSA")
    assert connect(trader, key).credential.can_trade


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"api_key": ""}, "required", "api_key"),
        ({"api_secret": "  "}, "required", "api_secret"),
        ({"api_key": "two words"}, "bad_key", "api_key"),
        ({"api_secret": "x" * 9000}, "too_long", "api_secret"),
        (
            {"api_secret": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----"},
            "bad_secret",
            "api_secret",
        ),
        ({"api_secret": "-----BEGIN EC PRIVATE KEY-----"}, "bad_secret", "api_secret"),
    ],
)
def test_what_cannot_be_a_key_names_its_field_and_never_repeats_it(
    trader: User, venue: FakeVenue, changes: dict[str, str], code: str, field: str
) -> None:
    with refusal(code, field) as caught:
        connect(trader, venue.add_account("anna", WALLETS), **changes)
    assert next(iter(changes.values())).strip() not in caught.value.message or not next(iter(changes.values())).strip()
    assert stored() == 0


@pytest.mark.parametrize("secret", ["hello world", "bm90IGEga2V5", "ü" * 40, "A" * 88])
def test_any_other_text_for_a_secret_is_refused_and_not_stored(trader: User, venue: FakeVenue, secret: str) -> None:
    with pytest.raises(InvalidInput, check=lambda error: error.field in ("api_key", "api_secret")):
        connect(trader, venue.add_account("anna", WALLETS), api_secret=secret)
    assert stored() == 0


def test_the_same_key_is_not_connected_twice(trader: User, venue: FakeVenue) -> None:
    key = venue.add_account("anna", WALLETS)
    connect(trader, key)
    with refusal("key_known", "api_key"):
        connect(trader, key, "Again")


def test_a_key_of_somebody_elses_is_no_secret_told_f52(venue: FakeVenue, db: None) -> None:
    key = venue.add_account("anna", WALLETS)
    for email in ("a@example.com", "b@example.com"):
        person = UserFactory(email=email)
        with acting_for(person):
            assert connect(person, key).owner_id == person.pk


def test_f57_replaced_keys_are_used_from_the_next_request(trader: User, venue: FakeVenue) -> None:
    old = venue.add_account("anna", WALLETS)
    account = connect(trader, old)
    before = venue_of(account)
    new = venue.add_key("anna")

    credentials.replace_keys(account, trader.email, credentials.read_keys("coinbase", new.name, new.secret))
    venue.control.revoke(old.name)

    row = ExchangeCredential.objects.get(account=account)
    assert row.version == 2
    assert venue_of(account) is not before
    assert "USD" in venue_of(account).balances()


def test_f57_a_version_never_repeats_after_keys_were_removed(trader: User, venue: FakeVenue) -> None:
    account = connect(trader, venue.add_account("anna", WALLETS))
    credentials.remove_keys(account, trader.email)
    with pytest.raises(VenueDenied):
        venue_of(account)

    new = venue.add_key("anna")
    credentials.replace_keys(account, trader.email, credentials.read_keys("coinbase", new.name, new.secret))

    assert ExchangeCredential.objects.get(account=account).version == 3


def test_removing_keys_disarms_the_account(trader: User, venue: FakeVenue) -> None:
    account = connect(trader, venue.add_account("anna", WALLETS))
    Account.objects.filter(pk=account.pk).update(trading_state="armed")

    credentials.remove_keys(account, trader.email)

    account.refresh_from_db()
    assert account.trading_state == "read_only"
    assert not ExchangeCredential.objects.filter(account=account).exists()


def test_keys_of_another_portfolio_do_not_take_over_open_deals(trader: User, venue: FakeVenue) -> None:
    account = connect(trader, venue.add_account("anna", WALLETS))
    PositionFactory(account=account, bot=None, open=True)
    other = venue.add_account("ben", WALLETS)

    with refusal("other_portfolio", "api_key"):
        credentials.replace_keys(account, trader.email, credentials.read_keys("coinbase", other.name, other.secret))
    assert ExchangeCredential.objects.get(account=account).version == 1


def test_a_check_keeps_what_the_venue_says_now(trader: User, venue: FakeVenue) -> None:
    key = venue.add_account("anna", WALLETS)
    account = connect(trader, key)
    venue.keyring.keys[key.name].can_transfer = True
    assert credentials.check_again(account, trader.email).can_withdraw

    venue.control.revoke(key.name)
    row = credentials.check_again(account, trader.email)
    assert "does not take this key" in row.problem


def test_checks_are_limited(trader: User, venue: FakeVenue) -> None:
    account = connect(trader, venue.add_account("anna", WALLETS))
    for _ in range(credentials.CHECKS - 1):
        credentials.check_again(account, trader.email)
    with refusal("too_many_checks", None):
        credentials.check_again(account, trader.email)


def test_only_the_owner_handles_keys(trader: User, venue: FakeVenue) -> None:
    account = connect(trader, venue.add_account("anna", WALLETS))
    stranger = UserFactory()
    with detached("test"), acting_for(stranger):
        for act in (credentials.remove_keys, credentials.check_again):
            with pytest.raises(TradebotError, check=lambda error: error.code == "no_account"):
                act(account, stranger.email)
    assert ExchangeCredential.objects.filter(account=account).exists()


def test_audit_entries_carry_no_secret(trader: User, venue: FakeVenue) -> None:
    key = venue.add_account("anna", WALLETS)
    account = connect(trader, key)
    credentials.check_again(account, trader.email)
    credentials.remove_keys(account, trader.email)

    entries = str(list(AuditEntry.objects.values()))
    assert {"exchange_connected", "keys_checked", "keys_removed"} <= set(
        AuditEntry.objects.values_list("action", flat=True)
    )
    assert key.name not in entries
    assert not any(line in entries for line in key.secret.splitlines()[1:-1])
