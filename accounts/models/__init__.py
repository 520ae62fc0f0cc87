"""People, the accounts they trade on, who shares them, what those were worth, and the paper venue's own book."""

from __future__ import annotations

from accounts.models.accounts import Account, ExchangeCredential, Membership, VenueBalance, VenueFunds
from accounts.models.paper import PaperBalance, PaperEntry, PaperOrder, PaperTerms, PaperTrade
from accounts.models.people import ApiToken, User, UserManager
from accounts.models.worth import LeftOut, Transfer, ValueSnapshot

__all__ = [
    "Account",
    "ApiToken",
    "ExchangeCredential",
    "LeftOut",
    "Membership",
    "PaperBalance",
    "PaperEntry",
    "PaperOrder",
    "PaperTerms",
    "PaperTrade",
    "Transfer",
    "User",
    "UserManager",
    "ValueSnapshot",
    "VenueBalance",
    "VenueFunds",
]
