"""The token that a person's programs sign in with: at most one, shown when it is made, revoked at will.

Only its SHA-256 is kept, so a copy of the database signs nobody in. A token is 256 random bits, which makes a slow hash
pointless: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from accounts.models import ApiToken, User
from notifications.outbox import close_sockets
from tradebot.core import audit, clock
from tradebot.core.errors import InvalidInput
from tradebot.core.scoping import detached

__all__ = ["USUAL_NAME", "digest_of", "find", "note_use", "renew", "revoke"]

USUAL_NAME: Final = "API token"
USE_NOTED_EVERY: Final = timedelta(minutes=1)


def digest_of(token: str) -> str:
    """Return what is kept of a token: its SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def find(digest: str) -> ApiToken | None:
    """Return the token with this digest, its ``user`` at hand, or None when programs may not use it (any more)."""
    with detached("a token says who asks, so nobody is known before it is looked up"):
        token: ApiToken | None = ApiToken.objects.select_related("user").filter(digest=digest).first()
    return token if token is not None and token.user.is_active and not token.is_expired else None


def note_use(token: ApiToken) -> None:
    """Remember that the token was used just now, at most once a minute. In its person's scope."""
    now = clock.now()
    if token.last_used_at is None or token.last_used_at <= now - USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


@transaction.atomic
def renew(user: User, name: str = USUAL_NAME, expires_at: datetime | None = None) -> str:
    """Return a new token, valid for good or until ``expires_at`` (aware); the one before it is refused from now on.

    This is the only moment the token can be read. Sockets opened by the one before are closed. Whoever calls has made
    sure that it is ``user`` who asks. Raises InvalidInput (fields name, expires_at).
    """
    cleaned = " ".join(name.split()) or USUAL_NAME
    longest = ApiToken._meta.get_field("name").max_length or 0
    if len(cleaned) > longest or not cleaned.isprintable():
        raise InvalidInput("bad_name", f"A name has at most {longest} characters.", field="name")
    now = clock.now()
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
        raise InvalidInput("bad_expiry", "The end of a token lies in the future.", field="expires_at")
    token = secrets.token_urlsafe(32)
    with detached("who asks by password is signed in for nothing else"):
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # two requests leave one token, not two
        replaced = ApiToken.objects.filter(user=user).delete()[0]
        ApiToken.objects.create(
            user=user, name=cleaned, digest=digest_of(token), prefix=token[:8], created_at=now, expires_at=expires_at
        )
    audit.record(user.pk, user.email, "api_token_made", f"user:{user.pk}", name=cleaned, expires=expires_at)
    if replaced:
        close_sockets(user.pk)
    return token


@transaction.atomic
def revoke(user: User) -> None:
    """Let no program sign in as this person any more, and close their sockets."""
    if ApiToken.objects.filter(user=user).delete()[0]:
        audit.record(user.pk, user.email, "api_token_revoked", f"user:{user.pk}")
        close_sockets(user.pk)
