"""Looking after perpetual deals all the time: what their venues did, whether their brackets stand.

:func:`tend_account`, for one account with perpetual deals:

1. On paper, the venue itself is brought up to date: funding, stops, liquidation. An exchange does that by itself.
2. Working orders are asked for, and what they got is booked (:mod:`positions.reconcile`).
3. Liquidations, funding and positions are read (:mod:`positions.perps_news`).
4. Each live deal's bracket is made to stand (:mod:`positions.brackets`).

It runs every five seconds over all paper accounts, and as a task of its own for each account on an exchange; for a day
after its last deal has ended every quarter of an hour at least, because an exchange may tell the last funding late.
Recordings are tended by whoever replays them. One account's failure does not stop the others (F67), nor one deal's the
next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog
from django.db.models import Q

from accounts.exchanges import paper_settlement
from accounts.models import Account
from positions import brackets, perps_news
from positions.models import PerpsTerms, Position
from positions.reconcile import reconcile_account
from positions.states import POSITION_ACTIVE
from tradebot.core import clock, health
from tradebot.core.errors import TradebotError
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["LOOPS", "Tended", "accounts_with_perpetuals", "tend_account", "tend_all"]

log = structlog.get_logger(__name__)

LOOPS: Final = {"perpetuals": 5, "late funding": 900}
"""How often it runs, in seconds."""
health.LOOPS.update(LOOPS)

REPLAY: Final = "replay"
RECENT: Final = timedelta(minutes=15)
"""How long a deal that has ended keeps its account among those that are looked after all the time."""


@dataclass(slots=True)
class Tended:
    """What a run did: accounts visited, live deals, and what failed, by account id."""

    accounts: int = 0
    deals: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def tend_account(account_id: int) -> int:
    """Look after the account's perpetual deals (steps above) and return how many are live.

    Never inside a transaction. Raises what the venue raises; brackets of deals that are known are looked at all the
    same, because a stop must not wait for somebody's list of fundings.
    """
    with acting_for_account(account_id):
        account = Account.objects.get(pk=account_id)
        if account.is_paper:
            paper_settlement.settle(account.exchange, clock.now(), [account_id])
        trouble: TradebotError | None = None
        try:
            reconcile_account(account_id)
            perps_news.read(account_id)
        except TradebotError as error:
            trouble = error
        deals = Position.objects.filter(
            account_id=account_id, status__in=POSITION_ACTIVE, perps_terms__isnull=False
        ).select_related("product", "account")
        for position in deals:
            brackets.sync(position)
        if trouble is not None:
            raise trouble
    return len(deals)


def accounts_with_perpetuals(ended_within: timedelta = RECENT) -> list[int]:
    """Return the ids of all accounts with perpetual deals, live or ended so recently, recordings aside."""
    with all_accounts("the loop looks for accounts with perpetual deals"):
        live = PerpsTerms.objects.filter(Q(ended_at=None) | Q(ended_at__gte=clock.now() - ended_within))
        rows = live.exclude(account__exchange=REPLAY).order_by("account_id")
        return list(rows.values_list("account_id", flat=True).distinct())


def tend_all(account_ids: Iterable[int]) -> Tended:
    """Look after these accounts, each on its own."""
    result = Tended()
    for account_id in account_ids:
        try:
            result.deals += tend_account(account_id)
            result.accounts += 1
        except Exception as error:
            result.failed[account_id] = error.code if isinstance(error, TradebotError) else type(error).__name__
            if isinstance(error, TradebotError):
                log.warning("perps.account_failed", account=account_id, code=error.code, error=error.message)
            else:
                log.error("perps.account_failed", account=account_id, exc_info=error)
    return result
