"""Signing in to the API: by session, by token; getting and revoking the token."""

from __future__ import annotations

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret, hotp_value, yield_hotp_counters_from_time
from rest_framework.authtoken.models import Token
from rest_framework.response import Response
from rest_framework.test import APIClient

from tests.api.conftest import ClientOf, People
from tests.factories import PASSWORD, AccountFactory, UserFactory

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
    code = f"{hotp_value(secret, next(yield_hotp_counters_from_time())):06d}"
    assert ask(ann.email, code=code).status_code == 200
    assert ask(ann.email, code=code).status_code == 401, "a code works once"
    assert Token.objects.filter(user=ann).count() == 1


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
