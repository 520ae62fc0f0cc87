"""Error types with codes. A code is stable and machine-readable; the message is for people. Pure: knows no Django.

Interfaces (pages, API, commands) turn these into a form message, ``{code, detail, field}`` or an exit code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tradebot.core.redaction import redact


class TradebotError(Exception):
    """An expected failure: ``code``, a sentence for people, the ``field`` at fault if any, the numbers behind it."""

    default_code = "error"

    def __init__(self, code: str | None = None, message: str = "", *, field: str | None = None, **detail: Any) -> None:
        self.code = code or self.default_code
        self.field = field
        self.detail = detail
        self.message = message or self.code.replace("_", " ")
        super().__init__(self.message)


class InvalidInput(TradebotError):
    """What the caller sent cannot be accepted; ``field`` names it."""

    default_code = "invalid"


class NotFound(TradebotError):
    """There is no such thing in the caller's scope."""

    default_code = "not_found"


class Conflict(TradebotError):
    """It contradicts another request of the same person: one that was, or still is, carried out."""

    default_code = "conflict"


class OrderRefused(TradebotError):
    """We refuse to place an order (before any venue hears of it)."""

    default_code = "refused"


class Remedy(StrEnum):
    """Who has to do what about a venue's failure."""

    ASK = "ask"
    """The outcome is not known: ask the venue what became of it, never send it again."""
    RETRY = "retry"
    """It may pass by itself: the same read may be tried again at once."""
    BACK_OFF = "back_off"
    """The venue wants to be left alone for a while."""
    PERSON = "person"
    """A person has to change something: keys, permissions, the venue's own settings."""
    NEVER = "never"
    """The same request will get the same no."""


class VenueError(TradebotError):
    """The venue did not do what was asked. ``remedy`` says who acts; it may be done unless ``outcome_known``."""

    default_code = "venue_error"
    remedy: Remedy = Remedy.NEVER

    def __init__(self, code: str | None = None, message: str = "", *, field: str | None = None, **detail: Any) -> None:
        # A venue's words are stored and shown, and may repeat what was sent.
        clean = {name: redact(value) if isinstance(value, str) else value for name, value in detail.items()}
        super().__init__(code, redact(message), field=field, **clean)

    @property
    def outcome_known(self) -> bool:
        return self.remedy is not Remedy.ASK


class VenueRejected(VenueError):
    """A clear no from the venue: nothing was placed."""

    default_code = "rejected"


class VenueDenied(VenueRejected):
    """The venue does not let this key do it: wrong, expired or narrowed keys, an address that is not allowed.

    Nothing was placed, and nothing will be until a person has acted.
    """

    default_code = "access_denied"
    remedy = Remedy.PERSON


class VenueUnknown(VenueError):
    """Time-out, dropped connection, 5xx: the request may have been carried out. Ask by client id, never resend (F5)."""

    default_code = "unknown_outcome"
    remedy = Remedy.ASK


class VenueUnavailable(VenueError):
    """A read failed; trying later is harmless."""

    default_code = "unavailable"
    remedy = Remedy.RETRY


class VenueThrottled(VenueUnavailable):
    """Too many requests, the venue's word or our own limiter's: nothing was done. ``retry_after`` seconds, if known.

    Raised for reads, and for writes that were refused before the venue looked at them.
    """

    default_code = "throttled"
    remedy = Remedy.BACK_OFF

    def __init__(
        self, code: str | None = None, message: str = "", *, retry_after: float | None = None, **detail: Any
    ) -> None:
        super().__init__(code, message, **detail)
        self.retry_after = retry_after


class MissingInformation(TradebotError):
    """A price, balance, minimum or permission is unknown, so no new order is made."""

    default_code = "missing_information"
