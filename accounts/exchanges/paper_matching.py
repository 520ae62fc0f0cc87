"""Fills resting paper orders when the market trades through them, and ends those whose time is over.

Live markets are judged by their quotes: a resting buy fills when the ask comes down to its limit, a sell when the bid
comes up to it, as far as the order book (where there is one at no cost) offers at that price. Recordings are judged by
their closed candles since the last look, so nothing is missed however far the clock jumped: a candle whose low is
below a buy's limit, or whose high is above a sell's, fills it with at most :data:`CANDLE_SHARE` of the candle's volume.
What there is to have goes to the account's oldest order first. Accounts do not compete with one another: one person's
paper fills would otherwise depend on, and tell about, another person's orders.

A stop of a perpetual position waits outside the book: when the market reaches its trigger price it is executed as a
market order, before anything else of that look. What remains of a bracket whose other leg closed the position is
cancelled with that fill.

A fill of a limit order is at exactly the limit, with the maker fee. The same market and the same orders give the same
fills, in one look or in many. All state is in rows, so a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

import numpy as np
import structlog
from django.db import transaction

from accounts.exchanges import paper_perps
from accounts.exchanges.base import OrderReport
from accounts.exchanges.paper_fills import close, costs_of, execute, remaining, report_of
from accounts.exchanges.paper_ledger import Ledger
from accounts.exchanges.paper_rules import CANDLE_SHARE, Costs, never_better, reachable, slipped, trades_through, walked
from accounts.models import Account, PaperOrder, PaperTerms, PaperTrade
from marketdata import market, sources
from marketdata.models import Product
from marketdata.series import Candles
from marketdata.sources.base import BookLevel, Quote
from marketdata.store import store
from marketdata.timeframes import Timeframe
from tradebot.core.decimals import ZERO, floor_to, from_float
from tradebot.core.errors import TradebotError
from tradebot.core.words import OrderStatus, Side

__all__ = ["CANDLE_SHARE", "book_levels", "match_resting"]

log = structlog.get_logger(__name__)

MARKETS_WITH_FREE_BOOK: Final = frozenset({sources.SIMULATED})
"""Markets whose order book is computed here; any other one would cost a request to the venue for each order."""
WORKING: Final = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)
CHANGING: Final = ("status", "hold", "filled_base", "filled_quote", "fee_total", "matched_until", "updated_at")


def book_levels(exchange: str, symbol: str, side: str, now: datetime) -> Sequence[BookLevel]:
    """Return the levels that an order of ``side`` takes from, best first; nothing where there is no free book."""
    if exchange not in MARKETS_WITH_FREE_BOOK:
        return ()
    try:
        book = market.book(exchange, symbol, now=now)
    except TradebotError:
        return ()
    return book.asks if side == Side.BUY else book.bids


def match_resting(
    exchange: str, now: datetime, account_ids: Collection[int] | None = None
) -> dict[int, list[OrderReport]]:
    """Match the resting paper orders on one market with what it did up to ``now``, and expire those past their end.

    ``account_ids`` limits it to these accounts; otherwise all accounts of the bound scope. Returns, by account id, the
    reports of the orders that changed. A product without a current price is left alone. The number of queries does not
    depend on the number of orders. An account whose orders cannot be matched is logged and does not stop the others
    (F67). Commits its own transaction.
    """
    working = PaperOrder.objects.filter(
        account__exchange=exchange, account__kind=Account.Kind.PAPER, status__in=WORKING
    )
    if account_ids is not None:
        working = working.filter(account_id__in=list(account_ids))
    orders = list(working.order_by("pk"))
    if not orders:
        return {}
    look = _replay_look(orders, now) if exchange == sources.REPLAY else _live_look(exchange, orders, now)
    touched = [order for order in orders if look.concerns(order)]
    by_account: dict[int, list[int]] = {}
    for order in touched:
        by_account.setdefault(order.account_id, []).append(order.pk)
    try:
        return _match(look, by_account)
    except Exception:  # the loop's edge: find the account that it is, and go on with the others
        log.exception("paper.matching_failed", exchange=exchange, accounts=len(by_account))
    reports: dict[int, list[OrderReport]] = {}
    for account_id, ids in by_account.items():
        try:
            reports |= _match(look, {account_id: ids})
        except Exception:  # as above
            log.exception("paper.account_failed", exchange=exchange, account=account_id)
    return reports


def _match(look: _Look, order_ids: Mapping[int, Sequence[int]]) -> dict[int, list[OrderReport]]:
    """Match the given orders, by account id, under the accounts' locks."""
    if not order_ids:
        return {}
    with transaction.atomic(durable=True):
        ledger = Ledger(order_ids, look.now)
        ids = [pk for group in order_ids.values() for pk in group]
        # Read again under the lock: an order may have been cancelled or filled since.
        orders = list(PaperOrder.objects.filter(pk__in=ids, status__in=WORKING).order_by("pk"))
        terms = {row.account_id: row for row in PaperTerms.objects.filter(account_id__in=list(order_ids))}
        groups: dict[tuple[int, str], list[PaperOrder]] = {}
        for order in orders:
            groups.setdefault((order.account_id, order.symbol), []).append(order)
        trades: list[PaperTrade] = []
        changed: set[int] = set()
        for (account_id, symbol), group in groups.items():
            found = look.fill(ledger, symbol, group, costs_of(terms.get(account_id)))
            trades += found
            changed |= {trade.order_id for trade in found}
            changed |= {order.pk for order in group if order.status not in WORKING}
            for order in group:
                if order.status in WORKING and order.expires_at is not None and order.expires_at <= look.now:
                    close(ledger, order, OrderStatus.EXPIRED)
                    changed.add(order.pk)
        dropped = paper_perps.drop_orphans(ledger, orders, CHANGING)
        changed |= {order.pk for order in dropped}
        PaperTrade.objects.bulk_create(trades)
        ledger.write()
        PaperOrder.objects.bulk_update([o for o in orders if o.pk in changed or look.moves_marks], CHANGING)
        elsewhere = [order for order in dropped if order not in orders]
        return _reports([order for order in orders if order.pk in changed] + elsewhere)


def _reports(orders: Sequence[PaperOrder]) -> dict[int, list[OrderReport]]:
    if not orders:
        return {}
    by_order: dict[int, list[PaperTrade]] = {}
    for trade in PaperTrade.objects.filter(order_id__in=[order.pk for order in orders]).order_by("pk"):
        by_order.setdefault(trade.order_id, []).append(trade)
    reports: dict[int, list[OrderReport]] = {}
    for order in orders:
        reports.setdefault(order.account_id, []).append(report_of(order, by_order.get(order.pk, [])))
    return reports


class _Look:
    """What the market did, taken once and without locks: which orders it concerns, and how it fills them."""

    moves_marks = False

    def __init__(self, now: datetime) -> None:
        self.now = now

    def concerns(self, order: PaperOrder) -> bool:
        return order.expires_at is not None and order.expires_at <= self.now

    def fill(self, ledger: Ledger, symbol: str, orders: Sequence[PaperOrder], costs: Costs) -> list[PaperTrade]:
        """Fill the account's orders on one product, oldest first, and return the trades, unsaved."""
        raise NotImplementedError


def _limit(order: PaperOrder) -> Decimal:
    return order.limit_price or ZERO


def _stops_first(orders: Sequence[PaperOrder]) -> list[PaperOrder]:
    """Return the orders with stops in front, otherwise as they are: what protects comes before what earns."""
    return sorted(orders, key=lambda order: order.trigger_price is None)


# Live markets --------------------------------------------------------------------------------------------------------


class _LiveLook(_Look):
    def __init__(
        self,
        now: datetime,
        quotes: Mapping[str, Quote],
        products: Mapping[str, Product],
        levels: Mapping[tuple[str, str], Sequence[BookLevel]],
    ) -> None:
        super().__init__(now)
        self.quotes, self.products, self.levels = quotes, products, levels

    def concerns(self, order: PaperOrder) -> bool:
        return super().concerns(order) or self._crossed(order)

    def _crossed(self, order: PaperOrder) -> bool:
        quote = self.quotes.get(order.symbol)
        return quote is not None and _crosses(order, quote)

    def fill(self, ledger: Ledger, symbol: str, orders: Sequence[PaperOrder], costs: Costs) -> list[PaperTrade]:
        taken = {Side.BUY.value: ZERO, Side.SELL.value: ZERO}
        trades = []
        for order in _stops_first(orders):
            if super().concerns(order) or not self._crossed(order) or order.status not in WORKING:
                continue
            base = remaining(order)
            if order.trigger_price is not None:
                if trade := execute(ledger, order, costs, base, self._at_market(order, costs), is_maker=False):
                    trades.append(trade)
                continue
            if levels := self.levels.get((symbol, order.side)):
                offered = sum((level.size for level in reachable(order.side, levels, _limit(order))), ZERO)
                product = self.products.get(symbol)
                left = max(ZERO, offered - taken[order.side])
                base = min(base, floor_to(left, product.base_increment) if product is not None else ZERO)
            if trade := execute(ledger, order, costs, base, _limit(order), is_maker=True):
                taken[order.side] += base
                trades.append(trade)
        return trades

    def _at_market(self, order: PaperOrder, costs: Costs) -> Decimal:
        """Return what a triggered stop is executed at: as a market order at this moment."""
        quote = self.quotes[order.symbol]
        best = BookLevel(quote.ask if order.side == Side.BUY else quote.bid, remaining(order))
        price = walked(self.levels.get((order.symbol, order.side)) or (best,), base=remaining(order))
        return slipped(order.side, price, costs.slippage, self.products[order.symbol].price_increment)


def _crosses(order: PaperOrder, quote: Quote) -> bool:
    if order.trigger_price is not None:
        buys = order.side == Side.BUY
        return quote.ask >= order.trigger_price if buys else ZERO < quote.bid <= order.trigger_price
    if order.side == Side.BUY:
        return ZERO < quote.ask <= _limit(order)
    return quote.bid >= _limit(order)


def _live_look(exchange: str, orders: Sequence[PaperOrder], now: datetime) -> _Look:
    quotes = market.quotes(exchange, {order.symbol for order in orders}, now)
    crossed = {
        (order.symbol, order.side)
        for order in orders
        if (quote := quotes.get(order.symbol)) is not None and _crosses(order, quote)
    }
    levels = {key: found for key in sorted(crossed) if (found := book_levels(exchange, *key, now))}
    symbols = {symbol for symbol, _ in levels} | {order.symbol for order in orders if order.trigger_price is not None}
    products = Product.objects.filter(exchange=exchange, symbol__in=symbols) if symbols else ()
    return _LiveLook(now, quotes, {row.symbol: row for row in products}, levels)


# Recordings ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Recording:
    """The closed candles of one product that its orders have not been matched with."""

    product: Product
    seconds: int
    candles: Candles
    last: int = field(init=False)

    def __post_init__(self) -> None:
        self.last = int(self.candles.time[-1])

    def crossing(self, orders: Sequence[PaperOrder]) -> Iterable[int]:
        """Return the indexes of candles that reach the limit of any of the orders, by a generous margin."""
        lows, highs = self.candles.low, self.candles.high
        hit = np.zeros(len(lows), dtype=np.bool_)
        limits = [order for order in orders if order.trigger_price is None]
        buys = [float(_limit(order)) for order in limits if order.side == Side.BUY]
        sells = [float(_limit(order)) for order in limits if order.side == Side.SELL]
        for order in orders:
            if order.trigger_price is not None:
                far = float(order.trigger_price)
                hit |= highs >= far * (1 - 1e-9) if order.side == Side.BUY else lows <= far * (1 + 1e-9)
        if buys:
            hit |= lows < max(buys) * (1 + 1e-9)
        if sells:
            hit |= highs > min(sells) * (1 - 1e-9)
        return np.flatnonzero(hit).tolist()

    def trades_through(self, order: PaperOrder, index: int) -> bool:
        """Whether the candle opened after the order was placed, closed before its end, and passed its limit."""
        opened = int(self.candles.time[index])
        if order.matched_until is not None:
            fresh = opened > order.matched_until
        else:
            fresh = opened >= order.created_at.timestamp()
        if not fresh or (order.expires_at is not None and opened + self.seconds > order.expires_at.timestamp()):
            return False
        step = self.product.price_increment
        low, high = (from_float(float(column[index]), step) for column in (self.candles.low, self.candles.high))
        if order.trigger_price is not None:
            return high >= order.trigger_price if order.side == Side.BUY else low <= order.trigger_price
        return trades_through(order.side, _limit(order), low, high)

    def at_market(self, order: PaperOrder, index: int, costs: Costs) -> Decimal:
        """Return what a stop that the candle triggered is executed at: its trigger, or the open if that was worse."""
        step = self.product.price_increment
        price = never_better(order.side, order.trigger_price or ZERO, from_float(float(self.candles.open[index]), step))
        return slipped(order.side, price, costs.slippage, step)


class _ReplayLook(_Look):
    moves_marks = True

    def __init__(self, now: datetime, recordings: Mapping[str, _Recording]) -> None:
        super().__init__(now)
        self.recordings = recordings

    def concerns(self, order: PaperOrder) -> bool:
        recording = self.recordings.get(order.symbol)
        is_new = recording is not None and (order.matched_until is None or order.matched_until < recording.last)
        return is_new or super().concerns(order)

    def fill(self, ledger: Ledger, symbol: str, orders: Sequence[PaperOrder], costs: Costs) -> list[PaperTrade]:
        recording = self.recordings.get(symbol)
        if recording is None:
            return []
        trades = []
        increment = recording.product.base_increment
        for index in recording.crossing(orders):
            volume = from_float(float(recording.candles.volume[index]), increment)
            left = floor_to(volume * CANDLE_SHARE, increment)
            for order in _stops_first(orders):
                if order.status not in WORKING or not recording.trades_through(order, index):
                    continue
                if order.trigger_price is not None:
                    price = recording.at_market(order, index, costs)
                    if trade := execute(ledger, order, costs, remaining(order), price, is_maker=False):
                        trades.append(trade)
                    continue
                base = min(left, remaining(order))
                if trade := execute(ledger, order, costs, base, _limit(order), is_maker=True):
                    left -= base
                    trades.append(trade)
        for order in orders:
            order.matched_until = max(order.matched_until or 0, recording.last)
        return trades


def _replay_look(orders: Sequence[PaperOrder], now: datetime) -> _Look:
    """Load, for each product, the finest recorded candles since the oldest look any of its orders had."""
    since: dict[str, int] = {}
    for order in orders:
        mark = order.matched_until if order.matched_until is not None else int(order.created_at.timestamp()) - 1
        since[order.symbol] = min(mark, since.get(order.symbol, mark))
    products = {row.pk: row for row in Product.objects.filter(exchange=sources.REPLAY, symbol__in=list(since))}
    groups: dict[Timeframe, list[int]] = {}
    for product_id, held in store.coverage(products).items():
        mark = since[products[product_id].symbol]
        running = [frame for frame, row in held.items() if row.start <= now.timestamp() and row.end > mark]
        if running:
            groups.setdefault(min(running, key=lambda frame: frame.seconds), []).append(product_id)
    recordings: dict[str, _Recording] = {}
    for timeframe, ids in groups.items():
        oldest = min(since[products[product_id].symbol] for product_id in ids)
        count = int(now.timestamp() - oldest) // timeframe.seconds + 2
        for product_id, candles in store.load(ids, timeframe, until=now, count=count).items():
            if len(candles):
                product = products[product_id]
                recordings[product.symbol] = _Recording(product, timeframe.seconds, candles)
    return _ReplayLook(now, recordings)
