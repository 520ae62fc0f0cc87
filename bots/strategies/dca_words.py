"""The words that DCA settings choose from. Pure."""

from __future__ import annotations

from enum import StrEnum

from positions.states import Direction


class Directions(StrEnum):
    """Which deals a bot opens."""

    LONG = "long"
    SHORT = "short"
    BOTH = "both"


class ShortConditions(StrEnum):
    """Where the conditions of the short side of a bot that trades both ways come from."""

    MIRRORED = "mirrored"
    OWN = "own"


class TakeProfitMode(StrEnum):
    """How a deal takes its profit."""

    FIXED = "fixed"
    TRAILING = "trailing"
    CONDITIONS = "conditions"


def directions_of(direction: Directions | None) -> tuple[Direction, ...]:
    """Return the directions of deals that the setting stands for; the long one for a setting that is not valid."""
    if direction is Directions.BOTH:
        return (Direction.LONG, Direction.SHORT)
    return (Direction.SHORT,) if direction is Directions.SHORT else (Direction.LONG,)
