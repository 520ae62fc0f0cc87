"""Addresses of sockets. There is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import path, re_path

from notifications.consumers import EventConsumer
from tradebot.core.scoping import Scope

__all__ = ["socket_routes"]


class NoSuchSocket(AsyncWebsocketConsumer):
    """Refuses a socket at any other address, where the router alone would log an error for each knock."""

    async def connect(self) -> None:
        await self.close()


def socket_routes(scope_of: Callable[[Any], Scope]) -> list[Any]:
    """Return the routes; ``scope_of`` tells which accounts a user may see."""
    return [path("ws/", EventConsumer.as_asgi(scope_of=scope_of)), re_path(r"", NoSuchSocket.as_asgi())]
