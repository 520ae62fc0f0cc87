"""Somebody who is signed in, with a paper account."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import Account, User
from tests.factories import AccountFactory, PaperTermsFactory, UserFactory


@pytest.fixture
def trader(db: None) -> User:
    return UserFactory(email="trader@example.com", timezone="Europe/Berlin", verified=True)


@pytest.fixture
def account(trader: User) -> Account:
    found = AccountFactory(owner=trader, name="Practice", is_default=True, balances={"USD": 1000, "BTC": "0.5"})
    PaperTermsFactory(account=found)
    return found


@pytest.fixture
def browser(client: Client, trader: User) -> Client:
    client.force_login(trader)
    return client
