"""What accounts hold, what of it is spoken for, and what it is worth. One function per figure, for API and pages.

Of each currency: *total* = *in orders* + *in deals* + *free*.

* *in orders*: what working orders have claimed at the venue, and what those on their way to it will claim;
* *in deals*: the base of open longs and the quote that shorts need to buy back, beyond what their closes have claimed
  already (:mod:`positions.reserves`: the engine's own definition, F31, F36);
* *free*: the rest. Where deals count on more than there is, it is zero and ``missing`` says how much they lack;
* *untracked*: coins that no deal and no order of ours explains. Currencies that pairs are quoted in are money, which
  waits for deals and needs no explanation; each of them is a bucket of its own, a USDC is no dollar.

Amounts stay in their currency. Values in USD or BTC are for looking at (F32), by the price list of the account's own
market. A price that is not known makes its holding's value None, and every sum that lacks it says so (F34).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from accounts.models import Account, LeftOut
from accounts.told import Told, told_of
from marketdata import pricelist
from marketdata.pricelist import PriceList
from positions import figures
from positions.ledger import quote_value
from positions.models import Position
from positions.reserves import Holds, base_of_longs, holds_of, spoken_for, worth_per_base
from positions.states import POSITION_ACTIVE, Direction
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO, for_money
from tradebot.core.errors import MissingInformation

__all__ = [
    "BUCKETS",
    "DISPLAY",
    "AccountHoldings",
    "Bucket",
    "Holding",
    "Line",
    "Worth",
    "buckets",
    "holdings_of",
    "lines",
    "worth_of",
]

DISPLAY: Final = ("USD", "BTC")
"""Currencies that values are shown in."""
BUCKETS: Final = frozenset({"USD", "USDC", "USDT", "BTC", "ETH"})
"""Currencies that are money on every market, beside those that pairs of the account's own market are quoted in."""


@dataclass(frozen=True, slots=True)
class Holding:
    """One currency of one account. ``in_deals`` and ``free`` are None while a short's price is not known."""

    currency: str
    is_money: bool
    total: Decimal
    in_orders: Decimal
    in_deals: Decimal | None
    free: Decimal | None
    untracked: Decimal
    missing: Decimal
    left_out: bool
    prices: PriceList = field(repr=False, compare=False)

    def price(self, into: str) -> Decimal | None:
        """Return what one of it is worth in ``into``."""
        return self.prices.rate(self.currency, into)

    def value(self, into: str, amount: Decimal | None = None) -> Decimal | None:
        """Return what all of it, or ``amount`` of it, is worth in ``into``; None when that is not known."""
        return self.prices.rates.value(self.total if amount is None else amount, self.currency, into)


@dataclass(frozen=True, slots=True)
class AccountHoldings:
    """What one account holds, by currency; ``told`` says as of when. Nothing where that is not known."""

    account: Account
    told: Told
    now: datetime
    holdings: tuple[Holding, ...]
    prices: PriceList = field(repr=False)
    deals: tuple[Position, ...] = field(default=(), repr=False)
    marks: Mapping[int, Decimal] = field(default_factory=dict, repr=False)
    """Current prices of :attr:`deals` by their ids, as far as they are known."""

    @property
    def is_known(self) -> bool:
        """Return whether anybody ever said what the account holds."""
        return self.told.balances is not None

    @property
    def is_stale(self) -> bool:
        """Return whether what is known is too old to be taken for the present."""
        return self.is_known and self.told.is_stale(self.now)

    @property
    def age_seconds(self) -> int | None:
        """Return how old the balances are."""
        return None if self.told.at is None else max(0, int((self.now - self.told.at).total_seconds()))


# Loading --------------------------------------------------------------------------------------------------------------


def holdings_of(accounts: Iterable[Account], *, ask: bool = True) -> list[AccountHoldings]:
    """Return what these accounts hold, in their order. Never more than ten queries, and one request per market.

    A market whose price list is fresh is not asked, and none is with ``ask=False``: then the last list counts, if it is
    not too old; see :mod:`marketdata.pricelist`.
    """
    rows = list(accounts)
    if not rows:
        return []
    now, ids = clock.now(), [row.pk for row in rows]
    told = told_of(rows, now)
    listed = pricelist.price_list if ask else pricelist.kept
    lists = {exchange: listed(exchange) for exchange in sorted({row.exchange for row in rows})}
    holds = holds_of(ids)
    active = Position.objects.filter(account__in=ids, status__in=POSITION_ACTIVE).select_related("product")
    deals: dict[int, list[Position]] = defaultdict(list)
    for deal in active.order_by("pk"):
        deals[deal.account_id].append(deal)
    marks = _marks(rows, deals, lists)
    left_out: dict[int, set[str]] = defaultdict(set)
    for account_id, currency in LeftOut.objects.filter(account__in=ids).values_list("account_id", "currency"):
        left_out[account_id].add(currency)
    return [
        _of_account(
            row, told[row.pk], now, lists[row.exchange], holds, tuple(deals[row.pk]), marks, frozenset(left_out[row.pk])
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class _Marks:
    """Marks by deal id, and the taker fees of accounts with shorts by account id; unknown ones are absent."""

    prices: dict[int, Decimal]
    takers: dict[int, Decimal]


def _marks(accounts: Sequence[Account], deals: dict[int, list[Position]], lists: dict[str, PriceList]) -> _Marks:
    """Return what deals are judged by: the quotes that the engine goes by, else the price list."""
    by_id = {row.pk: row for row in accounts}
    every = [deal for rows in deals.values() for deal in rows]
    quotes = figures.quotes_of(every, by_id) if every else {}
    prices = {}
    for deal in every:
        quote = quotes.get((deal.account_id, deal.product.symbol))
        listed = lists[by_id[deal.account_id].exchange].prices.get(deal.product.symbol)
        price = quote.mark if quote is not None else listed
        if price is not None:
            prices[deal.pk] = price
    shorts = {deal.account_id for deal in every if deal.direction == Direction.SHORT and not deal.product.is_perpetual}
    return _Marks(prices, figures.taker_rates(by_id[pk] for pk in shorts) if shorts else {})


def _of_account(
    account: Account,
    told: Told,
    now: datetime,
    prices: PriceList,
    holds: Holds,
    deals: tuple[Position, ...],
    marks: _Marks,
    left_out: frozenset[str],
) -> AccountHoldings:
    money = BUCKETS | {symbol.partition("-")[2] for symbol in prices.prices}

    def price_of(deal: Position) -> Decimal | None:
        return marks.prices.get(deal.pk)

    def needed_of(currency: str) -> Decimal | None:
        taker = marks.takers.get(account.pk)
        spot = (deal for deal in deals if not deal.product.is_perpetual)
        shorts = any(deal.direction == Direction.SHORT and deal.product.quote == currency for deal in spot)
        if shorts and taker is None:
            return None
        try:
            return spoken_for(deals, currency, price_of, taker or ZERO, holds.closes)
        except MissingInformation:
            return None

    found = []
    balances = told.balances or {}
    counted_on = {deal.product.base for deal in deals if base_of_longs([deal], deal.product.base)}
    for currency in sorted({*balances, *(counted_on if told.balances is not None else ())}):
        balance = balances.get(currency)
        total, held = (balance.total, balance.held) if balance is not None else (ZERO, ZERO)
        needed = needed_of(currency)
        if not total and not needed:
            continue
        in_orders = min(held + holds.unseen.get((account.pk, currency), ZERO), total)
        wallet = total - in_orders
        explained = base_of_longs(deals, currency) + holds.entries.get((account.pk, currency), ZERO)
        found.append(
            Holding(
                currency=currency,
                is_money=currency in money,
                total=total,
                in_orders=in_orders,
                in_deals=None if needed is None else min(needed, wallet),
                free=None if needed is None else max(wallet - needed, ZERO),
                untracked=ZERO if currency in money else max(total - explained, ZERO),
                missing=ZERO if needed is None else max(needed - wallet, ZERO),
                left_out=currency in left_out,
                prices=prices,
            )
        )
    return AccountHoldings(account, told, now, tuple(found), prices, deals, marks.prices)


# Worth ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Worth:
    """What accounts are worth together in ``currency``: the sum of what is known, and what is missing from it.

    ``amount`` is None when nothing at all is known. ``unpriced`` are currencies without a price, ``unknown`` accounts
    whose balances nobody said, ``stale`` those whose balances are old, ``left_out`` what the owner does not want
    counted.
    """

    currency: str
    amount: Decimal | None
    unpriced: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Return whether something is held, or may be, that the amount does not contain."""
        return bool(self.unpriced or self.unknown)

    @property
    def is_certain(self) -> bool:
        """Return whether it may be written down as what the accounts were worth."""
        return self.amount is not None and not self.is_partial and not self.stale


def worth_of(rows: Iterable[AccountHoldings], into: str) -> Worth:
    """Return what these accounts are worth together in ``into``, at the present price lists."""
    accounts = list(rows)
    unpriced: set[str] = set()
    left_out: set[str] = set()
    amount = ZERO
    with for_money():
        for row in accounts:
            for holding in row.holdings:
                if holding.left_out:
                    left_out.add(holding.currency)
                    continue
                value = holding.value(into)
                if value is None:
                    unpriced.add(holding.currency)
                else:
                    amount += value
            for deal in row.deals:
                if not deal.product.is_perpetual or not deal.base_held:
                    continue  # what a coin is worth is in the holdings
                gain = worth_per_base(deal, row.marks.get(deal.pk))
                value = (
                    None if gain is None else row.prices.rates.value(deal.base_held * gain, deal.product.quote, into)
                )
                if value is None:
                    unpriced.add(deal.product.symbol)
                else:
                    amount += value
    known = [row for row in accounts if row.is_known]
    return Worth(
        into,
        amount if known else None,
        tuple(sorted(unpriced)),
        tuple(row.account.name for row in accounts if not row.is_known),
        tuple(row.account.name for row in accounts if row.is_stale),
        tuple(sorted(left_out)),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One currency over several accounts, with its value and share in a display currency.

    ``value`` is what is known of it; with ``is_partial`` some of it has no price, with None all of it.
    """

    currency: str
    is_money: bool
    total: Decimal
    in_orders: Decimal
    in_deals: Decimal | None
    free: Decimal | None
    untracked: Decimal
    missing: Decimal
    left_out: bool
    price: Decimal | None
    value: Decimal | None
    is_partial: bool
    untracked_value: Decimal | None
    share_pct: Decimal | None
    accounts: tuple[Account, ...]


def lines(rows: Iterable[AccountHoldings], into: str) -> list[Line]:
    """Return what these accounts hold together, the most valuable first, those without a price last."""
    grouped: dict[str, list[tuple[Account, Holding]]] = defaultdict(list)
    accounts = list(rows)
    for row in accounts:
        for holding in row.holdings:
            grouped[holding.currency].append((row.account, holding))
    whole = worth_of(accounts, into).amount
    found = [_line(currency, parts, into, whole) for currency, parts in grouped.items()]
    return sorted(found, key=lambda line: (line.value is None, -(line.value or ZERO), line.currency))


def _line(currency: str, parts: list[tuple[Account, Holding]], into: str, whole: Decimal | None) -> Line:
    held = [holding for _, holding in parts]
    with for_money():
        values = [holding.value(into) for holding in held]
        known = [value for value in values if value is not None]
        value = sum(known, ZERO) if known else None
        prices = {holding.price(into) for holding in held}
        counted = sum((v for h, v in zip(held, values, strict=True) if v is not None and not h.left_out), ZERO)
        return Line(
            currency=currency,
            is_money=any(holding.is_money for holding in held),
            total=sum((holding.total for holding in held), ZERO),
            in_orders=sum((holding.in_orders for holding in held), ZERO),
            in_deals=_sum(holding.in_deals for holding in held),
            free=_sum(holding.free for holding in held),
            untracked=sum((holding.untracked for holding in held), ZERO),
            missing=sum((holding.missing for holding in held), ZERO),
            left_out=all(holding.left_out for holding in held),
            price=prices.pop() if len(prices) == 1 else None,
            value=value,
            is_partial=bool(known) and len(known) < len(values),
            untracked_value=_sum(holding.value(into, holding.untracked) for holding in held),
            share_pct=counted / whole * HUNDRED if whole and value is not None else None,
            accounts=tuple(account for account, _ in parts),
        )


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Add amounts; None when one of them is not known."""
    total = ZERO
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


# By quote currency ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bucket:
    """One quote currency over several accounts: all of it that they have, and their open deals quoted in it.

    ``value`` is what percentages of budgets are taken of (F31); None while a deal's price is not known. ``shown`` is
    the same converted for looking at.
    """

    quote: str
    total: Decimal
    free: Decimal | None
    deals: int
    in_deals_value: Decimal | None
    value: Decimal | None
    shown: Decimal | None


def buckets(rows: Iterable[AccountHoldings], into: str) -> list[Bucket]:
    """Return the quote currencies that these accounts hold or trade in, the most valuable first."""
    accounts = list(rows)
    names = {holding.currency for row in accounts for holding in row.holdings if holding.is_money}
    names |= {deal.product.quote for row in accounts for deal in row.deals}
    found = [_bucket(name, accounts, into) for name in sorted(names)]
    return sorted(found, key=lambda row: (row.shown is None, -(row.shown or ZERO), row.quote))


def _bucket(quote: str, rows: Sequence[AccountHoldings], into: str) -> Bucket:
    totals, frees, in_deals, values, shown = [], [], [], [], []
    deals = 0
    for row in rows:
        held = next((holding for holding in row.holdings if holding.currency == quote), None)
        open_deals = [deal for deal in row.deals if deal.product.quote == quote and deal.base_held]
        if held is None and not open_deals:
            continue
        deals += len(open_deals)
        total = held.total if held is not None else ZERO
        bases = [(deal.base_held, worth_per_base(deal, row.marks.get(deal.pk))) for deal in open_deals]
        try:
            worth: Decimal | None = quote_value(ZERO, bases)
        except MissingInformation:
            worth = None
        value = None if worth is None or not row.is_known else total + worth
        totals.append(total)
        frees.append(held.free if held is not None else ZERO)
        in_deals.append(worth)
        values.append(value)
        shown.append(None if value is None else row.prices.rates.value(value, quote, into))
    return Bucket(quote, sum(totals, ZERO), _sum(frees), deals, _sum(in_deals), _sum(values), _sum(shown))
