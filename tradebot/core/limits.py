"""How often something may be asked for: counted in the cache that all processes share, in fixed stretches of time."""

from __future__ import annotations

import hashlib

from django.core.cache import cache

from tradebot.core import clock

__all__ = ["seconds_to_wait"]


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
