"""``manage.py backtest``, ``sweep`` and ``history``: run here and now, without broker or worker."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bots.models import Backtest, BacktestDeal, Sweep
from marketdata import services
from marketdata.models import HistoryDownload
from tests.bots.recordings import SETTINGS, START, WAVE, recording
from tests.factories import BotFactory, UserFactory
from tradebot.core.scoping import detached


@pytest.fixture(autouse=True)
def demo(db: None) -> Any:
    return UserFactory(email="demo@tradebot.local")


@pytest.fixture
def tried(tmp_path: Path) -> str:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(SETTINGS))
    return str(path)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_settings_from_a_file_on_recordings(tried: str, tmp_path: Path) -> None:
    path = tmp_path / "BTC-USD_1m_2024-01.csv.gz"
    with gzip.open(path, "wt") as lines:
        lines.write("time,open,high,low,close,volume\n")
        for n, close in enumerate(WAVE * 20):
            lines.write(f"{START + 60 * n},{close},{close},{close},{close},100000\n")
    found = json.loads(run("backtest", "--bot", tried, "--files", str(path), "--slippage", "0.1", "--json"))
    assert (found["status"], found["candles"], found["timeframe"]) == ("finished", 260, "1m")
    assert found["statistics"]["deals"] > 5
    with detached("test looks"):
        row = Backtest.objects.get(pk=found["id"])
        assert row.owner.email == "demo@tradebot.local"
        assert BacktestDeal.objects.filter(backtest=row).count() == found["statistics"]["deals"]
    said = run("backtest", "--bot", tried, "--exchange", "replay", "--pairs", "BTC-USD", "--set", "take_profit=2")
    assert "Return" in said
    assert "fingerprint" in said


def test_a_bot_over_part_of_what_is_held(demo: Any) -> None:
    product = recording("BTC-USD", WAVE * 20)
    bot = BotFactory(account__owner=demo, account__exchange="replay", settings=SETTINGS, products=[product])
    args = (
        "--from",
        "2024-01-01T01:00",
        "--to",
        "2024-01-01T02:00",
        "--capital",
        "5000",
        "--fees",
        "0.1,0.2",
        "--json",
    )
    found = json.loads(run("backtest", "--bot", str(bot.pk), *args))
    assert found["statistics"]["looks"] == 60
    with detached("test looks"):
        row = Backtest.objects.get()
    assert (row.balances, str(row.maker_fee_pct.normalize()), str(row.taker_fee_pct.normalize())) == (
        {"USD": "5000"},
        "0.1",
        "0.2",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--user", "nobody@example.com"), "user: there is nobody"),
        (("--bot", "99"), "has no bot with the id 99"),
        (("--bot", "preset:luck"), "there is no preset 'luck'"),
        (("--bot", "missing.json"), "there is no file missing.json"),
        (("--pairs", "NIX-USD", "--exchange", "replay"), "symbols: NIX-USD is not known"),
        (("--from", "yesterday"), "from: 'yesterday' is no date"),
        (("--balance", "BTC"), "balance: 'BTC' is not CUR=AMOUNT"),
        (("--set", "take_profit"), "set: 'take_profit' is not NAME=VALUE"),
        (("--files", "missing.csv"), "files: there is no file"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run("backtest", *arguments)


def test_a_sweep_prints_the_best(tried: str) -> None:
    recording("BTC-USD", WAVE * 20)
    args = ("sweep", "--bot", tried, "--exchange", "replay", "--pairs", "BTC-USD", "--vary", "take_profit=1,2")
    found = json.loads(run(*args, "--vary", "price_deviation=1:2:1", "--holdout", "30", "--top", "2", "--json"))
    assert (found["status"], found["total"], len(found["best"])) == ("finished", 4, 2)
    assert found["best"][0]["score"] >= found["best"][1]["score"]
    assert found["best"][0]["holdout"]["looks"] == 78
    assert "1. Return" in run(*args, "--random", "1")
    with detached("test looks"):
        assert Sweep.objects.count() == 2
    with pytest.raises(CommandError, match="vary: 'take_profit' is not PATH=VALUES"):
        run("sweep", "--bot", tried, "--vary", "take_profit")


def test_history_is_fetched_and_listed() -> None:
    services.refresh_products("simulated")
    assert "Nothing is held" in run("history", "--held")
    args = ("history", "ETH-USD", "1h", "--exchange", "simulated", "--from", "2024-01-01", "--to", "2024-01-03")
    assert "48 candles fetched" in run(*args)
    assert "0 candles fetched" in run(*args)
    assert "48 candles, 0.0% without trades" in run("history", "--held")
    with detached("test looks"):
        assert set(HistoryDownload.objects.values_list("status", flat=True)) == {"finished"}
    for missing in ((), ("ETH-USD",), ("ETH-USD", "1h")):
        with pytest.raises(CommandError, match="is missing"):
            run("history", *missing)
