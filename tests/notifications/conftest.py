"""Fixtures of the event tests: two people with a shared account, and sockets opened through the whole ASGI stack."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from asgiref.sync import async_to_sync
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.test import Client

from accounts.models import Account, Membership, User
from notifications import outbox
from tradebot.asgi import application
from tradebot.core.scoping import all_accounts

ORIGIN = (b"origin", b"http://localhost")


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own; its database work happens in the test's own thread."""

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        async_to_sync(test)(*args, **kwargs)

    return wrapper


@dataclass
class World:
    """Ann owns an account; Bob owns one and manages Ann's."""

    ann: User
    bob: User
    anns: Account
    bobs: Account
    share: Membership


@pytest.fixture
def world(transactional_db: None) -> World:
    with all_accounts("test data"):
        ann, bob = (User.objects.create_user(f"{name}@example.test", "a long password") for name in ("ann", "bob"))
        for person in (ann, bob):
            EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
        anns = Account.objects.create(owner=ann, name="main", exchange="simulated")
        bobs = Account.objects.create(owner=bob, name="main", exchange="simulated")
        share = Membership.objects.create(account=anns, user=bob, role=Membership.Role.MANAGER)
    return World(ann, bob, anns, bobs, share)


@pytest.fixture(autouse=True)
def fresh_channel_layer() -> Iterator[None]:
    """Each test has its own event loop, so the layer of the one before is of no use; and pushes are not paused."""
    channel_layers.backends.clear()
    outbox._silent_until = 0.0
    yield
    channel_layers.backends.clear()
    outbox._silent_until = 0.0


def cookie_of(user: User) -> tuple[bytes, bytes]:
    client = Client()
    client.force_login(user)
    return (b"cookie", f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}".encode())


@asynccontextmanager
async def socket(*headers: tuple[bytes, bytes], path: str = "/ws/") -> AsyncIterator[WebsocketCommunicator]:
    """An accepted socket. Closed at the end, whatever the server did to it."""
    communicator = WebsocketCommunicator(application, path, headers=[ORIGIN, *headers])
    accepted, _ = await communicator.connect(timeout=5)
    assert accepted
    try:
        yield communicator
    finally:
        await communicator.disconnect()
