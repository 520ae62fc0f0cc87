"""Secrets move to the newest key, once, and stay readable."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import ExchangeCredential
from tests.factories import ExchangeCredentialFactory, UserFactory
from tradebot.core.crypto import generate_key
from tradebot.core.scoping import all_accounts

pytestmark = pytest.mark.django_db


def stored() -> list[Any]:
    with all_accounts("test"), connection.cursor() as cursor:
        cursor.execute("SELECT api_key, api_secret, passphrase FROM accounts_exchangecredential ORDER BY id")
        return cursor.fetchall()


def test_every_secret_is_sealed_again_under_the_newest_key(settings: Any) -> None:
    credential = ExchangeCredentialFactory()
    user = UserFactory()
    mfa = get_adapter()
    totp = Authenticator.objects.create(user=user, type="totp", data={"secret": mfa.encrypt("JBSWY3DP")})
    codes = Authenticator.objects.create(
        user=user,
        type="recovery_codes",
        data={"seed": mfa.encrypt("seed"), "used_mask": 5, "migrated_codes": [mfa.encrypt("a"), mfa.encrypt("b")]},
    )
    before = stored()
    old = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = [generate_key(), *old]
    call_command("rotate_keys")
    after = stored()
    assert after != before
    assert after[0][2] == ""

    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]  # the old key is gone
    with all_accounts("test"):
        row = ExchangeCredential.objects.get()
        assert (row.api_key.reveal(), row.api_secret.reveal()) == ("key-of-nobody", "secret-of-nobody")
        assert row.version == credential.version
    totp.refresh_from_db()
    codes.refresh_from_db()
    assert mfa.decrypt(totp.data["secret"]) == "JBSWY3DP"
    assert (mfa.decrypt(codes.data["seed"]), codes.data["used_mask"]) == ("seed", 5)
    assert [mfa.decrypt(code) for code in codes.data["migrated_codes"]] == ["a", "b"]


def test_rotating_twice_changes_nothing_more(settings: Any) -> None:
    ExchangeCredentialFactory()
    settings.ENCRYPTION_KEYS = [generate_key(), *settings.ENCRYPTION_KEYS]
    call_command("rotate_keys")
    once = stored()
    call_command("rotate_keys")
    assert stored() == once


def test_what_no_key_opens_is_named_and_does_not_stop_the_rest(settings: Any) -> None:
    lost = ExchangeCredentialFactory()
    settings.ENCRYPTION_KEYS = [generate_key()]
    kept = ExchangeCredentialFactory()
    settings.ENCRYPTION_KEYS = [generate_key(), *settings.ENCRYPTION_KEYS]
    before = stored()
    with pytest.raises(CommandError, match=f"exchange keys {lost.pk}"):
        call_command("rotate_keys")
    assert [old == new for old, new in zip(before, stored(), strict=True)] == [True, False]
    with all_accounts("test"):
        assert ExchangeCredential.objects.get(pk=kept.pk).api_key.reveal() == "key-of-nobody"
