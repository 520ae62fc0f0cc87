"""The guard's question before an order, asked under the account's lock (:mod:`positions.admission`).

For an account with a guard, in this order; whatever of it is not known blocks (F61):

1. The kill switch.
2. The equity: measured, a finite number above zero, not older than the rules allow.
3. The value of the order, and the fee that it pays.
4. Both drawdowns, as they would be at worst when the order and all entries that the equity does not show yet have paid
   their fees and spreads. Because it is asked under the lock that writes the order, two orders at once cannot both use
   room that is there for one (F62).
5. The spread of the product.

Orders that only reduce risk are never asked (F63).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from django.db import DatabaseError, transaction
from django.db.models import Q

from accounts.balances import fees_of
from accounts.models import Account, PropGuardRules, PropGuardState
from marketdata import market
from marketdata.sources.base import Quote
from positions.admission import Proposed
from positions.guard import equity, rules
from positions.guard.judging import drawdowns
from positions.guard.records import money
from positions.models import Order
from positions.states import ENTRY_PURPOSES, WORKING
from tradebot.core import clock
from tradebot.core.decimals import ZERO, for_money, plain, quantize
from tradebot.core.errors import MissingInformation, OrderRefused, TradebotError

__all__ = ["CLOCK_SKEW", "UNKNOWN", "allow", "refusal_of"]

UNKNOWN: Final = frozenset(
    {
        "guard_day_unknown",
        "guard_equity_unknown",
        "guard_spread_unknown",
        "guard_unreadable",
        "guard_value_unknown",
    }
)
"""Codes of refusals that say nothing about the order, only that something is not known."""
CLOCK_SKEW: Final = timedelta(seconds=5)

T = TypeVar("T")


def allow(proposed: Proposed) -> None:
    """Raise OrderRefused with the numbers unless the account's guard lets the order pass, or there is none."""
    if proposed.reduces_risk:
        return
    found = _read(lambda: PropGuardRules.objects.filter(account=proposed.account, enabled=True).first())
    if found is None:
        return
    now = clock.now()
    state = _read(lambda: PropGuardState.objects.filter(account=proposed.account).first())
    refusal = refusal_of(found, state, now)
    if refusal is not None:
        raise refusal
    assert state is not None
    quote = _quote(proposed)
    cost = _read(lambda: _cost(proposed, found, state, now))
    _check_room(found, state, cost)
    _check_spread(proposed, found, quote)


def refusal_of(found: PropGuardRules, state: PropGuardState | None, now: datetime) -> OrderRefused | None:
    """Return why the guard lets no order pass at all that takes risk; None when it depends on the order."""
    if state is None:
        return OrderRefused("guard_equity_unknown", "The account's equity has not been measured yet.")
    if state.killed_at is not None:
        return OrderRefused(
            "guard_killed",
            f"The guard has stopped this account: {state.kill_message or state.get_kill_reason_display()}",
            reason=state.kill_reason,
            since=state.killed_at.isoformat(),
        )
    last, at = state.last_equity, state.last_equity_at
    if last is None or at is None or not rules.is_equity(last):
        text = state.error_text or "It has not been measured yet."
        return OrderRefused(
            "guard_equity_unknown", f"The account's equity is not known. {text}", cause=state.error_code
        )
    age = now - at
    if not -CLOCK_SKEW <= age <= timedelta(seconds=found.equity_max_age_seconds):
        return OrderRefused(
            "guard_equity_unknown",
            f"The account's equity was last known {int(age.total_seconds())} s ago; "
            f"the guard allows {found.equity_max_age_seconds} s. {state.error_text}".strip(),
            age_seconds=int(age.total_seconds()),
            limit_seconds=found.equity_max_age_seconds,
            equity=last,
        )
    start = state.day_start_equity
    today = rules.day_start(now, found.day_start, ZoneInfo(found.day_zone))
    if start is None or state.day_began_at != today or not rules.is_equity(start):
        return OrderRefused(
            "guard_day_unknown", "The equity that this day began with is not known yet.", day=today.isoformat()
        )
    return None


def _read(read: Callable[[], T]) -> T:
    """Return what ``read`` gives; storage that cannot be read is an answer that is not known (F61)."""
    try:
        with transaction.atomic():
            return read()
    except (DatabaseError, ArithmeticError, ValueError) as error:  # the table, or what stands in it
        words = "The guard's records cannot be read, so no order that takes risk is placed."
        raise OrderRefused("guard_unreadable", words) from error


def _quote(proposed: Proposed) -> Quote:
    symbol = proposed.product.symbol
    try:
        quote = market.quote(proposed.account.exchange, symbol)
    except TradebotError as error:
        raise OrderRefused("guard_spread_unknown", f"The spread of {symbol} is not known: {error.message}") from error
    if quote is None:
        raise OrderRefused("guard_spread_unknown", f"The spread of {symbol} is not known: it has no current price.")
    return quote


def _check_spread(proposed: Proposed, found: PropGuardRules, quote: Quote) -> None:
    if rules.spread_within(quote.bid, quote.ask, found.max_spread_pct):
        return
    pct = quantize(rules.spread_pct(quote.bid, quote.ask), 4)
    raise OrderRefused(
        "guard_spread",
        f"The spread of {proposed.product.symbol} is {plain(pct)} %; the guard allows {plain(found.max_spread_pct)} %.",
        bid=quote.bid,
        ask=quote.ask,
        spread_pct=pct,
        limit_pct=found.max_spread_pct,
    )


def _check_room(found: PropGuardRules, state: PropGuardState, cost: Decimal) -> None:
    """Raise OrderRefused when a drawdown is at its limit, or would be at worst once ``cost`` is paid (F62)."""
    both = drawdowns(found, state)
    for code, what, reason in (
        ("guard_total_limit", "total", PropGuardState.Reason.TOTAL),
        ("guard_daily_limit", "daily", PropGuardState.Reason.DAILY),
    ):
        drawdown = both[reason]
        assert drawdown is not None  # what they are measured from was looked at
        if not drawdown.after(cost).is_reached:
            continue
        words = (
            f"{money(drawdown.left)} {found.currency} are left to the {what} limit of {plain(drawdown.limit_pct)} %; "
            f"fees and spread of this order, and of those not measured yet, may take {money(cost)}."
        )
        raise OrderRefused(
            code,
            words,
            equity=state.last_equity,
            base=drawdown.base,
            loss=drawdown.loss,
            loss_pct=quantize(drawdown.pct, 4),
            limit_pct=drawdown.limit_pct,
            left=drawdown.left,
            cost=cost,
            currency=found.currency,
        )


def _cost(proposed: Proposed, found: PropGuardRules, state: PropGuardState, now: datetime) -> Decimal:
    """Return what this order, and entries that the measured equity may not show yet, cost at worst, in its currency."""
    if proposed.value_quote is None or not proposed.value_quote.is_finite():
        raise OrderRefused("guard_value_unknown", "What the order is worth is not known.")
    fee = _dearer_fee(proposed.account)
    values: dict[str, Decimal] = {proposed.product.quote: proposed.value_quote}
    for quote, value in _entries_since(proposed.account, state.last_equity_at):
        values[quote] = values.get(quote, ZERO) + value
    total = ZERO
    max_age = timedelta(seconds=found.equity_max_age_seconds)
    with for_money():
        for quote, value in values.items():
            cost = rules.worst_cost(value, fee, found.max_spread_pct)
            if quote != found.currency:
                cost *= _rate(proposed.account, quote, found.currency, now, max_age)
            total += cost
    return total


def _entries_since(account: Account, moment: datetime | None) -> list[tuple[str, Decimal]]:
    """Return (quote currency, value) of entries that work, or have filled since ``moment``."""
    pending = Q(status__in=WORKING) | Q(finished_at__gte=moment, filled_base__gt=ZERO)
    rows = Order.objects.filter(pending, account=account, purpose__in=ENTRY_PURPOSES).order_by()
    names = ("position__product__quote", "quote_size", "base_size", "limit_price", "reference_price", "filled_quote")
    found = []
    for quote, quote_size, base_size, limit, reference, filled in rows.values_list(*names):
        value = quote_size
        if value is None:
            price = limit or reference
            value = base_size * price if base_size is not None and price is not None else filled
        found.append((quote, max(value, filled)))
    return found


def _rate(account: Account, quote: str, currency: str, now: datetime, max_age: timedelta) -> Decimal:
    try:
        return equity.rate(account.exchange, quote, currency, now, max_age)
    except MissingInformation as error:
        raise OrderRefused("guard_value_unknown", f"What the order is worth is not known: {error.message}") from error


def _dearer_fee(account: Account) -> Decimal:
    """Return the account's dearer fee as a fraction, as it is written down here: no venue is asked."""
    return max(fees_of([account.pk])[account.pk])
