"""The admin site: who gets in, what is shown, what is repaired, and that changes leave an audit entry."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, User
from bots.models import Bot
from tests.factories import (
    AccountFactory,
    AuditEntryFactory,
    BotFactory,
    BotTemplateFactory,
    DecisionFactory,
    EventFactory,
    ExchangeCredentialFactory,
    FillFactory,
    MembershipFactory,
    PaperBalanceFactory,
    PaperEntryFactory,
    UnmatchedFillFactory,
    UserFactory,
)
from tradebot.core import clock, health
from tradebot.core.models import AuditEntry, GlobalSettings, LoopState
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> User:
    operator: User = UserFactory(is_staff=True, is_superuser=True)
    return operator


@pytest.fixture
def site(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def audit_of(action: str) -> AuditEntry:
    with detached("test looks"):
        return AuditEntry.objects.get(action=action)


def test_the_admin_is_entered_by_the_usual_sign_in_only(site: Client) -> None:
    for method in ("get", "post"):
        answer = getattr(Client(), method)("/admin/login/", {"username": "a@example.com", "password": "x"})
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("account_login"))
    person = Client()
    person.force_login(UserFactory())
    assert person.get("/admin/login/").status_code == 403
    assert person.get("/admin/", follow=True).status_code == 403
    assert site.get("/admin/").status_code == 200


def test_staff_without_permissions_see_no_rows() -> None:
    client = Client()
    client.force_login(UserFactory(is_staff=True))
    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/bots/bot/").status_code == 403


def test_every_page_works_and_none_shows_a_secret(site: Client) -> None:
    fill = FillFactory()
    with detached("test data"):
        LoopState.objects.create(name="cycle", expected_seconds=10)
    made = [
        BotFactory(),
        BotTemplateFactory(),
        DecisionFactory(),
        EventFactory(),
        MembershipFactory(),
        AuditEntryFactory(),
    ]
    made += [PaperBalanceFactory(), PaperEntryFactory(), UnmatchedFillFactory(), fill, fill.order, fill.position]
    made += [fill.account, fill.account.owner, ExchangeCredentialFactory()]
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        answer = site.get(reverse(f"admin:{name}_changelist"), follow=True)
        assert answer.status_code == 200, name
        for row in (row for row in made if type(row) is model):
            page = site.get(reverse(f"admin:{name}_change", args=[row.pk]))
            assert page.status_code == 200, name
            for secret in ("key-of-nobody", "secret-of-nobody", fill.account.owner.password):
                assert secret not in page.content.decode()


def test_tables_of_secrets_have_no_page(site: Client) -> None:
    labels = {model._meta.label_lower for model in admin.site._registry}
    forbidden = {"accounts.apitoken", "mfa.authenticator", "usersessions.usersession"}
    assert not labels & {*forbidden, "accounts.exchangecredential", "sessions.session"}


@pytest.mark.parametrize("model", ["positions/position", "positions/order", "positions/fill", "core/auditentry"])
def test_money_and_history_are_only_looked_at(site: Client, model: str) -> None:
    fill = FillFactory()
    pk = {
        "positions/position": fill.position_id,
        "positions/order": fill.order_id,
        "positions/fill": fill.pk,
        "core/auditentry": AuditEntryFactory().pk,
    }[model]
    assert site.get(f"/admin/{model}/add/").status_code == 403
    assert site.post(f"/admin/{model}/{pk}/change/", {}).status_code == 403
    assert site.post(f"/admin/{model}/{pk}/delete/", {"post": "yes"}).status_code == 403


def test_global_settings_are_one_row_and_changes_are_written_down(site: Client, operator: User) -> None:
    assert site.get("/admin/core/globalsettings/").status_code == 302
    assert site.get("/admin/core/globalsettings/add/").status_code == 403
    row = GlobalSettings.load()
    values = {field.name: getattr(row, field.name) for field in row._meta.fields if field.name != "id"}
    data = {name: value for name, value in values.items() if value is not False} | {"trading_paused": "on"}
    assert site.post("/admin/core/globalsettings/1/change/", data).status_code == 302
    assert GlobalSettings.load().trading_paused
    entry = audit_of("admin.changed")
    assert (entry.actor, entry.detail["changes"]) == (operator.email, {"trading_paused": [False, True]})


def test_a_person_is_added_with_an_account_and_deactivated_not_deleted(site: Client, operator: User) -> None:
    password = "a long enough sentence"
    data = {"email": "New@Example.com", "password1": password, "password2": password}
    assert site.post("/admin/accounts/user/add/", data).status_code == 302
    person = User.objects.get(email="new@example.com")
    with detached("test looks"):
        assert person.accounts.count() == 1
    assert site.post(f"/admin/accounts/user/{person.pk}/delete/", {"post": "yes"}).status_code == 403
    changed = {"email": person.email, "timezone": "UTC", "theme": "auto"}
    assert site.post(f"/admin/accounts/user/{person.pk}/change/", changed).status_code == 302
    entry = audit_of("admin.changed")
    assert (entry.actor, entry.user, entry.detail["changes"]) == (operator.email, person, {"is_active": [True, False]})


def test_a_password_is_set_without_being_written_down(site: Client) -> None:
    person = UserFactory()
    page = site.get(f"/admin/accounts/user/{person.pk}/change/").content.decode()
    address = reverse("admin:auth_user_password_change", args=[person.pk])
    assert address in page
    password = "another long sentence"
    assert site.post(address, {"password1": password, "password2": password}).status_code == 302
    person.refresh_from_db()
    assert person.check_password(password)
    assert password not in str(audit_of("admin.changed").detail)


def test_orphaned_bots_are_found_and_put_on_their_owners_default_account(site: Client, operator: User) -> None:
    home = AccountFactory(is_default=True)
    orphan, settled = BotFactory(owner=home.owner, account=None), BotFactory(account=home)
    homeless = BotFactory(owner=UserFactory(), account=None)
    listed = site.get("/admin/bots/bot/?orphaned=yes").content.decode()
    assert orphan.name in listed
    assert settled.name not in listed
    data = {"action": "assign_to_default_account", "_selected_action": [orphan.pk, settled.pk, homeless.pk]}
    said = site.post("/admin/bots/bot/", data, follow=True).content.decode()
    assert "Assigned 1 bot." in said
    assert "no default account" in said
    assert "it has an account" in said
    with detached("test looks"):
        assert Bot.objects.get(pk=orphan.pk).account == home
        assert Bot.objects.get(pk=orphan.pk).status == Bot.Status.STOPPED
        assert Bot.objects.get(pk=homeless.pk).account is None
    entry = audit_of("bot.assigned")
    assert (entry.actor, entry.user) == (operator.email, home.owner)


def test_a_share_is_made_and_ended_through_the_service(site: Client, operator: User) -> None:
    account, person = AccountFactory(), UserFactory(verified=True)
    data = {"account": account.pk, "user": person.pk, "role": "observer"}
    refused = site.post("/admin/accounts/membership/add/", data | {"user": UserFactory().pk})
    assert "has not confirmed their address" in refused.content.decode()
    assert site.post("/admin/accounts/membership/add/", data).status_code == 302
    with detached("test looks"):
        share = Membership.objects.get(account=account, user=person)
    assert audit_of("account_shared").user == account.owner
    assert audit_of("admin.added").user == account.owner
    assert site.post(f"/admin/accounts/membership/{share.pk}/delete/", {"post": "yes"}).status_code == 302
    assert audit_of("account_share_ended").actor == operator.email


def test_f71_loops_show_their_health_as_a_word(site: Client) -> None:
    now = clock.now()
    with detached("test data"):
        LoopState.objects.create(name="cycle", expected_seconds=10, last_success_at=now)
        LoopState.objects.create(name="prices", expected_seconds=5, last_success_at=now - timedelta(hours=1))
        LoopState.objects.create(name="candles", expected_seconds=20)
    page = site.get("/admin/core/loopstate/").content.decode()
    for kind, word in (("well", "well"), ("late", "late"), ("never", "never succeeded")):
        assert f'<span class="state-{kind}">{word}</span>' in page
    missing = sorted(health.LOOPS.keys() - {"cycle", "prices", "candles"})
    assert f"Never started: {', '.join(missing)}." in page
