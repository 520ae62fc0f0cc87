"""The two inlets of signals: the hook, which knows a secret and no session, and the API of a person's own programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from bots.models import Bot, Signal, SignalHook
from bots.signals import hooks, inlet
from bots.signals.views import LARGEST_BODY, SECRET_HEADER
from tests.api.conftest import ClientOf, People
from tests.factories import ApiTokenFactory, BotFactory, ProductFactory, SignalFactory, SignalHookFactory
from tradebot.core import clock
from tradebot.core.models import ActionKey
from tradebot.core.scoping import detached

SECRET = "the secret of this bot"
ALERT = {"pair": "BTC-USD", "action": "buy"}
Sent = Callable[..., HttpResponse]


@pytest.fixture
def bot(people: People) -> Bot:
    return BotFactory(account=people.account, products=[ProductFactory(), ProductFactory(symbol="ETH-USD")])


@pytest.fixture
def send(bot: Bot) -> Sent:
    """Send something to the bot's hook from outside, with CSRF checks as in real life."""
    hook = SignalHookFactory(bot=bot, secret_digest=hooks.digest_of(SECRET))
    outside = Client(enforce_csrf_checks=True)

    def post(body: Any = None, secret: str | None = SECRET, public_id: str = hook.public_id, **more: Any) -> Any:
        headers = {SECRET_HEADER: secret} if secret is not None else {}
        text = body if isinstance(body, str | bytes) else json.dumps(ALERT if body is None else body)
        kind = more.pop("content_type", "application/json")
        client = more.pop("client", outside)
        return client.post(f"/hooks/{public_id}/", text, content_type=kind, headers=headers, **more)

    return post


def stored(bot: Bot) -> list[Signal]:
    with detached("test looks"):
        return list(Signal.objects.filter(bot=bot).select_related("product").order_by("pk"))


# The hook -----------------------------------------------------------------------------------------------------------


def test_an_alert_with_the_secret_is_stored_with_its_verdict(send: Sent, bot: Bot) -> None:
    answer = send()
    assert (answer.status_code, answer.json()) == (200, {"verdict": "accepted", "detail": "Taken.", "new": True})
    (signal,) = stored(bot)
    assert (signal.kind, signal.action, signal.product.symbol, signal.source) == ("webhook", "buy", "BTC-USD", "hook")
    assert signal.is_first


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({**ALERT, "secret": SECRET}, "application/json"),
        ({"secret": SECRET, "ticker": "COINBASE:BTCUSD", "strategy": {"order": {"action": "buy"}}}, "text/plain"),
        (f'secret="{SECRET}" ticker=BTCUSD action=buy', "text/plain; charset=utf-8"),
    ],
)
def test_the_secret_may_come_in_the_message(send: Sent, bot: Bot, body: Any, kind: str) -> None:
    assert send(body, secret=None, content_type=kind).status_code == 200
    assert [(row.action, row.product.symbol) for row in stored(bot)] == [("buy", "BTC-USD")]


def test_f52_an_unknown_hook_and_a_wrong_secret_get_the_same_answer(send: Sent, bot: Bot) -> None:
    answers = [
        send(secret="wrong"),
        send(secret=None),
        send(secret=""),
        send(public_id="unknown"),
        send({**ALERT, "secret": "wrong"}, secret=None),
        send("no json at all", secret=None),
        send(secret=hooks.digest_of(SECRET)),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert stored(bot) == []


def test_the_secret_of_another_bot_opens_nothing(send: Sent, bot: Bot, people: People) -> None:
    other = SignalHookFactory(bot__account=people.account, secret_digest=hooks.digest_of("another"))
    assert send(secret="another").status_code == 404
    assert send(secret="another", public_id=other.public_id).status_code == 200
    assert stored(bot) == []


def test_a_revoked_secret_lets_nothing_in(send: Sent, bot: Bot) -> None:
    with detached("test revokes"):
        hooks.revoke_secret(bot, "ann@example.com")
    assert send().status_code == 404
    assert send(secret="").status_code == 404


def test_the_hook_answers_posts_alone(send: Sent, bot: Bot) -> None:
    with detached("test reads"):
        path = f"/hooks/{hooks.hook_of(bot).public_id}/"  # type: ignore[union-attr]
    for method in ("get", "put", "patch", "delete"):
        answer = getattr(Client(), method)(path, headers={SECRET_HEADER: SECRET})
        assert answer.status_code == 405
        assert getattr(Client(), method)("/hooks/unknown/").content == answer.content


def test_whoever_is_signed_in_the_secret_alone_decides(send: Sent, bot: Bot, people: People) -> None:
    strangers = Client(enforce_csrf_checks=True)
    strangers.force_login(people.bob)
    assert send(client=strangers).status_code == 200
    assert send(secret="wrong", client=strangers).status_code == 404
    owners = Client(enforce_csrf_checks=True)
    owners.force_login(people.ann)
    assert send(secret="wrong", client=owners).status_code == 404
    assert len(stored(bot)) == 1


def test_what_cannot_be_read_is_stored_as_such_and_answered_400(send: Sent, bot: Bot) -> None:
    for body in ("BTCUSD buy", {"pair": "BTC-USD", "action": "hodl"}, {"kind": "ai_buy", "pair": "BTC-USD"}, b"\xff"):
        answer = send(body)
        assert (answer.status_code, answer.json()["verdict"]) == (400, "bad")
    rows = stored(bot)
    assert [row.verdict for row in rows] == ["bad"] * 4
    assert all(row.reason for row in rows)
    assert not any(row.is_first for row in rows)
    assert rows[2].kind == "ai_buy"


def test_f55_a_secret_in_the_message_is_stored_nowhere(send: Sent, bot: Bot) -> None:
    for body in ({**ALERT, "secret": SECRET}, {"secret": SECRET, "action": "hodl"}, f'secret="{SECRET}" action=buy'):
        send(body, secret=None)
    send(f"loose words {SECRET}")
    with detached("test looks"):
        assert SECRET not in str(list(Signal.objects.values()))
    assert len(stored(bot)) == 4


@pytest.mark.parametrize(
    ("alert", "verdict"),
    [
        ({"pair": "DOGE-USD"}, "unknown_pair"),
        ({}, "unknown_pair"),
        ({"pair": "all"}, "accepted"),
        ({"pair": "BTC-USD", "sent_at": "2020-01-01T00:00:00Z"}, "too_late"),
        ({"pair": "BTC-USD", "sent_at": 4_000_000_000}, "bad"),
    ],
)
def test_every_alert_is_stored_with_its_verdict(send: Sent, bot: Bot, alert: dict[str, Any], verdict: str) -> None:
    answer = send(alert)
    assert answer.json()["verdict"] == verdict
    assert [row.verdict for row in stored(bot)] == [verdict]


def test_an_id_sent_twice_counts_once(send: Sent, bot: Bot) -> None:
    first, again = send({**ALERT, "id": "x1"}), send({**ALERT, "id": "x1", "action": "sell"})
    assert (first.json()["new"], again.json()["new"]) == (True, False)
    assert again.status_code == 200
    assert [row.action for row in stored(bot)] == ["buy"]


def test_a_body_that_is_too_large_is_not_read(send: Sent, bot: Bot) -> None:
    assert send({**ALERT, "text": "x" * (LARGEST_BODY - 100)}).status_code == 200
    assert send({**ALERT, "text": "x" * LARGEST_BODY}).status_code == 413
    assert send(b"x" * (LARGEST_BODY + 1), public_id="unknown").status_code == 413
    assert len(stored(bot)) == 1


def test_a_hook_takes_so_many_alerts_a_minute(send: Sent, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inlet, "HOOK_LIMIT", (2, 60))
    now = clock.now().replace(second=10)
    with clock.at(now):
        assert [send().status_code for _ in range(3)] == [200, 200, 429]
        refused = send()
        assert refused.headers["Retry-After"] in ("49", "50")
        assert send(secret="wrong").status_code == 404  # the limit is no way to find out that a hook is there
    with clock.at(now + timedelta(minutes=1)):
        assert send().status_code == 200
    assert len(stored(bot)) == 3


def test_an_address_may_try_so_often_a_minute(send: Sent, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inlet, "ADDRESS_LIMIT", (3, 60))
    with clock.at(clock.now().replace(second=10)):
        tried = [send(secret="wrong", REMOTE_ADDR="192.0.2.1").status_code for _ in range(4)]
        assert tried == [404, 404, 404, 429]
        assert send(REMOTE_ADDR="192.0.2.1").status_code == 429
        assert send(REMOTE_ADDR="192.0.2.2").status_code == 200
    assert len(stored(bot)) == 1


# The API ------------------------------------------------------------------------------------------------------------


def test_a_program_tells_its_bot_something_by_token(people: People, bot: Bot) -> None:
    from accounts.tokens import digest_of

    ApiTokenFactory(user=people.ann, digest=digest_of("token"))
    program = APIClient(HTTP_AUTHORIZATION="Token token", enforce_csrf_checks=True)
    body = {
        "kind": "ai_buy",
        "symbol": "ETH-USD",
        "confidence": 72.5,
        "reasoning": "oversold",
        "external_id": "run 7",
        "sent_at": clock.now().isoformat(),
    }
    made = program.post(f"/api/bots/{bot.pk}/signals/", body, format="json")
    assert made.status_code == 201
    found = made.json()
    assert {name: found[name] for name in ("kind", "symbol", "confidence", "reasoning", "verdict", "source")} == {
        "kind": "ai_buy",
        "symbol": "ETH-USD",
        "confidence": 72.5,
        "reasoning": "oversold",
        "verdict": "accepted",
        "source": "api",
    }
    again = program.post(f"/api/bots/{bot.pk}/signals/", body, format="json")
    assert (again.status_code, again.json()["id"]) == (200, found["id"])
    listed = program.get(f"/api/bots/{bot.pk}/signals/").json()
    assert [row["id"] for row in listed["results"]] == [found["id"]]


def test_without_a_pair_the_api_means_all_of_them(client_of: ClientOf, people: People, bot: Bot) -> None:
    answer = client_of(people.ann).post(f"/api/bots/{bot.pk}/signals/", {"kind": "webhook"}, format="json")
    assert (answer.status_code, answer.json()["symbol"], answer.json()["verdict"]) == (201, None, "accepted")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "kind"),
        ({"kind": "moon"}, "kind"),
        ({"kind": "ai_buy"}, "confidence"),
        ({"kind": "ai_buy", "confidence": 100.5}, "confidence"),
        ({"kind": "ai_buy", "confidence": 70, "action": "sell"}, "action"),
        ({"kind": "webhook", "sent_at": "yesterday"}, "sent_at"),
        ({"kind": "webhook", "confidense": 70}, "confidense"),
        ({"kind": "webhook", "external_id": "x" * 101}, "external_id"),
        ({"kind": "webhook", "reasoning": "x" * 501}, "reasoning"),
    ],
)
def test_what_the_api_cannot_take_is_refused_by_field(
    client_of: ClientOf, people: People, bot: Bot, body: dict[str, Any], field: str
) -> None:
    answer = client_of(people.ann).post(f"/api/bots/{bot.pk}/signals/", body, format="json")
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert stored(bot) == []


def test_observers_read_signals_and_send_none(client_of: ClientOf, people: People, bot: Bot) -> None:
    SignalFactory(bot=bot, reasoning="seen by observers")
    path = f"/api/bots/{bot.pk}/signals/"
    assert "seen by observers" in client_of(people.olga).get(path).content.decode()
    assert client_of(people.olga).post(path, {"kind": "webhook"}, format="json").status_code == 403
    assert client_of(people.max).post(path, {"kind": "webhook"}, format="json").status_code == 201
    for method in ("get", "post"):
        assert getattr(client_of(people.bob), method)(path, {"kind": "webhook"}, format="json").status_code == 404


def test_the_api_is_limited_with_the_hook(
    client_of: ClientOf, people: People, bot: Bot, send: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inlet, "HOOK_LIMIT", (2, 60))
    ann = client_of(people.ann)
    with clock.at(clock.now().replace(second=10)):
        assert send().status_code == 200
        assert ann.post(f"/api/bots/{bot.pk}/signals/", {"kind": "webhook"}, format="json").status_code == 201
        refused = ann.post(f"/api/bots/{bot.pk}/signals/", {"kind": "webhook"}, format="json")
    assert refused.status_code == 429
    assert "Retry-After" in refused.headers


def test_listing_signals_costs_the_same_however_many(client_of: ClientOf, people: People, bot: Bot) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client_of(people.ann).get(f"/api/bots/{bot.pk}/signals/").status_code == 200
        return len(captured)

    SignalFactory(bot=bot, product=ProductFactory())
    one = queries()
    for _ in range(8):
        SignalFactory(bot=bot, product=ProductFactory(symbol="ETH-USD"))
    assert queries() == one


def test_f55_the_api_shows_a_hooks_secret_once(client_of: ClientOf, people: People, bot: Bot, send: Sent) -> None:
    ann, path = client_of(people.ann), f"/api/bots/{bot.pk}/hook/"
    before = ann.get(path).json()
    assert before["open"]
    made = ann.post(path)
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert send().status_code == 404
    assert send(secret=secret).status_code == 200
    assert made.json()["address"] == before["address"]
    assert before["address"].startswith("http://testserver/hooks/")
    for where in (path, f"/api/bots/{bot.pk}/", "/api/bots/", f"/bots/{bot.pk}/", f"/bots/{bot.pk}/signals/"):
        text = ann.get(where).content.decode()
        assert secret not in text
        assert hooks.digest_of(secret) not in text
    assert ann.patch(path, {"max_lag_seconds": 5}, format="json").json()["max_lag_seconds"] == 5
    assert ann.patch(path, {"max_lag_seconds": 0}, format="json").status_code == 400
    assert ann.delete(path).status_code == 204
    assert not ann.get(path).json()["open"]
    assert send(secret=secret).status_code == 404
    for method in ("post", "patch", "delete"):
        body = {"max_lag_seconds": 5} if method == "patch" else {}
        assert getattr(client_of(people.olga), method)(path, body, format="json").status_code == 403


def test_f55_a_secret_is_not_kept_as_the_answer_to_repeats(client_of: ClientOf, people: People, bot: Bot) -> None:
    path = f"/api/bots/{bot.pk}/hook/"
    refused = client_of(people.ann).post(path, headers={"Idempotency-Key": "k"})
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
        400,
        "not_repeatable",
        "Idempotency-Key",
    )
    with detached("test looks"):
        assert not SignalHook.objects.exists()
        assert not ActionKey.objects.exists()


def test_a_bot_without_a_hook_says_so(client_of: ClientOf, people: People, bot: Bot) -> None:
    answer = client_of(people.ann).get(f"/api/bots/{bot.pk}/hook/").json()
    assert answer == {"address": "", "open": False, "secret_made_at": None, "max_lag_seconds": 60}
