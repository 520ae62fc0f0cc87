"""Profile, sign-in and the API token; signing in and up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Account, ApiToken, User
from accounts.tokens import digest_of
from tests.factories import PASSWORD
from tests.pages.markup import offences, text
from tradebot.core.models import AuditEntry, GlobalSettings
from tradebot.core.scoping import all_accounts


def test_zone_and_theme_are_kept(browser: Client, trader: User) -> None:
    response = browser.post(reverse("settings"), {"timezone": "Asia/Tokyo", "theme": "dark"})

    assert response.status_code == 302
    trader.refresh_from_db()
    assert (trader.timezone, trader.theme) == ("Asia/Tokyo", "dark")


def test_a_zone_that_does_not_exist_is_refused(browser: Client, trader: User) -> None:
    response = browser.post(reverse("settings"), {"timezone": "Moon/Base", "theme": "dark"})

    assert response.status_code == 422
    trader.refresh_from_db()
    assert trader.timezone == "Europe/Berlin"


def test_a_zone_that_this_machine_lost_counts_as_utc(browser: Client, trader: User, account: Account) -> None:
    User.objects.filter(pk=trader.pk).update(timezone="Gone/Zone")

    assert browser.get(reverse("dashboard")).status_code == 200


def test_f60_the_api_token_is_shown_once_and_revoked(browser: Client, trader: User) -> None:
    made = browser.post(reverse("settings_api"), {"action": "create"})
    token = made.context["shown"]
    assert token
    assert token in text(made)
    assert "no-store" in made["Cache-Control"]

    assert token not in text(browser.get(reverse("settings_api")))

    browser.post(reverse("settings_api"), {"action": "revoke"})
    with all_accounts("looking"):
        assert not ApiToken.objects.filter(user=trader).exists()
        actions = list(AuditEntry.objects.filter(user=trader).values_list("action", flat=True))
    assert {"api_token_made", "api_token_revoked"} <= set(actions)


def test_a_new_token_replaces_the_old_one(browser: Client, trader: User) -> None:
    before = browser.post(reverse("settings_api"), {"action": "create"}).context["shown"]

    after = browser.post(reverse("settings_api"), {"action": "create", "name": "My script", "days": "30"})

    with all_accounts("looking"):
        row = ApiToken.objects.get(user=trader)
    assert row.digest == digest_of(after.context["shown"]) != digest_of(before)
    assert abs(row.expires_at - row.created_at - timedelta(days=30)) < timedelta(seconds=5)
    page = text(browser.get(reverse("settings_api")))
    assert "My script" in page
    assert row.prefix in page


def test_a_token_for_a_time_that_is_not_offered_is_not_made(browser: Client, trader: User) -> None:
    assert browser.post(reverse("settings_api"), {"action": "create", "days": "9999"}).status_code == 422
    with all_accounts("looking"):
        assert not ApiToken.objects.filter(user=trader).exists()


def test_signing_in_leads_to_the_dashboard(client: Client, trader: User, account: Account) -> None:
    response = client.post(reverse("account_login"), {"login": trader.email, "password": PASSWORD})

    assert response["Location"] == "/"


def test_a_wrong_password_is_said_without_saying_which_part_is_wrong(client: Client, trader: User) -> None:
    known = client.post(reverse("account_login"), {"login": trader.email, "password": "wrong"})
    unknown = client.post(reverse("account_login"), {"login": "nobody@example.com", "password": "wrong"})

    assert "not correct" in text(known)
    assert list(known.context["form"].errors.values()) == list(unknown.context["form"].errors.values())


@pytest.mark.parametrize(("debug", "demo", "hinted"), [(True, True, True), (True, False, False), (False, True, False)])
def test_the_demo_is_hinted_at_only_while_debugging_and_never_with_its_password(
    client: Client, db: None, settings: object, debug: bool, demo: bool, hinted: bool
) -> None:
    settings.DEBUG, settings.DEMO = debug, demo  # type: ignore[attr-defined]

    page = text(client.get(reverse("account_login")))

    assert ("Trying it out?" in page) is hinted
    assert "demo@" not in page


def test_signing_up_gives_a_paper_account(client: Client, db: None) -> None:
    data = {"email": "new@example.com", "password1": "a long enough one", "password2": "a long enough one"}

    client.post(reverse("account_signup"), data)

    with all_accounts("looking"):
        assert Account.objects.get(owner__email="new@example.com").is_paper
    assert client.get(reverse("dashboard")).status_code == 200


def test_sign_up_says_when_it_is_closed(client: Client, db: None) -> None:
    GlobalSettings.load()
    GlobalSettings.objects.update(signup_open=False)

    page = client.get(reverse("account_signup"))

    assert page.status_code == 200
    assert offences(page) == []
    assert "password1" not in text(page)


def test_an_authenticator_app_is_set_up_by_a_picture(client: Client, trader: User) -> None:
    client.force_login(trader)
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})

    page = client.get(reverse("mfa_activate_totp"))

    assert page.status_code == 200
    assert 'class="qr" src="data:image/svg+xml' in text(page)
    assert offences(page) == []
