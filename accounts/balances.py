"""What accounts hold and what trading costs them, by account id (F47): nothing is looked up without naming its account.

A paper account's balances are rows that its venue keeps, true at any moment. An exchange's are asked for: ``refresh``
asks and writes the answer down, everything else reads what was written. So no venue is called while a lock is held, a
look of the cycle costs the same number of queries whatever venues its accounts are on, and an answer carries its age:

* ``Funds.asked_at`` is the moment *before* the question was sent. What happened later may be missing from the answer;
  whoever spends from it takes off what he has sent since (``positions.reserves``).
* An answer older than ``BALANCE_MAX_AGE_SECONDS`` is no answer. What is not known is absent, never zero (F34): an
  account that the bound scope does not hold, or whose venue has not said, has no entry at all. An account that is known
  and holds none of a currency has no entry for that currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction

from accounts.exchanges.base import Balance
from accounts.exchanges.factory import venue_of
from accounts.models import Account, PaperBalance, PaperTerms, VenueBalance, VenueFunds
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.errors import MissingInformation, TradebotError

__all__ = ["FEES_AGE", "Funds", "balances_of", "fees_of", "free_balance", "funds_of", "refresh"]

log = structlog.get_logger(__name__)

FEES_AGE: Final = timedelta(hours=1)
"""Fees change with a month's volume, so they are asked for this often."""


@dataclass(frozen=True, slots=True)
class Funds:
    """What one account holds, and its fees as fractions of the quote amount. ``asked_at`` None: true this moment."""

    balances: Mapping[str, Balance]
    maker: Decimal
    taker: Decimal
    asked_at: datetime | None = None


# Reading --------------------------------------------------------------------------------------------------------------


def balances_of(account_ids: Iterable[int]) -> dict[int, dict[str, Balance]]:
    """Return ``{account id: {currency: balance}}`` of the accounts whose balances are known.

    Two queries, and two more where there are exchange accounts.
    """
    kinds = dict(Account.objects.filter(pk__in=list(account_ids)).order_by().values_list("pk", "kind"))
    paper = [pk for pk, kind in kinds.items() if kind == Account.Kind.PAPER]
    known: dict[int, dict[str, Balance]] = {pk: {} for pk in paper}
    if paper:
        rows = PaperBalance.objects.filter(account_id__in=paper).order_by()
        for account_id, currency, total, held in rows.values_list("account_id", "currency", "total", "held"):
            known[account_id][currency] = Balance(currency, total, held)
    if len(paper) < len(kinds):
        known |= _told([pk for pk in kinds if pk not in known])
    return known


def _told(account_ids: Iterable[int]) -> dict[int, dict[str, Balance]]:
    """Return what the venues of these exchange accounts said, where that is recent enough."""
    oldest = clock.now() - timedelta(seconds=settings.BALANCE_MAX_AGE_SECONDS)
    recent = VenueFunds.objects.filter(account_id__in=list(account_ids), asked_at__gte=oldest)
    known: dict[int, dict[str, Balance]] = {pk: {} for pk in recent.values_list("account_id", flat=True)}
    if known:
        for row in VenueBalance.objects.filter(account_id__in=list(known)):
            known[row.account_id][row.currency] = Balance(row.currency, row.total, row.held)
    return known


def fees_of(account_ids: Iterable[int]) -> dict[int, tuple[Decimal, Decimal]]:
    """Return (maker, taker) as fractions, by account. Two queries.

    Accounts of which nothing is known yet have those of a new paper account: dear ones, so that no target is set short.
    """
    wanted = list(account_ids)
    usual = PaperTerms()
    rates = dict.fromkeys(wanted, (usual.maker_fee_pct / HUNDRED, usual.taker_fee_pct / HUNDRED))
    terms = PaperTerms.objects.filter(account__in=wanted).order_by()
    for account_id, maker_pct, taker_pct in terms.values_list("account_id", "maker_fee_pct", "taker_fee_pct"):
        rates[account_id] = (maker_pct / HUNDRED, taker_pct / HUNDRED)
    for told in VenueFunds.objects.filter(account__in=wanted, maker_fee__isnull=False, taker_fee__isnull=False):
        rates[told.account_id] = (told.maker_fee or ZERO, told.taker_fee or ZERO)
    return rates


def funds_of(account: Account, max_age: timedelta | None = None) -> Funds:
    """Return what is known of the account's money, from rows alone.

    ``max_age`` is how old an exchange's word may be (default ``BALANCE_MAX_AGE_SECONDS``). Raises MissingInformation
    (``balance_unknown``).
    """
    balances = balances_of([account.pk]).get(account.pk)
    asked_at = None
    if not account.is_paper:
        asked_at = VenueFunds.objects.filter(account_id=account.pk).values_list("asked_at", flat=True).first()
        if max_age is not None and asked_at is not None and clock.now() - asked_at > max_age:
            balances = None
    if balances is None:
        raise MissingInformation("balance_unknown", _why_unknown(account))
    maker, taker = fees_of([account.pk])[account.pk]
    return Funds(balances, maker, taker, asked_at)


def free_balance(account: Account, currency: str) -> Decimal:
    """Return what of ``currency`` the account holds and no resting order has claimed; 0 when it holds none.

    Raises MissingInformation (``balance_unknown``) when the account's balances are not known.
    """
    balance = funds_of(account).balances.get(currency)
    return ZERO if balance is None else balance.free


def _why_unknown(account: Account) -> str:
    told = VenueFunds.objects.filter(account_id=account.pk).first()
    if told is None or (told.asked_at is None and not told.error_text):
        return "The account's balances are not known yet."
    if told.failed_at is not None and (told.asked_at is None or told.failed_at > told.asked_at):
        return f"The account's balances are not known: {told.error_text}"
    return f"What the venue said of the account's balances is too old ({told.asked_at:%H:%M:%S} UTC)."


# Asking ---------------------------------------------------------------------------------------------------------------


def refresh(account: Account, max_age: timedelta = timedelta(0)) -> None:
    """Ask an exchange account's venue what it holds, unless it was asked within ``max_age``. Never in a transaction.

    1. Note the moment, then ask, holding no lock.
    2. Write all of the answer, or nothing of it where a later question has been answered meanwhile.

    A failure is written down and raised (TradebotError); what was known stays, and ages. Paper accounts need no asking.
    """
    if account.is_paper:
        return
    known = VenueFunds.objects.filter(account_id=account.pk).first()
    now = clock.now()
    if known is not None and known.asked_at is not None and max_age and now - known.asked_at <= max_age:
        return
    fees: tuple[Decimal, Decimal] | None = None
    try:
        venue = venue_of(account)
        balances = venue.balances()
        if known is None or known.fees_asked_at is None or now - known.fees_asked_at > FEES_AGE:
            fees = venue.fee_rates()
    except TradebotError as error:
        _note_failure(account, error)
        raise
    _write(account, now, balances, fees)


def _write(
    account: Account, asked_at: datetime, balances: Mapping[str, Balance], fees: tuple[Decimal, Decimal] | None
) -> None:
    with transaction.atomic(durable=True):
        VenueFunds.objects.get_or_create(account=account)
        row = VenueFunds.objects.select_for_update().get(account_id=account.pk)
        if row.asked_at is not None and row.asked_at > asked_at:
            return
        row.asked_at, row.error_code, row.error_text = asked_at, "", ""
        if fees is not None:
            row.maker_fee, row.taker_fee = fees
            row.fees_asked_at = asked_at
        row.save()
        VenueBalance.objects.filter(account_id=account.pk).exclude(currency__in=list(balances)).delete()
        VenueBalance.objects.bulk_create(
            [
                VenueBalance(account=account, currency=currency, total=balance.total, held=balance.held)
                for currency, balance in balances.items()
            ],
            update_conflicts=True,
            unique_fields=["account", "currency"],
            update_fields=["total", "held"],
        )


def _note_failure(account: Account, error: TradebotError) -> None:
    log.warning("balances.not_told", account=account.pk, code=error.code)
    with transaction.atomic(durable=True):
        VenueFunds.objects.update_or_create(
            account=account,
            defaults={
                "failed_at": clock.now(),
                "error_code": error.code[:60],
                "error_text": error.message[:300],
            },
        )
