"""People, the accounts they trade on, who shares them, and the paper venue's own book."""

from __future__ import annotations

from accounts.models.accounts import Account, ExchangeCredential, Membership, PerpsSettings, VenueBalance, VenueFunds
from accounts.models.paper import PaperBalance, PaperEntry, PaperOrder, PaperPerp, PaperTerms, PaperTrade
from accounts.models.people import ApiToken, User, UserManager

__all__ = [
    "Account",
    "ApiToken",
    "ExchangeCredential",
    "Membership",
    "PaperBalance",
    "PaperEntry",
    "PaperOrder",
    "PaperPerp",
    "PaperTerms",
    "PaperTrade",
    "PerpsSettings",
    "User",
    "UserManager",
    "VenueBalance",
    "VenueFunds",
]
