"""What a failed request to a venue means: the typed error, by what happened at the wire and which family ccxt names.

The wire is asked first, because it says whether a write may have been carried out:

1. No connection was made: nothing happened.
2. No complete answer, a time-out, a server error, something that cannot be read: a read failed; a write may have been
   carried out (F5).
3. A complete answer: what the venue said. Its own words first (a dialect's ``refusal``), then ccxt's family, then the
   status.

A venue's error that nobody can place is an unknown outcome for a write, never a failure. The table is data, and its
test goes through it row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from marketdata.wire.client import Exchanged, NoAnswer, Unsigned, Wrong
from tradebot.core.errors import VenueDenied, VenueError, VenueRejected, VenueThrottled, VenueUnavailable, VenueUnknown

__all__ = ["FAMILIES", "Act", "Meaning", "Refusal", "is_outage", "translated"]


class Act(StrEnum):
    """What a call does at the venue."""

    READ = "read"
    WRITE = "write"


class Meaning(StrEnum):
    """What an error family says."""

    NO = "no"
    """A clear no to this request."""
    KEYS = "keys"
    """The key may not do it."""
    SLOWER = "slower"
    """Too many requests; this one was not looked at."""
    CLOCK = "clock"
    """The request's time was refused; it was not looked at."""
    FAILED = "failed"
    """The venue failed: the outcome of a write is open."""


FAMILIES: Final[tuple[tuple[str, Meaning, str], ...]] = (
    ("InsufficientFunds", Meaning.NO, "insufficient_funds"),
    ("OrderNotFound", Meaning.NO, "unknown_order"),
    ("OrderNotCached", Meaning.NO, "unknown_order"),
    ("OrderImmediatelyFillable", Meaning.NO, "would_trade_at_once"),
    ("OrderNotFillable", Meaning.NO, "not_fillable"),
    ("DuplicateOrderId", Meaning.NO, "duplicate_client_id"),
    ("ContractUnavailable", Meaning.NO, "not_trading"),
    ("InvalidOrder", Meaning.NO, "bad_order"),
    ("BadSymbol", Meaning.NO, "unknown_product"),
    ("MarketClosed", Meaning.NO, "not_trading"),
    ("RestrictedLocation", Meaning.KEYS, "restricted_location"),
    ("ManualInteractionNeeded", Meaning.KEYS, "manual_interaction_needed"),
    ("OperationRejected", Meaning.NO, "rejected"),
    ("ArgumentsRequired", Meaning.NO, "bad_order"),
    ("BadRequest", Meaning.NO, "bad_request"),
    ("NotSupported", Meaning.NO, "not_offered"),
    ("InvalidAddress", Meaning.NO, "bad_request"),
    ("AccountSuspended", Meaning.KEYS, "account_suspended"),
    ("AccountNotEnabled", Meaning.KEYS, "account_not_enabled"),
    ("PermissionDenied", Meaning.KEYS, "not_permitted"),
    ("AuthenticationError", Meaning.KEYS, "keys_refused"),
    ("RateLimitExceeded", Meaning.SLOWER, "throttled"),
    ("DDoSProtection", Meaning.SLOWER, "throttled"),
    ("InvalidNonce", Meaning.CLOCK, "clock_skew"),
    ("OnMaintenance", Meaning.FAILED, "maintenance"),
    ("ExchangeNotAvailable", Meaning.FAILED, "venue_failed"),
    ("RequestTimeout", Meaning.FAILED, "no_answer"),
    ("NetworkError", Meaning.FAILED, "no_answer"),
    ("BadResponse", Meaning.FAILED, "malformed_answer"),
    ("CancelPending", Meaning.FAILED, "cancel_pending"),
    ("OperationFailed", Meaning.FAILED, "venue_failed"),
)
"""ccxt's error families, the special before the general, with what they say and our code. A generic ``ExchangeError``
is not among them: it says nothing."""

ANSWERS: Final = ("unknown_order", "unknown_product", "not_found")
"""Refusals that answer a question; any other refusal of a read says that it was not answered."""
SERVER_FAILED: Final = 500
UNCLEAR: Final = (408, 409, 425)
"""Answers in the four hundreds after which a write may still have been carried out."""
SLOWER: Final = (418, 429)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A clear word of the venue, read from its answer: our code and its text."""

    code: str
    text: str = ""
    meaning: Meaning = Meaning.NO


def family_of(error: BaseException) -> tuple[Meaning, str] | None:
    """Return what the most special family of a ccxt error says, None for one that says nothing or is not ccxt's."""
    names = [base.__name__ for base in type(error).__mro__]
    if "BaseError" not in names:
        return None
    for name in names:
        for family, meaning, code in FAMILIES:
            if family == name:
                return meaning, code
    return None


def translated(
    error: Exception, wire: Exchanged, act: Act, venue: str, refusal: Refusal | None = None, **numbers: Any
) -> VenueError:
    """Return our error for what ``venue`` (its name) did. ``numbers`` are what the request was about."""
    facts = {"venue": venue, "request": f"{wire.method} {wire.path}".strip(), "status": wire.status, **numbers}
    if wire.requests == 0 or not wire.sent or isinstance(error, Wrong):
        return _unsent(error, wire, act, venue, facts)
    if wire.status in SLOWER:
        return _by_meaning(Meaning.SLOWER, "throttled", act, wire, venue, "", facts)
    if not wire.complete or wire.status is None:
        return _failed(act, wire, "no_answer", f"{venue} did not answer.", facts)
    if wire.status >= SERVER_FAILED or wire.status in UNCLEAR:
        return _failed(act, wire, "venue_failed", f"{venue} failed ({wire.status}).", facts)
    if refusal is not None:
        return _by_meaning(refusal.meaning, refusal.code, act, wire, venue, refusal.text, facts)
    family = family_of(error)
    if family is not None and not (family[0] is Meaning.FAILED and wire.status >= 400):
        return _by_meaning(*family, act, wire, venue, "", facts)
    if wire.status in (401, 403):
        return _by_meaning(Meaning.KEYS, "keys_refused", act, wire, venue, "", facts)
    if 400 <= wire.status < SERVER_FAILED:
        return _by_meaning(Meaning.NO, "bad_request", act, wire, venue, "", facts)
    code = "malformed_answer" if isinstance(error, NoAnswer) else "unclear_answer"
    return _failed(act, wire, code, f"{venue} sent an answer that we cannot place.", facts)


def _unsent(error: Exception, wire: Exchanged, act: Act, venue: str, facts: dict[str, Any]) -> VenueError:
    """Return the error for what never reached the venue, or reached somebody else."""
    if isinstance(error, Unsigned):
        return VenueDenied("keys_unreadable", f"The keys are not in the form in which {venue} gives them out.", **facts)
    if isinstance(error, Wrong):
        return _failed(act, wire, "wrong_address", f"{venue}: {error}.", facts)
    if wire.requests == 0:
        # ccxt itself found the request wrong before anything was sent.
        meaning, code = family_of(error) or (Meaning.NO, "bad_request")
        return _by_meaning(meaning, code, act, wire, venue, _short(error, venue), facts, nothing_sent=True)
    text = f"{venue} cannot be reached."
    if act is Act.READ:
        return VenueUnavailable("unreachable", text, **facts)
    return VenueThrottled("unreachable", f"{text} Nothing was sent.", **facts)


def _failed(act: Act, wire: Exchanged, code: str, text: str, facts: dict[str, Any]) -> VenueError:
    if act is Act.READ:
        return VenueUnavailable(code, text, **facts)
    return VenueUnknown(code, f"{text} It may have been carried out.", **facts)


def _by_meaning(
    meaning: Meaning,
    code: str,
    act: Act,
    wire: Exchanged,
    venue: str,
    text: str,
    facts: dict[str, Any],
    *,
    nothing_sent: bool = False,
) -> VenueError:
    said = f": {text}" if text else "."
    if meaning is Meaning.KEYS:
        return VenueDenied(code, f"{venue} does not let this key do it{said}", **facts)
    if meaning is Meaning.SLOWER:
        wait = wire.retry_after
        return VenueThrottled(code, f"{venue} wants fewer requests{said}", retry_after=wait, **facts)
    if meaning is Meaning.CLOCK:
        if act is Act.READ:
            return VenueUnavailable(code, f"{venue} refused the request's time{said}", **facts)
        return VenueThrottled(code, f"{venue} refused the request's time{said}", **facts)
    if meaning is Meaning.FAILED and not nothing_sent:
        return _failed(act, wire, code, f"{venue} failed{said}", facts)
    if act is Act.READ and code not in ANSWERS:
        return VenueUnavailable(code, f"{venue} did not understand the question{said}", **facts)
    return VenueRejected(code, f"{venue} said no{said}", **facts)


def _short(error: Exception, venue: str) -> str:
    return str(error)[:200].removeprefix(venue.lower()).strip()


def is_outage(error: VenueError) -> bool:
    """Return whether an error says that the venue is down, rather than that it said no or wants fewer requests."""
    if isinstance(error, VenueThrottled):
        return error.code == "unreachable"
    return isinstance(error, VenueUnavailable | VenueUnknown) and error.code in (
        "no_answer",
        "venue_failed",
        "maintenance",
        "unreachable",
        "malformed_answer",
    )
