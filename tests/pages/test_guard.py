"""Loss limits and auto-buy on the account page, on the dashboard and over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from accounts.models import Account, AutoBuyRule, PropGuardRules, PropGuardState, User
from tests.factories import (
    AutoBuyDecisionFactory,
    AutoBuyRuleFactory,
    EquitySnapshotFactory,
    MembershipFactory,
    ProductFactory,
    PropGuardEventFactory,
    PropGuardRulesFactory,
    PropGuardStateFactory,
    UserFactory,
)
from tests.looking import everything
from tests.pages.markup import offences, text
from tradebot.core import clock
from tradebot.core.scoping import all_accounts

LIMITS = {
    "enabled": "on",
    "initial_deposit": "10000",
    "currency": "USD",
    "daily_limit_pct": "4.5",
    "total_limit_pct": "9",
    "max_spread_pct": "0.5",
    "equity_max_age_seconds": "60",
    "day_start": "17:00",
    "day_zone": "America/New_York",
}
RULE = {
    "enabled": "on",
    "currency": "USD",
    "coin": "BTC",
    "minimum": "50",
    "order_type": "limit",
    "limit_offset_pct": "1",
}


@pytest.fixture
def page(account: Account) -> str:
    for symbol in ("BTC-USD", "ETH-USD"):  # what the account holds, on its market
        ProductFactory(exchange=account.exchange, symbol=symbol)
    return reverse("account", args=[account.pk])


def guarded(account: Account, **state: Any) -> None:
    PropGuardRulesFactory(account=account, initial_deposit=10_000)
    PropGuardStateFactory(account=account, **state)


def killed(account: Account, **more: Any) -> None:
    now = clock.now()
    guarded(account, killed_at=now, kill_reason="manual", kill_message="Stopped by ann@example.com.", **more)


def rules() -> PropGuardRules:
    with all_accounts("looking"):
        return PropGuardRules.objects.get()


def state() -> PropGuardState:
    with all_accounts("looking"):
        return PropGuardState.objects.get()


def test_without_limits_the_page_offers_to_set_them(browser: Client, page: str) -> None:
    shown = browser.get(page)
    assert "The account has no loss limits." in text(shown)
    assert "Set limits" in text(shown)
    assert offences(shown) == []


def test_limits_are_set_in_the_form(browser: Client, account: Account, page: str) -> None:
    shown = browser.post(reverse("guard_limits", args=[account.pk]), LIMITS, follow=True)
    assert "limits are saved." in text(shown)
    assert "The account is within its limits and may trade." in text(shown)
    assert rules().enabled
    off = {name: value for name, value in LIMITS.items() if name != "enabled"}
    browser.post(reverse("guard_limits", args=[account.pk]), off)
    assert not rules().enabled


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("daily_limit_pct", "0", "It is a number from 0.01 to 100."),
        ("initial_deposit", "1e400", "Ensure that there are no more than"),
        ("day_zone", "Mars/Base", "Select a valid choice."),
        ("day_start", "26:00", "Enter a valid time."),
        ("total_limit_pct", "", "This field is required."),
        ("initial_deposit", "100000000", "with this limit it would be stopped and its deals closed at once"),
    ],
)
def test_f23_a_limit_that_cannot_be_is_refused_at_its_field(
    browser: Client, account: Account, page: str, field: str, value: str, complaint: str
) -> None:
    shown = browser.post(reverse("guard_limits", args=[account.pk]), {**LIMITS, field: value})
    assert shown.status_code == 422
    assert complaint in text(shown)
    assert not everything(PropGuardRules).filter(enabled=True).exists()


def test_a_stop_by_hand_takes_the_typed_name(browser: Client, account: Account, page: str) -> None:
    guarded(account)
    to = reverse("guard_stop", args=[account.pk])
    assert browser.post(to, {"confirm": "no", "note": ""}).status_code == 422
    assert state().killed_at is None
    shown = browser.post(to, {"confirm": account.name, "note": "news"}, follow=True)
    assert "The account is stopped." in text(shown)
    assert state().kill_reason == "manual"
    assert "Closing is being completed." in text(shown)


def test_a_release_takes_the_typed_name(browser: Client, account: Account, page: str) -> None:
    killed(account, settled_at=clock.now() + timedelta(seconds=1))
    to = reverse("guard_release", args=[account.pk])
    assert "Release the account" in text(browser.get(page))
    assert browser.post(to, {"confirm": "no"}).status_code == 422
    shown = browser.post(to, {"confirm": account.name}, follow=True)
    assert "The account is released." in text(shown)
    assert state().killed_at is None


def test_what_is_not_known_is_said_and_blocks(browser: Client, account: Account, page: str) -> None:
    guarded(account, last_equity_at=clock.now() - timedelta(seconds=90), error_text="The price of ETH is not known.")
    shown = text(browser.get(page))
    assert "Blocked" in shown
    assert "Nothing new is opened." in shown
    assert "The price of ETH is not known." in shown
    assert "Blocked" in text(browser.get(reverse("dashboard")))


def test_money_that_was_moved_is_named_and_a_limit_that_waits_for_the_exchange_is_said(
    browser: Client, account: Account, page: str
) -> None:
    guarded(account, day_moved=-250, total_moved=1000)
    shown = browser.get(page).content.decode()
    assert "since the day began" in shown
    assert "since the initial deposit was set: no gain and no loss" in shown
    assert "\u2212250.00" in shown
    with all_accounts("test data"):
        PropGuardState.objects.update(breached_at=clock.now())
    said = text(browser.get(page))
    assert "the exchange is asked whether money was withdrawn" in said
    assert "within 90 s, everything is closed" in said


@pytest.mark.parametrize(
    ("kind", "exchange", "words"),
    [
        ("paper", "simulated", "no money is put in or taken out"),
        ("exchange", "coinbase", "is no gain and no loss, as far as the exchange lists it"),
        ("exchange", "kraken", "does not list what is put in or taken out"),
    ],
)
def test_what_limits_make_of_money_that_is_moved_is_said(
    browser: Client, account: Account, page: str, kind: str, exchange: str, words: str
) -> None:
    with all_accounts("test data"):
        Account.objects.filter(pk=account.pk).update(kind=kind, exchange=exchange)
    assert words in text(browser.get(page))


def test_a_stopped_account_needs_its_owner_on_the_dashboard(browser: Client, account: Account) -> None:
    killed(account)
    shown = text(browser.get(reverse("dashboard")))
    assert "was stopped by its loss limits. Stopped by ann@example.com." in shown
    assert "See its limits" in shown


def test_a_rule_is_made_changed_and_removed(browser: Client, account: Account, page: str) -> None:
    to = reverse("auto_buy_set", args=[account.pk])
    shown = browser.post(to, RULE, follow=True)
    assert "The rule is saved." in text(shown)
    assert "BTC with USD" in text(shown)
    assert "Not looked at yet." in text(shown)
    bad = browser.post(to, {**RULE, "minimum": "0"})
    assert bad.status_code == 422
    assert "It is a number from 0.01" in text(bad)
    browser.post(to, {name: value for name, value in RULE.items() if name != "enabled"})
    with all_accounts("looking"):
        assert not AutoBuyRule.objects.get().enabled
    browser.post(reverse("auto_buy_remove", args=[account.pk]), {"currency": "USD"})
    with all_accounts("looking"):
        assert not AutoBuyRule.objects.exists()
    assert browser.post(reverse("auto_buy_remove", args=[account.pk]), {"currency": "USD"}).status_code == 404


def test_the_number_of_queries_does_not_depend_on_the_history(browser: Client, account: Account, page: str) -> None:
    def counted() -> int:
        with CaptureQueriesContext(
            connection,
        ) as found:
            assert browser.get(page).status_code == 200
        return len(found)

    guarded(account)
    PropGuardEventFactory(account=account)
    rule = AutoBuyRuleFactory(account=account)
    AutoBuyDecisionFactory(rule=rule)
    counted()
    before = counted()
    for currency in ("USDC", "EUR", "GBP"):
        AutoBuyDecisionFactory(rule=AutoBuyRuleFactory(account=account, currency=currency))
        PropGuardEventFactory(account=account)
    assert counted() == before


@pytest.mark.parametrize("role", ["manager", "observer"])
def test_members_see_limits_and_rules_without_the_owners_forms(account: Account, page: str, role: str) -> None:
    guarded(account)
    AutoBuyRuleFactory(account=account, last_message="12 USD may be spent, the minimum is 50.")
    person = UserFactory()
    MembershipFactory(account=account, user=person, role=role)
    client = Client()
    client.force_login(person)
    shown = text(client.get(page))
    assert "within its limits" in shown
    assert "12 USD may be spent" in shown
    assert "Save the limits" not in shown
    assert "Save the rule" not in shown
    assert ("Stop the account now" in shown) == (role == "manager")
    for name in ("guard_limits", "guard_release", "auto_buy_set", "auto_buy_remove"):
        assert client.post(reverse(name, args=[account.pk]), LIMITS | RULE).status_code == 404
    stopped = client.post(reverse("guard_stop", args=[account.pk]), {"confirm": account.name})
    assert stopped.status_code == (302 if role == "manager" else 404)


# API ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(trader: User) -> APIClient:
    client = APIClient()
    client.force_login(trader)
    return client


def test_the_api_shows_and_changes_limits(api: APIClient, account: Account, page: str) -> None:
    at = f"/api/accounts/{account.pk}/guard/"
    assert api.get(at).json()["status"] == "off"
    answer = api.patch(at, {"enabled": True, "daily_limit_pct": "4", "initial_deposit": "10000"}, format="json")
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert (found["status"], found["rules"]["daily_limit_pct"], found["daily"]["lost"]) == ("on", "4", "0")
    assert found["state"]["killed_at"] is None
    refused = api.patch(at, {"daily_limit_pct": "NaN"}, format="json")
    assert (refused.status_code, refused.json()["field"]) == (400, "daily_limit_pct")
    unknown = api.patch(at, {"dayly": "1"}, format="json")
    assert (unknown.status_code, unknown.json()["field"]) == (400, "dayly")
    assert api.get(f"{at}history/").json()["results"][0]["kind"] == "rules"


def test_the_api_stops_and_releases(api: APIClient, account: Account, page: str) -> None:
    guarded(account)
    at = f"/api/accounts/{account.pk}/guard/"
    refused = api.post(f"{at}stop/", {"confirm": "no"}, format="json")
    assert (refused.status_code, refused.json()["field"]) == (400, "confirm")
    stopped = api.post(f"{at}stop/", {"confirm": account.name, "note": "x"}, format="json").json()
    assert (stopped["status"], stopped["state"]["kill_reason"]) == ("stopped", "manual")
    early = api.post(f"{at}release/", {"confirm": account.name}, format="json")
    assert (early.status_code, early.json()["code"]) == (400, "still_closing")
    everything(PropGuardState).update(settled_at=clock.now())
    released = api.post(f"{at}release/", {"confirm": account.name}, format="json")
    assert released.json()["status"] == "on"


def test_the_api_lists_equity(api: APIClient, account: Account) -> None:
    EquitySnapshotFactory(account=account)
    rows = api.get(f"/api/accounts/{account.pk}/guard/equity/").json()["results"]
    assert [row["equity"] for row in rows] == ["100000"]


def test_the_api_keeps_rules(api: APIClient, account: Account, page: str) -> None:
    at = f"/api/accounts/{account.pk}/auto-buy/"
    made = api.put(at, {"currency": "USD", "enabled": True, "minimum": "75"}, format="json")
    assert made.status_code == 200, made.content
    assert [(row["currency"], row["minimum"]) for row in api.get(at).json()] == [("USD", "75")]
    refused = api.put(at, {"currency": "ETH"}, format="json")
    assert (refused.status_code, refused.json()["field"]) == (400, "currency")
    with all_accounts("test data"):
        AutoBuyDecisionFactory(rule=AutoBuyRule.objects.get())
    assert api.get(f"{at}decisions/").json()["results"][0]["currency"] == "USD"
    assert api.post(f"{at}remove/", {"currency": "USD"}, format="json").status_code == 204
    assert api.get(at).json() == []


def test_a_manager_reads_and_may_stop_and_no_more_over_the_api(account: Account, page: str) -> None:
    guarded(account)
    manager = UserFactory()
    MembershipFactory(account=account, user=manager, role="manager")
    client = APIClient()
    client.force_login(manager)
    at = f"/api/accounts/{account.pk}/"
    assert client.get(f"{at}guard/").status_code == 200
    assert client.patch(f"{at}guard/", {"daily_limit_pct": "9"}, format="json").status_code == 403
    assert client.put(f"{at}auto-buy/", {"currency": "USD"}, format="json").status_code == 403
    assert client.post(f"{at}guard/release/", {"confirm": account.name}, format="json").status_code == 403
    assert client.post(f"{at}guard/stop/", {"confirm": account.name}, format="json").status_code == 200
