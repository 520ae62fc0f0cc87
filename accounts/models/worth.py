"""What accounts were worth day by day, and the money that came from outside or left: together, what was earned."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.models.accounts import Account
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel

__all__ = ["LeftOut", "Transfer", "ValueSnapshot"]


class LeftOut(OwnedModel):
    """A currency that its owner does not want counted in what an account is worth, such as a token without a market.

    Without that word a coin whose price is not known keeps the account's value from being written down (F34).
    """

    account = models.ForeignKey(Account, models.CASCADE, related_name="left_out")
    currency = models.CharField(max_length=20)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["currency"]
        verbose_name_plural = "left out"
        constraints = [models.UniqueConstraint(fields=["account", "currency"], name="left_out_once")]

    def __str__(self) -> str:
        return f"{self.currency} of account {self.account_id}"


class ValueSnapshot(OwnedModel):
    """What an account was worth on one day, as first read on it. A day whose value was not known has no row.

    ``by_currency`` says what it was made of: ``{"BTC": {"total": "1.5", "usd": "96000", "btc": "1.5"}}``, all strings.
    ``complete`` is False where holdings were left out because the owner said so; ``left_out`` names them.
    """

    account = models.ForeignKey(Account, models.CASCADE, related_name="value_snapshots")
    date = models.DateField(help_text="The day in UTC.")
    taken_at = models.DateTimeField(help_text="The moment that the balances are of.")
    value_usd = AmountField()
    value_btc = AmountField()
    by_currency = models.JSONField(default=dict, blank=True)
    complete = models.BooleanField(default=True)
    left_out = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ["-date", "-id"]
        constraints = [models.UniqueConstraint(fields=["account", "date"], name="value_snapshot_once_a_day")]

    def __str__(self) -> str:
        return f"account {self.account_id} on {self.date}"


class Transfer(OwnedModel):
    """Money that came into an account from outside (``amount`` above zero) or left it. Never profit (F35)."""

    class Source(models.TextChoices):
        VENUE = "venue", "Told by the venue"
        PAPER = "paper", "Paper money"
        MANUAL = "manual", "Entered by hand"

    account = models.ForeignKey(Account, models.PROTECT, related_name="transfers")
    external_id = models.CharField(max_length=120, help_text="The venue's own id, so that none is counted twice.")
    currency = models.CharField(max_length=20)
    amount = AmountField(help_text="Signed: above zero came in.")
    at = models.DateTimeField(help_text="When it happened, as the venue says.")
    counted_at = models.DateTimeField(
        help_text="From when on balances contain it: later than it happened where the venue listed it late."
    )
    value_usd = AmountField(null=True, blank=True, help_text="Signed, at the prices of that time; empty: not known.")
    value_btc = AmountField(null=True, blank=True, help_text="Signed, at the prices of that time; empty: not known.")
    source = models.CharField(max_length=6, choices=Source.choices)
    note = models.CharField(max_length=200, blank=True)
    recorded_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["account", "-at"], name="transfer_account_recent")]
        constraints = [
            models.UniqueConstraint(fields=["account", "external_id"], name="transfer_once"),
            models.CheckConstraint(condition=~Q(amount=ZERO), name="transfer_moves_something"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"
