"""How much of a change in value was earned, and how much was put in or taken out (F35). Pure.

An account is read about once a day: what it was worth, and what came from outside since. Accounts read on the same days
add up; a day on which one of them was not read has no sum, because half a sum would look like a loss. An account that
joins later brings its first value along like a deposit.

*Gain* = last value − first value − everything put in between. The *percentage* is time-weighted: each stretch between
two readings earns on what was there, with transfers weighted by the share of the stretch that they were part of
(modified Dietz), and the stretches multiply up. So neither the size nor the moment of a deposit shows as skill.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from tradebot.core.decimals import HUNDRED, ONE, ZERO, for_money

__all__ = ["Flow", "Gain", "History", "Reading", "Step", "gain_of", "steps_of"]

Key = tuple[date, int]
"""A day, and which reading of it: 0 the one that was written down, 1 the present."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one account was worth at a moment."""

    at: datetime
    value: Decimal


@dataclass(frozen=True, slots=True)
class Flow:
    """What came in (above zero) or went out at a moment, in the currency of the values; None: not known."""

    at: datetime
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class History:
    """One account: its readings by day, and its transfers in any order.

    ``begun`` is the day of its first reading ever, where ``readings`` are only the later ones.
    """

    readings: Mapping[Key, Reading]
    flows: Sequence[Flow] = field(default=())
    begun: Key | None = None

    @property
    def first(self) -> Key | None:
        """Return the key from which on the account counts; None when it was never read."""
        return self.begun or min(self.readings, default=None)


@dataclass(frozen=True, slots=True)
class Step:
    """One reading of all accounts together: their ``value``, and what was put in since the step before.

    ``put_in`` and ``weighted`` (put in, times the share of the stretch it was there for) are None when the value of a
    transfer is not known.
    """

    key: Key
    at: datetime
    value: Decimal
    put_in: Decimal | None
    weighted: Decimal | None


@dataclass(frozen=True, slots=True)
class Gain:
    """What was earned between two moments; ``amount`` is None when a transfer's value is not known.

    ``put_in`` is what came in less what went out between the two; ``pct`` is time-weighted, None where it has no
    meaning (nothing was there to earn on).
    """

    since: datetime
    until: datetime
    first: Decimal
    last: Decimal
    put_in: Decimal | None
    amount: Decimal | None
    pct: Decimal | None


def steps_of(histories: Sequence[History]) -> list[Step]:
    """Return the readings of these accounts together, oldest first: only those at which each of them was read.

    An account counts from its first reading on. The first step puts nothing in.
    """
    begun = [(row, first) for row in histories if (first := row.first) is not None]
    keys = sorted({key for row in histories for key in row.readings})
    found: list[Step] = []
    before: Key | None = None
    with for_money():
        for key in keys:
            there = [row for row, first in begun if first <= key]
            if not all(key in row.readings for row in there):
                continue
            value = sum((row.readings[key].value for row in there), ZERO)
            put_in, weighted = (ZERO, ZERO) if before is None else _put_in(there, before, key)
            found.append(Step(key, max(row.readings[key].at for row in there), value, put_in, weighted))
            before = key
    return found


def _put_in(there: Sequence[History], before: Key, key: Key) -> tuple[Decimal | None, Decimal | None]:
    """Return what was put in between two readings: as it is, and weighted with how long it was there."""
    put_in = weighted = ZERO
    for row in there:
        end = row.readings[key].at
        if before not in row.readings:  # it joins: its first value came along, at the end
            start = min(row.readings.values(), key=lambda reading: reading.at)
            put_in += start.value
            flows = [flow for flow in row.flows if start.at < flow.at <= end]
            span = (end - start.at).total_seconds()
        else:
            opened = row.readings[before].at
            flows = [flow for flow in row.flows if opened < flow.at <= end]
            span = (end - opened).total_seconds()
        for flow in flows:
            if flow.amount is None:
                return None, None
            put_in += flow.amount
            if before in row.readings:
                share = Decimal(str((end - flow.at).total_seconds())) / Decimal(str(span)) if span > 0 else ZERO
                weighted += flow.amount * share
    return put_in, weighted


def gain_of(steps: Sequence[Step]) -> Gain | None:
    """Return what was earned between the first and the last of these steps; None with fewer than two."""
    if len(steps) < 2:
        return None
    first, last = steps[0], steps[-1]
    with for_money():
        put_in: Decimal | None = ZERO
        growth: Decimal | None = ONE
        for before, step in itertools.pairwise(steps):
            if step.put_in is None or step.weighted is None or put_in is None:
                put_in = growth = None
                break
            put_in += step.put_in
            rate = _rate(before.value, step)
            growth = None if growth is None or rate is None else growth * (ONE + rate)
        amount = None if put_in is None else last.value - first.value - put_in
        pct = None if growth is None else (growth - ONE) * HUNDRED
    return Gain(first.at, last.at, first.value, last.value, put_in, amount, pct)


def _rate(before: Decimal, step: Step) -> Decimal | None:
    """Return what one stretch earned as a fraction of what was there; None where nothing was."""
    assert step.put_in is not None
    assert step.weighted is not None
    earned = step.value - before - step.put_in
    there = before + step.weighted
    if there <= ZERO:
        return ZERO if not earned else None
    return earned / there
