"""How much worse than the best price an order of a given size would fill, by the order book as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from accounts.exchanges.paper_rules import walked
from marketdata import market
from tradebot.core.decimals import HUNDRED, ZERO, for_money
from tradebot.core.errors import MissingInformation
from tradebot.core.words import Side

__all__ = ["Slippage", "expected"]


@dataclass(frozen=True, slots=True)
class Slippage:
    """``best`` is the price of the nearest level, ``average`` what the whole order would get.

    ``pct`` is how much worse the average is than the best price, in percent, never below zero. ``offered`` is what the
    visible levels offer, in the currency that the order is sized in; where the order is larger, the rest was taken at
    the last level's price, so ``pct`` is the least that it would be (``is_covered`` is false).
    """

    best: Decimal
    average: Decimal
    pct: Decimal
    offered: Decimal
    is_covered: bool


def expected(
    exchange: str, symbol: str, side: Side, base: Decimal | None = None, *, quote: Decimal | None = None
) -> Slippage:
    """Return what taking ``base``, or spending ``quote`` (above zero), at the book of this market would come to.

    Asks the market, so never inside a transaction. Raises MissingInformation (``empty_book``), VenueUnavailable,
    NotFound.
    """
    book = market.book(exchange, symbol)
    levels = book.asks if side is Side.BUY else book.bids
    if not levels:
        raise MissingInformation("empty_book", f"Nobody trades {symbol} at the moment.")
    with for_money():
        best, average = levels[0].price, walked(levels, base=base, quote=quote)
        worse = average - best if side is Side.BUY else best - average
        in_base = base is not None
        offered = sum((level.size if in_base else level.size * level.price for level in levels), ZERO)
        wanted = (base if in_base else quote) or ZERO
        return Slippage(best, average, max(worse / best * HUNDRED, ZERO), offered, offered >= wanted)
