"""Money that came into accounts or left them, apart from what was earned there (F35).

* Paper: written down in the transaction that moves it, and again by the loop for what was there before; each entry of
  the paper journal has one id, so it counts once.
* Venues that list deposits and withdrawals: read by the loop, with an overlap, because some show up late. The venue's
  id makes sure that none counts twice.
* Other venues: entered by hand (:mod:`accounts.manual_transfers`).

A venue may list a deposit days after it was begun, when the money arrives, with the day on which it was begun. A
deposit that an earlier list would have had, had it arrived, is therefore counted from the moment it was listed
(``counted_at``): else the value would seem to fall first and to rise later. A withdrawal leaves the balance when it is
begun, and counts from then on however late it is complete. Until it is, it may come back: it is noted with the account
(``VenueFunds.leaving``) for the guard, and is no transfer yet.

A transfer is valued at the prices of its time, as far as they are known: by the price list when it is recent, else by
the market's candles. A value that is not known stays empty and is looked for again for a week; it is never zero (F34).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db.models import Max, Q

from accounts.exchanges.base import Movement
from accounts.exchanges.factory import capabilities_of, venue_of
from accounts.models import Account, Transfer, VenueFunds
from marketdata import past, pricelist, sources
from marketdata.conversion import Rates
from tradebot.core import clock, health
from tradebot.core.decimals import ZERO, plain, quantize
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["LOOPS", "Read", "accounts_to_read", "read_account", "read_all", "record", "take_paper", "value_missing"]

log = structlog.get_logger(__name__)

OVERLAP: Final = timedelta(days=7)
"""How far back a venue is asked again: deposits may be listed long after they were begun."""
BEFORE_US: Final = timedelta(days=30)
"""How far back before the account was connected its transfers are read for the list."""
RECENT: Final = timedelta(minutes=10)
"""Up to this age the present prices are those of the transfer's time."""
SKEW: Final = timedelta(minutes=1)
"""How far a venue's clock may be off."""
SOUGHT_FOR: Final = timedelta(days=7)
VALUED_AT_ONCE: Final = 25
"""Transfers of one account whose value is looked for in one run: each may cost requests."""

LOOPS: Final = {"transfers": 900}
health.LOOPS.update(LOOPS)


@dataclass(slots=True)
class Read:
    """What a run did: accounts visited, transfers that were new, and what failed, by account id."""

    accounts: int = 0
    found: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def accounts_to_read() -> dict[int, bool]:
    """Return the accounts whose transfers are read, recordings aside, and whether each is a paper account."""
    with all_accounts("transfers are read for everybody"):
        rows = Account.objects.filter(archived_at__isnull=True).exclude(exchange=sources.REPLAY)
        kinds = rows.order_by("pk").values_list("pk", "kind")
        return {pk: kind == Account.Kind.PAPER for pk, kind in kinds}


def read_all(account_ids: Iterable[int]) -> Read:
    """Read the transfers of these accounts. One account's failure does not stop the rest (F67)."""
    result = Read()
    for account_id in account_ids:
        try:
            result.found += read_account(account_id)
            result.accounts += 1
        except Exception as error:  # noqa: BLE001 (the loop's edge)
            result.failed[account_id] = f"{type(error).__name__}: {error}"
            log.warning("transfers.account_failed", account=account_id, error=result.failed[account_id])
    return result


def read_account(account_id: int) -> int:
    """Ask one account's venue for what it has not told before, and return how many transfers were new.

    Never inside a transaction. A venue that does not list transfers is not asked. Raises VenueUnavailable,
    VenueDenied.
    """
    with acting_for_account(account_id):
        account = Account.objects.get(pk=account_id)
        offered, found = capabilities_of(account), 0
        if offered is not None and offered.lists_movements:
            asked_at = clock.now()
            before = None if account.is_paper else _asked_before(account, asked_at)
            moves = venue_of(account).movements_since(_since(account))
            found = record(account, moves, before)
            if not account.is_paper:
                leaving = [[row.currency, plain(row.amount), row.at.isoformat()] for row in moves if not row.is_settled]
                VenueFunds.objects.filter(account=account).update(transfers_asked_at=asked_at, leaving=leaving)
        value_missing(account)
    return found


def take_paper(account: Account, since: datetime) -> int:
    """Write down what a paper account's journal says since ``since``, in the transaction that wrote the journal."""
    return record(account, venue_of(account).movements_since(since))


def record(account: Account, movements: Iterable[Movement], asked_before: datetime | None = None) -> int:
    """Write down those movements that are not known yet, and return how many there were. Asks no venue.

    ``asked_before`` is when the list before this one was asked for; see above for what that tells.
    """
    by_id = {row.external_id: row for row in movements if row.amount and row.is_settled}
    if not by_id:
        return 0
    known = set(
        Transfer.objects.filter(account=account, external_id__in=list(by_id)).values_list("external_id", flat=True)
    )
    new = [row for external_id, row in by_id.items() if external_id not in known]
    if not new:
        return 0
    source = Transfer.Source.PAPER if account.is_paper else Transfer.Source.VENUE
    now, rates = clock.now(), pricelist.kept(account.exchange).rates
    rows = [
        Transfer(
            account=account,
            external_id=row.external_id,
            currency=row.currency,
            amount=row.amount,
            at=row.at,
            counted_at=now if _came_late(row, asked_before) else row.at,
            source=source,
            note=row.what[:200],
            recorded_at=now,
        )
        for row in new
    ]
    for transfer in rows:
        set_value(transfer, rates if abs(now - transfer.at) <= RECENT else Rates({}))
    Transfer.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _came_late(row: Movement, asked_before: datetime | None) -> bool:
    return asked_before is not None and row.amount > ZERO and row.at < asked_before - SKEW


def set_value(transfer: Transfer, rates: Rates) -> None:
    """Set what is known of the transfer's value by ``rates``; what is known already stays."""
    for name, into in (("value_usd", "USD"), ("value_btc", "BTC")):
        if getattr(transfer, name) is None:
            value = rates.value(transfer.amount, transfer.currency, into)
            setattr(transfer, name, None if value is None else quantize(value))


def value_missing(account: Account) -> int:
    """Look for the values of transfers that have none yet, and return how many were found. Asks the market."""
    now = clock.now()
    rows = list(
        Transfer.objects.filter(account=account, recorded_at__gte=now - SOUGHT_FOR)
        .filter(Q(value_usd__isnull=True) | Q(value_btc__isnull=True))
        .order_by("-at", "-id")[:VALUED_AT_ONCE]
    )
    found = []
    for transfer in rows:
        before = (transfer.value_usd, transfer.value_btc)
        recent = abs(now - transfer.at) <= RECENT
        set_value(
            transfer,
            pricelist.price_list(account.exchange).rates
            if recent
            else past.rates_at(account.exchange, transfer.currency, transfer.at),
        )
        if (transfer.value_usd, transfer.value_btc) != before:
            found.append(transfer)
    if found:
        Transfer.objects.bulk_update(found, ["value_usd", "value_btc"])
    return len(found)


def _asked_before(account: Account, now: datetime) -> datetime | None:
    """Return when the last list was asked for, None for the first one; makes the row that remembers it."""
    row, _ = VenueFunds.objects.get_or_create(account=account)
    return min(row.transfers_asked_at, now) if row.transfers_asked_at is not None else None


def _since(account: Account) -> datetime:
    """Return from when on the venue is asked."""
    told = Transfer.objects.filter(account=account).exclude(source=Transfer.Source.MANUAL).aggregate(at=Max("at"))["at"]
    first = account.created_at if account.is_paper else account.created_at - BEFORE_US
    return first if told is None else max(first, told - OVERLAP)
