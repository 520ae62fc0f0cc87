"""Bots and templates over the API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bots import templates
from bots.models import Bot
from marketdata import services as market_services
from marketdata.models import Product
from tests.api.conftest import ClientOf, People
from tests.factories import AccountFactory, BotFactory, BotTemplateFactory, DecisionFactory, PositionFactory
from tradebot.core.scoping import detached

SETTINGS: dict[str, Any] = {
    "base_order_type": "fixed",
    "base_order_size": "100",
    "max_safety_orders": 2,
    "safety_order_size": "100",
    "deviation_reference": "base_order",
}


@pytest.fixture
def pair(db: None) -> Product:
    market_services.refresh_products("simulated")
    return Product.objects.get(exchange="simulated", symbol="BTC-USD")


def body(people: People, **changes: Any) -> dict[str, Any]:
    return {
        "account": people.account.pk,
        "name": "Dips",
        "settings": SETTINGS,
        "symbols": ["BTC-USD"],
        "budget_kind": "fixed",
        "budget_fixed": "1000",
        **changes,
    }


def test_a_bot_is_made_changed_started_stopped_and_archived(people: People, client_of: ClientOf, pair: Product) -> None:
    ann = client_of(people.ann)
    made = ann.post("/api/bots/", body(people), format="json")
    assert made.status_code == 201, made.data
    assert (made.data["status"], made.data["symbols"], made.data["budget_fixed"]) == ("stopped", ["BTC-USD"], "1000")
    assert made.data["settings"]["take_profit"] == "3"
    path = f"/api/bots/{made.data['id']}/"
    changed = ann.patch(path, {"settings": {**SETTINGS, "take_profit": 1.5}}, format="json")
    assert (changed.data["settings"]["take_profit"], changed.data["settings_version"]) == ("1.5", 2)
    assert ann.post(f"{path}start/").data["status"] == "running"
    assert ann.post(f"{path}check-now/").status_code == 200
    assert ann.post(f"{path}stop/").data["status"] == "stopped"
    assert ann.post(f"{path}archive/").data["archived_at"] is not None
    assert ann.get("/api/bots/?archived=false").data["count"] == 0
    assert ann.get("/api/bots/?archived=true").data["count"] == 1


def test_f56_deleting_a_bot_puts_it_away(people: People, client_of: ClientOf) -> None:
    bot = BotFactory(account=people.account)
    assert client_of(people.ann).delete(f"/api/bots/{bot.pk}/").status_code == 204
    with detached("test looks"):
        assert Bot.objects.get(pk=bot.pk).archived_at is not None


def test_a_bot_with_open_deals_is_not_put_away(people: People, client_of: ClientOf) -> None:
    deal = PositionFactory(bot=BotFactory(account=people.account), open=True)
    ann = client_of(people.ann)
    answer = ann.delete(f"/api/bots/{deal.bot_id}/")
    assert (answer.status_code, answer.data["code"]) == (400, "has_open_deals")
    assert ann.get(f"/api/bots/{deal.bot_id}/").data["open_deals"] == 1


def test_a_manager_makes_bots_for_the_accounts_owner(people: People, client_of: ClientOf, pair: Product) -> None:
    made = client_of(people.max).post("/api/bots/", body(people), format="json")
    assert made.status_code == 201, made.data
    with detached("test looks"):
        bot = Bot.objects.get(pk=made.data["id"])
    assert (bot.owner, bot.created_by) == (people.ann, people.max)


@pytest.mark.parametrize("who", ["olga", "bob"])
def test_nobody_makes_a_bot_on_an_account_that_they_may_not_change(
    people: People, client_of: ClientOf, pair: Product, who: str
) -> None:
    client = client_of(getattr(people, who))
    refused = client.post("/api/bots/", body(people), format="json")
    absent = client.post("/api/bots/", body(people, account=987_654), format="json")
    assert (refused.status_code, refused.data["field"], refused.data["code"]) == (400, "account", "does_not_exist")
    assert absent.data["code"] == "does_not_exist"


@pytest.mark.parametrize("action", ["start", "stop", "archive", "check-now"])
def test_an_observer_looks_and_does_not_touch(people: People, client_of: ClientOf, action: str) -> None:
    bot = BotFactory(account=people.account)
    assert client_of(people.olga).get(f"/api/bots/{bot.pk}/").status_code == 200
    assert client_of(people.olga).post(f"/api/bots/{bot.pk}/{action}/").status_code == 403
    assert client_of(people.bob).post(f"/api/bots/{bot.pk}/{action}/").status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"status": "running"}, "status"),
        ({"owner": 1}, "owner"),
        ({"settings": {"nonsense": 1}}, "nonsense"),
        ({"settings": {"take_profit": "NaN"}}, "take_profit"),
        ({"settings": {"take_profit": 1e400}}, "take_profit"),
        ({"settings": []}, "settings"),
        ({"symbols": ["NOPE-USD"]}, "symbols"),
        ({"symbols": "BTC-USD"}, "symbols"),
        ({"budget_pct": "NaN"}, "budget_pct"),
        ({"budget_fixed": "1e400"}, "budget_fixed"),
        ({"account": 1e400}, "account"),
        ({"account": "NaN"}, "account"),
        ({"strategy": "martingale"}, "strategy"),
        ({"name": "x" * 81}, "name"),
    ],
)
def test_f23_what_cannot_be_accepted_is_named(
    people: People, client_of: ClientOf, pair: Product, changes: dict[str, Any], field: str
) -> None:
    literals = json.dumps(body(people, **changes)).replace("Infinity", "1e400")
    answer = client_of(people.ann).post("/api/bots/", literals, content_type="application/json")
    assert answer.status_code == 400
    assert answer.data["field"].split(".")[0] == field, answer.data
    assert set(answer.data) >= {"code", "detail", "field"}


def test_settings_errors_are_all_told(people: People, client_of: ClientOf, pair: Product) -> None:
    wrong = {"take_profit": "9999", "stop_loss": "-1"}
    answer = client_of(people.ann).post("/api/bots/", body(people, settings=wrong), format="json")
    assert set(answer.data["errors"]) >= {"take_profit", "stop_loss"}


def test_decisions_tell_why(people: People, client_of: ClientOf) -> None:
    decision = DecisionFactory(bot=BotFactory(account=people.account))
    DecisionFactory(bot=BotFactory(account=people.account))
    rows = client_of(people.olga).get(f"/api/bots/{decision.bot_id}/decisions/").data["results"]
    assert [(row["id"], row["code"], row["symbol"]) for row in rows] == [(decision.pk, "tree_false", "BTC-USD")]
    assert client_of(people.bob).get(f"/api/bots/{decision.bot_id}/decisions/").status_code == 404


def test_orphaned_bots_are_found_and_assigned(people: People, client_of: ClientOf, pair: Product) -> None:
    orphan = BotFactory(owner=people.ann, account=None)
    BotFactory(account=people.account)
    ann = client_of(people.ann)
    rows = ann.get("/api/bots/?orphaned=true").data["results"]
    assert [(row["id"], row["orphaned"]) for row in rows] == [(orphan.pk, True)]
    assert ann.post(f"/api/bots/{orphan.pk}/start/").data["code"] == "bot_orphaned"
    answer = ann.post(f"/api/bots/{orphan.pk}/assign/", {"account": people.account.pk}, format="json")
    assert (answer.status_code, answer.data["orphaned"]) == (200, False)
    elsewhere = AccountFactory(owner=people.bob)
    assert ann.post(f"/api/bots/{orphan.pk}/assign/", {"account": elsewhere.pk}, format="json").status_code == 400


def test_filters_offer_only_what_one_may_see(people: People, client_of: ClientOf) -> None:
    BotFactory(account=people.account)
    assert client_of(people.ann).get(f"/api/bots/?account={people.account.pk}").data["count"] == 1
    refused = client_of(people.bob).get(f"/api/bots/?account={people.account.pk}")
    assert (refused.status_code, refused.data["field"]) == (400, "account")
    assert client_of(people.bob).get("/api/bots/?account=987654").data == refused.data


def test_the_settings_schema_is_what_the_engine_checks_against(people: People, client_of: ClientOf) -> None:
    (strategy,) = client_of(people.bob).get("/api/bots/settings-schema/").data
    fields = {field["name"]: field for field in strategy["fields"]}
    assert (fields["take_profit"]["default"], fields["take_profit"]["maximum"]) == ("3", "500")
    assert fields["take_profit"]["optional"] is True
    assert set(strategy["json_schema"]["properties"]) == set(fields)


def test_templates_are_presets_and_ones_own(people: People, client_of: ClientOf) -> None:
    presets = templates.seed_presets()
    mine, foreign = BotTemplateFactory(owner=people.ann), BotTemplateFactory(owner=people.bob)
    ann = client_of(people.ann)
    rows = ann.get("/api/templates/?page_size=200").data["results"]
    assert {row["id"] for row in rows if not row["preset"]} == {mine.pk}
    assert sum(row["preset"] for row in rows) == presets
    assert ann.get("/api/templates/?preset=false").data["count"] == 1
    assert ann.get(f"/api/templates/{foreign.pk}/").status_code == 404
    assert ann.delete(f"/api/templates/{foreign.pk}/").status_code == 404
    preset = next(row for row in rows if row["preset"])
    assert ann.delete(f"/api/templates/{preset['id']}/").status_code == 403
    assert ann.delete(f"/api/templates/{mine.pk}/").status_code == 204


def test_a_template_is_kept_from_a_bot_that_one_may_see(people: People, client_of: ClientOf) -> None:
    bot = BotFactory(account=people.account, settings=SETTINGS)
    wanted = {"bot": bot.pk, "name": "Kept"}
    made = client_of(people.ann).post("/api/templates/", wanted, format="json")
    assert (made.status_code, made.data["preset"]) == (201, False)
    again = client_of(people.ann).post("/api/templates/", wanted, format="json")
    assert (again.status_code, again.data["field"]) == (400, "name")
    assert client_of(people.bob).post("/api/templates/", wanted, format="json").data["field"] == "bot"
