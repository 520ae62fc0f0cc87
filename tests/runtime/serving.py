"""``manage.py serve`` as a test sees it: a process with a folder of its own on a free port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tradebot.runtime.children import die_with
from tradebot.runtime.environment import ROOT

START_SECONDS = 90  # the machine may be busy with other tests
OWN = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


def free_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data_dir: Path, port: int, **more: str) -> dict[str, str]:
    """The environment of an installation that has nothing but its folder, on the simulated market."""
    kept = {name: os.environ[name] for name in OWN if name in os.environ}
    return kept | {"DATA_DIR": str(data_dir), "PORT": str(port), "MARKET": "simulated", **more}


class Serving:
    """One running ``serve``. Its output goes to a file, so that it never waits for a reader."""

    def __init__(self, data_dir: Path, port: int, **more: str) -> None:
        self.data_dir, self.port = data_dir, port
        data_dir.mkdir(parents=True, exist_ok=True)
        self.output = data_dir / "output.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), "serve"],
                env=environment(data_dir, port, **more),
                cwd=data_dir,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )

    def said(self) -> str:
        return self.output.read_text()

    def until(self, condition: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
        """Ask until ``condition`` holds; a process that ended early ends the waiting with its own words."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return found

    def started(self) -> Serving:
        self.until(lambda: "Ctrl-C stops it" in self.said())
        return self

    def get(self, path: str) -> tuple[int, bytes] | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return None
        finally:
            connection.close()

    def ready(self) -> bool:
        answer = self.get("/readyz")
        return answer is not None and answer[0] == 200 and json.loads(answer[1])["status"] == "ok"

    def children(self) -> dict[str, int]:
        """Process ids by what they do."""
        found = {}
        for pid in children_of(self.process.pid):
            match command_of(pid):
                case [server, *_] if "valkey-server" in server:
                    found["valkey"] = pid
                case [_, "-m", "tradebot.runtime.launch", name, *_]:
                    found[name] = pid
                case _:
                    pass  # just forked: it shows what it is to be in a moment
        return found

    def end(self, signum: int = signal.SIGTERM) -> float:
        """Send a signal, wait, and return how many seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(signum)
        self.process.wait(30)
        return time.monotonic() - begun


def children_of(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def command_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


@contextmanager
def serving(data_dir: Path, port: int | None = None, **more: str) -> Iterator[Serving]:
    """A ``serve`` that is gone at the end, whatever the test did."""
    running = Serving(data_dir, port or free_port(), **more)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
