"""Public market data of any exchange that ccxt speaks: keyless, complete or not at all, oldest first.

One client per process and address. What ccxt knows of an exchange's products (:meth:`ExchangeSource.markets`) is also
what the clients of accounts put orders by, so it is asked for once for all of them and renewed every hour.
"""

from __future__ import annotations

import decimal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeVar

import stamina
import structlog

from marketdata.series import Candles, from_rows
from marketdata.sources.base import PERPETUAL, Book, BookLevel, MarketSource, ProductInfo, Quote
from marketdata.sources.limiter import AddressLimiter
from marketdata.timeframes import Timeframe
from marketdata.wire.client import NoAnswer, Wrong, client_of, exchanging
from marketdata.wire.failures import Act, translated
from marketdata.wire.venues import VenueInfo
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.errors import InvalidInput, NotFound, VenueRejected, VenueThrottled, VenueUnavailable

__all__ = ["ExchangeSource", "pair_of", "symbol_of"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

MARKETS_KEPT_SECONDS: Final = 3600
TICKERS_PER_REQUEST: Final = 100
LONGEST_RETRY_AFTER_SECONDS: Final = 10.0
SMALLEST_QUOTE_STEP: Final = Decimal("0.00000001")
LEAST_MAINTENANCE_PCT: Final = Decimal(2)
MINUTES_AN_HOUR: Final = 60


def pair_of(symbol: str) -> str:
    """Return ccxt's word for one of our products.

    >>> pair_of("BTC-USDT"), pair_of("BTC-USDT-PERP")
    ('BTC/USDT', 'BTC/USDT:USDT')
    """
    pair = symbol.removesuffix(PERPETUAL).replace("-", "/")
    return f"{pair}:{pair.partition('/')[2]}" if symbol.endswith(PERPETUAL) else pair


def symbol_of(pair: str) -> str:
    """Return our word for one of ccxt's pairs, spot or a perpetual settled in its quote currency.

    >>> symbol_of("BTC/USDT"), symbol_of("BTC/USDT:USDT")
    ('BTC-USDT', 'BTC-USDT-PERP')
    """
    spot, _, settled = pair.partition(":")
    return spot.replace("/", "-") + (PERPETUAL if settled else "")


def _may_pass(error: Exception) -> bool | float:
    if isinstance(error, VenueThrottled):
        after = error.retry_after or 0.0
        return after if 0 < after <= LONGEST_RETRY_AFTER_SECONDS else False
    return isinstance(error, VenueUnavailable)


class ExchangeSource(MarketSource):
    """See the module."""

    def __init__(self, info: VenueInfo, base_url: str, *, read_seconds: float = 10.0, attempts: int = 3) -> None:
        self.info, self.slug = info, info.slug
        self.base_url, self.read_seconds, self.attempts = base_url.rstrip("/"), read_seconds, attempts
        self.limiter = AddressLimiter(self.base_url, info.allowance.public)
        self._lock = threading.Lock()
        self._client: Any = None
        self._markets_at = 0.0
        self.native_timeframes: Sequence[Timeframe] = info.timeframes

    # The contract -----------------------------------------------------------------------------------------------------

    def products(self) -> list[ProductInfo]:
        """See :meth:`MarketSource.products`. A product whose terms cannot be read is left out and logged."""
        found: list[ProductInfo] = []
        for market in self._ready(fresh=True).markets.values():
            try:
                found.append(_perpetual(market) if market.get("swap") else _product(market))
            except (KeyError, TypeError, ValueError, decimal.DecimalException) as error:
                name = str(market.get("symbol"))
                log.warning("exchange.product_skipped", venue=self.slug, product=name, error=str(error))
        if not found:
            raise VenueUnavailable("malformed_answer", f"{self.info.name} listed no product.")
        return found

    def candles(self, symbol: str, timeframe: Timeframe, start: int, end: int) -> Candles:
        """See :meth:`MarketSource.candles`. Long ranges are asked for in pages of what the venue gives at most."""
        pair, seconds, most = self._pair(symbol), timeframe.seconds, self.info.candles_per_request
        end = min(end, int(clock.now().timestamp()) - seconds + 1)
        first = timeframe.open_time(start + seconds - 1)
        rows: dict[int, tuple[float, ...]] = {}
        while first < end:
            wanted = min(most, (end - first + seconds - 1) // seconds)
            until = {"until": (first + wanted * seconds) * 1000 - 1}
            asked = (pair, str(timeframe), first * 1000, wanted, until)
            for row in self._ask(partial(_candles, asked)):
                opening = _opening(row)
                if first <= opening < end:
                    rows[opening] = (opening, *(_figure(value) for value in row[1:6]))
            first += wanted * seconds
        try:
            series = from_rows(list(rows.values()))
        except InvalidInput as error:
            raise self._malformed("candles") from error
        if any(timeframe.open_time(opening) != opening for opening in rows):
            raise self._malformed("candles")
        return series

    def tickers(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """See :meth:`MarketSource.tickers`: one request for up to a hundred of a kind."""
        known = self._ready().markets
        pairs = [pair for pair in dict.fromkeys(pair_of(symbol) for symbol in symbols) if pair in known]
        found: dict[str, Quote] = {}
        for kind in ("spot", "swap"):  # a request is about one of them
            same = [pair for pair in pairs if known[pair].get(kind)]
            for start in range(0, len(same), TICKERS_PER_REQUEST):
                some = same[start : start + TICKERS_PER_REQUEST]
                now = clock.now()
                answer = self._ask(partial(_tickers, some))
                for pair, row in answer.items():
                    quote = _quote(symbol_of(pair), row, now) if pair in some else None
                    if quote is not None:
                        found[quote.symbol] = quote
        return found

    def price_list(self) -> dict[str, Decimal]:
        """See :meth:`MarketSource.price_list`: one request, about spot: nothing is valued by the price of a promise."""
        known = self._ready().markets
        answer = self._ask(lambda client: client.fetch_tickers(None, {"type": "spot"}))
        prices = {symbol_of(pair): _positive(row.get("last")) for pair, row in answer.items() if pair in known}
        return {symbol: price for symbol, price in prices.items() if price is not None}

    def book(self, symbol: str, depth: int = 50) -> Book:
        """See :meth:`MarketSource.book`."""
        pair, now = self._pair(symbol), clock.now()
        limit = min((size for size in self.info.book_sizes if size >= depth), default=max(self.info.book_sizes))
        answer = self._ask(lambda client: client.fetch_order_book(pair, limit))
        bids, asks = self._levels(answer, "bids"), self._levels(answer, "asks")
        bids.sort(key=lambda level: level.price, reverse=True)
        asks.sort(key=lambda level: level.price)
        return Book(symbol, tuple(bids[:depth]), tuple(asks[:depth]), now)

    def funding_rate(self, symbol: str, at: datetime) -> Decimal:
        """See :meth:`MarketSource.funding_rate`: what the venue's history says of that moment."""
        pair, millis = self._pair(symbol), int(at.timestamp() * 1000)
        answer = self._ask(lambda client: client.fetch_funding_rate_history(pair, millis, 1, {"until": millis}))
        for row in answer:
            rate = row.get("fundingRate")
            if row.get("timestamp") == millis and isinstance(rate, Decimal) and rate.is_finite():
                return rate
        raise VenueUnavailable(
            "funding_unknown", f"{self.info.name} has not told the funding of {symbol} at that time."
        )

    def reachable(self, timeout_seconds: float = 2.0) -> bool:
        """Return whether the venue answers at all. Asks once."""
        client = self._made(timeout_seconds)
        try:
            with exchanging(), decimal.localcontext():
                client.fetch_time()
        except Exception as error:
            if not _is_wires(error):
                raise
            return False
        return True

    # For the clients of accounts --------------------------------------------------------------------------------------

    def markets(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return ccxt's markets and currencies, an hour old at most. Raises VenueUnavailable."""
        client = self._ready()
        return client.markets, client.currencies

    # Inside -----------------------------------------------------------------------------------------------------------

    def _made(self, read_seconds: float) -> Any:
        return client_of(
            self.slug,
            self.base_url,
            default_url=self.info.url,
            read_seconds=read_seconds,
            options=self.info.options,
        )

    def _ready(self, *, fresh: bool = False) -> Any:
        """Return the client with markets loaded, no older than an hour, or now if ``fresh``."""
        with self._lock:
            if self._client is None:
                self._client = self._made(self.read_seconds)
            client = self._client
            age = time.monotonic() - self._markets_at
            if client.markets is None or age > MARKETS_KEPT_SECONDS or (fresh and age > 1):
                # A client's markets are replaced in one step, and only when all of them are there (F66).
                listed = self._ask(lambda client: client.fetch_markets(), client)
                found = [market for market in listed if _is_ours(market, self.info)]
                if not found:
                    raise self._malformed("markets")
                client.set_markets(found)
                self._markets_at = time.monotonic()
            return client

    def _pair(self, symbol: str) -> str:
        pair = pair_of(symbol)
        if pair not in self._ready().markets:
            raise NotFound("unknown_product", f"{self.info.name} does not list {symbol}.", symbol=symbol)
        return pair

    def _ask(self, ask: Callable[[Any], T], client: Any = None) -> T:
        """Return what ``ask(client)`` returns; repeated after failures that may pass."""
        used = client if client is not None else self._ready()
        for attempt in stamina.retry_context(
            on=_may_pass, attempts=self.attempts, timeout=30.0, wait_initial=0.2, wait_max=4.0
        ):
            with attempt:
                return self._once(ask, used)
        raise AssertionError("unreachable")

    def _once(self, ask: Callable[[Any], T], client: Any) -> T:
        self.limiter.acquire()
        with exchanging() as wire, decimal.localcontext():  # ccxt changes the context that it computes in
            try:
                return ask(client)
            except Exception as error:
                if not wire.requests and not _is_wires(error):
                    raise
                failure = translated(error, wire, Act.READ, self.info.name)
        if isinstance(failure, VenueThrottled):
            self.limiter.pause(failure.retry_after or 0.0)
        if isinstance(failure, VenueRejected):
            # A no to a public question: either there is no such thing, or we asked wrongly.
            if failure.code == "unknown_product":
                raise NotFound("unknown_product", failure.message)
            raise VenueUnavailable(failure.code, failure.message, **failure.detail)
        raise failure

    def _malformed(self, what: str) -> VenueUnavailable:
        return VenueUnavailable(
            "malformed_answer", f"{self.info.name} sent an answer we cannot read ({what}).", what=what
        )

    def _levels(self, answer: Mapping[str, Any], side: str) -> list[BookLevel]:
        levels = []
        for row in answer.get(side) or []:
            price, size = _positive(row[0]), _positive(row[1])
            if price is None or size is None:
                raise self._malformed(side)
            levels.append(BookLevel(price, size))
        return levels


def _candles(asked: tuple[Any, ...], client: Any) -> Any:
    return client.fetch_ohlcv(*asked)


def _tickers(pairs: list[str], client: Any) -> Any:
    return client.fetch_tickers(pairs)


def _is_wires(error: Exception) -> bool:
    return isinstance(error, NoAnswer | Wrong) or any(base.__name__ == "BaseError" for base in type(error).__mro__)


def _positive(value: Any) -> Decimal | None:
    """A price above zero; anything else is unknown, not zero (F34)."""
    return value if isinstance(value, Decimal) and value.is_finite() and value > ZERO else None


def _figure(value: Any) -> float:
    if not isinstance(value, Decimal | int | str):
        raise VenueUnavailable("malformed_answer", "The venue sent a candle we cannot read.")
    return float(value)


def _opening(row: Sequence[Any]) -> int:
    if len(row) < 6 or not isinstance(row[0], int):
        raise VenueUnavailable("malformed_answer", "The venue sent a candle we cannot read.")
    return row[0] // 1000


def _quote(symbol: str, row: Mapping[str, Any], now: datetime) -> Quote | None:
    bid, ask, last = (_positive(row.get(name)) for name in ("bid", "ask", "last"))
    if bid is None or ask is None or last is None:
        return None
    volume, change = row.get("baseVolume"), row.get("percentage")
    return Quote(
        symbol,
        bid,
        ask,
        last,
        now,
        float(volume) if isinstance(volume, Decimal) else None,
        float(change) if isinstance(change, Decimal) else None,
    )


def _product(market: Mapping[str, Any]) -> ProductInfo:
    """Raises KeyError, TypeError or ValueError when a term is missing or not a number."""
    precision, limits = market["precision"], market["limits"]
    price_step, base_step = precision["price"], precision["amount"]
    if not isinstance(price_step, Decimal) or not isinstance(base_step, Decimal):
        raise ValueError("its steps are not known")
    if any(mark in market[side] for side in ("base", "quote") for mark in ("-", "/", ":")):
        raise ValueError("its name cannot be told from a pair")
    return ProductInfo(
        symbol=f"{market['base']}-{market['quote']}",
        base=str(market["base"]),
        quote=str(market["quote"]),
        price_increment=price_step,
        base_increment=base_step,
        quote_increment=price_step,
        min_base=_least(limits, "amount"),
        min_quote=_least(limits, "cost"),
        status="online" if market.get("active") is not False else "offline",
    )


def _is_ours(market: Mapping[str, Any], info: VenueInfo) -> bool:
    """Return whether a market is one that we list: spot, or a perpetual in base settled in a currency named for it."""
    if not market.get("swap"):
        return bool(market.get("spot"))
    settled = market.get("settle")
    return bool(market.get("linear")) and settled == market.get("quote") and settled in info.perpetual_quotes


def _perpetual(market: Mapping[str, Any]) -> ProductInfo:
    """Raises what :func:`_product` raises.

    The lowest maintenance margin of a contract is half of the margin at its highest leverage; the venue's own word is
    told for fifteen contracts at a time. Where that is less than 2 %, it is taken as 2 %: a liquidation is planned too
    near rather than too far. Once a position is open, the venue says where it is liquidated.
    """
    leverage = market["limits"]["leverage"]["max"]
    if not isinstance(leverage, Decimal) or leverage < 1:
        raise ValueError("its leverage is not known")
    minutes = market["info"].get("fundingInterval")
    hours = int(minutes) // MINUTES_AN_HOUR if minutes is not None and int(minutes) % MINUTES_AN_HOUR == 0 else None
    return replace(
        _product(market),
        symbol=symbol_of(market["symbol"]),
        kind="perpetual",
        max_leverage=int(leverage),
        maintenance_pct=max(LEAST_MAINTENANCE_PCT, (HUNDRED / 2 / leverage).quantize(Decimal("0.0001"))),
        funding_hours=hours or None,
    )


def _least(limits: Mapping[str, Any], what: str) -> Decimal:
    least = (limits.get(what) or {}).get("min")
    return least if isinstance(least, Decimal) and least.is_finite() and least > ZERO else ZERO
