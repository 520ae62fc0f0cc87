"""Taking back what a stopped account still has in the book to buy with: its resting and unsent entries.

The kill switch forbids new entries (``positions.safety``). One that rests would be filled all the same, and one that
was written down a moment before would be sent, so they are cancelled: at once, and again by a loop until the venue has
confirmed it. Closes are left alone: open deals stay managed.
"""

from __future__ import annotations

from typing import Final

import structlog

from accounts.models import Account
from positions.execution import cancel
from positions.models import Order
from positions.states import ENTRY_PURPOSES, WORKING
from tradebot.core import health
from tradebot.core.errors import TradebotError
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["LOOP", "LOOP_SECONDS", "cancel_entries", "cancel_entries_of_stopped"]

log = structlog.get_logger(__name__)
LOOP: Final = "stopped accounts"
LOOP_SECONDS: Final = 30
health.LOOPS[LOOP] = LOOP_SECONDS


def cancel_entries(account_id: int) -> int:
    """Cancel the working entries of the account if it is stopped; return how many were asked for.

    Cancelling again is harmless, and one order that fails stops none of the others. Never inside a transaction.
    """
    with acting_for_account(account_id):
        account = Account.objects.filter(pk=account_id).first()
        if account is None or not account.is_killed:
            return 0
        orders = Order.objects.filter(account=account, status__in=WORKING, purpose__in=ENTRY_PURPOSES)
        found = list(orders.select_related("account", "position__product"))
        for order in found:
            try:
                cancel(order, account.trading_state_by or "system")
            except TradebotError as error:
                log.warning("standstill.not_cancelled", order=order.pk, code=error.code)
            except Exception:  # the loop's edge: the other orders are to be cancelled all the same
                log.exception("standstill.not_cancelled", order=order.pk)
        return len(found)


def cancel_entries_of_stopped() -> int:
    """Do so for every stopped account that has any left; return how many orders were asked for."""
    with all_accounts("stopped accounts may still have entries in the book"):
        rows = Order.objects.filter(
            status__in=WORKING, purpose__in=ENTRY_PURPOSES, account__trading_state=Account.TradingState.KILLED
        )
        ids = sorted(set(rows.order_by().values_list("account_id", flat=True)))
    return sum(cancel_entries(account_id) for account_id in ids)
