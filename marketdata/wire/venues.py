"""The exchanges that Tradebot can speak to: their names, addresses and allowances. Data, and no ccxt.

Addresses are the operator's (``COINBASE_URL`` and its like); no form of a user can name one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from marketdata.timeframes import Timeframe

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
    """An exchange. ``setting`` names the setting with its address, which by default is ``url``.

    ``book_sizes`` are the depths of an order book that may be asked for, ``options`` what ccxt is told.
    ``perpetual_quotes`` are what the linear perpetuals that we list are settled in; empty for spot alone.
    """

    slug: str
    name: str
    setting: str
    url: str
    allowance: Allowance
    candles_per_request: int
    timeframes: tuple[Timeframe, ...]
    book_sizes: tuple[int, ...] = (50, 100, 500)
    options: Mapping[str, Any] = field(default_factory=dict)
    perpetual_quotes: tuple[str, ...] = ()

    def base_url(self) -> str:
        """Return the address that the operator has set."""
        from django.conf import settings

        return str(getattr(settings, self.setting)).rstrip("/")


def _frames(names: str) -> tuple[Timeframe, ...]:
    return tuple(Timeframe(name) for name in names.split())


LIVE: Final = {
    info.slug: info
    for info in (
        VenueInfo(
            "coinbase",
            "Coinbase",
            "COINBASE_URL",
            "https://api.coinbase.com",
            # 30 private requests a second for each user, 10 public ones for each address.
            Allowance(Rate(25), Rate(200), Rate(10)),
            300,
            _frames("1m 5m 15m 30m 1h 2h 6h 1d"),
            options={"advanced": True},
        ),
        VenueInfo(
            "binance",
            "Binance",
            "BINANCE_URL",
            "https://api.binance.com",
            # 6,000 units of weight a minute for each address, keys or not; orders and wallets cost 1 to 80.
            Allowance(Rate(10), Rate(24), Rate(6)),
            1000,
            _frames("1m 3m 5m 15m 30m 1h 2h 4h 6h 12h 1d 3d 1w"),
            options={
                "fetchMarkets": {"types": ["spot"]},
                "defaultType": "spot",
                "warnOnFetchOpenOrdersWithoutSymbol": False,
                "fetchMargins": False,
            },
        ),
        VenueInfo(
            "kraken",
            "Kraken",
            "KRAKEN_URL",
            "https://api.kraken.com",
            # A counter for each key: it holds 15 and is paid back at one in three seconds. One public request a second.
            Allowance(Rate(12, 20), Rate(20), Rate(1)),
            720,
            _frames("1m 5m 15m 30m 1h 4h 1d"),
        ),
        VenueInfo(
            "bybit",
            "Bybit",
            "BYBIT_URL",
            "https://api.bybit.com",
            # 10 to 20 a second for each key and endpoint, 600 in five seconds for each address.
            Allowance(Rate(8), Rate(80), Rate(20)),
            1000,
            _frames("1m 3m 5m 15m 30m 1h 2h 4h 6h 12h 1d 1w"),
            (50, 200),
            {
                "fetchMarkets": {"types": ["spot", "linear"]},
                "defaultType": "spot",
                "enableUnifiedMargin": False,
                "enableUnifiedAccount": True,  # known, so that ccxt does not ask
            },
            # Not USDC: its contracts settle profit with each funding, in one entry, which moves the entry price.
            ("USDT",),
        ),
        VenueInfo(
            "okx",
            "OKX",
            "OKX_URL",
            "https://www.okx.com",
            # 20 to 60 in two seconds for each key and endpoint, as many for each address without one.
            Allowance(Rate(8), Rate(80), Rate(8)),
            300,
            _frames("1m 3m 5m 15m 30m 1h 2h 4h"),
            (50, 100, 400),
            {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"},
        ),
    )
}
"""By slug. Coinbase first: what people mean unless they say otherwise."""


def get(slug: str) -> VenueInfo:
    """Return the exchange with this slug. Raises KeyError."""
    return LIVE[slug]
