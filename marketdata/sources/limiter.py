"""How many requests we send to one address, counted across all processes that share the cache.

Venues limit public requests by address, so every worker of this host draws from one allowance. Private requests have
an allowance for each key and do not pass through here (F69).
"""

from __future__ import annotations

import time
from typing import Final

from django.core.cache import cache

from tradebot.core.errors import VenueUnavailable

__all__ = ["AddressLimiter"]

MAX_WAIT_SECONDS: Final = 15.0


class AddressLimiter:
    """At most ``per_second`` requests in any clock second, and none at all during a pause the venue asked for."""

    def __init__(self, address: str, per_second: int) -> None:
        self.address = address
        self.per_second = per_second

    def acquire(self) -> None:
        """Wait for a place. Raises VenueUnavailable when paused or when no place came free in 15 seconds."""
        paused_until = cache.get(self._key("pause"))
        if paused_until is not None and paused_until > time.time():
            raise VenueUnavailable(
                "throttled", "The venue asked us to send no requests for a while.", until=float(paused_until)
            )
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while True:
            now = time.time()
            key = self._key(str(int(now)))
            cache.add(key, 0, timeout=5)
            try:
                place = cache.incr(key)
            except ValueError:  # it expired between the two calls: a new second began
                continue
            if place <= self.per_second:
                return
            if time.monotonic() > deadline:
                raise VenueUnavailable("throttled", "Too many requests are waiting for this venue.")
            time.sleep(int(now) + 1 - now)

    def pause(self, seconds: float) -> None:
        """Let nobody on this address send anything for ``seconds``."""
        if seconds > 0:
            cache.set(self._key("pause"), time.time() + seconds, timeout=int(seconds) + 1)

    def _key(self, what: str) -> str:
        return f"limit:{self.address}:{what}"
