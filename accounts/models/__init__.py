"""People, their accounts and shares, what guards and automates those, what they were worth, and the paper book."""

from __future__ import annotations

from accounts.models.accounts import Account, ExchangeCredential, Membership, PerpsSettings, VenueBalance, VenueFunds
from accounts.models.automation import AutoBuyRule
from accounts.models.guard import EquitySnapshot, PropGuardEvent, PropGuardRules, PropGuardState
from accounts.models.paper import PaperBalance, PaperEntry, PaperOrder, PaperPerp, PaperTerms, PaperTrade
from accounts.models.people import ApiToken, User, UserManager
from accounts.models.safety import TradingLimits
from accounts.models.worth import LeftOut, Transfer, ValueSnapshot

__all__ = [
    "Account",
    "ApiToken",
    "AutoBuyRule",
    "EquitySnapshot",
    "ExchangeCredential",
    "LeftOut",
    "Membership",
    "PaperBalance",
    "PaperEntry",
    "PaperOrder",
    "PaperPerp",
    "PaperTerms",
    "PaperTrade",
    "PerpsSettings",
    "PropGuardEvent",
    "PropGuardRules",
    "PropGuardState",
    "TradingLimits",
    "Transfer",
    "User",
    "UserManager",
    "ValueSnapshot",
    "VenueBalance",
    "VenueFunds",
]
