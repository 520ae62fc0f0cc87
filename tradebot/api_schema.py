"""What the schema generator cannot find out by itself: how a session signs in."""

from __future__ import annotations

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension

__all__ = ["SessionScheme"]


class SessionScheme(OpenApiAuthenticationExtension):
    """The browser's session cookie; changes need its CSRF token too."""

    target_class = "accounts.authentication.ScopedSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
