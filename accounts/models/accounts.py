"""Accounts, who shares them, the keys of those on an exchange, and what their venue last said that they hold."""

from __future__ import annotations

from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.exchanges.perps_rules import MAX_LEVERAGE
from accounts.models.people import User
from tradebot.core import clock
from tradebot.core.crypto import EncryptedField
from tradebot.core.decimals import ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel
from tradebot.core.words import MarginMode

__all__ = ["Account", "ExchangeCredential", "Membership", "PerpsSettings", "VenueBalance", "VenueFunds"]

_LEVERAGE = [MinValueValidator(1), MaxValueValidator(MAX_LEVERAGE)]


class Account(OwnedModel):
    """A place that orders go to: an exchange account, or a paper account that trades at a market's real prices."""

    class Kind(models.TextChoices):
        PAPER = "paper", "Paper"
        EXCHANGE = "exchange", "Exchange"

    class TradingState(models.TextChoices):
        READ_ONLY = "read_only", "Read-only"
        ARMED = "armed", "Armed"
        KILLED = "killed", "Stopped"

    account_path = "id"
    owner_path = "owner"

    owner = models.ForeignKey(User, models.PROTECT, related_name="accounts")
    name = models.CharField(max_length=60)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.PAPER)
    exchange = models.CharField(max_length=40, help_text="Slug of the market that it trades on.")
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now)
    archived_at = models.DateTimeField(null=True, blank=True)
    trading_state = models.CharField(
        max_length=10,
        choices=TradingState.choices,
        default=TradingState.READ_ONLY,
        help_text="Whether orders that take risk are let through. A paper account is only ever stopped.",
    )
    trading_state_at = models.DateTimeField(null=True, blank=True)
    trading_state_by = models.CharField(max_length=254, blank=True)
    keys_changed = models.PositiveIntegerField(
        default=0, help_text="How often its keys were put in, replaced or removed: versions never repeat (F57)."
    )
    # The cycle works on an account in one worker at a time; see bots.engine.
    lease_token = models.CharField(max_length=36, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="account_name_per_owner"),
            models.UniqueConstraint(
                fields=["owner"], condition=Q(is_default=True), name="one_default_account_per_owner"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_paper(self) -> bool:
        return self.kind == self.Kind.PAPER

    @property
    def is_armed(self) -> bool:
        """Return whether orders that take risk are let through: on paper always, unless it was stopped."""
        state = self.trading_state
        return state == self.TradingState.ARMED or (self.is_paper and state != self.TradingState.KILLED)

    @property
    def is_killed(self) -> bool:
        return self.trading_state == self.TradingState.KILLED


class Membership(OwnedModel):
    """A share in somebody else's account: a manager may act on it, an observer may only look."""

    class Role(models.TextChoices):
        MANAGER = "manager", "Manager"
        OBSERVER = "observer", "Observer"

    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "user"], name="one_membership_per_account_and_user")]

    def __str__(self) -> str:
        return f"{self.user_id} is {self.role} of account {self.account_id}"


class PerpsSettings(OwnedModel):
    """How an account trades perpetual futures. Without a row: as ``accounts.perps_settings`` says."""

    account = models.OneToOneField(Account, models.CASCADE, related_name="perps_settings")
    enabled = models.BooleanField(default=False)
    default_leverage = models.PositiveSmallIntegerField(default=3, validators=_LEVERAGE)
    max_leverage = models.PositiveSmallIntegerField(default=MAX_LEVERAGE, validators=_LEVERAGE)
    margin_mode = models.CharField(
        max_length=8, choices=[(mode.value, mode.value) for mode in MarginMode], default=MarginMode.ISOLATED
    )
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "perps settings"
        constraints = [
            models.CheckConstraint(
                condition=Q(default_leverage__gte=1)
                & Q(default_leverage__lte=models.F("max_leverage"))
                & Q(max_leverage__lte=MAX_LEVERAGE),
                name="perps_leverage_in_range",
            )
        ]

    def __str__(self) -> str:
        return f"perps settings of account {self.account_id}"


class ExchangeCredential(OwnedModel):
    """The keys of an exchange account, encrypted and bound to it; ``version`` grows with every change (F57)."""

    account = models.OneToOneField(Account, models.CASCADE, related_name="credential")
    api_key = EncryptedField(bound_to="account_id")
    api_secret = EncryptedField(bound_to="account_id")
    passphrase = EncryptedField(bound_to="account_id")
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(default=clock.now)
    # What the venue said about them when it was asked last; null is not known.
    can_view = models.BooleanField(null=True)
    can_trade = models.BooleanField(null=True)
    can_withdraw = models.BooleanField(null=True)
    portfolio = models.CharField(max_length=120, blank=True, help_text="What the venue says they are bound to.")
    checked_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=300, blank=True, help_text="Why the venue did not take them, at that check.")

    def __str__(self) -> str:
        return f"keys of account {self.account_id}"


class VenueFunds(OwnedModel):
    """What an exchange account's venue last said about its money: when it was asked, and the fees it takes.

    The amounts are the account's :class:`VenueBalance` rows, written together with this one. Without a row, or with an
    old one, nothing is known, and what is not known is not zero (F34). See ``accounts.balances``.
    """

    account = models.OneToOneField(Account, models.CASCADE, related_name="venue_funds")
    asked_at = models.DateTimeField(
        null=True, blank=True, help_text="When the answer was asked for: what happened later may be missing from it."
    )
    maker_fee = AmountField(null=True, blank=True, help_text="Fraction of the quote amount.")
    taker_fee = AmountField(null=True, blank=True, help_text="Fraction of the quote amount.")
    fees_asked_at = models.DateTimeField(null=True, blank=True)
    trades_checked_at = models.DateTimeField(
        null=True, blank=True, help_text="Its list of executions was compared with ours up to then."
    )
    failed_at = models.DateTimeField(null=True, blank=True, help_text="When the venue last failed to answer.")
    transfers_asked_at = models.DateTimeField(
        null=True, blank=True, help_text="When the last list of transfers that came was asked for."
    )
    leaving = models.JSONField(
        default=list, blank=True, help_text="Withdrawals that it said are on their way: currency, amount, begun at."
    )
    error_code = models.CharField(max_length=60, blank=True)
    error_text = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name_plural = "venue funds"

    def __str__(self) -> str:
        return f"funds of account {self.account_id} at {self.asked_at}"


class VenueBalance(OwnedModel):
    """What an exchange account holds of one currency, as its venue said; ``held`` is claimed by working orders."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="venue_balances")
    currency = models.CharField(max_length=20)
    total = AmountField(default=ZERO)
    held = AmountField(default=ZERO)

    class Meta:
        ordering = ["currency"]
        constraints = [models.UniqueConstraint(fields=["account", "currency"], name="venue_balance_per_currency")]

    def __str__(self) -> str:
        return f"{self.total} {self.currency}"

    @property
    def free(self) -> Decimal:
        return self.total - self.held
