"""API sign-in by session or token; both bind the person's scope."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.request import Request

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
    """``Authorization: Token …``."""
