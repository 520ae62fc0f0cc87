"""The socket: who gets in, what goes out, in which order, and when it ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.test import Client

from accounts import tokens
from accounts.access import acting_for
from accounts.models import ApiToken, Membership, User
from accounts.services import revoke, share
from notifications import consumers, tickets
from notifications.models import Event
from notifications.outbox import group_of, publish, push
from tests.notifications.conftest import ORIGIN, World, cookie_of, in_loop, socket
from tradebot.asgi import application
from tradebot.core import clock
from tradebot.core.scoping import all_accounts

pytestmark = pytest.mark.urls("tests.notifications.urls")
told = database_sync_to_async(publish)


@database_sync_to_async
def signed_in(user: User) -> tuple[bytes, bytes]:
    return cookie_of(user)


@database_sync_to_async
def written(user: User, count: int = 1, account_id: int | None = None, **fields: Any) -> list[int]:
    """Events whose push never happened: the process died between commit and push."""
    with all_accounts("test data"):
        rows = [Event(user=user, account_id=account_id, kind="bot", payload={"n": n}, **fields) for n in range(count)]
        return [row.pk for row in Event.objects.bulk_create(rows)]


async def hello(ws: WebsocketCommunicator) -> int:
    greeting = await ws.receive_json_from(timeout=5)
    assert greeting["type"] == "hello"
    return int(greeting["last_id"])


async def closed_with(ws: WebsocketCommunicator) -> int:
    message = await ws.receive_output(timeout=5)
    assert message["type"] == "websocket.close"
    return int(message["code"])


async def pinged(ws: WebsocketCommunicator, last_id: int | None = None) -> list[dict[str, Any]]:
    """What arrives up to the answer to a heartbeat: nothing can follow later, so no waiting is needed."""
    await ws.send_json_to({"type": "ping"} if last_id is None else {"type": "ping", "last_id": last_id})
    got = [await ws.receive_json_from(timeout=5)]
    while got[-1]["type"] != "pong":
        got.append(await ws.receive_json_from(timeout=5))
    return got[:-1]


# Who gets in


@in_loop
async def test_a_session_cookie_opens_a_socket(world: World) -> None:
    async with socket(await signed_in(world.ann)) as ws:
        assert await hello(ws) == 0


@in_loop
async def test_a_foreign_origin_is_refused(world: World) -> None:
    headers = [(b"origin", b"https://evil.example"), await signed_in(world.ann)]
    accepted, _ = await WebsocketCommunicator(application, "/ws/", headers=headers).connect()
    assert not accepted


@in_loop
async def test_an_unknown_address_is_refused(world: World) -> None:
    accepted, _ = await WebsocketCommunicator(application, "/ws/other/", headers=[ORIGIN]).connect()
    assert not accepted


@in_loop
async def test_a_stranger_gets_nothing_and_is_closed_on_the_first_word(world: World) -> None:
    async with socket() as ws:
        await told([world.ann.pk], "bot", {"name": "secret"})
        await ws.send_json_to({"type": "resume", "last_id": 0})
        assert await closed_with(ws) == consumers.SIGNED_OUT


@in_loop
async def test_a_silent_stranger_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "TICKET_WAIT_SECONDS", 0)
    async with socket() as ws:
        assert await closed_with(ws) == consumers.SIGNED_OUT


@database_sync_to_async
def a_ticket(user: User) -> str:
    token = tokens.renew(user)
    answer = Client().post("/api/socket-ticket", headers={"Authorization": f"Token {token}"})
    assert answer.status_code == 201, answer.content
    assert answer.json()["expires_in"] == tickets.TICKET_SECONDS
    return str(answer.json()["ticket"])


@in_loop
async def test_a_ticket_opens_one_socket_and_no_second(world: World) -> None:
    ticket = await a_ticket(world.ann)
    async with socket() as ws:
        await ws.send_json_to({"type": "ticket", "ticket": ticket})
        await hello(ws)
        await told([world.ann.pk], "bot", {"name": "dip"})
        assert (await ws.receive_json_from())["name"] == "dip"
    async with socket() as ws:
        await ws.send_json_to({"type": "ticket", "ticket": ticket})
        assert await closed_with(ws) == consumers.SIGNED_OUT


@database_sync_to_async
def _revoke_token(user: User) -> None:
    with acting_for(user):
        tokens.revoke(user)


@database_sync_to_async
def _expire_token(user: User) -> None:
    with acting_for(user):
        ApiToken.objects.filter(user=user).update(expires_at=clock.now())


@pytest.mark.parametrize("end", [_revoke_token, database_sync_to_async(tokens.renew)], ids=["revoked", "replaced"])
@in_loop
async def test_f54_a_socket_is_closed_with_the_api_token_it_came_from(world: World, end: Any) -> None:
    ticket = await a_ticket(world.ann)
    async with socket() as ws:
        await ws.send_json_to({"type": "ticket", "ticket": ticket})
        await hello(ws)
        await end(world.ann)
        assert await closed_with(ws) == consumers.ACCESS_CHANGED
    async with socket() as ws:
        await ws.send_json_to({"type": "ticket", "ticket": ticket})
        assert await closed_with(ws) == consumers.SIGNED_OUT


@in_loop
async def test_a_socket_ends_when_its_api_token_expires(world: World) -> None:
    ticket = await a_ticket(world.ann)
    async with socket() as ws:
        await ws.send_json_to({"type": "ticket", "ticket": ticket})
        await hello(ws)
        await _expire_token(world.ann)
        await ws.send_json_to({"type": "ping"})
        assert await closed_with(ws) == consumers.SIGNED_OUT


# What goes out


@in_loop
async def test_f54_events_reach_their_person_and_nobody_else(world: World) -> None:
    async with socket(await signed_in(world.ann)) as ann, socket(await signed_in(world.bob)) as bob:
        await hello(ann)
        await hello(bob)
        await told([world.ann.pk], "order_fill", {"product": "BTC-USD", "is_paper": True}, world.anns.pk)
        fill = await ann.receive_json_from()
        assert (fill["type"], fill["product"], fill["is_paper"]) == ("order_fill", "BTC-USD", True)
        assert fill["id"] > 0
        assert await pinged(bob) == []


@in_loop
async def test_members_of_a_shared_account_get_its_events_in_their_own_group(world: World) -> None:
    async with socket(await signed_in(world.ann)) as ann, socket(await signed_in(world.bob)) as bob:
        await hello(ann)
        await hello(bob)
        await told([world.ann.pk, world.bob.pk], "position", {"deal": 7}, world.anns.pk)
        assert (await ann.receive_json_from())["deal"] == 7
        assert (await bob.receive_json_from())["deal"] == 7


@in_loop
async def test_passing_news_has_no_id_and_is_not_kept(world: World) -> None:
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        await database_sync_to_async(push)([world.ann.pk], "task", {"done": 3, "of": 4})
        assert await ws.receive_json_from() == {"type": "task", "done": 3, "of": 4}
        await ws.send_json_to({"type": "resume", "last_id": 0})
        assert await pinged(ws) == []


# Nothing lost, nothing twice


@in_loop
async def test_resume_hands_over_what_was_missed_in_order_and_once(world: World) -> None:
    ids = await written(world.ann, 5)
    await written(world.bob, 2)
    async with socket(await signed_in(world.ann)) as ws:
        assert await hello(ws) == ids[-1]
        await ws.send_json_to({"type": "resume", "last_id": ids[1]})
        assert [(await ws.receive_json_from())["id"] for _ in range(3)] == ids[2:]
        await ws.send_json_to({"type": "resume", "last_id": ids[1]})
        assert await pinged(ws, ids[-1]) == []


@in_loop
async def test_an_event_that_overtakes_the_resume_is_not_sent_twice(world: World) -> None:
    ids = await written(world.ann, 3)
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        await told([world.ann.pk], "bot", {"n": "new"})
        first = await ws.receive_json_from()
        await ws.send_json_to({"type": "resume", "last_id": ids[0]})
        assert [message["id"] for message in await pinged(ws, ids[0])] == ids[1:]
        assert first["n"] == "new"


@in_loop
async def test_f13_an_event_whose_push_was_lost_comes_with_the_next_push(world: World) -> None:
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        lost = await written(world.ann, 2)
        await told([world.ann.pk], "bot", {"n": "pushed"})
        got = [await ws.receive_json_from() for _ in range(3)]
        assert [message["id"] for message in got] == sorted(message["id"] for message in got)
        assert [message["id"] for message in got[:2]] == lost


@in_loop
async def test_f13_an_event_whose_push_was_lost_comes_with_the_next_heartbeat(world: World) -> None:
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        lost = await written(world.ann)
        assert [message["id"] for message in await pinged(ws)] == lost


@in_loop
async def test_a_transaction_that_commits_late_with_a_lower_id_is_not_lost(world: World) -> None:
    low, high = await written(world.ann, 2)
    await database_sync_to_async(_delete)(low)
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        await written(world.ann, id=low)
        assert [message["id"] for message in await pinged(ws)] == [low]
        assert await pinged(ws) == []
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        await ws.send_json_to({"type": "resume", "last_id": high, "seen": [high]})
        assert [message["id"] for message in await pinged(ws)] == [low]


def _delete(event_id: int) -> None:
    with all_accounts("test data"):
        Event.objects.filter(pk=event_id).delete()


@in_loop
async def test_an_old_event_below_the_last_one_is_not_replayed_by_a_heartbeat(world: World) -> None:
    low, high = await written(world.ann, 2)
    await database_sync_to_async(_delete)(low)
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        await written(world.ann, id=low, at=clock.now() - timedelta(hours=1))
        assert await pinged(ws, high) == []


@in_loop
async def test_whoever_missed_too_much_is_told_to_reload(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "REPLAY_LIMIT", 3)
    ids = await written(world.ann, 5)
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        await ws.send_json_to({"type": "resume", "last_id": ids[0]})
        assert await ws.receive_json_from() == {"type": "reload", "last_id": ids[-1]}
        assert await pinged(ws) == []


@in_loop
async def test_a_restarted_channel_layer_is_joined_again_with_the_heartbeat(world: World) -> None:
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        layer = get_channel_layer()
        layer.groups.clear()
        await pinged(ws)
        assert group_of(world.ann.pk) in layer.groups
        await told([world.ann.pk], "bot", {"name": "dip"})
        assert (await ws.receive_json_from())["name"] == "dip"


# When it ends


@in_loop
async def test_f54_events_of_a_share_that_ended_are_not_sent(world: World) -> None:
    async with socket(await signed_in(world.bob)) as ws:
        await hello(ws)
        await database_sync_to_async(_end_share)(world)
        await told([world.bob.pk], "order_fill", {"product": "BTC-USD"}, world.anns.pk)
        await ws.send_json_to({"type": "resume", "last_id": 0})
        assert await pinged(ws, 0) == []


def _change_share(world: World, change: str) -> None:
    with acting_for(world.ann):
        if change == "revoked":
            revoke(world.anns, world.bob.pk, actor=world.ann.email)
        else:
            share(world.anns, world.bob.email, Membership.Role.OBSERVER, None, actor=world.ann.email)


def _end_share(world: World) -> None:
    with all_accounts("test data"):
        world.share.delete()


@pytest.mark.parametrize("change", ["revoked", "other role"])
@in_loop
async def test_f54_revocation_closes_live_sockets(world: World, change: str) -> None:
    async with socket(await signed_in(world.bob)) as bob, socket(await signed_in(world.ann)) as ann:
        await hello(bob)
        await hello(ann)
        await database_sync_to_async(_change_share)(world, change)
        assert await closed_with(bob) == consumers.ACCESS_CHANGED
        assert await pinged(ann) == []


@in_loop
async def test_signing_out_closes_the_socket_and_keeps_it_closed(world: World) -> None:
    client = Client()
    await database_sync_to_async(client.force_login)(world.ann)
    cookie = (b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())
    async with socket(cookie) as ws:
        await hello(ws)
        await database_sync_to_async(client.logout)()
        await ws.send_json_to({"type": "ping"})
        assert await closed_with(ws) in (consumers.ACCESS_CHANGED, consumers.SIGNED_OUT)
    async with socket(cookie) as ws:
        await ws.send_json_to({"type": "ping"})
        assert await closed_with(ws) == consumers.SIGNED_OUT


@pytest.mark.parametrize("change", ["deactivated", "new password"])
@in_loop
async def test_a_heartbeat_notices_that_the_person_may_not_be_here_any_more(world: World, change: str) -> None:
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        if change == "deactivated":
            world.ann.is_active = False
        else:
            world.ann.set_password("another long password")
        await database_sync_to_async(world.ann.save)()
        await ws.send_json_to({"type": "ping"})
        assert await closed_with(ws) == consumers.SIGNED_OUT


@in_loop
async def test_a_socket_without_heartbeats_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "SILENCE_SECONDS", 0)
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        assert await closed_with(ws) == consumers.SILENT


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", "{}", '{"type": "resume"}', '{"type": "resume", "last_id": true}', "[" * 20_000, " " * 40_000]
    + [f'{{"type": "ping", "last_id": {value}}}' for value in ('"7"', "-1", "1.5", str(2**63))],
)
@in_loop
async def test_a_message_that_makes_no_sense_closes_the_socket(world: World, text: str) -> None:
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        await ws.send_to(text_data=text)
        assert await closed_with(ws) == consumers.BAD_MESSAGE


@in_loop
async def test_a_flood_of_messages_closes_the_socket(world: World) -> None:
    async with socket(await signed_in(world.ann)) as ws:
        await hello(ws)
        for _ in range(consumers.MESSAGES_PER_TEN_SECONDS):
            assert await pinged(ws) == []
        await ws.send_json_to({"type": "ping"})
        assert await closed_with(ws) == consumers.TOO_MANY_MESSAGES
