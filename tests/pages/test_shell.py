"""What surrounds every page: who may see it, which money moves, which account is in view."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Account, Membership, User
from tests.factories import AccountFactory, BotFactory, MembershipFactory, PositionFactory, ProductFactory, UserFactory
from tests.pages.markup import offences, text
from tradebot.core.scoping import all_accounts

OWN_PAGES = ["dashboard", "accounts", "account_new", "settings", "settings_security", "settings_api"]
SIGN_IN_PAGES = ["account_login", "account_signup", "account_reset_password"]
SECURITY_PAGES = [
    "account_change_password",
    "account_email",
    "account_logout",
    "mfa_index",
    "mfa_list_webauthn",
    "usersessions_list",
]


@pytest.mark.parametrize("name", OWN_PAGES)
def test_pages_ask_strangers_to_sign_in(client: Client, db: None, name: str) -> None:
    response = client.get(reverse(name))

    assert response.status_code == 302
    assert response["Location"].startswith(reverse("account_login"))


@pytest.mark.parametrize("name", [*OWN_PAGES, *SECURITY_PAGES])
def test_pages_hold_nothing_that_the_policy_refuses(browser: Client, account: Account, name: str) -> None:
    response = browser.get(reverse(name))

    assert response.status_code == 200
    assert offences(response) == []
    assert "script-src 'self'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("name", SIGN_IN_PAGES)
def test_sign_in_pages_hold_nothing_that_the_policy_refuses(client: Client, db: None, name: str) -> None:
    response = client.get(reverse(name))

    assert response.status_code == 200
    assert offences(response) == []


def test_navigation_leads_to_pages_that_exist(browser: Client, account: Account) -> None:
    page = browser.get(reverse("dashboard"))

    for group in page.context["shell"].nav:
        for entry in group.entries:
            assert browser.get(entry.href).status_code == 200, entry.name


def test_strip_says_that_paper_money_moves(browser: Client, account: Account) -> None:
    browser.post(reverse("switch_account"), {"account": account.pk})

    page = text(browser.get(reverse("accounts")))

    assert '<div class="strip paper"' in page
    assert "<b>Practice</b>" in page


def test_strip_warns_of_live_money_when_a_live_account_is_in_view(browser: Client, account: Account) -> None:
    live = AccountFactory(owner=account.owner, name="Coinbase main", kind=Account.Kind.EXCHANGE, exchange="coinbase")

    assert '<div class="strip live"' in text(browser.get(reverse("accounts")))

    browser.post(reverse("switch_account"), {"account": live.pk})
    assert "Orders here use real money." in text(browser.get(reverse("accounts")))


def test_pages_say_that_the_market_is_simulated(browser: Client, account: Account) -> None:
    assert "Simulated market." in text(browser.get(reverse("accounts")))


def test_pages_say_that_coinbase_has_no_fresh_prices(browser: Client, trader: User) -> None:
    AccountFactory(owner=trader, exchange="coinbase")

    assert "Coinbase: No prices yet." in text(browser.get(reverse("accounts")))


def test_the_switcher_returns_to_the_page_it_was_on(browser: Client, account: Account) -> None:
    response = browser.post(reverse("switch_account"), {"account": account.pk, "next": "/accounts/"})

    assert response["Location"] == "/accounts/"


@pytest.mark.parametrize("elsewhere", ["https://example.org/", "//example.org/", "javascript:alert(1)", ""])
def test_the_switcher_leads_nowhere_else(browser: Client, account: Account, elsewhere: str) -> None:
    response = browser.post(reverse("switch_account"), {"account": account.pk, "next": elsewhere})

    assert response["Location"] == reverse("dashboard")


@pytest.mark.parametrize("wanted", ["999999", "nonsense"])
def test_switching_to_what_is_not_there_is_404(browser: Client, account: Account, wanted: str) -> None:
    assert browser.post(reverse("switch_account"), {"account": wanted}).status_code == 404


def test_somebody_elses_account_cannot_be_looked_at(browser: Client, account: Account) -> None:
    foreign = AccountFactory(name="Not yours")

    assert browser.post(reverse("switch_account"), {"account": foreign.pk}).status_code == 404
    assert "Not yours" not in text(browser.get(reverse("dashboard")))


def test_a_shared_account_is_offered_with_its_owner_and_role(browser: Client, account: Account) -> None:
    fund = AccountFactory(owner=UserFactory(email="mara@example.com"), name="Family fund")
    MembershipFactory(account=fund, user=account.owner, role=Membership.Role.OBSERVER)

    page = text(browser.get(reverse("accounts")))

    assert "Family fund" in page
    assert "mara@example.com · observer" in page


def test_an_account_that_is_no_longer_shared_falls_back_to_all(browser: Client, account: Account) -> None:
    fund = AccountFactory(name="Family fund")
    share = MembershipFactory(account=fund, user=account.owner)
    browser.post(reverse("switch_account"), {"account": fund.pk})
    with all_accounts("the owner ends the share"):
        share.delete()

    assert "All my accounts" in text(browser.get(reverse("accounts")))


def test_the_deal_count_is_of_the_account_in_view(browser: Client, account: Account) -> None:
    PositionFactory(bot=BotFactory(account=account), open=True)
    PositionFactory(bot=BotFactory(account=AccountFactory(owner=account.owner)), open=True)

    assert 'title="2 open deals"' in text(browser.get(reverse("accounts")))

    browser.post(reverse("switch_account"), {"account": account.pk})
    assert 'title="1 open deal"' in text(browser.get(reverse("accounts")))


def test_the_theme_is_drawn_by_the_server(browser: Client, account: Account, trader: User) -> None:
    assert "data-theme-auto" in text(browser.get(reverse("accounts")))

    response = browser.post(reverse("theme"), {"theme": "dark", "next": "/accounts/"})

    assert response["Location"] == "/accounts/"
    page = text(browser.get(reverse("accounts")))
    assert 'data-bs-theme="dark"' in page
    assert "data-theme-auto" not in page


def test_an_unknown_theme_changes_nothing(browser: Client, trader: User) -> None:
    browser.post(reverse("theme"), {"theme": "plaid"})

    trader.refresh_from_db()
    assert trader.theme == User.Theme.AUTO


def test_administration_is_offered_to_staff_only(browser: Client, trader: User) -> None:
    assert "Administration" not in text(browser.get(reverse("accounts")))

    trader.is_staff = True
    trader.save()
    assert "Administration" in text(browser.get(reverse("accounts")))


def test_the_shell_costs_the_same_however_many_accounts_there_are(browser: Client, account: Account) -> None:
    def cost() -> int:
        cache.clear()
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(reverse("settings_security")).status_code == 200
        return len(queries)

    browser.get(reverse("settings_security"))
    before = cost()
    for _ in range(5):
        AccountFactory(owner=account.owner)
    assert cost() == before


@pytest.mark.parametrize("code", ["400", "403", "403_csrf", "404", "500"])
def test_error_pages_need_nothing_but_themselves(code: str) -> None:
    page = render_to_string(f"{code}.html")

    assert "<h1>" in page
    assert 'href="/"' in page


def test_what_is_not_there_says_so_in_our_look(browser: Client, account: Account) -> None:
    response = browser.get("/nothing-here/")

    assert response.status_code == 404
    assert "There is nothing here" in text(response)


def test_prices_and_the_deal_count_are_renewed(browser: Client, account: Account) -> None:
    PositionFactory(bot=BotFactory(account=account), open=True)
    ProductFactory(symbol="BTC-USD")

    fragment = text(browser.get(reverse("ticker")))

    assert 'data-tick="price-BTC-USD"' in fragment
    assert 'title="1 open deal" hx-swap-oob="true"' in fragment
    assert "<html" not in fragment
