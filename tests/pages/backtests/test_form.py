"""The form of a backtest: what it begins with, what it refuses, and the candles that it needs."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import Account, User
from bots import templates
from bots.backtesting.forms import RunDraft, quick_span
from bots.backtesting.models import Backtest
from bots.models import Bot
from marketdata.models import HistoryDownload, Product
from tests.bots.recordings import WAVE, recording
from tests.factories import HistoryDownloadFactory, ProductFactory
from tests.looking import everything
from tests.pages.backtests.asking import typed
from tests.pages.markup import offences, text
from tests.pages.test_bots_form import condition, sent

pytestmark = pytest.mark.django_db


def test_the_form_begins_with_the_bots_settings_pairs_budget_and_fees(browser: Client, bot: Bot) -> None:
    response = browser.get(f"/backtests/new/?bot={bot.pk}")
    assert offences(response) == []
    draft, form = response.context["draft"], response.context["form"]
    assert (draft.symbols, draft.exchange, draft.budget_pct) == (["BTC-USD"], "replay", "80")
    assert (draft.start, draft.end) == ("2024-01-01", "2024-01-01")
    assert [row.state for row in form.coverage] == ["held"]
    page = text(response)
    assert "of the bot “Dip ladder”" in page
    assert "Opens at once" in page
    assert "All held" in page


def test_the_form_begins_with_a_preset_where_nothing_is_asked_for(browser: Client, account: Account) -> None:
    templates.seed_presets()
    response = browser.get("/backtests/new/")
    assert response.status_code == 200
    assert "of the template “Balanced”" in text(response)
    assert browser.get("/backtests/new/?template=unheard-of").status_code == 404
    assert browser.get("/backtests/new/?bot=99999").status_code == 404
    assert browser.get("/backtests/new/?backtest=x").status_code == 404


def test_an_unsaved_bot_form_is_tried_as_it_is(browser: Client, account: Account, product: Product) -> None:
    ProductFactory()
    rule = condition()
    response = browser.post("/backtests/new/", sent(account, name="Unsaved", action="backtest", **rule))
    assert response.status_code == 200
    assert not everything(Bot).exists()
    form = response.context["form"]
    assert form.draft.name == "Unsaved"
    assert form.draft.exchange == "simulated"  # the account's market
    assert form.draft.budget_pct == "50"
    assert any("RSI" in sentence for sentence in form.sentences)
    carried = dict(form.draft.carried)
    assert carried["t.open_conditions.0.0.value"] == "30"
    assert "csrfmiddlewaretoken" not in carried


def test_the_way_to_the_bot_form_and_back_loses_nothing(browser: Client, account: Account, product: Product) -> None:
    ProductFactory()
    first = browser.post("/backtests/new/", sent(account, name="Unsaved", action="backtest", **condition()))
    draft = first.context["draft"]
    data = typed(origin="form", action="edit_settings", **dict(draft.carried)) | {
        "r.capital": "777",
        "r.start": "2024-01-01",
    }
    away = browser.post("/backtests/new/", data)
    assert (away.status_code, away["Location"]) == (307, "/bots/new/")
    form = browser.post("/bots/new/", data)
    assert form.status_code == 200
    assert form.context["draft"].trees["open_conditions"].count == 1
    assert form.context["draft"].symbols == ["BTC-USD"]
    back = browser.post("/backtests/new/", sent(account, name="Unsaved", action="backtest", **condition(value="25")))
    assert (back.context["draft"].capital, back.context["draft"].start) == ("777", "2024-01-01")
    assert dict(back.context["draft"].carried)["t.open_conditions.0.0.value"] == "25"


def test_settings_of_a_bot_are_edited_where_the_bot_is(browser: Client, bot: Bot) -> None:
    away = browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}", action="edit_settings"))
    assert away["Location"] == f"/bots/{bot.pk}/edit/"


def test_pairs_chosen_here_survive_the_way_to_settings_that_have_none(
    browser: Client, account: Account, product: Product
) -> None:
    templates.seed_presets()
    away = browser.post("/backtests/new/", typed(action="edit_settings", budget_pct="80"))
    assert away["Location"] == "/bots/new/?template=balanced"
    untouched = browser.get(away["Location"]).context["draft"]
    data = sent(account, action="backtest", symbols=[], budget_pct=untouched.budget_pct)
    back = browser.post("/backtests/new/", data).context["draft"]
    assert (back.symbols, back.budget_pct, back.exchange) == (["BTC-USD"], "80", "replay")
    browser.post("/backtests/new/", typed(action="edit_settings", budget_pct="80"))
    changed = browser.post("/backtests/new/", data | {"symbols": ["ETH-USD"], "budget_pct": "40"}).context["draft"]
    assert (changed.symbols, changed.budget_pct) == (["ETH-USD"], "40")


def test_settings_of_a_run_go_to_a_new_bot_form_as_they_were(browser: Client, run: Backtest) -> None:
    away = browser.post("/backtests/new/", typed(origin=f"backtest:{run.pk}", action="edit_settings"))
    assert away["Location"] == f"/bots/new/?backtest={run.pk}"
    draft = browser.get(away["Location"]).context["draft"]
    assert (draft.symbols, draft.settings["take_profit"], draft.budget_pct) == (["BTC-USD"], "1", "100")
    assert browser.get("/bots/new/?backtest=99999").status_code == 404
    assert browser.get("/bots/new/?sweep=x").status_code == 404


def test_settings_that_cannot_run_are_named_and_not_started(
    browser: Client, account: Account, product: Product
) -> None:
    arrived = browser.post("/backtests/new/", sent(account, action="backtest", **{"s.take_profit": "900"}))
    assert "Allowed are 0.1 to 500 %." in text(arrived)
    data = typed(origin="form", **dict(arrived.context["draft"].carried))
    response = browser.post("/backtests/new/", data)
    assert response.status_code == 422
    assert "These settings cannot run yet" in text(response)
    assert not everything(Backtest).exists()


def test_a_backtest_is_asked_for_without_scripts(browser: Client, bot: Bot) -> None:
    response = browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}"))
    run = everything(Backtest).get()
    assert response["Location"] == f"/backtests/{run.pk}/"
    assert (run.bot_id, run.maker_fee_pct, run.budget_pct, run.balances) == (
        bot.pk,
        run.maker_fee_pct,
        100,
        {"USD": "1000"},
    )
    assert str(run.maker_fee_pct).startswith("0.4")
    assert run.settings["take_profit"] == "1"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"symbols": []}, "symbols", "Choose at least one pair."),
        ({"symbols": ["ETH-EUR"]}, "symbols", "Not on this market"),
        ({"r.capital": "lots"}, "capital", "Enter a number."),
        ({"r.capital": "0"}, "capital", "above zero"),
        ({"r.taker": "-1"}, "taker", "not below zero"),
        ({"r.maker": "50"}, "maker", "more than 10 %"),
        ({"r.slippage": "NaN"}, "slippage", "Enter a number."),
        ({"r.start": ""}, "start", "Choose a day."),
        ({"r.start": "yesterday"}, "start", "Write the day as"),
        ({"r.end": "2023-12-31"}, "end", "before the first"),
        ({"r.start": "2020-01-01", "r.end": "2020-02-01"}, "coverage", "not held"),
        ({"r.timeframe": "7m"}, "timeframe", "Choose a timeframe."),
        ({"budget_pct": "120"}, "budget_pct", "more than 100 %"),
        ({"budget_kind": "fixed", "budget_fixed": ""}, "budget_fixed", "Enter a number."),
    ],
)
def test_what_is_wrong_stays_as_typed_with_the_reason_beside_it(
    browser: Client, bot: Bot, changes: dict[str, Any], field: str, message: str
) -> None:
    response = browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}", **changes))
    assert response.status_code == 422
    draft = response.context["draft"]
    assert message in draft.errors[field]
    assert draft.slippage == changes.get("r.slippage", "0")
    assert message in text(response).replace("&#x27;", "'")
    assert not everything(Backtest).exists()


def test_pairs_ranges_and_settings_change_by_round_trips(browser: Client, bot: Bot) -> None:
    recording("ETH-USD", WAVE * 2)
    templates.seed_presets()

    def pressed(action: str, **more: Any) -> RunDraft:
        response = browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}", action=action, **more))
        assert response.status_code == 200
        draft: RunDraft = response.context["draft"]
        return draft

    assert pressed("add_pair", wanted_pair="eth").symbols == ["BTC-USD", "ETH-USD"]
    assert pressed("add_pair:ETH-USD").symbols == ["BTC-USD", "ETH-USD"]
    assert pressed("remove_pair:BTC-USD").symbols == []
    assert "There is no pair NOPE" in pressed("add_pair", wanted_pair="NOPE").errors["symbols"]
    assert pressed("run", wanted_pair="ETH-USD").symbols == ["BTC-USD", "ETH-USD"]  # typed, not lost
    assert pressed("use_template:balanced").origin == "template:balanced"
    held = pressed("range:all", **{"r.start": "2020-05-05", "r.end": "2020-06-06"})
    assert (held.start, held.end) == ("2024-01-01", "2024-01-01")
    recent = pressed("range:30")
    assert recent.span() is not None
    assert recent.span()[1] - recent.span()[0] in (30 * 86_400, 31 * 86_400)  # type: ignore[index]
    assert not everything(Backtest).exists()


def test_quick_ranges_take_the_time_that_all_pairs_have() -> None:
    assert quick_span("all", 0, [(0, 100), (50, 200)]) == (50, 100)
    assert quick_span("all", 0, [(0, 10), (50, 200)]) == (0, 200)
    assert quick_span("all", 0, []) is None
    assert quick_span("90", 90 * 86_400, []) == (0, 90 * 86_400)
    assert quick_span("7", 0, []) is None


# Candles --------------------------------------------------------------------------------------------------------------


def test_missing_candles_are_said_and_fetched_from_the_form(browser: Client, account: Account) -> None:
    ProductFactory()
    templates.seed_presets()
    data = typed(action="refresh", **{"r.exchange": "simulated", "r.start": "2024-03-01", "r.end": "2024-03-03"})
    page = browser.post("/backtests/new/", data)
    assert {row.state for row in page.context["form"].coverage} == {"none"}
    assert "Download missing history" in text(page)
    asked = browser.post("/backtests/new/", data | {"action": "download"})
    assert everything(HistoryDownload).exists()
    assert asked.context["form"].is_loading
    assert "<progress" in text(asked)
    assert "Download missing history" not in text(asked)  # it is on its way
    again = browser.post("/backtests/new/", data | {"action": "download"})
    assert everything(HistoryDownload).count() == len(again.context["form"].coverage)


def test_a_recording_has_nothing_to_download(browser: Client, bot: Bot) -> None:
    page = text(browser.get(f"/backtests/new/?bot={bot.pk}"))
    assert "Download missing history" not in page
    assert "A recording has the candles that were imported" in page


def test_downloads_are_listed_cancelled_and_forgotten(browser: Client, trader: User) -> None:
    row = HistoryDownloadFactory(owner=trader, product=ProductFactory())
    page = browser.get("/backtests/history/")
    assert offences(page) == []
    assert "<progress" in text(page)
    browser.post(f"/backtests/history/{row.pk}/cancel/")
    assert everything(HistoryDownload).get().status == "cancelled"
    browser.post(f"/backtests/history/{row.pk}/remove/")
    assert not everything(HistoryDownload).exists()
