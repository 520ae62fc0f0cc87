"""The loops that keep public market data fresh, and what they say about how a market is doing.

Each function isolates failures: one bad product is recorded and counted and does not stop the others (F67).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from marketdata import prices, sources
from marketdata.models import MarketStatus, Product
from marketdata.series import Candles
from marketdata.sources.base import ProductInfo
from marketdata.store import DEFAULT_COUNT, store
from marketdata.timeframes import Timeframe
from tradebot.core import clock
from tradebot.core.errors import MissingInformation, TradebotError, VenueError

__all__ = [
    "CandleRefresh",
    "MarketCondition",
    "MarketState",
    "chart_candles",
    "chart_timeframes",
    "market_now",
    "refresh_candles",
    "refresh_prices",
    "refresh_product_lists",
    "refresh_products",
    "status",
]

log = structlog.get_logger(__name__)

SMALLEST_BELIEVABLE_SHARE: Final = 0.5
"""A product list with less than this share of the known products is taken for half an answer: nothing is delisted."""
REST_AFTER_FAILURE: Final = timedelta(minutes=1)
"""How long a market that did not send its product list is left alone."""
TERMS: Final = [
    "base",
    "quote",
    "price_increment",
    "base_increment",
    "quote_increment",
    "min_base",
    "min_quote",
    "status",
    "kind",
    "volume_24h",
    "price_change_24h",
    "max_leverage",
    "maintenance_pct",
    "funding_hours",
    "refreshed_at",
]


class MarketCondition(StrEnum):
    """What a page has to say about a market's prices."""

    OK = "ok"
    STALE = "stale"
    UNKNOWN = "unknown"
    SIMULATED = "simulated"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class MarketState:
    """The condition of one market. ``since`` is the last moment its prices were good, if ever."""

    exchange: str
    condition: MarketCondition
    since: datetime | None
    message: str

    @property
    def is_live(self) -> bool:
        """Whether prices are real and fresh."""
        return self.condition is MarketCondition.OK


@dataclass(frozen=True, slots=True)
class CandleRefresh:
    """What a refresh of candles did: products and timeframes brought up to date, and those that failed, by symbol."""

    refreshed: int
    received: int
    failed: dict[str, str]


def refresh_products(exchange: str) -> int:
    """Bring the product list of ``exchange`` up to date and return how many products the market lists.

    Increments and minimums are the venue's own (F26). Products that disappeared become delisted, but never on the word
    of an empty list or of one that lost half of what was known (F66). Raises VenueUnavailable, MissingInformation.
    """
    if exchange == sources.REPLAY:
        return Product.objects.filter(exchange=exchange).count()
    try:
        listed = {info.symbol: info for info in sources.get(exchange).products()}
        if not listed:
            raise MissingInformation("empty_product_list", f"{exchange} sent an empty product list; nothing changes.")
        complete = _apply_products(exchange, listed)
    except TradebotError as error:
        _record_failure(exchange, MarketStatus.Feed.PRODUCTS, error.message)
        raise
    if complete:
        _record_success(exchange, MarketStatus.Feed.PRODUCTS)
    else:
        _record_failure(exchange, MarketStatus.Feed.PRODUCTS, "The product list lost more than half of its products.")
    return len(listed)


def refresh_product_lists(exchanges: Sequence[str], max_age: timedelta = timedelta(0)) -> None:
    """Refresh several markets' lists. One that fails is recorded with its market and does not stop the others (F67).

    A list that is younger than ``max_age`` stays, and a market that has just failed is left alone for a while. Raises
    the first failure when not one of them could be refreshed.
    """
    failed: list[TradebotError] = []
    now = clock.now()
    rested = Q(last_success_at__gt=now - max_age) | Q(last_error_at__gt=now - min(max_age, REST_AFTER_FAILURE))
    known = MarketStatus.objects.filter(rested, feed=MarketStatus.Feed.PRODUCTS, exchange__in=exchanges)
    known_now = set(known.values_list("exchange", flat=True))
    for exchange in exchanges:
        if exchange in known_now:
            continue
        try:
            refresh_products(exchange)
        except TradebotError as error:
            log.warning("products.refresh_failed", exchange=exchange, code=error.code, error=error.message)
            failed.append(error)
    if failed and len(failed) == len(exchanges):
        raise failed[0]


@transaction.atomic
def _apply_products(exchange: str, listed: Mapping[str, ProductInfo]) -> bool:
    """Write the list; return whether it was believed to be complete."""
    now = clock.now()
    known = set(
        Product.objects.filter(exchange=exchange)
        .exclude(status=Product.Status.DELISTED)
        .values_list("symbol", flat=True)
    )
    Product.objects.bulk_create(
        [
            Product(
                exchange=exchange,
                symbol=info.symbol,
                base=info.base,
                quote=info.quote,
                price_increment=info.price_increment,
                base_increment=info.base_increment,
                quote_increment=info.quote_increment,
                min_base=info.min_base,
                min_quote=info.min_quote,
                status=info.status,
                kind=info.kind,
                volume_24h=info.volume_24h,
                price_change_24h=info.price_change_24h,
                max_leverage=info.max_leverage,
                maintenance_pct=info.maintenance_pct,
                funding_hours=info.funding_hours,
                refreshed_at=now,
            )
            for info in listed.values()
        ],
        update_conflicts=True,
        unique_fields=["exchange", "symbol"],
        update_fields=TERMS,
        batch_size=500,
    )
    gone = known - listed.keys()
    if len(known) - len(gone) < SMALLEST_BELIEVABLE_SHARE * len(known):
        log.error("products.list_not_believed", exchange=exchange, known=len(known), listed=len(listed))
        return False
    if gone:
        Product.objects.filter(exchange=exchange, symbol__in=gone).update(
            status=Product.Status.DELISTED, refreshed_at=now
        )
        log.info("products.delisted", exchange=exchange, symbols=sorted(gone))
    return True


def refresh_prices(exchange: str, symbols: Iterable[str]) -> int:
    """Fetch the prices of ``symbols`` into the price cache and return how many were received.

    Only markets with a venue behind them have anything to fetch. A venue that does not answer is recorded, not
    raised: the cached prices grow old and count as unknown.
    """
    wanted = list(dict.fromkeys(symbols))
    if exchange not in sources.EXCHANGES or not wanted:
        return 0
    try:
        quotes = sources.get(exchange).tickers(wanted)
    except VenueError as error:
        _record_failure(exchange, MarketStatus.Feed.PRICES, error.message)
        return 0
    prices.remember(exchange, quotes.values())
    if quotes:
        _record_success(exchange, MarketStatus.Feed.PRICES)
    else:
        _record_failure(exchange, MarketStatus.Feed.PRICES, "No price was received.")
    return len(quotes)


def refresh_candles(exchange: str, wanted: Mapping[str, Mapping[str, int]]) -> CandleRefresh:
    """Fetch the missing candles of ``{symbol: {timeframe: number of closed candles}}``.

    A product that fails is recorded with its reason and skipped (F67); delisted products are not asked for (F66).
    """
    products = {
        row.symbol: row
        for row in Product.objects.filter(exchange=exchange, symbol__in=list(wanted)).exclude(
            status=Product.Status.DELISTED
        )
    }
    coverage = store.coverage([row.pk for row in products.values()])
    refreshed = received = 0
    failed: dict[str, str] = {}
    for symbol, timeframes in wanted.items():
        product = products.get(symbol)
        if product is None:
            failed[symbol] = "not listed"
            continue
        held = coverage.get(product.pk, {})
        try:
            for name, count in timeframes.items():
                received += store.ensure(product, Timeframe.parse(name), count, held=held)
                refreshed += 1
        except Exception as error:  # noqa: BLE001 (the loop's edge: one product must not stop the others)
            failed[symbol] = error.message if isinstance(error, TradebotError) else f"{type(error).__name__}: {error}"
            log.warning("candles.refresh_failed", exchange=exchange, product=symbol, error=failed[symbol])
    if refreshed:
        _record_success(exchange, MarketStatus.Feed.CANDLES)
    elif set(failed) & set(products):
        _record_failure(exchange, MarketStatus.Feed.CANDLES, next(failed[s] for s in failed if s in products))
    return CandleRefresh(refreshed, received, failed)


def market_now(product: Product) -> datetime:
    """Return the moment up to which the product's market is known: now, or the end of its recording."""
    if product.exchange != sources.REPLAY:
        return clock.now()
    held = store.coverage([product.pk]).get(product.pk, {})
    ends = [datetime.fromtimestamp(row.end, UTC) for row in held.values()]
    return min([clock.now(), *ends])


def chart_timeframes(product: Product, wanted: Iterable[Timeframe]) -> list[Timeframe]:
    """Return those timeframes that a chart of the product can show: a recording has none shorter than its own."""
    if product.exchange != sources.REPLAY:
        return list(wanted)
    held = store.coverage([product.pk]).get(product.pk, {})
    return [timeframe for timeframe in wanted if any(timeframe.is_built_from(own) for own in held)]


def chart_candles(
    product: Product, timeframe: Timeframe, count: int = DEFAULT_COUNT, until: datetime | None = None
) -> Candles:
    """Return the last ``count`` candles closed at ``until`` (default: now), fetching what is missing if possible."""
    try:
        store.ensure(product, timeframe, count, end=until)
    except TradebotError as error:
        log.info("candles.chart_from_store", product=product.symbol, error=error.message)
    return store.load([product.pk], timeframe, until, count)[product.pk]


def status(exchange: str) -> MarketState:
    """Return how ``exchange`` is doing, for the banner and the health page."""
    if exchange == sources.SIMULATED:
        return MarketState(exchange, MarketCondition.SIMULATED, None, "Prices are simulated, not real.")
    if exchange == sources.REPLAY:
        return MarketState(exchange, MarketCondition.REPLAY, None, "Prices are a recording.")
    row = MarketStatus.objects.filter(exchange=exchange, feed=MarketStatus.Feed.PRICES).first()
    if row is None:
        return MarketState(exchange, MarketCondition.UNKNOWN, None, "No prices have been asked for yet.")
    since = row.last_success_at
    if since is not None and clock.now() - since <= timedelta(seconds=settings.PRICE_MAX_AGE_SECONDS):
        return MarketState(exchange, MarketCondition.OK, since, "")
    reason = f" ({row.last_error})" if row.consecutive_failures and row.last_error else ""
    when = f"since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "yet"
    return MarketState(exchange, MarketCondition.STALE, since, f"No fresh prices {when}{reason}.")


def _record_success(exchange: str, feed: MarketStatus.Feed) -> None:
    MarketStatus.objects.update_or_create(
        exchange=exchange, feed=feed, defaults={"last_success_at": clock.now(), "consecutive_failures": 0}
    )


def _record_failure(exchange: str, feed: MarketStatus.Feed, message: str) -> None:
    row, _ = MarketStatus.objects.get_or_create(exchange=exchange, feed=feed)
    MarketStatus.objects.filter(pk=row.pk).update(
        last_error=message[:2000], last_error_at=clock.now(), consecutive_failures=F("consecutive_failures") + 1
    )
