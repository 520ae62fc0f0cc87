"""What accounts hold as far as anybody said, with how old that is: for looking at, not for deciding.

A paper account is known at any moment. An exchange account is known by the last answer of its venue, which may be old
(:attr:`Told.is_stale`) or never have come: then it has no amounts, which is not the same as holding nothing (F34).
Everything is by account id (F47), within the bound scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from accounts.balances import balances_of
from accounts.exchanges.base import Balance
from accounts.models import Account, VenueBalance, VenueFunds

__all__ = ["Told", "told_of"]


@dataclass(frozen=True, slots=True)
class Told:
    """The balances of one account as of ``at``; None where the venue never said. ``error`` is why it last did not."""

    balances: Mapping[str, Balance] | None
    at: datetime | None
    error: str = ""

    def is_stale(self, now: datetime) -> bool:
        """Return whether it is so old that nothing may be decided by it (``BALANCE_MAX_AGE_SECONDS``)."""
        return self.at is None or now - self.at > timedelta(seconds=settings.BALANCE_MAX_AGE_SECONDS)


def told_of(accounts: Iterable[Account], now: datetime) -> dict[int, Told]:
    """Return what each of these accounts was last said to hold, by account id. At most four queries."""
    rows = list(accounts)
    paper = [row.pk for row in rows if row.is_paper]
    known = balances_of(paper) if paper else {}
    found = {pk: Told(known.get(pk), now if pk in known else None) for pk in paper}
    exchange = [row.pk for row in rows if not row.is_paper]
    if not exchange:
        return found
    said: dict[int, dict[str, Balance]] = {pk: {} for pk in exchange}
    for balance in VenueBalance.objects.filter(account__in=exchange):
        said[balance.account_id][balance.currency] = Balance(balance.currency, balance.total, balance.held)
    funds = {row.account_id: row for row in VenueFunds.objects.filter(account__in=exchange)}
    return found | {pk: _told(funds.get(pk), said[pk]) for pk in exchange}


def _told(funds: VenueFunds | None, balances: Mapping[str, Balance]) -> Told:
    if funds is None:
        return Told(None, None, "Its venue has not been asked yet.")
    failed = funds.failed_at is not None and (funds.asked_at is None or funds.failed_at > funds.asked_at)
    error = funds.error_text if failed else ""
    return Told(balances if funds.asked_at is not None else None, funds.asked_at, error)
