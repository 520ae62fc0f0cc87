"""What is left to do after a kill: the account's bots, its resting orders, its deals. As often as it takes.

``carry_out``, for one killed account:

1. Bots that run are stopped (again): one may have been started by a hand that was faster.
2. Every deal is closed at market by the order protocol (``positions.manual``): its working orders are cancelled and
   their final state is known before anything is sold. A close that is on its way already is not doubled, so this may be
   cut off at any line and done again, by any number of workers.
   A purchase to keep or a sale of coins of no deal is cancelled instead; what it has got stays in the account.
3. A deal that could not be closed stays for the next round. While the venue rejects its closes, each next try waits
   longer, up to five minutes (F27).
4. When no deal is open and no order works any more, that is written down once, and the owner is told.

A person may take a deal out of this by cancelling it: its coins then stay in the account.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog
from django.db import transaction
from django.db.models import QuerySet

from accounts.models import Account, PropGuardEvent, PropGuardState
from positions import keeping, manual
from positions.booking import lock_account, write
from positions.guard.records import ACTOR, tell, write_event
from positions.guard.service import stop_bots
from positions.models import Order, Position
from positions.states import POSITION_ACTIVE, WORKING, OrderStatus, Purpose
from tradebot.core import clock
from tradebot.core.errors import TradebotError
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["Closed", "accounts_to_settle", "carry_out", "carry_out_all"]

log = structlog.get_logger(__name__)

FIRST_WAIT: Final = timedelta(seconds=10)
LONGEST_WAIT: Final = timedelta(minutes=5)


@dataclass(slots=True)
class Closed:
    """What a round did: accounts that are settled now, deals that are still open, and what failed by account id."""

    settled: int = 0
    still_open: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def accounts_to_settle() -> list[int]:
    """Return the accounts that are stopped and have something left to close, the longest stopped first."""
    with all_accounts("the guard finds out which killed accounts are not settled"):
        rows = PropGuardState.objects.filter(killed_at__isnull=False, settled_at__isnull=True)
        return list(rows.order_by("killed_at").values_list("account_id", flat=True))


def carry_out_all(account_ids: Iterable[int]) -> Closed:
    """Go on with these killed accounts. One account's failure does not stop the rest (F67)."""
    result = Closed()
    for account_id in account_ids:
        try:
            left = carry_out(account_id)
        except Exception as error:
            result.failed[account_id] = type(error).__name__
            log.error("guard.closing_failed", account=account_id, exc_info=error)
            continue
        result.still_open += left
        result.settled += not left
    return result


def carry_out(account_id: int) -> int:
    """Do what is left to do for a killed account (steps above); return how many deals are open after it.

    Never inside a transaction: venues are called.
    """
    with acting_for_account(account_id):
        state = PropGuardState.objects.filter(account_id=account_id, killed_at__isnull=False).first()
        if state is None or state.settled_at is not None:
            return 0
        account = Account.objects.get(pk=account_id)
        stop_bots(account, ACTOR)
        errors = [text for deal in _open_deals(account_id) if (text := _close(deal))]
        _note(state, errors)
        if not _settle(account_id):
            return _open_deals(account_id).count()
    return 0


def _open_deals(account_id: int) -> QuerySet[Position]:
    rows = Position.objects.filter(account_id=account_id, status__in=POSITION_ACTIVE)
    found: QuerySet[Position] = rows.select_related("product", "account").order_by("pk")
    return found


def _close(deal: Position) -> str:
    """Close one deal; return what kept it from being closed, or nothing. One whose outcome is kept is cancelled."""
    if keeping.is_kept(deal):
        try:
            keeping.give_up(deal, ACTOR)
        except TradebotError as error:
            return f"{deal.product.symbol}: {error.message}"
        return ""
    if _waits(deal):
        return f"{deal.product.symbol}: {_latest_close(deal)[-1].error_text}"
    answer = manual.close_all([deal], ACTOR, Purpose.PANIC_CLOSE)[0]
    return f"{deal.product.symbol}: {answer.message}" if isinstance(answer, manual.CloseFailure) else ""


def _latest_close(deal: Position) -> list[Order]:
    """Return the closes of the guard that were rejected in a row, oldest first."""
    rejected: list[Order] = []
    for order in deal.orders.filter(purpose=Purpose.PANIC_CLOSE).order_by("-pk"):
        if order.status != OrderStatus.REJECTED:
            break
        rejected.insert(0, order)
    return rejected


def _waits(deal: Position) -> bool:
    rejected = _latest_close(deal)
    if not rejected or rejected[-1].finished_at is None:
        return False
    wait: timedelta = min(FIRST_WAIT * 2 ** min(len(rejected) - 1, 10), LONGEST_WAIT)
    return clock.now() - rejected[-1].finished_at < wait


def _note(state: PropGuardState, errors: list[str]) -> None:
    text = " ".join(errors)[:300]
    if text != state.closing_error:
        with transaction.atomic():
            write(state, closing_error=text)


def _settle(account_id: int) -> bool:
    """Write down that nothing is left to do, if that is so; return whether it is."""
    with transaction.atomic():
        account = lock_account(account_id)
        state = PropGuardState.objects.filter(account_id=account_id, killed_at__isnull=False).first()
        if state is None or state.settled_at is not None:
            return True
        if _open_deals(account_id).exists() or Order.objects.filter(account=account, status__in=WORKING).exists():
            return False
        write(state, settled_at=clock.now(), closing_error="")
        assert state.killed_at is not None
        closed = Position.objects.filter(account=account, closed_at__gte=state.killed_at).count()
        words = f"Everything is closed: {closed} {'deal' if closed == 1 else 'deals'} since the account was stopped."
        write_event(account, PropGuardEvent.Kind.SETTLED, words, ACTOR, deals=closed)
        tell(account, "guard_settled", "info", f"{account.name}: {words}")
    return True
