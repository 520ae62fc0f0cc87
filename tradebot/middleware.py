"""Pages show times in the reader's zone."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

__all__ = ["TimeZoneMiddleware", "zone_of"]


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone ``name``; one that this machine does not know is taken for UTC."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


class TimeZoneMiddleware:
    """Makes the signed-in person's zone the current one for the request. Domain code works in UTC regardless."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return self.get_response(request)
        with timezone.override(zone_of(request.user.timezone)):
            return self.get_response(request)
