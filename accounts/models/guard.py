"""The prop-firm guard of an account: its limits, where it stands, what happened, and what the account was worth.

Written by ``positions.guard`` only. Without a rules row, or with one that is off, an account has no guard.
"""

from __future__ import annotations

from datetime import time
from decimal import Decimal

from django.db import models
from django.db.models import F, Q

from accounts.models.accounts import Account
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel

__all__ = ["EquitySnapshot", "PropGuardEvent", "PropGuardRules", "PropGuardState"]


class PropGuardRules(OwnedModel):
    """The limits that an account must not lose beyond, as a prop firm sets them. Amounts are in ``currency``."""

    account = models.OneToOneField(Account, models.CASCADE, related_name="guard_rules")
    enabled = models.BooleanField(default=False)
    currency = models.CharField(max_length=20, default="USD")
    initial_deposit = AmountField(default=Decimal(100_000), help_text="What the total loss is measured from.")
    daily_limit_pct = AmountField(default=Decimal("4.5"), help_text="Percent of the equity that the day began with.")
    total_limit_pct = AmountField(default=Decimal(9), help_text="Percent of the initial deposit.")
    max_spread_pct = AmountField(default=Decimal("0.5"), help_text="Percent of the mid price.")
    equity_max_age_seconds = models.PositiveIntegerField(default=60)
    day_start = models.TimeField(default=time(17, 0), help_text="When the day begins, in the zone below.")
    day_zone = models.CharField(max_length=64, default="America/New_York")
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "prop guard rules"
        constraints = [
            models.CheckConstraint(condition=Q(initial_deposit__gt=ZERO), name="guard_deposit_above_zero"),
            models.CheckConstraint(
                condition=Q(daily_limit_pct__gt=ZERO) & Q(daily_limit_pct__lte=HUNDRED), name="guard_daily_limit_pct"
            ),
            models.CheckConstraint(
                condition=Q(total_limit_pct__gt=ZERO) & Q(total_limit_pct__lte=HUNDRED), name="guard_total_limit_pct"
            ),
        ]

    def __str__(self) -> str:
        return f"guard of account {self.account_id} ({'on' if self.enabled else 'off'})"


class PropGuardState(OwnedModel):
    """Where a guarded account stands. Null is "not known", which blocks every order that takes risk (F61)."""

    class Reason(models.TextChoices):
        DAILY = "daily_limit", "daily limit"
        TOTAL = "total_limit", "total limit"
        MANUAL = "manual", "by hand"

    account = models.OneToOneField(Account, models.CASCADE, related_name="guard_state")
    day_began_at = models.DateTimeField(null=True, blank=True, help_text="The day that the equity below began.")
    day_start_equity = AmountField(null=True, blank=True)
    day_measured_at = models.DateTimeField(null=True, blank=True, help_text="When that equity was measured.")
    last_equity = AmountField(null=True, blank=True)
    last_equity_at = models.DateTimeField(
        null=True, blank=True, help_text="As of when: the oldest of what it rests on."
    )
    balances_at = models.DateTimeField(
        null=True, blank=True, help_text="When the balances were asked for that the last equity rests on."
    )
    balances = models.JSONField(default=dict, blank=True, help_text="What they were, by currency.")
    day_balances_at = models.DateTimeField(
        null=True, blank=True, help_text="The same of the equity that the day began with."
    )
    day_listed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the exchange's list of transfers was first known after that."
    )
    day_moved = AmountField(default=ZERO, help_text="What came in since, less what left: no gain and no loss.")
    total_balances_at = models.DateTimeField(
        null=True, blank=True, help_text="The same three of the moment when the initial deposit was set."
    )
    total_listed_at = models.DateTimeField(null=True, blank=True)
    total_moved = AmountField(default=ZERO)
    unlisted = AmountField(default=ZERO, help_text="What balances grew by since no list was read; taken for a deposit.")
    unlisted_at = models.DateTimeField(
        null=True, blank=True, help_text="When balances last changed by more than prices and fees explain, if since."
    )
    list_wanted_at = models.DateTimeField(null=True, blank=True, help_text="When the list was last sent for.")
    breached_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when a limit is reached that the list might still explain."
    )
    failed_at = models.DateTimeField(null=True, blank=True, help_text="When it last could not be measured, if since.")
    error_code = models.CharField(max_length=60, blank=True)
    error_text = models.CharField(max_length=300, blank=True)
    killed_at = models.DateTimeField(null=True, blank=True)
    kill_reason = models.CharField(max_length=20, choices=Reason.choices, blank=True)
    kill_message = models.CharField(max_length=400, blank=True)
    kill_numbers = models.JSONField(default=dict, blank=True)
    killed_by = models.CharField(max_length=254, blank=True)
    settled_at = models.DateTimeField(
        null=True, blank=True, help_text="When after a kill no bot ran, no order worked and no deal was open any more."
    )
    closing_error = models.CharField(max_length=300, blank=True, help_text="What last kept a deal from being closed.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(killed_at__isnull=True) & Q(kill_reason="") & Q(settled_at__isnull=True))
                | (Q(killed_at__isnull=False) & ~Q(kill_reason="")),
                name="guard_kill_has_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(settled_at__isnull=True) | Q(settled_at__gte=F("killed_at")),
                name="guard_settled_after_kill",
            ),
        ]
        indexes = [
            models.Index(
                fields=["killed_at"],
                name="guard_to_settle",
                condition=Q(killed_at__isnull=False) & Q(settled_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"guard state of account {self.account_id}"

    @property
    def is_killed(self) -> bool:
        return self.killed_at is not None


class PropGuardEvent(OwnedModel):
    """One line of a guard's history. Never changed, never deleted."""

    class Kind(models.TextChoices):
        RULES = "rules", "limits changed"
        DAY = "day", "new day"
        KILLED = "killed", "stopped"
        SETTLED = "settled", "everything closed"
        RESET = "reset", "released"
        ASKED = "asked", "exchange asked"

    account = models.ForeignKey(Account, models.CASCADE, related_name="guard_events")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    message = models.CharField(max_length=400)
    numbers = models.JSONField(default=dict, blank=True)
    actor = models.CharField(max_length=254)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["account", "-id"], name="guard_event_recent")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class EquitySnapshot(OwnedModel):
    """What a guarded account was worth at a moment, kept every few minutes for a while."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="equity_snapshots")
    at = models.DateTimeField()
    equity = AmountField()
    currency = models.CharField(max_length=20)

    class Meta:
        ordering = ["-at"]
        constraints = [models.UniqueConstraint(fields=["account", "at"], name="equity_snapshot_once")]
        indexes = [models.Index(fields=["at"], name="equity_snapshot_age")]

    def __str__(self) -> str:
        return f"{self.equity} {self.currency} at {self.at}"
