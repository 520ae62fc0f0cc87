"""How many requests we send to one address, counted across all processes that share the cache.

Venues limit public requests by address, so every worker of this host draws from one allowance. Requests with a key
draw from that key's allowance and a share of the address's: see ``accounts.exchanges.limits``, which counts with
:class:`Windows` too. Without a cache there are no limits, and no exception either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from marketdata.wire.venues import Rate
from tradebot.core.errors import VenueThrottled

__all__ = ["AddressLimiter", "Windows"]

log = structlog.get_logger(__name__)

MAX_WAIT_SECONDS: Final = 15.0


class Windows:
    """Counters of one clock window each, in the cache. ``incr`` is atomic in Redis and in the memory of one process."""

    def __init__(self, name: str, now: Callable[[], float] = time.time) -> None:
        self.name, self.now = name, now

    def frozen(self) -> Windows:
        """Return the windows of this moment: what is counted together belongs to one of them."""
        now = self.now()
        return Windows(self.name, lambda: now)

    def place(self, what: str, rate: Rate, windows_ago: int = 0) -> str:
        """Return the cache key of what is counted in the window that is on now, or one of those before."""
        return f"limit:{self.name}:{what}:{int(self.now() // rate.seconds) - windows_ago}"

    def add(self, what: str, rate: Rate) -> int:
        """Count and return how many there are in this window now."""
        return self._count(self.place(what, rate), rate)

    def take(self, what: str, rate: Rate, most: int) -> Callable[[], None] | None:
        """Take one of ``most`` places of this window; return how to give it back, or None when all are taken.

        It is given back to the window that it was taken from, whichever is on by then: the next one has no place more.
        """
        key = self.place(what, rate)
        if int(cache.get(key) or 0) >= most:
            return None  # without being counted for a moment, which could cost somebody else a place
        if self._count(key, rate) <= most:
            return lambda: self._give_back(key)
        self._give_back(key)
        return None

    def _count(self, key: str, rate: Rate) -> int:
        while True:
            cache.add(key, 0, timeout=rate.seconds * 3 + 2)
            try:
                return int(cache.incr(key))
            except ValueError:  # it expired between the two calls
                continue

    def _give_back(self, key: str) -> None:
        with suppress(ValueError):  # a window that nobody remembers has no places
            cache.decr(key)

    def until_next(self, rate: Rate) -> float:
        """Return the seconds until the next window begins."""
        return rate.seconds - self.now() % rate.seconds

    def pause(self, what: str, seconds: float) -> None:
        """Note that nothing is to be sent for ``seconds``; a pause that ends later stays as it is."""
        if seconds > self.paused(what):
            cache.set(f"limit:{self.name}:{what}:pause", self.now() + seconds, timeout=int(seconds) + 1)

    def paused(self, *whats: str) -> float:
        """Return for how many more seconds any of these is paused; 0 when none is."""
        found = cache.get_many([f"limit:{self.name}:{what}:pause" for what in whats])
        return max([float(until) - self.now() for until in found.values()] + [0.0])


class AddressLimiter:
    """At most ``per_second`` requests in any clock second (or what a :class:`Rate` says), and none during a pause that
    the venue asked for."""

    def __init__(
        self,
        address: str,
        per_second: int | Rate,
        *,
        now: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self.rate = per_second if isinstance(per_second, Rate) else Rate(per_second)
        self.windows = Windows(address, now)
        self._wait = wait

    def acquire(self) -> None:
        """Wait for a place. Raises VenueThrottled when paused or when no place came free in 15 seconds."""
        try:
            if (left := self.windows.paused("public")) > 0:
                raise VenueThrottled(
                    "throttled", "The venue asked us to send no requests for a while.", retry_after=left
                )
            waited = 0.0
            while self.windows.add("public", self.rate) > self.rate.count:
                left = self.windows.until_next(self.rate)
                if waited + left > MAX_WAIT_SECONDS:
                    raise VenueThrottled("throttled", "Too many requests are waiting for this venue.", retry_after=left)
                waited += left
                self._wait(left)
        except (RedisError, OSError) as error:
            log.error("limiter.cache_unavailable", address=self.address, error=str(error))

    def pause(self, seconds: float) -> None:
        """Let nobody on this address send anything for ``seconds``. Without a cache nobody hears of it."""
        try:
            self.windows.pause("public", seconds)
        except (RedisError, OSError) as error:
            log.error("limiter.cache_unavailable", address=self.address, error=str(error))
