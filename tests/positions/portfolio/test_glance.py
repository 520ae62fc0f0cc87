"""The figure in the top bar: kept for a moment, by kind and account, and for nobody else (F47)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache

from accounts.access import acting_for
from accounts.models import Account
from positions.portfolio import glance
from tests.factories import AccountFactory, UserFactory, fund
from tests.marketdata.conftest import venue  # noqa: F401 (a fixture)
from tests.marketdata.venue import Venue, product_row
from tests.positions.portfolio.listing import exchange_account, listed
from tradebot.core.scoping import ForeignRow, acting_for_account, acting_for_accounts

pytestmark = pytest.mark.django_db


def glanced(account: Account, **options: Any) -> Decimal | None:
    with acting_for_account(account.pk):
        return glance.worth_at_a_glance([account], "USD", **options).amount


def test_f47_account_7_and_user_7_cannot_collide(moment: Any) -> None:
    """A key names what it keeps and whose: the number alone would be the account's and the user's."""
    seven = UserFactory(id=7)
    account = AccountFactory(id=7, owner=UserFactory(id=8), balances={"USD": 7_134_271})
    mine = AccountFactory(id=9, owner=seven, balances={"USD": 5})
    assert glanced(account) == 7_134_271
    assert cache.get("worth:account:7") is not None
    assert glance.key(7) == "worth:account:7"
    with acting_for(seven):
        assert glance.worth_at_a_glance([mine], "USD").amount == 5
        with pytest.raises(ForeignRow):
            glance.worth_at_a_glance([account], "USD")


def test_f47_another_persons_kept_figure_is_never_shown(moment: Any) -> None:
    foreign, mine = AccountFactory(balances={"USD": 7_134_271}), AccountFactory(balances={"USD": 5})
    glanced(foreign)
    with acting_for(mine.owner):
        with pytest.raises(ForeignRow):
            glance.worth_at_a_glance([mine, foreign], "USD")
        with pytest.raises(ForeignRow):
            glance.worth_at_a_glance([foreign], "BTC")
        assert glance.worth_at_a_glance([mine], "USD").amount == 5


def test_it_is_kept_for_a_moment(moment: Any, django_assert_num_queries: Any) -> None:
    account = AccountFactory(balances={"USD": 100})
    assert glanced(account) == 100
    fund(account, USDC=50)
    with acting_for_account(account.pk), django_assert_num_queries(0):
        assert glance.worth_at_a_glance([account], "USD").amount == 100
    cache.clear()
    found = glanced(account)
    assert found is not None
    assert 149 < found < 151


def test_accounts_are_added_up_from_what_is_kept_and_what_is_not(moment: Any) -> None:
    one, other = AccountFactory(balances={"USD": 100}), AccountFactory(balances={"USD": 20})
    glanced(one)
    with acting_for_accounts([one.pk, other.pk]):
        assert glance.worth_at_a_glance([one, other], "USD").amount == 120


def test_f34_what_is_not_known_for_certain_is_not_shown(moment: Any) -> None:
    account = exchange_account(USD=100, XYZ=1)
    listed(BTC_USD=50_000)
    assert glanced(account) is None
    assert glanced(account) is None  # nor when that is what was kept


def test_only_the_top_bars_renewal_asks_a_market(venue: Venue, moment: Any) -> None:  # noqa: F811
    account = exchange_account(BTC=1)
    venue.products = [product_row("BTC-USD", price="50000")]
    assert glanced(account) is None
    assert venue.asked == []
    assert glanced(account, ask=True) == 50_000
    assert glanced(account) == 50_000
    assert len(venue.asked) == 1


def test_rubbish_in_the_cache_is_worked_out_anew(moment: Any) -> None:
    account = AccountFactory(balances={"USD": 100})
    for rubbish in ("", "{", "[]", '{"USD": "x"}'):
        cache.set(glance.key(account.pk), rubbish)
        assert glanced(account) == 100
