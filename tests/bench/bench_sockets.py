"""How long a fill takes to a browser with a thousand sockets open. Prints percentiles; the bar is 100 ms at p99."""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from channels.layers import channel_layers
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections
from django.test import override_settings

from accounts.models import Account, User
from notifications.consumers import HEARTBEAT_SECONDS
from notifications.outbox import publish
from tests.notifications.live import Client, Live, live_server
from tradebot.core.scoping import acting_for_account, all_accounts

USERS, SOCKETS_EACH, FILLS = 500, 2, 400


def people() -> list[tuple[int, int, str]]:
    """Users with an account and a session each: (user, account, session key)."""
    found = []
    with all_accounts("bench data"):
        for n in range(USERS):
            user = User.objects.create_user(f"bench{n}@example.test", None)
            account = Account.objects.create(owner=user, name="main", exchange="simulated")
            session = SessionStore()
            session[SESSION_KEY] = str(user.pk)
            session[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            session.create()
            found.append((user.pk, account.pk, session.session_key))
    return found


def fill(user_id: int, account_id: int) -> None:
    with acting_for_account(account_id):
        publish([user_id], "order_fill", {"sent": str(time.time())}, account_id)


async def measure(live: Live, everybody: list[tuple[int, int, str]]) -> list[float]:
    delays: list[float] = []
    sockets = []
    for _, _, key in everybody:
        for _ in range(SOCKETS_EACH):
            ws = await Client.open(live.port, key)
            assert (await ws.receive())["type"] == "hello"
            sockets.append(ws)

    async def listen(ws: Client) -> None:
        while True:
            message = await ws.receive()
            if message["type"] == "order_fill":
                delays.append(time.time() - float(message["sent"]))

    async def beat(ws: Client) -> None:
        """Send heartbeats as a browser does, so that the server keeps the socket, each at its own moment."""
        await asyncio.sleep(random.uniform(0, HEARTBEAT_SECONDS))
        while True:
            await ws.send({"type": "ping"})
            await asyncio.sleep(HEARTBEAT_SECONDS)

    listeners = [asyncio.create_task(work(ws)) for ws in sockets for work in (listen, beat)]
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as engine:
        for _ in range(FILLS):
            user_id, account_id, _ = random.choice(everybody)
            await loop.run_in_executor(engine, fill, user_id, account_id)
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        await loop.run_in_executor(engine, connections.close_all)
    for task in listeners:
        task.cancel()
    await asyncio.gather(*listeners, *(ws.close() for ws in sockets), return_exceptions=True)
    return sorted(delays)


@pytest.mark.django_db(transaction=True)
def test_fill_to_browser() -> None:
    everybody = people()
    with live_server() as live, override_settings(CHANNEL_LAYERS=live.channel_layers):
        channel_layers.backends.clear()
        delays = asyncio.run(measure(live, everybody))
    channel_layers.backends.clear()
    assert len(delays) == FILLS * SOCKETS_EACH
    p50, p99 = (delays[int(len(delays) * share)] * 1000 for share in (0.5, 0.99))
    sockets, worst = USERS * SOCKETS_EACH, delays[-1] * 1000
    print(f"\nfill to browser, {sockets} sockets: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms")
