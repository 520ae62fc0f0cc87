"""Limits that a person sets on what an account may do, whoever trades on it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.models.accounts import Account
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel

__all__ = ["TradingLimits"]


def _within(name: str, most: object = None) -> Q:
    allowed = Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__gt": ZERO})
    return allowed if most is None else allowed & (Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__lte": most}))


class TradingLimits(OwnedModel):
    """The most that one order, one day's loss and the open deals of an account may come to; null is no limit.

    Amounts are in ``currency``, percentages of the account's value in it. They hold for orders that take risk: a close
    always passes (F63). See ``positions.safety``.
    """

    account = models.OneToOneField(Account, models.CASCADE, related_name="limits")
    currency = models.CharField(max_length=20, default="USD")
    largest_order = AmountField(null=True, blank=True)
    largest_order_pct = AmountField(null=True, blank=True)
    daily_loss = AmountField(null=True, blank=True)
    daily_loss_pct = AmountField(null=True, blank=True)
    max_open_deals = models.PositiveIntegerField(null=True, blank=True)
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "trading limits"
        constraints = [
            models.CheckConstraint(
                condition=_within("largest_order")
                & _within("largest_order_pct", HUNDRED)
                & _within("daily_loss")
                & _within("daily_loss_pct", HUNDRED),
                name="trading_limits_above_zero",
            )
        ]

    def __str__(self) -> str:
        return f"limits of account {self.account_id}"

    @property
    def watches_the_day(self) -> bool:
        """Return whether a day's loss is limited."""
        return self.daily_loss is not None or self.daily_loss_pct is not None
