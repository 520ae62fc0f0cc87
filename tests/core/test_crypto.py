"""Secrets at rest: bound to their row, readable under every key of the list, silent everywhere else."""

from __future__ import annotations

import pytest
from django.db import connection

from accounts.models import Account, ExchangeCredential, User
from tradebot.core.crypto import Secret, SecretUnreadable, generate_key, seal, unseal
from tradebot.core.scoping import all_accounts

PLAIN = "very-secret-key-material"


@pytest.fixture
def credentials(db):
    with all_accounts("test data"):
        owner = User.objects.create_user("a@example.test")
        rows = []
        for name in "ab":
            account = Account.objects.create(owner=owner, name=name, exchange="coinbase", kind="exchange")
            rows.append(
                ExchangeCredential.objects.create(account=account, api_key=Secret("k"), api_secret=Secret(PLAIN + name))
            )
        yield rows


def test_a_secret_is_stored_encrypted_and_read_back(credentials):
    table = ExchangeCredential._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT api_secret FROM {table}")
        assert not any(PLAIN in row[0] for row in cursor.fetchall())
    fresh = ExchangeCredential.objects.get(pk=credentials[0].pk)
    assert fresh.api_secret.reveal() == PLAIN + "a"
    fresh.save()
    assert ExchangeCredential.objects.get(pk=fresh.pk).api_secret.reveal() == PLAIN + "a"
    assert not ExchangeCredential.objects.get(pk=fresh.pk).passphrase


def test_a_ciphertext_copied_to_another_row_does_not_open(credentials):
    first, second = credentials
    table = ExchangeCredential._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT api_secret FROM {table} WHERE id = %s", [first.pk])
        (stolen,) = cursor.fetchone()
        cursor.execute(f"UPDATE {table} SET api_secret = %s WHERE id = %s", [stolen, second.pk])
    with pytest.raises(SecretUnreadable):
        ExchangeCredential.objects.get(pk=second.pk).api_secret.reveal()


def test_a_new_key_encrypts_and_the_old_one_still_opens(settings):
    old, new = generate_key(), generate_key()
    settings.ENCRYPTION_KEYS = [old]
    stored = seal(PLAIN, "row")
    settings.ENCRYPTION_KEYS = [new, old]
    assert unseal(stored, "row") == PLAIN
    again = seal(PLAIN, "row")
    settings.ENCRYPTION_KEYS = [new]
    assert unseal(again, "row") == PLAIN
    with pytest.raises(SecretUnreadable):
        unseal(stored, "row")


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret(PLAIN)
    assert PLAIN not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == PLAIN
    with pytest.raises(SecretUnreadable):
        unseal("v1:none:AAAA", "row")


def test_secrets_cannot_be_searched(credentials):
    with pytest.raises(TypeError):
        ExchangeCredential.objects.filter(api_secret__startswith="v1").exists()


def test_damage_is_noticed():
    stored = seal(PLAIN, "row")
    with pytest.raises(SecretUnreadable):
        unseal(stored[:-4] + "AAAA", "row")
