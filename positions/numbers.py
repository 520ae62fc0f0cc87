"""Numbers that a person's deals and attempts get: handed out once, in order, never reused.

Counted on one row per owner under its lock, so that two accounts of one owner never hand out the same number. The row
belongs to the owner of the account, whoever acts on it, which is why the bound scope is left for that one statement.
"""

from __future__ import annotations

from positions.models import UserCounter
from tradebot.core.scoping import detached

__all__ = ["next_attempt_number", "next_deal_number"]


def next_attempt_number(owner_id: int) -> int:
    """Return the next attempt number of this owner. Must run inside a transaction."""
    return _next(owner_id, "attempts")


def next_deal_number(owner_id: int) -> int:
    """Return the next deal number of this owner: given at the first fill only (F6). Must run inside a transaction."""
    return _next(owner_id, "deals")


def _next(owner_id: int, field: str) -> int:
    with detached("a deal is numbered for the account's owner, whoever acts"):
        counter, _ = UserCounter.objects.select_for_update(no_key=True).get_or_create(user_id=owner_id)
        number = int(getattr(counter, field)) + 1
        UserCounter.objects.filter(pk=counter.pk).update(**{field: number})
    return number
