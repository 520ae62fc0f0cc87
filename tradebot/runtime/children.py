"""One watched process: started in a session of its own, dying with its supervisor, restarted with growing pauses."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["GATE_WORD", "Child", "die_with"]

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
HEALTHY_AFTER_SECONDS: Final = 60.0
PR_SET_PDEATHSIG: Final = 1
GATE_WORD: Final = "go"
# Looked up before any fork: the child of a fork must not import.
_prctl: Any = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def die_with(parent: int) -> Callable[[], None]:
    """Return what a new process does first: ask the kernel to be killed when its parent is, however that ends (F1)."""

    def ask() -> None:
        if _prctl is not None:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died between fork and here
                os._exit(1)

    return ask


@dataclass(slots=True)
class Child:
    """A process and its history. ``gate`` keeps it from its work until it is opened; restarts have no gate."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    gated: bool = False
    process: subprocess.Popen[str] | None = None
    restarts: int = 0
    started_at: float = 0.0
    due_at: float = 0.0
    pause: float = FIRST_PAUSE_SECONDS
    gate: IO[str] | None = field(default=None, repr=False)

    def start(self, *, stdout: int | None = None) -> None:
        """Start the process. Raises OSError when that is not possible."""
        self.process = subprocess.Popen(
            [str(part) for part in self.command],
            cwd=self.folder,
            env={**self.environment, **({"TRADEBOT_GATED": "1"} if self.gated else {})},
            stdin=subprocess.PIPE if self.gated else subprocess.DEVNULL,
            stdout=stdout,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the others in order
            preexec_fn=die_with(os.getpid()),
        )
        self.gate, self.gated = self.process.stdin, False
        self.started_at, self.due_at = time.monotonic(), 0.0

    def open_gate(self) -> None:
        """Let a gated process go on to its work. One whose gate closes without the word ends instead."""
        if self.gate is not None:
            with suppress(BrokenPipeError), self.gate as gate:
                gate.write(GATE_WORD)
            self.gate = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def plan_restart(self) -> float:
        """Decide when a process that has ended starts again: soon at first, ever later while it keeps dying."""
        lived = time.monotonic() - self.started_at
        self.pause = (
            FIRST_PAUSE_SECONDS if lived > HEALTHY_AFTER_SECONDS else min(self.pause * 2, LONGEST_PAUSE_SECONDS)
        )
        self.restarts += 1
        self.due_at = time.monotonic() + self.pause
        return self.pause

    def send(self, signum: int) -> None:
        """Send a signal to the process and whatever it started; nothing happens when it has ended."""
        if self.running and self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signum)

    def ask_to_stop(self) -> None:
        """Ask the process to finish and end."""
        if self.gate is not None:
            with suppress(BrokenPipeError):
                self.gate.close()
            self.gate = None
        self.send(signal.SIGTERM)

    def wait_gone(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic) for the process to end, then kill it."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
