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
from tradebot.core.words import Direction, MarginMode, OrderStatus, OrderType, Side

__all__ = ["PaperBalance", "PaperEntry", "PaperOrder", "PaperPerp", "PaperTerms", "PaperTrade"]

ORDER_STATUSES = [(s.value, s.value.replace("_", " ")) for s in OrderStatus]
SIDES = [(s.value, s.value) for s in Side]
ORDER_TYPES = [(s.value, s.value) for s in OrderType]
DIRECTIONS = [(d.value, d.value) for d in Direction]
MARGIN_MODES = [(m.value, m.value) for m in MarginMode]
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
    # Orders on perpetual products only.
    is_perpetual = models.BooleanField(default=False)
    reduce_only = models.BooleanField(default=False)
    leverage = models.PositiveSmallIntegerField(null=True)
    margin_mode = models.CharField(max_length=8, choices=MARGIN_MODES, blank=True)
    trigger_price = AmountField(null=True, help_text="Of a stop: where the market has to get before it is executed.")
    is_forced = models.BooleanField(default=False, help_text="A liquidation: placed by the venue, not by the account.")
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


class PaperPerp(OwnedModel):
    """A paper account's position in one perpetual; with ``base`` zero there is none at present.

    Its ``margin`` is part of what the quote currency's balance holds back. What it earns or costs is in the journal.
    """

    account = models.ForeignKey(Account, models.PROTECT, related_name="paper_perps")
    symbol = models.CharField(max_length=40)
    quote_currency = models.CharField(max_length=20)
    direction = models.CharField(max_length=5, choices=DIRECTIONS, default=Direction.LONG)
    base = AmountField(default=ZERO)
    entry_quote = AmountField(default=ZERO, help_text="What its base was worth when it was opened.")
    leverage = models.PositiveSmallIntegerField(default=1)
    margin_mode = models.CharField(max_length=8, choices=MARGIN_MODES, default=MarginMode.ISOLATED)
    margin = AmountField(default=ZERO, help_text="Claimed of the balance for it.")
    maintenance_pct = AmountField(help_text="Percent of its value below which it is liquidated.")
    funding_hours = models.PositiveSmallIntegerField()
    price_increment = AmountField(help_text="The product's step of prices.")
    funded_until = models.DateTimeField(default=clock.now, help_text="Funding due up to here has been settled.")
    settled_until = models.DateTimeField(default=clock.now, help_text="Liquidation has been looked at up to here.")
    opened_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "symbol"], name="paper_perp_per_symbol"),
            models.CheckConstraint(
                condition=Q(base__gte=ZERO) & Q(entry_quote__gte=ZERO) & Q(margin__gte=ZERO),
                name="paper_perp_not_below_zero",
            ),
            models.CheckConstraint(
                condition=Q(base__gt=ZERO) | (Q(margin=ZERO) & Q(entry_quote=ZERO)), name="paper_perp_flat_is_empty"
            ),
        ]
        indexes = [models.Index(fields=["symbol"], name="paper_perp_open", condition=Q(base__gt=ZERO))]

    def __str__(self) -> str:
        return f"{self.direction} {self.base} {self.symbol}"


class PaperEntry(OwnedModel):
    """Append-only journal of a paper account: the sum of a currency's entries is its balance."""

    class Kind(models.TextChoices):
        DEPOSIT = "deposit", "Deposit"
        WITHDRAWAL = "withdrawal", "Withdrawal"
        RESET = "reset", "Reset"
        TRADE = "trade", "Trade"
        FEE = "fee", "Fee"
        PROFIT = "profit", "Profit or loss of a perpetual"
        FUNDING = "funding", "Funding"

    account = models.ForeignKey(Account, models.PROTECT, related_name="paper_entries")
    currency = models.CharField(max_length=20)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    amount = AmountField(help_text="Signed change of the total.")
    balance_after = AmountField()
    trade = models.ForeignKey(PaperTrade, models.PROTECT, null=True, blank=True, related_name="entries")
    symbol = models.CharField(max_length=40, blank=True, help_text="Of funding: the perpetual that it was for.")
    rate = AmountField(null=True, blank=True, help_text="Of funding: the rate, as a fraction of the value.")
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
