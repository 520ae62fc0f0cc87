"""A worker that is killed with ``kill -9`` at random moments loses no order and doubles none (F5, F14, F18)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prepared import DATABASE

ROOT = Path(__file__).resolve().parents[2]


def kill_runs(runs: int, seed: int, *more: str, candles: int = 240) -> str:
    """Run the killer in a process of its own and return what it printed; fails with that where anything was wrong."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"DEBUG": "1", "DJANGO_SETTINGS_MODULE": "tradebot.settings", "LOG_LEVEL": "ERROR"}
    environment.pop("DATABASE_URL", None)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.chaos.killer",
            "--runs",
            str(runs),
            "--seed",
            str(seed),
            "--candles",
            str(candles),
            *more,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_f14_killed_replays_end_like_an_undisturbed_one(prepared: Path) -> None:
    report = kill_runs(3, 7, "--migrated", str(prepared / DATABASE), candles=110)
    assert "0 wrong" in report
    assert int(report.split(" kills")[0].split()[-1]) >= 3
