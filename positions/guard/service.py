"""The guard at work: measuring, and the kill. With :mod:`.limits` and :mod:`.closing` the writer of the guard's rows.

``refresh``, for one account:

1. What the account is worth is measured before any lock is taken (:mod:`.equity`), and what is known of money that was
   moved is read (:mod:`.moved`); no venue is asked.
2. In one transaction, under the account's lock: the measurement is written down unless a later one is there already, a
   new day begins with it, and both drawdowns are looked at, without what was moved.
3. Where the exchange lists deposits and withdrawals, a limit that is reached is believed only when a list was read
   that does not explain it, or when none could be read for a while (:mod:`.judging`); elsewhere at once.
4. A limit that is believed kills in that same transaction: the kill is recorded, the account's automation is switched
   off (F64) and its bots are stopped. No order that takes risk passes after it, because orders are written under the
   same lock and ask for the kill first (:mod:`.check`).
5. What is left to do after a kill calls venues, so it is done outside, as often as it takes (:mod:`.closing`).

A measurement that fails is written down as what it is: the last equity stays, grows old and blocks (F61).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from django.db import transaction

from accounts import automation
from accounts.models import Account, EquitySnapshot, PropGuardEvent, PropGuardRules, PropGuardState
from marketdata import sources
from positions.booking import lock_account
from positions.guard import equity, judging, moved, rules
from positions.guard.equity import Measured
from positions.guard.judging import Verdict
from positions.guard.moved import Listed
from positions.guard.records import ACTOR, in_words, money, rules_of, state_of, tell, write_event
from tradebot.core import audit, clock
from tradebot.core.decimals import quantize
from tradebot.core.errors import InvalidInput, MissingInformation, NotFound, TradebotError
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["KEPT", "Refreshed", "kill", "measure_now", "prune", "refresh", "refresh_all", "register_bots", "stop_bots"]

log = structlog.get_logger(__name__)

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
    """What a round over all guarded accounts did: measured, killed, and what failed by account id.

    ``unread`` are accounts whose exchange's list of deposits and withdrawals is to be read now, and that are to be
    measured again after it.
    """

    measured: int = 0
    killed: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    unread: list[int] = field(default_factory=list)


def refresh_all() -> Refreshed:
    """Measure every guarded account. One account's failure does not stop the rest (F67)."""
    with all_accounts("the guard finds out which accounts have one"):
        rows = PropGuardRules.objects.filter(enabled=True, account__archived_at__isnull=True)
        ids = list(rows.exclude(account__exchange=sources.REPLAY).order_by("pk").values_list("account_id", flat=True))
    result = Refreshed()
    for account_id in ids:
        try:
            with acting_for_account(account_id):
                state, wants_list = _refresh(account_id)
        except Exception as error:  # the loop's edge
            result.failed[account_id] = type(error).__name__
            log.exception("guard.account_failed", account=account_id)
            continue
        result.measured += 1
        result.killed += bool(state is not None and state.is_killed)
        if wants_list:
            result.unread.append(account_id)
    return result


def refresh(account_id: int) -> PropGuardState | None:
    """Measure a guarded account, act on what that says (steps above) and return where it stands; None without a guard.

    Not inside a transaction that holds the account's lock for long: prices are read.
    """
    return _refresh(account_id)[0]


def _refresh(account_id: int) -> tuple[PropGuardState | None, bool]:
    """Return where the account stands, and whether its exchange's list of moves is to be read now."""
    account = Account.objects.get(pk=account_id)
    found = rules_of(account)
    if found is None or not found.enabled:
        return None, False
    measured: Measured | None = None
    listed = moved.NOTHING
    failure: TradebotError | None = None
    try:
        measured = measure_now(account, found)
        listed = moved.known(account, found, state_of(account), measured)
    except TradebotError as error:
        failure = error
    wants_list = False
    with transaction.atomic():
        account = lock_account(account_id)
        found = rules_of(account)
        if found is None or not found.enabled:
            return None, False
        state = state_of(account)
        if measured is None:
            assert failure is not None
            _note_failure(state, failure)
            _act_on(account, state, judging.judge_unmeasured(found, state))
        elif measured.currency == found.currency and _is_newer(state, measured):
            wants_list = _take(account, found, state, measured, listed)
    return state, wants_list


def _take(account: Account, found: PropGuardRules, state: PropGuardState, measured: Measured, listed: Listed) -> bool:
    """Write a measurement down and act on it; return whether the exchange's list of moves is to be read now."""
    unclear = _write_down(account, found, state, measured, listed)
    verdict = judging.judge(account, found, state, listed, unclear)
    _act_on(account, state, verdict)
    if not moved.wants(state, listed, may_be_reached=verdict.may_be_reached):
        return False
    state.save(update_fields=["list_wanted_at"])
    return True


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


def _write_down(
    account: Account, found: PropGuardRules, state: PropGuardState, measured: Measured, listed: Listed
) -> dict[str, Decimal]:
    """Write the measurement; a new day begins with it, or with the one before if that came right before the day.

    Returns by how much what was moved may overstate each loss, by its reason.
    """
    value = quantize(measured.equity)
    day = rules.day_start(measured.at, found.day_start, ZoneInfo(found.day_zone))
    if state.day_began_at is None or day > state.day_began_at:
        start, at, balances_at = value, measured.at, measured.balances_at
        last, last_at = state.last_equity, state.last_equity_at
        fresh = timedelta(seconds=found.equity_max_age_seconds)
        if (
            last is not None
            and last_at is not None
            and last_at < day
            and day - last_at <= min(fresh, measured.at - day)
        ):
            start, at, balances_at = last, last_at, state.balances_at or last_at
        state.day_began_at, state.day_start_equity, state.day_measured_at = day, start, at
        state.day_balances_at, state.day_listed_at = balances_at, None
        text = f"The day began with {money(start)} {found.currency}."
        if at - day > fresh:
            text += f" It was first measured at {at:%Y-%m-%d %H:%M:%S} UTC; what happened before is not in it."
        write_event(account, PropGuardEvent.Kind.DAY, text, ACTOR, equity=start, day=day, measured_at=at)
    unclear = moved.note(state, found, measured, listed)
    state.last_equity, state.last_equity_at = value, measured.at
    state.failed_at, state.error_code, state.error_text = None, "", ""
    if measured.left_out:
        names = ", ".join(measured.left_out)
        state.error_code, state.error_text = "left_out", f"Not counted, no price on this market: {names}."[:300]
    state.save()
    last_kept = EquitySnapshot.objects.filter(account=account).order_by("-at").values_list("at", flat=True).first()
    if last_kept is None or measured.at - last_kept >= SNAPSHOT_EVERY:
        EquitySnapshot.objects.create(account=account, at=measured.at, equity=value, currency=found.currency)
    return unclear


def _act_on(account: Account, state: PropGuardState, verdict: Verdict) -> None:
    if verdict.reason is not None:
        _kill(account, state, verdict.reason, verdict.words, ACTOR, verdict.numbers)


# The kill -----------------------------------------------------------------------------------------------------------


def _kill(
    account: Account,
    state: PropGuardState,
    reason: PropGuardState.Reason,
    message: str,
    actor: str,
    numbers: Mapping[str, Any],
) -> None:
    """Record the kill inside the running transaction, under the account's lock, with what must not wait for it."""
    if state.killed_at is not None:
        return
    state.killed_at, state.kill_reason, state.settled_at = clock.now(), reason, None
    state.kill_message, state.killed_by, state.closing_error = message[:400], actor, ""
    state.kill_numbers, state.breached_at = in_words(dict(numbers)), None
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


def _editable(account: Account) -> Account:
    if not Account.objects.editable().filter(pk=account.pk).exists():
        raise NotFound("no_account", "There is no such account.")
    return lock_account(account.pk)


# Retention ----------------------------------------------------------------------------------------------------------


def prune() -> int:
    """Delete snapshots of equity older than :data:`KEPT` and return how many."""
    with all_accounts("retention of equity snapshots"), transaction.atomic():
        return int(EquitySnapshot.objects.filter(at__lt=clock.now() - KEPT).delete()[0])
