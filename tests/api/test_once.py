"""A POST with an ``Idempotency-Key`` is carried out once: repeats get the first answer, come what may in between."""

# Fixtures of other files are imported by their names:
# ruff: noqa: F811
from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from rest_framework.test import APIClient

from accounts.models import PaperEntry
from bots.models import Bot
from positions import funds
from positions.models import Order, Position
from tests.api.conftest import ClientOf, People
from tests.api.test_deal_actions import deal, path  # noqa: F401 (deal is a fixture)
from tests.factories import ActionKeyFactory
from tests.positions.conftest import MOMENT, Desk, moment, quoted  # noqa: F401 (fixtures)
from tests.positions.outside import Killed
from tradebot.core import clock, once
from tradebot.core.errors import VenueRejected
from tradebot.core.models import ActionKey, AuditEntry
from tradebot.core.once import LEASE
from tradebot.core.scoping import acting_for_account, detached

KEY = "3f0c0f0e-once"
MONEY = ("accounts.PaperEntry", "accounts.PaperOrder", "accounts.Account", "positions.Order", "positions.Fill")
COUNTED = (*MONEY, "bots.Bot", "bots.Decision", "core.AuditEntry", "bots.Backtest")


def counts() -> dict[str, int]:
    with detached("test counts"):
        return {name: apps.get_model(name).objects.count() for name in COUNTED}


def post(client: APIClient, to: str, body: Any, key: str = KEY) -> Any:
    return client.post(to, body, format="json", headers={"Idempotency-Key": key})


def asked(people: People, deal: Position) -> dict[str, tuple[str, Any]]:
    """Every request that moves money, makes orders or makes bots, with its body."""
    account, bot = f"/api/accounts/{people.account.pk}/", f"/api/bots/{deal.bot_id}/"
    with detached("test data"):
        Bot.objects.filter(pk=deal.bot_id).update(settings=deal.settings, status="running")
        assert deal.bot is not None
        exported = {
            "format": "tradebot-bot",
            "version": 1,
            "name": "Imported",
            "settings": deal.settings,
            "symbols": ["BTC-USD"],
            "budget_pct": "50",
        }
    new = {"account": people.account.pk, "name": "New", "settings": deal.settings, "symbols": ["BTC-USD"]}
    price = {"price": "900000"}
    return {
        "deposit": (f"{account}deposit/", {"currency": "USD", "amount": "100"}),
        "withdraw": (f"{account}withdraw/", {"currency": "USD", "amount": "100"}),
        "account": ("/api/accounts/", {"name": "Second"}),
        "add funds": (path(deal, "add-funds/"), {"amount": "50"}),
        "add at a limit": (path(deal, "add-funds/"), {"amount": "50", "order_type": "limit", "price": "20000"}),
        "part": (path(deal, "close/"), {"share_pct": "30"}),
        "close": (path(deal, "close/"), {}),
        "limit": (path(deal, "limit-close/"), price | {"share_pct": "50"}),
        "cancel": (path(deal, "cancel/"), {}),
        "run now": (f"{bot}run-now/", {}),
        "clone": (f"{bot}clone/", {}),
        "import": ("/api/bots/import/", {"account": people.account.pk, "document": exported}),
        "bot": ("/api/bots/", new | {"budget_pct": "50"}),
        "sell all": (f"{bot}sell-all/", {"stop": True}),
        "cancel all": (f"{bot}cancel-all/", {"stop": False}),
        "start": (f"{bot}start/", {}),
    }


@pytest.mark.parametrize(
    "what",
    [
        *("deposit", "withdraw", "account", "add funds", "add at a limit", "part", "close", "limit", "cancel"),
        *("run now", "clone", "import", "bot", "sell all", "cancel all", "start"),
    ],
)
def test_a_repeat_is_not_carried_out_and_gets_the_first_answer(
    people: People,
    client_of: ClientOf,
    deal: Position,
    what: str,
) -> None:
    ann, (to, body) = client_of(people.ann), asked(people, deal)[what]
    first = post(ann, to, body)
    assert first.status_code < 300, first.data
    assert "Idempotency-Replayed" not in first.headers
    done = counts()
    again = post(ann, to, body)
    assert (again.status_code, json.loads(again.content)) == (first.status_code, json.loads(first.content))
    assert (again.headers["Idempotency-Replayed"], counts()) == ("true", done)


@pytest.mark.parametrize("step", ["update-limit-close/", "cancel-limit-close/"])
def test_what_is_done_to_a_limit_close_is_done_once(
    people: People,
    client_of: ClientOf,
    deal: Position,
    step: str,
) -> None:
    ann = client_of(people.ann)
    post(ann, path(deal, "limit-close/"), {"price": "900000", "share_pct": "50"})
    body = {"price": "950000"} if step.startswith("update") else {}
    first = post(ann, path(deal, step), body)
    done = counts()
    again = post(ann, path(deal, step), body)
    assert (first.status_code, again.status_code, counts()) == (200, 200, done)
    assert json.loads(again.content) == json.loads(first.content)


def test_without_a_key_or_with_another_one_it_is_another_request(people: People, client_of: ClientOf) -> None:
    ann, to = client_of(people.ann), f"/api/accounts/{people.account.pk}/deposit/"
    body = {"currency": "USD", "amount": "1"}
    for headers in ({}, {}, {"Idempotency-Key": "one"}, {"Idempotency-Key": "two"}):
        assert ann.post(to, body, format="json", headers=headers).status_code == 200
    with acting_for_account(people.account.pk):
        assert PaperEntry.objects.filter(kind="deposit", amount=1, currency="USD", note="").count() == 4


def test_a_key_is_a_persons_own_and_an_addresss_own(people: People, client_of: ClientOf) -> None:
    to, body = f"/api/accounts/{people.account.pk}/deposit/", {"currency": "USD", "amount": "1"}
    assert post(client_of(people.ann), to, body).status_code == 200
    assert post(client_of(people.ann), to.replace("deposit", "withdraw"), body).status_code == 200
    assert post(client_of(people.bob), to, body).status_code == 404
    assert post(client_of(people.max), to, body).status_code == 403
    with detached("test looks"):
        assert set(ActionKey.objects.values_list("user", flat=True)) == {people.ann.pk}


def test_the_same_key_with_another_body_is_refused(people: People, client_of: ClientOf) -> None:
    ann, to = client_of(people.ann), f"/api/accounts/{people.account.pk}/deposit/"
    post(ann, to, {"currency": "USD", "amount": "1"})
    answer = post(ann, to, {"currency": "USD", "amount": "2"})
    assert (answer.status_code, answer.data["code"], answer.data["field"]) == (409, "key_reused", "Idempotency-Key")
    same = post(ann, to, {"amount": "1", "currency": "USD"})  # the order of fields says nothing
    assert same.status_code == 200


@pytest.mark.parametrize("key", ["", "two words", "x" * 201])
def test_a_key_that_cannot_be_one_names_the_header(people: People, client_of: ClientOf, key: str) -> None:
    to = f"/api/accounts/{people.account.pk}/deposit/"
    answer = post(client_of(people.ann), to, {"currency": "USD", "amount": "1"}, key)
    assert (answer.status_code, answer.data["code"]) == (400, "bad_idempotency_key")


def test_a_refusal_that_did_nothing_is_not_kept(people: People, client_of: ClientOf) -> None:
    ann, to = client_of(people.ann), f"/api/accounts/{people.account.pk}/withdraw/"
    body = {"currency": "EUR", "amount": "5"}
    assert post(ann, to, body).status_code == 400
    assert post(ann, to.replace("withdraw", "deposit"), body, "other").status_code == 200
    assert post(ann, to, body).status_code == 200


def test_a_repeat_while_the_first_is_under_way_says_so(people: People, client_of: ClientOf) -> None:
    to, body = f"/api/accounts/{people.account.pk}/deposit/", {"amount": "1", "currency": "USD"}
    digest = once.digest_of([json.dumps(body).encode()])
    with detached("test data"):
        key = ActionKeyFactory(
            user=people.ann, route=to, key=KEY, digest=digest, finished_at=None, lease_until=clock.now() + LEASE
        )
    answer = post(client_of(people.ann), to, body)
    assert (answer.status_code, answer.data["code"]) == (409, "in_progress")
    with detached("test data"):
        ActionKey.objects.filter(pk=key.pk).update(lease_until=clock.now(), did="paper_deposit account:1\n")
    answer = post(client_of(people.ann), to, body)
    assert (answer.status_code, answer.data["code"]) == (409, "unanswered")
    assert answer.data["numbers"] == {"done": "paper_deposit account:1"}
    with detached("test looks"):
        assert not AuditEntry.objects.filter(action="paper_deposit").exists()


# Kills at each step of the order protocol -----------------------------------------------------------------------------


@pytest.fixture
def owner(quoted: Desk) -> APIClient:
    client = APIClient(raise_request_exception=True)
    client.force_login(quoted.account.owner)
    return client


def killed(client: APIClient, to: str, body: Any) -> None:
    with pytest.raises(Killed):
        post(client, to, body)


@pytest.mark.parametrize("arrived", [True, False])
def test_f5_a_kill_while_the_venue_is_called_leaves_one_order(quoted: Desk, owner: APIClient, arrived: bool) -> None:
    """The order is written down, so a repeat does nothing; reconciliation settles it, whoever asked for it."""
    assert quoted.venue is not None
    position = quoted.open("100")
    to, body = f"/api/positions/{position.pk}/add-funds/", {"amount": "50"}
    quoted.venue.fail("place", Killed(), done=arrived)
    killed(owner, to, body)
    assert post(owner, to, body).data["code"] == "in_progress"
    with clock.at(MOMENT + LEASE):
        quoted.tell(100)
        answer = post(owner, to, body)
        assert (answer.status_code, answer.data["code"]) == (409, "unanswered")
        assert "manual add (order" in answer.data["numbers"]["done"]
    assert Order.objects.filter(position=position, purpose="manual_add").count() == 1
    assert len(quoted.venue.arrivals) == 1 + arrived


def test_a_kill_before_anything_was_written_lets_the_repeat_do_it(
    quoted: Desk, owner: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = quoted.open("100")
    to, body = f"/api/positions/{position.pk}/add-funds/", {"amount": "50"}

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(funds, "_intent", die)
        killed(owner, to, body)
    with clock.at(MOMENT + LEASE - timedelta(seconds=1)):
        assert post(owner, to, body).data["code"] == "in_progress"
    with clock.at(MOMENT + LEASE):
        quoted.tell(100)
        answer = post(owner, to, body)
    assert (answer.status_code, answer.data["state"]) == (200, "filled")
    assert Order.objects.filter(position=position, purpose="manual_add").count() == 1


def test_a_refusal_of_the_venue_is_the_answer_to_repeats(quoted: Desk, owner: APIClient) -> None:
    """The order exists, rejected: asking again with the same key must not make another one."""
    assert quoted.venue is not None
    position = quoted.open("100")
    to, body = f"/api/positions/{position.pk}/add-funds/", {"amount": "50"}
    quoted.venue.fail("place", VenueRejected("no_funds", "The venue says no."))
    first, again = post(owner, to, body), post(owner, to, body)
    assert (first.status_code, first.data["code"]) == (409, "no_funds")
    assert (again.status_code, json.loads(again.content)) == (409, json.loads(first.content))
    assert Order.objects.filter(position=position, purpose="manual_add").count() == 1


# The description ------------------------------------------------------------------------------------------------------


def test_the_description_names_the_header_on_every_post_that_takes_it(people: People, client_of: ClientOf) -> None:
    schema = client_of(people.ann).get("/api/schema/?format=json").json()
    with_header = {
        address: any(row["name"] == "Idempotency-Key" for row in entry["post"].get("parameters", []))
        for address, entry in schema["paths"].items()
        if "post" in entry
    }
    shows_secrets = {"/api/token/", "/api/socket-ticket/", "/api/bots/{id}/hook/"}
    may_be_repeated = {"/api/stop-trading/"}  # stopping twice is stopping
    assert {address for address, takes in with_header.items() if not takes} == shows_secrets | may_be_repeated
    assert len(with_header) > 25
    gets = [row for entry in schema["paths"].values() for row in entry.get("get", {}).get("parameters", [])]
    assert all(row["name"] != "Idempotency-Key" for row in gets)
