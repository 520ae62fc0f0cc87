"""People, the accounts they trade on, who shares them, what guards and automates them, and the paper venue's book."""

from __future__ import annotations

from accounts.models.accounts import Account, ExchangeCredential, Membership, VenueBalance, VenueFunds
from accounts.models.automation import AutoBuyRule
from accounts.models.guard import EquitySnapshot, PropGuardEvent, PropGuardRules, PropGuardState
from accounts.models.paper import PaperBalance, PaperEntry, PaperOrder, PaperTerms, PaperTrade
from accounts.models.people import ApiToken, User, UserManager
from accounts.models.safety import TradingLimits

__all__ = [
    "Account",
    "ApiToken",
    "AutoBuyRule",
    "EquitySnapshot",
    "ExchangeCredential",
    "Membership",
    "PaperBalance",
    "PaperEntry",
    "PaperOrder",
    "PaperTerms",
    "PaperTrade",
    "PropGuardEvent",
    "PropGuardRules",
    "PropGuardState",
    "TradingLimits",
    "User",
    "UserManager",
    "VenueBalance",
    "VenueFunds",
]
