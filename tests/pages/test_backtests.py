"""Backtests on pages: the form with its coverage, runs under way and done, comparing, sweeps, downloads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from accounts.models import Account, User
from bots import templates
from bots.backtesting import jobs, sweeps
from bots.backtesting import services as backtests
from bots.backtesting.charts import Series, plot
from bots.backtesting.forms import ParameterDraft, RunDraft, quick_span
from bots.backtesting.models import Backtest, BacktestDeal, Sweep, SweepPoint
from bots.models import Bot
from marketdata.models import HistoryDownload, Product
from marketdata.series import oldest_first
from marketdata.sources.replay import import_candles
from marketdata.timeframes import Timeframe
from tests.factories import (
    AccountFactory,
    BacktestDealFactory,
    BacktestFactory,
    BotFactory,
    HistoryDownloadFactory,
    ProductFactory,
    SweepFactory,
    SweepPointFactory,
    UserFactory,
)
from tests.pages.dealing import MOST_QUERIES, queries_of
from tests.pages.markup import offences, text
from tests.pages.test_bots_form import condition, sent
from tradebot.core.scoping import detached, request_holder

pytestmark = pytest.mark.django_db

START = 1_704_067_200  # 2024-01-01
MINUTE = 60
WAVE = [100.0, 99, 98, 97, 96, 95, 94, 95, 96, 97, 98, 99, 101]
SETTINGS: dict[str, Any] = {
    "base_order_type": "fixed",
    "base_order_size": "100",
    "max_safety_orders": 2,
    "safety_order_type": "fixed",
    "safety_order_size": "100",
    "price_deviation": "2",
    "deviation_reference": "base_order",
    "take_profit": "1",
}


def recording(symbol: str = "BTC-USD", rounds: int = 40) -> Product:
    closes = WAVE * rounds
    times = [START + n * MINUTE for n in range(len(closes))]
    candles = oldest_first(times, closes, closes, closes, closes, [1e6] * len(closes))
    import_candles(symbol, Timeframe.M1, candles)
    return Product.objects.get(exchange="replay", symbol=symbol)


@pytest.fixture
def product(db: None) -> Product:
    return recording()


def work() -> None:
    """Carry out what waits, as a worker does."""
    with request_holder():
        job = jobs.claim_next()
        assert job is not None
        with jobs.acting_for_owner(job.owner_id):
            if isinstance(job, Backtest):
                backtests.run_backtest(job, tell=False)
            else:
                sweeps.run_to_end(job)


def typed(**changes: Any) -> dict[str, Any]:
    """What a browser sends for a form that is in order."""
    return {
        "origin": "template:balanced",
        "symbols": ["BTC-USD"],
        "budget_kind": "percent",
        "budget_pct": "100",
        "budget_fixed": "",
        "split_budget": "on",
        "r.name": "",
        "r.exchange": "replay",
        "r.timeframe": "1m",
        "r.start": "2024-01-01",
        "r.end": "2024-01-01",
        "r.capital": "1000",
        "r.maker": "0,4",
        "r.taker": "0.6",
        "r.slippage": "0",
        "action": "run",
    } | changes


@pytest.fixture
def bot(account: Account, product: Product) -> Bot:
    """A bot on an account of the recording's market."""
    replay = AccountFactory(owner=account.owner, exchange="replay", name="Recorded", balances={"USD": 1000})
    found: Bot = BotFactory(account=replay, name="Dip ladder", products=[product], settings=SETTINGS, budget_pct=80)
    return found


@pytest.fixture
def run(browser: Client, bot: Bot) -> Backtest:
    """A finished backtest of the bot."""
    response = browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}", **{"r.name": "Waves"}))
    assert response.status_code == 302, response.context["draft"].errors
    work()
    found: Backtest = Backtest._base_manager.get()
    assert (found.status, found.error) == ("finished", "")
    return found


# The form -----------------------------------------------------------------------------------------------------------


def test_without_backtests_the_list_says_what_to_do_next(browser: Client, account: Account, bot: Bot) -> None:
    response = browser.get("/backtests/")
    assert offences(response) == []
    page = text(response)
    assert "No backtest yet" in page
    assert f"/backtests/new/?bot={bot.pk}" in page
    assert "No sweep yet" in text(browser.get("/backtests/sweeps/"))
    assert "Nothing has been fetched yet" in text(browser.get("/backtests/history/"))


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
    assert not Bot._base_manager.exists()
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
    assert not Backtest._base_manager.exists()


def test_a_backtest_is_asked_for_without_scripts(browser: Client, bot: Bot) -> None:
    response = browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}"))
    run = Backtest._base_manager.get()
    assert response["Location"] == f"/backtests/{run.pk}/"
    assert (run.bot, run.maker_fee_pct, run.budget_pct, run.balances) == (bot, run.maker_fee_pct, 100, {"USD": "1000"})
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
    assert not Backtest._base_manager.exists()


def test_pairs_ranges_and_settings_change_by_round_trips(browser: Client, bot: Bot) -> None:
    recording("ETH-USD", rounds=2)
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
    assert not Backtest._base_manager.exists()


def test_missing_candles_are_said_and_fetched_from_the_form(browser: Client, account: Account) -> None:
    ProductFactory()
    templates.seed_presets()
    data = typed(action="refresh", **{"r.exchange": "simulated", "r.start": "2024-03-01", "r.end": "2024-03-03"})
    page = browser.post("/backtests/new/", data)
    assert {row.state for row in page.context["form"].coverage} == {"none"}
    assert "Download missing history" in text(page)
    asked = browser.post("/backtests/new/", data | {"action": "download"})
    assert HistoryDownload._base_manager.exists()
    assert asked.context["form"].is_loading
    assert "<progress" in text(asked)
    assert "Download missing history" not in text(asked)  # it is on its way
    again = browser.post("/backtests/new/", data | {"action": "download"})
    assert HistoryDownload._base_manager.count() == len(again.context["form"].coverage)


def test_a_recording_has_nothing_to_download(browser: Client, bot: Bot) -> None:
    page = text(browser.get(f"/backtests/new/?bot={bot.pk}"))
    assert "Download missing history" not in page
    assert "A recording has the candles that were imported" in page


def test_quick_ranges_take_the_time_that_all_pairs_have() -> None:
    assert quick_span("all", 0, [(0, 100), (50, 200)]) == (50, 100)
    assert quick_span("all", 0, [(0, 10), (50, 200)]) == (0, 200)
    assert quick_span("all", 0, []) is None
    assert quick_span("90", 90 * 86_400, []) == (0, 90 * 86_400)
    assert quick_span("7", 0, []) is None


# Under way ----------------------------------------------------------------------------------------------------------


def test_a_waiting_run_shows_how_far_it_is_and_can_be_cancelled(browser: Client, trader: User) -> None:
    run = BacktestFactory(owner=trader, name="Slow one", status="queued", progress=0.25)
    response = browser.get(f"/backtests/{run.pk}/")
    assert offences(response) == []
    page = text(response)
    assert 'value="25"' in page
    assert "Waiting for a worker" in page
    assert 'http-equiv="refresh"' in page  # for those without scripts
    listed = text(browser.get("/backtests/"))
    assert f'hx-select-oob="#poll,#job-{run.pk}"' in listed
    browser.post(f"/backtests/{run.pk}/cancel/")
    assert Backtest._base_manager.get().status == "cancelled"
    assert "The run was cancelled" in text(browser.get(f"/backtests/{run.pk}/"))
    assert "hx-trigger" not in text(browser.get("/backtests/")).split('id="poll"')[1].split(">")[0]


def test_a_failed_run_says_why(browser: Client, trader: User) -> None:
    run = BacktestFactory(owner=trader, status="failed", error="The candles are gone.")
    assert "The candles are gone." in text(browser.get(f"/backtests/{run.pk}/"))
    assert "The candles are gone." in text(browser.get("/backtests/"))


# The result ---------------------------------------------------------------------------------------------------------


def test_the_result_shows_figures_curves_months_deals_and_settings(browser: Client, run: Backtest) -> None:
    response = browser.get(f"/backtests/{run.pk}/")
    assert offences(response) == []
    page = text(response)
    for word in ("Net profit", "Buy and hold", "Worst drawdown", "Profit factor", "Sharpe", "Sortino", "Fees paid"):
        assert word in page
    result = response.context["result"]
    assert [line.kind for line in result.equity.lines] == ["held", "equity"]
    assert result.falls is not None
    assert result.years[0].name == "2024"
    assert run.fingerprint in page
    assert "Take profit" in page
    assert "1 Jan to 1 Jan 2024" in page
    assert response.context["deals"].page.paginator.count == run.statistics["deals"]


def test_the_pages_cost_the_same_however_many_deals_there_are(browser: Client, run: Backtest) -> None:
    before = queries_of(browser, f"/backtests/{run.pk}/")
    with detached("test data"):
        made = [
            BacktestDeal(
                backtest=run, number=1000 + n, symbol="BTC-USD", direction="long", opened_at=run.created_at, profit=n
            )
            for n in range(120)
        ]
        BacktestDeal._base_manager.bulk_create(made)
    after = queries_of(browser, f"/backtests/{run.pk}/")
    assert after == before
    assert after <= MOST_QUERIES
    listed = queries_of(browser, "/backtests/")
    for _ in range(5):
        BacktestFactory(owner=run.owner, status="finished")
    assert queries_of(browser, "/backtests/") == listed <= MOST_QUERIES


def test_deals_are_paged_sorted_and_narrowed(browser: Client, trader: User) -> None:
    run = BacktestFactory(owner=trader, status="finished", symbols=["BTC-USD", "ETH-USD"])
    for number in range(1, 61):
        BacktestDealFactory(
            backtest=run,
            number=number,
            symbol="ETH-USD" if number % 2 else "BTC-USD",
            closed_at=None if number == 60 else run.created_at,
            profit=30 - number,
            profit_pct=30 - number,
            exit_reason="" if number == 60 else "take_profit",
        )

    def numbers(query: str) -> list[int]:
        table = browser.get(f"/backtests/{run.pk}/?{query}").context["deals"]
        return [deal.number for deal in table.page.object_list]

    assert numbers("")[:2] == [60, 59]
    assert len(numbers("")) == 50
    assert len(numbers("page=2")) == 10
    assert numbers("sort=-profit")[0] == 1
    assert numbers("sort=pct")[0] == 60
    assert len(numbers("sort=-time")) == 50
    assert numbers("sort=nonsense;drop")[0] == 60
    assert numbers("ended=open") == [60]
    assert set(numbers("pair=BTC-USD&ended=won")) == set(range(2, 30, 2))
    assert "No deal matches" in text(browser.get(f"/backtests/{run.pk}/?ended=open&pair=ETH-USD"))


def test_a_deal_opens_its_fills_in_place_and_as_a_page(browser: Client, run: Backtest) -> None:
    deal = BacktestDeal._base_manager.order_by("number").first()
    assert deal is not None
    path = f"/backtests/{run.pk}/deals/{deal.number}/"
    page = browser.get(path)
    assert offences(page) == []
    assert "<html" in text(page)
    part = text(browser.get(path, headers={"HX-Request": "true"}))
    assert "<html" not in part
    assert "Base order" in part
    assert "Bought" in part
    assert browser.get(f"/backtests/{run.pk}/deals/9999/").status_code == 404


def test_candles_come_in_windows_with_the_marks_of_the_deals(browser: Client, run: Backtest) -> None:
    path = f"/backtests/{run.pk}/candles/?pair=BTC-USD&timeframe=1m"
    last = browser.get(f"{path}&count=100").json()
    assert len(last["candles"]) == 100
    assert last["later"] is None
    assert {mark["kind"] for mark in last["marks"]} == {"base", "add", "exit"}
    assert any(mark["text"].endswith("%") for mark in last["marks"] if mark["kind"] == "exit")
    before = browser.get(f"{path}&count=100&until={last['earlier']}").json()
    assert before["candles"][-1][0] + 60 == last["candles"][0][0]
    assert before["later"] is not None
    assert browser.get(f"{path}&count=100&until={before['later']}").json()["candles"] == last["candles"]
    everything = browser.get(f"{path}&count=999999").json()
    assert len(everything["candles"]) == len(WAVE) * 40
    assert everything["earlier"] is None
    hours = browser.get(f"/backtests/{run.pk}/candles/?pair=BTC-USD&timeframe=1h").json()
    assert hours["timeframe"] == "1h"
    assert all(candle[0] % 3600 == 0 for candle in hours["candles"])
    assert browser.get(f"/backtests/{run.pk}/candles/?pair=ETH-USD").status_code == 404


def test_a_window_never_has_more_than_three_thousand_candles(browser: Client, trader: User) -> None:
    recording("BTC-USD", rounds=300)
    run = BacktestFactory(
        owner=trader, exchange="replay", status="finished", start=START, end=START + 3900 * 60, name="Long"
    )
    window = browser.get(f"/backtests/{run.pk}/candles/?pair=BTC-USD&timeframe=1m&count=5000").json()
    assert len(window["candles"]) == 3000
    assert window["earlier"] == window["candles"][0][0]


def test_the_settings_become_a_stopped_bot_on_the_chosen_account(
    browser: Client, run: Backtest, account: Account
) -> None:
    ProductFactory()
    response = browser.post(f"/backtests/{run.pk}/bot/", {"account": account.pk, "name": "From waves"}, follow=True)
    made = Bot._base_manager.get(name="From waves")
    assert (made.account, made.status, made.settings["take_profit"]) == (account, "stopped", "1")
    assert "“From waves” is ready on Practice, stopped" in text(response)
    refused = browser.post(f"/backtests/{run.pk}/bot/", {"account": account.pk, "name": "From waves"}, follow=True)
    assert "No bot was made: Another bot is already called" in text(refused)
    foreign = AccountFactory()
    assert browser.post(f"/backtests/{run.pk}/bot/", {"account": foreign.pk}).status_code == 404


def test_results_are_exported_and_deleted(browser: Client, run: Backtest) -> None:
    deals = browser.get(f"/backtests/{run.pk}/export/deals/")
    assert deals["Content-Type"].startswith("text/csv")
    assert text(deals).startswith("number,symbol")
    assert "base_order" in text(browser.get(f"/backtests/{run.pk}/export/fills/"))
    whole = browser.get(f"/backtests/{run.pk}/export/json/")
    assert json.loads(text(whole))["fingerprint"] == run.fingerprint
    assert f"backtest-{run.pk}-waves.json" in whole["Content-Disposition"]
    assert browser.get(f"/backtests/{run.pk}/export/secrets/").status_code == 404
    response = browser.post(f"/backtests/{run.pk}/delete/", follow=True)
    assert "“Waves” is deleted." in text(response)
    assert not Backtest._base_manager.exists()


def test_a_run_is_repeated_with_changes_from_what_it_was(browser: Client, run: Backtest) -> None:
    response = browser.get(f"/backtests/new/?backtest={run.pk}")
    draft = response.context["draft"]
    assert (draft.capital, draft.start, draft.end, draft.maker) == ("1000", "2024-01-01", "2024-01-01", "0.4")
    assert response.context["form"].parsed.to_json() == run.settings
    again = browser.post("/backtests/new/", typed(origin=f"backtest:{run.pk}"))
    work()
    copy = Backtest._base_manager.exclude(pk=run.pk).get()
    assert again["Location"] == f"/backtests/{copy.pk}/"
    assert copy.fingerprint == run.fingerprint


def test_settings_of_an_earlier_version_do_not_break_the_result(browser: Client, trader: User) -> None:
    run = BacktestFactory(owner=trader, status="finished", settings={"gone": 1}, curve={}, monthly=[])
    response = browser.get(f"/backtests/{run.pk}/")
    assert response.status_code == 200
    assert "of an earlier version" in text(response)
    assert "There is no price" not in text(response)
    again = browser.get(f"/backtests/new/?backtest={run.pk}")
    assert again.status_code == 200
    assert "These settings cannot run yet" in text(again)


# Comparing ----------------------------------------------------------------------------------------------------------


def test_runs_are_compared_with_the_best_marked_in_words(browser: Client, run: Backtest, bot: Bot) -> None:
    bot.settings = SETTINGS | {"take_profit": "3"}
    with detached("test data"):
        bot.save()
    browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}", **{"r.name": "Higher", "r.taker": "0.1"}))
    work()
    other = Backtest._base_manager.exclude(pk=run.pk).get()
    response = browser.get(f"/backtests/compare/?run={run.pk}&run={other.pk}")
    assert offences(response) == []
    comparison = response.context["comparison"]
    assert [one.letter for one in comparison.runs] == ["A", "B"]
    labels = {label for label, _ in comparison.differences}
    assert any("Take profit" in label for label in labels)
    assert "Fees, maker and taker" in labels
    assert not any("Safety orders: Safety orders" in label for label in labels)
    assert sum(cell.is_best for cell in comparison.figures[0].cells) == 1
    assert "best: " in text(response)
    assert comparison.same_range


def test_comparing_needs_two_finished_runs(browser: Client, trader: User) -> None:
    assert "Choose two to six finished runs" in text(browser.get("/backtests/compare/"))
    one = BacktestFactory(owner=trader, status="finished", name="Alone")
    assert "“Alone” is chosen" in text(browser.get(f"/backtests/compare/?run={one.pk}&run=x&run=0"))
    rows = [BacktestFactory(owner=trader, status="finished") for _ in range(8)]
    many = browser.get("/backtests/compare/?" + "&".join(f"run={row.pk}" for row in rows))
    assert len(many.context["comparison"].runs) == 6


# Sweeps -------------------------------------------------------------------------------------------------------------


def varied(**changes: Any) -> dict[str, Any]:
    return (
        typed()
        | {
            "p.0.path": "take_profit",
            "p.0.from": "0.5",
            "p.0.to": "1.5",
            "p.0.step": "0.5",
            "p.1.path": "price_deviation",
            "p.1.list": "1, 2",
            "p.method": "grid",
            "p.samples": "100",
            "p.seed": "1",
            "p.objective": "return_pct",
            "p.holdout": "25",
        }
        | changes
    )


def test_the_number_of_combinations_is_counted_as_one_types(browser: Client, bot: Bot) -> None:
    def count(**changes: Any) -> Any:
        response = browser.post("/backtests/sweeps/new/", varied(origin=f"bot:{bot.pk}", action="refresh", **changes))
        assert offences(response) == []
        return response.context["combinations"]

    assert count() == 6
    assert count(**{"p.1.path": ""}) == 3
    assert count(**{"p.method": "random", "p.samples": "4"}) == 4
    assert count(**{"p.0.step": "0"}) is None
    assert count(**{"p.0.to": "9999", "p.0.step": "0.001"}) is None


def test_values_are_read_exactly() -> None:
    assert ParameterDraft(0, "x", "0.1", "0.3", "0.1").found() == ["0.1", "0.2", "0.3"]
    assert ParameterDraft(0, "x", values="1; 2, 2 3,5").found() == ["1", "2", "3.5"]
    wrong = ParameterDraft(0, "x", values="one")
    assert wrong.found() == []
    assert "list of values" in wrong.error


def test_a_sweep_is_asked_for_tried_and_read(browser: Client, bot: Bot, account: Account) -> None:
    ProductFactory()
    page = browser.get(f"/backtests/sweeps/new/?bot={bot.pk}")
    assert offences(page) == []
    assert "Take profit" in text(page)
    response = browser.post("/backtests/sweeps/new/", varied(origin=f"bot:{bot.pk}"))
    assert response.status_code == 302, response.context["draft"].errors
    sweep = Sweep._base_manager.get()
    assert "0 of 6 done" in text(browser.get(f"/backtests/sweeps/{sweep.pk}/"))
    work()
    result = browser.get(f"/backtests/sweeps/{sweep.pk}/")
    assert offences(result) == []
    found = result.context["page"]
    assert (found.tried, len(found.points), len(found.rows), len(found.columns)) == (6, 6, 2, 3)
    assert sum(cell.is_best for line in found.rows for cell in line.cells) == 1
    assert found.points[0].held_score is not None
    assert "held out" in text(result)
    best = found.points[0].point
    opened = browser.post(f"/backtests/sweeps/points/{best.pk}/open/")
    assert opened["Location"].startswith("/backtests/")
    assert Backtest._base_manager.get().settings["take_profit"] == str(best.values["take_profit"])
    browser.post(f"/backtests/sweeps/points/{best.pk}/bot/", {"account": account.pk, "name": "Best"})
    assert Bot._base_manager.get(name="Best").settings["take_profit"] == str(best.values["take_profit"])
    again = browser.get(f"/backtests/sweeps/new/?sweep={sweep.pk}")
    assert again.context["sweep"].parameters[1].values == "1, 2"
    browser.post(f"/backtests/sweeps/{sweep.pk}/delete/")
    assert not Sweep._base_manager.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"p.0.path": "", "p.1.path": ""}, "parameters"),
        ({"p.0.path": "direction"}, "parameters"),
        ({"p.0.from": "x"}, "parameters"),
        ({"p.seed": "one"}, "seed"),
        ({"p.method": "random", "p.samples": "0"}, "samples"),
        ({"p.objective": "luck"}, "objective"),
        ({"p.holdout": "95"}, "holdout"),
        ({"r.capital": ""}, "capital"),
    ],
)
def test_a_sweep_that_cannot_run_keeps_what_was_typed(
    browser: Client, bot: Bot, changes: dict[str, Any], field: str
) -> None:
    response = browser.post("/backtests/sweeps/new/", varied(origin=f"bot:{bot.pk}", **changes))
    assert response.status_code == 422
    assert response.context["draft"].errors[field]
    assert response.context["sweep"].parameters[1].values == "1, 2"
    assert not Sweep._base_manager.exists()


def test_a_winner_that_fails_on_the_part_held_out_is_called_overfitted(browser: Client, trader: User) -> None:
    given = {"owner": trader, "status": "finished", "holdout_pct": 20, "settings": SETTINGS}
    sweep = SweepFactory(**given)
    SweepPointFactory(sweep=sweep, number=1, score=40, statistics={"return_pct": 40}, holdout={"return_pct": -5})
    page = browser.get(f"/backtests/sweeps/{sweep.pk}/")
    assert "Likely overfitted." in text(page)
    assert "much worse on the part held out" in text(page)
    sound = SweepFactory(**given)
    SweepPointFactory(sweep=sound, number=1, score=40, statistics={"return_pct": 40}, holdout={"return_pct": 9})
    assert "Likely overfitted." not in text(browser.get(f"/backtests/sweeps/{sound.pk}/"))


def test_a_sweeps_pages_cost_the_same_however_many_points_there_are(browser: Client, trader: User) -> None:
    sweep = SweepFactory(
        owner=trader,
        status="finished",
        settings=SETTINGS,
        parameters=[{"path": "take_profit", "values": [1, 2]}, {"path": "price_deviation", "values": [1, 2]}],
    )

    def add(first: int, count: int) -> None:
        for number in range(first, first + count):
            SweepPointFactory(
                sweep=sweep, number=number, score=number, values={"take_profit": 1, "price_deviation": number % 2 + 1}
            )

    add(0, 2)
    before = queries_of(browser, f"/backtests/sweeps/{sweep.pk}/")
    add(2, 30)
    assert queries_of(browser, f"/backtests/sweeps/{sweep.pk}/") == before <= MOST_QUERIES


# Downloads ----------------------------------------------------------------------------------------------------------


def test_downloads_are_listed_cancelled_and_forgotten(browser: Client, trader: User) -> None:
    row = HistoryDownloadFactory(owner=trader, product=ProductFactory())
    page = browser.get("/backtests/history/")
    assert offences(page) == []
    assert "<progress" in text(page)
    browser.post(f"/backtests/history/{row.pk}/cancel/")
    assert HistoryDownload._base_manager.get().status == "cancelled"
    browser.post(f"/backtests/history/{row.pk}/remove/")
    assert not HistoryDownload._base_manager.exists()


# Other people -------------------------------------------------------------------------------------------------------


def test_what_others_tried_is_not_there(browser: Client, account: Account) -> None:
    stranger = UserFactory()
    run = BacktestFactory(owner=stranger, status="finished", name="Secret run")
    BacktestDealFactory(backtest=run, number=1)
    sweep = SweepFactory(owner=stranger, name="Secret sweep")
    point = SweepPointFactory(sweep=sweep)
    download = HistoryDownloadFactory(owner=stranger)
    for path in ("", "candles/?pair=BTC-USD", "deals/1/", "export/json/", "export/deals/"):
        assert browser.get(f"/backtests/{run.pk}/{path}").status_code == 404, path
    for path in (f"{run.pk}/cancel", f"{run.pk}/delete", f"{run.pk}/bot", f"sweeps/{sweep.pk}/cancel"):
        assert browser.post(f"/backtests/{path}/", {"account": account.pk}).status_code == 404, path
    for path in (f"sweeps/{sweep.pk}/delete", f"sweeps/points/{point.pk}/open", f"sweeps/points/{point.pk}/bot"):
        assert browser.post(f"/backtests/{path}/", {"account": account.pk}).status_code == 404, path
    for path in (f"history/{download.pk}/cancel", f"history/{download.pk}/remove"):
        assert browser.post(f"/backtests/{path}/").status_code == 404, path
    for query in (f"backtest={run.pk}", f"sweep={sweep.pk}"):
        assert browser.get(f"/backtests/new/?{query}").status_code == 404
        assert browser.get(f"/backtests/sweeps/new/?{query}").status_code == 404
    assert browser.post("/backtests/new/", typed(origin=f"backtest:{run.pk}")).status_code == 404
    for path in ("/backtests/", "/backtests/sweeps/", "/backtests/history/", f"/backtests/compare/?run={run.pk}"):
        assert "Secret" not in text(browser.get(path))
    assert SweepPoint._base_manager.filter(pk=point.pk).exists()


# Drawing ------------------------------------------------------------------------------------------------------------


def test_a_plot_has_round_levels_and_keeps_spikes() -> None:
    times = list(range(0, 864_000, 60))
    values = [100.0] * len(times)
    values[7_000] = 40.0
    found = plot([Series("one", "equity", times, values)])
    assert found is not None
    assert found.levels == ("100", "80", "60", "40")
    assert found.lines[0].path.count("L") < 1000
    assert ",300.0" in found.lines[0].path  # the spike's bottom
    assert (found.first, found.last) == (0, 863_940)


@pytest.mark.parametrize("values", [[], [None, None], [1.0]])
def test_nothing_is_drawn_of_nothing(values: list[Any]) -> None:
    assert plot([Series("one", "equity", list(range(len(values))), values)]) is None


def test_a_flat_line_is_drawn_all_the_same() -> None:
    found = plot([Series("one", "equity", [0, 1], [0.0, 0.0])], zero=True)
    assert found is not None
    assert found.low < 0 < found.high
