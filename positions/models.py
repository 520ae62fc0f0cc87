"""Deals, the orders they consist of, and the fills those got. Written by ``positions.execution`` only."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from positions.states import (
    POSITION_ACTIVE,
    SINGLE_EXITS,
    WORKING,
    Direction,
    ExitReason,
    KeptStrategy,
    OrderStatus,
    OrderType,
    PositionStatus,
    Purpose,
    Side,
)
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel
from tradebot.core.words import MarginMode


def _choices(words: type) -> list[tuple[str, str]]:
    return [(word.value, word.value.replace("_", " ")) for word in words]  # type: ignore[attr-defined]


POSITION_STATUSES = _choices(PositionStatus)
_ACTIVE = sorted(status.value for status in POSITION_ACTIVE)
_WORKING = sorted(status.value for status in WORKING)
_EXITS = sorted(purpose.value for purpose in SINGLE_EXITS)


class UserCounter(OwnedModel):
    """Per-person numbers that are handed out once: deals, attempts. Taken under the row's lock."""

    account_path = None
    owner_path = "user"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="counter")
    deals = models.PositiveBigIntegerField(default=0)
    attempts = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"counters of {self.user_id}"


class Position(OwnedModel):
    """A deal from its first intent to its last fill. The totals are derived from its fills by ``positions.ledger``."""

    uid = models.UUIDField(
        default=uuid.uuid4, unique=True, editable=False, help_text="Never reused; order client ids derive from it."
    )
    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="positions")
    bot = models.ForeignKey("bots.Bot", models.SET_NULL, null=True, blank=True, related_name="positions")
    bot_name = models.CharField(max_length=80, blank=True, help_text="Outlives the bot.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    product = models.ForeignKey("marketdata.Product", models.PROTECT, related_name="+")
    strategy = models.CharField(max_length=40, default="indicator_dca")
    direction = models.CharField(max_length=5, choices=_choices(Direction), default=Direction.LONG)
    status = models.CharField(max_length=10, choices=POSITION_STATUSES, default=PositionStatus.PENDING)
    slot = models.PositiveIntegerField(default=0, help_text="Which of the bot's parallel deals on this pair it is.")
    deal_number = models.PositiveBigIntegerField(null=True, blank=True, help_text="Counts deals that got a fill.")
    attempt_number = models.PositiveBigIntegerField(help_text="Counts every attempt.")
    settings = models.JSONField(default=dict, help_text="Frozen copy of the bot's settings when the deal opened.")
    settings_version = models.PositiveIntegerField(default=1)
    budget_quote = AmountField(default=ZERO, help_text="The most it may spend.")

    # Derived from fills by positions.execution.recompute; nothing else writes them.
    base_bought = AmountField(default=ZERO)
    base_sold = AmountField(default=ZERO)
    base_held = AmountField(default=ZERO, help_text="Net of fees taken in base.")
    quote_spent = AmountField(default=ZERO)
    quote_received = AmountField(default=ZERO)
    fees_quote = AmountField(default=ZERO, help_text="All fees, those in base valued at their fill's price.")
    average_price = AmountField(null=True, blank=True)
    realised_quote = AmountField(default=ZERO, help_text="Net of fees.")
    realised_pct = AmountField(null=True, blank=True)
    dust_price = AmountField(
        null=True, blank=True, help_text="At which an untradable remainder was valued when the deal closed."
    )
    safety_orders_filled = models.PositiveIntegerField(default=0, help_text="Ladder levels bought.")

    trail = models.JSONField(default=dict, blank=True, help_text="State of trailing exits, as the strategy writes it.")
    evaluated_until = models.JSONField(default=dict, blank=True)
    last_code = models.CharField(max_length=60, blank=True, help_text="Reason code of the last decision about it.")
    last_message = models.CharField(max_length=400, blank=True)
    last_evidence = models.JSONField(default=dict, blank=True)
    last_changed_at = models.DateTimeField(null=True, blank=True)
    exit_reason = models.CharField(max_length=20, choices=_choices(ExitReason), blank=True)
    notes = models.TextField(blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    opened_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["account", "status"], name="position_account_status"),
            models.Index(fields=["bot", "status"], name="position_bot_status"),
            models.Index(fields=["account", "-closed_at"], name="position_account_closed"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["bot", "product", "direction", "slot"],
                condition=Q(status__in=_ACTIVE),
                name="one_active_deal_per_slot",
            ),
            models.CheckConstraint(
                condition=Q(base_bought__gte=ZERO)
                & Q(base_sold__gte=ZERO)
                & Q(quote_spent__gte=ZERO)
                & Q(quote_received__gte=ZERO),
                name="position_totals_not_below_zero",
            ),
            models.CheckConstraint(
                condition=Q(status="pending") | Q(status="failed") | Q(opened_at__isnull=False) | Q(status="cancelled"),
                name="open_position_has_opened_at",
            ),
            models.CheckConstraint(
                condition=(Q(status__in=["closed", "cancelled", "failed"]) & Q(closed_at__isnull=False))
                | (~Q(status__in=["closed", "cancelled", "failed"]) & Q(closed_at__isnull=True)),
                name="ended_position_has_closed_at",
            ),
            models.CheckConstraint(
                condition=~Q(status="failed") | Q(deal_number__isnull=True), name="failed_position_has_no_deal_number"
            ),
        ]

    def __str__(self) -> str:
        return f"deal {self.deal_number or '-'} (attempt {self.attempt_number})"

    @property
    def is_sale(self) -> bool:
        """Return whether it sells coins of no deal: by its books a short, which is never bought back."""
        return self.strategy == KeptStrategy.SALE


class Order(OwnedModel):
    """One order, written down before the venue hears of it."""

    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="orders")
    position = models.ForeignKey(Position, models.PROTECT, related_name="orders")
    client_order_id = models.UUIDField(unique=True, editable=False)
    venue_order_id = models.CharField(max_length=80, blank=True)
    purpose = models.CharField(max_length=20, choices=_choices(Purpose))
    sequence = models.PositiveIntegerField(help_text="1, 2, 3 … within the deal and purpose.")
    side = models.CharField(max_length=4, choices=_choices(Side))
    order_type = models.CharField(max_length=6, choices=_choices(OrderType))
    base_size = AmountField(null=True, blank=True)
    quote_size = AmountField(null=True, blank=True)
    limit_price = AmountField(null=True, blank=True)
    trigger_price = AmountField(
        null=True, blank=True, help_text="Of a stop: a market order that waits until the price gets there."
    )
    reference_price = AmountField(null=True, blank=True, help_text="The price that it was decided at.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Good till then; null is good till cancelled.")
    levels = models.PositiveIntegerField(default=0, help_text="Ladder levels that it buys.")
    exit_reason = models.CharField(max_length=20, choices=_choices(ExitReason), blank=True)
    status = models.CharField(max_length=20, choices=_choices(OrderStatus), default=OrderStatus.INTENDED)
    hold_currency = models.CharField(max_length=20, blank=True)
    hold_amount = AmountField(default=ZERO, help_text="What it may still take from the free balance.")
    filled_base = AmountField(default=ZERO)
    filled_quote = AmountField(default=ZERO)
    error_code = models.CharField(max_length=60, blank=True)
    error_text = models.CharField(max_length=300, blank=True)
    actor = models.CharField(max_length=254, default="bot", help_text="bot, system, or the person's e-mail.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_actor = models.CharField(
        max_length=254, blank=True, help_text="Who asked for the cancel; a person's name is never replaced."
    )
    not_found_at = models.DateTimeField(
        null=True, blank=True, help_text="When the venue first said that it does not know it."
    )
    created_at = models.DateTimeField(default=clock.now)
    submitted_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(
        null=True, blank=True, help_text="When the venue's first word about it was written down."
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["account", "acknowledged_at"], name="order_acknowledged"),
            models.Index(fields=["status"], name="order_working", condition=Q(status__in=_WORKING)),
            models.Index(fields=["position", "id"], name="order_position"),
            models.Index(fields=["account", "-id"], name="order_account_recent"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["position", "purpose", "sequence"], name="order_intent_once"),
            models.UniqueConstraint(
                fields=["position"],
                condition=Q(status__in=_WORKING) & Q(purpose__in=_EXITS),
                name="one_working_exit_per_deal",
            ),
            models.UniqueConstraint(
                fields=["position", "purpose"], condition=Q(status__in=_WORKING), name="one_working_order_per_purpose"
            ),
            models.CheckConstraint(condition=Q(base_size__gt=ZERO) | Q(quote_size__gt=ZERO), name="order_has_a_size"),
            models.CheckConstraint(condition=Q(hold_amount__gte=ZERO), name="order_hold_not_below_zero"),
            models.CheckConstraint(
                condition=Q(order_type="market") | Q(limit_price__gt=ZERO), name="limit_order_has_a_price"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.sequence} ({self.status})"


class Fill(OwnedModel):
    """An execution that the venue confirmed. Never changed, never deleted."""

    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="fills")
    position = models.ForeignKey(Position, models.PROTECT, related_name="fills")
    order = models.ForeignKey(Order, models.PROTECT, related_name="fills")
    venue_trade_id = models.CharField(max_length=80)
    side = models.CharField(max_length=4, choices=_choices(Side))
    price = AmountField()
    base = AmountField()
    quote = AmountField()
    fee = AmountField(default=ZERO)
    fee_currency = models.CharField(max_length=20)
    is_maker = models.BooleanField(default=False)
    at = models.DateTimeField(help_text="The venue's time.")
    recorded_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["at", "id"]
        indexes = [models.Index(fields=["account", "-at"], name="fill_account_recent")]
        constraints = [
            models.UniqueConstraint(fields=["order", "venue_trade_id"], name="fill_once_per_trade"),
            models.CheckConstraint(condition=Q(base__gt=ZERO) & Q(quote__gt=ZERO), name="fill_has_amounts"),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.base} at {self.price}"


class PerpsTerms(OwnedModel):
    """What makes a deal one in a perpetual future. Prices and margin are the venue's last word, of ``checked_at``.

    While ``ended_at`` is empty it is the account's one position in that product.
    """

    position = models.OneToOneField(Position, models.PROTECT, related_name="perps_terms")
    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="perps_terms")
    product = models.ForeignKey("marketdata.Product", models.PROTECT, related_name="+")
    leverage = models.PositiveSmallIntegerField()
    margin_mode = models.CharField(max_length=8, choices=_choices(MarginMode))
    initial_margin = AmountField(default=ZERO, help_text="What its opening fills took, value / leverage.")
    margin = AmountField(null=True, blank=True, help_text="What the venue keeps for it now.")
    entry_price = AmountField(null=True, blank=True, help_text="As the venue counts it.")
    liquidation_price = AmountField(null=True, blank=True, help_text="Empty: no price is that bad, or not known yet.")
    funding_quote = AmountField(default=ZERO, help_text="Received less paid: the sum of its funding payments.")
    last_funding_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True, help_text="When the venue last told.")
    differs_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when the venue's position has another size than the deal."
    )
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "perps terms"
        constraints = [
            models.UniqueConstraint(
                fields=["account", "product"], condition=Q(ended_at__isnull=True), name="one_live_perp_per_product"
            ),
            models.CheckConstraint(condition=Q(leverage__gte=1) & Q(leverage__lte=10), name="perps_leverage_1_to_10"),
        ]

    def __str__(self) -> str:
        return f"{self.leverage}x {self.margin_mode}"


class Bracket(OwnedModel):
    """The take profit and the stop that somebody wants at the venue for a perpetual deal, and whether they stand there.

    The orders are the deal's, with purposes of their own; ``positions.brackets`` makes them agree with these prices.
    """

    position = models.OneToOneField(Position, models.PROTECT, related_name="bracket")
    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="brackets")
    take_profit = AmountField(null=True, blank=True)
    stop_loss = AmountField(null=True, blank=True)
    watched = models.BooleanField(default=False, help_text="The venue keeps no stops: this installation watches it.")
    alarm_code = models.CharField(max_length=60, blank=True, help_text="Why it does not stand, if it does not.")
    alarm_text = models.CharField(max_length=300, blank=True)
    alarm_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="Tries in a row that failed.")
    next_try_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"take profit {self.take_profit}, stop {self.stop_loss}"


class FundingPayment(OwnedModel):
    """One funding of a perpetual deal that the venue confirmed. Never changed, never deleted."""

    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="funding_payments")
    position = models.ForeignKey(Position, models.PROTECT, related_name="funding_payments")
    venue_id = models.CharField(max_length=80)
    amount = AmountField(help_text="In quote currency: received above zero, paid below.")
    rate = AmountField(null=True, blank=True, help_text="Fraction of the position's value, if the venue says.")
    at = models.DateTimeField(help_text="The venue's time.")
    recorded_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["at", "id"]
        constraints = [models.UniqueConstraint(fields=["account", "venue_id"], name="funding_once")]

    def __str__(self) -> str:
        return f"{self.amount} at {self.at}"


class UnmatchedFill(OwnedModel):
    """An execution on the venue that belongs to no order of ours: reported to the owner, never adopted (F11)."""

    class Explanation(models.TextChoices):
        BY_HAND = "by_hand", "I traded this by hand"
        OTHER_PROGRAM = "other_program", "Another program of mine did"
        UNKNOWN = "unknown", "I do not know: keep watching"

    account = models.ForeignKey("accounts.Account", models.PROTECT, related_name="unmatched_fills")
    venue_trade_id = models.CharField(max_length=80)
    symbol = models.CharField(max_length=40)
    side = models.CharField(max_length=4, choices=_choices(Side))
    price = AmountField()
    base = AmountField()
    at = models.DateTimeField()
    reported_at = models.DateTimeField(default=clock.now)
    explanation = models.CharField(
        max_length=20, choices=Explanation.choices, blank=True, help_text="What its owner says it was."
    )
    explained_at = models.DateTimeField(null=True, blank=True)
    explained_by = models.CharField(max_length=254, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["account", "explanation", "-id"], name="unmatched_fill_unexplained")]
        constraints = [models.UniqueConstraint(fields=["account", "venue_trade_id"], name="unmatched_fill_once")]

    def __str__(self) -> str:
        return f"{self.side} {self.base} {self.symbol}"


class DayMark(OwnedModel):
    """What an account's open deals had earned when its owner's day began; see ``positions.daymarks``."""

    account = models.OneToOneField("accounts.Account", models.CASCADE, related_name="day_mark")
    day = models.DateField(help_text="The day in the owner's time zone.")
    at = models.DateTimeField(help_text="When the figures were taken that the day is counted from.")
    results = models.JSONField(default=dict, help_text="Realised and unrealised by quote currency, exact.")
    latest_at = models.DateTimeField()
    latest = models.JSONField(default=dict, help_text="The same, of the last look: the next day's beginning.")

    def __str__(self) -> str:
        return f"account {self.account_id} on {self.day}"
