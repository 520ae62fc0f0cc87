"""Deposits and withdrawals that a person enters, where the venue does not list them itself.

Without them a deposit would look like profit (F35). Where the venue lists its transfers, and on paper, the list is
complete by itself, and an entry by hand would count twice: it is refused.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from accounts import transfers
from accounts.amounts import checked_amount, checked_currency
from accounts.exchanges.factory import capabilities_of
from accounts.models import Account, Transfer
from tradebot.core import audit, clock
from tradebot.core.errors import InvalidInput, NotFound

__all__ = ["enter", "may_enter", "remove"]

NOTE_LENGTH = 200


def may_enter(account: Account) -> bool:
    """Return whether transfers of this account are entered by hand: its venue does not list them."""
    offered = capabilities_of(account)
    return offered is None or not offered.lists_movements


def enter(account: Account, currency: str, amount: Decimal, at: datetime, note: str, actor: str) -> Transfer:
    """Write down a transfer: ``amount`` above zero came in, below zero went out. Its value is looked for at once.

    Raises InvalidInput (fields currency, amount, at, note; ``listed_by_venue``), NotFound.
    """
    currency = checked_currency(currency, "currency")
    checked_amount(abs(amount), "amount")
    now = clock.now()
    if at.tzinfo is None or at > now:
        raise InvalidInput("in_the_future", "A transfer has happened already.", field="at")
    if len(note) > NOTE_LENGTH:
        raise InvalidInput("too_long", f"A note has at most {NOTE_LENGTH} characters.", field="note")
    row = Account.objects.editable().filter(pk=account.pk).first()
    if row is None:
        raise NotFound("no_account", "There is no such account.")
    if not may_enter(row):
        raise InvalidInput(
            "listed_by_venue", f"The transfers of {row.name} are read from its venue; one by hand would count twice."
        )
    with transaction.atomic():
        transfer = Transfer.objects.create(
            account=row,
            external_id=f"manual-{uuid.uuid4()}",
            currency=currency,
            amount=amount,
            at=at,
            counted_at=at,
            source=Transfer.Source.MANUAL,
            note=note,
            recorded_at=now,
        )
        _note(transfer, actor, "transfer_entered")
    transfers.value_missing(row)
    transfer.refresh_from_db()
    return transfer


def remove(transfer: Transfer, actor: str) -> None:
    """Take out what was entered by hand. Raises InvalidInput for what a venue told, NotFound."""
    with transaction.atomic():
        row = Transfer.objects.editable().select_related("account").filter(pk=transfer.pk).first()
        if row is None:
            raise NotFound("no_transfer", "There is no such transfer.")
        if row.source != Transfer.Source.MANUAL:
            raise InvalidInput("not_by_hand", "Only transfers that were entered by hand can be removed.")
        _note(row, actor, "transfer_removed")
        row.delete()


def _note(transfer: Transfer, actor: str, action: str) -> None:
    audit.record(
        transfer.account.owner_id,
        actor,
        action,
        f"account:{transfer.account_id}",
        currency=transfer.currency,
        amount=transfer.amount,
        at=transfer.at,
    )
