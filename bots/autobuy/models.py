"""What auto-buy decided, as its page shows it."""

from __future__ import annotations

from django.db import models

from tradebot.core import clock
from tradebot.core.scoping import OwnedModel

__all__ = ["AutoBuyDecision"]


class AutoBuyDecision(OwnedModel):
    """What a rule decided, when it was something else than before or something was bought. Kept for a while."""

    owner_path = None

    account = models.ForeignKey("accounts.Account", models.CASCADE, related_name="+")
    rule = models.ForeignKey("accounts.AutoBuyRule", models.CASCADE, related_name="decisions")
    position = models.ForeignKey("positions.Position", models.SET_NULL, null=True, blank=True, related_name="+")
    code = models.CharField(max_length=60)
    message = models.CharField(max_length=400)
    numbers = models.JSONField(default=dict, blank=True)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["rule", "-id"], name="auto_buy_decision_recent"),
            models.Index(fields=["at"], name="auto_buy_decision_age"),
        ]

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
