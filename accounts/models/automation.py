"""What an account does by itself besides its bots: buying a coin with stable money that nothing else needs."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import Q

from accounts.models.accounts import Account
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel
from tradebot.core.words import OrderType

__all__ = ["AutoBuyRule"]


class AutoBuyRule(OwnedModel):
    """Buy ``coin`` with what is free of ``currency``, as soon as that is ``minimum`` or more. See ``bots.autobuy``."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="auto_buy_rules")
    currency = models.CharField(max_length=20)
    coin = models.CharField(max_length=20, default="BTC")
    enabled = models.BooleanField(default=False)
    minimum = AmountField(default=Decimal(50), help_text="Of the currency: less than that is left alone.")
    order_type = models.CharField(
        max_length=6, choices=[(kind.value, kind.value) for kind in OrderType], default=OrderType.MARKET
    )
    limit_offset_pct = AmountField(
        default=Decimal("0.5"), help_text="How far below the best bid a limit order waits, in percent."
    )
    last_code = models.CharField(max_length=60, blank=True)
    last_message = models.CharField(max_length=400, blank=True)
    last_numbers = models.JSONField(default=dict, blank=True)
    last_looked_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["currency"]
        constraints = [
            models.UniqueConstraint(fields=["account", "currency"], name="auto_buy_rule_per_currency"),
            models.CheckConstraint(condition=Q(minimum__gt=ZERO), name="auto_buy_minimum_above_zero"),
            models.CheckConstraint(
                condition=Q(limit_offset_pct__gte=ZERO) & Q(limit_offset_pct__lt=HUNDRED), name="auto_buy_limit_offset"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.coin} with {self.currency} on account {self.account_id}"
