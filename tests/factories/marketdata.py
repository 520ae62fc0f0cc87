"""Products, their candles, downloads of history."""

from __future__ import annotations

from decimal import Decimal

import factory

from marketdata.models import Candle, CandleSeries, HistoryDownload, Product
from tests.factories.accounts import UserFactory
from tests.factories.base import Factory


class ProductFactory(Factory):
    """BTC-USD of the simulated market unless told otherwise; the same pair twice gives the same row."""

    class Meta:
        model = Product
        django_get_or_create = ("exchange", "symbol")

    exchange = "simulated"
    symbol = "BTC-USD"
    base = factory.LazyAttribute(lambda o: o.symbol.split("-")[0])
    quote = factory.LazyAttribute(lambda o: o.symbol.split("-")[1])
    price_increment = Decimal("0.01")
    base_increment = Decimal("0.00000001")
    quote_increment = Decimal("0.01")
    min_base = Decimal("0.00000001")
    min_quote = Decimal(1)


class CandleFactory(Factory):
    class Meta:
        model = Candle

    product = factory.SubFactory(ProductFactory)
    timeframe = "1m"
    time = factory.Sequence(lambda n: 1_700_000_040 + 60 * n)
    open = 100.0
    high = factory.LazyAttribute(lambda o: max(o.open, o.close))
    low = factory.LazyAttribute(lambda o: min(o.open, o.close))
    close = 100.0
    volume = 10.0


class CandleSeriesFactory(Factory):
    class Meta:
        model = CandleSeries

    product = factory.SubFactory(ProductFactory)
    timeframe = "1m"
    start = 1_700_000_040
    end = 1_700_000_040


class HistoryDownloadFactory(Factory):
    class Meta:
        model = HistoryDownload

    owner = factory.SubFactory(UserFactory)
    product = factory.SubFactory(ProductFactory)
    timeframe = "1m"
    start = 1_700_000_040
    end = 1_700_003_640
    cursor = 1_700_000_040
