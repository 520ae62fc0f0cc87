"""The guard at work: measuring, and the kill. With :mod:`.limits` and :mod:`.closing` the writer of the guard's rows.

``refresh``, for one account:

1. What the account is worth is measured before any lock is taken (:mod:`.equity`); no venue is asked.
2. In one transaction, under the account's lock: the measurement is written down unless a later one is there already, a
   new day begins with it, and both drawdowns are looked at.
3. A limit that is reached kills in that same transaction: the kill is recorded, the account's automation is switched
   off (F64) and its bots are stopped. No order that takes risk passes after it, because orders are written under the
   same lock and ask for the kill first (:mod:`.check`).
4. What is left to do after a kill calls venues, so it is done outside, as often as it takes (:mod:`.closing`).

A measurement that fails is written down as what it is: the last equity stays, grows old and blocks (F61).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from django.db import transaction

from accounts import automation
from accounts.access import people_of_account
from accounts.models import Account, EquitySnapshot, PropGuardEvent, PropGuardRules, PropGuardState
from marketdata import sources
from notifications import outbox
from positions.booking import announce, lock_account
from positions.guard import equity, rules
from positions.guard.equity import Measured
from positions.guard.rules import Drawdown
from tradebot.core import audit, clock
from tradebot.core.decimals import plain, quantize
from tradebot.core.errors import InvalidInput, MissingInformation, NotFound, TradebotError
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = [
    "ACTOR",
    "KEPT",
    "Refreshed",
    "drawdowns",
    "is_killed",
    "kill",
    "measure_now",
    "money",
    "prune",
    "refresh",
    "refresh_all",
    "register_bots",
    "rules_of",
    "state_of",
    "stop_bots",
    "tell",
    "write_event",
]

log = structlog.get_logger(__name__)

ACTOR: Final = "prop guard"
SNAPSHOT_EVERY: Final = timedelta(minutes=5)
KEPT: Final = timedelta(days=90)
"""So long are snapshots of equity kept. The history of kills and resets is kept for good."""
StopBots = Callable[[Account, str], int]
"""(account, actor) to how many of its bots were running and are stopped now. Writes rows only."""

_stop_bots: list[StopBots] = []


def register_bots(stop: StopBots) -> None:
    """Let ``stop`` stop an account's bots; bots stand above deals, so their app hands it in."""
    _stop_bots[:] = [stop]


def stop_bots(account: Account, actor: str) -> int:
    """Stop the account's bots and return how many ran."""
    return sum(stop(account, actor) for stop in _stop_bots)


# Measuring ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Refreshed:
    """What a round over all guarded accounts did: measured, killed, and what failed by account id."""

    measured: int = 0
    killed: int = 0
    failed: dict[int, str] | None = None


def refresh_all() -> Refreshed:
    """Measure every guarded account. One account's failure does not stop the rest (F67)."""
    with all_accounts("the guard finds out which accounts have one"):
        rows = PropGuardRules.objects.filter(enabled=True, account__archived_at__isnull=True)
        ids = list(rows.exclude(account__exchange=sources.REPLAY).order_by("pk").values_list("account_id", flat=True))
    result = Refreshed(failed={})
    assert result.failed is not None
    for account_id in ids:
        try:
            with acting_for_account(account_id):
                state = refresh(account_id)
        except Exception as error:  # the loop's edge
            result.failed[account_id] = type(error).__name__
            log.exception("guard.account_failed", account=account_id)
            continue
        result.measured += 1
        result.killed += bool(state is not None and state.is_killed)
    return result


def refresh(account_id: int) -> PropGuardState | None:
    """Measure a guarded account, act on what that says (steps above) and return where it stands; None without a guard.

    Not inside a transaction that holds the account's lock for long: prices are read.
    """
    account = Account.objects.get(pk=account_id)
    found = rules_of(account)
    if found is None or not found.enabled:
        return None
    measured: Measured | None = None
    failure: TradebotError | None = None
    try:
        measured = measure_now(account, found)
    except TradebotError as error:
        failure = error
    with transaction.atomic():
        account = lock_account(account_id)
        found = rules_of(account)
        if found is None or not found.enabled:
            return None
        state = state_of(account)
        if measured is None:
            assert failure is not None
            _note_failure(state, failure)
        elif measured.currency == found.currency and _is_newer(state, measured):
            _write_down(account, found, state, measured)
            _judge(account, found, state)
    return state


def measure_now(account: Account, found: PropGuardRules) -> Measured:
    """Return what the account is worth, if that can be an equity. Raises MissingInformation."""
    measured = equity.measure(account, found.currency, timedelta(seconds=found.equity_max_age_seconds))
    if not rules.is_equity(measured.equity):
        raise MissingInformation(
            "equity_not_positive", f"The account adds up to {measured.equity} {found.currency}, which is no equity."
        )
    return measured


def _is_newer(state: PropGuardState, measured: Measured) -> bool:
    return state.last_equity_at is None or measured.at >= state.last_equity_at


def _note_failure(state: PropGuardState, failure: TradebotError) -> None:
    state.failed_at, state.error_code, state.error_text = clock.now(), failure.code[:60], failure.message[:300]
    state.save()


def _write_down(account: Account, found: PropGuardRules, state: PropGuardState, measured: Measured) -> None:
    """Write the measurement; a new day begins with it, or with the one before if that came right before the day."""
    value = quantize(measured.equity)
    day = rules.day_start(measured.at, found.day_start, ZoneInfo(found.day_zone))
    if state.day_began_at is None or day > state.day_began_at:
        start, at = value, measured.at
        last, last_at = state.last_equity, state.last_equity_at
        fresh = timedelta(seconds=found.equity_max_age_seconds)
        if (
            last is not None
            and last_at is not None
            and last_at < day
            and day - last_at <= min(fresh, measured.at - day)
        ):
            start, at = last, last_at
        state.day_began_at, state.day_start_equity, state.day_measured_at = day, start, at
        text = f"The day began with {money(start)} {found.currency}."
        if at - day > fresh:
            text += f" It was first measured at {at:%Y-%m-%d %H:%M:%S} UTC; what happened before is not in it."
        write_event(account, PropGuardEvent.Kind.DAY, text, ACTOR, equity=start, day=day, measured_at=at)
    state.last_equity, state.last_equity_at = value, measured.at
    state.failed_at, state.error_code, state.error_text = None, "", ""
    if measured.left_out:
        names = ", ".join(measured.left_out)
        state.error_code, state.error_text = "left_out", f"Not counted, no price on this market: {names}."[:300]
    state.save()
    last_kept = EquitySnapshot.objects.filter(account=account).order_by("-at").values_list("at", flat=True).first()
    if last_kept is None or measured.at - last_kept >= SNAPSHOT_EVERY:
        EquitySnapshot.objects.create(account=account, at=measured.at, equity=value, currency=found.currency)


def drawdowns(found: PropGuardRules, state: PropGuardState) -> dict[str, Drawdown | None]:
    """Return both drawdowns by the reason that they would kill for; None while one is not known."""
    last, start = state.last_equity, state.day_start_equity
    known = last is not None and rules.is_equity(last)
    daily = total = None
    if known and last is not None:
        total = Drawdown(found.initial_deposit, last, found.total_limit_pct)
        if start is not None and rules.is_equity(start):
            daily = Drawdown(start, last, found.daily_limit_pct)
    return {PropGuardState.Reason.TOTAL: total, PropGuardState.Reason.DAILY: daily}


def _judge(account: Account, found: PropGuardRules, state: PropGuardState) -> None:
    """Kill the account if one of its limits is reached."""
    for reason, drawdown in drawdowns(found, state).items():
        if drawdown is None or not drawdown.is_reached:
            continue
        since = "the initial deposit" if reason == PropGuardState.Reason.TOTAL else "the day began"
        words = (
            f"{money(drawdown.loss)} {found.currency} ({plain(quantize(drawdown.pct, 2))} %) lost since {since}; "
            f"the limit is {plain(drawdown.limit_pct)} %, {money(drawdown.limit)} {found.currency}."
        )
        numbers = {
            "equity": drawdown.equity,
            "base": drawdown.base,
            "loss": drawdown.loss,
            "loss_pct": quantize(drawdown.pct, 4),
            "limit_pct": drawdown.limit_pct,
            "limit": drawdown.limit,
            "currency": found.currency,
            "equity_at": state.last_equity_at,
        }
        _kill(account, state, PropGuardState.Reason(reason), words, ACTOR, numbers)
        return


# The kill -----------------------------------------------------------------------------------------------------------


def _kill(
    account: Account,
    state: PropGuardState,
    reason: PropGuardState.Reason,
    message: str,
    actor: str,
    numbers: dict[str, Any],
) -> None:
    """Record the kill inside the running transaction, under the account's lock, with what must not wait for it."""
    if state.killed_at is not None:
        return
    state.killed_at, state.kill_reason, state.settled_at = clock.now(), reason, None
    state.kill_message, state.killed_by, state.closing_error = message[:400], actor, ""
    state.kill_numbers = _words(numbers)
    state.save()
    write_event(account, PropGuardEvent.Kind.KILLED, message, actor, reason=reason.value, **numbers)
    audit.record(
        account.owner_id, actor, "guard_killed", f"account:{account.pk}", name=account.name, message=message, **numbers
    )
    automation.switch_off(account, actor)
    try:
        with transaction.atomic():
            stop_bots(account, actor)
    except Exception:  # the kill is recorded whatever else fails; closing stops them again
        log.exception("guard.bots_not_stopped", account=account.pk)
    log.warning("guard.killed", account=account.pk, reason=reason.value)
    tell(
        account,
        "guard_killed",
        "error",
        f"{account.name}: the guard has stopped the account. {message} Its bots are stopped, its deals are being "
        "closed at market, and nothing new is opened until the guard is released.",
    )


def kill(account: Account, actor: str, note: str = "") -> PropGuardState:
    """Kill a guarded account by hand. What follows is the same as after a limit. Killing it again changes nothing.

    Raises InvalidInput (``guard_off``) for an account without a guard, NotFound for one that may not be changed.
    """
    with transaction.atomic():
        account = _editable(account)
        found, state = rules_of(account), state_of(account)
        if found is None or not found.enabled:
            raise InvalidInput("guard_off", f"{account.name} has no guard that is on.")
        words = f"Stopped by {actor}." + (f" {' '.join(note.split())}" if note.strip() else "")
        numbers = {"equity": state.last_equity, "currency": found.currency, "equity_at": state.last_equity_at}
        _kill(account, state, PropGuardState.Reason.MANUAL, words, actor, numbers)
    return state


# Rows and words -----------------------------------------------------------------------------------------------------


def rules_of(account: Account) -> PropGuardRules | None:
    """Return the account's rules, fresh; None when it never had any."""
    return PropGuardRules.objects.filter(account_id=account.pk).first()


def is_killed(account_id: int) -> bool:
    """Return whether the account's guard has stopped it."""
    return bool(PropGuardState.objects.filter(account_id=account_id, killed_at__isnull=False).exists())


def state_of(account: Account) -> PropGuardState:
    """Return where the account stands, fresh; a new row, not saved yet, when nothing is known."""
    return PropGuardState.objects.filter(account_id=account.pk).first() or PropGuardState(account=account)


def _editable(account: Account) -> Account:
    if not Account.objects.editable().filter(pk=account.pk).exists():
        raise NotFound("no_account", "There is no such account.")
    return lock_account(account.pk)


def write_event(account: Account, kind: PropGuardEvent.Kind, message: str, actor: str, **numbers: Any) -> None:
    """Add a line to the guard's history."""
    PropGuardEvent.objects.create(
        account=account, kind=kind, message=message[:400], numbers=_words(numbers), actor=actor[:254], at=clock.now()
    )


def _words(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _words(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_words(inner) for inner in value]
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime | time):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int) else str(value)


def tell(account: Account, code: str, level: str, message: str) -> None:
    """Tell everybody who may see the account."""
    payload = {"code": code, "level": level, "message": message, "account_id": account.pk}
    announce(account.pk, lambda: outbox.publish(people_of_account(account.pk), "notification", payload, account.pk))


def money(value: Decimal) -> str:
    """Return an amount as sentences show it."""
    return f"{quantize(value, 2):,.2f}".replace(",", " ")


def prune() -> int:
    """Delete snapshots of equity older than :data:`KEPT` and return how many."""
    with all_accounts("retention of equity snapshots"), transaction.atomic():
        return int(EquitySnapshot.objects.filter(at__lt=clock.now() - KEPT).delete()[0])
