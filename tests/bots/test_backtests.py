"""Backtests as a service: what is asked for, what a worker does with it, whose turn it is, and what may go wrong."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import User
from bots.backtesting import jobs
from bots.backtesting import services as backtests
from bots.backtesting import tasks as backtest_tasks
from bots.models import Backtest, BacktestDeal, Bot, JobStatus
from marketdata import history
from marketdata.models import Product
from marketdata.timeframes import Timeframe
from tests.bots.recordings import MINUTE, RSI_3M, SETTINGS, START, WAVE, recording
from tests.factories import BacktestFactory, BotFactory, UserFactory
from tradebot.core import clock, stopping
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import detached, request_holder

D = Decimal


@pytest.fixture
def person(db: None) -> User:
    user: User = UserFactory()
    return user


@pytest.fixture
def acting(person: User) -> Iterator[User]:
    with acting_for(person):
        yield person


@pytest.fixture
def btc(db: None) -> Product:
    return recording("BTC-USD", WAVE * 20)


def asked(user: User, **changes: Any) -> Backtest:
    given = {"settings": SETTINGS, "exchange": "replay", "symbols": ["BTC-USD"], "capital": 1000, "slippage_pct": 0}
    return backtests.start_backtest(user, **(given | changes))


def done(user: User, **changes: Any) -> Backtest:
    return _run(asked(user, **changes))


def claim() -> Any:
    """What a worker does first. It has no scope, whoever the test acts for."""
    with request_holder():
        return jobs.claim_next()


def recover() -> int:
    with request_holder():
        return jobs.recover()


def _run(row: Backtest) -> Backtest:
    claimed = claim()
    assert claimed is not None
    assert claimed.pk == row.pk
    with jobs.acting_for_owner(row.owner_id):
        return backtests.run_backtest(claimed)


# Asking -------------------------------------------------------------------------------------------------------------


def test_a_backtest_waits_with_everything_it_needs(acting: User, btc: Product) -> None:
    row = asked(acting)
    assert (row.status, row.owner, row.quote_currency, row.timeframe) == (JobStatus.QUEUED, acting, "USD", "1m")
    assert (row.start, row.end) == (START, START + 260 * MINUTE)
    assert row.balances == {"USD": "1000"}
    assert row.settings["take_profit"] == "1"
    assert row.settings["max_active_deals"] == 1  # complete, as the schema writes it
    assert "BTC-USD" in row.name


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"symbols": []}, "symbols", "no_pairs"),
        ({"symbols": ["NIX-USD"]}, "symbols", "unknown_pair"),
        ({"exchange": "moon"}, "exchange", "unknown_market"),
        ({"settings": None}, "settings", "missing_settings"),
        ({"settings": {**SETTINGS, "take_profit": "-1"}}, "take_profit", None),
        ({"strategy": "luck"}, "strategy", "unknown_strategy"),
        ({"timeframe": "7m"}, "timeframe", "unknown_timeframe"),
        ({"capital": 0}, "capital", "no_capital"),
        ({"capital": "many"}, "capital", "not_a_number"),
        ({"balances": {"USD": 0}}, "balances", "no_capital"),
        ({"budget_kind": "all"}, "budget_kind", "unknown_budget"),
        ({"budget_pct": 101}, "budget_pct", "out_of_range"),
        ({"budget_pct": 0}, "budget_pct", "no_budget"),
        ({"budget_kind": "fixed"}, "budget_fixed", "no_budget"),
        ({"taker_fee_pct": 11}, "taker_fee_pct", "out_of_range"),
        ({"slippage_pct": "NaN"}, "slippage_pct", "not_a_number"),
        ({"start": START + 100, "end": START + 90}, "start", "empty_range"),
        ({"start": datetime(2024, 1, 1)}, "start", "naive_time"),  # noqa: DTZ001
        ({"start": -5}, "start", "bad_time"),
        ({"name": "x" * 121}, "name", "name_too_long"),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_field(
    acting: User, btc: Product, changes: dict[str, Any], field: str, code: str | None
) -> None:
    with pytest.raises(InvalidInput) as refused:
        asked(acting, **changes)
    assert refused.value.field == field
    assert code in (None, refused.value.code)
    assert not Backtest.objects.exists()


def test_a_range_without_candles_says_what_is_held_and_what_to_do(acting: User, btc: Product) -> None:
    with pytest.raises(InvalidInput, match="Held are 1m from 2024-01-01 to 2024-01-01 04:20") as refused:
        asked(acting, start=START - 90_000, end=START - 86_400, timeframe="1m")
    assert (refused.value.code, refused.value.field) == ("no_candles", "start")
    assert refused.value.detail == {"pair": "BTC-USD", "timeframe": "1m", "exchange": "replay"}
    with pytest.raises(InvalidInput, match="import a recording"):
        asked(
            acting,
            start=START,
            end=START + 600,
            timeframe="1m",
            settings={**SETTINGS, "open_conditions": RSI_3M},
            symbols=["BTC-USD", _daily()],
        )


def _daily() -> str:
    return recording("ETH-USD", [10.0, 11], Timeframe.D1).symbol


def test_a_pair_of_which_nothing_is_held_is_offered_for_download(acting: User) -> None:
    from marketdata import services

    services.refresh_products("simulated")
    with pytest.raises(InvalidInput, match=r"Nothing is held of this pair.*download its history first"):
        asked(acting, exchange="simulated")


def test_two_quote_currencies_are_refused(acting: User, btc: Product) -> None:
    recording("ETH-BTC", [0.05] * 10)
    with pytest.raises(InvalidInput) as refused:
        asked(acting, symbols=["BTC-USD", "ETH-BTC"])
    assert (refused.value.code, refused.value.field) == ("mixed_quotes", "symbols")


def test_too_many_candles_are_refused(acting: User, btc: Product, settings: Any) -> None:
    settings.BACKTEST_MAX_CANDLES = 100
    with pytest.raises(InvalidInput, match=r"260 looks .1m candles of 1 pair.; at most 100") as refused:
        asked(acting)
    assert refused.value.code == "too_many_candles"
    assert asked(acting, end=START + 100 * MINUTE)


def test_the_shortest_timeframe_of_the_conditions_is_looked_at(acting: User, btc: Product) -> None:
    tree = {"items": [*RSI_3M["items"], {"indicator": "rsi", "timeframe": "15m", "operator": "<", "value": 50}]}
    assert asked(acting, settings={**SETTINGS, "open_conditions": tree}).timeframe == "3m"
    recording("ETH-USD", WAVE * 20, Timeframe.M5)
    row = asked(
        acting, settings={**SETTINGS, "open_conditions": RSI_3M | {"items": [tree["items"][1]]}}, symbols=["ETH-USD"]
    )
    assert row.timeframe == "15m"
    assert asked(acting, symbols=["ETH-USD"]).timeframe == "5m"


def test_pairs_share_the_range_that_both_hold(acting: User, btc: Product) -> None:
    recording("ETH-USD", WAVE * 10, start=START + 600)
    row = asked(acting, symbols=["BTC-USD", "ETH-USD"])
    assert (row.start, row.end) == (START + 600, START + 600 + 130 * MINUTE)


def test_a_bot_lends_its_settings_pairs_market_and_budget(person: User, btc: Product) -> None:
    bot: Bot = BotFactory(
        account__owner=person,
        account__exchange="replay",
        settings=SETTINGS,
        products=[btc],
        budget_kind="fixed",
        budget_fixed=D(500),
        split_budget=False,
    )
    with acting_for(person):
        row = backtests.start_backtest(person, bot=bot)
        assert (row.bot, row.symbols, row.exchange) == (bot, ["BTC-USD"], "replay")
        assert (row.budget_kind, row.budget_fixed, row.split_budget) == ("fixed", D(500), False)
        assert row.settings["base_order_size"] == "100"
        assert backtests.defaults_of(bot)["symbols"] == ["BTC-USD"]
        changed = backtests.start_backtest(
            person, bot=bot, settings={**SETTINGS, "take_profit": "2"}, budget_kind="percent"
        )
        assert (changed.settings["take_profit"], changed.budget_kind) == ("2", "percent")


def test_f52_a_bot_of_somebody_else_does_not_exist(acting: User, btc: Product) -> None:
    foreign = BotFactory(settings=SETTINGS, products=[btc])
    with pytest.raises(NotFound):
        backtests.start_backtest(acting, bot=foreign)


def test_a_short_bot_owns_coins_worth_its_share_at_the_first_price(acting: User, btc: Product) -> None:
    row = asked(acting, settings={**SETTINGS, "direction": "both", "long_share_pct": 75})
    assert row.balances == {"USD": "1000", "BTC": "2.5"}
    assert asked(acting, balances={"usd": "5", "btc": "0.1"}).balances == {"USD": "5", "BTC": "0.1"}


def test_a_person_cannot_queue_without_end(acting: User, btc: Product) -> None:
    for _ in range(jobs.MOST_WAITING):
        asked(acting)
    with pytest.raises(InvalidInput) as refused:
        asked(acting)
    assert refused.value.code == "too_many_jobs"


def test_only_the_latest_are_kept(acting: User, btc: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KEPT", 3)
    old = [BacktestFactory(owner=acting, status=JobStatus.FINISHED) for _ in range(4)]
    fresh = asked(acting)
    assert set(Backtest.objects.values_list("pk", flat=True)) == {*(row.pk for row in old[1:]), fresh.pk}


# The result ---------------------------------------------------------------------------------------------------------


def test_a_result_is_stored_whole(acting: User, btc: Product) -> None:
    row = done(acting)
    assert (row.status, row.error, row.progress) == (JobStatus.FINISHED, "", 1.0)
    assert row.candles == 260
    assert row.fills > 0
    assert len(row.fingerprint) == 16
    deals = list(BacktestDeal.objects.filter(backtest=row))
    assert row.statistics["deals"] == len(deals) > 5
    assert sum(len(deal.fills) for deal in deals) == row.fills
    closed = [deal for deal in deals if deal.closed_at]
    assert sum(deal.profit for deal in closed) == D(row.statistics["realised"])
    assert {deal.exit_reason for deal in closed} == {"take_profit"}
    assert row.statistics["won"] == len(closed)
    assert row.monthly[0]["month"] == "2024-01"
    assert len(row.curve["t"]) == 260
    assert row.statistics["missing_candles"] == 0
    assert row.warnings == []
    assert row.wall_seconds > 0


def test_the_same_backtest_has_the_same_fingerprint(acting: User, btc: Product) -> None:
    first, second = done(acting), done(acting)
    assert first.fingerprint == second.fingerprint
    assert done(acting, taker_fee_pct="0.1").fingerprint != first.fingerprint


def test_fees_and_slippage_cost_something(acting: User, btc: Product) -> None:
    free = done(acting, maker_fee_pct=0, taker_fee_pct=0)
    costly = done(acting, slippage_pct="0.2")
    assert D(free.statistics["fees"]) == 0
    assert D(costly.statistics["fees"]) > 0
    first = [BacktestDeal.objects.filter(backtest=row).first() for row in (free, costly)]
    assert [deal.fills[0]["price"] for deal in first if deal] == ["100", "100.2"]


def test_the_range_bounds_what_is_traded_on(acting: User, btc: Product) -> None:
    row = done(acting, start=START + 26 * MINUTE, end=START + 52 * MINUTE)
    assert row.curve["t"][0] == START + 27 * MINUTE
    assert row.curve["t"][-1] == START + 52 * MINUTE
    assert len(row.curve["t"]) == 26


def test_gaps_and_pairs_with_less_data_are_said(acting: User, btc: Product) -> None:
    recording("ETH-USD", WAVE * 10, start=START + 600, skip={20, 21})
    row = done(acting, symbols=["BTC-USD", "ETH-USD"], start=START, end=START + 260 * MINUTE)
    assert row.warnings == [
        "ETH-USD: its candles begin on 2024-01-01 00:10 only.",
        "ETH-USD: its candles end on 2024-01-01 02:20 already.",
        "ETH-USD: 2 of 130 1m candles had no trades and are filled flat.",
    ]
    assert row.statistics["missing_candles"] == 2


def test_conditions_on_longer_candles_are_built_from_what_is_held(acting: User, btc: Product) -> None:
    row = done(acting, settings={**SETTINGS, "open_conditions": RSI_3M}, timeframe="1m")
    assert row.status == JobStatus.FINISHED
    assert any("conditions on 3m candles have enough of them from" in line for line in row.warnings)
    assert 0 < row.statistics["deals"] < done(acting).statistics["deals"]


def test_the_longer_stretch_is_used_where_a_longer_timeframe_holds_less(acting: User, btc: Product) -> None:
    """A live bot keeps the last candles of 5m; a year of minutes is the better source all the same."""
    recording("BTC-USD", [100.0] * 3, Timeframe.M5, START + 240 * MINUTE)
    row = done(acting, timeframe="5m")
    assert (row.start, row.end, row.candles) == (START, START + 260 * MINUTE, 52)


# The worker ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What open pages were told."""
    sent: list[dict[str, Any]] = []

    def note(messages: Any) -> None:
        sent.extend({"to": group, **message} for group, message in messages)

    monkeypatch.setattr("notifications.outbox._send", note)
    return sent


def test_a_worker_takes_what_waits_and_tells_the_owner(
    person: User, btc: Product, told: list[dict[str, Any]], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True), acting_for(person):
        row = asked(person)
    with detached("test looks"):
        row.refresh_from_db()
    assert row.status == JobStatus.FINISHED
    assert {message["to"] for message in told} == {f"user.{person.pk}"}
    assert {message["kind"] for message in told} == {"task"}
    states = [message["payload"]["status"] for message in told if message["payload"]["id"] == row.pk]
    assert states[0] == "queued"
    assert states[-1] == "finished"
    assert told[-1]["payload"] == {"task": "backtest", "id": row.pk, "status": "finished", "progress": 1.0}


def test_second_jobs_wait_behind_other_peoples_first_and_nobody_has_two_turns_at_once(btc: Product) -> None:
    ann, bob, eve = UserFactory(), UserFactory(), UserFactory()
    rows = {}
    for user, name in ((ann, "a1"), (ann, "a2"), (ann, "a3"), (bob, "b1"), (eve, "e1")):
        with acting_for(user):
            rows[name] = asked(user, name=name)
    first = [claim() for _ in range(4)]
    assert [row.name if row else None for row in first] == ["a1", "b1", "e1", None]
    for row in first[:2]:
        assert row is not None
        with jobs.acting_for_owner(row.owner_id):
            backtests.run_backtest(row, tell=False)
    later = claim()
    assert later is not None
    assert later.name == "a2"
    with acting_for(bob):
        asked(bob, name="b2")
    assert jobs.has_waiting()


def test_cancelling_a_waiting_one_ends_it_and_a_running_one_stops(acting: User, btc: Product, monkeypatch: Any) -> None:
    waiting = backtests.cancel_backtest(asked(acting))
    assert waiting.status == JobStatus.CANCELLED
    assert claim() is None
    row = asked(acting)
    claimed = claim()
    assert claimed is not None
    backtests.cancel_backtest(row)
    stopped = backtests.run_backtest(claimed)
    assert stopped.status == JobStatus.CANCELLED
    assert not BacktestDeal.objects.filter(backtest=row).exists()
    assert backtests.cancel_backtest(stopped).status == JobStatus.CANCELLED


def test_one_that_lost_its_claim_writes_nothing(acting: User, btc: Product) -> None:
    asked(acting)
    slow = claim()
    assert isinstance(slow, Backtest)
    Backtest.objects.filter(pk=slow.pk).update(status=JobStatus.QUEUED)  # taken for dead
    quick = claim()
    assert isinstance(quick, Backtest)
    stored = backtests.run_backtest(quick)
    count = BacktestDeal.objects.filter(backtest=stored).count()
    backtests.run_backtest(slow)
    assert BacktestDeal.objects.filter(backtest=stored).count() == count
    stored.refresh_from_db()
    assert stored.status == JobStatus.FINISHED


def test_one_whose_process_ends_goes_back_into_the_queue(acting: User, btc: Product) -> None:
    row = asked(acting)
    first = claim()
    stopping.stop()
    try:
        backtests.run_backtest(first)
    finally:
        stopping.go_on()
    row.refresh_from_db()
    assert (row.status, row.progress) == (JobStatus.QUEUED, 0.0)
    assert _run(row).status == JobStatus.FINISHED


def test_candles_that_went_away_fail_it_in_words(acting: User, btc: Product) -> None:
    row = asked(acting)
    btc.series.all().delete()
    failed = _run(row)
    assert failed.status == JobStatus.FAILED
    assert "Nothing is held of this pair" in failed.error


def test_an_error_of_ours_is_stored_and_raised(acting: User, btc: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(backtests, "simulate", broken)
    row = asked(acting)
    with pytest.raises(RuntimeError):
        _run(row)
    row.refresh_from_db()
    assert (row.status, row.error) == (JobStatus.FAILED, "The simulation failed (RuntimeError): a bug")


def test_what_a_dead_worker_left_is_queued_again_but_not_for_ever(acting: User, btc: Product) -> None:
    asked(acting)
    for attempt in (1, 2, 3):
        row = claim()
        assert row is not None
        with clock.at(clock.now() + timedelta(minutes=1)):
            assert recover() == 0
        with clock.at(clock.now() + jobs.STALE_AFTER + timedelta(seconds=1)):
            recover()
        row.refresh_from_db()
        assert row.status == (JobStatus.QUEUED if attempt < 3 else JobStatus.FAILED)
    assert "ended before the result 3 times" in row.error


def test_one_that_was_cancelled_as_its_worker_died_ends(acting: User, btc: Product) -> None:
    row = asked(acting)
    claim()
    backtests.cancel_backtest(row)
    with clock.at(clock.now() + jobs.STALE_AFTER + timedelta(seconds=1)):
        recover()
    row.refresh_from_db()
    assert row.status == JobStatus.CANCELLED


def test_a_worker_that_finds_nothing_goes_away(db: None) -> None:
    backtest_tasks.work()
    backtest_tasks.recover()


# Afterwards ---------------------------------------------------------------------------------------------------------


def test_a_running_one_is_not_deleted_a_finished_one_goes_with_its_deals(acting: User, btc: Product) -> None:
    row = asked(acting)
    claimed = claim()
    assert isinstance(claimed, Backtest)
    with pytest.raises(InvalidInput, match="Cancel it first"):
        backtests.delete_backtest(row)
    backtests.delete_backtest(backtests.run_backtest(claimed))
    assert not Backtest.objects.exists()
    assert not BacktestDeal.objects.exists()


def test_f52_somebody_elses_backtest_does_not_exist(person: User, btc: Product) -> None:
    foreign = BacktestFactory(status=JobStatus.FINISHED)
    with acting_for(person):
        for act in (backtests.cancel_backtest, backtests.delete_backtest):
            with pytest.raises(NotFound):
                act(foreign)
        assert backtests.compare([foreign.pk]) == []


def test_finished_ones_are_compared_in_the_order_asked_for(acting: User) -> None:
    rows = [BacktestFactory(owner=acting, status=JobStatus.FINISHED) for _ in range(3)]
    waiting = BacktestFactory(owner=acting)
    found = backtests.compare([rows[2].pk, waiting.pk, rows[0].pk, rows[2].pk])
    assert [row.pk for row in found] == [rows[2].pk, rows[0].pk]


def test_exports_hold_every_deal_and_fill(acting: User, btc: Product) -> None:
    row = done(acting)
    deals = list(csv.DictReader(io.StringIO(backtests.deals_csv(row))))
    fills = list(csv.DictReader(io.StringIO(backtests.fills_csv(row))))
    assert (len(deals), len(fills)) == (row.statistics["deals"], row.fills)
    assert deals[0]["opened_at"] == datetime.fromtimestamp(START + 60, UTC).isoformat()
    assert fills[0]["at"] == deals[0]["opened_at"]
    assert fills[0]["purpose"] == "base_order"
    document = json.loads(json.dumps(backtests.as_json(row)))
    assert len(document["deals"]) == len(deals)
    assert sum(len(deal["fills"]) for deal in document["deals"]) == row.fills
    assert document["settings"] == row.settings
    assert document["fingerprint"] == row.fingerprint
    with pytest.raises(InvalidInput, match="no result"):
        backtests.deals_csv(asked(acting))


def test_candles_of_years_are_read_in_parts(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "ROWS_PER_READ", 7)
    product = recording("BTC-USD", WAVE * 4, skip={3, 6, 7, 20})
    series = product.series.get()
    candles = history.read(product, Timeframe.M1, START + 120, START + 50 * MINUTE, series)
    assert candles.time.tolist() == list(range(START + 120, START + 50 * MINUTE, MINUTE))
    assert candles.synthetic.sum() == 4
