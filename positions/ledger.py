"""The arithmetic of a deal: what its fills add up to, what it is worth, and at which price it earns what. Pure.

One definition per figure, for both directions. Money is Decimal; fee *rates* are fractions (0.006 is 0.6 %), while
everything named ``_pct`` is in percent. Only fills the venue confirmed come in here (F8).

How the two directions mirror each other: a long pays quote when it enters and owns base; a short receives quote when
it enters and owes base. A fee taken in base makes a long own less and a short owe more (F25).

A perpetual moves no coins, but the same differences: the amounts its fills were worth. Two things come on top: funding,
which is realised the moment it is paid, and leverage, because its percentages are of the margin, not of the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from positions.states import Direction, Purpose, Side
from tradebot.core.decimals import HUNDRED, MONEY, ONE, ZERO, floor_to, for_money
from tradebot.core.errors import MissingInformation

WORSE = Decimal("0.99")


class FillFact(NamedTuple):
    """One execution the venue confirmed: ``base`` at ``price`` for ``quote`` in all, before its fee."""

    side: Side
    price: Decimal
    base: Decimal
    quote: Decimal
    fee: Decimal
    fee_currency: str
    at: datetime
    purpose: Purpose


class ProfitReference(StrEnum):
    """What a profit percentage is taken of."""

    TOTAL = "total"
    BASE = "base"


@dataclass(frozen=True, slots=True)
class Totals:
    """What the fills of one deal add up to.

    ``entry_*`` sums the fills that enlarged the deal (buys of a long, sells of a short), ``exit_*`` those that reduced
    it; both are gross. ``*_fee_base`` and ``*_fee_quote`` are the fees in the pair's own currencies, ``fees`` all of
    them by currency. ``fees_in_quote`` values the fees taken in base at their own fill's price; fees in a third
    currency are only in ``fees``. Of a perpetual ``funding`` is what was received (below zero: paid), and ``leverage``
    how many times its margin it was worth; of anything else they are 0 and None.
    """

    direction: Direction
    base_currency: str
    quote_currency: str
    entry_base: Decimal = ZERO
    entry_quote: Decimal = ZERO
    entry_fee_base: Decimal = ZERO
    entry_fee_quote: Decimal = ZERO
    exit_base: Decimal = ZERO
    exit_quote: Decimal = ZERO
    exit_fee_base: Decimal = ZERO
    exit_fee_quote: Decimal = ZERO
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    fees_in_quote: Decimal = ZERO
    base_order_base: Decimal = ZERO
    base_order_quote: Decimal = ZERO
    first_entry_price: Decimal | None = None
    last_entry_price: Decimal | None = None
    last_price: Decimal | None = None
    first_fill_at: datetime | None = None
    last_fill_at: datetime | None = None
    entry_fills: int = 0
    exit_fills: int = 0
    funding: Decimal = ZERO
    leverage: int | None = None
    memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What others have worked out from these totals and may ask for again. No part of their value."""

    @property
    def _long(self) -> bool:
        return self.direction is Direction.LONG

    @property
    def base_bought(self) -> Decimal:
        """Return the base bought, gross."""
        return self.entry_base if self._long else self.exit_base

    @property
    def base_sold(self) -> Decimal:
        """Return the base sold, gross."""
        return self.exit_base if self._long else self.entry_base

    @property
    def quote_spent(self) -> Decimal:
        """Return the quote paid for base, without fees."""
        return self.entry_quote if self._long else self.exit_quote

    @property
    def quote_received(self) -> Decimal:
        """Return the quote received for base, before fees."""
        return self.exit_quote if self._long else self.entry_quote

    @property
    def entry_base_net(self) -> Decimal:
        """Return the base a long got after fees taken in base, or a short has to buy back because of its entries."""
        if not self.entry_fee_base:
            return self.entry_base
        return self.entry_base - self.direction.sign * self.entry_fee_base

    @property
    def exit_base_net(self) -> Decimal:
        """Return by how much the exits reduced the base held or owed."""
        if not self.exit_fee_base:
            return self.exit_base
        return self.exit_base + self.direction.sign * self.exit_fee_base

    @property
    def remaining_base(self) -> Decimal:
        """Return the base still to sell (long) or to buy back (short), never below zero (F20, F25)."""
        return max(self.entry_base_net - self.exit_base_net, ZERO)

    @property
    def base_held(self) -> Decimal:
        """Return the base in hand net of fees taken in base: what remains of a long, below zero for a short."""
        return self.direction.sign * (self.entry_base_net - self.exit_base_net)

    @property
    def average_price(self) -> Decimal | None:
        """Return total quote / total base of the entries, fees left out; None before the first fill."""
        return MONEY.divide(self.entry_quote, self.entry_base) if self.entry_base else None

    @property
    def base_order_price(self) -> Decimal | None:
        """Return the average price of the base order; the first entry's price when no fill is marked as one."""
        if not self.base_order_base:
            return self.first_entry_price
        return MONEY.divide(self.base_order_quote, self.base_order_base)

    @property
    def invested_quote(self) -> Decimal:
        """Return what profit percentages refer to: quote paid with fees (long) or received after fees (short)."""
        return self.entry_quote + self.direction.sign * self.entry_fee_quote

    @property
    def is_flat(self) -> bool:
        """Return whether nothing is left to sell or buy back."""
        return self.remaining_base == ZERO

    def _invested_in(self, base_net: Decimal) -> Decimal:
        """Return the share of :attr:`invested_quote` that belongs to ``base_net``, exact for the whole."""
        whole = self.entry_base_net
        if base_net == whole or whole <= ZERO:
            return self.invested_quote if whole > ZERO else ZERO
        return self.invested_quote * base_net / whole if base_net else ZERO

    def _stake_in(self, base_net: Decimal, invested: Decimal) -> Decimal:
        """Return what percentages of ``base_net`` refer to: what was ``invested``, of a perpetual the margin."""
        if self.leverage is None:
            return invested
        whole = self.entry_base_net
        return self.entry_quote * base_net / whole / self.leverage if whole > ZERO else ZERO

    @property
    def stake(self) -> Decimal:
        """Return what the percentages of the whole deal refer to."""
        with for_money():
            return self._stake_in(self.entry_base_net, self.invested_quote)

    @property
    def remaining_stake(self) -> Decimal:
        """Return what is in the base that remains: :attr:`remaining_invested`, of a perpetual the margin."""
        with for_money():
            remaining = self.remaining_base
            return self._stake_in(remaining, self._invested_in(remaining))

    @property
    def remaining_invested(self) -> Decimal:
        """Return the share of :attr:`invested_quote` in the base that remains."""
        with for_money():
            return self._invested_in(self.remaining_base)

    @property
    def realised_profit(self) -> Decimal:
        """Return the profit of what has been closed, in quote, net of entry and exit fees, funding included."""
        return self.realised()[0]

    @property
    def realised_pct(self) -> Decimal | None:
        """Return :attr:`realised_profit` in percent of what was invested in the closed part; None before any exit."""
        return self.realised()[1]

    def realised(self) -> tuple[Decimal, Decimal | None]:
        """Return :attr:`realised_profit` and :attr:`realised_pct`."""
        with for_money():
            sign, base = self.direction.sign, min(self.exit_base_net, self.entry_base_net)
            invested = self._invested_in(base)
            profit = sign * (self.exit_quote - sign * self.exit_fee_quote - invested)
            if self.funding:
                profit += self.funding
            stake = self._stake_in(base, invested)
            return profit, profit / stake * HUNDRED if stake > ZERO else None

    def break_even(self, fee_rate: Decimal) -> Decimal | None:
        """Return the price at which closing what remains earns exactly nothing after both fees; None when flat."""
        return target_price(self, ZERO, fee_rate)

    def safety_reference(self, reference: str) -> Decimal | None:
        """Return the price a ladder hangs from: ``average``, ``base_order`` or ``last_fill`` (of an entry)."""
        if reference == "average":
            return self.average_price
        return self.base_order_price if reference == "base_order" else self.last_entry_price


def totals(
    fills: Iterable[FillFact],
    direction: Direction,
    base_currency: str,
    quote_currency: str,
    *,
    funding: Decimal = ZERO,
    leverage: int | None = None,
) -> Totals:
    """Return what ``fills`` (oldest first) of one deal add up to; the last two are a perpetual's."""
    entry_base = entry_quote = entry_fee_base = entry_fee_quote = ZERO
    exit_base = exit_quote = exit_fee_base = exit_fee_quote = ZERO
    fees: dict[str, Decimal] = {}
    fees_in_quote = base_order_base = base_order_quote = ZERO
    entry_fills = exit_fills = 0
    first: FillFact | None = None
    last: FillFact | None = None
    first_entry: FillFact | None = None
    last_entry: FillFact | None = None
    with for_money():
        for fill in fills:
            first, last = first or fill, fill
            fee, fee_base, fee_quote = fill.fee, ZERO, ZERO
            if fee:
                fees[fill.fee_currency] = fees.get(fill.fee_currency, ZERO) + fee
                if fill.fee_currency == quote_currency:
                    fee_quote = fee
                    fees_in_quote += fee
                elif fill.fee_currency == base_currency:
                    fee_base = fee
                    fees_in_quote += fee * fill.price
            if fill.side is direction.entry_side:
                entry_fills += 1
                entry_base += fill.base
                entry_quote += fill.quote
                entry_fee_base += fee_base
                entry_fee_quote += fee_quote
                first_entry, last_entry = first_entry or fill, fill
                if fill.purpose is Purpose.BASE_ORDER:
                    base_order_base += fill.base
                    base_order_quote += fill.quote
            else:
                exit_fills += 1
                exit_base += fill.base
                exit_quote += fill.quote
                exit_fee_base += fee_base
                exit_fee_quote += fee_quote
    return Totals(
        direction=direction,
        base_currency=base_currency,
        quote_currency=quote_currency,
        entry_base=entry_base,
        entry_quote=entry_quote,
        entry_fee_base=entry_fee_base,
        entry_fee_quote=entry_fee_quote,
        exit_base=exit_base,
        exit_quote=exit_quote,
        exit_fee_base=exit_fee_base,
        exit_fee_quote=exit_fee_quote,
        fees=fees,
        fees_in_quote=fees_in_quote,
        base_order_base=base_order_base,
        base_order_quote=base_order_quote,
        first_entry_price=first_entry.price if first_entry else None,
        last_entry_price=last_entry.price if last_entry else None,
        last_price=last.price if last else None,
        first_fill_at=first.at if first else None,
        last_fill_at=last.at if last else None,
        entry_fills=entry_fills,
        exit_fills=exit_fills,
        funding=funding,
        leverage=leverage,
    )


@dataclass(frozen=True, slots=True)
class Unrealised:
    """What closing the rest at ``price`` would bring: ``value`` in quote and ``profit``, both net of the exit's fee."""

    price: Decimal
    value: Decimal
    profit: Decimal
    pct: Decimal


def unrealised(totals: Totals, mark: Decimal, taker_fee_rate: Decimal) -> Unrealised:
    """Return what closing the remaining base at ``mark`` would earn, net of fees paid and to be paid.

    ``value`` is the quote a long would receive, or a short would have to pay. ``pct`` is of what was invested in the
    remaining part, of a perpetual of its margin; 0 when nothing remains.
    """
    with for_money():
        sign = totals.direction.sign
        value = totals.remaining_base * mark * (ONE - sign * taker_fee_rate)
        invested = totals.remaining_invested
        profit = sign * (value - invested)
        stake = totals._stake_in(totals.remaining_base, invested)
        return Unrealised(mark, value, profit, profit / stake * HUNDRED if stake > ZERO else ZERO)


def target_price(
    totals: Totals, pct: Decimal, fee_rate: Decimal, reference: ProfitReference = ProfitReference.TOTAL
) -> Decimal | None:
    """Return the price at which closing what remains earns ``pct`` percent net of both fees (F28).

    The percentage is of the quote invested (``total``) or of what the base order alone cost (``base``). None when
    nothing remains, or when no price above zero is that good (a short cannot earn 100 % or more).
    """
    with for_money():
        remaining = totals.remaining_base
        if remaining <= ZERO:
            return None
        invested = totals._invested_in(remaining)
        stake = totals._stake_in(remaining, invested)
        if reference is ProfitReference.BASE and totals.base_order_quote:
            stake = totals.base_order_quote * remaining / totals.entry_base_net
        sign = totals.direction.sign
        price = (invested + sign * stake * pct / HUNDRED) / remaining / (ONE - sign * fee_rate)
        return price if price > ZERO else None


def profit_pct(
    totals: Totals, price: Decimal, fee_rate: Decimal, reference: ProfitReference = ProfitReference.TOTAL
) -> Decimal:
    """Return the net profit in percent of closing what remains at ``price``; the inverse of :func:`target_price`."""
    with for_money():
        result = unrealised(totals, price, fee_rate)
        if reference is ProfitReference.BASE and totals.base_order_quote and totals.remaining_base > ZERO:
            return result.profit / (totals.base_order_quote * totals.remaining_base / totals.entry_base_net) * HUNDRED
        return result.pct


def is_better(direction: Direction, price: Decimal, than: Decimal) -> bool:
    """Return whether ``price`` is at least as good for a deal of this direction as ``than``."""
    return price >= than if direction is Direction.LONG else price <= than


def sellable(base: Decimal, price: Decimal, base_increment: Decimal, min_base: Decimal, min_quote: Decimal) -> Decimal:
    """Return ``base`` floored to the increment, or zero when that is below the venue's minimums (F24, F27)."""
    size = floor_to(base, base_increment)
    return size if size > ZERO and size >= min_base and size * price >= min_quote else ZERO


def payable(base: Decimal, price: Decimal, fee_rate: Decimal, free: Decimal, *, at_market: bool) -> Decimal:
    """Return how much of ``base`` the ``free`` quote pays at ``price`` with its fee: what a short can buy back.

    Where it does not pay for all, an order at market is made one percent smaller still: its price may be a worse one.
    """
    with for_money():
        most = max(free, ZERO) / (price * (ONE + fee_rate))
        if base <= most:
            return base
        return most * WORSE if at_market else most


def quote_value(free_quote: Decimal, holdings: Iterable[tuple[Decimal, Decimal | None]]) -> Decimal:
    """Return what an account is worth in one quote currency: its free balance plus its open deals there (F31).

    ``holdings`` are (base held, current price) of the account's open deals quoted in that currency; the free balance
    does not contain them. Raises MissingInformation when a price is not known: half a value is no value (F34).
    """
    with for_money():
        value = free_quote
        for base, price in holdings:
            if price is None:
                raise MissingInformation("missing_price", "the account cannot be valued: a price is not known")
            value += base * price
        return value


@dataclass(frozen=True, slots=True)
class DustClose:
    """The final figures of a deal whose remainder is too small to trade: the rest counts at its current value (F29)."""

    base: Decimal
    value: Decimal
    profit: Decimal
    pct: Decimal | None


def close_as_dust(totals: Totals, mark: Decimal) -> DustClose:
    """Return the deal's profit with its untradable remainder valued at ``mark`` instead of written off (F29).

    ``profit`` is in quote and covers the whole deal; ``pct`` is of everything invested, None when there was nothing.
    """
    with for_money():
        sign = totals.direction.sign
        remaining = totals.remaining_base
        value = remaining * mark
        profit = totals.realised_profit + sign * (value - totals.remaining_invested)
        stake = totals.stake
        return DustClose(remaining, value, profit, profit / stake * HUNDRED if stake > ZERO else None)
