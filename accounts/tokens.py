"""The token that a person's programs sign in with: at most one, shown when it is made, revoked at will."""

from __future__ import annotations

from django.db import transaction
from rest_framework.authtoken.models import Token

from accounts.models import User
from tradebot.core import audit

__all__ = ["renew", "revoke"]


@transaction.atomic
def renew(user: User) -> str:
    """Return a new token; the one before it is refused from now on."""
    Token.objects.filter(user=user).delete()
    token = Token.objects.create(user=user)
    audit.record(user.pk, user.email, "api_token_made", f"user:{user.pk}")
    return str(token.key)


@transaction.atomic
def revoke(user: User) -> None:
    """Let no program sign in as this person any more."""
    if Token.objects.filter(user=user).delete()[0]:
        audit.record(user.pk, user.email, "api_token_revoked", f"user:{user.pk}")
