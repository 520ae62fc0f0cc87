"""A panic sale and its steps: rows, so that it goes on where it was, whatever happens to the process."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tradebot.core import clock
from tradebot.core.scoping import OwnedModel

__all__ = ["PanicRun", "PanicStep"]


class PanicRun(OwnedModel):
    """One panic sale of an account. Written by ``bots.panic.services`` and ``bots.panic.work`` only."""

    class Status(models.TextChoices):
        RUNNING = "running", "Under way"
        FINISHED = "finished", "Finished"
        INCOMPLETE = "incomplete", "Not all of it worked"

    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="panic_runs")
    actor = models.CharField(max_length=254, help_text="Who asked for it.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    started_at = models.DateTimeField(default=clock.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.CharField(max_length=36, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    orders_left = models.PositiveIntegerField(null=True, blank=True, help_text="Working orders when it ended.")
    deals_left = models.PositiveIntegerField(null=True, blank=True, help_text="Open deals when it ended.")

    class Meta:
        app_label = "bots"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account"], condition=Q(status="running"), name="one_panic_run_at_a_time"),
            models.CheckConstraint(
                condition=Q(status="running", finished_at__isnull=True)
                | (~Q(status="running") & Q(finished_at__isnull=False)),
                name="ended_panic_run_has_finished_at",
            ),
        ]

    def __str__(self) -> str:
        return f"panic sale {self.pk} of account {self.account_id} ({self.status})"

    @property
    def is_running(self) -> bool:
        return self.status == self.Status.RUNNING


class PanicStep(OwnedModel):
    """One thing that a panic sale does, and how it stands."""

    class Kind(models.TextChoices):
        AUTOMATION = "automation", "Stop automation"
        CANCEL = "cancel", "Cancel order"
        SELL = "sell", "Close deal"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        WORKING = "working", "Under way"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="+")
    run = models.ForeignKey(PanicRun, models.CASCADE, related_name="steps")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    what = models.CharField(max_length=160, help_text="What it is about, in words.")
    position = models.ForeignKey("positions.Position", models.PROTECT, null=True, blank=True, related_name="+")
    order = models.ForeignKey(
        "positions.Order",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="The order that is cancelled, or the newest that closes the deal.",
    )
    message = models.CharField(max_length=300, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    tries = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        app_label = "bots"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "order"], condition=Q(kind="cancel"), name="panic_cancels_an_order_once"
            ),
            models.UniqueConstraint(
                fields=["run", "position"], condition=Q(kind="sell"), name="panic_closes_a_deal_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.what} ({self.state})"
