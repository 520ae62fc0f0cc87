"""The kill switch: one act that stops bots and lets nothing more be bought, on one account or on all of one's own.

For each account, in one transaction: it is marked as stopped, under its lock, so that no order that adds risk is
written down any more (``positions.safety``), and its running bots are stopped. After the commit its entries in the
book are taken back. Open deals stay managed: stops, take profits and a person's closes go on. Only what the bound scope
may change is touched; "all" means the person's own accounts, never those that others share with them (F48).

What automates beyond bots (automatic buying) is on :data:`AUTOMATIONS` and turned off as well; the account's state
refuses its orders in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from django.db import transaction

from accounts import automation, trading
from accounts.models import Account, User
from bots.models import Bot
from bots.services import stop_bot
from positions.tasks import cancel_entries

__all__ = ["AUTOMATIONS", "Stopped", "stop_account", "stop_everything"]

log = structlog.get_logger(__name__)

AUTOMATIONS: Final[list[Callable[[Account, str], int]]] = [automation.switch_off]
"""Each turns off what it automates on the account, for the actor, in the caller's transaction, and says how much."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What the switch did: accounts marked, bots and other automation stopped."""

    accounts: tuple[Account, ...]
    bots: int
    automations: int = 0

    @property
    def message(self) -> str:
        """Return the answer in words."""
        if not self.accounts:
            return "There is no account to stop."
        names = ", ".join(account.name for account in self.accounts)
        bots = f"{self.bots} bot{'' if self.bots == 1 else 's'} stopped"
        return f"{names}: stopped. {bots}; nothing more is bought. Open deals are still managed and can be closed."


def stop_account(account: Account, actor: str) -> Stopped:
    """Stop one account that the bound scope may change. Stopping it again is harmless. Raises NotFound."""
    stopped = _stop(account, actor)
    _take_back(stopped.accounts)
    return stopped


def _stop(account: Account, actor: str) -> Stopped:
    with transaction.atomic():
        row = trading.kill(account, actor)
        running = list(Bot.objects.filter(account=row, status=Bot.Status.RUNNING))
        for bot in running:
            stop_bot(bot, actor)
        automations = sum(turn_off(row, actor) for turn_off in AUTOMATIONS)
    return Stopped((row,), len(running), automations)


def stop_everything(user: User, actor: str) -> Stopped:
    """Stop all accounts that ``user`` owns, each in a transaction of its own."""
    own: Iterable[Account] = Account.objects.filter(owner_id=user.pk, archived_at__isnull=True).order_by("pk")
    done = [_stop(account, actor) for account in own]
    accounts = tuple(account for stopped in done for account in stopped.accounts)
    _take_back(accounts)  # when all are stopped: a broker that hangs keeps none of them going
    return Stopped(
        accounts,
        sum(stopped.bots for stopped in done),
        sum(stopped.automations for stopped in done),
    )


def _take_back(accounts: Iterable[Account]) -> None:
    """Ask for the entries to be cancelled after the commit; a loop does it within half a minute in any case."""
    for account in accounts:
        transaction.on_commit(partial(_ask_to_cancel, account.pk), robust=True)


def _ask_to_cancel(account_id: int) -> None:
    try:
        cancel_entries.delay(account_id)
    except Exception:  # the switch has worked already: a broker that is away does not undo it
        log.exception("standstill.not_queued", account=account_id)
