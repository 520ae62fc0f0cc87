"""Coinbase's public market data over REST. Needs no key and never uses one.

Reads are repeated after 429, 5xx, time-outs and cut connections, with back-off; an answer that is not complete and
well-formed counts as no answer (``VenueUnavailable``). Fields we do not know are ignored. All requests of this host
draw from one allowance, see :mod:`marketdata.sources.limiter`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote as quoted

import requests
import stamina
import structlog
from requests.adapters import HTTPAdapter

from marketdata.series import Candles, from_rows
from marketdata.sources.base import Book, BookLevel, MarketSource, ProductInfo, Quote
from marketdata.sources.limiter import AddressLimiter
from marketdata.timeframes import Timeframe
from tradebot.core import clock
from tradebot.core.decimals import dec
from tradebot.core.errors import InvalidInput, NotFound, TradebotError, VenueUnavailable

__all__ = ["CoinbaseSource"]

log = structlog.get_logger(__name__)

CANDLES_PER_REQUEST: Final = 300
REQUESTS_PER_SECOND: Final = 10
PARALLEL_TICKERS: Final = 4
PRODUCTS_PER_REQUEST: Final = 100
LONGEST_RETRY_AFTER_SECONDS: Final = 10.0
IMPATIENT_TIMEOUT: Final = (3.05, 5.0)
MARKET_PATH: Final = "/api/v3/brokerage/market"

GRANULARITY: Final = {
    Timeframe("1m"): "ONE_MINUTE",
    Timeframe("5m"): "FIVE_MINUTE",
    Timeframe("15m"): "FIFTEEN_MINUTE",
    Timeframe("30m"): "THIRTY_MINUTE",
    Timeframe("1h"): "ONE_HOUR",
    Timeframe("2h"): "TWO_HOUR",
    Timeframe("6h"): "SIX_HOUR",
    Timeframe("1d"): "ONE_DAY",
}


class _TryAgain(Exception):
    """A failure that may pass; ``after_seconds`` is the venue's own wish, if it stated one."""

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


def _when_to_retry(error: Exception) -> bool | float:
    if not isinstance(error, _TryAgain):
        return False
    if error.after_seconds is None:
        return True
    return error.after_seconds if error.after_seconds <= LONGEST_RETRY_AFTER_SECONDS else False


class CoinbaseSource(MarketSource):
    """Public data of Coinbase Advanced Trade (spot)."""

    slug = "coinbase"
    native_timeframes = tuple(GRANULARITY)

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout: float = 3.05,
        read_timeout: float = 10.0,
        attempts: int = 4,
        per_second: int = REQUESTS_PER_SECOND,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = (connect_timeout, read_timeout)
        self.attempts = attempts
        self.limiter = AddressLimiter(self.base_url, per_second)
        self._session: requests.Session | None = None
        self._session_lock = threading.Lock()

    def reachable(self, timeout_seconds: float = 2.0) -> bool:
        """Return whether the venue answers at all within ``timeout_seconds``. Asks once."""
        try:
            answer = self._http().get(f"{self.base_url}/api/v3/brokerage/time", timeout=timeout_seconds)
        except requests.RequestException:
            return False
        return answer.ok

    def products(self) -> list[ProductInfo]:
        """See :meth:`MarketSource.products`. A product whose terms cannot be read is left out and logged."""
        found: list[ProductInfo] = []
        for row in self._product_rows({"product_type": "SPOT"}):
            try:
                found.append(_product(row))
            except (KeyError, TypeError, ValueError) as error:
                log.warning("coinbase.product_skipped", product=str(row.get("product_id")), error=str(error))
        return found

    def candles(self, symbol: str, timeframe: Timeframe, start: int, end: int) -> Candles:
        """See :meth:`MarketSource.candles`. Long ranges are asked for in pages of 300."""
        granularity = GRANULARITY[timeframe]
        seconds = timeframe.seconds
        end = min(end, int(clock.now().timestamp()) - seconds + 1)
        first = timeframe.open_time(start + seconds - 1)
        rows: list[tuple[float, ...]] = []
        while first < end:
            # Both ends are inclusive on the wire.
            last = min(first + (CANDLES_PER_REQUEST - 1) * seconds, end - 1)
            answer = self._get(
                f"{MARKET_PATH}/products/{quoted(symbol, safe='')}/candles",
                {"granularity": granularity, "start": str(first), "end": str(last)},
            )
            page = [_candle(row) for row in _rows(answer, "candles")]
            rows += [row for row in page if first <= row[0] <= last]
            first += CANDLES_PER_REQUEST * seconds
        try:
            # The venue answers newest first (F41).
            series = from_rows(rows)
        except InvalidInput as error:
            raise _malformed("candles") from error
        if any(timeframe.open_time(time) != time for time in series.time.tolist()):
            raise _malformed("candles")
        return series

    def tickers(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """See :meth:`MarketSource.tickers`. Raises VenueUnavailable when not one of the symbols could be read."""
        wanted = list(dict.fromkeys(symbols))
        if not wanted:
            return {}
        figures = self._day_figures(wanted)
        # Read before asking, so that a quote is never taken for younger than it is (and the pool's threads do not see
        # a clock that was set).
        asked_at = clock.now()

        def one(symbol: str) -> Quote | TradebotError:
            try:
                return self._ticker(symbol, asked_at, figures.get(symbol, (None, None)))
            except TradebotError as error:
                log.warning("coinbase.ticker_failed", product=symbol, error=error.message)
                return error

        with ThreadPoolExecutor(max_workers=min(PARALLEL_TICKERS, len(wanted))) as pool:
            answers = dict(zip(wanted, pool.map(one, wanted), strict=True))
        quotes = {symbol: answer for symbol, answer in answers.items() if isinstance(answer, Quote)}
        outages = [answer for answer in answers.values() if isinstance(answer, VenueUnavailable)]
        if not quotes and outages:
            raise outages[0]
        return quotes

    def price_list(self) -> dict[str, Decimal]:
        """See :meth:`MarketSource.price_list`: the product list carries prices, so one request tells all of them.

        A person waits for this answer, so it is asked for once, and not for long. Products that are delisted or closed
        for good show their last price for ever; they have none here.
        """
        found: dict[str, Decimal] = {}
        for row in self._product_rows({"product_type": "SPOT"}, patient=False):
            if str(row.get("status", "")).lower() not in ("online", "") or row.get("is_disabled"):
                continue
            try:
                found[str(row["product_id"])] = _price(row, "price")
            except (KeyError, VenueUnavailable):  # no trade yet: unknown, not zero (F34)
                continue
        return found

    def book(self, symbol: str, depth: int = 50) -> Book:
        """See :meth:`MarketSource.book`."""
        answer = self._get(f"{MARKET_PATH}/product_book", {"product_id": symbol, "limit": str(depth)})
        book = answer.get("pricebook")
        if not isinstance(book, dict):
            raise _malformed("pricebook")
        bids, asks = (_levels(book, side)[:depth] for side in ("bids", "asks"))
        return Book(
            symbol,
            tuple(sorted(bids, key=lambda level: -level.price)),
            tuple(sorted(asks, key=lambda level: level.price)),
            clock.now(),
        )

    def _ticker(self, symbol: str, asked_at: datetime, figures: tuple[float | None, float | None]) -> Quote:
        answer = self._get(f"{MARKET_PATH}/products/{quoted(symbol, safe='')}/ticker", {"limit": "1"})
        bid, ask = _price(answer, "best_bid"), _price(answer, "best_ask")
        trades = _rows(answer, "trades")
        last = _price(trades[0], "price") if trades else (bid + ask) / 2
        if ask < bid:
            raise _malformed("best_ask")
        return Quote(symbol, bid, ask, last, asked_at, *figures)

    def _day_figures(self, symbols: list[str]) -> dict[str, tuple[float | None, float | None]]:
        """Volume and change of the last 24 hours. They are extras: without them a quote is still a quote."""
        found = {}
        try:
            for at in range(0, len(symbols), PRODUCTS_PER_REQUEST):
                page = symbols[at : at + PRODUCTS_PER_REQUEST]
                for row in self._product_rows({"product_ids": page, "product_type": "SPOT"}):
                    found[str(row.get("product_id"))] = (
                        _figure(row.get("volume_24h")),
                        _figure(row.get("price_percentage_change_24h")),
                    )
        except VenueUnavailable as error:
            log.warning("coinbase.day_figures_failed", error=error.message)
        return found

    def _product_rows(self, parameters: Mapping[str, Any], *, patient: bool = True) -> list[dict[str, Any]]:
        """Every page of the product list; a page that fails fails the whole (F66)."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        while True:
            paged = {**parameters, **({"cursor": cursor} if cursor else {})}
            answer = self._get(f"{MARKET_PATH}/products", paged, patient=patient)
            rows += _rows(answer, "products")
            paging = answer.get("pagination")
            if not isinstance(paging, dict) or not paging.get("has_next"):
                return rows
            next_cursor = str(paging.get("next_cursor") or "")
            if not next_cursor or next_cursor == cursor:
                raise _malformed("pagination")
            cursor = next_cursor

    def _http(self) -> requests.Session:
        with self._session_lock:
            if self._session is None:
                self._session = requests.Session()
                self._session.headers.update({"Accept": "application/json", "User-Agent": "tradebot"})
                adapter = HTTPAdapter(pool_connections=2, pool_maxsize=16)
                self._session.mount("https://", adapter)
                self._session.mount("http://", adapter)
            return self._session

    def _get(self, path: str, parameters: Mapping[str, Any], *, patient: bool = True) -> dict[str, Any]:
        """Ask until there is an answer; with ``patient=False`` once, and not for long."""
        try:
            if not patient:
                return self._get_once(path, parameters, IMPATIENT_TIMEOUT)
            for attempt in stamina.retry_context(
                on=_when_to_retry, attempts=self.attempts, timeout=45.0, wait_initial=0.5, wait_max=8.0
            ):
                with attempt:
                    return self._get_once(path, parameters, self.timeout)
        except _TryAgain as error:
            raise VenueUnavailable("unavailable", f"Coinbase did not answer: {error}", path=path) from error
        raise AssertionError("unreachable")

    def _get_once(self, path: str, parameters: Mapping[str, Any], timeout: tuple[float, float]) -> dict[str, Any]:
        self.limiter.acquire()
        try:
            answer = self._http().get(self.base_url + path, params=parameters, timeout=timeout)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _TryAgain(type(error).__name__) from error
        except requests.RequestException as error:
            raise VenueUnavailable("unavailable", f"Coinbase could not be asked: {error}", path=path) from error
        if answer.status_code == 429:
            after = _retry_after(answer)
            self.limiter.pause(min(after or 0.0, 300.0) if after and after > LONGEST_RETRY_AFTER_SECONDS else 0.0)
            raise _TryAgain("too many requests", after)
        if answer.status_code >= 500:
            raise _TryAgain(f"status {answer.status_code}")
        if answer.status_code == 404:
            raise NotFound("unknown_product", "Coinbase does not know this product.", path=path)
        if answer.status_code != 200:
            raise VenueUnavailable("unavailable", f"Coinbase answered {answer.status_code}.", path=path)
        try:
            body = answer.json()
        except ValueError as error:
            raise _TryAgain("the answer is not JSON") from error
        if not isinstance(body, dict):
            raise _malformed("body")
        return body


def _malformed(what: str) -> VenueUnavailable:
    return VenueUnavailable("malformed_answer", f"Coinbase sent an answer we cannot read ({what}).", what=what)


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds the venue asks us to wait; None when it does not say so in seconds."""
    try:
        seconds = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _rows(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    rows = answer.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _malformed(name)
    return rows


def _price(row: Mapping[str, Any], name: str) -> Decimal:
    """A price above zero: an empty field is an unknown price, not a price of zero (F34)."""
    try:
        price = dec(str(row[name]))
    except (KeyError, ValueError) as error:
        raise _malformed(name) from error
    if price <= 0:
        raise _malformed(name)
    return price


def _figure(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _levels(book: Mapping[str, Any], side: str) -> list[BookLevel]:
    return [BookLevel(_price(row, "price"), _price(row, "size")) for row in _rows(book, side)]


def _candle(row: Mapping[str, Any]) -> tuple[float, ...]:
    try:
        return (int(row["start"]), *(float(row[name]) for name in ("open", "high", "low", "close", "volume")))
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed("candles") from error


def _product(row: Mapping[str, Any]) -> ProductInfo:
    """Raises KeyError or ValueError when a term is missing or not a number."""
    closed = any(row.get(flag) for flag in ("is_disabled", "trading_disabled", "view_only", "cancel_only"))
    online = str(row.get("status", "")).lower() in ("online", "") and not closed
    quote_increment = dec(row["quote_increment"])
    return ProductInfo(
        symbol=str(row["product_id"]),
        base=str(row["base_currency_id"]),
        quote=str(row["quote_currency_id"]),
        price_increment=dec(row.get("price_increment") or row["quote_increment"]),
        base_increment=dec(row["base_increment"]),
        quote_increment=quote_increment,
        min_base=dec(row["base_min_size"]),
        min_quote=dec(row["quote_min_size"]),
        status="online" if online else "offline",
        volume_24h=_figure(row.get("volume_24h")),
        price_change_24h=_figure(row.get("price_percentage_change_24h")),
    )
