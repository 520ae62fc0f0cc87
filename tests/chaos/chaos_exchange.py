"""``make chaos``: a thousand worker lives at the fake venue (CHAOS_LIVES, CHAOS_SEED; CHAOS_REPORT names a file)."""

from __future__ import annotations

import os

from tests.chaos.test_exchange import chaos


def test_a_thousand_worker_lives_lose_and_double_nothing() -> None:
    more = ["--markdown", os.environ["CHAOS_REPORT"]] if os.environ.get("CHAOS_REPORT") else []
    report = chaos(int(os.environ.get("CHAOS_LIVES", "1000")), int(os.environ.get("CHAOS_SEED", "1")), *more)
    print(f"\n{report}")
