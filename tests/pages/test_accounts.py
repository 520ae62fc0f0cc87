"""The account pages: making, funding, resetting, sharing, and keeping others out."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Account, Membership, PaperBalance, PaperEntry, PaperTerms, User
from tests.factories import (
    AccountFactory,
    BotFactory,
    MembershipFactory,
    PaperEntryFactory,
    PositionFactory,
    UserFactory,
)
from tests.pages.markup import offences, text
from tradebot.core.scoping import all_accounts

ACTS = {
    "account_deposit": {"currency": "USD", "amount": "1"},
    "account_withdraw": {"currency": "USD", "amount": "1"},
    "account_reset": {"name": "Practice"},
    "account_terms": {"maker_fee_pct": "0", "taker_fee_pct": "0", "slippage_pct": "0", "fee_currency": "quote"},
    "account_rename": {"name": "Mine now"},
    "account_default": {},
    "account_archive": {},
    "account_share": {"email": "x@example.com", "role": "manager"},
}


def total(account: Account, currency: str) -> Decimal:
    with all_accounts("looking"):
        row = PaperBalance.objects.filter(account=account, currency=currency).first()
    return row.total if row else Decimal(0)


def test_a_new_paper_account_starts_with_money(browser: Client, trader: User) -> None:
    response = browser.post(reverse("account_new"), {"name": "Second", "exchange": "simulated"}, follow=True)

    assert "Second is ready." in text(response)
    assert "100\u2009000.00" in text(response)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"name": "", "exchange": "simulated"}, "This field is required."),
        ({"name": "Practice", "exchange": "simulated"}, "You have an account named Practice already."),
        ({"name": "Other", "exchange": "moon"}, "Select a valid choice."),
    ],
)
def test_a_new_account_that_cannot_be_made_says_why_at_its_field(
    browser: Client, account: Account, data: dict[str, str], complaint: str
) -> None:
    response = browser.post(reverse("account_new"), data)

    assert response.status_code == 422
    assert complaint in text(response).replace("&#x27;", "'")


def test_the_account_page_shows_balances_journal_and_costs(browser: Client, account: Account) -> None:
    page = browser.get(reverse("account", args=[account.pk]))

    assert offences(page) == []
    assert "1\u2009000.00" in text(page)
    assert "0.50000000" in text(page)
    assert "Deposit" in text(page)
    assert 'value="0.6"' in text(page)


def test_money_is_put_in_and_taken_out(browser: Client, account: Account) -> None:
    browser.post(reverse("account_deposit", args=[account.pk]), {"currency": "usd", "amount": "1 500.25"})
    assert total(account, "USD") == Decimal("2500.25")

    page = browser.post(
        reverse("account_withdraw", args=[account.pk]), {"currency": "USD", "amount": "500.25"}, follow=True
    )
    assert total(account, "USD") == Decimal(2000)
    assert "Took out 500.25 USD." in text(page)


@pytest.mark.parametrize("amount", ["0", "-5", "NaN", "Infinity", "1e400", "9" * 30, "a lot", ""])
def test_f23_amounts_that_are_none_are_refused_at_the_field(browser: Client, account: Account, amount: str) -> None:
    response = browser.post(reverse("account_deposit", args=[account.pk]), {"currency": "USD", "amount": amount})

    assert response.status_code == 422
    assert response.context["deposit_form"].errors["amount"]
    assert total(account, "USD") == Decimal(1000)


def test_more_than_is_free_cannot_be_taken_out(browser: Client, account: Account) -> None:
    response = browser.post(reverse("account_withdraw", args=[account.pk]), {"currency": "USD", "amount": "1000.01"})

    assert response.status_code == 422
    assert "At most 1000 USD can be taken out" in text(response)


def test_a_reset_wants_the_accounts_name_typed(browser: Client, account: Account) -> None:
    address = reverse("account_reset", args=[account.pk])

    refused = browser.post(address, {"name": "practice"})
    assert refused.status_code == 422
    assert total(account, "USD") == Decimal(1000)

    assert browser.post(address, {"name": "Practice"}).status_code == 302
    assert total(account, "USD") == Decimal(100_000)


def test_an_account_with_an_open_deal_is_not_reset(browser: Client, account: Account) -> None:
    PositionFactory(bot=BotFactory(account=account), open=True)

    response = browser.post(reverse("account_reset", args=[account.pk]), {"name": "Practice"})

    assert response.status_code == 422
    assert "Close or cancel its deals first" in text(response)


def test_fees_and_slippage_are_saved(browser: Client, account: Account) -> None:
    data = {"maker_fee_pct": "0.1", "taker_fee_pct": "0.2", "slippage_pct": "0", "fee_currency": "base"}

    assert browser.post(reverse("account_terms", args=[account.pk]), data).status_code == 302

    with all_accounts("looking"):
        terms = PaperTerms.objects.get(account=account)
    assert (terms.maker_fee_pct, terms.taker_fee_pct, terms.slippage_pct) == (Decimal("0.1"), Decimal("0.2"), 0)
    assert terms.fee_currency == "base"


def test_a_fee_above_five_percent_is_refused_at_its_field(browser: Client, account: Account) -> None:
    data = {"maker_fee_pct": "0.1", "taker_fee_pct": "6", "slippage_pct": "0", "fee_currency": "quote"}

    response = browser.post(reverse("account_terms", args=[account.pk]), data)

    assert response.status_code == 422
    assert "taker_fee_pct" in response.context["terms_form"].errors


def test_renaming_making_default_and_archiving(browser: Client, account: Account) -> None:
    other = AccountFactory(owner=account.owner, name="Second")

    browser.post(reverse("account_rename", args=[other.pk]), {"name": "Third"})
    browser.post(reverse("account_default", args=[other.pk]))
    with all_accounts("looking"):
        other.refresh_from_db()
    assert (other.name, other.is_default) == ("Third", True)

    browser.post(reverse("account_archive", args=[other.pk]), follow=True)
    assert "Third" not in text(browser.get(reverse("accounts")))


def test_the_only_account_is_not_archived(browser: Client, account: Account) -> None:
    browser.post(reverse("account_archive", args=[account.pk]))

    with all_accounts("looking"):
        account.refresh_from_db()
    assert account.archived_at is None


def test_f54_somebody_elses_account_is_not_there(browser: Client, account: Account) -> None:
    foreign = AccountFactory(name="Practice")

    assert browser.get(reverse("account", args=[foreign.pk])).status_code == 404


@pytest.mark.parametrize(("name", "data"), ACTS.items())
@pytest.mark.parametrize("role", [None, Membership.Role.OBSERVER])
def test_f54_others_cannot_act_on_an_account(
    browser: Client, trader: User, name: str, data: dict[str, str], role: str | None
) -> None:
    foreign = AccountFactory(name="Practice", balances={"USD": 10})
    if role:
        MembershipFactory(account=foreign, user=trader, role=role)

    assert browser.post(reverse(name, args=[foreign.pk]), data).status_code == 404
    with all_accounts("looking"):
        assert PaperEntry.objects.filter(account=foreign).count() == 1
        foreign.refresh_from_db()
    assert (foreign.name, foreign.archived_at) == ("Practice", None)


@pytest.mark.parametrize("name", ACTS)
def test_acts_take_no_get(browser: Client, account: Account, name: str) -> None:
    assert browser.get(reverse(name, args=[account.pk])).status_code == 405


def test_an_observer_sees_the_account_without_its_forms(browser: Client, trader: User) -> None:
    fund = AccountFactory(name="Family fund", balances={"USD": 5})
    MembershipFactory(account=fund, user=trader)

    page = text(browser.get(reverse("account", args=[fund.pk])))

    assert "Family fund" in page
    assert reverse("account_deposit", args=[fund.pk]) not in page
    assert "Leave it" in page


def test_an_account_is_shared_and_the_share_ended(browser: Client, account: Account) -> None:
    friend = UserFactory(email="mara@example.com", verified=True)

    browser.post(reverse("account_share", args=[account.pk]), {"email": "mara@example.com", "role": "observer"})
    assert "mara@example.com" in text(browser.get(reverse("account", args=[account.pk])))

    browser.post(reverse("account_revoke", args=[account.pk, friend.pk]))
    assert "mara@example.com" not in text(browser.get(reverse("account", args=[account.pk])))


def test_f52_the_page_does_not_say_whether_an_address_is_somebodys(browser: Client, account: Account) -> None:
    UserFactory(email="confirmed@example.com", verified=True)
    UserFactory(email="unconfirmed@example.com")
    address, said = reverse("account_share", args=[account.pk]), []
    for email in ("confirmed@example.com", "unconfirmed@example.com", "nobody@example.com"):
        response = browser.post(address, {"email": email, "role": "observer"}, follow=True)
        said.append((response.redirect_chain, [str(message) for message in response.context["messages"]]))

    assert said[0] == said[1] == said[2]
    assert said[0][1] == ["If that address belongs to a confirmed person here, they now see the account."]


def test_a_shared_account_is_left(browser: Client, trader: User) -> None:
    fund = AccountFactory(name="Family fund")
    MembershipFactory(account=fund, user=trader)
    assert reverse("account_leave", args=[fund.pk]) in text(browser.get(reverse("account", args=[fund.pk])))

    response = browser.post(reverse("account_leave", args=[fund.pk]), follow=True)

    assert "You have left Family fund." in text(response)
    assert browser.get(reverse("account", args=[fund.pk])).status_code == 404
    assert browser.post(reverse("account_leave", args=[fund.pk])).status_code == 404


def test_ones_own_account_is_not_left(browser: Client, account: Account) -> None:
    response = browser.post(reverse("account_leave", args=[account.pk]), follow=True)

    assert "cannot be left" in text(response)


def test_a_long_journal_is_paged_at_the_same_cost(browser: Client, account: Account) -> None:
    address = reverse("account", args=[account.pk])

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(address).status_code == 200
        return len(queries)

    browser.get(address)
    before = cost()
    for _ in range(60):
        PaperEntryFactory(account=account)

    assert cost() == before
    assert "?page=2" in text(browser.get(address))
    assert browser.get(address, {"page": "999"}).context["page"].number == 2
