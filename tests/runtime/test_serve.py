"""``manage.py serve``: starts everything once, keeps it running, stops it in order, survives being killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.serving import Serving, command_of, environment, free_port, serving
from tradebot.runtime.environment import ROOT, valkey_socket

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


def gone(pids: dict[str, int]) -> bool:
    return not any(command_of(pid) for pid in pids.values())


def second_start(first: Serving, port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "serve"],
        env=environment(first.data_dir, port),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_one_command_starts_everything_and_stops_it_within_ten_seconds(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as run:
        run.started()
        assert set(run.children()) == {"web", "worker", "backtests", "beat", "valkey"}
        assert run.ready()
        password = (run.data_dir / "demo-password.txt").read_text().strip()
        assert f"http://127.0.0.1:{run.port}" in run.said()
        assert "demo@tradebot.local" in run.said()
        assert password in run.said()
        assert "Simulated" in run.said()
        for private in ("secrets.env", "demo-password.txt"):
            assert (run.data_dir / private).stat().st_mode & 0o077 == 0
        page = run.get("/auth/login/")
        assert page is not None
        assert page[0] == 200

        other = second_start(run, free_port())  # F1
        assert other.returncode == 1
        assert f"running already: process {run.process.pid}" in other.stderr
        assert run.ready()

        children = run.children()
        assert "Traceback" not in run.said()
        assert run.end() < 10
        assert run.process.returncode == 0
        assert gone(children)
        assert not valkey_socket(run.data_dir).exists()


def test_f1_what_dies_is_started_again_and_a_killed_supervisor_leaves_nothing_behind(
    tmp_path: Path, prepared: Path
) -> None:
    deep = tmp_path / ("a folder with a long name " * 5)  # too long for a socket of its own, and with spaces
    shutil.copytree(prepared, deep)
    with serving(deep) as run:
        run.started()
        before = run.children()
        killed = {before["worker"], before["valkey"]}
        for name in ("worker", "valkey"):
            os.kill(before[name], signal.SIGKILL)
        run.until(lambda: set(before) == set(now := run.children()) and not {now["worker"], now["valkey"]} & killed)
        after = run.children()
        assert (after["web"], after["beat"]) == (before["web"], before["beat"])
        run.until(run.ready)
        assert "worker ended with code -9" in run.said()

        run.end(signal.SIGKILL)
    with serving(deep, run.port) as again:
        again.started()
        assert gone(after)
        assert again.ready()
        secrets = (deep / "secrets.env").read_text()
        assert secrets.count("SECRET_KEY=") == secrets.count("ENCRYPTION_KEYS=") == 1
        assert again.end(signal.SIGINT) < 10


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = Serving(tmp_path / "data", port)
        assert run.process.wait(60) == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in run.said()
    assert "--port" in run.said()
    assert not (run.data_dir / "tradebot.sqlite3").exists()


def test_a_database_that_cannot_be_prepared_stops_the_start_with_the_reason(tmp_path: Path) -> None:
    run = Serving(tmp_path / "data", free_port(), DATABASE_URL=f"sqlite:///{tmp_path}/no/such/folder/db.sqlite3")
    assert run.process.wait(60) == 1
    assert "unable to open database file" in run.said()
    assert "Tradebot did not start" in run.said()
