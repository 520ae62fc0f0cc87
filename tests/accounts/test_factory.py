"""Whose keys a client is made of, how long it is kept, and what is loaded for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from accounts.exchanges import connectable, factory
from accounts.exchanges.factory import retire, venue_of
from accounts.models import Account, ExchangeCredential
from marketdata.wire.venues import LIVE
from tests.accounts.live import buy, fake_venue, live_account, ref_of, venue_for
from tests.factories import AccountFactory
from tests.venue.keys import make_key
from tests.venue.server import FakeVenue
from tradebot.core.crypto import Secret
from tradebot.core.errors import MissingInformation, VenueDenied
from tradebot.core.scoping import acting_for_account, detached
from tradebot.core.words import OrderStatus
from tradebot.runtime.environment import ROOT

pytestmark = pytest.mark.django_db


@pytest.fixture
def fake() -> Iterator[FakeVenue]:
    with fake_venue() as venue:
        yield venue


def change_keys(account: Account, key: Any) -> None:
    """What the service does that changes keys: the row, and its version."""
    with detached("test"):
        row = ExchangeCredential.objects.get(account=account)
        row.api_key, row.api_secret = Secret(key.name), Secret(key.secret)
        row.version += 1
        row.save()


def test_a_client_is_kept_as_long_as_the_keys_are_the_accounts(fake):
    account = live_account(fake.add_account("ann", {"USD": "1"}))
    assert venue_for(account) is venue_for(account)


def test_f57_changed_keys_make_a_new_client_even_where_nobody_was_told(fake):
    account = live_account(fake.add_account("ann", {"USD": "1"}))
    before = venue_for(account)
    assert before.balances()["USD"].total == 1
    other = fake.add_account("ben", {"USD": "2"})
    change_keys(account, other)  # another process did it: nobody calls retire() here
    after = venue_for(account)
    assert after is not before
    assert after.balances()["USD"].total == 2
    assert {seen.account for seen in fake.requests if seen.path.endswith("/accounts")} == {"ann", "ben"}


def test_f57_without_keys_there_is_no_client_and_no_old_one(fake):
    account = live_account(fake.add_account("ann", {"USD": "1"}))
    venue_for(account)
    with detached("test"):
        ExchangeCredential.objects.filter(account=account).delete()
    with pytest.raises(VenueDenied) as caught:
        venue_for(account)
    assert caught.value.code == "no_keys"
    assert not any(key[0] == account.pk for key in factory._clients)


def test_retired_clients_are_forgotten(fake):
    account = live_account(fake.add_account("ann", {"USD": "1"}))
    before = venue_for(account)
    retire(account.pk)
    assert venue_for(account) is not before


def test_f49_f50_each_account_asks_with_its_own_keys(fake):
    ann = live_account(fake.add_account("ann", {"USD": "1"}))
    ben = live_account(fake.add_account("ben", {"USD": "2"}))
    assert venue_for(ben).balances()["USD"].total == 2
    assert venue_for(ann).balances()["USD"].total == 1
    with acting_for_account(ann.pk), pytest.raises(VenueDenied):
        venue_of(ben)  # whoever acts for ann has no keys of ben's


def test_an_account_without_keys_gets_nobodys(fake):
    live_account(fake.add_account("ann", {"USD": "1"}))
    bare = AccountFactory(kind=Account.Kind.EXCHANGE, exchange="coinbase")
    with pytest.raises(VenueDenied) as caught:
        venue_for(bare)
    assert caught.value.code == "no_keys"
    assert not fake.requests


def test_an_exchange_we_do_not_speak_to_is_named():
    with pytest.raises(MissingInformation) as caught:
        venue_for(AccountFactory(kind=Account.Kind.EXCHANGE, exchange="nowhere"))
    assert caught.value.code == "venue_unsupported"


def test_threads_get_one_client(fake, shared_database):
    account = live_account(fake.add_account("ann", {"USD": "1"}))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: venue_for_closing(account), range(16)))
    assert len({id(venue) for venue in made}) == 1


def venue_for_closing(account: Account) -> Any:
    from django.db import connection

    try:
        return venue_for(account)
    finally:
        connection.close()


def test_only_so_many_clients_are_kept(fake, monkeypatch):
    monkeypatch.setattr(factory, "MOST_CLIENTS", 2)
    accounts = [live_account(fake.add_account(f"person {n}", {"USD": "1"})) for n in range(3)]
    first = venue_for(accounts[0])
    for account in accounts[1:]:
        venue_for(account)
    assert len(factory._clients) == 2
    assert venue_for(accounts[0]) is not first


def test_f59_limits_fees_and_open_orders_outlive_the_process(fake):
    """What paper had to learn, the live venue does too: a resting order is there after a restart, fills at its limit
    and pays its fee."""
    from decimal import Decimal

    account = live_account(fake.add_account("ann", {"USD": "10000"}))
    order = buy(base_size=Decimal("0.01"), limit_price=Decimal(50000))
    placed = venue_for(account).place(order)
    factory.forget()
    venue = venue_for(account)
    assert [row.client_order_id for row in venue.open_orders()] == [order.client_order_id]
    fake.control.set_price("BTC-USD", "49000")
    report = venue.find(ref_of(order))
    assert (report.venue_order_id, report.status) == (placed.venue_order_id, OrderStatus.FILLED)
    assert [(trade.price, trade.fee) for trade in report.trades] == [(Decimal(50000), Decimal("2"))]


def test_keys_that_cannot_sign_are_the_persons_to_mend(fake):
    key = make_key("ann")
    key.secret = "not a key"
    with pytest.raises(VenueDenied) as caught:
        venue_for(live_account(key)).balances()
    assert caught.value.code == "keys_unreadable"
    assert "not a key" not in repr(caught.value) + str(caught.value.detail)


def test_every_exchange_says_what_it_offers_and_needs():
    listed = connectable.offered()
    assert [venue.slug for venue in listed] == list(LIVE)
    for venue in listed:
        assert {field.name for field in venue.key_fields} <= {"api_key", "api_secret", "passphrase"}
        assert venue.wants_passphrase == venue.capabilities.needs_passphrase
        assert venue.capabilities.name == venue.name
        assert connectable.offered_as(venue.slug) == venue


def test_the_document_has_the_table_that_the_code_makes():
    assert connectable.table() in (ROOT / "docs" / "venues.md").read_text()


def test_ccxt_is_loaded_when_the_first_live_client_is_made_and_not_before():
    code = (
        "import os, sys; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'tradebot.settings');"
        "import django; django.setup();"
        "import accounts.exchanges.factory, accounts.exchanges.connectable, accounts.exchanges.ccxt.venue;"
        "import marketdata.sources, marketdata.sources.exchange, bots.engine, tradebot.urls;"
        "from marketdata import sources; sources.get('kraken');"
        "assert 'ccxt' not in sys.modules, 'loaded too early';"
        "from marketdata.wire.client import client_of;"
        "client_of('kraken', 'http://127.0.0.1:1', default_url='https://api.kraken.com');"
        "assert 'ccxt' in sys.modules"
    )
    environment = {"DEBUG": "1", "DATABASE_URL": "sqlite://:memory:", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
