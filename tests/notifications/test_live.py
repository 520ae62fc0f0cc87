"""From the commit of a fill to the browser, through the real server and the real channel layer."""

from __future__ import annotations

import time

import pytest
from asgiref.sync import sync_to_async
from channels_redis.core import RedisChannelLayer
from django.conf import settings
from django.test import Client as DjangoClient
from django.test import override_settings

from notifications.outbox import close_sockets, publish
from tests.notifications.conftest import World, in_loop
from tests.notifications.live import Client, Live, live_server
from tradebot.core.scoping import acting_for_account

pytestmark = pytest.mark.slow


def session_of(user) -> str:
    client = DjangoClient()
    client.force_login(user)
    return client.cookies["sessionid"].value


def fill(world: World, amount: str) -> None:
    with acting_for_account(world.anns.pk):
        publish([world.ann.pk, world.bob.pk], "order_fill", {"base_amount": amount, "is_paper": True}, world.anns.pk)


@in_loop
async def follow(live: Live, world: World) -> None:
    ann = await Client.open(live.port, await sync_to_async(session_of)(world.ann))
    bob = await Client.open(live.port, await sync_to_async(session_of)(world.bob))
    assert (await ann.receive())["type"] == (await bob.receive())["type"] == "hello"
    for amount in ("0.1", "0.2"):
        begun = time.monotonic()
        await sync_to_async(fill)(world, amount)
        got = await ann.receive(), await bob.receive()
        assert time.monotonic() - begun < 1
        assert [(message["type"], message["base_amount"]) for message in got] == [("order_fill", amount)] * 2
        last = got[0]["id"]
    await ann.close()

    await sync_to_async(fill)(world, "0.3")  # while Ann is away
    await bob.receive()
    ann = await Client.open(live.port, await sync_to_async(session_of)(world.ann))
    assert (await ann.receive())["type"] == "hello"
    await ann.send({"type": "resume", "last_id": last})
    assert (await ann.receive())["base_amount"] == "0.3"

    await sync_to_async(close_sockets)(world.bob.pk)
    with pytest.raises(EOFError, match="4409"):
        await bob.receive()
    await ann.close()
    await bob.close()


def test_f54_a_fill_is_in_every_entitled_browser_within_a_second(world: World) -> None:
    with live_server() as live, override_settings(CHANNEL_LAYERS=live.channel_layers):
        follow(live, world)


def test_the_channel_layer_may_wait_longer_than_one_of_its_reads_takes() -> None:
    """With the client's own limit of five seconds every idle socket broke after five seconds."""
    layer = RedisChannelLayer(hosts=[settings.CHANNEL_HOST])
    assert layer.create_pool(0).connection_kwargs["socket_timeout"] > layer.brpop_timeout
