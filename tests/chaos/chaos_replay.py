"""``make chaos``: two hundred runs that are killed at random moments (CHAOS_RUNS, CHAOS_SEED)."""

from __future__ import annotations

import os

from tests.chaos.test_kill import kill_runs


def test_two_hundred_killed_runs_end_like_an_undisturbed_one() -> None:
    report = kill_runs(int(os.environ.get("CHAOS_RUNS", "200")), int(os.environ.get("CHAOS_SEED", "1")))
    print(f"\n{report}")
    assert "0 wrong" in report
