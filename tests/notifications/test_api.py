"""Events and tickets over the API."""

from __future__ import annotations

import pytest
from django.test import Client

from notifications.outbox import publish
from tests.notifications.conftest import World

pytestmark = pytest.mark.urls("tests.notifications.urls")


def test_a_person_reads_own_events_and_pages_by_id(world: World, client: Client) -> None:
    for n in (1, 2):
        publish([world.ann.pk], "bot", {"n": n}, world.anns.pk)
    publish([world.bob.pk], "bot", {"n": 3}, world.bobs.pk)
    client.force_login(world.ann)
    events = client.get("/api/events").json()["results"]
    assert [event["payload"]["n"] for event in events] == [1, 2]
    later = client.get("/api/events", {"after": events[0]["id"], "kind": "bot"}).json()["results"]
    assert [event["payload"]["n"] for event in later] == [2]


def test_a_foreign_event_is_not_found(world: World, client: Client) -> None:
    publish([world.bob.pk], "bot", {}, world.bobs.pk)
    client.force_login(world.bob)
    foreign = client.get("/api/events").json()["results"][0]["id"]
    client.force_login(world.ann)
    assert client.get(f"/api/events/{foreign}").status_code == 404


@pytest.mark.parametrize("after", ["x", "-1", "1e400", "9223372036854775808", "NaN"])
def test_f23_a_starting_point_that_is_no_id_is_refused(world: World, client: Client, after: str) -> None:
    client.force_login(world.ann)
    answer = client.get("/api/events", {"after": after})
    assert (answer.status_code, answer.json()["field"]) == (400, "after")


@pytest.mark.parametrize(("method", "path"), [("get", "/api/events"), ("post", "/api/socket-ticket")])
def test_strangers_get_neither_events_nor_tickets(world: World, client: Client, method: str, path: str) -> None:
    assert getattr(client, method)(path).status_code == 401


def test_a_ticket_is_fetched_with_a_post_that_a_foreign_page_cannot_send(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.ann)
    assert client.get("/api/socket-ticket").status_code == 405
    assert client.post("/api/socket-ticket").status_code == 403
