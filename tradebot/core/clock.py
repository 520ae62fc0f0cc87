"""The one clock of the domain: aware UTC time, which a replay may set for its own thread of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

__all__ = ["at", "now"]

_moment: ContextVar[datetime | None] = ContextVar("tradebot_clock", default=None)


def now() -> datetime:
    """Return the present moment, aware UTC; inside :func:`at` the moment given there."""
    return _moment.get() or datetime.now(UTC)


@contextmanager
def at(moment: datetime) -> Iterator[datetime]:
    """Let :func:`now` answer ``moment`` (aware) within this context only. Nesting is fine."""
    if moment.tzinfo is None:
        raise ValueError("the clock takes aware times")
    token = _moment.set(moment.astimezone(UTC))
    try:
        yield moment
    finally:
        _moment.reset(token)
