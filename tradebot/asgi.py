"""The ASGI application: pages and API through Django, ``/ws/`` through Channels."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradebot.settings")
_pages = get_asgi_application()  # sets Django up, so what needs it is imported below

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from accounts.access import scope_of  # noqa: E402
from notifications.routing import socket_routes  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": _pages,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(socket_routes(scope_of)))),
    }
)
