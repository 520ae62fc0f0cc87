"""Bots, their pairs, templates and what they decided."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedManager, OwnedModel
from tradebot.core.words import Category

CATEGORIES = [(word.value, word.value) for word in Category]


class BudgetKind(models.TextChoices):
    PERCENT = "percent", "percent of the account's value in the quote currency"
    FIXED = "fixed", "fixed amount of the quote currency"


class Bot(OwnedModel):
    """A strategy with its settings, trading its pairs on one account; without one it is orphaned and cannot run."""

    class Status(models.TextChoices):
        STOPPED = "stopped", "Stopped"
        RUNNING = "running", "Running"

    owner_path = "owner"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="bots")
    account = models.ForeignKey("accounts.Account", models.SET_NULL, null=True, blank=True, related_name="bots")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=80)
    strategy = models.CharField(max_length=40, default="indicator_dca")
    settings = models.JSONField(default=dict, help_text="The strategy's typed settings, as its schema writes them.")
    settings_version = models.PositiveIntegerField(default=1, help_text="Grows with every change of settings.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.STOPPED)
    quote_currency = models.CharField(max_length=20)
    budget_kind = models.CharField(max_length=10, choices=BudgetKind.choices, default=BudgetKind.PERCENT)
    budget_pct = AmountField(default=Decimal(10), validators=[MinValueValidator(ZERO), MaxValueValidator(Decimal(100))])
    budget_fixed = AmountField(default=ZERO, validators=[MinValueValidator(ZERO)])
    split_budget = models.BooleanField(
        default=True, help_text="Share the budget evenly over the deals allowed at once."
    )
    next_check_at = models.DateTimeField(null=True, blank=True, help_text="Null while there is nothing to watch.")
    last_checked_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            models.Index(fields=["next_check_at"], name="bot_due", condition=Q(next_check_at__isnull=False)),
            models.Index(fields=["account", "status"], name="bot_account_status"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], condition=Q(archived_at__isnull=True), name="bot_name_per_owner"
            ),
            models.CheckConstraint(
                condition=Q(account__isnull=False) | Q(status="stopped"), name="orphaned_bot_is_stopped"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_running(self) -> bool:
        return self.status == self.Status.RUNNING

    @property
    def is_orphan(self) -> bool:
        return self.account_id is None


class BotProduct(OwnedModel):
    """A pair of a bot, with the last decision about it (in words, and with the numbers behind it)."""

    account_path = "bot__account"
    owner_path = "bot__owner"

    bot = models.ForeignKey(Bot, models.CASCADE, related_name="bot_products")
    product = models.ForeignKey("marketdata.Product", models.PROTECT, related_name="+")
    enabled = models.BooleanField(default=True)
    last_code = models.CharField(max_length=60, blank=True)
    last_message = models.CharField(max_length=400, blank=True)
    last_evidence = models.JSONField(default=dict, blank=True)
    last_changed_at = models.DateTimeField(null=True, blank=True)
    short_code = models.CharField(
        max_length=60, blank=True, help_text="The same about short deals, of bots that trade both ways."
    )
    short_message = models.CharField(max_length=400, blank=True)
    short_evidence = models.JSONField(default=dict, blank=True)
    short_changed_at = models.DateTimeField(null=True, blank=True)
    evaluated_until = models.JSONField(
        default=dict,
        blank=True,
        help_text="Per timeframe (“short 5m” for the other direction of a bot that trades both ways), the opening time "
        "of the last candle whose crossings were judged.",
    )

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["bot", "product"], name="bot_product_once")]

    def __str__(self) -> str:
        return f"pair {self.product_id} of bot {self.bot_id}"


class PresetManager(models.Manager["BotTemplate"]):
    """Only the templates that belong to nobody and are shown to everybody."""

    def get_queryset(self) -> models.QuerySet[BotTemplate]:
        return super().get_queryset().filter(owner__isnull=True)


class BotTemplate(OwnedModel):
    """Settings to start a bot from. Without an owner it is a preset that everybody sees (``BotTemplate.presets``)."""

    account_path = None
    owner_path = "owner"
    nobodys_are_everybodys = True

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="bot_templates"
    )
    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=80, blank=True)
    description = models.CharField(max_length=300, blank=True)
    strategy = models.CharField(max_length=40, default="indicator_dca")
    settings = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=clock.now)

    objects: ClassVar[OwnedManager] = OwnedManager()
    presets = PresetManager()

    class Meta:
        ordering = ["name"]
        default_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="template_name_per_owner"),
            models.UniqueConstraint(fields=["slug"], condition=Q(owner__isnull=True), name="preset_slug_once"),
        ]

    def __str__(self) -> str:
        return self.name


class Decision(OwnedModel):
    """A decision that mattered: it changed, or it acted. Written in bulk, kept for a while."""

    owner_path = None

    account = models.ForeignKey("accounts.Account", models.CASCADE, related_name="+")
    bot = models.ForeignKey(Bot, models.SET_NULL, null=True, related_name="decisions")
    position = models.ForeignKey("positions.Position", models.SET_NULL, null=True, blank=True, related_name="decisions")
    product = models.ForeignKey("marketdata.Product", models.PROTECT, null=True, related_name="+")
    phase = models.CharField(max_length=10, help_text="open, add or close.")
    action = models.CharField(max_length=10, help_text="none, open, add or close.")
    code = models.CharField(max_length=60)
    message = models.CharField(max_length=400)
    evidence = models.JSONField(default=dict, blank=True)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["bot", "-id"], name="decision_bot_recent"),
            models.Index(fields=["position", "-id"], name="decision_position_recent"),
            models.Index(fields=["at"], name="decision_age"),
        ]

    def __str__(self) -> str:
        return f"{self.phase}: {self.code}"


class ReplayRun(OwnedModel):
    """One run of a bot over recorded candles. The cursor is the step to do next: a killed run goes on where it was."""

    owner_path = None

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        FINISHED = "finished", "Finished"

    account = models.OneToOneField("accounts.Account", models.CASCADE, related_name="replay_run")
    bot = models.ForeignKey(Bot, models.SET_NULL, null=True, related_name="replay_runs")
    key = models.CharField(
        max_length=64, help_text="Hash of candles and settings: the same input continues the same run."
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    step_seconds = models.PositiveIntegerField()
    start = models.BigIntegerField(help_text="Unix seconds of the first step.")
    end = models.BigIntegerField(help_text="Unix seconds of the last step.")
    cursor = models.BigIntegerField(help_text="Unix seconds of the step to do next.")
    wall_seconds = models.FloatField(default=0.0, help_text="Time spent, over all attempts.")
    result = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["key", "status"], name="replay_by_key")]

    def __str__(self) -> str:
        return f"replay {self.pk} ({self.status})"


class CoinReview(OwnedModel):
    """What a person thinks of a coin; it goes before what the operator thinks (``marketdata.models.Coin``)."""

    account_path = None
    owner_path = "owner"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="coin_reviews")
    code = models.CharField(max_length=20, help_text="Currency code, such as BTC.")
    category = models.CharField(max_length=12, choices=CATEGORIES)
    reason = models.CharField(max_length=200, blank=True, help_text="Why, for oneself.")
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["code"]
        constraints = [models.UniqueConstraint(fields=["owner", "code"], name="coin_review_once")]

    def __str__(self) -> str:
        return f"{self.code}: {self.category}"


# Django finds models through this module; larger groups have one of their own.
from bots.autobuy.models import AutoBuyDecision as AutoBuyDecision  # noqa: E402
from bots.backtesting.models import Backtest as Backtest  # noqa: E402
from bots.backtesting.models import BacktestDeal as BacktestDeal  # noqa: E402
from bots.backtesting.models import JobStatus as JobStatus  # noqa: E402
from bots.backtesting.models import Sweep as Sweep  # noqa: E402
from bots.backtesting.models import SweepPoint as SweepPoint  # noqa: E402
from bots.panic.models import PanicRun as PanicRun  # noqa: E402
from bots.panic.models import PanicStep as PanicStep  # noqa: E402
from bots.signals.models import Signal as Signal  # noqa: E402
from bots.signals.models import SignalHook as SignalHook  # noqa: E402
