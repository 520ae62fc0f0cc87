"""Whether this process has been told to end: then what was begun is finished, and no new order is begun (F70)."""

from __future__ import annotations

import threading

__all__ = ["go_on", "is_stopping", "stop"]

_told = threading.Event()


def stop() -> None:
    """Note that the process is to end. Called by whoever hears of it first."""
    _told.set()


def is_stopping() -> bool:
    """Return whether the process is to end."""
    return _told.is_set()


def go_on() -> None:
    """Take it back. For processes that outlive a stop, which are those of tests."""
    _told.clear()
