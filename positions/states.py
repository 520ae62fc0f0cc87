"""The closed sets of words for orders and positions, and which moves between them are allowed. Pure: knows no Django.

The state tables are data: services ask :func:`can_move` before they write a status, the admin and the tests read the
same tables. Staying where one is (a repeated report) is not a move.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from tradebot.core.words import Direction, OrderStatus, OrderType, Side

__all__ = [
    "BRACKET_PURPOSES",
    "ENTRY_PURPOSES",
    "EXIT_PURPOSES",
    "EXIT_REASON_OF",
    "FINAL",
    "KEPT_STRATEGIES",
    "MACHINES",
    "MANUAL_PURPOSES",
    "POSITION_ACTIVE",
    "POSITION_FINAL",
    "POSITION_TRANSITIONS",
    "PROTECTIVE_PURPOSES",
    "SINGLE_EXITS",
    "TRANSITIONS",
    "WORKING",
    "Direction",
    "ExitReason",
    "KeptStrategy",
    "OrderStatus",
    "OrderType",
    "PositionStatus",
    "Purpose",
    "Side",
    "can_move",
    "position_can_move",
    "side_of",
]


class PositionStatus(StrEnum):
    """Where a position stands. Only a position that was ``open`` once is a deal and has a deal number (F6)."""

    PENDING = "pending"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Purpose(StrEnum):
    """Why an order exists."""

    BASE_ORDER = "base_order"
    SAFETY_ORDER = "safety_order"
    MANUAL_ADD = "manual_add"
    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
    MAX_HOLD = "max_hold"
    CLOSE_CONDITION = "close_condition"
    MANUAL_CLOSE = "manual_close"
    LIMIT_CLOSE = "limit_close"
    PANIC_CLOSE = "panic_close"
    BRACKET_PROFIT = "bracket_profit"
    BRACKET_STOP = "bracket_stop"
    LIQUIDATION = "liquidation"


class ExitReason(StrEnum):
    """Why a position ended."""

    TAKE_PROFIT = "take_profit"
    TRAILING_TAKE_PROFIT = "trailing_take_profit"
    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
    MAX_HOLD = "max_hold"
    CLOSE_CONDITION = "close_condition"
    MANUAL = "manual"
    LIMIT_CLOSE = "limit_close"
    PANIC = "panic"
    LIQUIDATION = "liquidation"
    DUST = "dust"
    CANCELLED = "cancelled"
    KEPT = "kept"
    """A purchase or sale whose outcome was meant to be kept: it belongs to the account and earned or lost nothing."""


class KeptStrategy(StrEnum):
    """Strategies of deals of one order that nothing manages: what it brings is kept (``positions.keeping``)."""

    AUTO_BUY = "auto_buy"
    PURCHASE = "purchase"
    """Bought by a person's wish, such as the second step of a conversion."""
    SALE = "sale"
    """Sells coins of no deal: a short by its books, that is never bought back."""


KEPT_STRATEGIES: Final = frozenset(KeptStrategy)


TRANSITIONS: Final[dict[OrderStatus, frozenset[OrderStatus]]] = {
    OrderStatus.INTENDED: frozenset({OrderStatus.SUBMITTED, OrderStatus.CANCELLED, OrderStatus.REJECTED}),
    OrderStatus.SUBMITTED: frozenset(
        {
            OrderStatus.OPEN,
            OrderStatus.PARTIALLY_FILLED,
            OrderStatus.FILLED,
            OrderStatus.CANCELLED,
            OrderStatus.EXPIRED,
            OrderStatus.REJECTED,
        }
    ),
    OrderStatus.OPEN: frozenset(
        {
            OrderStatus.PARTIALLY_FILLED,
            OrderStatus.FILLED,
            OrderStatus.CANCELLED,
            OrderStatus.EXPIRED,
            OrderStatus.REJECTED,
        }
    ),
    OrderStatus.PARTIALLY_FILLED: frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED}),
    OrderStatus.FILLED: frozenset(),
    OrderStatus.CANCELLED: frozenset(),
    OrderStatus.EXPIRED: frozenset(),
    OrderStatus.REJECTED: frozenset(),
}

POSITION_TRANSITIONS: Final[dict[PositionStatus, frozenset[PositionStatus]]] = {
    PositionStatus.PENDING: frozenset({PositionStatus.OPEN, PositionStatus.FAILED, PositionStatus.CANCELLED}),
    PositionStatus.OPEN: frozenset({PositionStatus.CLOSING, PositionStatus.CLOSED, PositionStatus.CANCELLED}),
    PositionStatus.CLOSING: frozenset({PositionStatus.OPEN, PositionStatus.CLOSED, PositionStatus.CANCELLED}),
    PositionStatus.CLOSED: frozenset(),
    PositionStatus.CANCELLED: frozenset(),
    PositionStatus.FAILED: frozenset(),
}

FINAL: Final = frozenset(status for status, onward in TRANSITIONS.items() if not onward)
"""Order states that nothing follows."""

WORKING: Final = frozenset(OrderStatus) - FINAL
"""Order states that may still bring fills: they hold money and are reconciled."""

POSITION_FINAL: Final = frozenset(status for status, onward in POSITION_TRANSITIONS.items() if not onward)
POSITION_ACTIVE: Final = frozenset(PositionStatus) - POSITION_FINAL
"""Positions that take a deal slot and are managed."""

ENTRY_PURPOSES: Final = frozenset({Purpose.BASE_ORDER, Purpose.SAFETY_ORDER, Purpose.MANUAL_ADD})
EXIT_PURPOSES: Final = frozenset(Purpose) - ENTRY_PURPOSES
BRACKET_PURPOSES: Final = frozenset({Purpose.BRACKET_PROFIT, Purpose.BRACKET_STOP})
"""The two resting reduce-only orders of a perpetual position: neither is a close under way, and both may rest."""

SINGLE_EXITS: Final = EXIT_PURPOSES - BRACKET_PURPOSES - {Purpose.LIQUIDATION}
"""Exits of which a deal has one working at most (F3)."""

MANUAL_PURPOSES: Final = frozenset({Purpose.MANUAL_ADD, Purpose.MANUAL_CLOSE, Purpose.LIMIT_CLOSE})
"""Placed by a person: never repriced or replaced by the machine (F17)."""

MACHINES: Final = frozenset({"auto-buy", "bot", "prop guard", "system", "venue"})
"""Actors that are no person."""

PROTECTIVE_PURPOSES: Final = frozenset(
    {
        Purpose.STOP_LOSS,
        Purpose.TRAILING_STOP,
        Purpose.MAX_HOLD,
        Purpose.PANIC_CLOSE,
        Purpose.BRACKET_STOP,
        Purpose.LIQUIDATION,
    }
)
"""Exits that always go to market and do not ask for a profit (F16)."""

EXIT_REASON_OF: Final[dict[Purpose, ExitReason]] = {
    Purpose.TAKE_PROFIT: ExitReason.TAKE_PROFIT,
    Purpose.STOP_LOSS: ExitReason.STOP_LOSS,
    Purpose.TRAILING_STOP: ExitReason.TRAILING_STOP,
    Purpose.MAX_HOLD: ExitReason.MAX_HOLD,
    Purpose.CLOSE_CONDITION: ExitReason.CLOSE_CONDITION,
    Purpose.MANUAL_CLOSE: ExitReason.MANUAL,
    Purpose.LIMIT_CLOSE: ExitReason.LIMIT_CLOSE,
    Purpose.PANIC_CLOSE: ExitReason.PANIC,
    Purpose.BRACKET_PROFIT: ExitReason.TAKE_PROFIT,
    Purpose.BRACKET_STOP: ExitReason.STOP_LOSS,
    Purpose.LIQUIDATION: ExitReason.LIQUIDATION,
}


def can_move(current: OrderStatus, to: OrderStatus) -> bool:
    """Return whether an order may go from ``current`` to ``to``; a repeat of the same state is no move."""
    return to in TRANSITIONS[current]


def position_can_move(current: PositionStatus, to: PositionStatus) -> bool:
    """Return whether a position may go from ``current`` to ``to``; a repeat of the same state is no move."""
    return to in POSITION_TRANSITIONS[current]


def side_of(direction: Direction, purpose: Purpose) -> Side:
    """Return the side of an order with this purpose in a deal of this direction."""
    return direction.entry_side if purpose in ENTRY_PURPOSES else direction.exit_side
