"""Backtests and parameter sweeps, with their results. They belong to a person, not to an account: nothing is traded."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from marketdata.models import TIMEFRAMES
from positions.states import Direction, ExitReason
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel

__all__ = ["Backtest", "BacktestDeal", "JobStatus", "Sweep", "SweepPoint"]

_PERCENT = [MinValueValidator(ZERO), MaxValueValidator(Decimal(100))]


class JobStatus(models.TextChoices):
    """Where a job that runs in the background stands."""

    QUEUED = "queued", "Waiting"
    RUNNING = "running", "Running"
    FINISHED = "finished", "Finished"
    CANCELLED = "cancelled", "Cancelled"
    FAILED = "failed", "Failed"


class _Job(OwnedModel):
    """What backtests and sweeps share: whose it is, what is simulated, and how far the work has come."""

    account_path = None
    owner_path = "owner"

    name = models.CharField(max_length=120)
    strategy = models.CharField(max_length=40, default="indicator_dca")
    settings = models.JSONField(default=dict, help_text="The strategy's typed settings, as its schema writes them.")
    exchange = models.CharField(max_length=30, help_text="The market whose candles are used.")
    symbols = models.JSONField(default=list, help_text="The pairs, in the order in which they are looked at.")
    timeframe = models.CharField(max_length=3, choices=TIMEFRAMES, help_text="One look per candle of this timeframe.")
    start = models.BigIntegerField(help_text="Opening time of the first candle, Unix seconds UTC.")
    end = models.BigIntegerField(help_text="End of the range (exclusive), Unix seconds UTC.")
    quote_currency = models.CharField(max_length=20)
    balances = models.JSONField(default=dict, help_text="Opening balances: amounts as text, by currency.")
    budget_kind = models.CharField(max_length=10, default="percent")
    budget_pct = AmountField(default=Decimal(100), validators=_PERCENT)
    budget_fixed = AmountField(default=ZERO, validators=[MinValueValidator(ZERO)])
    split_budget = models.BooleanField(default=True)
    maker_fee_pct = AmountField(default=Decimal("0.4"), validators=_PERCENT)
    taker_fee_pct = AmountField(default=Decimal("0.6"), validators=_PERCENT)
    slippage_pct = AmountField(default=ZERO, validators=_PERCENT)
    status = models.CharField(max_length=10, choices=JobStatus.choices, default=JobStatus.QUEUED)
    progress = models.FloatField(default=0.0, help_text="0 to 1.")
    cancel_requested = models.BooleanField(default=False)
    error = models.CharField(max_length=300, blank=True)
    wall_seconds = models.FloatField(default=0.0)
    created_at = models.DateTimeField(default=clock.now)
    touched_at = models.DateTimeField(default=clock.now, help_text="When a worker last made progress.")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.name} ({self.status})"

    @property
    def is_over(self) -> bool:
        return self.status not in (JobStatus.QUEUED, JobStatus.RUNNING)


class Backtest(_Job):
    """Settings tried on recorded candles, with the result."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="backtests")
    bot = models.ForeignKey(
        "bots.Bot",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="backtests",
        help_text="Whose settings they were.",
    )
    candles = models.PositiveBigIntegerField(default=0)
    fills = models.PositiveIntegerField(default=0)
    fingerprint = models.CharField(max_length=16, blank=True, help_text="A hash over all fills.")
    statistics = models.JSONField(default=dict, blank=True)
    monthly = models.JSONField(default=list, blank=True)
    curve = models.JSONField(
        default=dict, blank=True, help_text="Equity, drawdown and buy-and-hold, thinned out for charts."
    )
    warnings = models.JSONField(default=list, blank=True, help_text="Sentences: gaps, candles that are missing.")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["owner", "-id"], name="backtest_owner_recent")]


class BacktestDeal(OwnedModel):
    """One simulated deal. Amounts are in quote."""

    account_path = None
    owner_path = "backtest__owner"

    backtest = models.ForeignKey(Backtest, models.CASCADE, related_name="deals")
    number = models.PositiveIntegerField()
    symbol = models.CharField(max_length=40)
    direction = models.CharField(max_length=5, choices=[(word.value, word.value) for word in Direction])
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True, help_text="Empty: still open at the end.")
    exit_reason = models.CharField(max_length=20, choices=[(word.value, word.value) for word in ExitReason], blank=True)
    invested = AmountField(default=ZERO)
    profit = AmountField(default=ZERO, help_text="Net of fees; of an open deal at the last price.")
    profit_pct = AmountField(null=True, blank=True)
    fees = AmountField(default=ZERO)
    safety_orders = models.PositiveIntegerField(default=0)
    fills = models.JSONField(default=list, help_text="Each fill as it would be on paper, amounts as text.")

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["backtest", "number"], name="backtest_deal_once")]

    def __str__(self) -> str:
        return f"deal {self.number} of backtest {self.backtest_id}"


class Sweep(_Job):
    """The same backtest with many settings, to see how much the outcome hangs on them."""

    class Method(models.TextChoices):
        GRID = "grid", "every combination"
        RANDOM = "random", "random samples"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="sweeps")
    bot = models.ForeignKey("bots.Bot", models.SET_NULL, null=True, blank=True, related_name="sweeps")
    parameters = models.JSONField(default=list, help_text="[{path, values}]: the settings that vary and their values.")
    method = models.CharField(max_length=10, choices=Method.choices, default=Method.GRID)
    samples = models.PositiveIntegerField(default=0, help_text="How many combinations a random sweep draws.")
    seed = models.PositiveIntegerField(default=1)
    objective = models.CharField(max_length=40, default="return_pct")
    holdout_pct = AmountField(
        default=ZERO, validators=_PERCENT, help_text="The last part of the range, kept for judging the best settings."
    )
    total = models.PositiveIntegerField(default=0)
    deaths = models.PositiveIntegerField(
        default=0, help_text="How often all of its workers were lost since a point of it was last done."
    )

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["owner", "-id"], name="sweep_owner_recent")]


class SweepPoint(OwnedModel):
    """One combination of a sweep with its figures, in sample and (where it was judged) on the part held out."""

    account_path = None
    owner_path = "sweep__owner"

    sweep = models.ForeignKey(Sweep, models.CASCADE, related_name="points")
    number = models.PositiveIntegerField()
    values = models.JSONField(default=dict, help_text="Value by path of the setting.")
    score = models.FloatField(null=True, blank=True, help_text="The objective; empty: refused or failed.")
    statistics = models.JSONField(default=dict, blank=True)
    holdout = models.JSONField(default=dict, blank=True)
    error = models.CharField(max_length=300, blank=True)
    attempts = models.PositiveIntegerField(
        default=0, help_text="Tries that were begun and whose worker was never heard of again."
    )

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["sweep", "number"], name="sweep_point_once")]

    def __str__(self) -> str:
        return f"point {self.number} of sweep {self.sweep_id}"
