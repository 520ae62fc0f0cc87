"""Every dialect that is spoken, by the venue's slug."""

from __future__ import annotations

from typing import Final

from accounts.exchanges.ccxt.binance import BinanceDialect
from accounts.exchanges.ccxt.bybit import BybitDialect
from accounts.exchanges.ccxt.coinbase import CoinbaseDialect
from accounts.exchanges.ccxt.dialect import Dialect
from accounts.exchanges.ccxt.kraken import KrakenDialect
from accounts.exchanges.ccxt.okx import OkxDialect

__all__ = ["DIALECTS"]

_ALL: Final[tuple[Dialect, ...]] = (
    CoinbaseDialect(),
    BinanceDialect(),
    KrakenDialect(),
    BybitDialect(),
    OkxDialect(),
)
DIALECTS: Final = {dialect.info.slug: dialect for dialect in _ALL}
