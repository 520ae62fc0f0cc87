"""One account's way to its venue: every request passes here, and every failure becomes one of our errors.

A read may be repeated (three times at most, with jitter, and only after failures that came quickly). A write is sent
once, whatever happens to it (F69). Both need a closed breaker and a place in the limits; what is refused there was not
sent. A refusal for the request's time is answered by measuring the venue's clock, once for all who speak to it.
"""

from __future__ import annotations

import decimal
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from accounts.exchanges.breaker import Breaker
from accounts.exchanges.limits import KeyLimiter
from marketdata.wire.client import Exchanged, NoAnswer, Unsigned, Wrong, exchanging
from marketdata.wire.failures import Act, Refusal, is_outage, translated
from tradebot.core.errors import TradebotError, VenueDenied, VenueError, VenueThrottled, VenueUnavailable, VenueUnknown

__all__ = ["Connection"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

ATTEMPTS: Final = 3
QUICK_SECONDS: Final = 4.0
"""A read is repeated as long as all its tries together have taken no longer: a time-out is not tried again."""
FIRST_WAIT_SECONDS: Final = 0.1
CLOCK_SECONDS: Final = 3600
CLOCK_ASKED_SECONDS: Final = 60
TOLERATED_OFFSET: Final = 1.0


class Connection:
    """A client with the limits and breakers that stand before it. Used by many threads at once."""

    def __init__(
        self,
        client: Any,
        venue: str,
        limiter: KeyLimiter,
        breaker: Breaker,
        refusal_of: Callable[[Any, int | None], Refusal | None],
        ask_time: Callable[[Any], float],
        bans_address: Callable[[Exchanged], bool],
    ) -> None:
        self.client, self.venue = client, venue
        self.limiter, self.breaker = limiter, breaker
        self._refusal_of, self._ask_time, self._bans_address = refusal_of, ask_time, bans_address
        self._learn_offset()

    def read(self, ask: Callable[[Any], T], **numbers: Any) -> T:
        """Return what ``ask(client)`` returns: one request that changes nothing.

        Raises VenueUnavailable, VenueThrottled, VenueDenied, VenueRejected (a clear no, e.g. to an unknown id).
        """
        started, wait = time.monotonic(), FIRST_WAIT_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(ask, Act.READ, numbers)
            except VenueThrottled:
                raise
            except VenueDenied as error:
                if attempt > 1 or not self._clock_was_wrong(error):
                    raise
            except VenueUnavailable as error:
                if error.code in ("venue_down", "bad_request", "malformed_answer") or attempt == ATTEMPTS:
                    raise
                if error.code == "clock_skew":
                    self._clock_was_wrong(error)
                if time.monotonic() - started + wait > QUICK_SECONDS:
                    raise
                time.sleep(wait * random.uniform(0.5, 1.0))
                wait *= 2
        raise AssertionError("unreachable")

    def write(self, ask: Callable[[Any], T], **numbers: Any) -> T:
        """Return what ``ask(client)`` returns: one request that changes something, sent once and never again.

        Raises VenueRejected, VenueDenied, VenueThrottled (nothing was done), VenueUnknown.
        """
        try:
            return self._once(ask, Act.WRITE, numbers)
        except (VenueDenied, VenueThrottled) as error:
            if error.code != "clock_skew" and not isinstance(error, VenueDenied):
                raise
            if not self._clock_was_wrong(error):
                raise
            raise VenueThrottled(
                "clock_skew",
                f"{self.venue}'s clock is not ours; it has been measured, and the next request will be right. "
                "Nothing was done.",
                retry_after=1,
                **error.detail,
            ) from None

    def _once(self, ask: Callable[[Any], T], act: Act, numbers: Mapping[str, Any]) -> T:
        self.breaker.check(act)
        self.limiter.acquire(act)
        with exchanging() as wire, decimal.localcontext():  # ccxt changes the context that it computes in
            try:
                answer = ask(self.client)
            except TradebotError as error:
                # The answer came, and either says no or is not what it should be.
                self._note(wire, None)
                if act is Act.WRITE and isinstance(error, VenueUnavailable):
                    raise VenueUnknown(error.code, error.message, **error.detail) from None
                raise
            except Exception as error:
                if not _is_venues(error) and not wire.requests:
                    raise  # a fault of ours, before anything was sent
                refusal = self._refusal_of(wire.body, wire.status) if wire.complete else None
                failure = translated(error, wire, act, self.venue, refusal, **numbers)
                if not _is_venues(error):
                    log.exception("venue.answer_unreadable", venue=self.venue, path=wire.path)
                self._note(wire, failure)
                # ccxt's errors quote addresses and answers, so they are not handed on.
                raise failure from None
        self._note(wire, None)
        return answer

    def _note(self, wire: Exchanged, error: VenueError | None) -> None:
        """Tell breaker and limiter how it went."""
        if error is not None and is_outage(error):
            self.breaker.failed()
        elif wire.requests and wire.complete:
            self.breaker.succeeded()
        if isinstance(error, VenueThrottled) and wire.requests and error.code == "throttled":
            error.retry_after = self.limiter.refused(wire.retry_after, whole_address=self._bans_address(wire))

    # The venue's clock ------------------------------------------------------------------------------------------------

    @property
    def _clock_key(self) -> str:
        return f"clock:{self.client.base_url}"

    def _learn_offset(self) -> None:
        try:
            known = cache.get(self._clock_key)
        except (RedisError, OSError):
            return
        if known is not None:
            self.client.clock_offset = float(known)

    def _clock_was_wrong(self, error: VenueError) -> bool:
        """Measure the venue's clock after a refusal; return whether it differs from what we went by.

        Asked once a minute at most, whatever is refused: wrong keys are refused all the time.
        """
        before = self.client.clock_offset
        self._learn_offset()
        if abs(self.client.clock_offset - before) > TOLERATED_OFFSET:
            return True
        try:
            if not cache.add(f"{self._clock_key}:asked", 1, timeout=CLOCK_ASKED_SECONDS):
                return False
            with exchanging(), decimal.localcontext():
                asked = time.time()
                theirs = self._ask_time(self.client)
                offset = theirs - (asked + time.time()) / 2
            cache.set(self._clock_key, offset, timeout=CLOCK_SECONDS)
        except (RedisError, OSError, NoAnswer, Wrong, ValueError, TypeError, KeyError) as failure:
            log.warning("venue.clock_unknown", venue=self.venue, error=type(failure).__name__)
            return False
        except Exception as failure:
            if not _is_venues(failure):
                raise
            log.warning("venue.clock_unknown", venue=self.venue, error=type(failure).__name__)
            return False
        self.client.clock_offset = offset
        if abs(offset - before) > TOLERATED_OFFSET:
            log.warning("venue.clock_differs", venue=self.venue, seconds=round(offset, 1), code=error.code)
            return True
        return False


def _is_venues(error: BaseException) -> bool:
    """Return whether an error is about the venue, rather than a fault in our code."""
    if isinstance(error, NoAnswer | Unsigned | Wrong):
        return True
    return any(base.__name__ == "BaseError" and base.__module__.startswith("ccxt") for base in type(error).__mro__)
