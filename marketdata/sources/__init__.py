"""Where public market data comes from. ``get(slug)`` answers the source of a market."""

from __future__ import annotations

from functools import cache as remembered
from typing import TYPE_CHECKING, Final

from marketdata.wire.venues import LIVE
from tradebot.core.errors import InvalidInput

if TYPE_CHECKING:
    from marketdata.sources.base import MarketSource
    from marketdata.sources.coinbase import CoinbaseSource
    from marketdata.sources.exchange import ExchangeSource
    from marketdata.sources.replay import ReplaySource
    from marketdata.sources.simulated import SimulatedSource

__all__ = ["COINBASE", "EXCHANGES", "REPLAY", "SIMULATED", "SLUGS", "default_market", "get"]

COINBASE: Final = "coinbase"
SIMULATED: Final = "simulated"
REPLAY: Final = "replay"
EXCHANGES: Final = tuple(LIVE)
"""Markets of real exchanges: their prices are fetched and cached, the others' are computed."""
SLUGS: Final = (*EXCHANGES, SIMULATED, REPLAY)

DEFAULT_MARKET_KEY: Final = "market:default"
DEFAULT_MARKET_SECONDS: Final = 300


def get(slug: str) -> MarketSource:
    """Return the source of market ``slug``, one per process and address. Raises InvalidInput for an unknown one."""
    from django.conf import settings

    if slug == COINBASE:
        return _coinbase(settings.COINBASE_URL)
    if slug == SIMULATED:
        return _simulated(settings.SIMULATED_SEED)
    if slug == REPLAY:
        return _replay()
    if slug in LIVE:
        return _exchange(slug, LIVE[slug].base_url())
    raise InvalidInput("unknown_market", f"There is no market {slug!r}.", field="exchange")


def default_market() -> str:
    """Return the market that *new* paper accounts get: ``settings.MARKET``, where ``auto`` is Coinbase when it answers
    within two seconds and the simulated market otherwise. An answer is kept for five minutes."""
    from django.conf import settings
    from django.core.cache import cache

    if settings.MARKET != "auto":
        return get(settings.MARKET).slug
    known = cache.get(DEFAULT_MARKET_KEY)
    if known in SLUGS:
        return str(known)
    chosen = COINBASE if _coinbase(settings.COINBASE_URL).reachable() else SIMULATED
    cache.set(DEFAULT_MARKET_KEY, chosen, timeout=DEFAULT_MARKET_SECONDS)
    return chosen


@remembered
def _coinbase(base_url: str) -> CoinbaseSource:
    from marketdata.sources.coinbase import CoinbaseSource

    return CoinbaseSource(base_url)


@remembered
def _exchange(slug: str, base_url: str) -> ExchangeSource:
    from marketdata.sources.exchange import ExchangeSource

    return ExchangeSource(LIVE[slug], base_url)


@remembered
def _simulated(seed: int) -> SimulatedSource:
    from marketdata.sources.simulated import SimulatedSource

    return SimulatedSource(seed)


@remembered
def _replay() -> ReplaySource:
    from marketdata.sources.replay import ReplaySource

    return ReplaySource()
