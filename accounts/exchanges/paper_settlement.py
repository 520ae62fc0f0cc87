"""What happens to paper positions in perpetuals without an order of their account: funding and liquidation.

:func:`settle`, for the accounts of one market:

1. Funding that fell due since the last look is paid and received, each due moment by itself: the market's rate times
   the position's value at that moment's mark (or the present one, where the market cannot say what it was).
2. Resting orders and stops are matched, so that a stop acts before a liquidation behind it.
3. Positions whose backing does not cover their maintenance margin at the mark are closed by the venue: isolated ones
   each for itself, all cross positions of a currency together. That is an order and a trade like any other, marked as
   forced, at market with slippage and taker fee, but never at a price that would take more than what backs it.

Recordings are walked candle by candle, with each candle's worst price for the position in place of the mark, so nothing
is missed however far the clock jumped. A market without a price at this moment changes nothing. Each account is settled
in a transaction of its own, and one that fails does not stop the others (F67).
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import structlog
from django.db import transaction

from accounts.exchanges import paper_perps
from accounts.exchanges import perps_rules as rules
from accounts.exchanges.paper_fills import costs_of, execute
from accounts.exchanges.paper_ledger import Ledger
from accounts.exchanges.paper_matching import book_levels, match_resting
from accounts.exchanges.paper_perps import holding_of
from accounts.exchanges.paper_rules import Costs, slipped, walked
from accounts.models import Account, PaperBalance, PaperOrder, PaperPerp, PaperTerms, PaperTrade
from marketdata import market, sources
from marketdata.models import Product
from marketdata.sources.base import BookLevel, Quote
from marketdata.store import store
from tradebot.core.decimals import ZERO, for_money
from tradebot.core.errors import TradebotError
from tradebot.core.words import Direction, MarginMode, OrderStatus, OrderType, Side

__all__ = ["liquidation_prices", "settle"]

log = structlog.get_logger(__name__)


def settle(exchange: str, now: datetime, account_ids: Collection[int] | None = None) -> None:
    """Bring the paper positions on one market up to ``now`` (see above). Commits its own transactions.

    ``account_ids`` limits it to these accounts; otherwise all accounts of the bound scope.
    """
    rows = _open(exchange, account_ids)
    if not rows:
        return
    ids = sorted({row.account_id for row in rows})
    for moment in _moments(exchange, rows, now):
        rows = _open(exchange, ids)
        quotes = market.quotes(exchange, {row.symbol for row in rows}, moment) if rows else {}
        for account_id, mine in _by_account(rows).items():
            _guarded(account_id, "paper.funding_failed", _pay_funding, exchange, mine, quotes, moment)
        match_resting(exchange, moment, ids)
        for account_id, mine in _by_account(_open(exchange, ids)).items():
            _guarded(account_id, "paper.liquidation_failed", _liquidate, exchange, mine, quotes, moment)


def _open(exchange: str, account_ids: Collection[int] | None) -> list[PaperPerp]:
    rows = PaperPerp.objects.filter(account__exchange=exchange, account__kind=Account.Kind.PAPER, base__gt=ZERO)
    if account_ids is not None:
        rows = rows.filter(account_id__in=list(account_ids))
    return list(rows.order_by("pk"))


def _by_account(rows: Iterable[PaperPerp]) -> dict[int, list[PaperPerp]]:
    found: dict[int, list[PaperPerp]] = defaultdict(list)
    for row in rows:
        found[row.account_id].append(row)
    return found


def _guarded(account_id: int, event: str, act: object, *args: object) -> None:
    try:
        act(account_id, *args)  # type: ignore[operator]
    except Exception:  # the loop's edge: the other accounts are settled all the same
        log.exception(event, account=account_id)


def _moments(exchange: str, rows: Sequence[PaperPerp], now: datetime) -> Iterator[datetime]:
    """Yield the moments to look at: now; of a recording the end of each candle since the last look, then now."""
    if exchange == sources.REPLAY:
        since = min(row.settled_until for row in rows)
        products = Product.objects.filter(exchange=exchange, symbol__in={row.symbol for row in rows})
        ends: set[int] = set()
        for held in store.coverage([product.pk for product in products]).values():
            if held:
                seconds = min(frame.seconds for frame in held)
                first = int(since.timestamp()) // seconds * seconds + seconds
                ends |= set(range(first, int(now.timestamp()), seconds))
        for end in sorted(ends):
            yield datetime.fromtimestamp(end, UTC)
    yield now


# Funding --------------------------------------------------------------------------------------------------------------


def _pay_funding(
    account_id: int, exchange: str, rows: Sequence[PaperPerp], quotes: Mapping[str, Quote], now: datetime
) -> None:
    due = {row.symbol: _due(exchange, row, quotes, now) for row in rows}
    if not any(due.values()):
        return
    with transaction.atomic(durable=True):
        ledger = Ledger([account_id], now)
        for symbol, payments in due.items():
            for moment, mark, rate in payments:
                row = ledger.perp(account_id, symbol)  # as it is under the lock
                if row is not None and row.funded_until < moment:
                    paper_perps.fund(ledger, row, mark, rate, moment)
        ledger.write()


def _due(
    exchange: str, row: PaperPerp, quotes: Mapping[str, Quote], now: datetime
) -> list[tuple[datetime, Decimal, Decimal]]:
    """Return (moment, mark, rate) of each funding that is due, up to the first that is not known yet."""
    found = []
    for moment in rules.funding_times(row.funded_until, now, row.funding_hours):
        try:
            rate = market.funding_rate(exchange, row.symbol, moment)
            quote = market.quote(exchange, row.symbol, moment) or quotes.get(row.symbol)
        except TradebotError as error:
            log.warning("paper.funding_unknown", symbol=row.symbol, code=error.code)
            break
        if quote is None:
            break
        found.append((moment, quote.mark, rate))
    return found


# Liquidation ----------------------------------------------------------------------------------------------------------


def _liquidate(
    account_id: int, exchange: str, rows: Sequence[PaperPerp], quotes: Mapping[str, Quote], now: datetime
) -> None:
    """Close the account's positions that are not covered any more. The lock is only taken when one may be."""
    recorded = exchange == sources.REPLAY
    if not recorded and not _may_be_uncovered(rows, quotes):
        return
    with transaction.atomic(durable=True):
        ledger = Ledger([account_id], now)
        costs = costs_of(PaperTerms.objects.filter(account_id=account_id).first())
        orders = []
        for row in _uncovered(ledger, account_id, quotes):
            order, trade = _force(ledger, exchange, row, quotes[row.symbol], costs, now)
            order.save(force_insert=True)
            if trade is not None:
                trade.order = order
                trade.save(force_insert=True)
            orders.append(order)
            log.warning("paper.liquidated", account=account_id, symbol=row.symbol)
        for row in ledger.perps(account_id) if recorded else ():
            row.settled_until = now
            ledger.move(row)
        paper_perps.drop_orphans(ledger, orders, ("status", "updated_at"))
        ledger.write()


def _may_be_uncovered(rows: Sequence[PaperPerp], quotes: Mapping[str, Quote]) -> bool:
    """Return whether one of the isolated positions is not covered as read, or there are cross ones to be added up."""
    return any(row.margin_mode == MarginMode.CROSS or _is_uncovered(row, quotes) for row in rows)


def _is_uncovered(row: PaperPerp, quotes: Mapping[str, Quote]) -> bool:
    quote = quotes.get(row.symbol)
    return quote is not None and rules.is_liquidated(
        holding_of(row), _worst(row, quote), rules.maintenance_rate(row.maintenance_pct), row.margin
    )


def _uncovered(ledger: Ledger, account_id: int, quotes: Mapping[str, Quote]) -> list[PaperPerp]:
    found = []
    cross: dict[str, list[PaperPerp]] = defaultdict(list)
    for row in ledger.perps(account_id):
        if row.margin_mode == MarginMode.CROSS:
            cross[row.quote_currency].append(row)
        elif _is_uncovered(row, quotes):
            found.append(row)
    with for_money():
        for group in cross.values():
            if not all(row.symbol in quotes for row in group):
                continue  # what is not known liquidates nobody
            spare = paper_perps.backing_of(ledger, group[0])
            spare += sum((_spare(row, _worst(row, quotes[row.symbol])) for row in group), ZERO)
            if spare <= ZERO:
                found += group
    return found


def _spare(row: PaperPerp, mark: Decimal) -> Decimal:
    """Return what the position adds to what is left of the account before it is liquidated: profit less maintenance."""
    holding = holding_of(row)
    need = rules.maintenance_margin(holding, mark, rules.maintenance_rate(row.maintenance_pct))
    return rules.profit_at(holding, mark) - need


def _worst(row: PaperPerp, quote: Quote) -> Decimal:
    """Return the mark, of a recording the worst price of its last candle for this position."""
    extreme = quote.low if row.direction == Direction.LONG else quote.high
    return quote.mark if extreme is None else extreme


def _force(
    ledger: Ledger, exchange: str, row: PaperPerp, quote: Quote, costs: Costs, now: datetime
) -> tuple[PaperOrder, PaperTrade | None]:
    """Return the venue's own order against the position, and its trade, both unsaved."""
    side = Direction(row.direction).exit_side
    order = PaperOrder(
        account_id=row.account_id,
        client_order_id=uuid.uuid4(),
        symbol=row.symbol,
        base_currency=row.symbol.split("-")[0],
        quote_currency=row.quote_currency,
        side=side,
        order_type=OrderType.MARKET,
        base_size=row.base,
        status=OrderStatus.OPEN,
        is_perpetual=True,
        reduce_only=True,
        is_forced=True,
        created_at=now,
        updated_at=now,
    )
    best = quote.bid if side is Side.SELL else quote.ask
    if quote.low is not None and quote.high is not None:  # a recording: where the candle met the price of liquidation
        limit = liquidation_price_of(row, paper_perps.backing_of(ledger, row))
        best = _worst(row, quote) if limit is None else min(max(limit, quote.low), quote.high)
    levels = book_levels(exchange, row.symbol, side, now) or (BookLevel(best, row.base),)
    price = slipped(side, walked(levels, base=row.base), costs.slippage, row.price_increment)
    return order, execute(ledger, order, costs, row.base, price, is_maker=False)


def liquidation_price_of(row: PaperPerp, backing: Decimal) -> Decimal | None:
    return rules.liquidation_price(holding_of(row), rules.maintenance_rate(row.maintenance_pct), backing)


def liquidation_prices(exchange: str, rows: Sequence[PaperPerp]) -> dict[int, Decimal]:
    """Return, by id, the marks at which these positions of one account are liquidated, as things are now.

    A cross position has none while the mark of another one is not known. Absent: no price, or not known.
    """
    isolated = [row for row in rows if row.margin_mode == MarginMode.ISOLATED]
    found = {row.pk: liquidation_price_of(row, row.margin) for row in isolated}
    cross = [row for row in rows if row.margin_mode == MarginMode.CROSS]
    if cross:
        quotes = market.quotes(exchange, {row.symbol for row in cross})
        balances = {row.currency: row.free for row in PaperBalance.objects.filter(account_id=cross[0].account_id)}
        with for_money():
            for row in cross:
                mine = [one for one in cross if one.quote_currency == row.quote_currency]
                others = [one for one in mine if one.pk != row.pk]
                if not all(one.symbol in quotes for one in others):
                    continue
                backing = balances.get(row.quote_currency, ZERO) + sum((one.margin for one in mine), ZERO)
                backing += sum((_spare(one, quotes[one.symbol].mark) for one in others), ZERO)
                found[row.pk] = liquidation_price_of(row, backing)
    return {pk: price for pk, price in found.items() if price is not None}
