"""Downloads of history: what is asked for, what is not asked for twice, and what a kill leaves behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from marketdata import downloads, history, services, tasks
from marketdata.models import Candle, CandleSeries, HistoryDownload
from marketdata.store import store
from marketdata.timeframes import Timeframe
from tests.factories import HistoryDownloadFactory, UserFactory
from tests.marketdata.factories import make_product
from tests.marketdata.venue import Venue, status
from tradebot.core import clock, stopping, turns
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import Scope, bound, detached, request_holder

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
        claimed = turns.claim_next((HistoryDownload,), {}, history.tell)
        assert claimed == row
        with turns.acting_for_owner(row.owner_id):
            history.run_download(claimed, **kwargs)
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
        assert downloads.recover() == 0
        with clock.at(moment + history.STALE_AFTER + timedelta(seconds=1)):
            assert downloads.recover() == 1
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
        assert not downloads.carry_out_next()
    assert history.cancel_download(row).status == Status.CANCELLED


def test_one_whose_process_ends_goes_back_into_the_queue(
    person: Any, btc: Any, venue: Venue, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ago(moment, hours=12)
    row = ask(person, start, start + 700 * 60)
    try:
        row = work(row, progress=lambda share: stopping.stop())
    finally:
        stopping.go_on()
    assert row.status == Status.QUEUED
    assert held(btc) == (start, start + 300 * 60)
    woken: list[int] = []
    monkeypatch.setattr(downloads, "wake", lambda: woken.append(1))
    with request_holder():
        assert downloads.recover() == 0
    assert woken  # it waits, and somebody is told
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
    for task in (tasks.download_history, tasks.download_next):
        assert app.amqp.router.route({}, task.name)["queue"].name == HISTORY_QUEUE


@dataclass
class Broker:
    """A queue of messages, first in, first out, and one process that carries them out."""

    messages: deque[tuple[Any, ...]] = field(default_factory=deque)
    done: list[tuple[int, int]] = field(default_factory=list)
    """(owner, download) of every turn that was taken."""

    def run(self) -> None:
        while self.messages:
            message = self.messages.popleft()
            with request_holder():
                downloads.carry_on(*message) if message else downloads.carry_out_next()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    found = Broker()
    run = history.run_download

    def noted(row: HistoryDownload, *args: Any, **kwargs: Any) -> HistoryDownload:
        found.done.append((row.owner_id, row.pk))
        return run(row, *args, **kwargs)

    monkeypatch.setattr(downloads, "TURN_SECONDS", 0.0)  # a page each
    monkeypatch.setattr(downloads, "wake", lambda: found.messages.append(()))
    monkeypatch.setattr(downloads, "_hand_on", lambda *claim: found.messages.append(claim))
    monkeypatch.setattr(history, "run_download", noted)
    return found


def test_downloads_take_turns_between_people(btc: Any, venue: Venue, moment: datetime, broker: Broker) -> None:
    """Ann asks for three long ones, Bob then for a short one: it is done before the first of hers is."""
    ann, bob = UserFactory(), UserFactory()
    start = ago(moment, days=2)
    with bound(Scope(owner_id=ann.pk)):
        hers = [ask(ann, start + n * 60, start + (n + 1500) * 60) for n in range(3)]
    with bound(Scope(owner_id=bob.pk)):
        his = ask(bob, start, start + 200 * 60, timeframe="1h")
    broker.run()
    owners = [owner for owner, _ in broker.done]
    assert owners.index(bob.pk) <= 2
    with detached("test looks"):
        rows = HistoryDownload.objects.in_bulk([row.pk for row in (*hers, his)])
    assert {row.status for row in rows.values()} == {Status.FINISHED}
    last = {pk: n for n, (_, pk) in enumerate(broker.done)}
    assert last[his.pk] < last[hers[0].pk] < last[hers[1].pk] < last[hers[2].pk]


def test_nobody_has_two_downloads_under_way(btc: Any, venue: Venue, moment: datetime, broker: Broker) -> None:
    ann, bob = UserFactory(), UserFactory()
    start = ago(moment, days=2)
    for user in (ann, ann, bob, bob):
        with bound(Scope(owner_id=user.pk)):
            ask(user, start, start + 900 * 60)
    found = []
    with request_holder():
        for _ in range(4):
            row = turns.claim_next((HistoryDownload,), {}, history.tell)
            found.append(None if row is None else row.owner_id)
    assert found == [ann.pk, bob.pk, None, None]


def test_a_turn_whose_claim_is_lost_writes_nothing(
    person: Any, btc: Any, venue: Venue, moment: datetime, broker: Broker
) -> None:
    start = ago(moment, hours=20)
    row = ask(person, start, start + 900 * 60)
    with request_holder():
        assert downloads.carry_out_next()
        (old,) = [message for message in broker.messages if message]
        with clock.at(moment + history.STALE_AFTER + timedelta(seconds=1)):
            assert downloads.recover() == 1
            assert downloads.carry_out_next()  # another process has it now
        assert not downloads.carry_on(*old)
    row.refresh_from_db()
    assert (row.status, row.candles) == (Status.RUNNING, 600)
    broker.messages = deque(message for message in broker.messages if message != old)
    broker.run()
    row.refresh_from_db()
    assert (row.status, row.candles, held(btc)) == (Status.FINISHED, 900, (start, start + 900 * 60))


def test_f52_a_download_of_somebody_else_does_not_exist(person: Any, btc: Any) -> None:
    foreign = HistoryDownloadFactory(product=btc, status=Status.RUNNING, started_at=clock.now())
    for act in (history.cancel_download, history.remove_download):
        with pytest.raises(NotFound):
            act(foreign)
    with request_holder():
        assert not downloads.carry_on(person.pk, foreign.pk, downloads._claim_of(foreign))


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
