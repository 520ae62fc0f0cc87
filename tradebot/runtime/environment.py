"""What a start on this machine depends on, read without Django: the environment, ``.env`` and ``DATA_DIR/secrets.env``.

The same sources in the same order as ``tradebot.settings``, which every started process reads for itself.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import environ

__all__ = ["BACKTEST_PROCESSES_DEFAULT", "ROOT", "Environment", "read", "valkey_socket"]

ROOT: Final = Path(__file__).resolve().parents[2]
LONGEST_SOCKET_PATH: Final = 100  # the kernel takes 107 bytes, other systems a few less
BACKTEST_PROCESSES_DEFAULT: Final = min(os.cpu_count() or 1, 2)


@dataclass(frozen=True, slots=True)
class Environment:
    """The settings that starting and watching need."""

    data_dir: Path
    bind: str
    port: int
    redis_url: str
    demo: bool
    behind_tls: bool
    host: str
    log_format: str
    backtest_processes: int

    @property
    def embeds_valkey(self) -> bool:
        return not self.redis_url

    @property
    def secrets_file(self) -> Path:
        return self.data_dir / "secrets.env"

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the pages."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.bind, self.bind)  # noqa: S104 (compared)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def read(*, bind: str | None = None, port: int | None = None, demo: bool | None = None) -> Environment:
    """Read the environment, ``.env`` included, into a value; what the command line gives wins."""
    env = environ.Env()
    env.read_env(ROOT / ".env")
    data_dir = Path(env.str("DATA_DIR", default=str(ROOT / "var"))).resolve()
    env.read_env(data_dir / "secrets.env")
    hosts = [host for host in env.list("ALLOWED_HOSTS", default=["localhost"]) if "*" not in host]
    return Environment(
        data_dir=data_dir,
        bind=env.str("BIND", default="127.0.0.1") if bind is None else bind,
        port=env.int("PORT", default=8000) if port is None else port,
        redis_url=env.str("REDIS_URL", default=""),
        demo=env.bool("DEMO", default=True) if demo is None else demo,
        behind_tls=env.bool("BEHIND_TLS", default=False),
        host=(hosts or ["localhost"])[0].lstrip("."),
        log_format=env.str("LOG_FORMAT", default="console"),
        backtest_processes=max(env.int("BACKTEST_PROCESSES", default=BACKTEST_PROCESSES_DEFAULT), 0),
    )


def valkey_socket(data_dir: Path) -> Path:
    """Return where the embedded Valkey listens: in ``data_dir``, or in a short private folder when that path is long.

    A Unix socket's path has about a hundred bytes. The short folder is named by the user's id and the path's digest.
    """
    wanted = data_dir / "valkey.sock"
    if len(os.fsencode(wanted)) <= LONGEST_SOCKET_PATH:
        return wanted
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(f"/tmp/tradebot-{os.getuid()}-{digest}") / "valkey.sock"  # noqa: S108 (made private before use)
