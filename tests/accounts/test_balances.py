"""Balances are looked up by account, and what is not known is absent."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.balances import balances_of, free_balance
from accounts.exchanges.base import Balance
from accounts.models import Account
from tests.accounts.helpers import D
from tests.factories import AccountFactory, PaperBalanceFactory
from tradebot.core.errors import MissingInformation
from tradebot.core.scoping import UnscopedQuery, acting_for_account, acting_for_accounts

pytestmark = pytest.mark.django_db


def test_f47_every_balance_is_under_its_own_account() -> None:
    first, second = AccountFactory(balances={"USD": 10}), AccountFactory(balances={"USD": 20, "BTC": 1})
    with acting_for_accounts([first.pk, second.pk]):
        assert balances_of([first.pk, second.pk]) == {
            first.pk: {"USD": Balance("USD", D(10), D(0))},
            second.pk: {"USD": Balance("USD", D(20), D(0)), "BTC": Balance("BTC", D(1), D(0))},
        }


def test_f34_an_unknown_balance_is_absent_and_no_zero() -> None:
    mine, theirs = AccountFactory(), AccountFactory(balances={"USD": 20})
    venue = AccountFactory(owner=mine.owner, kind=Account.Kind.EXCHANGE, exchange="coinbase")
    with acting_for_accounts([mine.pk, venue.pk]):
        assert balances_of([mine.pk, venue.pk, theirs.pk]) == {mine.pk: {}}
        assert free_balance(mine, "USD") == D(0)
        for unknown in (venue, theirs):
            with pytest.raises(MissingInformation) as caught:
                free_balance(unknown, "USD")
            assert caught.value.code == "balance_unknown"


def test_what_orders_hold_is_not_free() -> None:
    row = PaperBalanceFactory(total=D(100), held=D(30))
    with acting_for_account(row.account_id):
        assert free_balance(row.account, "USD") == D(70)


def test_balances_cost_two_queries_for_any_number_of_accounts(django_assert_num_queries: Any) -> None:
    ids = [AccountFactory(balances={"USD": 1, "BTC": 1}).pk for _ in range(5)]
    with acting_for_accounts(ids), django_assert_num_queries(2):
        assert len(balances_of(ids)) == 5


def test_balances_need_a_scope() -> None:
    account = AccountFactory()
    with pytest.raises(UnscopedQuery):
        balances_of([account.pk])
