"""What closing a deal would come to now: its ticker, and the order book walked for what is to be closed. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from accounts.balances import fees_of
from positions import ledger, slippage
from positions.booking import is_dust, totals_of
from positions.handling import current_quote, part_to_close
from positions.models import Position
from positions.states import POSITION_FINAL, Direction
from tradebot.core import clock
from tradebot.core.decimals import ZERO, for_money
from tradebot.core.errors import OrderRefused
from tradebot.core.words import Side

__all__ = ["ClosePreview", "Ticker", "close_preview", "ticker"]


@dataclass(frozen=True, slots=True)
class Ticker:
    """What the deal's product costs. ``exit`` is the price that closing meets: a long's bid, a short's ask."""

    symbol: str
    bid: Decimal
    ask: Decimal
    mark: Decimal
    last: Decimal
    exit: Decimal
    at: datetime
    age_seconds: float


@dataclass(frozen=True, slots=True)
class ClosePreview:
    """What closing ``base`` at market now would come to. Amounts are in quote, ``base`` and ``remaining`` in base.

    ``expected_price`` is the average over the book's levels, ``slippage_pct`` how much worse than the best one it is.
    ``is_covered`` false: the book shows less than that, so it may be worse. ``is_dust`` says that the whole remainder
    is too small to trade.
    """

    side: Side
    bid: Decimal
    ask: Decimal
    remaining: Decimal
    base: Decimal
    expected_price: Decimal
    slippage_pct: Decimal
    is_covered: bool
    fee_quote: Decimal
    value_quote: Decimal
    profit_quote: Decimal
    profit_pct: Decimal
    is_dust: bool

    @property
    def left(self) -> Decimal:
        """Return what stays in the deal, in base."""
        return self.remaining - self.base

    @property
    def is_part(self) -> bool:
        """Return whether something is left of the deal afterwards."""
        return self.base < self.remaining


def ticker(position: Position) -> Ticker:
    """Return bid, ask, mark and last price of the deal's product. Raises MissingInformation (``missing_price``)."""
    quote = current_quote(position)
    return Ticker(
        symbol=quote.symbol,
        bid=quote.bid,
        ask=quote.ask,
        mark=quote.mark,
        last=quote.last,
        exit=quote.bid if position.direction == Direction.LONG else quote.ask,
        at=quote.at,
        age_seconds=max((clock.now() - quote.at).total_seconds(), 0.0),
    )


def close_preview(position: Position, base: Decimal | None = None, share_pct: Decimal | None = None) -> ClosePreview:
    """Return what closing at market now would come to, from the order book: all that is left, or a part.

    Raises OrderRefused (``nothing_to_close``), InvalidInput (``base`` or ``share_pct``); MissingInformation and
    VenueUnavailable when a price, the book or the fees are not known.
    """
    product, direction = position.product, Direction(position.direction)
    totals = totals_of(position)
    remaining = totals.remaining_base
    if position.status in POSITION_FINAL or remaining <= ZERO:
        raise OrderRefused("nothing_to_close", "This deal holds nothing.")
    quote = current_quote(position)
    nearest = quote.bid if direction is Direction.LONG else quote.ask
    wanted = part_to_close(position, base, share_pct, nearest)
    size = remaining if wanted is None else wanted
    found = slippage.expected(position.account.exchange, product.symbol, direction.exit_side, size)
    taker = fees_of([position.account_id])[position.account_id][1]
    result = ledger.unrealised(totals, found.average, taker)
    with for_money():
        part = size / remaining
        return ClosePreview(
            side=direction.exit_side,
            bid=quote.bid,
            ask=quote.ask,
            remaining=remaining,
            base=size,
            expected_price=found.average,
            slippage_pct=found.pct,
            is_covered=found.is_covered,
            fee_quote=size * found.average * taker,
            value_quote=result.value * part,
            profit_quote=result.profit * part,
            profit_pct=result.pct,
            is_dust=is_dust(position, remaining, found.average),
        )
