"""Every dialect that is spoken, by the venue's slug."""

from __future__ import annotations

from typing import Final

from accounts.exchanges.ccxt.coinbase import CoinbaseDialect
from accounts.exchanges.ccxt.dialect import Dialect

__all__ = ["DIALECTS"]

DIALECTS: Final[dict[str, Dialect]] = {dialect.info.slug: dialect for dialect in (CoinbaseDialect(),)}
