"""Purchases and sales whose outcome is kept: deals of one order, which becomes the account's as soon as it has ended.

They go through the order protocol like every other order. While the order works they are deals, so whoever clears an
account's orders away finds them (F22, F64). When it has ended they end as *cancelled, kept*: nothing manages them, the
coins or the money are free, and no figure takes them for a deal that earned or lost.

A purchase (of auto-buy, or by a person's wish) is a long. A sale of coins that no deal holds is a short by its books:
its coins are gone for good, and nothing may ever buy them back (:func:`refuse_sale`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from positions import handling
from positions.booking import announce_position, lock_account, write
from positions.models import Order, Position
from positions.states import (
    KEPT_STRATEGIES,
    POSITION_ACTIVE,
    WORKING,
    ExitReason,
    KeptStrategy,
    PositionStatus,
)
from tradebot.core import clock

__all__ = ["give_up", "hand_over", "has_ended", "is_kept", "keep", "under_way"]


def is_kept(position: Position) -> bool:
    """Return whether what the deal's order brings is kept."""
    return position.strategy in KEPT_STRATEGIES


def under_way(
    account_id: int, strategies: Iterable[KeptStrategy] = KEPT_STRATEGIES, **narrower: Any
) -> QuerySet[Position]:
    """Return the account's purchases and sales whose order works, or that are not handed over yet, oldest first."""
    rows = Position.objects.filter(
        account_id=account_id, strategy__in=sorted(strategies), status__in=POSITION_ACTIVE, **narrower
    )
    found: QuerySet[Position] = rows.select_related("product", "account").order_by("pk")
    return found


def has_ended(position: Position) -> bool:
    """Return whether its order has ended with a fill and nobody is closing it: it can be handed over."""
    if not is_kept(position) or position.status != PositionStatus.OPEN:
        return False
    return not Order.objects.filter(position_id=position.pk, status__in=WORKING).exists()


def hand_over(position: Position) -> None:
    """End a deal that :func:`has_ended`, under the account's lock."""
    write(position, status=PositionStatus.CANCELLED, exit_reason=ExitReason.KEPT, closed_at=clock.now())
    announce_position(position)


def keep(position: Position) -> bool:
    """Hand what it brought over to the account if its order has ended; return whether it has ended now.

    Safe to call at any time and any number of times: one that works, or that a person is closing, is left alone. A
    conversion's next step is not begun here (``positions.sales``).
    """
    with transaction.atomic():
        lock_account(position.account_id)
        position.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))
        if not has_ended(position):
            return position.status not in POSITION_ACTIVE
        hand_over(position)
    return True


def give_up(position: Position, actor: str) -> None:
    """Cancel what a purchase or sale has working; what it has got is kept, and nothing comes after it.

    Raises OrderRefused: ``position_ended``, or ``cancel_unconfirmed`` while its order may still be filled. Never inside
    a transaction: the venue is called.
    """
    handling.refresh(position)
    handling.refuse_ended(position)
    handling.stop_orders(position, actor, "Nothing was changed")
    keep(position)
    action = "sale_cancelled" if position.is_sale else "purchase_cancelled"
    handling.record(position, actor, action, base_kept=position.base_held)
