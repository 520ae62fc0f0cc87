"""Sweeps on pages: the form and its number of combinations, the map of results, the part held out."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import Account, User
from bots.backtesting.forms import ParameterDraft
from bots.backtesting.models import Backtest, Sweep
from bots.models import Bot
from tests.bots.recordings import SETTINGS
from tests.factories import ProductFactory, SweepFactory, SweepPointFactory
from tests.looking import everything
from tests.pages.backtests.asking import typed, work
from tests.pages.dealing import MOST_QUERIES, queries_of
from tests.pages.markup import offences, text

pytestmark = pytest.mark.django_db


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
    sweep = everything(Sweep).get()
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
    assert everything(Backtest).get().settings["take_profit"] == str(best.values["take_profit"])
    browser.post(f"/backtests/sweeps/points/{best.pk}/bot/", {"account": account.pk, "name": "Best"})
    assert everything(Bot).get(name="Best").settings["take_profit"] == str(best.values["take_profit"])
    again = browser.get(f"/backtests/sweeps/new/?sweep={sweep.pk}")
    assert again.context["sweep"].parameters[1].values == "1, 2"
    browser.post(f"/backtests/sweeps/{sweep.pk}/delete/")
    assert not everything(Sweep).exists()


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
    assert not everything(Sweep).exists()


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
