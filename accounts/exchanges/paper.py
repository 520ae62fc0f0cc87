"""The paper venue: a real venue whose market is public prices and whose book is in our own database.

It knows nothing of deals or bots. It keeps its own orders, trades, balances and journal, honours client ids, limits,
increments, minimums, fees and holds, and says no with a code, like any other venue; so everything above it (order
protocol, reconciliation) is the same for paper and live. Each call is a transaction of its own and commits before it
answers: calling it inside another transaction, whose rollback would make the answer untrue, raises RuntimeError.

How orders fill:

* Market orders at once and completely: by walking the order book where the market has one at no cost (the simulated
  one), else at best bid or ask; in both cases worse by the account's slippage, on a valid price step. Taker fee. On
  recordings never better than the price the order was decided at (``paper_rules.never_better``).
* Limit orders that cross the market when they arrive: the same way as far as the limit allows, taker fee. The rest
  stays in the book with a hold, and :func:`~accounts.exchanges.paper_matching.match_resting` fills it at exactly its
  limit, maker fee.

``quote_size`` of a market buy is the value before fees: it spends at most ``quote_size`` plus the taker fee's share
(or, with fees in base, exactly nothing on top, and the fee reduces the base received, F25). The base bought is floored
to the product's increment (F24). A market buy may carry ``base_size`` instead, as a short's closing does.

Perpetual products trade with margin in the quote currency (:mod:`~accounts.exchanges.paper_perps`): orders that open
say leverage and margin mode, orders that close are reduce-only, stops carry a trigger price. Before any order on one
is looked at, what is due on the account's positions is settled (:mod:`~accounts.exchanges.paper_settlement`), so nobody
closes a position that had been liquidated by then.

A price that is unknown or stale is not zero: the order is refused (``no_price``) and no balance changes. Refusals that
depend on the moment are remembered under the client id, so that a repeat of the same id gets the same answer, whatever
the market or the balance has done since (two callers racing with one id must not see a no and a fill).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from accounts.exchanges import paper_perps, paper_settlement
from accounts.exchanges import perps_rules as perps
from accounts.exchanges.base import (
    NEVER_ARRIVED,
    Balance,
    Capabilities,
    ForcedClose,
    FundingMovement,
    KeyPermissions,
    Movement,
    NewOrder,
    OrderRef,
    OrderReport,
    VenuePosition,
    VenueTrade,
)
from accounts.exchanges.paper_fills import close, costs_of, execute, remaining, report_of, rest, trade_of
from accounts.exchanges.paper_ledger import Ledger, Overdrawn
from accounts.exchanges.paper_matching import book_levels, match_resting
from accounts.exchanges.paper_rules import Costs, never_better, reachable, slipped, walked
from accounts.exchanges.shape import LARGEST, check_shape
from accounts.models import Account, PaperBalance, PaperEntry, PaperOrder, PaperPerp, PaperTerms, PaperTrade
from marketdata import market, sources
from marketdata.models import Product
from marketdata.sources.base import Book, BookLevel, ProductInfo, Quote
from tradebot.core import clock
from tradebot.core.decimals import ZERO, floor_to, plain
from tradebot.core.errors import VenueRejected
from tradebot.core.words import Direction, MarginMode, OrderStatus, OrderType, Side

__all__ = ["PaperVenue", "match_resting"]

WORKING: Final = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)
FROM_OUTSIDE: Final = (PaperEntry.Kind.DEPOSIT, PaperEntry.Kind.WITHDRAWAL, PaperEntry.Kind.RESET)


@dataclass(frozen=True, slots=True)
class _Market:
    """What an order meets: the product, its quote, and the levels of the side it takes from (best first, not empty)."""

    product: Product
    quote: Quote
    levels: Sequence[BookLevel]
    has_depth: bool


class PaperVenue:
    """The paper venue of one account; see the module for how it fills. Works in a scope that may change the account."""

    capabilities: Capabilities = Capabilities(
        "Paper", lookup_is_definitive=True, lists_movements=True, perpetuals=True, stop_orders=True
    )

    def __init__(self, account: Account) -> None:
        if not account.is_paper:
            raise ValueError("the paper venue is for paper accounts (F51)")
        self.account_id: int = account.pk
        self.exchange: str = account.exchange

    # Reading ---------------------------------------------------------------------------------------------------------

    def balances(self) -> dict[str, Balance]:
        """See :meth:`Venue.balances`."""
        rows = PaperBalance.objects.filter(account_id=self.account_id)
        return {row.currency: Balance(row.currency, row.total, row.held) for row in rows}

    def products(self) -> list[ProductInfo]:
        """See :meth:`Venue.products`: those of the market whose prices it trades at."""
        return sources.get(self.exchange).products()

    def book(self, symbol: str, depth: int = 50) -> Book:
        """See :meth:`Venue.book`."""
        return market.book(self.exchange, symbol, depth)

    def permissions(self) -> KeyPermissions:
        """See :meth:`Venue.permissions`. There is no key, and nothing leaves."""
        return KeyPermissions(can_view=True, can_trade=True, can_withdraw=False)

    def movements_since(self, moment: datetime) -> list[Movement]:
        """See :meth:`Venue.movements_since`: deposits, withdrawals and resets of its journal."""
        rows = PaperEntry.objects.filter(account_id=self.account_id, at__gte=moment, kind__in=FROM_OUTSIDE)
        return [
            Movement(f"paper-{row.pk}", row.currency, row.amount, row.at, row.get_kind_display())
            for row in rows.order_by("pk")
        ]

    def find(self, ref: OrderRef) -> OrderReport | None:
        """See :meth:`Venue.find`. Refused orders are known too, with status rejected and the code."""
        if ref.client_order_id is not None:
            return self._known(ref.client_order_id)
        reports = self._reports(PaperOrder.objects.filter(venue_order_id=ref.venue_order_id))
        return reports[0] if reports else None

    def find_many(self, refs: Sequence[OrderRef]) -> dict[UUID, OrderReport]:
        """See :meth:`Venue.find_many`. Two queries."""
        orders = PaperOrder.objects.filter(
            client_order_id__in=[ref.client_order_id for ref in refs if ref.client_order_id]
        )
        return {report.client_order_id: report for report in self._reports(orders) if report.client_order_id}

    def open_orders(self) -> list[OrderReport]:
        """See :meth:`Venue.open_orders`."""
        return self._reports(PaperOrder.objects.filter(status__in=WORKING))

    def trades_since(self, moment: datetime) -> list[VenueTrade]:
        """See :meth:`Venue.trades_since`; the moment itself is included."""
        rows = PaperTrade.objects.filter(account_id=self.account_id, at__gte=moment).select_related("order")
        return [
            VenueTrade(
                trade_of(row),
                row.order.symbol,
                Side(row.order.side),
                row.order.client_order_id,
                str(row.order.venue_order_id),
            )
            for row in rows.order_by("pk")
        ]

    def positions(self) -> list[VenuePosition]:
        """See :meth:`PerpsVenue.positions`."""
        rows = list(PaperPerp.objects.filter(account_id=self.account_id, base__gt=ZERO).order_by("pk"))
        liquidations = paper_settlement.liquidation_prices(self.exchange, rows)
        return [
            VenuePosition(
                symbol=row.symbol,
                direction=Direction(row.direction),
                base=row.base,
                entry_price=paper_perps.holding_of(row).entry_price,
                leverage=row.leverage,
                margin_mode=MarginMode(row.margin_mode),
                margin=row.margin,
                liquidation_price=liquidations.get(row.pk),
            )
            for row in rows
        ]

    def funding_since(self, moment: datetime) -> list[FundingMovement]:
        """See :meth:`PerpsVenue.funding_since`; the moment itself is included."""
        rows = PaperEntry.objects.filter(
            account_id=self.account_id, kind=PaperEntry.Kind.FUNDING, at__gte=moment
        ).order_by("pk")
        return [FundingMovement(f"paper-{row.pk}", row.symbol, row.amount, row.at, row.rate) for row in rows]

    def forced_closes_since(self, moment: datetime) -> list[ForcedClose]:
        """See :meth:`PerpsVenue.forced_closes_since`; the moment itself is included."""
        orders = PaperOrder.objects.filter(account_id=self.account_id, is_forced=True, created_at__gte=moment)
        reports = {report.venue_order_id: report for report in self._reports(orders)}
        return [
            ForcedClose(row.symbol, Side(row.side), row.filled_base, reports[str(row.venue_order_id)])
            for row in orders.order_by("pk")
        ]

    def fee_rates(self) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""
        costs = self._costs()
        return costs.maker, costs.taker

    def _known(self, client_order_id: UUID) -> OrderReport | None:
        reports = self._reports(PaperOrder.objects.filter(client_order_id=client_order_id))
        return reports[0] if reports else None

    def _reports(self, orders: QuerySet[PaperOrder]) -> list[OrderReport]:
        found = list(orders.filter(account_id=self.account_id).order_by("pk"))
        by_order: dict[int, list[PaperTrade]] = {}
        if found:
            trades = PaperTrade.objects.filter(account_id=self.account_id, order_id__in=[order.pk for order in found])
            for trade in trades.order_by("pk"):
                by_order.setdefault(trade.order_id, []).append(trade)
        return [report_of(order, by_order.get(order.pk, [])) for order in found]

    # Acting ----------------------------------------------------------------------------------------------------------

    def place(self, order: NewOrder) -> OrderReport:
        """Place an order; see the module for how it fills. A known client id gets the order as it stands now.

        Raises VenueRejected: ``bad_order`` (sizes or prices that make no sense; nothing is remembered),
        ``unknown_product``, ``not_trading``, ``no_price``, ``bad_increment``, ``below_minimum``, ``bad_expiry``,
        ``insufficient_funds``; on perpetuals ``no_position``, ``other_position``, ``bad_leverage``; each with the
        numbers behind it.
        """
        check_shape(order)
        if (known := self._known(order.client_order_id)) is not None:
            return _accepted(known)
        now = clock.now()
        try:
            return self._take(order, self._meet_market(order, now), now)
        except Overdrawn as error:
            refusal = VenueRejected(error.code, error.message, **error.detail)
        except VenueRejected as error:
            refusal = error
        return self._refuse(order, refusal, now)

    def edit(self, ref: OrderRef, base_size: Decimal, limit_price: Decimal) -> OrderReport:
        """See :meth:`Venue.edit`: not offered, an order is cancelled and placed anew."""
        raise VenueRejected("not_offered", "The paper venue does not change orders.")

    def cancel(self, ref: OrderRef) -> OrderReport:
        """Cancel a working order and return it as it is then, with every fill it got before (F19).

        An order that has ended is returned as it ended. Raises VenueRejected (``unknown_order``).
        """
        with transaction.atomic(durable=True):
            ledger = Ledger([self.account_id], clock.now())
            row = PaperOrder.objects.filter(account_id=self.account_id, client_order_id=ref.client_order_id).first()
            if row is None:
                raise VenueRejected("unknown_order", "The paper venue has no such order.")
            if row.status in WORKING:
                close(ledger, row, OrderStatus.CANCELLED)
                row.save(update_fields=["status", "hold", "updated_at"])
                ledger.write()
            return report_of(row, list(PaperTrade.objects.filter(order=row).order_by("pk")))

    def forget(self, order: NewOrder) -> OrderReport:
        """See :meth:`Venue.forget`: the lookup and the refusal under the id are one transaction, under the lock that
        every ``place`` takes before it writes.
        """
        now = clock.now()
        with transaction.atomic(durable=True):
            Ledger([self.account_id], now)
            known = self._known(order.client_order_id)
            if known is not None:
                return known
            row = self._refusal(order, NEVER_ARRIVED, "It was given up before it arrived.", now)
            return report_of(row, [])

    # Details ---------------------------------------------------------------------------------------------------------

    def _costs(self) -> Costs:
        return costs_of(PaperTerms.objects.filter(account_id=self.account_id).first())

    def _meet_market(self, order: NewOrder, now: datetime) -> _Market:
        """Look at product and market, outside of any lock. Raises VenueRejected."""
        product = Product.objects.filter(exchange=self.exchange, symbol=order.symbol).first()
        if product is None:
            raise VenueRejected("unknown_product", f"{order.symbol} is not listed on {self.exchange}.")
        if product.status != Product.Status.ONLINE:
            raise VenueRejected("not_trading", f"{order.symbol} is not trading at present.", status=product.status)
        # Whoever orders judges the price's age; the venue fills at the last one that a protective exit may act on.
        quote = market.quote(self.exchange, order.symbol, now, market.OLDEST_USABLE)
        if quote is None or quote.bid <= ZERO or quote.ask <= ZERO:
            raise VenueRejected("no_price", f"There is no current price of {order.symbol}.")
        _check_terms(order, product, quote, now)
        levels = book_levels(self.exchange, order.symbol, order.side, now)
        if product.is_perpetual:
            paper_settlement.settle(self.exchange, now, [self.account_id])
        best = quote.ask if order.side is Side.BUY else quote.bid
        if self.exchange == sources.REPLAY and order.order_type is OrderType.MARKET:
            best = never_better(order.side, best, order.reference_price)
        return _Market(product, quote, levels or (BookLevel(best, LARGEST),), bool(levels))

    def _take(self, order: NewOrder, met: _Market, now: datetime) -> OrderReport:
        """Write the order with what it fills at once; an id that arrived in the meantime stays as it is."""
        with transaction.atomic(durable=True):
            ledger = Ledger([self.account_id], now)
            if (known := self._known(order.client_order_id)) is not None:
                return _accepted(known)
            row = self._row(order, now)
            if met.product.is_perpetual:
                _prepare_perpetual(ledger, row, met.product)
            trade = _fill_on_arrival(ledger, row, self._costs(), met)
            row.save(force_insert=True)
            if trade is not None:
                trade.order = row
                trade.save(force_insert=True)
            if row.is_perpetual:
                paper_perps.drop_orphans(ledger, [row], ("status", "updated_at"))
            ledger.write()
            return report_of(row, [trade] if trade is not None else [])

    def _row(self, order: NewOrder, now: datetime) -> PaperOrder:
        base, quote, *_ = order.symbol.split("-")
        return PaperOrder(
            account_id=self.account_id,
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            base_currency=base,
            quote_currency=quote,
            side=order.side,
            order_type=order.order_type,
            base_size=order.base_size,
            quote_size=order.quote_size,
            limit_price=order.limit_price,
            expires_at=order.expires_at,
            reduce_only=order.reduce_only,
            leverage=order.leverage,
            margin_mode=order.margin_mode or "",
            trigger_price=order.trigger_price,
            status=OrderStatus.OPEN,
            created_at=now,
            updated_at=now,
        )

    def _refuse(self, order: NewOrder, refusal: VenueRejected, now: datetime) -> OrderReport:
        """Remember the refusal under the client id and raise it, unless that id was answered in the meantime."""
        with transaction.atomic(durable=True):
            Ledger([self.account_id], now)
            known = self._known(order.client_order_id)
            if known is None:
                self._refusal(order, refusal.code, refusal.message, now)
        if known is not None and known.status is not OrderStatus.REJECTED:
            return known
        raise refusal

    def _refusal(self, order: NewOrder, code: str, text: str, now: datetime) -> PaperOrder:
        """Write a refused order. Call under the account's lock, while nothing is known under its id."""
        row = self._row(order, now)
        row.status, row.reject_code, row.reject_text = OrderStatus.REJECTED, code, text[:300]
        row.save(force_insert=True)
        return row


def _accepted(report: OrderReport) -> OrderReport:
    if report.status is OrderStatus.REJECTED:
        raise VenueRejected(report.error_code, report.error_text)
    return report


def _check_leverage(order: NewOrder, product: Product) -> None:
    """Raise VenueRejected unless the order says what its kind of product needs, and nothing else."""
    if not product.is_perpetual:
        if order.reduce_only or order.leverage is not None or order.margin_mode is not None:
            raise VenueRejected("bad_order", f"{product.symbol} is traded without leverage.")
        return
    if order.base_size is None:
        raise VenueRejected("bad_order", "Orders on perpetuals are sized in base currency.")
    if order.reduce_only:
        if order.leverage is not None:
            raise VenueRejected("bad_order", "An order that only reduces has no leverage.")
        return
    most = min(product.max_leverage or perps.MAX_LEVERAGE, perps.MAX_LEVERAGE)
    if order.leverage is None or order.margin_mode is None or not 1 <= order.leverage <= most:
        raise VenueRejected(
            "bad_leverage", f"{product.symbol} is traded with a leverage of 1 to {most} and a margin mode.", limit=most
        )


def _check_terms(order: NewOrder, product: Product, quote: Quote, now: datetime) -> None:
    """Raise VenueRejected unless steps, minimums, leverage and expiry are respected."""
    _check_leverage(order, product)
    trigger = order.trigger_price
    if trigger is not None and trigger != floor_to(trigger, product.price_increment):
        raise _bad_price(product, trigger)
    price = order.limit_price
    if price is None:
        price = quote.ask if order.side is Side.BUY else quote.bid
    elif price != floor_to(price, product.price_increment):
        raise _bad_price(product, price)
    base, value = order.base_size, order.quote_size
    if base is not None:
        if base != floor_to(base, product.base_increment):
            raise VenueRejected(
                "bad_increment",
                f"Sizes of {product.symbol} step by {plain(product.base_increment)} {product.base}.",
                increment=product.base_increment,
                asked=base,
            )
        value = base * price
    for asked, minimum, currency in ((base, product.min_base, product.base), (value, product.min_quote, product.quote)):
        if asked is not None and asked < minimum and not order.reduce_only:
            raise _below_minimum(asked, minimum, currency)
    if order.expires_at is not None and order.expires_at <= now:
        raise VenueRejected("bad_expiry", "The order would have expired already.", expires_at=order.expires_at)


def _bad_price(product: Product, asked: Decimal) -> VenueRejected:
    return VenueRejected(
        "bad_increment",
        f"Prices of {product.symbol} step by {plain(product.price_increment)}.",
        increment=product.price_increment,
        asked=asked,
    )


def _below_minimum(asked: Decimal, minimum: Decimal, currency: str) -> VenueRejected:
    return VenueRejected(
        "below_minimum",
        f"{plain(asked)} {currency} is below the smallest order of {plain(minimum)} {currency}.",
        asked=asked,
        minimum=minimum,
        currency=currency,
    )


def _prepare_perpetual(ledger: Ledger, row: PaperOrder, product: Product) -> None:
    """Mark the order as one on a perpetual. Raises VenueRejected when the account's position does not go with it."""
    row.is_perpetual, row.base_currency, row.quote_currency = True, product.base, product.quote
    if not paper_perps.fits(ledger, row):
        if row.reduce_only:
            raise VenueRejected("no_position", f"There is no {product.symbol} position that this would reduce.")
        raise VenueRejected(
            "other_position", f"There is a {product.symbol} position of another direction, leverage or margin mode."
        )
    paper_perps.prepare(ledger, row, product)


def _fill_on_arrival(ledger: Ledger, row: PaperOrder, costs: Costs, met: _Market) -> PaperTrade | None:
    """Fill what can be filled at once, rest what is left of a limit order. Raises Overdrawn, VenueRejected."""
    product = met.product
    if row.trigger_price is not None:  # it waits outside the book
        return None
    if row.limit_price is not None:
        rest(ledger, row, costs)
        levels = reachable(row.side, met.levels, row.limit_price)
        base = remaining(row)
        if levels and met.has_depth:
            base = min(base, floor_to(sum((level.size for level in levels), ZERO), product.base_increment))
        if not levels or base <= ZERO:
            return None
        price = slipped(row.side, walked(levels, base=base), costs.slippage, product.price_increment, row.limit_price)
        return execute(ledger, row, costs, base, price, is_maker=False)
    average = walked(met.levels, base=row.base_size, quote=row.quote_size)
    price = slipped(row.side, average, costs.slippage, product.price_increment)
    base = (
        row.base_size
        if row.base_size is not None
        else floor_to((row.quote_size or ZERO) / price, product.base_increment)
    )
    if (base < product.min_base and not row.reduce_only) or base <= ZERO:
        raise _below_minimum(base, max(product.min_base, product.base_increment), product.base)
    trade = execute(ledger, row, costs, base, price, is_maker=False)
    if trade is None:
        raise _below_minimum(base * price, product.min_quote, product.quote)
    return trade
