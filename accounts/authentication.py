"""API sign-in by session or token; both bind the person's scope."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts import tokens
from accounts.access import scope_of
from tradebot.core.scoping import bind_request

__all__ = ["ScopedSessionAuthentication", "ScopedTokenAuthentication"]


class _Binding:
    """Binds the scope of whoever was recognised; a request that carries two identities is refused (bind-once)."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found: tuple[Any, Any] | None = super().authenticate(request)  # type: ignore[misc]
        if found is not None:
            bind_request(scope_of(found[0]))
        return found


class ScopedSessionAuthentication(_Binding, SessionAuthentication):
    """Session cookie, with CSRF check."""

    def authenticate_header(self, request: Request) -> str:
        return "Session"  # so that a missing sign-in answers 401


class ScopedTokenAuthentication(_Binding, TokenAuthentication):
    """``Authorization: Token …``. Unknown, expired, and somebody who was deactivated: one answer for all of them."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is not None:
            tokens.note_use(found[1])
        return found

    def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
        token = tokens.find(tokens.digest_of(key))
        if token is None:
            raise AuthenticationFailed("This token is not valid (any more).", code="bad_token")
        return token.user, token
