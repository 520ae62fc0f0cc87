"""What tests of orders expect and do in several places."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import close_old_connections, connections

from tradebot.core.errors import OrderRefused


def refused(code: str) -> Any:
    """Expect a refusal with this code."""
    return pytest.raises(OrderRefused, check=lambda error: error.code == code)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(number)`` in threads that start together; return results, refusals among them."""
    gate, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        close_old_connections()
        try:
            gate.wait(timeout=20)
            results[number] = work(number)
        except OrderRefused as refusal:
            results[number] = refusal
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results
