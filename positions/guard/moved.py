"""Money that came into a guarded account or left it, as its exchange lists it: neither a gain nor a loss.

Only of accounts on exchanges that list deposits and withdrawals. Elsewhere nothing is known of what was moved, entries
by hand are not believed here (anybody could make room with one), and equity is taken as it is.

What is known of moves lags behind balances: the list is read every quarter of an hour, a withdrawal may stay under way
for long, a deposit is listed days after it was begun. Where it makes a difference, the worse is taken for orders that
take risk and the better for the kill (:func:`positions.guard.rules.shift`), and the list is sent for (:func:`wants`):

* when a limit is reached: a withdrawal may be why;
* when balances changed by more than prices explain: until a list is there, an increase is taken for a deposit;
* when a day begins or the deposit is set, so that what is moved around that moment is told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from accounts.exchanges.factory import capabilities_of
from accounts.models import Account, PropGuardRules, PropGuardState, Transfer, VenueFunds
from positions.guard import equity, rules
from positions.guard.equity import Measured
from positions.guard.rules import Base, Move, Shift
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ONE, ZERO, for_money, plain, quantize
from tradebot.core.errors import MissingInformation

__all__ = [
    "ASK_EVERY",
    "NOTHING",
    "Listed",
    "are_listed",
    "begin_anew",
    "is_recent",
    "known",
    "note",
    "wants",
]

ASK_EVERY: Final = timedelta(seconds=60)
"""The guard sends for an account's list so often at most. Each costs a request, or one for each of its wallets."""
LEAVING_FOR: Final = 2 * ASK_EVERY
"""So long is what a list said of withdrawals under way believed."""
JUMP_PCT: Final = Decimal(5)
"""A change of balances is looked into when it is worth more than this many percent of the smaller limit; what our own
trades cost in fees is less, unless they are large."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What is known of an account's moves. ``is_offered``: its exchange lists them; the rest is empty where not.

    ``asked_at`` is when the last list was asked for, None before the first. ``is_unvalued``: something left whose worth
    is not known. ``gained`` is what balances grew by since the last measurement (of ``compared_with``) at present
    prices, None where that is not known.
    """

    is_offered: bool = False
    asked_at: datetime | None = None
    moves: tuple[Move, ...] = ()
    is_unvalued: bool = False
    gained: Decimal | None = ZERO
    compared_with: datetime | None = None

    def is_known_since(self, moment: datetime | None) -> bool:
        """Return whether a list was asked for at or after ``moment``."""
        return self.asked_at is not None and moment is not None and self.asked_at >= moment


NOTHING: Final = Listed()


def are_listed(account: Account) -> bool:
    """Return whether the account's exchange lists deposits and withdrawals; nobody is asked."""
    offered = None if account.is_paper else capabilities_of(account)
    return offered is not None and offered.lists_movements


# Reading: before any lock, because values need prices ---------------------------------------------------------------


def known(account: Account, found: PropGuardRules, state: PropGuardState, measured: Measured) -> Listed:
    """Return what is known of the account's moves since the equities that ``state`` measures from. Asks no venue."""
    if not are_listed(account):
        return NOTHING
    # Before the rows: whatever this list said is among them.
    told = VenueFunds.objects.filter(account_id=account.pk).values_list("transfers_asked_at", "leaving").first()
    asked_at, leaving = told if told is not None else (None, [])
    since = min(at for at in (state.day_balances_at, state.total_balances_at, measured.balances_at) if at is not None)
    rows = Transfer.objects.filter(account_id=account.pk, source=Transfer.Source.VENUE, counted_at__gt=since)
    worth = _worth_in(account, found)
    moves, is_unvalued = [], False
    for row in rows.order_by("counted_at", "pk"):
        value = _value(row, found.currency, worth)
        if value is None:
            is_unvalued = is_unvalued or row.amount < ZERO  # an unknown deposit leaves the equity unknown by itself
            continue
        came_in = row.amount > ZERO
        moves.append(Move(value, row.counted_at, row.recorded_at if came_in else row.at, row.counted_at > row.at))
    if asked_at is not None and clock.now() - asked_at <= LEAVING_FOR:
        for currency, amount, begun_at in leaving:
            value = worth(currency, Decimal(amount))
            is_unvalued = is_unvalued or value is None
            if value is not None:
                moves.append(Move(value, datetime.fromisoformat(begun_at), None))
    gained = _gained(account, found, state, measured)
    return Listed(True, asked_at, tuple(moves), is_unvalued, gained, state.balances_at)


Worth = Callable[[str, Decimal], Decimal | None]
"""(currency, amount) to its value in the guard's currency at present prices; None when that is not known."""


def _worth_in(account: Account, found: PropGuardRules) -> Worth:
    now, max_age = clock.now(), timedelta(seconds=found.equity_max_age_seconds)
    rates: dict[str, Decimal | None] = {found.currency: ONE}

    def worth(currency: str, amount: Decimal) -> Decimal | None:
        if currency not in rates:
            try:
                # A coin that its market never traded is worth nothing here, as it is in the equity.
                rates[currency] = equity.worth(account.exchange, {currency: ONE}, found.currency, now, max_age)
            except MissingInformation:
                rates[currency] = None
        rate = rates[currency]
        with for_money():
            return None if rate is None else amount * rate

    return worth


def _value(row: Transfer, currency: str, worth: Worth) -> Decimal | None:
    """Return what a move was worth, by the prices of its time as far as they are known, else by the present ones."""
    if row.currency == currency:
        return row.amount
    for kept, value in (("USD", row.value_usd), ("BTC", row.value_btc)):
        if value is not None and (then := worth(kept, value)) is not None and (then or not value):
            return then
    return worth(row.currency, row.amount)


def _gained(account: Account, found: PropGuardRules, state: PropGuardState, measured: Measured) -> Decimal | None:
    """Return by how much more is held than at the last measurement, at present prices: a trade costs its fee."""
    if state.balances_at is None or measured.balances_at <= state.balances_at:
        return ZERO
    before = {currency: Decimal(total) for currency, total in state.balances.items()}
    change = {
        currency: more
        for currency in before.keys() | measured.held.keys()
        if (more := measured.held.get(currency, ZERO) - before.get(currency, ZERO))
    }
    max_age = timedelta(seconds=found.equity_max_age_seconds)
    try:
        return equity.worth(account.exchange, change, found.currency, clock.now(), max_age)
    except MissingInformation:
        return None


# Noting: under the account's lock, in rows that the caller saves -----------------------------------------------------


def begin_anew(state: PropGuardState, measured: Measured, *, deposit: bool) -> None:
    """Let the day, and with ``deposit`` the total loss too, be measured from this equity: nothing has moved since."""
    state.day_balances_at, state.day_listed_at, state.day_moved = measured.balances_at, None, ZERO
    if deposit or state.total_balances_at is None:
        state.total_balances_at, state.total_listed_at, state.total_moved = measured.balances_at, None, ZERO
    state.breached_at, state.unlisted, state.unlisted_at = None, ZERO, None
    _remember(state, measured)


def note(state: PropGuardState, found: PropGuardRules, measured: Measured, listed: Listed) -> dict[str, Decimal]:
    """Write down what was moved until ``measured``; return by how much that may overstate each loss, by its reason."""
    state.day_balances_at = state.day_balances_at or measured.balances_at
    state.total_balances_at = state.total_balances_at or measured.balances_at
    if listed.is_offered:
        _note_change(state, found, measured, listed)
        now = clock.now()
        if state.day_listed_at is None and listed.is_known_since(state.day_balances_at):
            state.day_listed_at = now
        if state.total_listed_at is None and listed.is_known_since(state.total_balances_at):
            state.total_listed_at = now
    _remember(state, measured)
    day = _shift(state, measured, listed, Base(state.day_balances_at, state.day_listed_at))
    total = _shift(state, measured, listed, Base(state.total_balances_at, state.total_listed_at))
    state.day_moved, state.total_moved = quantize(day.amount), quantize(total.amount)
    return {PropGuardState.Reason.DAILY: day.unclear, PropGuardState.Reason.TOTAL: total.unclear}


def _note_change(state: PropGuardState, found: PropGuardRules, measured: Measured, listed: Listed) -> None:
    if listed.is_known_since(state.unlisted_at):
        state.unlisted, state.unlisted_at = ZERO, None  # whatever was moved is listed
    if listed.compared_with != state.balances_at:
        return  # another measurement came between, and has looked into it
    if listed.gained is None:
        state.unlisted_at = measured.balances_at
    elif abs(listed.gained) > _jump(found, state):
        state.unlisted, state.unlisted_at = max(state.unlisted + listed.gained, ZERO), measured.balances_at
    elif listed.gained < ZERO < state.unlisted:
        state.unlisted = max(state.unlisted + listed.gained, ZERO)


def _jump(found: PropGuardRules, state: PropGuardState) -> Decimal:
    """Return the change of balances beyond which it is looked into."""
    limits = [found.initial_deposit * found.total_limit_pct]
    if state.day_start_equity is not None:
        limits.append(state.day_start_equity * found.daily_limit_pct)
    return min(limits) / HUNDRED * JUMP_PCT / HUNDRED


def _shift(state: PropGuardState, measured: Measured, listed: Listed, base: Base) -> Shift:
    moved = rules.shift(listed.moves, base, measured.balances_at)
    if state.unlisted_at is None or state.unlisted_at <= base.balances_at:
        return moved
    return Shift(moved.amount + state.unlisted, moved.unclear + state.unlisted)


def _remember(state: PropGuardState, measured: Measured) -> None:
    state.balances = {currency: plain(total) for currency, total in measured.held.items()}
    state.balances_at = measured.balances_at


# Sending for the list ------------------------------------------------------------------------------------------------


def is_recent(listed: Listed) -> bool:
    """Return whether the last list is so young that no other one would be sent for."""
    return listed.is_known_since(clock.now() - ASK_EVERY)


def wants(state: PropGuardState, listed: Listed, *, may_be_reached: bool) -> bool:
    """Return whether the exchange's list is to be read now, and note that it is; at most once in ``ASK_EVERY``."""
    has_first = state.day_listed_at is not None and state.total_listed_at is not None
    if not listed.is_offered or (has_first and not may_be_reached and state.unlisted_at is None):
        return False
    now = clock.now()
    if state.list_wanted_at is not None and now - state.list_wanted_at < ASK_EVERY:
        return False
    state.list_wanted_at = now
    return True
