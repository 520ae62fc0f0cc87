"""One-time tickets and the lasting proof behind a socket: who is connected, and whether that is still so.

A socket is opened with the session cookie, or without one by a ticket fetched over the API and sent as the first
message (never in the address, which ends up in logs). Either way the socket keeps a :class:`Proof`, and asks it again
and again: a session that was ended, a changed password, a revoked token or a deactivated user ends the socket.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Literal

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.core.cache import cache
from django.utils.crypto import constant_time_compare

__all__ = ["TICKET_SECONDS", "Proof", "issue", "redeem"]

TICKET_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Proof:
    """What showed who somebody is: a session (``value`` is its key) or an API token (its SHA-256)."""

    user_id: int
    kind: Literal["session", "token"]
    value: str

    @classmethod
    def of_session(cls, user: Any, session_key: str | None) -> Proof:
        return cls(user.pk, "session", session_key or "")

    @classmethod
    def of_token(cls, user: Any, digest: str) -> Proof:
        return cls(user.pk, "token", digest)

    def person(self) -> Any | None:
        """Return the user, read afresh, or None when the proof holds no longer."""
        user = get_user_model().objects.filter(pk=self.user_id, is_active=True).first()
        return user if user is not None and self._holds(user) else None

    def _holds(self, user: Any) -> bool:
        if self.kind == "token":
            return bool(user.holds_token(self.value))
        session = import_module(settings.SESSION_ENGINE).SessionStore(self.value)
        return session.get(SESSION_KEY) == str(user.pk) and constant_time_compare(
            session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()
        )


def issue(proof: Proof) -> str:
    """Return a new ticket that opens one socket within the next :data:`TICKET_SECONDS`."""
    ticket = secrets.token_urlsafe(32)
    cache.set(_key("ticket", ticket), (proof.user_id, proof.kind, proof.value), TICKET_SECONDS)
    return ticket


def redeem(ticket: str) -> Proof | None:
    """Return the proof behind a ticket, once. None for a ticket that is unknown, used or too old."""
    stored = cache.get(_key("ticket", ticket))
    if stored is None or not cache.add(_key("ticket-used", ticket), 1, TICKET_SECONDS * 2):
        return None
    cache.delete(_key("ticket", ticket))
    return Proof(*stored)


def _key(kind: str, ticket: str) -> str:
    return f"socket-{kind}:{hashlib.sha256(ticket.encode()).hexdigest()}"  # a dump of the cache shows no usable ticket
