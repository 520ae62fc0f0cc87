"""Whether an account's losses are beyond a limit, and whether that is believed yet. Kills nothing: see :mod:`.service`.

Where the exchange lists deposits and withdrawals, what looks like a loss may be a withdrawal that is not listed yet. A
limit that is reached is believed when a list asked for since does not explain it, or when none could be read for
:data:`PATIENCE`; until then nothing is opened and nothing is closed. Everywhere else it is believed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import structlog

from accounts.models import Account, PropGuardEvent, PropGuardRules, PropGuardState
from positions.guard import moved, rules
from positions.guard.moved import Listed
from positions.guard.records import ACTOR, money, tell, write_event
from positions.guard.rules import Drawdown
from tradebot.core import clock
from tradebot.core.decimals import plain, quantize

__all__ = ["PATIENCE", "Verdict", "drawdowns", "judge", "judge_unmeasured"]

log = structlog.get_logger(__name__)

PATIENCE: Final = timedelta(seconds=90)
"""So long is the closing put off at most while an exchange's list of deposits and withdrawals cannot be read."""
TELL_AFTER: Final = timedelta(seconds=15)
"""A list that comes so soon after it was sent for is no news."""
UNREAD: Final = (
    "What the exchange lists of deposits and withdrawals could not be read for "
    f"{int(PATIENCE.total_seconds())} s, so it is taken for a loss."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason``: the limit that the account is stopped for, with a sentence and the numbers behind it; None: none.

    ``may_be_reached``: a limit is reached unless something that is not clear yet explains it.
    """

    reason: PropGuardState.Reason | None = None
    words: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    may_be_reached: bool = False


def drawdowns(found: PropGuardRules, state: PropGuardState) -> dict[str, Drawdown | None]:
    """Return both drawdowns by the reason that they would kill for; None while one is not known.

    Without the money that was moved, as far as it is known: what is not clear yet makes them larger.
    """
    last, start = state.last_equity, state.day_start_equity
    known = last is not None and rules.is_equity(last)
    daily = total = None
    if known and last is not None:
        total = Drawdown(found.initial_deposit, last - state.total_moved, found.total_limit_pct)
        if start is not None and rules.is_equity(start):
            daily = Drawdown(start, last - state.day_moved, found.daily_limit_pct)
    return {PropGuardState.Reason.TOTAL: total, PropGuardState.Reason.DAILY: daily}


def judge(
    account: Account, found: PropGuardRules, state: PropGuardState, listed: Listed, unclear: Mapping[str, Decimal]
) -> Verdict:
    """Judge what was just measured, under the account's lock. ``unclear``: by how much each loss may be overstated."""
    if state.killed_at is not None:
        return Verdict()
    reached = {reason: row for reason, row in drawdowns(found, state).items() if row is not None and row.is_reached}
    beyond = [reason for reason, row in reached.items() if row.after(-unclear[reason]).is_reached]
    if not beyond:
        if state.breached_at is not None:
            _explained(account, state)
        return Verdict(may_be_reached=bool(reached))
    reason, drawdown = beyond[0], reached[beyond[0]]
    words = _beyond(found, reason, drawdown)
    if listed.is_offered and not _is_believed(state, listed):
        if _waits(account, state, words):
            return Verdict(may_be_reached=True)
        words += f" {UNREAD}"
    return _kill_for(found, state, reason, drawdown, words)


def judge_unmeasured(found: PropGuardRules, state: PropGuardState) -> Verdict:
    """Judge an account whose equity is not known any more: a limit that was reached before does not wait for longer."""
    if state.killed_at is None and state.breached_at is not None and clock.now() - state.breached_at >= PATIENCE:
        for reason, drawdown in drawdowns(found, state).items():
            if drawdown is not None and drawdown.is_reached:
                words = f"{_beyond(found, reason, drawdown)} {UNREAD} Its equity is not known since."
                return _kill_for(found, state, reason, drawdown, words)
    return Verdict()


def _kill_for(found: PropGuardRules, state: PropGuardState, reason: str, drawdown: Drawdown, words: str) -> Verdict:
    numbers = {
        "equity": state.last_equity,
        "moved": state.total_moved if reason == PropGuardState.Reason.TOTAL else state.day_moved,
        "base": drawdown.base,
        "loss": drawdown.loss,
        "loss_pct": quantize(drawdown.pct, 4),
        "limit_pct": drawdown.limit_pct,
        "limit": drawdown.limit,
        "currency": found.currency,
        "equity_at": state.last_equity_at,
    }
    return Verdict(PropGuardState.Reason(reason), words, numbers)


def _beyond(found: PropGuardRules, reason: str, drawdown: Drawdown) -> str:
    since = "the initial deposit" if reason == PropGuardState.Reason.TOTAL else "the day began"
    return (
        f"{money(drawdown.loss)} {found.currency} ({plain(quantize(drawdown.pct, 2))} %) lost since {since}; "
        f"the limit is {plain(drawdown.limit_pct)} %, {money(drawdown.limit)} {found.currency}."
    )


# Waiting for the list ------------------------------------------------------------------------------------------------


def _is_believed(state: PropGuardState, listed: Listed) -> bool:
    """Return whether a list that would name a withdrawal was read, so that what is gone is lost."""
    if listed.is_unvalued:
        return False
    nothing_moved = state.unlisted_at is None and moved.is_recent(listed)
    return nothing_moved or listed.is_known_since(state.breached_at)


def _waits(account: Account, state: PropGuardState, words: str) -> bool:
    """Return whether the closing still waits for the exchange's list; tell its people when no answer comes."""
    now = clock.now()
    if state.breached_at is None:
        state.breached_at = now
        state.save(update_fields=["breached_at"])
        log.warning("guard.list_wanted", account=account.pk)
    if now - state.breached_at >= PATIENCE:
        return False
    sent = state.list_wanted_at
    if sent is not None and sent >= state.breached_at and now - sent >= TELL_AFTER and not _has_told(account, state):
        text = (
            f"{words} Before anything is closed, the exchange is asked whether money was withdrawn. It does not "
            f"answer. Closing begins {int(PATIENCE.total_seconds())} s after the limit was reached; nothing is opened."
        )
        write_event(account, PropGuardEvent.Kind.ASKED, text, ACTOR)
        tell(account, "guard_waits", "warning", f"{account.name}: {text}")
    return True


def _has_told(account: Account, state: PropGuardState) -> bool:
    told = PropGuardEvent.objects.filter(account=account, kind=PropGuardEvent.Kind.ASKED, at__gte=state.breached_at)
    return bool(told.exists())


def _explained(account: Account, state: PropGuardState) -> None:
    has_told, state.breached_at = _has_told(account, state), None
    state.save(update_fields=["breached_at"])
    if has_told:
        text = "The account is within its limits: money was moved, or prices came back. Nothing is closed."
        write_event(account, PropGuardEvent.Kind.ASKED, text, ACTOR)
        tell(account, "guard_explained", "info", f"{account.name}: {text}")
