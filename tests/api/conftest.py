"""Fixtures of the API tests: people with clients, and a shared account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from rest_framework.test import APIClient

from accounts.models import Account, Membership, User
from tests.factories import AccountFactory, MembershipFactory, PaperTermsFactory, UserFactory

ClientOf = Callable[[User], APIClient]


@pytest.fixture
def client_of() -> ClientOf:
    """Return a browser-like client of a person: signed in by session, with CSRF checks as in real life left out."""

    def make(user: User) -> APIClient:
        client = APIClient()
        client.force_login(user)
        return client

    return make


@dataclass
class People:
    """Ann owns an account; Olga observes it, Max manages it; Bob has nothing to do with it."""

    ann: User
    bob: User
    max: User
    olga: User
    account: Account


def make_people() -> People:
    ann, bob, manager, observer = UserFactory.create_batch(4)
    account = AccountFactory(owner=ann, is_default=True, balances={"USD": 10_000, "BTC": 1})
    PaperTermsFactory(account=account)
    AccountFactory(owner=bob)
    MembershipFactory(account=account, user=manager, role=Membership.Role.MANAGER)
    MembershipFactory(account=account, user=observer, role=Membership.Role.OBSERVER)
    return People(ann, bob, manager, observer, account)


@pytest.fixture
def people(db: None) -> People:
    return make_people()
