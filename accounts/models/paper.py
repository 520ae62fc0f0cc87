"""The paper venue's own book: its terms, balances, orders, trades and journal."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models.accounts import Account
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel
from tradebot.core.words import OrderStatus, OrderType, Side

__all__ = ["PaperBalance", "PaperEntry", "PaperOrder", "PaperTerms", "PaperTrade"]

ORDER_STATUSES = [(s.value, s.value.replace("_", " ")) for s in OrderStatus]
SIDES = [(s.value, s.value) for s in Side]
ORDER_TYPES = [(s.value, s.value) for s in OrderType]
_PERCENT = [MinValueValidator(ZERO), MaxValueValidator(Decimal(5))]


class PaperTerms(OwnedModel):
    """What trading on a paper account costs: fees and slippage, in percent."""

    class FeeCurrency(models.TextChoices):
        QUOTE = "quote", "quote currency"
        BASE = "base", "base currency of a buy"

    account = models.OneToOneField(Account, models.CASCADE, related_name="paper_terms")
    maker_fee_pct = AmountField(default=Decimal("0.4"), validators=_PERCENT)
    taker_fee_pct = AmountField(default=Decimal("0.6"), validators=_PERCENT)
    slippage_pct = AmountField(default=Decimal("0.05"), validators=_PERCENT)
    fee_currency = models.CharField(max_length=5, choices=FeeCurrency.choices, default=FeeCurrency.QUOTE)

    def __str__(self) -> str:
        return f"paper terms of account {self.account_id}"


class PaperBalance(OwnedModel):
    """What a paper account has of one currency; ``held`` is the part that resting orders have claimed."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="paper_balances")
    currency = models.CharField(max_length=20)
    total = AmountField(default=ZERO)
    held = AmountField(default=ZERO)

    class Meta:
        ordering = ["currency"]
        constraints = [
            models.UniqueConstraint(fields=["account", "currency"], name="paper_balance_per_currency"),
            models.CheckConstraint(condition=Q(total__gte=ZERO), name="paper_balance_not_below_zero"),
            models.CheckConstraint(condition=Q(held__gte=ZERO), name="paper_held_not_below_zero"),
            models.CheckConstraint(condition=Q(held__lte=models.F("total")), name="paper_held_within_total"),
        ]

    def __str__(self) -> str:
        return f"{self.total} {self.currency}"

    @property
    def free(self) -> Decimal:
        return self.total - self.held


class PaperOrder(OwnedModel):
    """An order as the paper venue knows it: the venue's side of the truth, apart from ``positions.Order``."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="paper_orders")
    client_order_id = models.UUIDField()
    venue_order_id = models.UUIDField(default=uuid.uuid4, unique=True)
    symbol = models.CharField(max_length=40)
    base_currency = models.CharField(max_length=20)
    quote_currency = models.CharField(max_length=20)
    side = models.CharField(max_length=4, choices=SIDES)
    order_type = models.CharField(max_length=6, choices=ORDER_TYPES)
    base_size = AmountField(null=True)
    quote_size = AmountField(null=True)
    limit_price = AmountField(null=True)
    expires_at = models.DateTimeField(null=True)
    status = models.CharField(max_length=20, choices=ORDER_STATUSES)
    reject_code = models.CharField(max_length=60, blank=True)
    reject_text = models.CharField(max_length=300, blank=True)
    filled_base = AmountField(default=ZERO)
    filled_quote = AmountField(default=ZERO)
    fee_total = AmountField(default=ZERO)
    hold = AmountField(default=ZERO, help_text="What it still claims of the currency that it pays with.")
    matched_until = models.BigIntegerField(
        null=True, help_text="Opening time, Unix seconds, of the last candle it was matched with."
    )
    created_at = models.DateTimeField(default=clock.now)
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "client_order_id"], name="paper_client_id_once_per_account"),
            models.CheckConstraint(condition=Q(hold__gte=ZERO), name="paper_order_hold_not_below_zero"),
        ]
        indexes = [models.Index(fields=["status", "symbol"], name="paper_order_working")]

    def __str__(self) -> str:
        return f"{self.side} {self.symbol} ({self.status})"


class PaperTrade(OwnedModel):
    """One execution at the paper venue."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="paper_trades")
    order = models.ForeignKey(PaperOrder, models.PROTECT, related_name="trades")
    trade_id = models.UUIDField(default=uuid.uuid4, unique=True)
    price = AmountField()
    base = AmountField()
    quote = AmountField()
    fee = AmountField()
    fee_currency = models.CharField(max_length=20)
    is_maker = models.BooleanField(default=False)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.base} at {self.price}"


class PaperEntry(OwnedModel):
    """Append-only journal of a paper account: the sum of a currency's entries is its balance."""

    class Kind(models.TextChoices):
        DEPOSIT = "deposit", "Deposit"
        WITHDRAWAL = "withdrawal", "Withdrawal"
        RESET = "reset", "Reset"
        TRADE = "trade", "Trade"
        FEE = "fee", "Fee"

    account = models.ForeignKey(Account, models.PROTECT, related_name="paper_entries")
    currency = models.CharField(max_length=20)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    amount = AmountField(help_text="Signed change of the total.")
    balance_after = AmountField()
    trade = models.ForeignKey(PaperTrade, models.PROTECT, null=True, blank=True, related_name="entries")
    note = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["account", "currency", "-id"], name="paper_entry_recent")]
        constraints = [
            models.UniqueConstraint(
                fields=["trade", "kind", "currency"],
                condition=Q(trade__isnull=False),
                name="paper_entry_once_per_trade",
            )
        ]
        verbose_name_plural = "paper entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.amount} {self.currency}"
