"""The exchanges that Tradebot can speak to: their names, addresses and allowances. Data, and no ccxt.

Addresses are the operator's (``COINBASE_URL`` and its like); no form of a user can name one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["LIVE", "Allowance", "Rate", "VenueInfo", "get"]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` requests in any window of ``seconds``. Below what the venue allows, because windows touch."""

    count: int
    seconds: int = 1


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many requests a venue takes: of each key, of each address, and of an address without keys."""

    key: Rate
    address: Rate
    public: Rate


@dataclass(frozen=True, slots=True)
class VenueInfo:
    """An exchange. ``setting`` names the setting with its address, which by default is ``url``."""

    slug: str
    name: str
    setting: str
    url: str
    allowance: Allowance
    candles_per_request: int

    def base_url(self) -> str:
        """Return the address that the operator has set."""
        from django.conf import settings

        return str(getattr(settings, self.setting)).rstrip("/")


LIVE: Final = {
    info.slug: info
    for info in (
        # 30 private requests a second for each user, 10 public ones for each address.
        VenueInfo(
            "coinbase",
            "Coinbase",
            "COINBASE_URL",
            "https://api.coinbase.com",
            Allowance(Rate(25), Rate(200), Rate(10)),
            300,
        ),
        # 6,000 units of weight a minute for each address, keys or not; a look at orders or wallets costs 4 to 80.
        VenueInfo(
            "binance",
            "Binance",
            "BINANCE_URL",
            "https://api.binance.com",
            Allowance(Rate(8), Rate(12), Rate(6)),
            1000,
        ),
        # A counter for each key: it holds 15 and is paid back at one in three seconds.
        VenueInfo(
            "kraken", "Kraken", "KRAKEN_URL", "https://api.kraken.com", Allowance(Rate(7, 15), Rate(20), Rate(1)), 720
        ),
        # 10 to 20 a second for each key and endpoint, 600 in five seconds for each address.
        VenueInfo("bybit", "Bybit", "BYBIT_URL", "https://api.bybit.com", Allowance(Rate(8), Rate(80), Rate(20)), 1000),
        # 20 to 60 in two seconds for each key and endpoint, as many for each address without one.
        VenueInfo("okx", "OKX", "OKX_URL", "https://www.okx.com", Allowance(Rate(8), Rate(80), Rate(8)), 300),
    )
}
"""By slug. Coinbase first: what people mean unless they say otherwise."""


def get(slug: str) -> VenueInfo:
    """Return the exchange with this slug. Raises KeyError."""
    return LIVE[slug]
