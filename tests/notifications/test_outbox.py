"""Events are rows first: they exist exactly when their fact does, whatever the channel layer does."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
import structlog
from django.db import transaction
from django.test import override_settings

from accounts.access import acting_for, people_of_account
from notifications import outbox
from notifications.models import Event
from notifications.outbox import publish, visible_events
from notifications.tasks import prune_events
from tests.notifications.conftest import World
from tradebot.core import clock
from tradebot.core.models import GlobalSettings
from tradebot.core.scoping import UnscopedQuery, acting_for_account, all_accounts, current_scope

NOBODY_LISTENS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": ["unix:///nowhere/valkey.sock"]},
    }
}


def stored() -> list[Event]:
    with all_accounts("test looks at everything"):
        return list(Event.objects.order_by("id"))


def test_the_engine_tells_everybody_of_the_account_from_the_account_s_own_scope(world: World) -> None:
    with acting_for_account(world.anns.pk) as scope, transaction.atomic():
        publish(people_of_account(world.anns.pk), "order_fill", {"base_amount": Decimal("0.10")}, world.anns.pk)
        assert current_scope() is scope
    assert {event.user_id for event in stored()} == {world.ann.pk, world.bob.pk}
    assert {event.account_id for event in stored()} == {world.anns.pk}


def test_f13_events_are_rolled_back_with_their_fact(world: World) -> None:
    with transaction.atomic():
        publish([world.ann.pk], "bot", {})
        transaction.set_rollback(True)
    assert stored() == []


@override_settings(CHANNEL_LAYERS=NOBODY_LISTENS)
def test_f13_a_dead_channel_layer_touches_nothing_and_is_counted(world: World) -> None:
    failed_before = outbox.PUSHES_FAILED._value.get()
    with structlog.testing.capture_logs() as logs:
        with transaction.atomic():
            publish([world.ann.pk, world.bob.pk], "bot", {"name": "dip"})
        publish([world.ann.pk], "bot", {"name": "no waiting for it again"})
    assert len(stored()) == 3
    assert outbox.PUSHES_FAILED._value.get() - failed_before == 3
    assert [entry["event"] for entry in logs] == ["channel layer did not take a push"]


@override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "no.such.Layer"}})
def test_f13_a_misconfigured_channel_layer_touches_nothing_either(world: World) -> None:
    publish([world.ann.pk], "bot", {})
    assert len(stored()) == 1


def test_payloads_carry_amounts_as_text_and_times_in_utc(world: World) -> None:
    uid = UUID(int=7)
    payload = {
        "price": Decimal("1E-8"),
        "at": datetime(2024, 4, 24, tzinfo=UTC),
        "uid": uid,
        "rungs": (Decimal("1.50"),),
    }
    publish([world.ann.pk], "order_fill", payload)
    assert stored()[0].payload == {
        "price": "0.00000001",
        "at": "2024-04-24T00:00:00+00:00",
        "uid": str(uid),
        "rungs": ["1.5"],
    }


def test_a_payload_of_something_else_is_refused_before_anything_is_written(world: World) -> None:
    with pytest.raises(TypeError):
        publish([world.ann.pk], "bot", {"bot": world.anns})
    assert stored() == []


def test_nobody_to_tell_is_fine(world: World, django_assert_num_queries) -> None:
    with django_assert_num_queries(0):
        publish([], "bot", {})


def test_events_are_read_in_a_scope_and_only_of_accounts_still_shared(world: World) -> None:
    publish([world.bob.pk], "bot", {"n": 1}, world.anns.pk)
    publish([world.bob.pk], "bot", {"n": 2}, world.bobs.pk)
    publish([world.bob.pk], "notification", {"n": 3})
    with pytest.raises(UnscopedQuery):
        list(visible_events())
    with acting_for(world.bob):
        assert [event.payload["n"] for event in visible_events()] == [1, 2, 3]
    with all_accounts("test data"):
        world.share.delete()
    with acting_for(world.bob):
        assert [event.payload["n"] for event in visible_events()] == [2, 3]
    with acting_for(world.ann):
        assert list(visible_events()) == []


def test_old_events_are_pruned_in_chunks_after_the_retention_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.tasks.CHUNK", 2)
    GlobalSettings.objects.update_or_create(pk=1, defaults={"event_retention_days": 7})
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for day in (1, 2, 3, 9):
        with clock.at(start.replace(day=day)):
            publish([world.ann.pk], "bot", {"day": day})
    with clock.at(start.replace(day=11)):
        assert prune_events() == 3
        assert prune_events() == 0
    assert [event.payload["day"] for event in stored()] == [9]
