"""The guard's section of the account page: where the account stands, in words and bars. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounts.models import Account, PropGuardEvent, PropGuardRules, PropGuardState
from accounts.selection import SignedInRequest
from marketdata import sources
from positions.guard import check, moved, rules
from positions.guard.forms import LimitsForm, ReleaseForm, StopForm
from positions.guard.judging import PATIENCE, drawdowns
from positions.guard.rules import Drawdown
from positions.models import Position
from positions.states import POSITION_ACTIVE
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO

__all__ = ["Bar", "Standing", "gather", "standing_of"]

EVENTS_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """How much of one limit is used. ``used_pct`` is of the limit, 0 to 100, None while it is not known."""

    name: str
    limit_pct: Decimal
    drawdown: Drawdown | None

    @property
    def used_pct(self) -> int | None:
        if self.drawdown is None:
            return None
        used = self.drawdown.loss * HUNDRED / self.drawdown.limit
        return int(min(max(used, ZERO), HUNDRED).to_integral_value())

    @property
    def lost(self) -> Decimal | None:
        """Return what is lost, zero while there is a gain."""
        return None if self.drawdown is None else max(self.drawdown.loss, ZERO)

    @property
    def lost_pct(self) -> Decimal | None:
        return None if self.drawdown is None else max(self.drawdown.pct, ZERO)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a guarded account stands: ``kind`` and ``badge`` as the pages show states, ``words`` as a sentence."""

    rules: PropGuardRules
    state: PropGuardState | None
    kind: str
    badge: str
    words: str
    bars: tuple[Bar, ...]
    next_day_at: datetime
    age_seconds: int | None

    @property
    def daily(self) -> Bar:
        return self.bars[0]

    @property
    def total(self) -> Bar:
        return self.bars[1]

    @property
    def is_killed(self) -> bool:
        return self.state is not None and self.state.is_killed


def standing_of(found: PropGuardRules, state: PropGuardState | None, still_open: int = 0) -> Standing:
    """Return where an account with these rules stands now; ``still_open`` is how many deals it has."""
    now = clock.now()
    refusal = check.refusal_of(found, state, now)
    if state is not None and state.killed_at is not None:
        kind, badge, words = "failed", "Stopped", state.kill_message
        if state.settled_at is None:
            deals = "deal is" if still_open == 1 else "deals are"
            words += f" {still_open} {deals} still being closed." if still_open else " Closing is being completed."
            if state.closing_error:
                words += f" {state.closing_error}"
    elif not found.enabled:
        kind, badge, words = "stopped", "Off", "The account has no loss limits."
    elif state is not None and state.breached_at is not None:
        kind, badge = "attention", "Blocked"
        words = (
            "Nothing new is opened. A limit is reached, and the exchange is asked whether money was withdrawn; if it "
            f"does not answer within {int(PATIENCE.total_seconds())} s, everything is closed."
        )
    elif refusal is not None:
        kind, badge, words = "attention", "Blocked", f"Nothing new is opened. {refusal.message}"
    else:
        kind, badge, words = "running", "On", "The account is within its limits and may trade."
    both = drawdowns(found, state) if state is not None else {}
    today = rules.day_start(now, found.day_start, ZoneInfo(found.day_zone))
    is_today = state is not None and state.day_began_at == today
    daily = both.get(PropGuardState.Reason.DAILY) if is_today or (state is not None and state.is_killed) else None
    age = None if state is None or state.last_equity_at is None else int((now - state.last_equity_at).total_seconds())
    return Standing(
        found,
        state,
        kind,
        badge,
        words,
        (
            Bar("Lost today", found.daily_limit_pct, daily),
            Bar("Lost in all", found.total_limit_pct, both.get(PropGuardState.Reason.TOTAL)),
        ),
        rules.next_day_start(now, found.day_start, ZoneInfo(found.day_zone)),
        age if age is None else max(age, 0),
    )


def gather(request: SignedInRequest, account: Account, bound: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the section shows; nothing for recordings, whose clock is not ours. At most four queries."""
    if account.exchange == sources.REPLAY:
        return None
    owned = account.owner_id == request.user.pk
    found = PropGuardRules.objects.filter(account=account).first()
    state = PropGuardState.objects.filter(account=account).first() if found is not None else None
    if found is None and (not owned or account.archived_at is not None):
        return None
    rows = found or PropGuardRules(account=account)
    killed = state is not None and state.is_killed
    still_open = Position.objects.filter(account=account, status__in=POSITION_ACTIVE).count() if killed else 0
    context: dict[str, Any] = {
        "guard": standing_of(rows, state, still_open),
        "guard_events": PropGuardEvent.objects.filter(account=account)[:EVENTS_SHOWN] if found is not None else [],
        "guard_may_stop": rows.enabled and not killed and Account.objects.editable().filter(pk=account.pk).exists(),
        "guard_knows_moves": moved.are_listed(account),
        "stop_form": StopForm(expected=account.name, auto_id="stop_%s"),
    }
    if owned and account.archived_at is None:
        context["guard_form"] = LimitsForm(instance=rows, auto_id="guard_%s")
        context["release_form"] = ReleaseForm(expected=account.name, auto_id="release_%s")
    return context
