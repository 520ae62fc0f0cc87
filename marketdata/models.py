"""Public market data as rows: products, candles, what the candle store covers, how each market answers.

Everything here is the same for every user, so these are plain models without an owner.
"""

from __future__ import annotations

import uuid

from django.db import models

from marketdata.terms import ProductTerms
from marketdata.timeframes import Timeframe
from tradebot.core import clock
from tradebot.core.money import AmountField

__all__ = ["Candle", "CandleSeries", "MarketStatus", "Product"]

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
    refreshed_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["exchange", "symbol"]
        constraints = [models.UniqueConstraint(fields=["exchange", "symbol"], name="product_unique")]
        indexes = [models.Index(fields=["exchange", "quote", "status"], name="product_by_quote")]

    def __str__(self) -> str:
        return f"{self.symbol} ({self.exchange})"

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
