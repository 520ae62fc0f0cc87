"""What people are told: one row per event and person, written with the fact it speaks of and pushed after commit."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from tradebot.core import clock
from tradebot.core.scoping import OwnedModel


class Event(OwnedModel):
    """An event for one person. Its id orders them, so a browser asks for what came after the last one it saw."""

    class Kind(models.TextChoices):
        ORDER_FILL = "order_fill", "Order fill"
        POSITION = "position", "Position"
        BOT = "bot", "Bot"
        BALANCES = "balances", "Balances"
        NOTIFICATION = "notification", "Notification"

    account_path = None
    owner_path = "user"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="events")
    account = models.ForeignKey("accounts.Account", models.CASCADE, null=True, related_name="+")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    payload = models.JSONField()
    at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["user", "id"], name="event_replay"),
            models.Index(fields=["at"], name="event_age"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.user_id}"
