"""Backtests on pages: the list, runs under way and done, comparing, and that other people's are not there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from accounts.models import Account, User
from bots.backtesting.charts import Series, plot
from bots.backtesting.models import Backtest, BacktestDeal, SweepPoint
from bots.models import Bot
from tests.bots.recordings import SETTINGS, START, WAVE, recording
from tests.factories import (
    AccountFactory,
    BacktestDealFactory,
    BacktestFactory,
    HistoryDownloadFactory,
    ProductFactory,
    SweepFactory,
    SweepPointFactory,
    UserFactory,
)
from tests.looking import everything
from tests.pages.backtests.asking import typed, work
from tests.pages.dealing import MOST_QUERIES, queries_of
from tests.pages.markup import offences, text
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db


def test_without_backtests_the_list_says_what_to_do_next(browser: Client, account: Account, bot: Bot) -> None:
    response = browser.get("/backtests/")
    assert offences(response) == []
    page = text(response)
    assert "No backtest yet" in page
    assert f"/backtests/new/?bot={bot.pk}" in page
    assert "No sweep yet" in text(browser.get("/backtests/sweeps/"))
    assert "Nothing has been fetched yet" in text(browser.get("/backtests/history/"))


# Under way ------------------------------------------------------------------------------------------------------------


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
    assert everything(Backtest).get().status == "cancelled"
    assert "The run was cancelled" in text(browser.get(f"/backtests/{run.pk}/"))
    assert "hx-trigger" not in text(browser.get("/backtests/")).split('id="poll"')[1].split(">")[0]


def test_a_failed_run_says_why(browser: Client, trader: User) -> None:
    run = BacktestFactory(owner=trader, status="failed", error="The candles are gone.")
    assert "The candles are gone." in text(browser.get(f"/backtests/{run.pk}/"))
    assert "The candles are gone." in text(browser.get("/backtests/"))


# The result -----------------------------------------------------------------------------------------------------------


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
        everything(BacktestDeal).bulk_create(made)
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
    deal = everything(BacktestDeal).order_by("number").first()
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
    recording("BTC-USD", WAVE * 300)
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
    made = everything(Bot).get(name="From waves")
    assert (made.account_id, made.status, made.settings["take_profit"]) == (account.pk, "stopped", "1")
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
    assert not everything(Backtest).exists()


def test_a_run_is_repeated_with_changes_from_what_it_was(browser: Client, run: Backtest) -> None:
    response = browser.get(f"/backtests/new/?backtest={run.pk}")
    draft = response.context["draft"]
    assert (draft.capital, draft.start, draft.end, draft.maker) == ("1000", "2024-01-01", "2024-01-01", "0.4")
    assert response.context["form"].parsed.to_json() == run.settings
    again = browser.post("/backtests/new/", typed(origin=f"backtest:{run.pk}"))
    work()
    copy = everything(Backtest).exclude(pk=run.pk).get()
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


# Comparing ------------------------------------------------------------------------------------------------------------


def test_runs_are_compared_with_the_best_marked_in_words(browser: Client, run: Backtest, bot: Bot) -> None:
    bot.settings = SETTINGS | {"take_profit": "3"}
    with detached("test data"):
        bot.save()
    browser.post("/backtests/new/", typed(origin=f"bot:{bot.pk}", **{"r.name": "Higher", "r.taker": "0.1"}))
    work()
    other = everything(Backtest).exclude(pk=run.pk).get()
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


# Drawing --------------------------------------------------------------------------------------------------------------


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


# Other people ---------------------------------------------------------------------------------------------------------


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
    assert everything(SweepPoint).filter(pk=point.pk).exists()
