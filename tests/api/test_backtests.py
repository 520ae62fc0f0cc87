"""Backtests, sweeps and downloads over the API."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.access import acting_for
from bots.backtesting import jobs, sweeps
from bots.backtesting import services as backtests
from bots.models import Backtest, Sweep
from marketdata import services
from tests.api.conftest import ClientOf, People
from tests.bots.recordings import SETTINGS, WAVE, recording
from tests.factories import BotFactory

BODY: dict[str, Any] = {"settings": SETTINGS, "exchange": "replay", "symbols": ["BTC-USD"], "capital": "1000"}


@pytest.fixture(autouse=True)
def candles(db: None) -> Any:
    return recording("BTC-USD", WAVE * 20)


def work(person: Any) -> None:
    job = jobs.claim_next()
    with acting_for(person):
        if isinstance(job, Backtest):
            backtests.run_backtest(job)
        elif isinstance(job, Sweep):
            sweeps.run_to_end(job)


def test_from_asking_to_exporting(people: People, client_of: ClientOf) -> None:
    client = client_of(people.ann)
    made = client.post("/api/backtests/", BODY, format="json")
    assert made.status_code == 201
    assert (made.data["status"], made.data["timeframe"], made.data["start"]) == ("queued", "1m", "2024-01-01T00:00:00Z")
    work(people.ann)
    address = f"/api/backtests/{made.data['id']}/"
    row = client.get(address).json()
    assert (row["status"], row["progress_pct"], row["warnings"]) == ("finished", 100, [])
    assert isinstance(row["statistics"]["return_pct"], str)
    assert len(row["curve"]["t"]) == len(row["curve"]["equity"]) == 260
    assert row["monthly"][0]["month"] == "2024-01"
    deals = client.get(f"{address}deals/").json()
    assert deals["count"] == row["statistics"]["deals"]
    assert deals["results"][0]["fills"][0]["purpose"] == "base_order"
    text = client.get(f"{address}export/deals.csv/")
    assert text.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert text.content.decode().count("\n") == deals["count"] + 1
    assert client.get(f"{address}export/fills.csv/").content.decode().count("\n") == row["fills"] + 1
    assert client.get(f"{address}export/backtest.json/").json()["fingerprint"] == row["fingerprint"]
    assert client.get(f"{address}export/secrets.csv/").status_code == 404
    beside = client.get(f"/api/backtests/compare/?ids={row['id']},{row['id']},x,-1").json()
    assert [one["id"] for one in beside] == [row["id"]]
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


def test_refusals_name_the_field(people: People, client_of: ClientOf) -> None:
    client = client_of(people.ann)
    for change, field, code in (
        ({"symbols": ["NIX-USD"]}, "symbols", "unknown_pair"),
        ({"capital": "0"}, "capital", "no_capital"),
        ({"start": "2020-01-01T00:00:00Z", "end": "2020-02-01T00:00:00Z"}, "start", "no_candles"),
        ({"colour": "red"}, "colour", "unknown_field"),
    ):
        answer = client.post("/api/backtests/", {**BODY, **change}, format="json")
        assert (answer.status_code, answer.data["field"], answer.data["code"]) == (400, field, code)
    assert answer.status_code == 400


def test_a_bot_is_tried_and_a_run_cancelled(people: People, client_of: ClientOf, candles: Any) -> None:
    bot = BotFactory(account=people.account, settings=SETTINGS, products=[candles])
    client = client_of(people.ann)
    made = client.post("/api/backtests/", {"bot": bot.pk, "exchange": "replay"}, format="json")
    assert (made.status_code, made.data["bot"]) == (201, bot.pk)
    ended = client.post(f"/api/backtests/{made.data['id']}/cancel/")
    assert ended.data["status"] == "cancelled"
    assert [row["id"] for row in client.get(f"/api/backtests/?bot={bot.pk}").data["results"]] == [made.data["id"]]


def test_a_sweep_from_asking_to_opening_its_best_point(people: People, client_of: ClientOf) -> None:
    client = client_of(people.ann)
    varied = [
        {"path": "take_profit", "values": ["1", "2"]},
        {"path": "price_deviation", "from": "1", "to": "2", "step": "1"},
    ]
    made = client.post("/api/sweeps/", {**BODY, "parameters": varied, "holdout_pct": "30"}, format="json")
    assert (made.status_code, made.data["total"]) == (201, 4)
    assert made.data["parameters"] == [
        {"path": "take_profit", "values": [1, 2]},
        {"path": "price_deviation", "values": [1, 2]},
    ]
    work(people.ann)
    address = f"/api/sweeps/{made.data['id']}/"
    assert client.get(address).data["status"] == "finished"
    points = client.get(f"{address}points/").json()["results"]
    scores = [float(point["score"]) for point in points]
    assert scores == sorted(scores, reverse=True)
    assert points[0]["holdout"]["return_pct"]
    grid = client.get(f"{address}heat-map/").json()
    assert (grid["columns"], grid["rows"], grid["x"]) == (["1", "2"], ["1", "2"], "take_profit")
    assert max(float(score) for line in grid["scores"] for score in line) == scores[0]
    assert client.get(f"{address}heat-map/?x=take_profit&y=take_profit").status_code == 400
    opened = client.post(f"{address}open-point/", {"number": points[0]["number"]}, format="json")
    assert opened.status_code == 201
    assert opened.data["settings"]["take_profit"] == str(points[0]["values"]["take_profit"])
    assert client.post(f"{address}open-point/", {"number": 99}, format="json").status_code == 404
    assert client.post(f"{address}cancel/").data["status"] == "finished"
    assert client.delete(address).status_code == 204


def test_a_sweep_without_parameters_is_refused(people: People, client_of: ClientOf) -> None:
    answer = client_of(people.ann).post("/api/sweeps/", {**BODY, "parameters": []}, format="json")
    assert (answer.status_code, answer.data["code"], answer.data["field"]) == (400, "no_parameters", "parameters")


def test_a_download_and_what_is_held(people: People, client_of: ClientOf) -> None:
    services.refresh_products("simulated")
    client = client_of(people.ann)
    body = {"exchange": "simulated", "symbol": "BTC-USD", "timeframe": "5m", "start": "2024-01-01T00:00:00Z"}
    made = client.post("/api/history/", {**body, "end": "2024-01-02T00:00:00Z"}, format="json")
    assert (made.status_code, made.data["status"], made.data["symbol"]) == (201, "queued", "BTC-USD")
    address = f"/api/history/{made.data['id']}/"
    assert client.post(f"{address}cancel/").data["status"] == "cancelled"
    assert client.delete(address).status_code == 204
    refused = client.post("/api/history/", {**body, "exchange": "replay"}, format="json")
    assert (refused.status_code, refused.data["code"]) == (400, "recordings_only")
    held = client.get("/api/history/coverage/?exchange=replay&symbol=BTC-USD").json()
    assert [(row["timeframe"], row["candles"], row["gap_share"]) for row in held] == [("1m", 260, "0.000000")]
    assert held[0]["start"].startswith("2024-01-01")
