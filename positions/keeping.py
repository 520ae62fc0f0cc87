"""Purchases that are made to be kept: deals of one entry, whose coins become the account's as soon as it is filled.

They go through the order protocol like every other order. While the entry works they are deals, so whoever clears an
account's orders away finds them (F22, F64). When it has ended they end as *cancelled, kept*: nothing manages them,
their coins are free, and no figure takes them for a deal that earned or lost.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet

from positions import handling
from positions.booking import announce_position, lock_account, write
from positions.models import Order, Position
from positions.states import POSITION_ACTIVE, WORKING, ExitReason, PositionStatus
from tradebot.core import clock

__all__ = ["STRATEGY", "give_up", "keep", "under_way"]

STRATEGY: Final = "auto_buy"
"""What their ``Position.strategy`` says."""


def under_way(account_id: int, **narrower: Any) -> QuerySet[Position]:
    """Return the account's purchases whose entry works, or whose coins are not handed over yet, oldest first."""
    rows = Position.objects.filter(account_id=account_id, strategy=STRATEGY, status__in=POSITION_ACTIVE, **narrower)
    found: QuerySet[Position] = rows.select_related("product", "account").order_by("pk")
    return found


def keep(position: Position) -> bool:
    """Hand the coins of a purchase over to the account if its entry has ended; return whether it has ended now.

    Safe to call at any time and any number of times: one that works, or that a person is closing, is left alone.
    """
    with transaction.atomic():
        lock_account(position.account_id)
        position.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))
        works = Order.objects.filter(position_id=position.pk, status__in=WORKING).exists()
        if position.strategy != STRATEGY or position.status != PositionStatus.OPEN or works:
            return position.status not in POSITION_ACTIVE
        write(position, status=PositionStatus.CANCELLED, exit_reason=ExitReason.KEPT, closed_at=clock.now())
        announce_position(position)
    return True


def give_up(position: Position, actor: str) -> None:
    """Cancel what a purchase has working; coins that it has got are kept.

    Raises OrderRefused: ``position_ended``, or ``cancel_unconfirmed`` while its order may still be filled. Never inside
    a transaction: the venue is called.
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    handling.stop_orders(position, actor, "Nothing was changed")
    keep(position)
    handling.record(position, actor, "purchase_cancelled", base_kept=position.base_held)
