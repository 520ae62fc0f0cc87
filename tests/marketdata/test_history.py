"""Downloads of history: what is asked for, what is not asked for twice, and what a kill leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from marketdata import history, services, tasks
from marketdata.models import Candle, CandleSeries, HistoryDownload
from marketdata.store import store
from marketdata.timeframes import Timeframe
from tests.factories import HistoryDownloadFactory, UserFactory
from tests.marketdata.factories import make_product
from tests.marketdata.venue import Venue, status
from tradebot.core import clock, stopping
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import Scope, bound, request_holder

DAY = 86_400
Status = HistoryDownload.Status


@pytest.fixture
def person(db: None) -> Iterator[Any]:
    user = UserFactory()
    with bound(Scope(owner_id=user.pk)):
        yield user


@pytest.fixture
def btc(db: None) -> Any:
    return make_product("BTC-USD")


def ago(moment: datetime, **before: int) -> int:
    return int((moment - timedelta(**before)).replace(second=0, microsecond=0).timestamp())


def ask(user: Any, start: int, end: int | None = None, **changes: Any) -> HistoryDownload:
    given: dict[str, Any] = {"exchange": "coinbase", "symbol": "BTC-USD", "timeframe": "1m"}
    return history.start_download(user, start=start, end=end, **(given | changes))


def work(row: HistoryDownload, **kwargs: Any) -> HistoryDownload:
    """What a worker does, in the scope it makes for itself."""
    with request_holder():
        assert history.download_waiting(row.owner_id, row.pk, **kwargs)
    row.refresh_from_db()
    return row


def held(product: Any) -> tuple[int, int]:
    row = CandleSeries.objects.get(product=product)
    return row.start, row.end


def asked_for(venue: Venue) -> list[tuple[int, int]]:
    return [(int(query["start"][0]), int(query["end"][0])) for query in venue.paths("/candles")]


# Asking -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"exchange": "replay"}, "exchange", "recordings_only"),
        ({"exchange": "moon"}, "exchange", "unknown_market"),
        ({"symbol": "NIX-USD"}, "symbol", "unknown_pair"),
        ({"timeframe": "7m"}, "timeframe", "unknown_timeframe"),
        ({"start": 200, "end": 100}, "start", "empty_range"),
        ({"start": datetime(2024, 1, 1)}, "start", "naive_time"),  # noqa: DTZ001
        ({"start": 0}, "start", "too_many_candles"),
    ],
)
def test_what_cannot_be_fetched_is_refused_by_field(
    person: Any, btc: Any, moment: datetime, changes: dict[str, Any], field: str, code: str
) -> None:
    given = {"exchange": "coinbase", "symbol": "BTC-USD", "timeframe": "1m", "start": ago(moment, hours=1)}
    with pytest.raises(InvalidInput) as refused:
        history.start_download(person, **(given | changes))
    assert (refused.value.field, refused.value.code) == (field, code)
    assert not HistoryDownload.objects.exists()


def test_nobody_queues_downloads_without_end(person: Any, btc: Any, moment: datetime) -> None:
    for _ in range(history.MOST_WAITING):
        ask(person, ago(moment, hours=1))
    with pytest.raises(InvalidInput) as refused:
        ask(person, ago(moment, hours=1))
    assert refused.value.code == "too_many_downloads"


# Fetching -----------------------------------------------------------------------------------------------------------


def test_a_long_range_is_fetched_in_pages_of_the_venue(person: Any, btc: Any, venue: Venue, moment: datetime) -> None:
    start = ago(moment, hours=12)
    row = work(ask(person, start, start + 700 * 60))
    assert (row.status, row.candles, row.error, row.gaps) == (Status.FINISHED, 700, "", [])
    assert held(btc) == (start, start + 700 * 60)
    assert [(end - begin) // 60 + 1 for begin, end in asked_for(venue)] == [300, 300, 100]
    assert history.progress_of(row) == 1.0
    assert row.finished_at is not None


def test_what_is_held_already_is_not_fetched_again(person: Any, btc: Any, venue: Venue, moment: datetime) -> None:
    start = ago(moment, hours=10)
    work(ask(person, start, start + 60 * 60))
    venue.asked.clear()
    work(ask(person, start, start + 60 * 60))
    assert asked_for(venue) == []
    work(ask(person, start - 30 * 60, start + 90 * 60))
    assert [begin for begin, _ in asked_for(venue)] == [start + 3600, start - 1800]
    assert held(btc) == (start - 1800, start + 90 * 60)


def test_an_earlier_range_is_joined_to_what_is_held_from_its_end_backwards(
    person: Any, btc: Any, venue: Venue, moment: datetime
) -> None:
    """Held is what a live bot looks at; the range asked for lies a day before it."""
    store.ensure(btc, Timeframe.M1, 60)
    newest = held(btc)
    venue.asked.clear()
    start = ago(moment, days=1)
    row = work(ask(person, start, start + 3600))
    assert held(btc) == (start, newest[1])
    begins = [begin for begin, _ in asked_for(venue)]
    assert begins == sorted(begins, reverse=True)
    assert row.candles == (newest[0] - start) // 60


def test_a_killed_download_goes_on_where_it_was(
    person: Any, btc: Any, venue: Venue, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ago(moment, hours=12)
    row = ask(person, start, start + 600 * 60)

    def die(download: HistoryDownload) -> bool:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(history, "_touch", die)
        with pytest.raises(SystemExit):
            work(row)
    row.refresh_from_db()
    assert row.status == Status.RUNNING
    with request_holder():
        assert history.recover_downloads() == 0
        with clock.at(moment + history.STALE_AFTER + timedelta(seconds=1)):
            assert history.recover_downloads() == 1
    row.refresh_from_db()
    assert row.status == Status.QUEUED
    venue.asked.clear()
    assert work(row).status == Status.FINISHED
    assert [begin for begin, _ in asked_for(venue)] == [start + 300 * 60]
    assert held(btc) == (start, start + 600 * 60)


def test_somebody_can_stop_it_and_keeps_what_was_written(person: Any, btc: Any, venue: Venue, moment: datetime) -> None:
    start = ago(moment, hours=12)
    row = ask(person, start, start + 700 * 60)
    row = work(row, progress=lambda share: history.cancel_download(row) and None)
    assert row.status == Status.CANCELLED
    assert held(btc) == (start, start + 600 * 60)  # the page that was under way is kept
    assert 0.8 < history.progress_of(row) < 0.9
    waiting = history.cancel_download(ask(person, start, start + 600 * 60))
    assert waiting.status == Status.CANCELLED
    with request_holder():
        assert not history.download_waiting(person.pk, waiting.pk)
    assert history.cancel_download(row).status == Status.CANCELLED


def test_one_whose_process_ends_goes_back_into_the_queue(person: Any, btc: Any, venue: Venue, moment: datetime) -> None:
    start = ago(moment, hours=12)
    row = ask(person, start, start + 700 * 60)
    try:
        row = work(row, progress=lambda share: stopping.ask())
    finally:
        stopping.forget()
    assert row.status == Status.QUEUED
    assert held(btc) == (start, start + 300 * 60)
    with request_holder():
        assert history.recover_downloads() == 1
    assert work(row).status == Status.FINISHED


def test_periods_without_trades_are_told_as_gaps(person: Any, btc: Any, venue: Venue, moment: datetime) -> None:
    start = ago(moment, hours=2)
    venue.quiet = {start, start + 300, start + 360, start + 3540}
    row = work(ask(person, start, start + 3600))
    assert row.candles == 56
    assert row.gaps == [[start, start + 60], [start + 300, start + 420], [start + 3540, start + 3600]]
    found = history.coverage("coinbase", ["BTC-USD"])
    assert [(one.timeframe, one.candles, round(one.gap_share, 4)) for one in found] == [(Timeframe.M1, 56, 0.0667)]
    assert (found[0].start.timestamp(), found[0].end.timestamp()) == (start, start + 3600)


def test_a_venue_that_does_not_answer_ends_it_in_words_and_it_can_be_asked_again(
    person: Any, btc: Any, venue: Venue, moment: datetime
) -> None:
    start = ago(moment, hours=12)
    venue.faults = [status(500)] * 20
    row = work(ask(person, start, start + 600 * 60))
    assert row.status == Status.FAILED
    assert "coinbase" in row.error.lower()
    venue.faults.clear()
    assert work(ask(person, start, start + 600 * 60)).status == Status.FINISHED


def test_a_timeframe_that_the_venue_lacks_is_fetched_as_a_shorter_one(
    person: Any, btc: Any, venue: Venue, moment: datetime
) -> None:
    start = int(datetime(2024, 4, 1, tzinfo=UTC).timestamp())
    work(ask(person, start, start + 2 * DAY, timeframe="4h"))
    assert CandleSeries.objects.get(product=btc).timeframe == "2h"
    assert len(store.load([btc.pk], Timeframe.H4, count=None)[btc.pk]) == 12


def test_the_newest_candle_may_come_late(person: Any, btc: Any, venue: Venue, moment: datetime) -> None:
    """Ten seconds after the full minute its last candle is not there yet: it is not held, and fetched later."""
    venue.quiet = {ago(moment, minutes=1)}
    with clock.at(moment.replace(second=10)):
        row = work(ask(person, ago(moment, minutes=10)))
    assert row.status == Status.FINISHED
    assert held(btc)[1] == ago(moment, minutes=1)


def test_the_simulated_market_has_a_past(person: Any, moment: datetime) -> None:
    services.refresh_products("simulated")
    start = ago(moment, days=30)
    row = work(ask(person, start, start + 20 * DAY, exchange="simulated", symbol="ETH-USD"))
    assert (row.status, row.candles) == (Status.FINISHED, 20 * 1440)
    assert Candle.objects.filter(product__symbol="ETH-USD").count() == 20 * 1440


def test_a_live_look_joins_on_to_a_long_history(person: Any, btc: Any, venue: Venue, moment: datetime) -> None:
    """Otherwise the bot's last candles would take the place of what was downloaded a moment ago."""
    start = ago(moment, days=3)
    work(ask(person, start, start + 2 * DAY))
    store.ensure(btc, Timeframe.M1, 60)
    assert held(btc)[0] == start
    assert held(btc)[1] == ago(moment)


# Around it ----------------------------------------------------------------------------------------------------------


def test_the_task_runs_on_a_queue_of_its_own(
    person: Any, btc: Any, venue: Venue, moment: datetime, django_capture_on_commit_callbacks: Any
) -> None:
    from tradebot.celery import HISTORY_QUEUE, app

    with django_capture_on_commit_callbacks(execute=True):
        row = ask(person, ago(moment, hours=1))
    row.refresh_from_db()
    assert row.status == Status.FINISHED
    route = app.amqp.router.route({}, tasks.download_history.name)
    assert route["queue"].name == HISTORY_QUEUE


def test_f52_a_download_of_somebody_else_does_not_exist(person: Any, btc: Any) -> None:
    foreign = HistoryDownloadFactory(product=btc)
    for act in (history.cancel_download, history.remove_download):
        with pytest.raises(NotFound):
            act(foreign)
    with request_holder():
        assert not history.download_waiting(person.pk, foreign.pk)


def test_a_download_that_is_over_can_be_forgotten(person: Any, btc: Any, moment: datetime) -> None:
    row = ask(person, ago(moment, hours=1))
    with pytest.raises(InvalidInput, match="Cancel it first"):
        history.remove_download(row)
    history.remove_download(history.cancel_download(row))
    assert not HistoryDownload.objects.exists()


def test_coverage_lists_what_is_held_in_one_query(db: None, moment: datetime, django_assert_num_queries: Any) -> None:
    for symbol in ("BTC-USD", "ETH-USD"):
        product = make_product(symbol, "simulated")
        for frame in (Timeframe.H1, Timeframe.M5):
            store.ensure(product, frame, 50)
    with django_assert_num_queries(1):
        found = history.coverage("simulated")
    assert [(row.product.symbol, row.timeframe.value, row.candles) for row in found] == [
        ("BTC-USD", "5m", 50),
        ("BTC-USD", "1h", 50),
        ("ETH-USD", "5m", 50),
        ("ETH-USD", "1h", 50),
    ]
    assert {row.gap_share for row in found} == {0.0}
    assert history.coverage("coinbase") == []


def test_the_best_source_covers_most_and_is_longest(db: None) -> None:
    def series(frame: Timeframe, start: int, end: int) -> CandleSeries:
        return CandleSeries(timeframe=frame.value, start=start * 3600, end=end * 3600)

    rows = {Timeframe.M1: series(Timeframe.M1, 0, 100), Timeframe.M5: series(Timeframe.M5, 90, 101)}
    best = history.base_for(rows, Timeframe.H1, 0, 101 * 3600)
    assert best is not None
    assert best[0] is Timeframe.M1
    late = history.base_for(rows, Timeframe.H1, 91 * 3600, 99 * 3600)
    assert late is not None
    assert late[0] is Timeframe.M5
    assert history.base_for(rows, Timeframe.H1, 200 * 3600, 300 * 3600) is None
    assert history.base_for({Timeframe.H1: series(Timeframe.H1, 0, 9)}, Timeframe.M5, 0, 3600) is None
