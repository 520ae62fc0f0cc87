"""Signing in to the API: by session, by token; getting and revoking the token."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

import pytest
import time_machine
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret, hotp_value, yield_hotp_counters_from_time
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts.access import acting_for
from accounts.models import ApiToken
from tests.api.conftest import ClientOf, People
from tests.factories import PASSWORD, AccountFactory, UserFactory
from tradebot.core import clock

pytestmark = pytest.mark.django_db
REFUSED = "E-mail address, password or code is wrong."


def ask(email: str, password: str = PASSWORD, **more: str) -> Response:
    return APIClient().post("/api/token/", {"email": email, "password": password, **more}, format="json")


def bearer(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return client


def test_a_token_sees_what_its_person_sees(people: People) -> None:
    answer = ask(people.ann.email)
    assert answer.status_code == 200
    rows = bearer(answer.data["token"]).get("/api/accounts/").data["results"]
    assert [row["id"] for row in rows] == [people.account.pk]


def test_a_new_token_replaces_the_one_before_and_revoking_ends_it() -> None:
    ann = AccountFactory().owner
    first, second = ask(ann.email).data["token"], ask(ann.email).data["token"]
    assert bearer(first).get("/api/accounts/").status_code == 401
    assert bearer(second).delete("/api/token/").status_code == 204
    assert bearer(second).get("/api/accounts/").status_code == 401


def test_the_token_itself_is_nowhere_in_the_database() -> None:
    ann = AccountFactory().owner
    token = ask(ann.email, name="My script").data["token"]
    with acting_for(ann):
        row = ApiToken.objects.values().get()
    assert len(base64.urlsafe_b64decode(token + "=")) == 32
    assert token not in str(row)
    assert (row["name"], row["prefix"], row["expires_at"]) == ("My script", token[:8], None)
    assert row["digest"] == hashlib.sha256(token.encode()).hexdigest()
    assert bearer(row["digest"]).get("/api/accounts/").status_code == 401


def test_use_is_noted_at_most_once_a_minute() -> None:
    ann = AccountFactory().owner
    token, seen = ask(ann.email).data["token"], []
    start = clock.now()
    for seconds in (0, 30, 61):
        with clock.at(start + timedelta(seconds=seconds)):
            assert bearer(token).get("/api/accounts/").status_code == 200
        with acting_for(ann):
            seen.append(ApiToken.objects.get().last_used_at)
    assert seen == [start, start, start + timedelta(seconds=61)]


def test_an_expired_token_is_refused() -> None:
    ann = AccountFactory().owner
    end = clock.now() + timedelta(days=1)
    token = ask(ann.email, expires_at=end.isoformat()).data["token"]
    assert bearer(token).get("/api/accounts/").status_code == 200
    with clock.at(end):
        assert bearer(token).get("/api/accounts/").status_code == 401


def test_a_token_cannot_be_asked_for_that_has_ended_already() -> None:
    answer = ask(AccountFactory().owner.email, expires_at="2001-01-01T00:00:00Z")
    assert (answer.status_code, answer.data["field"]) == (400, "expires_at")


def test_f52_a_refusal_does_not_tell_whether_somebody_exists() -> None:
    gone = UserFactory(is_active=False)
    answers = [ask("nobody@example.com"), ask(UserFactory().email, "wrong"), ask(gone.email)]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.data["detail"] for answer in answers} == {REFUSED}


def test_the_second_factor_counts_here_too() -> None:
    ann = UserFactory()
    secret = generate_totp_secret()
    TOTP.activate(ann, secret)
    assert ask(ann.email).status_code == 401
    assert ask(ann.email, code="000000").status_code == 401
    with time_machine.travel(clock.now(), tick=False):  # a code is of its half minute
        code = f"{hotp_value(secret, next(yield_hotp_counters_from_time())):06d}"
        assert ask(ann.email, code=code).status_code == 200
        assert ask(ann.email, code=code).status_code == 401, "a code works once"
    with acting_for(ann):
        assert ApiToken.objects.count() == 1


def test_guessing_is_slowed_down() -> None:
    ann = UserFactory()
    for _ in range(5):
        assert ask(ann.email, "wrong").status_code == 401
    assert ask(ann.email).status_code == 429


def test_a_deactivated_persons_token_is_refused(people: People) -> None:
    token = ask(people.ann.email).data["token"]
    people.ann.is_active = False
    people.ann.save()
    assert bearer(token).get("/api/accounts/").status_code == 401


def test_strangers_are_asked_to_sign_in(people: People) -> None:
    answer = APIClient().get("/api/accounts/")
    assert (answer.status_code, answer.data["code"], answer.data["field"]) == (401, "not_authenticated", None)
    assert APIClient().delete("/api/token/").status_code == 401


def test_a_change_with_a_session_needs_its_csrf_token(people: People) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(people.ann)
    assert client.post("/api/accounts/", {"name": "Second"}, format="json").status_code == 403


def test_a_request_with_two_identities_is_refused(people: People, client_of: ClientOf) -> None:
    token = ask(people.bob.email).data["token"]
    client = client_of(people.ann)
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    rows = client.get("/api/accounts/").data["results"]
    assert [row["id"] for row in rows] == [people.account.pk], "the session decides, the token is not looked at"
