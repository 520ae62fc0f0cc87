"""Whether this process was asked to end: long work looks here, puts itself back and leaves. Pure."""

from __future__ import annotations

import threading

__all__ = ["ask", "forget", "wanted"]

_asked = threading.Event()


def ask() -> None:
    """Ask the long work of this process to leave. May be called in a signal handler."""
    _asked.set()


def wanted() -> bool:
    """Return whether somebody asked."""
    return _asked.is_set()


def forget() -> None:
    """Take the request back."""
    _asked.clear()
