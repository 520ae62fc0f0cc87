"""Rows that every app relies on: global settings, audit entries, the health of loops."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from tradebot.core import clock
from tradebot.core.scoping import OwnedModel


class GlobalSettings(models.Model):
    """Operational settings of the whole installation: one row, edited in the admin."""

    trading_paused = models.BooleanField(
        default=False,
        help_text="While on, no bot opens a deal anywhere. Open deals are still managed and can be closed.",
    )
    signup_open = models.BooleanField(default=True, help_text="Whether strangers may create a user for themselves.")
    cycle_seconds = models.PositiveIntegerField(
        default=10,
        validators=[MinValueValidator(2), MaxValueValidator(3600)],
        help_text="Seconds between two looks at the same bot.",
    )
    max_bots_per_user = models.PositiveIntegerField(
        default=200, validators=[MinValueValidator(1), MaxValueValidator(100_000)]
    )
    decision_retention_days = models.PositiveIntegerField(
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(3650)],
        help_text="Days that decisions are kept for the bot pages.",
    )
    event_retention_days = models.PositiveIntegerField(
        default=7,
        validators=[MinValueValidator(1), MaxValueValidator(365)],
        help_text="Days that a browser may be away and still catch up.",
    )

    signal_retention_days = models.PositiveIntegerField(
        default=90,
        validators=[MinValueValidator(1), MaxValueValidator(3650)],
        help_text="Days that signals are kept, for the bot pages and for backtests of bots that use them.",
    )

    class Meta:
        verbose_name = verbose_name_plural = "global settings"
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="global_settings_one_row")]

    def __str__(self) -> str:
        return "Global settings"

    @classmethod
    def load(cls) -> Self:
        """Return the one row, made with its defaults when it is missing."""
        row, _ = cls.objects.get_or_create(pk=1)
        return row

    def clean(self) -> None:
        if self.pk not in (None, 1):
            raise ValidationError("There is one row of global settings.")


class AuditEntry(OwnedModel):
    """Who did what to what, kept for good: it outlives the thing it speaks of (F56)."""

    account_path = None
    owner_path = "user"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="audit_entries",
        help_text="Whose thing it was about.",
    )
    actor = models.CharField(max_length=254, help_text="E-mail of the person, or the part of the system, that acted.")
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=120, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["user", "-id"], name="audit_user_recent")]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor}: {self.action} {self.target}"


class ActionKey(OwnedModel):
    """A request that is carried out once, with its answer; see ``tradebot.core.once``, the only writer."""

    account_path = None
    owner_path = "user"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    route = models.CharField(max_length=200, help_text="The address that it was sent to.")
    key = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, help_text="SHA-256 of what was sent.")
    claim = models.UUIDField(help_text="Changes when another request takes over.")
    did = models.TextField(blank=True, default="", help_text="What was done so far, a line each.")
    started_at = models.DateTimeField(default=clock.now)
    lease_until = models.DateTimeField(help_text="Until then whoever claimed it is taken to be alive.")
    finished_at = models.DateTimeField(null=True, blank=True)
    status = models.PositiveSmallIntegerField(default=0, help_text="HTTP status of the answer.")
    answer = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["user", "route", "key"], name="action_key_once")]
        indexes = [models.Index(fields=["started_at"], name="action_key_age")]

    def __str__(self) -> str:
        return f"{self.route} ({self.status or 'under way'})"


class LoopState(models.Model):
    """When a recurring loop last started and last succeeded (F71)."""

    name = models.CharField(max_length=60, primary_key=True)
    expected_seconds = models.PositiveIntegerField(help_text="How often it should succeed.")
    last_started_at = models.DateTimeField(null=True, blank=True)
    last_success_at = models.DateTimeField(null=True, blank=True)
    last_duration_seconds = models.FloatField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    runs = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
