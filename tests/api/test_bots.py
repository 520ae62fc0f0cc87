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
    looked = ann.post(f"{path}run-now/")
    assert (looked.status_code, looked.data["busy"]) == (200, False)
    assert {line["symbol"] for line in looked.data["lines"]} == {"BTC-USD"}
    assert ann.post(f"{path}sell-all/", {"stop": True}, format="json").data["failed"] == 0
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


@pytest.mark.parametrize("action", ["start", "stop", "archive", "run-now", "clone", "sell-all", "cancel-all"])
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


# Copies, documents, previews ----------------------------------------------------------------------------------------


def test_a_bot_goes_out_as_a_document_and_comes_in_again(people: People, client_of: ClientOf, pair: Product) -> None:
    ann = client_of(people.ann)
    made = ann.post("/api/bots/", body(people), format="json").data
    document = ann.get(f"/api/bots/{made['id']}/export/").data
    assert (document["format"], document["version"]) == ("tradebot-bot", 1)
    wanted = {"account": people.account.pk, "document": document}
    again = ann.post("/api/bots/import/", wanted, format="json")
    assert (again.status_code, again.data["bot"]["name"], again.data["dropped"]) == (201, "Dips 2", [])
    assert again.data["bot"]["settings"] == made["settings"]
    as_text = ann.post("/api/bots/import/", {**wanted, "document": json.dumps(document), "name": "Text"}, format="json")
    assert as_text.data["bot"]["name"] == "Text"
    for changes, field in (
        ({"owner": 1}, "owner"),
        ({"version": 9}, "version"),
        ({"settings": {"take_profit": "NaN"}}, "take_profit"),
    ):
        refused = ann.post("/api/bots/import/", {**wanted, "document": document | changes}, format="json")
        assert (refused.status_code, refused.data["field"]) == (400, field)
    for odd in ([], 7, None, "x" * (256 * 1024 + 1)):
        refused = ann.post("/api/bots/import/", {**wanted, "document": odd}, format="json")
        assert (refused.status_code, refused.data["field"]) == (400, "document")
    for other in ("olga", "bob"):
        refused = client_of(getattr(people, other)).post("/api/bots/import/", wanted, format="json")
        assert refused.data["code"] == "does_not_exist"


def test_a_bot_is_cloned_and_copied(people: People, client_of: ClientOf, pair: Product) -> None:
    ann = client_of(people.ann)
    made = ann.post("/api/bots/", body(people), format="json").data
    assert ann.post(f"/api/bots/{made['id']}/clone/").data["bot"]["name"] == "Dips 2"
    other = AccountFactory(owner=people.ann, balances={"USD": 5_000})
    copied = ann.post(f"/api/bots/{made['id']}/copy/", {"account": other.pk}, format="json")
    assert (copied.status_code, copied.data["bot"]["account"], copied.data["bot"]["status"]) == (
        201,
        other.pk,
        "stopped",
    )
    foreign = AccountFactory(owner=people.bob)
    assert ann.post(f"/api/bots/{made['id']}/copy/", {"account": foreign.pk}, format="json").status_code == 400


def test_unsaved_settings_are_previewed_in_each_direction(people: People, client_of: ClientOf, pair: Product) -> None:
    ann = client_of(people.ann)
    both = {**SETTINGS, "direction": "both", "long_share_pct": "75"}
    wanted = body(people, settings=both, budget_fixed="1600")
    del wanted["name"]
    found = ann.post("/api/bots/preview/", wanted, format="json")
    assert found.status_code == 200, found.data
    assert found.data["workable"] is True
    long, short = found.data["sides"]
    assert (long["direction"], long["budget"], short["direction"], short["budget"]) == ("long", "1200", "short", "400")
    rungs = long["pairs"][0]["rungs"]
    assert [rung["level"] for rung in rungs] == [0, 1, 2]
    assert float(rungs[1]["price"]) < float(rungs[0]["price"]) < float(short["pairs"][0]["rungs"][1]["price"])
    small = ann.post("/api/bots/preview/", wanted | {"budget_fixed": "1000"}, format="json")
    assert small.data["workable"] is False
    assert small.data["sides"][1]["pairs"][0]["violations"]
    assert any(check["state"] == "wrong" and "Short side" in check["text"] for check in small.data["checks"])
    for changes, field in (
        ({"settings": {"take_profit": "NaN"}}, "take_profit"),
        ({"symbols": ["NOPE-USD"]}, "symbols"),
        ({"budget_pct": "101"}, "budget_pct"),
        ({"name": "x"}, "name"),
    ):
        refused = ann.post("/api/bots/preview/", wanted | changes, format="json")
        assert (refused.status_code, refused.data["field"]) == (400, field)
    assert client_of(people.olga).post("/api/bots/preview/", wanted, format="json").data["code"] == "does_not_exist"
    with detached("test looks"):
        assert not Bot.objects.exists()


def test_all_deals_are_looked_at_and_given_up_at_once(people: People, client_of: ClientOf) -> None:
    deal = PositionFactory(bot=BotFactory(account=people.account), open=True)
    path = f"/api/bots/{deal.bot_id}/"
    assert client_of(people.olga).get(f"{path}bulk-preview/").data["deals"] == 1
    answer = client_of(people.max).post(f"{path}cancel-all/")
    assert [(row["position"], row["state"]) for row in answer.data["deals"]] == [(deal.pk, "cancelled")]
    assert answer.data["message"] == "1 of 1 cancelled."
    assert client_of(people.bob).post(f"{path}cancel-all/").status_code == 404


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
