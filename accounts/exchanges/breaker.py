"""Leaving alone what does not answer: circuit breakers for each account at a venue, and for each venue.

A breaker counts outages (time-outs, cut connections, server errors) without a success in between:

1. Closed: everything passes. An account's opens at the fourth outage in a row, a venue's at the twelfth of anybody.
2. Open: reads are refused at once, without waiting for a time-out that would cost others their turn. After
   ``OPEN_SECONDS``, twice as long after each failed try, it is half open.
3. Half open: one request may try. Its success closes the breaker, its failure opens it again.

An order or a cancel may try an open breaker, once in fifteen seconds: a close must not wait for a read to find out
that the venue is back. What is refused was not sent (``VenueThrottled``), so nothing about it is unknown. The state is
in the cache, shared by all processes; without a cache nothing is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from marketdata.wire.failures import Act
from tradebot.core.errors import VenueThrottled, VenueUnavailable

__all__ = ["Breaker", "BreakerState", "State", "breaker_state"]

log = structlog.get_logger(__name__)

ACCOUNT_OUTAGES: Final = 4
VENUE_OUTAGES: Final = 12
OPEN_SECONDS: Final = 5.0
LONGEST_OPEN_SECONDS: Final = 120.0
PROBE_SECONDS: Final = 20
"""How long the one who tries may take before somebody else may."""
WRITE_PROBE_SECONDS: Final = 15
KEPT_SECONDS: Final = 3600


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerState:
    """What a breaker says now: ``outages`` in a row; ``opens_for`` seconds until somebody may try, 0 unless open."""

    state: State
    outages: int = 0
    opens_for: float = 0.0


class Breaker:
    """The breakers that stand before one account's requests to one venue: its own, and the venue's."""

    def __init__(self, venue: str, account_id: int, *, now: Callable[[], float] = time.time) -> None:
        self.venue, self.account_id, self._now = venue, account_id, now
        self._parts = ((_account_key(venue, account_id), ACCOUNT_OUTAGES), (_venue_key(venue), VENUE_OUTAGES))

    def check(self, act: Act) -> None:
        """Let a request pass. Raises VenueUnavailable (a read) or VenueThrottled (nothing was sent)."""
        tries: list[str] = []
        try:
            for key, _ in self._parts:
                self._check(key, act, tries)
        except (RedisError, OSError) as error:
            log.error("breaker.cache_unavailable", venue=self.venue, error=str(error))

    def _check(self, key: str, act: Act, tries: list[str]) -> None:
        """Let one breaker pass the request; ``tries`` are the turns to try that were taken for it."""
        open_until = cache.get(f"{key}:open")
        found = _state(open_until, 0, self._now())
        if found.state is State.CLOSED:
            return
        # Named after this opening: who looked before a try failed does not get another one out of turn.
        probe, write_probe = f"{key}:probe:{open_until}", f"{key}:write-probe"
        if found.state is State.HALF_OPEN and cache.add(probe, 1, timeout=PROBE_SECONDS):
            tries.append(probe)
            return
        if act is Act.WRITE and cache.add(write_probe, 1, timeout=WRITE_PROBE_SECONDS):
            tries.append(write_probe)
            return
        if tries:
            cache.delete_many(tries)  # nothing is sent, so nobody tries
        text = f"{self.venue} has not answered of late and is left alone for a moment."
        if act is Act.READ:
            raise VenueUnavailable("venue_down", text, retry_after=max(found.opens_for, 1.0))
        raise VenueThrottled("venue_down", text, retry_after=max(found.opens_for, 1.0))

    def succeeded(self) -> None:
        """Note that the venue answered."""
        try:
            keys = [f"{key}:{what}" for key, _ in self._parts for what in ("outages", "open", "write-probe")]
            if cache.get_many([name for name in keys if name.endswith((":outages", ":open"))]):
                cache.delete_many(keys)
        except (RedisError, OSError) as error:
            log.error("breaker.cache_unavailable", venue=self.venue, error=str(error))

    def failed(self) -> None:
        """Note that the venue did not answer."""
        try:
            for key, most in self._parts:
                self._count(key, most)
        except (RedisError, OSError, ValueError) as error:
            log.error("breaker.cache_unavailable", venue=self.venue, error=str(error))

    def _count(self, key: str, most: int) -> None:
        if _state(cache.get(f"{key}:open"), 0, self._now()).state is State.OPEN:
            return  # several failed together: that is one outage
        cache.add(f"{key}:outages", 0, timeout=KEPT_SECONDS)
        outages = int(cache.incr(f"{key}:outages"))
        if outages < most:
            return
        seconds = min(OPEN_SECONDS * 2 ** min(outages - most, 10), LONGEST_OPEN_SECONDS)
        cache.set(f"{key}:open", self._now() + seconds, timeout=KEPT_SECONDS)
        if outages == most:
            log.warning("breaker.opened", venue=self.venue, breaker=key, outages=outages)


def _account_key(venue: str, account_id: int) -> str:
    return f"breaker:{venue}:account:{account_id}"


def _venue_key(venue: str) -> str:
    return f"breaker:{venue}:all"


def _state(open_until: Any, outages: int, now: float) -> BreakerState:
    if open_until is None:
        return BreakerState(State.CLOSED, outages)
    left = float(open_until) - now
    return BreakerState(State.OPEN if left > 0 else State.HALF_OPEN, outages, max(left, 0.0))


def breaker_state(venue: str, account_ids: Iterable[int] = ()) -> dict[int | None, BreakerState]:
    """Return the breakers of these accounts at ``venue`` by account id, and the venue's own under None.

    One look at the cache. Without a reachable cache they are all closed: nothing is refused then.
    """
    names = {None: _venue_key(venue)} | {pk: _account_key(venue, pk) for pk in account_ids}
    try:
        found = cache.get_many([f"{name}:{what}" for name in names.values() for what in ("open", "outages")])
    except (RedisError, OSError) as error:
        log.error("breaker.cache_unavailable", venue=venue, error=str(error))
        found = {}
    now = time.time()
    return {
        pk: _state(found.get(f"{name}:open"), int(found.get(f"{name}:outages") or 0), now) for pk, name in names.items()
    }
