"""The one way to a venue: from the account that an order belongs to, never from the caller (F49, F50, F51)."""

from __future__ import annotations

from collections.abc import Callable

from accounts.exchanges.base import Venue
from accounts.models import Account
from tradebot.core.errors import MissingInformation

__all__ = ["register", "venue_of"]

Builder = Callable[[Account], Venue]
_builders: dict[str, Builder] = {}


def register(kind: str, builder: Builder | None) -> None:
    """Let ``builder`` make the venue of accounts whose exchange is ``kind``; None takes it out again."""
    if builder is None:
        _builders.pop(kind, None)
    else:
        _builders[kind] = builder


def venue_of(account: Account) -> Venue:
    """Return the venue of ``account``. Raises MissingInformation for a kind that cannot trade yet."""
    if account.is_paper:
        from accounts.exchanges.paper import PaperVenue

        return PaperVenue(account)
    if (builder := _builders.get(account.exchange)) is not None:
        return builder(account)
    raise MissingInformation(
        "venue_unsupported", "This account's exchange cannot be traded yet.", exchange=account.exchange
    )
