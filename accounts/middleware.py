"""Puts a request's scope in place: an empty holder first, bound by whichever authentication succeeds, gone at the end.

The holder is the outermost middleware, so nothing runs outside it. A streaming response's body is produced after the
scope has closed: views give materialised rows to streams.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from accounts.access import scope_of
from tradebot.core.scoping import Scope, bind_request, request_holder

__all__ = ["BindUserMiddleware", "ScopeMiddleware"]

ADMIN_PREFIX = "/admin/"


class ScopeMiddleware:
    """Opens the holder."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with request_holder():
            return self.get_response(request)


class BindUserMiddleware:
    """Binds the signed-in person's scope; the admin site, for staff only, sees every row."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        user = request.user
        if user.is_authenticated:
            if request.path.startswith(ADMIN_PREFIX) and user.is_staff and user.is_active:
                bind_request(Scope(reason=f"admin site, {user.pk}"))
            else:
                bind_request(scope_of(user))
        return self.get_response(request)
