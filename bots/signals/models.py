"""Signals that bots were sent, each with its verdict, and the hooks that they come in by."""

from __future__ import annotations

import secrets
from typing import Final

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from bots.signals.payloads import EVERY_PAIR
from marketdata.indicators import spec_of
from marketdata.signals import SignalAction, SignalKind
from tradebot.core import clock
from tradebot.core.scoping import OwnedModel

__all__ = ["DEFAULT_MAX_LAG", "HEARD", "LONGEST_LAG", "SHORTEST_LAG", "Signal", "SignalHook"]

DEFAULT_MAX_LAG: Final = 60
SHORTEST_LAG: Final = 1
LONGEST_LAG: Final = 86_400
KINDS: Final = [(kind.value, kind.value) for kind in SignalKind]
ACTIONS: Final = [(word.value, word.value) for word in SignalAction]


def new_public_id() -> str:
    """Return a name for a hook's address that nobody can guess. It is no secret: addresses end up in logs."""
    return secrets.token_urlsafe(18)


class SignalHook(OwnedModel):
    """The address at which programs tell one bot something. Its secret is not kept, only the digest (F55)."""

    account_path = "bot__account"
    owner_path = "bot__owner"

    bot = models.OneToOneField("bots.Bot", models.CASCADE, related_name="hook")
    public_id = models.CharField(max_length=32, unique=True, default=new_public_id)
    secret_digest = models.CharField(
        max_length=64, blank=True, help_text="SHA-256 of the secret, in hexadecimal; empty once it is revoked."
    )
    secret_made_at = models.DateTimeField(null=True, blank=True)
    max_lag_seconds = models.PositiveIntegerField(
        default=DEFAULT_MAX_LAG,
        validators=[MinValueValidator(SHORTEST_LAG), MaxValueValidator(LONGEST_LAG)],
        help_text="How long an alert may have been under way, by the time that it says it was sent.",
    )
    created_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"hook of bot {self.bot_id}"

    @property
    def is_open(self) -> bool:
        """Return whether there is a secret that lets alerts in."""
        return bool(self.secret_digest)


class Signal(OwnedModel):
    """Something a bot was told, and what came of it. It sets conditions; it never places an order."""

    class Verdict(models.TextChoices):
        ACCEPTED = "accepted", "Accepted"
        LOW_CONFIDENCE = "low_confidence", "Low confidence"
        TOO_LATE = "too_late", "Too late"
        UNKNOWN_PAIR = "unknown_pair", "Unknown pair"
        BAD = "bad", "Not understood"

    class Source(models.TextChoices):
        HOOK = "hook", "Hook"
        API = "api", "API"

    account_path = "bot__account"
    owner_path = "bot__owner"

    bot = models.ForeignKey("bots.Bot", models.CASCADE, related_name="signals")
    product = models.ForeignKey(
        "marketdata.Product", models.PROTECT, null=True, blank=True, related_name="+", help_text="Null: all its pairs."
    )
    pair = models.CharField(max_length=60, blank=True, help_text="The pair as the sender wrote it.")
    kind = models.CharField(max_length=10, choices=KINDS)
    action = models.CharField(max_length=4, blank=True, choices=ACTIONS)
    confidence = models.FloatField(null=True, blank=True, help_text="0 to 100.")
    reasoning = models.CharField(max_length=500, blank=True)
    source = models.CharField(max_length=4, choices=Source.choices)
    external_id = models.CharField(
        max_length=100, blank=True, help_text="The sender's own id: the same one counts once."
    )
    sent_at = models.DateTimeField(null=True, blank=True, help_text="As the sender says.")
    received_at = models.DateTimeField(default=clock.now, help_text="By the server's clock; this is what counts.")
    verdict = models.CharField(max_length=14, choices=Verdict.choices)
    reason = models.CharField(max_length=300, blank=True, help_text="The verdict in words, with the numbers.")
    is_first = models.BooleanField(
        default=False,
        help_text="The first one heard of its kind about its pair, kept for good: from then on silence has a meaning.",
    )

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["bot", "received_at"], name="signal_bot_received"),
            models.Index(fields=["bot"], name="signal_bot_first", condition=Q(is_first=True)),
            models.Index(fields=["received_at"], name="signal_age"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["bot", "external_id"], condition=~Q(external_id=""), name="signal_external_id_once"
            ),
            models.CheckConstraint(
                condition=Q(confidence__isnull=True) | Q(confidence__gte=0, confidence__lte=100),
                name="signal_confidence_in_range",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for bot {self.bot_id}: {self.verdict}"

    @property
    def label(self) -> str:
        """Return what it is in words: "Webhook, buy"."""
        name = spec_of(self.kind).label
        return f"{name}, {self.action}" if self.action and self.kind == SignalKind.WEBHOOK else name

    @property
    def pair_words(self) -> str:
        """Return the pair it is about: its symbol, what the sender wrote where there is none, or that it is all."""
        if self.product is not None:
            return str(self.product.symbol)
        return "all pairs" if self.is_heard or self.pair.lower() in EVERY_PAIR else self.pair or "–"

    @property
    def is_heard(self) -> bool:
        """Return whether conditions weigh it."""
        return self.verdict in HEARD


HEARD: Final = (Signal.Verdict.ACCEPTED, Signal.Verdict.LOW_CONFIDENCE)
"""Signals that conditions weigh. One of low confidence reaches none of its bot's conditions as they were when it came;
the conditions themselves say so, each by its own least confidence."""
