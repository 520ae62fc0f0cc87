"""The words that every app shares about orders: direction, side, type and status. Pure: knows no Django."""

from __future__ import annotations

from enum import StrEnum


class Direction(StrEnum):
    """Which way a deal earns: a long buys first and sells later, a short sells first and buys back."""

    LONG = "long"
    SHORT = "short"

    @property
    def sign(self) -> int:
        """Return 1 for a long and -1 for a short: the sign of a price gain that earns money."""
        return 1 if self is Direction.LONG else -1

    @property
    def entry_side(self) -> Side:
        """Return the side that enlarges the deal."""
        return Side.BUY if self is Direction.LONG else Side.SELL

    @property
    def exit_side(self) -> Side:
        """Return the side that reduces the deal."""
        return Side.SELL if self is Direction.LONG else Side.BUY


class Side(StrEnum):
    """What an order does with the base currency."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """How an order meets the market."""

    MARKET = "market"
    LIMIT = "limit"


class MarginMode(StrEnum):
    """What answers for the losses of a perpetual position: its own margin alone, or all that the account has."""

    CROSS = "cross"
    ISOLATED = "isolated"


class OrderStatus(StrEnum):
    """Where an order stands. ``submitted`` is written before the venue hears of it, so it also means "may exist"."""

    INTENDED = "intended"
    SUBMITTED = "submitted"
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class Category(StrEnum):
    """How far a coin is trusted. A coin nobody has judged is unreviewed and has none of these."""

    APPROVED = "approved"
    BORDERLINE = "borderline"
    QUESTIONABLE = "questionable"
    MEME = "meme"
    BLACKLISTED = "blacklisted"
