"""The one way to a venue: from the account that an order belongs to, never from the caller (F49, F50, F51)."""

from __future__ import annotations

from accounts.exchanges.base import Venue
from accounts.models import Account
from tradebot.core.errors import MissingInformation

__all__ = ["venue_of"]


def venue_of(account: Account) -> Venue:
    """Return the venue of ``account``. Raises MissingInformation for a kind that cannot trade yet."""
    if account.is_paper:
        from accounts.exchanges.paper import PaperVenue

        return PaperVenue(account)
    raise MissingInformation("venue_unsupported", "This account's exchange cannot be traded yet.", exchange=account.exchange)
