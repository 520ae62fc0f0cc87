"""A market that needs no network: prices are a pure function of (seed, symbol, time).

It is lively on purpose (a few per mille a minute around a slow trend), so that a first bot opens a deal and takes
profit while its owner is watching. It is *not* a model of any real market and every page says that it is simulated.

How a price comes about:

* Every coin has a dollar value whose logarithm is a sum of lattice noises: for each time scale, from one minute to two
  months, hashed values in [-1, 1] at the multiples of that scale, straight lines between. Each noise is bounded, so
  the price returns to its anchor; no step depends on an earlier one, so any minute costs the same.
* A product's price at a full minute is base value / quote value. Crosses therefore agree with each other.
* Inside a minute the price runs straight from the opening to one extreme, to the other, to the next minute's opening.
  Where the extremes lie is hashed as well. A candle is thus known without walking through its seconds, and every
  quote of a minute lies within that minute's candle.
* A perpetual costs what its coin does, plus a small premium that swings around zero; its funding is the mean premium
  of the hours before, within bounds, plus a little interest, as on real markets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marketdata.series import Candles, oldest_first
from marketdata.sources.base import Book, BookLevel, MarketSource, ProductInfo, Quote
from marketdata.timeframes import Timeframe, last_closed
from tradebot.core import clock
from tradebot.core.decimals import ceil_to, floor_to, from_float
from tradebot.core.errors import NotFound

__all__ = ["SimulatedSource"]

MINUTE: Final = 60
DAY_MINUTES: Final = 24 * 60
CHUNK_MINUTES: Final = 1 << 19

# Time scale in minutes and the size of its swing (log units, i.e. about a fraction of the price).
OCTAVES: Final = (
    (1, 0.0016),
    (4, 0.0050),
    (15, 0.0120),
    (55, 0.0180),
    (240, 0.0220),
    (1_440, 0.0350),
    (10_080, 0.0700),
    (86_400, 0.1800),
)
WICK: Final = 0.0012
FUNDING_HOURS: Final = 8
PERPETUAL_LEVERAGE: Final = 10
PERPETUAL_MAINTENANCE: Final = Decimal(2)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Coin:
    """``value`` is the anchor in dollars, ``swing`` scales every noise, ``turnover`` is dollars traded a minute."""

    value: float
    swing: float
    turnover: float


@dataclass(frozen=True, slots=True)
class _Listing:
    price_places: int
    base_places: int
    min_base: str
    min_quote: str
    spread: float
    is_perpetual: bool = False


COINS: Final = {
    "USD": _Coin(1.0, 0.0, 0.0),
    "USDC": _Coin(1.0, 0.002, 2_000_000.0),
    "BTC": _Coin(64_000.0, 0.7, 900_000.0),
    "ETH": _Coin(3_100.0, 0.9, 500_000.0),
    "SOL": _Coin(145.0, 1.2, 200_000.0),
    "ADA": _Coin(0.62, 1.3, 60_000.0),
    "LTC": _Coin(82.0, 1.0, 40_000.0),
    "XLM": _Coin(0.24, 1.3, 30_000.0),
    "LINK": _Coin(15.5, 1.2, 50_000.0),
}

LISTINGS: Final = {
    "BTC-USD": _Listing(2, 8, "0.00000001", "1", 0.0002),
    "ETH-USD": _Listing(2, 8, "0.00000001", "1", 0.0003),
    "SOL-USD": _Listing(2, 6, "0.000001", "1", 0.0004),
    "ADA-USD": _Listing(4, 4, "0.0001", "1", 0.0006),
    "LTC-USD": _Listing(2, 6, "0.000001", "1", 0.0006),
    "LINK-USD": _Listing(3, 4, "0.0001", "1", 0.0005),
    "BTC-USDC": _Listing(2, 8, "0.00000001", "1", 0.0002),
    "ETH-BTC": _Listing(6, 8, "0.00001", "0.00001", 0.0004),
    "LTC-BTC": _Listing(7, 6, "0.0001", "0.00001", 0.0008),
    "LINK-BTC": _Listing(8, 4, "0.01", "0.00001", 0.0008),
    "ADA-BTC": _Listing(8, 2, "0.01", "0.00001", 0.0010),
    "XLM-BTC": _Listing(8, 2, "0.01", "0.00001", 0.0010),
    "BTC-USD-PERP": _Listing(1, 4, "0.0001", "10", 0.0002, is_perpetual=True),
    "ETH-USD-PERP": _Listing(2, 3, "0.001", "10", 0.0003, is_perpetual=True),
}

# Perpetuals: time scale in minutes and size of the premium's swings; bounds of the funding rate and what it adds.
PREMIUM_OCTAVES: Final = ((30, 0.0002), (600, 0.0006))
FUNDING_MINUTES: Final = FUNDING_HOURS * 60
FUNDING_BOUND: Final = 0.0005
FUNDING_INTEREST: Final = 0.0001
FUNDING_STEP: Final = Decimal("0.000001")


def _pair(symbol: str) -> tuple[str, str]:
    """Return base and quote of a symbol; a perpetual's third part names no currency."""
    base, quote, *_ = symbol.split("-")
    return base, quote


def _key(seed: int, *words: str) -> np.uint64:
    digest = hashlib.blake2b("/".join((str(seed), *words)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _uniform(key: np.uint64, index: Ints) -> Floats:
    """Return hashed values in [0, 1), one for each index (splitmix64)."""
    z = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _lattice(key: np.uint64, first: int, count: int, scale: int) -> Floats:
    """Return the noise of one time scale at ``count`` minutes from ``first``, in [-1, 1]."""
    minutes = np.arange(first, first + count, dtype=np.int64)
    cell = minutes // scale
    base = first // scale
    knots = 2.0 * _uniform(key, np.arange(base, (first + count - 1) // scale + 2, dtype=np.int64)) - 1.0
    if scale == 1:
        return knots[:count]
    left, right = knots[cell - base], knots[cell - base + 1]
    return left + (right - left) * ((minutes - cell * scale) / scale)


@dataclass(frozen=True, slots=True)
class _Minutes:
    """Consecutive minutes of one product: arrays of equal length, prices rounded to the product's increment."""

    time: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class SimulatedSource(MarketSource):
    """The simulated market with the given seed. Same seed, same prices, in every process and at every restart."""

    slug = "simulated"
    native_timeframes = tuple(Timeframe)

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self._days: dict[str, tuple[int, float, float]] = {}

    def products(self) -> list[ProductInfo]:
        """Return the listed products with their 24 hour figures at the clock's moment."""
        found = []
        for symbol, listing in LISTINGS.items():
            base, quote = _pair(symbol)
            is_perpetual = listing.is_perpetual
            volume, change = self._day(symbol, clock.now())
            found.append(
                ProductInfo(
                    symbol=symbol,
                    base=base,
                    quote=quote,
                    price_increment=Decimal(1).scaleb(-listing.price_places),
                    base_increment=Decimal(1).scaleb(-listing.base_places),
                    quote_increment=Decimal("0.01") if quote.startswith("USD") else Decimal("0.00000001"),
                    min_base=Decimal(listing.min_base),
                    min_quote=Decimal(listing.min_quote),
                    volume_24h=volume,
                    price_change_24h=change,
                    kind="perpetual" if is_perpetual else "spot",
                    max_leverage=PERPETUAL_LEVERAGE if is_perpetual else None,
                    maintenance_pct=PERPETUAL_MAINTENANCE if is_perpetual else None,
                    funding_hours=FUNDING_HOURS if is_perpetual else None,
                )
            )
        return found

    def candles(self, symbol: str, timeframe: Timeframe, start: int, end: int) -> Candles:
        """See :meth:`MarketSource.candles`. Any past period can be asked for; no candle is ever missing."""
        self._listing(symbol)
        seconds = timeframe.seconds
        first = timeframe.open_time(start + seconds - 1)
        last = min(timeframe.open_time(end - 1), last_closed(clock.now().timestamp(), timeframe))
        per_candle = seconds // MINUTE
        per_chunk = max(1, CHUNK_MINUTES // per_candle)
        parts: list[tuple[Ints | Floats, ...]] = []
        at = first
        while at <= last:
            count = min(per_chunk, (last - at) // seconds + 1)
            m = self._minutes(symbol, at // MINUTE, count * per_candle)
            shape = (count, per_candle)
            parts.append(
                (
                    m.time[::per_candle],
                    m.open[::per_candle],
                    m.high.reshape(shape).max(axis=1),
                    m.low.reshape(shape).min(axis=1),
                    m.close[per_candle - 1 :: per_candle],
                    m.volume.reshape(shape).sum(axis=1),
                )
            )
            at += count * seconds
        if not parts:
            return Candles.empty()
        return oldest_first(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def tickers(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """Return quotes at the clock's moment; unlisted symbols are absent."""
        now = clock.now()
        return {symbol: self.quote(symbol, now) for symbol in symbols if symbol in LISTINGS}

    def price_list(self) -> dict[str, Decimal]:
        """See :meth:`MarketSource.price_list`: worked out, without the figures of the day that quotes carry."""
        now = clock.now()
        return {symbol: self._rounded(symbol, self._price(symbol, now.timestamp())) for symbol in LISTINGS}

    def quote(self, symbol: str, at: datetime) -> Quote:
        """Return the quote of ``symbol`` at the moment ``at``. Raises NotFound for an unlisted symbol."""
        listing = self._listing(symbol)
        price = self._price(symbol, at.timestamp())
        increment = Decimal(1).scaleb(-listing.price_places)
        last = self._rounded(symbol, price)
        bid = floor_to(Decimal(repr(price * (1 - listing.spread / 2))), increment)
        ask = ceil_to(Decimal(repr(price * (1 + listing.spread / 2))), increment)
        volume, change = self._day(symbol, at)
        return Quote(symbol, bid, max(ask, bid + increment), last, at.astimezone(UTC), volume, change)

    def _rounded(self, symbol: str, price: float) -> Decimal:
        places = LISTINGS[symbol].price_places
        return from_float(float(np.round(price, places)), Decimal(1).scaleb(-places))

    def book(self, symbol: str, depth: int = 50) -> Book:
        """Return a book around the present quote: levels thicken with their distance, sizes follow the turnover."""
        listing = self._listing(symbol)
        now = clock.now()
        quote = self.quote(symbol, now)
        base, _ = _pair(symbol)
        increment = Decimal(1).scaleb(-listing.price_places)
        step = max(increment, floor_to(quote.last * Decimal("0.0001"), increment))
        size_step = Decimal(1).scaleb(-listing.base_places)
        levels = np.arange(depth, dtype=np.int64)
        seconds = np.int64(now.timestamp())

        def side(name: str, best: Decimal, sign: int) -> tuple[BookLevel, ...]:
            noise = _uniform(_key(self.seed, symbol, name, str(seconds // 5)), levels)
            typical = COINS[base].turnover / 60 / (float(quote.last) * self._quote_value(symbol, now))
            sizes = typical * (0.4 + 1.2 * noise) * (1.0 + 0.25 * levels)
            rows = (
                BookLevel(best + sign * step * int(n), max(size_step, from_float(float(sizes[n]), size_step)))
                for n in levels
            )
            return tuple(row for row in rows if row.price > 0)

        return Book(symbol, side("bid", quote.bid, -1), side("ask", quote.ask, 1), quote.at)

    def funding_rate(self, symbol: str, at: datetime) -> Decimal:
        """See :meth:`MarketSource.funding_rate`. Any moment, always the same for it."""
        if not self._listing(symbol).is_perpetual:
            return Decimal(0)
        premium = float(self._premium(symbol, int(at.timestamp()) // MINUTE - FUNDING_MINUTES, FUNDING_MINUTES).mean())
        rate = min(max(premium, -FUNDING_BOUND), FUNDING_BOUND) + FUNDING_INTEREST
        return from_float(rate, FUNDING_STEP)

    def _listing(self, symbol: str) -> _Listing:
        try:
            return LISTINGS[symbol]
        except KeyError:
            raise NotFound("unknown_product", f"The simulated market does not list {symbol}.") from None

    def _coin_log(self, coin: str, first: int, count: int) -> Floats:
        spec = COINS[coin]
        total = np.full(count, np.log(spec.value))
        if spec.swing:
            for scale, size in OCTAVES:
                total += size * spec.swing * _lattice(_key(self.seed, coin, str(scale)), first, count, scale)
        return total

    def _minute_prices(self, symbol: str, first: int, count: int) -> Floats:
        """Unrounded price at full minutes."""
        base, quote = _pair(symbol)
        logs = self._coin_log(base, first, count) - self._coin_log(quote, first, count)
        if LISTINGS[symbol].is_perpetual:
            logs += self._premium(symbol, first, count)
        prices: Floats = np.exp(logs)
        return prices

    def _premium(self, symbol: str, first: int, count: int) -> Floats:
        """How far a perpetual stands above its coin at full minutes, in log units."""
        total = np.zeros(count)
        for scale, size in PREMIUM_OCTAVES:
            total += size * _lattice(_key(self.seed, symbol, "premium", str(scale)), first, count, scale)
        return total

    def _minutes(self, symbol: str, first: int, count: int) -> _Minutes:
        opens, closes, highs, lows = self._paths(symbol, first, count)
        minutes = np.arange(first, first + count, dtype=np.int64)
        places = LISTINGS[symbol].price_places
        base, quote = _pair(symbol)
        liveliness = 0.3 + 1.4 * _uniform(_key(self.seed, symbol, "volume"), minutes)
        liveliness *= 1.0 + 250.0 * np.abs(closes / opens - 1.0)
        dollars = COINS[base].turnover * (0.25 if quote not in ("USD", "USDC") else 1.0)
        volume = np.round(dollars / COINS[base].value * liveliness, 8)
        rounded = (np.round(a, places) for a in (opens, highs, lows, closes))
        open_, high, low, close = rounded
        return _Minutes(minutes * MINUTE, open_, high, low, close, volume)

    def _paths(self, symbol: str, first: int, count: int) -> tuple[Floats, Floats, Floats, Floats]:
        """Return opens, closes, highs and lows of the minutes, unrounded."""
        prices = self._minute_prices(symbol, first, count + 1)
        opens, closes = prices[:-1], prices[1:]
        minutes = np.arange(first, first + count, dtype=np.int64)
        swing = COINS[symbol.split("-")[0]].swing
        up = 1.0 + WICK * swing * _uniform(_key(self.seed, symbol, "up"), minutes)
        down = 1.0 - WICK * swing * _uniform(_key(self.seed, symbol, "down"), minutes)
        return opens, closes, np.maximum(opens, closes) * up, np.minimum(opens, closes) * down

    def _price(self, symbol: str, moment: float) -> float:
        """Unrounded price at ``moment`` (Unix seconds)."""
        minute = int(moment // MINUTE)
        opens, closes, highs, lows = (float(a[0]) for a in self._paths(symbol, minute, 1))
        index = np.array([minute], dtype=np.int64)
        turn = float(_uniform(_key(self.seed, symbol, "turn"), index)[0])
        low_first = float(_uniform(_key(self.seed, symbol, "order"), index)[0]) < 0.5
        earlier, later = (lows, highs) if low_first else (highs, lows)
        first_at = 0.1 + 0.4 * turn
        path = np.interp(
            moment / MINUTE - minute, [0.0, first_at, first_at + 0.4, 1.0], [opens, earlier, later, closes]
        )
        return min(max(float(path), lows), highs)

    def _quote_value(self, symbol: str, at: datetime) -> float:
        """Dollars one unit of the quote currency is worth."""
        return float(np.exp(self._coin_log(symbol.split("-")[1], int(at.timestamp()) // MINUTE, 1))[0])

    def _day(self, symbol: str, at: datetime) -> tuple[float, float]:
        """Return base volume and change in percent of the last 24 closed hours of minutes."""
        minute = int(at.timestamp()) // MINUTE
        cached = self._days.get(symbol)
        if cached is None or cached[0] != minute:
            m = self._minutes(symbol, minute - DAY_MINUTES, DAY_MINUTES)
            cached = (minute, float(m.volume.sum()), float((m.close[-1] / m.open[0] - 1.0) * 100.0))
            self._days[symbol] = cached
        return cached[1], cached[2]
