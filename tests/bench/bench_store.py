"""A year of one-minute candles from the candle store: first load of a process, and the next."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from marketdata.models import Product
from marketdata.store import CandleStore
from marketdata.timeframes import Timeframe
from tests.bench.walk import walk

YEAR = 365 * 24 * 60


@pytest.mark.django_db(transaction=True)
def test_f_a_year_of_minutes_from_the_store() -> None:
    product = Product.objects.create(
        exchange="replay",
        symbol="SIM-USD",
        base="SIM",
        quote="USD",
        price_increment=Decimal("0.01"),
        base_increment=Decimal("0.0001"),
        quote_increment=Decimal("0.01"),
        min_base=Decimal("0.0001"),
        min_quote=Decimal(1),
    )
    candles = walk(YEAR)
    CandleStore().replace(product, Timeframe.M1, candles)
    until = datetime.fromtimestamp(int(candles.time[-1]) + 60, UTC)
    cold, warm = [], []
    for _ in range(6):
        store = CandleStore()
        for taken in (cold, warm):
            started = time.perf_counter()
            loaded = store.load([product.pk], Timeframe.M1, until, None)[product.pk]
            taken.append(time.perf_counter() - started)
            assert len(loaded) == YEAR
    print(
        f"\n(f) {YEAR:,} candles from the store: cold {statistics.median(cold[1:]):.2f} s, "
        f"warm {statistics.median(warm[1:]) * 1000:.2f} ms"
    )
