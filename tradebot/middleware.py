"""Pages show times in the reader's zone."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from tradebot.core.zones import zone_of

__all__ = ["TimeZoneMiddleware"]


class TimeZoneMiddleware:
    """Makes the signed-in person's zone the current one for the request. Domain code works in UTC regardless."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return self.get_response(request)
        with timezone.override(zone_of(request.user.timezone)):
            return self.get_response(request)
