"""Every address, with every method, as a stranger, an observer and signed out: nothing of Ann's gets out or changes.

Generated from the URL configuration and judged by ``verdicts.py``. Each route is tried with a body that names Ann's
rows wherever a body can name one, and finally as Ann, so that "there is none" was about who asked.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from django.http import HttpResponse
from rest_framework.test import APIClient

from tests.isolation.routes import Route, all_routes
from tests.isolation.verdicts import PREFIXES, VERDICTS, Kind, verdict_of
from tests.isolation.world import ADDRESS, AMOUNTS, PRIVATE, SECRET, SHARED, World

METHODS: Final = ("get", "post", "put", "patch", "delete")
ROUTES: Final = all_routes()
JUDGED: Final = [route for route in ROUTES if verdict_of(route.template)]
NOT_FOR_ME: Final = (302, 401, 403, 404, 405)


def kind_of(route: Route) -> Kind:
    verdict = verdict_of(route.template)
    assert verdict is not None
    return verdict.kind


OWN: Final = [route for route in JUDGED if kind_of(route) is Kind.OWN]


def ids(routes: list[Route]) -> Any:
    return pytest.mark.parametrize("route", routes, ids=lambda route: route.template or "/")


# The tables agree --------------------------------------------------------------------------------------------------


def test_every_route_has_a_verdict() -> None:
    assert [route.template for route in ROUTES if verdict_of(route.template) is None] == []


def test_every_verdict_has_a_route() -> None:
    templates = {route.template for route in ROUTES}
    assert sorted(set(VERDICTS) - templates) == []
    for prefix in PREFIXES:
        assert any(template.startswith(prefix) for template in templates), prefix


def test_every_verdict_gives_its_reason() -> None:
    assert all(verdict.reason for verdict in (*VERDICTS.values(), *PREFIXES.values()))


def test_an_address_that_takes_a_row_is_judged_by_its_row() -> None:
    """An address with an id is a row's, unless a reason says whose data it is."""
    loose = [route.template for route in JUDGED if "pk" in route.parameters and kind_of(route) is Kind.MINE]
    assert loose == []


# The walk ----------------------------------------------------------------------------------------------------------


def path_of(route: Route, world: World, observer: bool = False) -> str:
    """Return the address with Ann's rows in it: those that Olga may read, or those that she may not."""
    verdict = verdict_of(route.template)
    assert verdict is not None
    values: dict[str, Any] = dict.fromkeys(route.parameters, "1")
    member = (world.shared if observer else world.private)["membership"].user_id
    deal = world.named("simulated_deal", observer)
    more = {
        "product": world.product.pk,
        "sharer": member,
        "simulated_deal": deal.number,
        "hook": world.named("hook", observer).public_id,
    }
    for name, value in verdict.more:
        values[name] = more.get(value, value)
    if verdict.row:
        values["pk"] = world.named(verdict.row, observer).pk
    elif route.template.startswith("api/products/"):
        values["pk"] = world.product.pk
    elif "webauthn" in route.template:
        values["pk"] = world.private["authenticator"].pk
    if "object_id" in values:
        page = getattr(route.callback, "model_admin", None)
        kind = page.model._meta.model_name if page else "account"
        values["object_id"] = {**world.shared, **world.private}.get(kind, world.private["account"]).pk
    if "id" in values:
        values["id"] = world.ann.pk
    if "app_label" in values:
        values["app_label"] = "bots"
    return route.filled(values)


def body_of(world: World) -> dict[str, Any]:
    """A body that names Ann's rows under every name that a body may use, with values that would show if written."""
    rows = {**world.shared, **world.private}
    foreign = {name: rows[name].pk for name in ("account", "bot", "position", "order", "fill", "template", "event")}
    return {
        **foreign,
        "account_id": rows["account"].pk,
        "bot_id": rows["bot"].pk,
        "owner": world.ann.pk,
        "user": world.ann.pk,
        "id": rows["account"].pk,
        "name": "intruded",
        "description": "intruded",
        "notes": "intruded",
        "note": "intruded",
        "currency": "USD",
        "amount": "1",
        "symbols": ["BTC-USD"],
        "settings": {},
        "exchange": "simulated",
        "role": "manager",
        "email": "bob@example.com",
        "expected": rows["account"].name,
        "_selected_action": [rows["bot"].pk],
        "action": "assign_to_default_account",
        "confirm": "yes",
        "post": "yes",
    }


def ask(client: APIClient, method: str, route: Route, path: str, body: dict[str, Any]) -> HttpResponse:
    if method == "get":
        answer: HttpResponse = client.get(path)
        return answer
    if route.template.startswith("api/"):
        return getattr(client, method)(path, body, format="json")
    form = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in body.items()}
    if method == "post":
        return client.post(path, form)
    return getattr(client, method)(path, json.dumps(body), content_type="application/json")


def text_of(answer: HttpResponse) -> str:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content  # type: ignore[attr-defined]
    return content.decode(errors="replace") + str(dict(answer.headers)) + str(answer.cookies)


def leaks(answer: HttpResponse, *marks: str) -> list[str]:
    text = text_of(answer)
    return [mark for mark in marks if mark in text]


@ids(JUDGED)
def test_a_stranger_gets_and_changes_nothing(world: World, route: Route) -> None:
    verdict, body = verdict_of(route.template), body_of(world)
    client = world.client_of(world.bob)
    for observer in (False, True) if verdict and verdict.row else (False,):
        path = path_of(route, world, observer)
        for method in METHODS:
            answer = ask(client, method, route, path, body)
            assert answer.status_code != 500, (method, path)
            assert leaks(answer, PRIVATE, SHARED, ADDRESS, SECRET, *AMOUNTS) == [], (method, path)
            if kind_of(route) is Kind.OWN:
                assert answer.status_code in (404, 405), (method, path, answer.status_code)
            elif kind_of(route) is Kind.STAFF:
                assert answer.status_code in NOT_FOR_ME, (method, path)
            elif kind_of(route) is Kind.SECRET:
                assert answer.status_code in (404, 405), (method, path)
    assert world.changed() == set()


@ids(JUDGED)
def test_somebody_signed_out_is_asked_to_sign_in(world: World, route: Route) -> None:
    path, body = path_of(route, world), body_of(world)
    client = world.client_of(None)
    for method in METHODS:
        answer = ask(client, method, route, path, body)
        assert answer.status_code != 500, (method, path)
        assert leaks(answer, PRIVATE, SHARED, ADDRESS, SECRET, *AMOUNTS) == [], (method, path)
        if kind_of(route) is not Kind.PUBLIC and (method, route.template) != ("post", "api/token/"):
            assert answer.status_code in NOT_FOR_ME, (method, path, answer.status_code)
            if answer.status_code == 302:
                assert answer.headers["Location"].startswith(("/auth/login/", "/admin/")), (method, path)
    assert world.changed() == set()


@ids([route for route in JUDGED if kind_of(route) not in (Kind.PUBLIC, Kind.STAFF)])
def test_an_observer_reads_what_is_shared_and_changes_nothing(world: World, route: Route) -> None:
    verdict, body = verdict_of(route.template), body_of(world)
    assert verdict is not None
    path, client = path_of(route, world, observer=True), world.client_of(world.olga)
    for method in METHODS:
        answer = ask(client, method, route, path, body)
        assert answer.status_code != 500, (method, path)
        assert leaks(answer, PRIVATE, SECRET) == [], (method, path)
        if verdict.kind is Kind.OWN and not (verdict.observer_may and method == "post"):
            refused = (403, 405) if route.template.startswith("api/") else (403, 404, 405)
            expected = (200, 405, 409) if method == "get" else refused
            if verdict.row not in world.shared:
                expected = (404, 405)
            elif method == "get" and not route.template.startswith("api/"):
                expected = (200, 403, 404, 405)  # pages that only lead to a change are not for observers
            assert answer.status_code in expected, (method, path, answer.status_code)
    assert world.changed() <= verdict.observer_changes


@ids([route for route in OWN if verdict_of(route.template).row])  # type: ignore[union-attr]
def test_an_observer_does_not_reach_what_is_not_shared(world: World, route: Route) -> None:
    path, body = path_of(route, world, observer=False), body_of(world)
    client = world.client_of(world.olga)
    for method in METHODS:
        answer = ask(client, method, route, path, body)
        assert answer.status_code in (404, 405), (method, path, answer.status_code)
        assert leaks(answer, PRIVATE, SECRET, *AMOUNTS) == [], (method, path)
    assert world.changed() == set()


@ids(OWN)
def test_the_owner_reaches_it(world: World, route: Route) -> None:
    """The counter-check: the same address answers the right person, so the refusals above were about who asked."""
    path, body, client = path_of(route, world), body_of(world), world.client_of(world.ann)
    answers = {method: ask(client, method, route, path, body) for method in METHODS}
    codes = {method: answer.status_code for method, answer in answers.items()}
    assert any(code not in (403, 404, 405) for code in codes.values()), codes
    assert all(code < 500 for code in codes.values()), codes
    for answer in answers.values():
        assert leaks(answer, SECRET) == []


def test_the_marks_are_seen_by_their_owner(world: World) -> None:
    """The other counter-check: marks do come out for Ann, so looking for them elsewhere means something."""
    client = world.client_of(world.ann)
    for resource in ("accounts", "bots", "positions", "orders", "fills", "events", "templates"):
        text = text_of(client.get(f"/api/{resource}/"))
        assert PRIVATE in text, resource
    for page in ("accounts/", "backtests/", "backtests/sweeps/", "bots/", "deals/", "history/", "orders/"):
        assert PRIVATE in text_of(client.get(f"/{page}")), page
    assert any(amount in text_of(client.get("/api/accounts/")) for amount in AMOUNTS)


def test_public_routes_need_their_exemption(world: World, settings: Any) -> None:
    """A route that asks everybody to sign in needs no exemption from it."""
    settings.METRICS = True
    for route in JUDGED:
        if kind_of(route) is Kind.PUBLIC and route.template in VERDICTS:
            assert world.client_of(None).get(path_of(route, world)).status_code in (200, 503), route.template


def test_ids_reveal_nothing_by_the_way_they_are_refused(world: World) -> None:
    """F52: what is somebody else's and what never was get the same answer, byte for byte."""
    client = world.client_of(world.bob)
    for route in OWN:
        if set(route.parameters) != {"pk"}:
            continue
        foreign, absent = client.get(path_of(route, world)), client.get(route.filled({"pk": 2**40}))
        assert foreign.status_code == absent.status_code, route.template
        if route.template.startswith("api/"):
            assert foreign.content == absent.content, route.template
