"""An order that somebody decided on, and the id that it has wherever it is made."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from positions.models import Order, Position
from positions.states import EXIT_PURPOSES, ExitReason, OrderType, Purpose, Side
from tradebot.core.words import MarginMode

__all__ = ["Intent", "PerpsOpening", "client_order_id", "next_sequence"]


@dataclass(frozen=True, slots=True)
class Intent:
    """An order somebody decided on.

    ``sequence`` is 1 + the number of orders with this purpose that the caller has seen in the deal. ``side`` follows
    from the deal's direction and the purpose; given, it must agree. Sizes: ``base_size`` in base, or ``quote_size`` in
    quote for market buys; an exit with neither is for all that remains. ``reference_price`` is the price the decision
    was made at (for minimums and holds of market orders; default: the current ask or bid). ``levels`` are the ladder
    levels it buys. ``trigger_price`` makes a market exit of a perpetual a stop.
    """

    purpose: Purpose
    sequence: int
    side: Side | None = None
    order_type: OrderType = OrderType.MARKET
    base_size: Decimal | None = None
    quote_size: Decimal | None = None
    limit_price: Decimal | None = None
    expires_at: datetime | None = None
    levels: int = 0
    exit_reason: ExitReason | None = None
    actor: str = "bot"
    reference_price: Decimal | None = None
    trigger_price: Decimal | None = None

    @property
    def is_exit(self) -> bool:
        """Return whether it reduces the deal."""
        return self.purpose in EXIT_PURPOSES


@dataclass(frozen=True, slots=True)
class PerpsOpening:
    """What an opening order of a perpetual says besides: leverage, margin mode, and the bracket that is wanted."""

    leverage: int
    margin_mode: MarginMode
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None


def client_order_id(position_uid: uuid.UUID, purpose: str, sequence: int) -> uuid.UUID:
    """Return the client id of a deal's order: the same for the same intent, never the same for another (F9)."""
    return uuid.uuid5(position_uid, f"{purpose}:{sequence}")


def next_sequence(position: Position, purpose: Purpose) -> int:
    """Return 1 + the number of orders with this purpose that exist now: what a person who decides now has seen."""
    return Order.objects.filter(position_id=position.pk, purpose=purpose).count() + 1
