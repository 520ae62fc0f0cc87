"""People, the accounts they trade on, who shares them, and the paper venue's own book."""

from __future__ import annotations

from accounts.models.accounts import Account, ExchangeCredential, Membership, VenueBalance, VenueFunds
from accounts.models.paper import PaperBalance, PaperEntry, PaperOrder, PaperTerms, PaperTrade
from accounts.models.people import ApiToken, User, UserManager

__all__ = [
    "Account",
    "ApiToken",
    "ExchangeCredential",
    "Membership",
    "PaperBalance",
    "PaperEntry",
    "PaperOrder",
    "PaperTerms",
    "PaperTrade",
    "User",
    "UserManager",
    "VenueBalance",
    "VenueFunds",
]
