"""How many requests an account's key sends, counted across all processes, and fair between people (F69).

A request with a key needs a place in two allowances: its key's, and that of the address which all keys of this
installation share. In each clock window:

* a key gets at most its own allowance, and at most ``address / (n + 1)`` of the address's, where ``n`` is the number of
  keys that ask in this window or asked in the last one. So there is always room for one more: a burst of one person
  never takes the last place, and a newcomer finds a share free at once;
* reads take at most four fifths of either; the rest is kept for orders and cancels.

Who finds no place waits for the next window, a read for four seconds at most and an order for two, then
``VenueThrottled``: nothing was sent. A venue that answers "too many requests" gets what it asks for: the key is paused
(or the address, where it says so) for as long as it says, or twice as long each time. Nobody waits for a pause to end,
so whoever is paused costs nobody else any time.

Without a cache there are no limits: a stop must not fail because a counter is away.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from marketdata.sources.limiter import Windows
from marketdata.wire.failures import Act
from marketdata.wire.venues import Allowance, Rate
from tradebot.core.errors import VenueThrottled

__all__ = ["KeyLimiter"]

log = structlog.get_logger(__name__)

LONGEST_WAIT: Final = {Act.READ: 4.0, Act.WRITE: 2.0}
READ_SHARE: Final = 0.8
FIRST_PAUSE_SECONDS: Final = 2.0
LONGEST_PAUSE_SECONDS: Final = 120.0
STORM_SECONDS: Final = 300
"""Refusals further apart than this are not one storm."""


class KeyLimiter:
    """The places of one key (``key`` names it without telling it) at one address of a venue."""

    def __init__(
        self,
        address: str,
        key: str,
        allowance: Allowance,
        *,
        now: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.key = f"key:{key}"
        self.allowance = allowance
        self.windows = Windows(address, now)
        self._wait = wait

    def acquire(self, act: Act) -> None:
        """Take a place, waiting for it if need be. Raises VenueThrottled; nothing was sent then."""
        try:
            self._acquire(act)
        except (RedisError, OSError) as error:
            log.error("limiter.cache_unavailable", address=self.windows.name, error=str(error))

    def _acquire(self, act: Act) -> None:
        waited = 0.0
        while True:
            full = self.try_acquire(act)
            if full is None:
                return
            pause = self.windows.until_next(full) + random.uniform(0, 0.02)
            if waited + pause > LONGEST_WAIT[act]:
                raise VenueThrottled("throttled", "There is no place for this request at present.", retry_after=pause)
            waited += pause
            self._wait(pause)

    def try_acquire(self, act: Act) -> Rate | None:
        """Take a place now; return None, or the rate that is used up. Raises VenueThrottled during a pause."""
        if (left := self.windows.paused(self.key, "keys")) > 0:
            raise VenueThrottled("throttled", "The venue asked for a pause.", retry_after=left)
        return self._full(self.windows.frozen(), act)

    def _full(self, windows: Windows, act: Act) -> Rate | None:
        """Take a place; return None, or the rate that has none left (and then nothing is taken)."""
        key_rate, address_rate = self.allowance.key, self.allowance.address
        of_key = windows.take(self.key, key_rate, self._most(key_rate.count, act))
        if of_key is None:
            return key_rate
        share = self._share(windows, address_rate)
        of_share = windows.take(f"{self.key}:share", address_rate, self._most(share, act))
        if of_share is not None:
            if windows.take("keys", address_rate, self._most(address_rate.count, act)) is not None:
                return None
            of_share()
        of_key()
        return address_rate

    def _share(self, windows: Windows, rate: Rate) -> int:
        """Return how many of the address's places this key may have now."""
        if windows.add(f"{self.key}:seen", rate) == 1:
            active = windows.add("active", rate)
        else:
            active = int(cache.get(windows.place("active", rate)) or 1)
        before = int(cache.get(windows.place("active", rate, windows_ago=1)) or 0)
        return max(1, rate.count // (max(active, before) + 1))

    @staticmethod
    def _most(count: int, act: Act) -> int:
        return max(1, int(count * READ_SHARE)) if act is Act.READ else count

    def refused(self, retry_after: float | None, *, whole_address: bool = False) -> float:
        """Note that the venue wants fewer requests; return the seconds for which nothing will be sent.

        Refusals of requests that were under way together are one: only the first of a pause makes the next one longer,
        and no later one ends it early.
        """
        what = "keys" if whole_address else self.key
        try:
            if (left := self.windows.paused(what)) > 0:
                seconds = max(retry_after or 0.0, left)
            else:
                seconds = retry_after or self._storm_seconds(what)
            self.windows.pause(what, seconds)
        except (RedisError, OSError, ValueError) as error:
            log.error("limiter.cache_unavailable", address=self.windows.name, error=str(error))
            return retry_after or FIRST_PAUSE_SECONDS
        return seconds

    def _storm_seconds(self, what: str) -> float:
        """Return how long to pause where the venue does not say: twice as long each time."""
        storm = f"limit:{self.windows.name}:{what}:storm"
        cache.add(storm, 0, timeout=STORM_SECONDS)
        times = int(cache.incr(storm))
        return min(FIRST_PAUSE_SECONDS * 2 ** min(times - 1, 10), LONGEST_PAUSE_SECONDS)
