"""The cache that all processes share: Django's Redis cache, which waits for a server that hangs once and not each time.

A server that is away says so at once. One that hangs (stopped, swapping, behind a broken line) costs its time-out with
every call, and a page or a cycle makes many. So the time-outs are short (``settings.SHARED_CACHE``), and after one of
them the server rests for ``rest_seconds``: every call of this process raises at once, as it does when nobody listens.
Then one call tries for all. Who reads the cache can do without it, and takes nothing that is missing for known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import structlog
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import TimeoutError as Unanswered

__all__ = ["SharedCache"]

log = structlog.get_logger(__name__)

REST_SECONDS: Final = 5.0

P = ParamSpec("P")
T = TypeVar("T")

_rests_until: dict[str, float] = {}
"""Monotonic times by server. Of the process, because each of its threads has a cache object of its own."""


def _asked(method: Callable[Concatenate[Any, P], T]) -> Callable[..., T]:
    """Ask the server unless it rests; let it rest when it does not answer in time. Raises what redis raises."""

    @wraps(method)
    def ask(client: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        server, now = client.server, time.monotonic()
        if (until := _rests_until.get(server)) is not None:
            if now < until:
                raise Unanswered("The cache did not answer a moment ago.")
            _rests_until[server] = now + client.rest_seconds  # this call tries, the others go on doing without
        try:
            answer = method(client, *args, **kwargs)
        except Unanswered as error:
            _rests_until[server] = time.monotonic() + client.rest_seconds
            log.warning("cache.unanswered", error=str(error), rests_for=client.rest_seconds)
            raise
        except BaseException:
            _rests_until.pop(server, None)
            raise
        _rests_until.pop(server, None)
        return answer

    return ask


class _Client(RedisCacheClient):
    def __init__(self, servers: list[str], rest_seconds: float = REST_SECONDS, **options: Any) -> None:
        super().__init__(servers, **options)
        self.rest_seconds = rest_seconds
        self.server = ",".join(servers)

    add = _asked(RedisCacheClient.add)
    get = _asked(RedisCacheClient.get)
    set = _asked(RedisCacheClient.set)
    touch = _asked(RedisCacheClient.touch)
    delete = _asked(RedisCacheClient.delete)
    get_many = _asked(RedisCacheClient.get_many)
    has_key = _asked(RedisCacheClient.has_key)
    incr = _asked(RedisCacheClient.incr)
    set_many = _asked(RedisCacheClient.set_many)
    delete_many = _asked(RedisCacheClient.delete_many)
    clear = _asked(RedisCacheClient.clear)


class SharedCache(RedisCache):
    """Raises ``redis.exceptions.TimeoutError`` where the server hangs, ``ConnectionError`` where there is none."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = _Client
