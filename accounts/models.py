"""People, the accounts they trade on, who shares them, and the paper venue's own book."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from tradebot.core import clock
from tradebot.core.crypto import EncryptedField
from tradebot.core.decimals import ZERO
from tradebot.core.money import AmountField
from tradebot.core.scoping import OwnedModel
from tradebot.core.words import OrderStatus, OrderType, Side

ORDER_STATUSES = [(s.value, s.value.replace("_", " ")) for s in OrderStatus]
SIDES = [(s.value, s.value) for s in Side]
ORDER_TYPES = [(s.value, s.value) for s in OrderType]


class UserManager(BaseUserManager["User"]):
    """Creates users by e-mail address; addresses are compared without regard to case."""

    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        if not email:
            raise ValueError("a user has an e-mail address")
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractUser):
    """A person, known by e-mail address."""

    class Theme(models.TextChoices):
        AUTO = "auto", "as my device"
        LIGHT = "light", "light"
        DARK = "dark", "dark"

    username = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)
    timezone = models.CharField(max_length=64, default="UTC")
    theme = models.CharField(max_length=5, choices=Theme.choices, default=Theme.AUTO)

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.email

    def holds_token(self, digest: str) -> bool:
        """Whether this is the digest of an API token of theirs that programs may use now."""
        from accounts.tokens import find

        token = find(digest)
        return token is not None and token.user_id == self.pk


class ApiToken(OwnedModel):
    """What a person's programs sign in with. The token itself is not kept, only its digest; see ``accounts.tokens``."""

    account_path = None
    owner_path = "user"

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=60)
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the token, in hexadecimal.")
    prefix = models.CharField(max_length=8, help_text="The token's first characters, to recognise it.")
    created_at = models.DateTimeField(default=clock.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()


class Account(OwnedModel):
    """A place that orders go to: an exchange account, or a paper account that trades at a market's real prices."""

    class Kind(models.TextChoices):
        PAPER = "paper", "Paper"
        EXCHANGE = "exchange", "Exchange"

    account_path = "id"
    owner_path = "owner"

    owner = models.ForeignKey(User, models.PROTECT, related_name="accounts")
    name = models.CharField(max_length=60)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.PAPER)
    exchange = models.CharField(max_length=40, help_text="Slug of the market that it trades on.")
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now)
    archived_at = models.DateTimeField(null=True, blank=True)
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


class ExchangeCredential(OwnedModel):
    """The keys of an exchange account, encrypted and bound to it; ``version`` grows with every change (F57)."""

    account = models.OneToOneField(Account, models.CASCADE, related_name="credential")
    api_key = EncryptedField(bound_to="account_id")
    api_secret = EncryptedField(bound_to="account_id")
    passphrase = EncryptedField(bound_to="account_id")
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"keys of account {self.account_id}"


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
