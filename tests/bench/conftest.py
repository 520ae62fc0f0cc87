"""What figures of one machine are worth on another: how fast this one is at nothing but Python."""

from __future__ import annotations

import platform
import time

import pytest


@pytest.fixture(scope="session", autouse=True)
def this_machine() -> None:
    """Print the time of ten million additions before anything else. Set the figures in relation to it."""
    started, total = time.perf_counter(), 0
    for number in range(10_000_000):
        total += number
    seconds = time.perf_counter() - started
    print(f"\nPython {platform.python_version()}, ten million additions in a loop: {seconds:.2f} s\n")
