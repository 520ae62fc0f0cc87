"""Error types with codes. A code is stable and machine-readable; the message is for people. Pure: knows no Django.

Interfaces (pages, API, commands) turn these into a form message, ``{code, detail, field}`` or an exit code.
"""

from __future__ import annotations

from typing import Any


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


class OrderRefused(TradebotError):
    """We refuse to place an order (before any venue hears of it)."""

    default_code = "refused"


class VenueError(TradebotError):
    """The venue did not do what was asked. ``outcome_known`` false means that it may have."""

    default_code = "venue_error"
    outcome_known = True


class VenueRejected(VenueError):
    """A clear no from the venue: nothing was placed."""

    default_code = "rejected"


class VenueUnknown(VenueError):
    """Time-out, dropped connection, 5xx: the request may have been carried out. Ask by client id, never resend (F5)."""

    default_code = "unknown_outcome"
    outcome_known = False


class VenueUnavailable(VenueError):
    """A read failed or was throttled; trying later is harmless."""

    default_code = "unavailable"


class MissingInformation(TradebotError):
    """A price, balance, minimum or permission is unknown, so no new order is made."""

    default_code = "missing_information"
