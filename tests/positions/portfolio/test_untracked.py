"""Where coins came from that no deal explains, and leaving them out of the value."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import Account, LeftOut, Membership
from positions.portfolio import untracked
from positions.portfolio.holdings import holdings_of
from tests.factories import (
    BotFactory,
    MembershipFactory,
    PositionFactory,
    ProductFactory,
    TransferFactory,
    UnmatchedFillFactory,
    UserFactory,
)
from tests.positions.portfolio.listing import LIVE, exchange_account, listed
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import acting_for_account, detached

pytestmark = pytest.mark.django_db
D = Decimal


def explained(account: Account) -> untracked.Explained:
    with acting_for_account(account.pk):
        return untracked.explain(holdings_of([account]))[0]


def test_the_books_say_where_a_coin_came_from(moment: Any) -> None:
    account = exchange_account(ADA=100)
    listed(ADA_USD=2)
    ada = ProductFactory(exchange=LIVE, symbol="ADA-USD")
    bot = BotFactory(account=account)
    PositionFactory(bot=bot, product=ada, open=True, base_held=D(20))
    PositionFactory(bot=bot, product=ada, status="cancelled", closed_at=moment, base_held=D(10))
    TransferFactory(account=account, currency="ADA", amount=D(40))
    TransferFactory(account=account, currency="ADA", amount=D(-15))
    UnmatchedFillFactory(account=account, symbol="ADA-USD", base=D(30))
    UnmatchedFillFactory(account=account, symbol="ADA-USD", side="sell", base=D(7))
    UnmatchedFillFactory(account=account, symbol="ADA-USD-PERP", base=D(500))  # moves no coins
    UnmatchedFillFactory(account=account, symbol="linear:ADAPERP", base=D(500))
    found = explained(account)
    assert (found.currency, found.amount) == ("ADA", 80)
    assert (found.kept, found.transferred, found.traded) == (10, 25, 23)
    assert found.unexplained == 22


def test_what_left_explains_nothing(moment: Any) -> None:
    account = exchange_account(ADA=100)
    listed(ADA_USD=2)
    TransferFactory(account=account, currency="ADA", amount=D(-40))
    assert explained(account).unexplained == 100


def test_it_costs_nothing_where_there_is_nothing_to_explain(moment: Any, django_assert_num_queries: Any) -> None:
    plain, full = exchange_account(USD=5), exchange_account(ADA=1, LTC=2, XYZ=3)
    with acting_for_account(plain.pk), django_assert_num_queries(0):
        rows = []
        assert untracked.explain(rows) == []
    with acting_for_account(full.pk):
        rows = holdings_of([full])
        with django_assert_num_queries(3):
            assert len(untracked.explain(rows)) == 3


# Leaving out ----------------------------------------------------------------------------------------------------------


def test_leaving_a_coin_out_is_written_down_and_can_be_taken_back() -> None:
    account = exchange_account(XYZ=5)
    with acting_for(account.owner):
        first = untracked.leave_out(account, "xyz ", account.owner.email)
        assert untracked.leave_out(account, "XYZ", account.owner.email) == first
        assert LeftOut.objects.get().currency == "XYZ"
        untracked.set_left_out(account, "XYZ", False, account.owner.email)
        untracked.set_left_out(account, "XYZ", False, account.owner.email)
        assert not LeftOut.objects.exists()
        acts = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert acts == ["currency_left_out", "currency_counted_again"]


def test_only_those_who_may_change_the_account_leave_out() -> None:
    account, observer = exchange_account(XYZ=5), UserFactory()
    MembershipFactory(account=account, user=observer, role=Membership.Role.OBSERVER)
    for person in (observer, UserFactory()):
        with acting_for(person), pytest.raises(NotFound):
            untracked.leave_out(account, "XYZ", person.email)
    with detached("test looks"):
        assert not LeftOut.objects.exists()


@pytest.mark.parametrize("currency", ["", "A B", "X" * 21, "<b>"])
def test_what_is_no_currency_is_refused(currency: str) -> None:
    account = exchange_account(XYZ=5)
    with acting_for(account.owner), pytest.raises(InvalidInput):
        untracked.leave_out(account, currency, account.owner.email)
