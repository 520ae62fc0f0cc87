"""The figures of deals: one function each, used by pages and API alike. Nothing here writes.

Queries are handed in as querysets of positions, already narrowed to what the person looks at; the scope's guard is in
them. The number of queries does not depend on how many deals there are. Totals are kept per quote currency: nothing
here adds dollars to coins (F32). What is not known is None, never zero (F34).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import TruncDate

from accounts.balances import fees_of
from accounts.models import Account
from marketdata import market
from marketdata.sources.base import Quote
from positions import ledger
from positions.booking import totals_by_position
from positions.ledger import Totals, Unrealised
from positions.models import Order, Position
from positions.states import POSITION_ACTIVE, WORKING, ExitReason, PositionStatus
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.errors import TradebotError
from tradebot.core.money import amount_total

__all__ = [
    "MANUAL_REASONS",
    "DayProfit",
    "DealFigures",
    "Levels",
    "OpenTotals",
    "PairFigures",
    "Period",
    "Realised",
    "WinRate",
    "WinRates",
    "by_pair",
    "deal_figures",
    "ended",
    "open_totals",
    "period_starts",
    "profit_per_day",
    "quotes_of",
    "realised",
    "taker_rates",
    "unrealised_by_quote",
    "win_rates",
]

MANUAL_REASONS: Final = (ExitReason.MANUAL, ExitReason.LIMIT_CLOSE, ExitReason.PANIC)
"""Ends that a person chose: they say nothing about the strategy."""


# Deals ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Levels:
    """Prices that the deal's strategy watches, as far as it has them; it supplies them (see ``deal_figures``)."""

    target: Decimal | None = None
    stop: Decimal | None = None
    next_entry: Decimal | None = None
    max_safety_orders: int | None = None


LevelsOf = Callable[[Position, Totals, Decimal], Levels]
"""(position, totals, taker fee as a fraction) → levels."""


@dataclass(frozen=True, slots=True)
class DealFigures:
    """One deal as a row or a page shows it. Amounts are in ``quote``; prices that are not known are None."""

    position: Position
    totals: Totals | None
    price: Quote | None
    unrealised: Unrealised | None
    break_even: Decimal | None
    levels: Levels
    working: tuple[Order, ...]

    @property
    def quote(self) -> str:
        """Return the quote currency."""
        return self.position.product.quote

    @property
    def is_active(self) -> bool:
        """Return whether the deal still runs."""
        return self.position.status in POSITION_ACTIVE

    @property
    def mark(self) -> Decimal | None:
        """Return the mid of bid and ask."""
        return None if self.price is None else self.price.mark

    @property
    def invested(self) -> Decimal | None:
        """Return what is in the base that remains (a perpetual's margin); of an ended deal what was in it in all."""
        if self.totals is not None:
            return self.totals.remaining_stake
        long = self.position.direction == "long"
        return self.position.quote_spent if long else self.position.quote_received

    @property
    def profit(self) -> Decimal | None:
        """Return realised plus unrealised profit, net of fees; None while a running deal has no price."""
        if not self.is_active:
            return self.position.realised_quote
        return None if self.unrealised is None else self.position.realised_quote + self.unrealised.profit

    @property
    def profit_pct(self) -> Decimal | None:
        """Return :attr:`profit` in percent of all that was invested, of a perpetual in percent of its margin."""
        if not self.is_active:
            return self.position.realised_pct
        if self.profit is None or self.totals is None or self.totals.stake <= ZERO:
            return None
        return self.profit / self.totals.stake * HUNDRED

    def distance_pct(self, price: Decimal | None) -> Decimal | None:
        """Return how far ``price`` is from the mark, in percent of the mark, signed."""
        mark = self.mark
        return None if price is None or mark is None else (price - mark) / mark * HUNDRED


def deal_figures(positions: Iterable[Position], levels_of: LevelsOf | None = None) -> list[DealFigures]:
    """Return the figures of these deals, in their order. Load them with ``select_related("product", "account")``.

    ``levels_of`` comes from the strategies' side and is asked for running deals that hold something.
    """
    rows = list(positions)
    active = [row for row in rows if row.status in POSITION_ACTIVE]
    totals = totals_by_position(active) if active else {}
    accounts = _accounts_of(active)
    prices = quotes_of(active, accounts)
    rates = taker_rates(accounts.values())
    working: dict[int, list[Order]] = defaultdict(list)
    if active:
        for order in Order.objects.filter(position__in=active, status__in=WORKING).order_by("id"):
            working[order.position_id].append(order)
    return [
        _figures(
            row,
            totals.get(row.pk),
            prices.get((row.account_id, row.product.symbol)),
            rates.get(row.account_id),
            tuple(working[row.pk]),
            levels_of,
        )
        for row in rows
    ]


def _figures(
    position: Position,
    totals: Totals | None,
    price: Quote | None,
    taker: Decimal | None,
    working: tuple[Order, ...],
    levels_of: LevelsOf | None,
) -> DealFigures:
    result, even, levels = None, None, Levels()
    if totals is not None and taker is not None:
        if price is not None:
            result = ledger.unrealised(totals, price.mark, taker)
        even = totals.break_even(taker)
        if levels_of is not None and not totals.is_flat:
            levels = levels_of(position, totals, taker)
    return DealFigures(position, totals, price, result, even, levels, working)


@dataclass(slots=True)
class OpenTotals:
    """Running deals of one quote currency. ``unpriced`` of them have no price: sums leave them out and pages say so."""

    deals: int = 0
    unpriced: int = 0
    invested: Decimal = ZERO
    value: Decimal = ZERO
    profit: Decimal = ZERO

    @property
    def profit_pct(self) -> Decimal | None:
        """Return the unrealised profit in percent of what is invested; None when nothing is."""
        return self.profit / self.invested * HUNDRED if self.invested else None


def open_totals(figures: Iterable[DealFigures]) -> dict[str, OpenTotals]:
    """Return the sums over running deals by quote currency; ended ones are left out."""
    sums: dict[str, OpenTotals] = defaultdict(OpenTotals)
    for row in figures:
        if not row.is_active:
            continue
        total = sums[row.quote]
        total.deals += 1
        if row.unrealised is None or row.totals is None:
            total.unpriced += 1
            continue
        stake = row.totals.remaining_stake
        total.invested += stake
        total.value += row.unrealised.value if row.totals.leverage is None else stake + row.unrealised.profit
        total.profit += row.unrealised.profit
    return dict(sums)


def unrealised_by_quote(positions: Iterable[Position]) -> dict[str, Decimal]:
    """Return the unrealised profit of running deals by quote currency, net of fees; deals without a price left out."""
    return {quote: total.profit for quote, total in open_totals(deal_figures(positions)).items()}


def _accounts_of(positions: Sequence[Position]) -> dict[int, Account]:
    missing = {row.account_id for row in positions if not Position.account.is_cached(row)}
    found = {row.account_id: row.account for row in positions if row.account_id not in missing}
    return found | (Account.objects.in_bulk(missing) if missing else {})


def quotes_of(positions: Iterable[Position], accounts: dict[int, Account]) -> dict[tuple[int, str], Quote]:
    """Return current quotes by (account id, symbol): one look per market, what is not known is absent."""
    symbols: dict[str, set[str]] = defaultdict(set)
    wanted = {(row.account_id, row.product.symbol) for row in positions}
    for account_id, symbol in wanted:
        symbols[accounts[account_id].exchange].add(symbol)
    found: dict[str, dict[str, Quote]] = {}
    for exchange, names in symbols.items():
        try:
            found[exchange] = market.quotes(exchange, names)
        except TradebotError:
            found[exchange] = {}
    quotes = ((key, found[accounts[key[0]].exchange].get(key[1])) for key in wanted)
    return {key: quote for key, quote in quotes if quote is not None}


def taker_rates(accounts: Iterable[Account]) -> dict[int, Decimal]:
    """Return the taker's fee by account id as a fraction."""
    return {pk: taker for pk, (_, taker) in fees_of([row.pk for row in accounts]).items()}


# Ended deals ----------------------------------------------------------------------------------------------------------


class Period(StrEnum):
    """Stretches of time that end now, in whole days of the person's own zone."""

    TODAY = "today"
    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"
    ALL = "all"

    @property
    def days(self) -> int | None:
        """Return the number of days, today included; None for all."""
        return _DAYS[self]


_DAYS: Final[dict[Period, int | None]] = {
    Period.TODAY: 1,
    Period.WEEK: 7,
    Period.MONTH: 30,
    Period.QUARTER: 90,
    Period.ALL: None,
}


@dataclass(frozen=True, slots=True)
class Realised:
    """What the deals that ended in a period earned, net of fees."""

    profit: Decimal
    deals: int
    days: int | None

    @property
    def per_day(self) -> Decimal | None:
        """Return the profit per day over the whole period, idle days included; None for all time."""
        return None if self.days is None else self.profit / self.days


@dataclass(frozen=True, slots=True)
class WinRate:
    """``won`` of ``deals`` ended with a profit above zero."""

    deals: int
    won: int

    @property
    def pct(self) -> Decimal | None:
        """Return the share of won deals in percent; None without any."""
        return Decimal(self.won) / self.deals * HUNDRED if self.deals else None


@dataclass(frozen=True, slots=True)
class WinRates:
    """Deals that the strategy closed, and those that a person did, which say nothing about the strategy."""

    strategy: WinRate
    manual: WinRate


@dataclass(frozen=True, slots=True)
class DayProfit:
    """What the deals that ended on one day earned."""

    day: date
    profit: Decimal
    deals: int


@dataclass(frozen=True, slots=True)
class PairFigures:
    """What the ended deals of one pair earned."""

    product: str
    quote: str
    deals: int
    won: int
    profit: Decimal
    fees: Decimal


def ended(positions: QuerySet[Position]) -> QuerySet[Position]:
    """Return those deals that had a fill and ended, in no order; cancelled ones count with what they had realised.

    Purchases that were made to be kept are no deals that earned or lost.
    """
    rows = positions.filter(status__in=(PositionStatus.CLOSED, PositionStatus.CANCELLED), deal_number__isnull=False)
    return rows.exclude(exit_reason=ExitReason.KEPT).order_by()


def period_starts(now: datetime, zone: ZoneInfo) -> dict[Period, datetime | None]:
    """Return where each period starts: local midnight of its first day; None for all."""
    today = now.astimezone(zone).date()
    return {
        period: None
        if period.days is None
        else datetime.combine(today - timedelta(days=period.days - 1), time.min, tzinfo=zone)
        for period in Period
    }


def realised(positions: QuerySet[Position], now: datetime, zone: ZoneInfo) -> dict[str, dict[Period, Realised]]:
    """Return, by quote currency and period, what the deals that ended then earned. One query."""
    sums: dict[str, Any] = {}
    for period, start in period_starts(now, zone).items():
        when = Q(closed_at__lte=now) if start is None else Q(closed_at__gte=start, closed_at__lte=now)
        sums[f"profit_{period.name}"] = amount_total("realised_quote", filter=when)
        sums[f"deals_{period.name}"] = Count("id", filter=when)
    rows: Any = ended(positions).values("product__quote").annotate(**sums)
    return {
        row["product__quote"]: {
            period: Realised(row[f"profit_{period.name}"], row[f"deals_{period.name}"], period.days)
            for period in Period
        }
        for row in rows
    }


def win_rates(positions: QuerySet[Position]) -> WinRates:
    """Return how many closed deals won; closes by hand apart. Cancelled deals are neither. One query."""
    manual = Q(exit_reason__in=MANUAL_REASONS)
    won = Q(realised_quote__gt=ZERO)
    row = positions.filter(status=PositionStatus.CLOSED).aggregate(
        deals=Count("id", filter=~manual),
        won=Count("id", filter=~manual & won),
        manual_deals=Count("id", filter=manual),
        manual_won=Count("id", filter=manual & won),
    )
    return WinRates(WinRate(row["deals"], row["won"]), WinRate(row["manual_deals"], row["manual_won"]))


def profit_per_day(
    positions: QuerySet[Position], now: datetime, zone: ZoneInfo, days: int = 30
) -> dict[str, list[DayProfit]]:
    """Return the profit of each of the last ``days`` local days, oldest first, by quote currency. One query.

    Days without an end are in the list with zero, so a mean over it is over the whole window.
    """
    today = now.astimezone(zone).date()
    window = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    start = datetime.combine(window[0], time.min, tzinfo=zone)
    rows = (
        ended(positions)
        .filter(closed_at__gte=start, closed_at__lte=now)
        .annotate(day=TruncDate("closed_at", tzinfo=zone))
        .values("product__quote", "day")
        .annotate(profit=amount_total("realised_quote"), deals=Count("id"))
        .order_by("product__quote")
    )
    found: dict[str, dict[date, DayProfit]] = defaultdict(dict)
    for quote, day, profit, count in rows.values_list("product__quote", "day", "profit", "deals"):
        found[quote][day] = DayProfit(day, profit, count)
    return {quote: [by_day.get(day, DayProfit(day, ZERO, 0)) for day in window] for quote, by_day in found.items()}


def by_pair(positions: QuerySet[Position]) -> list[PairFigures]:
    """Return what the ended deals of each pair earned, best first within a quote currency. One query."""
    rows = (
        ended(positions)
        .values("product__symbol", "product__quote")
        .annotate(
            deals=Count("id"),
            won=Count("id", filter=Q(realised_quote__gt=ZERO)),
            profit=amount_total("realised_quote"),
            fees=amount_total("fees_quote"),
        )
    )
    found = [
        PairFigures(row["product__symbol"], row["product__quote"], row["deals"], row["won"], row["profit"], row["fees"])
        for row in rows
    ]
    return sorted(found, key=lambda row: (row.quote, -row.profit, row.product))
