"""Memory of all processes of ``manage.py serve`` with 100 running paper bots (BENCH_MINUTES, default 10)."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.runtime.serving import Serving, children_of, environment, serving
from tradebot.runtime.environment import ROOT

MINUTES = float(os.environ.get("BENCH_MINUTES", "10"))
BOTS, BAR_MB = 100, 600
MAKE_BOTS = f"""
from accounts.access import acting_for
from accounts.models import Account, User
from bots.services import create_bot, start_bot
from bots.strategies import get_strategy
strategy = get_strategy("indicator_dca")
settings = {{preset.name: preset for preset in strategy.presets}}["demo"].settings.to_json()
user = User.objects.get(email="demo@tradebot.local")
with acting_for(user):
    account = Account.objects.get(is_default=True)
    for number in range({BOTS} - 2):
        bot = create_bot(user, account=account, name=f"Bench {{number}}", settings=settings,
                         symbols=["BTC-USD", "ETH-USD", "SOL-USD", "ADA-USD", "LTC-USD"], budget_pct="0.9")
        start_bot(bot, actor="bench")
"""


def megabytes(pid: int, field: str) -> float:
    """Return ``Pss`` or ``Rss`` of a process, in MB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def measured(running: Serving) -> tuple[float, float, int]:
    """Return (PSS, RSS) in MB of all processes together, and how many they are."""
    pids, seen = [running.process.pid], []
    while pids:
        pid = pids.pop()
        seen.append(pid)
        pids += children_of(pid)
    return sum(megabytes(pid, "Pss") for pid in seen), sum(megabytes(pid, "Rss") for pid in seen), len(seen)


def count(running: Serving, table: str) -> int:
    connection = sqlite3.connect(f"file:{running.data_dir / 'tradebot.sqlite3'}?mode=ro", uri=True, timeout=30)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


def test_memory_of_all_processes_with_a_hundred_bots(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as running:
        running.started()
        subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), "shell", "-c", MAKE_BOTS],
            env=environment(running.data_dir, running.port),
            check=True,
        )
        pss, rss, processes = measured(running)
        print(f"\nmemory at the start, {BOTS} bots: {pss:.0f} MB PSS, {rss:.0f} MB RSS, {processes} processes")
        deadline = time.monotonic() + MINUTES * 60
        while time.monotonic() < deadline:
            running.until(lambda: True)
            time.sleep(5)
        pss, rss, processes = measured(running)
        fills = count(running, "positions_fill")
        print(
            f"memory after {MINUTES:g} minutes, {BOTS} bots, {fills} fills: "
            f"{pss:.0f} MB PSS, {rss:.0f} MB RSS, {processes} processes (bar {BAR_MB} MB)"
        )
        assert running.ready()
