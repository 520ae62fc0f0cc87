"""How the paper venue fills: at which price, for what fee, and what that does to an order and its account's balances.

Everything here is computed from what it is given; nothing is read from or written to the database but through the
:class:`~accounts.exchanges.paper_ledger.Ledger` of the surrounding transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from accounts.exchanges.base import OrderReport, Trade
from accounts.exchanges.paper_ledger import Ledger
from accounts.models import PaperEntry, PaperOrder, PaperTerms, PaperTrade
from marketdata.sources.base import BookLevel
from tradebot.core.decimals import HUNDRED, ONE, QUANTUM, ZERO, ceil_to, floor_to
from tradebot.core.words import OrderStatus, OrderType, Side

__all__ = [
    "Costs",
    "close",
    "execute",
    "hold_for",
    "reachable",
    "remaining",
    "report_of",
    "rest",
    "slipped",
    "trade_of",
    "walked",
]


@dataclass(frozen=True, slots=True)
class Costs:
    """What trading on one account costs: fractions, e.g. 0.006; ``fee_in_base`` is about buys only."""

    maker: Decimal
    taker: Decimal
    slippage: Decimal
    fee_in_base: bool

    @classmethod
    def of(cls, terms: PaperTerms | None) -> Costs:
        """Return the costs of an account with these terms; without terms of its own the usual ones apply."""
        terms = terms or PaperTerms()
        return cls(
            terms.maker_fee_pct / HUNDRED,
            terms.taker_fee_pct / HUNDRED,
            terms.slippage_pct / HUNDRED,
            terms.fee_currency == PaperTerms.FeeCurrency.BASE,
        )


# Prices -------------------------------------------------------------------------------------------------------------


def reachable(side: str, levels: Sequence[BookLevel], limit: Decimal) -> list[BookLevel]:
    """Return the levels, best first, that an order of this side may take without going beyond its limit."""
    return [level for level in levels if (level.price <= limit if side == Side.BUY else level.price >= limit)]


def walked(levels: Sequence[BookLevel], *, base: Decimal | None = None, quote: Decimal | None = None) -> Decimal:
    """Return the average price of taking ``base``, or of spending ``quote``, from ``levels`` (best first, not empty).

    What the levels do not offer is taken at the last one's price.
    """
    left = base if base is not None else quote
    if left is None or left <= ZERO:
        raise ValueError("an amount above zero is needed")
    got_base = got_quote = ZERO
    for number, level in enumerate(levels, 1):
        affordable = left if base is not None else left / level.price
        take = affordable if number == len(levels) else min(level.size, affordable)
        got_base += take
        got_quote += take * level.price
        left -= take if base is not None else take * level.price
        if left <= ZERO:
            break
    return got_quote / got_base


def slipped(side: str, price: Decimal, slippage: Decimal, increment: Decimal, limit: Decimal | None = None) -> Decimal:
    """Return the price a taker gets: worse by ``slippage`` (a fraction), on a valid step, never beyond ``limit``."""
    if side == Side.BUY:
        worse = ceil_to(price * (ONE + slippage), increment)
        return worse if limit is None else min(worse, limit)
    worse = max(floor_to(price * (ONE - slippage), increment), increment)
    return worse if limit is None else max(worse, limit)


# Orders -------------------------------------------------------------------------------------------------------------


def remaining(order: PaperOrder) -> Decimal:
    """Return the base of a sized order that is not filled."""
    return (order.base_size or ZERO) - order.filled_base


def hold_for(order: PaperOrder, costs: Costs) -> Decimal:
    """Return what a limit order claims for its unfilled rest: base of a sell; quote of a buy with the dearer fee."""
    rest = remaining(order)
    if order.side == Side.SELL:
        return rest
    rate = ZERO if costs.fee_in_base else max(costs.maker, costs.taker)
    return ceil_to(rest * (order.limit_price or ZERO) * (ONE + rate), QUANTUM)


def _paying_currency(order: PaperOrder) -> str:
    return order.quote_currency if order.side == Side.BUY else order.base_currency


def _claim(ledger: Ledger, order: PaperOrder, hold: Decimal) -> None:
    ledger.claim(order.account_id, _paying_currency(order), hold - order.hold)
    order.hold = hold


def rest(ledger: Ledger, order: PaperOrder, costs: Costs) -> None:
    """Put a new limit order into the book with its hold. Raises Overdrawn."""
    _claim(ledger, order, hold_for(order, costs))
    order.status = OrderStatus.OPEN


def close(ledger: Ledger, order: PaperOrder, status: OrderStatus) -> None:
    """End a working order (cancelled, expired) and give back what it still claims."""
    _claim(ledger, order, ZERO)
    order.status, order.updated_at = status, ledger.now


def execute(
    ledger: Ledger, order: PaperOrder, costs: Costs, base: Decimal, price: Decimal, *, is_maker: bool
) -> PaperTrade | None:
    """Fill ``base`` of ``order`` at ``price`` and return the trade, still unsaved; None when it is worth nothing.

    Changes the order (amounts, hold, status) and the ledger. Products of prices and sizes are cut to 18 places, so a
    buy never costs more than was claimed for it; when fees were raised after it was placed, it pays at most that.
    Raises Overdrawn for a market order that the free balance does not cover.
    """
    quote = floor_to(base * price, QUANTUM)
    if base <= ZERO or quote <= ZERO:
        return None
    buys, rests = order.side == Side.BUY, order.order_type == OrderType.LIMIT
    fee_in_base = buys and costs.fee_in_base
    rate = costs.maker if is_maker else costs.taker
    fee = floor_to((base if fee_in_base else quote) * rate, QUANTUM)
    order.filled_base += base
    if buys and rests and not fee_in_base:
        still_needed = ceil_to(remaining(order) * (order.limit_price or ZERO), QUANTUM)
        fee = max(ZERO, min(fee, order.hold - quote - still_needed))
    order.filled_quote += quote
    order.fee_total += fee
    trade = PaperTrade(
        account_id=order.account_id,
        order=order,
        price=price,
        base=base,
        quote=quote,
        fee=fee,
        fee_currency=order.base_currency if fee_in_base else order.quote_currency,
        is_maker=is_maker,
        at=ledger.now,
    )
    paid = base if not buys else quote if fee_in_base else quote + fee
    if rests:
        _claim(ledger, order, min(hold_for(order, costs), order.hold - paid))
    else:
        ledger.require(order.account_id, _paying_currency(order), paid)
    _settle(ledger, order, trade)
    done = order.base_size is None or remaining(order) <= ZERO
    order.status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
    order.updated_at = ledger.now
    return trade


def _settle(ledger: Ledger, order: PaperOrder, trade: PaperTrade) -> None:
    account_id, sign = order.account_id, 1 if order.side == Side.BUY else -1
    changes = [
        (order.quote_currency, -sign * trade.quote, PaperEntry.Kind.TRADE),
        (order.base_currency, sign * trade.base, PaperEntry.Kind.TRADE),
        (trade.fee_currency, -trade.fee, PaperEntry.Kind.FEE),
    ]
    if sign < 0:  # a sale is paid with base, and its fee with what it brings
        changes[0], changes[1] = changes[1], changes[0]
    for currency, amount, kind in changes:
        ledger.change(account_id, currency, amount, kind, trade=trade)


def report_of(order: PaperOrder, trades: Sequence[PaperTrade]) -> OrderReport:
    """Return what the venue says about the order, ``trades`` being all of its trades, oldest first."""
    return OrderReport(
        client_order_id=order.client_order_id,
        venue_order_id=str(order.venue_order_id),
        status=OrderStatus(order.status),
        trades=tuple(trade_of(trade) for trade in trades),
        error_code=order.reject_code,
        error_text=order.reject_text,
    )


def trade_of(trade: PaperTrade) -> Trade:
    """Return a trade in the words of the venue contract."""
    return Trade(
        trade_id=str(trade.trade_id),
        price=trade.price,
        base=trade.base,
        quote=trade.quote,
        fee=trade.fee,
        fee_currency=trade.fee_currency,
        is_maker=trade.is_maker,
        at=trade.at,
    )
