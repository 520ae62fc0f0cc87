"""What the guard's limits mean: when a day begins, what a drawdown is, what an order may cost at worst. Pure.

The daily loss is measured from the equity that the day began with, the total loss from the initial deposit, each in
percent of that. Money that was moved since is taken off the equity first: a withdrawal is no loss, a deposit no gain,
and neither changes how much may be lost. A limit is reached at exactly its percentage: all comparisons multiply,
nothing is divided or rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from tradebot.core.decimals import HUNDRED, ONE, ZERO, for_money

__all__ = [
    "SETTLES_IN",
    "Base",
    "Drawdown",
    "Move",
    "Shift",
    "day_start",
    "is_equity",
    "next_day_start",
    "shift",
    "spread_pct",
    "spread_within",
    "worst_cost",
]


# Days ---------------------------------------------------------------------------------------------------------------


def day_start(moment: datetime, at: time, zone: ZoneInfo) -> datetime:
    """Return when the day of ``moment`` began: the last ``at`` on the clocks of ``zone`` that is not after it, in UTC.

    A day is 23 or 25 hours long when the clocks change in it. An ``at`` that the clocks jump over counts as the moment
    they would have shown it, one that they show twice counts the first time.

    >>> day_start(datetime(2026, 3, 8, 20, 59, tzinfo=UTC), time(17), ZoneInfo("America/New_York"))
    datetime.datetime(2026, 3, 7, 22, 0, tzinfo=datetime.timezone.utc)
    """
    return max(start for start in _starts_around(moment, at, zone) if start <= moment)


def next_day_start(moment: datetime, at: time, zone: ZoneInfo) -> datetime:
    """Return when the day after that of ``moment`` begins, in UTC."""
    return min(start for start in _starts_around(moment, at, zone) if start > moment)


def _starts_around(moment: datetime, at: time, zone: ZoneInfo) -> list[datetime]:
    local = moment.astimezone(zone).date()
    days = (local + timedelta(days=shift) for shift in (-2, -1, 0, 1, 2))
    return [datetime.combine(day, at, tzinfo=zone).astimezone(UTC) for day in days]


# Losses -------------------------------------------------------------------------------------------------------------


def is_equity(value: Decimal | None) -> bool:
    """Return whether ``value`` can be an account's worth: a finite number above zero. Anything else is not known."""
    return value is not None and value.is_finite() and value > ZERO


@dataclass(frozen=True, slots=True)
class Drawdown:
    """How far ``equity`` lies below ``base``, held against ``limit_pct`` percent of ``base``. ``base`` is above 0."""

    base: Decimal
    equity: Decimal
    limit_pct: Decimal

    @property
    def loss(self) -> Decimal:
        """Return what has been lost; below zero for a gain."""
        return self.base - self.equity

    @property
    def pct(self) -> Decimal:
        """Return the loss in percent of ``base``, for people; never compared."""
        with for_money():
            return self.loss * HUNDRED / self.base

    @property
    def limit(self) -> Decimal:
        """Return the loss at which the limit is reached."""
        with for_money():
            return self.base * self.limit_pct / HUNDRED

    @property
    def is_reached(self) -> bool:
        """Return whether the loss is the limit or more."""
        with for_money():
            return self.loss * HUNDRED >= self.limit_pct * self.base

    @property
    def left(self) -> Decimal:
        """Return what may still be lost before the limit is reached; zero when it is."""
        with for_money():
            return max(self.limit - self.loss, ZERO)

    def after(self, cost: Decimal) -> Drawdown:
        """Return it as it would be with ``cost`` less."""
        return Drawdown(self.base, self.equity - cost, self.limit_pct)


# Money that is moved -----------------------------------------------------------------------------------------------

SETTLES_IN: Final = timedelta(minutes=1)
"""So long after a move balances may or may not contain it: clocks differ, and a venue takes its time."""


@dataclass(frozen=True, slots=True)
class Move:
    """Money that came in (``value`` above zero) or left. ``at``: when it was begun, or listed if that was noticed late.

    ``sure_at`` is from when on balances contain it, None while it may still come back.
    """

    value: Decimal
    at: datetime
    sure_at: datetime | None
    came_late: bool = False


@dataclass(frozen=True, slots=True)
class Base:
    """An equity to measure losses from: when its balances were asked for, and when a list of moves was first known
    after that, None before."""

    balances_at: datetime
    listed_at: datetime | None = None

    def contains(self, move: Move) -> bool:
        """Return whether the move happened before. What the first list names late had arrived before it was asked."""
        if move.came_late:
            return self.listed_at is None or move.at <= self.listed_at
        return move.at <= self.balances_at


@dataclass(frozen=True, slots=True)
class Shift:
    """What moves did to an equity: ``amount`` to take off it, and by how much that may make it seem too low."""

    amount: Decimal = ZERO
    unclear: Decimal = ZERO


def shift(moves: Iterable[Move], base: Base, balances_at: datetime) -> Shift:
    """Return what came in since ``base`` less what left, as far as balances of ``balances_at`` contain it.

    Of a move that they may or may not contain the worse is taken: a deposit counts, a withdrawal does not. All such are
    ``unclear``: equity less amount is the least that may be left of the base, with unclear on top it is the most.
    """
    amount = unclear = ZERO
    with for_money():
        for move in moves:
            if base.contains(move):
                continue
            is_sure = move.sure_at is not None and move.sure_at <= balances_at - SETTLES_IN
            if is_sure or move.value > ZERO:
                amount += move.value
            if not is_sure:
                unclear += abs(move.value)
    return Shift(amount, unclear)


# Orders -------------------------------------------------------------------------------------------------------------


def worst_cost(value: Decimal, fee: Decimal, max_spread_pct: Decimal) -> Decimal:
    """Return what an entry worth ``value`` costs at once: its ``fee`` (a fraction), and half of the widest spread
    that it is let through with, by which it is worth less at the mark than was paid.

    >>> worst_cost(Decimal(1000), Decimal("0.006"), Decimal("0.5"))
    Decimal('8.500')
    """
    with for_money():
        return value * (fee + max_spread_pct / HUNDRED / (ONE + ONE))


def spread_pct(bid: Decimal, ask: Decimal) -> Decimal:
    """Return the spread in percent of the middle, for people; never compared."""
    with for_money():
        return (ask - bid) * HUNDRED * 2 / (ask + bid)


def spread_within(bid: Decimal, ask: Decimal, max_pct: Decimal) -> bool:
    """Return whether the spread is at most ``max_pct`` percent of the middle. A crossed book is no spread."""
    with for_money():
        return ZERO < bid <= ask and (ask - bid) * HUNDRED * 2 <= max_pct * (ask + bid)
