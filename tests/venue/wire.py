"""What dialects and server say to each other: a request that has been read and authenticated, and its answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from tests.venue.keys import ApiKey
from tests.venue.model import Malformed

Answer = tuple[int, Any]
Handler = Callable[["Request"], Answer]


class NotFound(Exception):
    """There is no such thing, or it belongs to somebody else."""


class Forbidden(Exception):
    """The key may not do this."""


@dataclass(slots=True)
class Request:
    """One request. ``query`` keeps repeated parameters; ``body`` is what was sent as JSON, an empty dict without."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: dict[str, Any]
    raw_query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    key: ApiKey | None = None
    part: str = ""
    """What stands in place of the variable of the route."""

    @property
    def account(self) -> str:
        return self.key.account if self.key else ""

    def one(self, name: str, default: str = "") -> str:
        """Return a query parameter."""
        return self.query.get(name, [default])[-1]

    def many(self, *names: str) -> list[str]:
        """Return all values of a parameter that may be repeated, under any of its names."""
        return [value for name in names for value in self.query.get(name, []) if value]

    def number(self, name: str, default: int, most: int) -> int:
        """Return a query parameter that is a whole number from 1 to ``most``. Raises Malformed."""
        text = self.one(name)
        if not text:
            return default
        if not text.isdigit() or not 1 <= int(text) <= most:
            raise Malformed(name, f"a whole number from 1 to {most} is needed, not {text!r}")
        return int(text)

    def moment(self, name: str) -> datetime | None:
        """Return a query parameter that is an RFC 3339 time. Raises Malformed."""
        text = self.one(name)
        return moment_of(name, text) if text else None


def moment_of(name: str, text: Any) -> datetime:
    """Return the time that ``text`` says. Raises Malformed."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise Malformed(name, f"{text!r} is no RFC 3339 time") from None
    if moment.tzinfo is None:
        raise Malformed(name, f"{text!r} has no time zone")
    return moment.astimezone(UTC)


def amount_of(name: str, value: Any) -> Decimal:
    """Return an amount above zero that was sent as a string of digits. Raises Malformed, naming the field."""
    if not isinstance(value, str):
        raise Malformed(name, f"invalid value for string type: {value!r}")
    if not re.fullmatch(r"\d+(\.\d+)?", value):
        raise Malformed(name, f"{value!r} is no decimal number")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise Malformed(name, f"{value!r} is no decimal number") from None
    if amount <= 0:
        raise Malformed(name, "an amount above zero is needed")
    return amount


def page(rows: list[Any], start: int, size: int) -> tuple[list[Any], str]:
    """Return a page of rows, and the cursor of the next one, empty on the last."""
    after = start + size
    return rows[start:after], str(after) if after < len(rows) else ""
