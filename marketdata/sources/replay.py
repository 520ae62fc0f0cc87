"""Recorded candles as a market: import from files, quotes at the clock's moment.

Recordings are ``PRODUCT_TIMEFRAME_PERIOD.csv.gz`` with the columns time, open, high, low, close, volume; ``time`` is
the opening time in Unix seconds. They become products of the market ``replay``. Nothing but the clock moves this
market: whoever replays sets :func:`tradebot.core.clock.at` and asks, as fast as they like.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, TextIO

import numpy as np

from marketdata.models import CandleSeries, Product
from marketdata.series import DAY_SECONDS, Candles, FloatArray, from_rows, traded_in_a_day
from marketdata.sources import REPLAY
from marketdata.sources.base import Book, BookLevel, MarketSource, ProductInfo, Quote
from marketdata.store import store
from marketdata.timeframes import Timeframe
from tradebot.core import clock
from tradebot.core.decimals import ceil_to, floor_to, from_float
from tradebot.core.errors import InvalidInput, MissingInformation, NotFound

__all__ = ["ReplaySource", "import_candles", "import_file"]

FILE_NAME: Final = re.compile(
    r"^(?P<symbol>[A-Z0-9]+-[A-Z0-9]+(?:-[A-Z0-9]+)?)_(?P<timeframe>\d+[mhdw])_.+\.csv(?:\.gz)?$"
)
COLUMNS: Final = ["time", "open", "high", "low", "close", "volume"]
COINS_AS_QUOTE: Final = {"BTC": "0.0001", "ETH": "0.001"}
"""Smallest order where prices are in a coin; anything else is taken for a dollar-like currency, smallest order 1."""
FINEST_PLACES: Final = 8


class ReplaySource(MarketSource):
    """The market of recordings. ``spread_pct`` widens the last close into bid and ask (0: both are the close)."""

    slug = REPLAY
    native_timeframes = tuple(Timeframe)

    def __init__(self, spread_pct: Decimal = Decimal(0)) -> None:
        self.half_spread = spread_pct / 200

    def products(self) -> list[ProductInfo]:
        """Return the products that recordings were imported for."""
        return [
            ProductInfo(
                symbol=row.symbol,
                base=row.base,
                quote=row.quote,
                price_increment=row.price_increment,
                base_increment=row.base_increment,
                quote_increment=row.quote_increment,
                min_base=row.min_base,
                min_quote=row.min_quote,
                status=row.status,
                kind=row.kind,
                volume_24h=row.volume_24h,
                price_change_24h=row.price_change_24h,
                max_leverage=row.max_leverage,
                maintenance_pct=row.maintenance_pct,
                funding_hours=row.funding_hours,
            )
            for row in Product.objects.filter(exchange=REPLAY)
        ]

    def candles(self, symbol: str, timeframe: Timeframe, start: int, end: int) -> Candles:
        """See :meth:`MarketSource.candles`. Any timeframe that the recording's own divides."""
        product = Product.objects.filter(exchange=REPLAY, symbol=symbol).first()
        if product is None:
            raise NotFound("unknown_product", f"There is no recording of {symbol}.")
        candles = store.load([product.pk], timeframe, count=None)[product.pk]
        first, last = (int(n) for n in np.searchsorted(candles.time, [start, end]))
        return candles.upto(last).tail(last - first)

    def tickers(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """Return the last close at the clock's moment. Before and after its recording a product has no price."""
        now = clock.now()
        products = {row.pk: row for row in Product.objects.filter(exchange=REPLAY, symbol__in=list(symbols))}
        finest: dict[Timeframe, list[int]] = {}
        for product_id, held in store.coverage(products).items():
            running = [frame for frame, row in held.items() if row.start < now.timestamp() < row.end + frame.seconds]
            if running:
                finest.setdefault(min(running, key=lambda frame: frame.seconds), []).append(product_id)
        found = {}
        for timeframe, ids in finest.items():
            day = max(1, DAY_SECONDS // timeframe.seconds)
            for product_id, candles in store.load(ids, timeframe, until=now, count=day).items():
                if len(candles) and int(candles.time[-1]) + 2 * timeframe.seconds > now.timestamp():
                    row = products[product_id]
                    found[row.symbol] = self._quote(row, timeframe, candles)
        return found

    def book(self, symbol: str, depth: int = 50) -> Book:
        """Return one level on each side: the quote, and as much as the last candle traded."""
        quote = self.tickers([symbol]).get(symbol)
        if quote is None:
            raise MissingInformation("unknown_price", f"The recording of {symbol} has no price at this moment.")
        size = quote.traded_base or Decimal(0)
        levels = ((BookLevel(price, size),) if size > 0 else () for price in (quote.bid, quote.ask))
        bids, asks = levels
        return Book(symbol, bids, asks, quote.at)

    def _quote(self, product: Product, timeframe: Timeframe, candles: Candles) -> Quote:
        step = product.price_increment
        last = from_float(float(candles.close[-1]), step)
        return Quote(
            symbol=product.symbol,
            bid=max(step, floor_to(last * (1 - self.half_spread), step)),
            ask=ceil_to(last * (1 + self.half_spread), step),
            last=last,
            at=datetime.fromtimestamp(int(candles.time[-1]) + timeframe.seconds, UTC),
            volume_24h=traded_in_a_day(candles.volume, timeframe),
            traded_base=from_float(float(candles.volume[-1]), product.base_increment),
            low=from_float(float(candles.low[-1]), step),
            high=from_float(float(candles.high[-1]), step),
        )


def import_file(path: Path) -> CandleSeries:
    """Read one recording into the candle store and return its series. Importing it again replaces it.

    Raises InvalidInput: the name or a line of the file is not what it should be.
    """
    name = FILE_NAME.match(path.name)
    if name is None:
        raise InvalidInput("bad_file_name", f"{path.name} is not named PRODUCT_TIMEFRAME_PERIOD.csv.gz", field="path")
    timeframe = Timeframe.parse(name["timeframe"])
    with _opened(path) as lines:
        reader = csv.reader(lines)
        if [column.strip().lower() for column in next(reader, [])] != COLUMNS:
            raise InvalidInput("bad_file", f"{path.name} does not have the columns {', '.join(COLUMNS)}", field="path")
        try:
            candles = from_rows([(int(row[0]), *map(float, row[1:6])) for row in reader if row])
        except (ValueError, IndexError, TypeError) as error:
            raise InvalidInput("bad_file", f"{path.name}: {error}", field="path") from error
    return import_candles(name["symbol"], timeframe, candles)


def import_candles(symbol: str, timeframe: Timeframe, candles: Candles) -> CandleSeries:
    """Make ``symbol`` a product of the replay market with these candles. Raises InvalidInput for an empty series.

    Recordings carry no terms: prices step by 1e-8 of a coin or by the decimals the recording shows, sizes by about a
    hundredth of the smallest order. Terms of a product that exists already stay.
    """
    if not len(candles):
        raise InvalidInput("empty_recording", f"The recording of {symbol} has no candles.")
    parts = symbol.split("-")
    base, quote = parts[0], parts[1]
    coin_minimum = COINS_AS_QUOTE.get(quote)
    min_quote = Decimal(coin_minimum or "1")
    places = FINEST_PLACES if coin_minimum else _decimals(candles)
    base_increment = _base_increment(float(np.median(candles.close)), min_quote)
    product, _ = Product.objects.get_or_create(
        exchange=REPLAY,
        symbol=symbol,
        defaults={
            "base": base,
            "quote": quote,
            "price_increment": Decimal(1).scaleb(-places),
            "base_increment": base_increment,
            "quote_increment": Decimal("0.00000001") if coin_minimum else Decimal("0.01"),
            "min_base": base_increment,
            "min_quote": min_quote,
            "kind": Product.Kind.PERPETUAL if parts[2:] == ["PERP"] else Product.Kind.SPOT,
        },
    )
    # Recordings carry the noise of float arithmetic (5.330000000000001e-05); prices are multiples of the increment.
    tidy = -int(product.price_increment.normalize().as_tuple().exponent)
    return store.replace(
        product,
        timeframe,
        Candles(
            time=candles.time,
            open=np.round(candles.open, tidy),
            high=np.round(candles.high, tidy),
            low=np.round(candles.low, tidy),
            close=np.round(candles.close, tidy),
            volume=candles.volume,
            synthetic=candles.synthetic,
        ),
    )


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            yield lines
    else:
        with path.open(encoding="utf-8", newline="") as lines:
            yield lines


def _decimals(candles: Candles) -> int:
    """Return how many decimals the prices use, float noise aside."""
    prices: FloatArray = np.concatenate([candles.open, candles.high, candles.low, candles.close])
    for places in range(2, FINEST_PLACES):
        if np.allclose(np.round(prices, places), prices, rtol=1e-9, atol=0.0):
            return places
    return FINEST_PLACES


def _base_increment(price: float, min_quote: Decimal) -> Decimal:
    """Return a power of ten worth at most a hundredth of the smallest order, between 1e-8 and 1."""
    power = math.floor(math.log10(float(min_quote) / 100 / price))
    return Decimal(1).scaleb(max(-8, min(0, power)))
