"""What a fill does to a paper order and to its account's balances. Its figures come from ``paper_rules``.

Nothing is read from or written to the database but through the :class:`~accounts.exchanges.paper_ledger.Ledger` of the
surrounding transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from accounts.exchanges import paper_perps
from accounts.exchanges.base import OrderReport, Trade
from accounts.exchanges.paper_ledger import Ledger
from accounts.exchanges.paper_rules import Costs, execution, hold_for
from accounts.models import PaperEntry, PaperOrder, PaperTerms, PaperTrade
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.words import OrderStatus, OrderType, Side

__all__ = ["close", "costs_of", "execute", "remaining", "report_of", "rest", "trade_of"]


def costs_of(terms: PaperTerms | None) -> Costs:
    """Return the costs of an account with these terms; without terms of its own the usual ones apply."""
    terms = terms or PaperTerms()
    return Costs(
        terms.maker_fee_pct / HUNDRED,
        terms.taker_fee_pct / HUNDRED,
        terms.slippage_pct / HUNDRED,
        terms.fee_currency == PaperTerms.FeeCurrency.BASE,
    )


# Orders -------------------------------------------------------------------------------------------------------------


def remaining(order: PaperOrder) -> Decimal:
    """Return the base of a sized order that is not filled."""
    return (order.base_size or ZERO) - order.filled_base


def _paying_currency(order: PaperOrder) -> str:
    buys_or_margin = order.side == Side.BUY or order.is_perpetual
    return order.quote_currency if buys_or_margin else order.base_currency


def _claim(ledger: Ledger, order: PaperOrder, hold: Decimal) -> None:
    ledger.claim(order.account_id, _paying_currency(order), hold - order.hold)
    order.hold = hold


def rest(ledger: Ledger, order: PaperOrder, costs: Costs) -> None:
    """Put a new limit order into the book with its hold. Raises Overdrawn."""
    if order.is_perpetual:
        hold = paper_perps.hold_for(order, remaining(order), costs)
    else:
        hold = hold_for(order.side, remaining(order), order.limit_price or ZERO, costs)
    _claim(ledger, order, hold)
    order.status = OrderStatus.OPEN


def close(ledger: Ledger, order: PaperOrder, status: OrderStatus) -> None:
    """End a working order (cancelled, expired) and give back what it still claims."""
    _claim(ledger, order, ZERO)
    order.status, order.updated_at = status, ledger.now


def execute(
    ledger: Ledger, order: PaperOrder, costs: Costs, base: Decimal, price: Decimal, *, is_maker: bool
) -> PaperTrade | None:
    """Fill ``base`` of ``order`` at ``price`` and return the trade, still unsaved; None when it is worth nothing.

    Changes the order (amounts, hold, status) and the ledger; the figures are those of
    :func:`~accounts.exchanges.paper_rules.execution`. Raises Overdrawn for a market order that the free balance does
    not cover.
    """
    if order.is_perpetual:
        return _execute_perpetual(ledger, order, costs, base, price, is_maker=is_maker)
    rests = order.order_type == OrderType.LIMIT
    done = execution(
        order.side,
        base,
        price,
        costs,
        is_maker=is_maker,
        limit=order.limit_price if rests else None,
        rest=remaining(order) - base if rests else ZERO,
        hold=order.hold,
    )
    if done is None:
        return None
    order.filled_base += done.base
    order.filled_quote += done.quote
    order.fee_total += done.fee
    trade = PaperTrade(
        account_id=order.account_id,
        order=order,
        price=done.price,
        base=done.base,
        quote=done.quote,
        fee=done.fee,
        fee_currency=order.base_currency if done.fee_in_base else order.quote_currency,
        is_maker=is_maker,
        at=ledger.now,
    )
    if rests:
        _claim(ledger, order, done.hold)
    else:
        ledger.require(order.account_id, _paying_currency(order), done.paid)
    _settle(ledger, order, trade)
    whole = order.base_size is None or remaining(order) <= ZERO
    order.status = OrderStatus.FILLED if whole else OrderStatus.PARTIALLY_FILLED
    order.updated_at = ledger.now
    return trade


def _execute_perpetual(
    ledger: Ledger, order: PaperOrder, costs: Costs, base: Decimal, price: Decimal, *, is_maker: bool
) -> PaperTrade | None:
    """As :func:`execute`. A reduce-only order fills what there is to reduce; the rest of it is cancelled."""
    if not paper_perps.fits(ledger, order):
        close(ledger, order, OrderStatus.CANCELLED)
        return None
    if not order.reduce_only:  # its claim becomes the position's margin
        _claim(ledger, order, min(order.hold, paper_perps.hold_for(order, remaining(order) - base, costs)))
    trade = paper_perps.fill(ledger, order, costs, base, price, is_maker=is_maker)
    if trade is None:
        return None
    order.filled_base += trade.base
    order.filled_quote += trade.quote
    order.fee_total += trade.fee
    order.status = OrderStatus.PARTIALLY_FILLED if remaining(order) > ZERO else OrderStatus.FILLED
    order.updated_at = ledger.now
    if remaining(order) > ZERO and not paper_perps.fits(ledger, order):
        close(ledger, order, OrderStatus.CANCELLED)
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
        symbol=order.symbol,
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
