"""What open perpetual positions add to their account's worth: their profit at the mark, which no balance shows."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from accounts.models import Account
from marketdata import market
from positions.guard import equity
from positions.models import Position
from positions.reserves import worth_per_base
from positions.states import POSITION_ACTIVE
from tradebot.core.decimals import ONE, ZERO, for_money
from tradebot.core.errors import MissingInformation

__all__ = ["equity_part"]

MARK_AGE: Final = timedelta(seconds=60)
"""How old a mark may be that a guard's equity rests on."""


def equity_part(account: Account, currency: str, now: datetime) -> Decimal:
    """Return the unrealised profit of the account's perpetual positions in ``currency``, fees left out.

    Raises MissingInformation (``missing_price``) while one of them has no fresh price: half an equity is none (F61).
    """
    rows = Position.objects.filter(account=account, status__in=POSITION_ACTIVE, product__kind="perpetual")
    deals = [deal for deal in rows.select_related("product") if deal.base_held]
    if not deals:
        return ZERO
    quotes = market.quotes(account.exchange, {deal.product.symbol for deal in deals}, now, MARK_AGE)
    rates: dict[str, Decimal] = {currency: ONE}
    total = ZERO
    with for_money():
        for deal in deals:
            quote = quotes.get(deal.product.symbol)
            worth = None if quote is None else worth_per_base(deal, quote.mark)
            if worth is None:
                raise MissingInformation("missing_price", f"There is no current price of {deal.product.symbol}.")
            if deal.product.quote not in rates:
                rates[deal.product.quote] = equity.rate(account.exchange, deal.product.quote, currency, now, MARK_AGE)
            total += deal.base_held * worth * rates[deal.product.quote]
    return total
