"""Encrypt every stored secret again under the newest of ENCRYPTION_KEYS.

Put a new key in front of the list, restart, run this, then drop the old key. What is under the newest key already is
left alone, so it can be run again at any time; a secret that no key opens is named and stays as it is.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.models import ExchangeCredential
from tradebot.core.crypto import Secret, SecretUnreadable, key_id, seal, unseal
from tradebot.core.scoping import all_accounts

SECRETS: Final = ("api_key", "api_secret", "passphrase")
MFA_BINDING: Final = "mfa"


class Command(BaseCommand):
    help = "Encrypt every stored secret again under the newest of ENCRYPTION_KEYS."

    def handle(self, *args: Any, **options: Any) -> None:
        newest = key_id(base64.urlsafe_b64decode(settings.ENCRYPTION_KEYS[0]))
        done, unreadable = 0, []
        with all_accounts("keys are rotated for everybody at once"):
            for pk in ExchangeCredential.objects.order_by("pk").values_list("pk", flat=True):
                try:
                    done += _rotate_credential(pk, newest)
                except SecretUnreadable:
                    unreadable.append(f"exchange keys {pk}")
        for pk in Authenticator.objects.order_by("pk").values_list("pk", flat=True):
            try:
                done += _rotate_authenticator(pk, newest)
            except SecretUnreadable:
                unreadable.append(f"second factor {pk}")
        self.stdout.write(f"{done} encrypted again, {len(settings.ENCRYPTION_KEYS)} keys at hand.")
        if unreadable:
            raise CommandError(f"No key opens: {', '.join(unreadable)}.")


@transaction.atomic
def _rotate_credential(pk: int, newest: str) -> bool:
    row = ExchangeCredential.objects.select_for_update().filter(pk=pk).first()
    if row is None:
        return False
    stored: list[Secret] = [getattr(row, name) for name in SECRETS]
    if all(not secret or secret.key_name == newest for secret in stored):
        return False
    row.save(update_fields=SECRETS)  # saving seals again; the secrets are the same, so the version is too (F57)
    return True


@transaction.atomic
def _rotate_authenticator(pk: int, newest: str) -> bool:
    """Seal again what the second-factor adapter sealed: codes and seeds in the JSON, told by their form."""
    row = Authenticator.objects.select_for_update().filter(pk=pk).first()
    if row is None:
        return False
    data = _resealed(row.data, newest)
    if data == row.data:
        return False
    row.data = data
    row.save(update_fields=["data"])
    return True


def _resealed(value: Any, newest: str) -> Any:
    if isinstance(value, dict):
        return {name: _resealed(inner, newest) for name, inner in value.items()}
    if isinstance(value, list):
        return [_resealed(inner, newest) for inner in value]
    if isinstance(value, str) and value.startswith("v1:") and value.count(":") == 2 and f":{newest}:" not in value:
        return seal(unseal(value, MFA_BINDING), MFA_BINDING)
    return value
