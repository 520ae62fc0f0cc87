"""Sockets: every consumer has a verdict, groups are people, and events stay with theirs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest
from asgiref.sync import sync_to_async
from channels.consumer import AsyncConsumer, SyncConsumer

from notifications.outbox import group_of, publish, push
from tests.isolation.test_relations import ours
from tests.isolation.world import PRIVATE, SHARED, World, build
from tests.notifications.conftest import cookie_of, fresh_channel_layer, in_loop, socket

__all__ = ["fresh_channel_layer"]

CONSUMERS: Final = {
    "notifications.consumers.EventConsumer": "pushes a person's own events; joins the group of that person only",
    "notifications.routing.NoSuchSocket": "refuses everybody",
}
ROOT: Final = Path(__file__).resolve().parents[2]
GROUP_CALLS: Final = frozenset({"group_add", "group_discard", "group_send"})


def test_every_consumer_has_a_verdict() -> None:
    found = {f"{one.__module__}.{one.__qualname__}" for base in (AsyncConsumer, SyncConsumer) for one in ours(base)}
    assert found == set(CONSUMERS)


def test_f54_there_is_one_kind_of_group() -> None:
    """Every group in the code is named by ``group_of(user id)``."""
    loose = set()
    for path in sorted(ROOT.glob("*/**/*.py")):
        if path.relative_to(ROOT).parts[0] in {"tests", ".venv"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in GROUP_CALLS:
                named = ast.unparse(node.args[0])
                if not named.startswith("group_of("):
                    loose.add((path.relative_to(ROOT).as_posix(), node.func.attr, named))
    # The messages of publish(), push() and close_sockets(), addressed by group_of() a few lines above.
    assert loose == {("notifications/outbox.py", "group_send", "group")}
    assert group_of(7) == "user.7"
    with pytest.raises((TypeError, ValueError)):
        group_of("7")  # type: ignore[arg-type]


@pytest.fixture
def world(transactional_db: None) -> World:
    return build()


@in_loop
async def test_events_reach_their_people_and_nobody_else(world: World) -> None:
    def tell() -> None:
        shared = world.shared["account"].pk
        publish([world.ann.pk, world.olga.pk], "bot", {"name": SHARED}, shared)
        publish([world.ann.pk], "bot", {"name": PRIVATE}, world.private["account"].pk)
        push([world.ann.pk], "balances", {"name": PRIVATE})

    heads = {person: await sync_to_async(cookie_of)(person) for person in (world.bob, world.olga, world.ann)}
    async with socket(heads[world.bob]) as bob, socket(heads[world.olga]) as olga, socket(heads[world.ann]) as ann:
        for one in (bob, olga, ann):
            assert (await one.receive_json_from(timeout=5))["type"] == "hello"
        await sync_to_async(tell)()
        assert (await olga.receive_json_from(timeout=5))["name"] == SHARED
        assert [(await ann.receive_json_from(timeout=5))["name"] for _ in range(3)] == [SHARED, PRIVATE, PRIVATE]
        assert await bob.receive_nothing(timeout=0.2)
        assert await olga.receive_nothing(timeout=0.2)


@in_loop
async def test_f54_an_event_of_an_account_that_is_not_theirs_is_not_sent(world: World) -> None:
    """Even an event that was written for the wrong person, or before a share ended, stays unsent."""

    def tell() -> None:
        publish([world.bob.pk], "bot", {"name": PRIVATE}, world.private["account"].pk)

    head = await sync_to_async(cookie_of)(world.bob)
    async with socket(head) as bob:
        assert (await bob.receive_json_from(timeout=5))["type"] == "hello"
        await sync_to_async(tell)()
        assert await bob.receive_nothing(timeout=0.3)
        await bob.send_json_to({"type": "resume", "last_id": 0})
        await bob.send_json_to({"type": "ping", "last_id": 0})
        assert PRIVATE not in str(await bob.receive_json_from(timeout=5))
