"""The candle store: fetch only what is missing, answer many products at once, never the forming candle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from marketdata.models import Candle, CandleSeries, Product
from marketdata.series import Candles, from_rows
from marketdata.sources.simulated import SimulatedSource
from marketdata.store import CandleStore, _missing
from marketdata.timeframes import Timeframe
from tests.marketdata.factories import make_product
from tests.marketdata.venue import Venue, status
from tradebot.core import clock
from tradebot.core.errors import VenueUnavailable

NOON = 1_713_960_000

pytestmark = pytest.mark.django_db


def flat(times: Iterable[int], price: Callable[[int], float] = lambda time: 100.0 + time % 7) -> Candles:
    return from_rows([(time, *[price(time)] * 4, 1.0) for time in times])


@pytest.fixture
def store() -> CandleStore:
    return CandleStore()


@pytest.fixture
def product() -> Product:
    return make_product("BTC-USD")


def test_only_what_is_missing_is_fetched(store: CandleStore, product: Product, venue: Venue, moment: datetime) -> None:
    assert store.ensure(product, Timeframe.M1, 10) == 10
    assert store.ensure(product, Timeframe.M1, 10) == 0
    assert len(venue.paths("/candles")) == 1
    with clock.at(moment + timedelta(minutes=3)):
        assert store.ensure(product, Timeframe.M1, 10) == 3
        assert store.ensure(product, Timeframe.M1, 20) == 7
        candles = store.load([product.pk], Timeframe.M1, count=20)[product.pk]
    assert candles.time.tolist() == list(range(NOON - 17 * 60, NOON + 180, 60))


def test_f40_closed_candles_only_whatever_is_asked(
    store: CandleStore, product: Product, venue: Venue, moment: datetime
) -> None:
    store.ensure(product, Timeframe.M1, 120)
    asked_ahead = store.load([product.pk], Timeframe.M1, until=moment + timedelta(hours=1), count=5)[product.pk]
    assert int(asked_ahead.time[-1]) == NOON - 60
    earlier = store.load([product.pk], Timeframe.M1, until=moment - timedelta(minutes=30), count=5)[product.pk]
    assert int(earlier.time[-1]) == NOON - 31 * 60
    with clock.at(moment - timedelta(minutes=30)):
        replayed = store.load([product.pk], Timeframe.M1, count=5)[product.pk]
        hours = store.load([product.pk], Timeframe.H1, count=5)[product.pk]
    assert replayed.time.tolist() == earlier.time.tolist()
    assert hours.time.tolist() == [] or int(hours.time[-1]) + 3600 <= NOON - 1800


def test_other_timeframes_are_built_from_the_venues_own(
    store: CandleStore, product: Product, venue: Venue, moment: datetime
) -> None:
    store.ensure(product, Timeframe.H4, 6)
    assert {query["granularity"][0] for query in venue.paths("/candles")} == {"TWO_HOUR"}
    candles = store.load([product.pk], Timeframe.H4, count=6)[product.pk]
    assert candles.time.tolist() == [NOON - n * 4 * 3600 for n in range(6, 0, -1)]
    assert (candles.volume == 7.0).all()


def test_periods_without_trades_are_flat_and_marked(
    store: CandleStore, product: Product, venue: Venue, moment: datetime
) -> None:
    venue.quiet = {NOON - n * 60 for n in (1, 2, 5, 10)}
    store.ensure(product, Timeframe.M1, 20)
    candles = store.load([product.pk], Timeframe.M1, count=10)[product.pk]
    assert candles.time.tolist() == list(range(NOON - 600, NOON, 60))
    quiet = [index for index, synthetic in enumerate(candles.synthetic.tolist()) if synthetic]
    assert quiet == [0, 5, 8, 9]  # the window begins and ends inside a gap
    assert candles.volume[quiet].tolist() == [0.0] * 4
    assert candles.close[9] == candles.close[7]
    before = store.load([product.pk], Timeframe.M1, until=moment - timedelta(minutes=10), count=1)[product.pk]
    assert candles.close[0] == before.close[0]


def test_a_cold_window_that_begins_in_a_gap_goes_on_flat(product: Product, venue: Venue, moment: datetime) -> None:
    venue.quiet = set(range(NOON - 600, NOON - 300, 60))
    CandleStore().ensure(product, Timeframe.M1, 30)
    other = make_product("ETH-USD")
    CandleStore().ensure(other, Timeframe.M1, 4)
    candles = CandleStore().load([product.pk, other.pk], Timeframe.M1, count=8)
    assert candles[product.pk].synthetic.tolist() == [True] * 3 + [False] * 5
    assert candles[product.pk].time[0] == NOON - 480
    assert len(candles[other.pk]) == 4


def test_a_candle_not_yet_published_is_asked_for_again(
    store: CandleStore, product: Product, venue: Venue, moment: datetime
) -> None:
    venue.quiet = {NOON - 60}
    with clock.at(moment - timedelta(seconds=35)):
        store.ensure(product, Timeframe.M1, 10)
        late = store.load([product.pk], Timeframe.M1, count=10)[product.pk]
    assert int(late.time[-1]) == NOON - 120
    venue.quiet = set()
    store.ensure(product, Timeframe.M1, 10)
    assert int(store.load([product.pk], Timeframe.M1, count=10)[product.pk].time[-1]) == NOON - 60


def test_a_venue_without_older_candles_is_asked_once(
    store: CandleStore, product: Product, venue: Venue, moment: datetime
) -> None:
    venue.quiet = set(range(NOON - 10_000 * 60, NOON - 300, 60))
    store.ensure(product, Timeframe.M1, 100)
    store.ensure(product, Timeframe.M1, 100)
    assert len(venue.paths("/candles")) == 1
    assert len(store.load([product.pk], Timeframe.M1, count=100)[product.pk]) == 5


def test_after_a_long_absence_the_stretch_begins_anew(
    store: CandleStore, product: Product, venue: Venue, moment: datetime
) -> None:
    store.ensure(product, Timeframe.M1, 10)
    store.load([product.pk], Timeframe.M1, count=10)
    with clock.at(moment + timedelta(days=30)):
        store.ensure(product, Timeframe.M1, 10)
        candles = store.load([product.pk], Timeframe.M1, count=50)[product.pk]
    assert len(candles) == 10
    assert sum(int(q["end"][0]) - int(q["start"][0]) for q in venue.paths("/candles")) < 2 * 10 * 60


def test_a_failing_venue_leaves_what_is_held(
    store: CandleStore, product: Product, venue: Venue, moment: datetime
) -> None:
    store.ensure(product, Timeframe.M1, 10)
    venue.faults = [status(500)] * 3
    with clock.at(moment + timedelta(minutes=5)):
        with pytest.raises(VenueUnavailable):
            store.ensure(product, Timeframe.M1, 10)
        assert int(store.load([product.pk], Timeframe.M1, count=10)[product.pk].time[-1]) == NOON - 60


def test_many_products_cost_a_constant_number_of_queries(store: CandleStore, moment: datetime) -> None:
    def fill(names: range) -> list[int]:
        ids = []
        for n in names:
            product = make_product(f"C{n}-USD")
            # Every other one has gaps, also where the window begins.
            store.write(product, Timeframe.M1, flat(range(NOON - 6000, NOON - 60, 60 * (1 + n % 2))), NOON - 6000, NOON)
            ids.append(product.pk)
        return ids

    def cost(ids: list[int], using: CandleStore) -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            answers = using.load(ids, Timeframe.M5, count=9)
        assert [len(answers[pk]) for pk in ids] == [9] * len(ids)
        return len(captured)

    few, many = fill(range(2)), fill(range(2, 42))
    assert cost(few, CandleStore()) == cost(many, CandleStore()) <= 4
    assert cost(few + many, store) <= 4
    assert cost(few + many, store) == 1


def test_candles_written_by_another_process_are_noticed(product: Product, moment: datetime) -> None:
    reader, writer = CandleStore(), CandleStore()
    writer.write(product, Timeframe.M1, flat(range(NOON - 600, NOON - 300, 60)), NOON - 600, NOON - 300)
    assert len(reader.load([product.pk], Timeframe.M1, count=50)[product.pk]) == 5
    writer.write(product, Timeframe.M1, flat(range(NOON - 300, NOON, 60)), NOON - 300, NOON)
    assert len(reader.load([product.pk], Timeframe.M1, count=50)[product.pk]) == 10
    writer.replace(product, Timeframe.M1, flat(range(NOON - 600, NOON, 60), lambda time: 7.0))
    assert set(reader.load([product.pk], Timeframe.M1, count=50)[product.pk].close.tolist()) == {7.0}


def test_two_writers_of_the_same_candles_are_harmless(product: Product, moment: datetime) -> None:
    one, two = CandleStore(), CandleStore()
    one.write(product, Timeframe.M1, flat(range(NOON - 600, NOON - 60, 60)), NOON - 600, NOON - 60)
    two.write(product, Timeframe.M1, flat(range(NOON - 900, NOON, 60)), NOON - 900, NOON)
    one.write(product, Timeframe.M1, flat(range(NOON - 600, NOON - 60, 60)), NOON - 600, NOON - 60)
    assert Candle.objects.filter(product=product).count() == 15
    series = CandleSeries.objects.get(product=product)
    assert (series.start, series.end) == (NOON - 900, NOON)


def test_arrays_are_shared_and_read_only(store: CandleStore, product: Product, moment: datetime) -> None:
    store.write(product, Timeframe.M1, flat(range(NOON - 600, NOON, 60)), NOON - 600, NOON)
    first, second = (store.load([product.pk], Timeframe.M1)[product.pk] for _ in range(2))
    assert np.shares_memory(first.close, second.close)
    with pytest.raises(ValueError, match="read-only"):
        first.close[0] = 1.0


def test_memory_is_bounded(moment: datetime) -> None:
    store = CandleStore(cached_candles=25)
    ids = []
    for n in range(5):
        product = make_product(f"C{n}-USD")
        store.write(product, Timeframe.M1, flat(range(NOON - 600, NOON, 60)), NOON - 600, NOON)
        ids.append(product.pk)
    assert all(len(candles) == 10 for candles in store.load(ids, Timeframe.M1).values())
    assert sum(len(entry.candles) for entry in store._entries.values()) <= 25


def test_products_without_candles_are_empty(store: CandleStore, product: Product, moment: datetime) -> None:
    assert len(store.load([product.pk], Timeframe.M1)[product.pk]) == 0
    assert len(store.load([product.pk + 1_000], Timeframe.M1)[product.pk + 1_000]) == 0


def test_a_range_can_be_fetched_and_read(store: CandleStore, moment: datetime) -> None:
    product = make_product("ETH-BTC", exchange="simulated")
    start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)
    assert store.ensure(product, Timeframe.M15, start=start, end=end) == 96
    candles = store.series(product, Timeframe.H1, start, end)
    truth = SimulatedSource(7).candles("ETH-BTC", Timeframe.H1, int(start.timestamp()), int(end.timestamp()))
    assert candles.close.tolist() == truth.close.tolist()


@given(
    ranges=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair))), max_size=8
    )
)
def test_stretches_never_have_holes(ranges: list[tuple[int, int]]) -> None:
    held: CandleSeries | None = None
    known: set[int] = set()
    for lo, hi in ranges:
        for start, end in _missing(held, lo, hi):
            if held is None or end < held.start or start > held.end:
                held, known = CandleSeries(start=start, end=end), set()
            held.start, held.end = min(held.start, start), max(held.end, end)
            known |= set(range(start, end))
        if hi > lo:
            assert held is not None
            assert set(range(lo, hi)) <= known or held.end < lo
        if held is not None:
            assert known == set(range(held.start, held.end))
