"""How often something may be asked for, counted in the cache that all processes share.

Two answers to a cache that does not: the API goes on without counting, because closing a deal must not fail for want of
a counter; :func:`seconds_to_wait`, which stands before what strangers send, raises.
"""

from __future__ import annotations

import hashlib
from typing import Any

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError
from rest_framework.throttling import AnonRateThrottle, BaseThrottle, UserRateThrottle

from tradebot.core import clock

__all__ = ["PersonThrottle", "StrangerThrottle", "seconds_to_wait"]

log = structlog.get_logger(__name__)


def seconds_to_wait(name: str, key: str, most: int, seconds: int) -> int:
    """Count one more ``name`` of ``key``; return 0 while there are at most ``most`` in this stretch of ``seconds``.

    Beyond that it returns how many seconds are left of the stretch. Counting is all it does: the caller refuses.
    """
    now = clock.now().timestamp()
    stretch = int(now // seconds)
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]  # keys come from outside; the cache takes short plain ones
    place = f"limit:{name}:{digest}:{stretch}"
    cache.add(place, 0, timeout=2 * seconds)
    if cache.incr(place) <= most:
        return 0
    return max(1, int((stretch + 1) * seconds - now))


class _Uncounted(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        try:
            return bool(super().allow_request(request, view))
        except (RedisError, OSError) as error:
            log.error("throttle.cache_unavailable", error=str(error))
            return True


class PersonThrottle(_Uncounted, UserRateThrottle):
    """Counts the requests of somebody whom the API knows."""


class StrangerThrottle(_Uncounted, AnonRateThrottle):
    """Counts the requests of an address that has not shown who it is."""
