"""Public market data as rows: products, candles, what the candle store covers, how each market answers.

Market data is the same for every user, so these are plain models without an owner. Only a download of history belongs
to the person who asked for it.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from marketdata.terms import ProductTerms
from marketdata.timeframes import Timeframe
from tradebot.core import clock
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel
from tradebot.core.words import Category

__all__ = ["Candle", "CandleSeries", "Category", "Coin", "HistoryDownload", "MarketStatus", "Product"]

TIMEFRAMES = [(timeframe.value, timeframe.value) for timeframe in Timeframe]


class Product(models.Model):
    """One tradable pair of one market, with the terms its venue states (F26)."""

    class Status(models.TextChoices):
        ONLINE = "online", "Online"
        OFFLINE = "offline", "Not trading at present"
        DELISTED = "delisted", "Delisted"

    class Kind(models.TextChoices):
        SPOT = "spot", "Spot"
        PERPETUAL = "perpetual", "Perpetual future"

    exchange = models.CharField(max_length=30, help_text="The market: coinbase, simulated or replay.")
    symbol = models.CharField(max_length=40)
    base = models.CharField(max_length=20)
    quote = models.CharField(max_length=20)
    price_increment = AmountField(help_text="Step of prices, in quote currency.")
    base_increment = AmountField(help_text="Step of sizes, in base currency.")
    quote_increment = AmountField(help_text="Step of amounts spent, in quote currency.")
    min_base = AmountField(help_text="Smallest order, in base currency.")
    min_quote = AmountField(help_text="Smallest order, in quote currency.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.ONLINE)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.SPOT)
    volume_24h = models.FloatField(null=True, blank=True, help_text="Base traded in the last 24 hours, if known.")
    price_change_24h = models.FloatField(null=True, blank=True, help_text="Percent in the last 24 hours, if known.")
    max_leverage = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Of a perpetual: the highest leverage that its venue grants, if it says."
    )
    maintenance_pct = AmountField(
        null=True,
        blank=True,
        help_text="Of a perpetual: margin below which a position is liquidated, percent of its value.",
    )
    funding_hours = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Of a perpetual: hours between two fundings, counted from midnight UTC."
    )
    refreshed_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["exchange", "symbol"]
        constraints = [models.UniqueConstraint(fields=["exchange", "symbol"], name="product_unique")]
        indexes = [models.Index(fields=["exchange", "quote", "status"], name="product_by_quote")]

    def __str__(self) -> str:
        return f"{self.symbol} ({self.exchange})"

    @property
    def is_perpetual(self) -> bool:
        return self.kind == self.Kind.PERPETUAL

    @property
    def terms(self) -> ProductTerms:
        """The steps and minimums that orders on this product respect."""
        return ProductTerms(
            symbol=self.symbol,
            base=self.base,
            quote=self.quote,
            price_increment=self.price_increment,
            base_increment=self.base_increment,
            min_base=self.min_base,
            min_quote=self.min_quote,
        )


class Candle(models.Model):
    """One recorded candle. Periods without trades have no row. Written by the candle store only."""

    product = models.ForeignKey(Product, models.CASCADE, related_name="+", db_index=False)
    timeframe = models.CharField(max_length=3, choices=TIMEFRAMES)
    time = models.BigIntegerField(help_text="Opening time, Unix seconds UTC.")
    open = models.FloatField()
    high = models.FloatField()
    low = models.FloatField()
    close = models.FloatField()
    volume = models.FloatField(help_text="In base currency.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["product", "timeframe", "time"], name="candle_unique")]

    def __str__(self) -> str:
        return f"{self.product_id} {self.timeframe} {self.time}"


class CandleSeries(models.Model):
    """Which stretch of a product's candles the store holds: [start, end), asked for without a hole.

    Candle rows alone cannot tell a period without trades from one that was never asked for; this row can.
    """

    product = models.ForeignKey(Product, models.CASCADE, related_name="series", db_index=False)
    timeframe = models.CharField(max_length=3, choices=TIMEFRAMES)
    start = models.BigIntegerField(help_text="Opening time of the first period held, Unix seconds UTC.")
    end = models.BigIntegerField(help_text="Opening time of the first period not held, Unix seconds UTC.")
    generation = models.UUIDField(
        default=uuid.uuid4, editable=False, help_text="Changes when the candles are replaced, so that caches notice."
    )

    class Meta:
        verbose_name_plural = "candle series"
        ordering = ["product_id", "timeframe"]
        constraints = [
            models.UniqueConstraint(fields=["product", "timeframe"], name="candle_series_unique"),
            models.CheckConstraint(condition=models.Q(end__gte=models.F("start")), name="candle_series_forward"),
        ]

    def __str__(self) -> str:
        return f"{self.product_id} {self.timeframe}"


class MarketStatus(models.Model):
    """How one market last answered for one kind of data: what the banner and the health page read."""

    class Feed(models.TextChoices):
        PRODUCTS = "products", "Product list"
        PRICES = "prices", "Prices"
        CANDLES = "candles", "Candles"

    exchange = models.CharField(max_length=30)
    feed = models.CharField(max_length=10, choices=Feed.choices)
    last_success_at = models.DateTimeField(null=True, blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    consecutive_failures = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "market status"
        ordering = ["exchange", "feed"]
        constraints = [models.UniqueConstraint(fields=["exchange", "feed"], name="market_status_unique")]

    def __str__(self) -> str:
        return f"{self.exchange} {self.feed}"


class Coin(models.Model):
    """What the operator thinks of a coin. A coin without a row is unreviewed; people may differ for themselves."""

    code = models.CharField(max_length=20, unique=True, help_text="Currency code, such as BTC.")
    category = models.CharField(
        max_length=12,
        choices=[(word.value, word.value) for word in Category],
        blank=True,
        help_text="Empty: unreviewed.",
    )
    is_stable = models.BooleanField(default=False, help_text="Kept at the value of another currency, as USDC is.")
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return self.code


class HistoryDownload(OwnedModel):
    """Candles that somebody asked to be fetched from a market's public source into the candle store."""

    account_path = None
    owner_path = "owner"

    class Status(models.TextChoices):
        QUEUED = "queued", "Waiting"
        RUNNING = "running", "Running"
        FINISHED = "finished", "Finished"
        CANCELLED = "cancelled", "Cancelled"
        FAILED = "failed", "Failed"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="history_downloads")
    product = models.ForeignKey(Product, models.CASCADE, related_name="+")
    timeframe = models.CharField(max_length=3, choices=TIMEFRAMES)
    start = models.BigIntegerField(help_text="Opening time of the first candle wanted, Unix seconds UTC.")
    end = models.BigIntegerField(help_text="Opening time of the first candle not wanted, Unix seconds UTC.")
    cursor = models.BigIntegerField(default=0, help_text="Everything before this moment has been asked for.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    candles = models.PositiveIntegerField(default=0, help_text="Candles written so far.")
    gaps = models.JSONField(
        default=list, blank=True, help_text="Stretches without trades: [[start, end), …] in seconds."
    )
    cancel_requested = models.BooleanField(default=False)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    touched_at = models.DateTimeField(default=clock.now, help_text="When a worker last made progress.")
    started_at = models.DateTimeField(null=True, blank=True, help_text="When a worker last claimed it.")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["status"], name="history_download_status")]

    def __str__(self) -> str:
        return f"history of product {self.product_id} {self.timeframe} ({self.status})"
