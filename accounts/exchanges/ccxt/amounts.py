"""Reading a venue's answer strictly: whatever is not a plain decimal, a moment or a text is no answer.

Each function raises :class:`Unreadable`, which is a read that failed: half an answer is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from tradebot.core.decimals import dec
from tradebot.core.errors import VenueUnavailable

__all__ = ["Unreadable", "amount", "client_uuid", "millis", "moment", "one_of", "rows", "text"]

PLAIN: Final = re.compile(r"[+-]?\d{1,40}(\.\d{0,40})?")


class Unreadable(VenueUnavailable):
    """The venue's answer is not what it should be."""

    default_code = "malformed_answer"

    def __init__(self, what: str) -> None:
        super().__init__(message=f"The venue sent an answer that we cannot read ({what}).", what=what)


def amount(row: Mapping[str, Any], name: str, default: Decimal | None = None) -> Decimal:
    """Return ``row[name]`` as an exact number; an absent, null or empty one is ``default`` where there is one."""
    value = row.get(name)
    if value is None or value == "":
        if default is None:
            raise Unreadable(name)
        return default
    if isinstance(value, bool | float) or not PLAIN.fullmatch(str(value)):
        raise Unreadable(name)
    return dec(str(value))


def text(row: Mapping[str, Any], name: str) -> str:
    """Return ``row[name]``, which is a text (or a whole number, as ids are) and not empty."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise Unreadable(name)
    return str(value)


def rows(answer: Any, name: str) -> list[dict[str, Any]]:
    """Return ``answer[name]``, which is a list of objects."""
    found = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise Unreadable(name)
    return found


def moment(row: Mapping[str, Any], name: str) -> datetime:
    """Return ``row[name]``, an RFC 3339 time, as aware UTC."""
    value = text(row, name)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise Unreadable(name) from None
    if found.tzinfo is None:
        raise Unreadable(name)
    return found.astimezone(UTC)


def millis(row: Mapping[str, Any], name: str) -> datetime:
    """Return ``row[name]``, Unix milliseconds, as aware UTC."""
    value = amount(row, name)
    if value <= 0 or value > Decimal(10) ** 14:
        raise Unreadable(name)
    return datetime.fromtimestamp(int(value) // 1000, UTC).replace(microsecond=int(value) % 1000 * 1000)


def one_of(row: Mapping[str, Any], name: str, words: Mapping[str, Any]) -> Any:
    """Return what the word in ``row[name]`` means to us."""
    value = text(row, name)
    if value not in words:
        raise Unreadable(f"{name}={value[:40]}")
    return words[value]


def client_uuid(value: object) -> UUID | None:
    """Return a client id as ours, None for one that we cannot have given. Venues may drop hyphens and change case."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{32}", value.replace("-", "")):
        return None
    return UUID(value)


def chunked(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Return ``items`` in pieces of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]
