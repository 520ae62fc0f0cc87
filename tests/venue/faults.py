"""What goes wrong at the venue, to order. A :class:`Fault` says what happens to which requests, how often.

At the wire (any request):

| action | what happens |
| --- | --- |
| ``delay`` | the answer comes ``seconds`` later |
| ``timeout`` | no answer for ``seconds``, then the connection ends; ``when``: ``before`` or ``after`` it is processed |
| ``cut`` | the connection ends without an answer, ``before`` or ``after`` |
| ``half`` | the request is processed, the answer stops in the middle |
| ``status`` | an error answer with this ``status`` (401, 403, 429, 500, 502, 503 …), ``before`` or ``after`` |

To an order that is placed (requests that create one):

| action | what happens |
| --- | --- |
| ``partial`` | only ``share`` of what could be filled at once is |
| ``pending`` | it stays PENDING for ``looks`` looks, hidden from the OPEN filter |
| ``hidden`` | it cannot be seen for ``looks`` looks |
| ``late_fills`` | it shows as filled, its fills are left out of ``looks`` listings |
| ``reject`` | it is refused with ``reason`` |
| ``venue_cancel`` | it is accepted, and cancelled by the venue at once |

To a cancel: ``race`` fills ``share`` of the rest in the moment the cancel arrives, ``late_race`` when somebody looks
after the cancel was answered with success.

To a listing: ``duplicate`` repeats rows, ``reorder`` shuffles them.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

WIRE = ("delay", "timeout", "cut", "half", "status")
ORDER = ("partial", "pending", "hidden", "late_fills", "reject", "venue_cancel")
CANCEL = ("race", "late_race")
LISTING = ("duplicate", "reorder")


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong. ``count`` is how often it does (None: for ever), ``skip`` how many matching requests
    go well before, ``probability`` the chance at each. ``path`` is a regular expression."""

    action: str
    path: str = ""
    method: str = ""
    account: str = ""
    client_order_id: str = ""
    count: int | None = 1
    skip: int = 0
    probability: float = 1.0
    when: str = "before"
    seconds: float = 0.05
    status: int = 500
    headers: dict[str, str] | None = None
    share: str = "0.5"
    looks: int = 1
    reason: str = "UNKNOWN_FAILURE_REASON"

    def __post_init__(self) -> None:
        if self.action not in (*WIRE, *ORDER, *CANCEL, *LISTING):
            raise ValueError(f"there is no fault called {self.action}")
        if self.when not in ("before", "after"):
            raise ValueError("a fault happens before or after the request is processed")

    def matches(self, method: str, path: str, account: str, client_order_ids: tuple[str, ...]) -> bool:
        return (
            (not self.path or re.search(self.path, path) is not None)
            and self.method in ("", method)
            and self.account in ("", account)
            and (not self.client_order_id or self.client_order_id in client_order_ids)
        )

    @property
    def name(self) -> str:
        """Return how it is counted."""
        if self.action == "status":
            return f"{self.status} {self.when}"
        return f"{self.action} {self.when}" if self.action in ("timeout", "cut") else self.action


class Faults:
    """The faults that wait for their request, and how many have happened. Draws are reproducible by ``seed``."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.waiting: list[Fault] = []
        self.happened: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Let a fault wait for its request."""
        with self._lock:
            self.waiting.append(fault)
        return fault

    def clear(self) -> None:
        """Let everything go well from now on."""
        with self._lock:
            self.waiting.clear()

    def draw(
        self,
        actions: tuple[str, ...],
        method: str,
        path: str,
        account: str = "",
        client_order_ids: tuple[str, ...] = (),
    ) -> list[Fault]:
        """Return the faults of these kinds that befall this request now, and count them."""
        drawn = []
        with self._lock:
            for fault in list(self.waiting):
                if fault.action not in actions or not fault.matches(method, path, account, client_order_ids):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.probability < 1 and self.rng.random() >= fault.probability:
                    continue
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count <= 0:
                        self.waiting.remove(fault)
                self.happened[fault.name] += 1
                drawn.append(fault)
                if fault.action in WIRE and fault.action != "delay":
                    break  # one request goes wrong at the wire in one way
        return drawn

    def disorder(self, rows: list[Any], method: str, path: str, account: str) -> list[Any]:
        """Return a listing as duplicated and shuffled as it is to be."""
        for fault in self.draw(LISTING, method, path, account):
            rows = list(rows)
            if fault.action == "duplicate":
                rows += [self.rng.choice(rows) for _ in range(min(len(rows), 2))] if rows else []
            else:
                self.rng.shuffle(rows)
        return rows

    def to_json(self) -> list[dict[str, Any]]:
        """Return what waits, as the control interface shows it."""
        return [asdict(fault) for fault in self.waiting]
