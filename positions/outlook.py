"""What lies ahead of an open deal as its strategy sees it: target, stop, next safety orders, settings in words.

Deals do not know strategies (those stand above them), so each strategy's app registers a function here that answers for
its deals. A deal whose strategy nobody answers for is shown without what lies ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from positions.ledger import Totals
from positions.models import Position

__all__ = ["AheadRung", "Fact", "Outlook", "Provider", "Step", "outlook_of", "register"]


@dataclass(frozen=True, slots=True)
class AheadRung:
    """A safety order still to come: its price, its size in quote, and what average and target would become."""

    level: int
    price: Decimal
    size: Decimal
    average_after: Decimal | None = None
    target_after: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the deal waits for: ``lead`` **price** ``text``, with a second line where there is one."""

    title: str
    state: Literal["waiting", "armed", "off"]
    lead: str = ""
    price: Decimal | None = None
    text: str = ""
    more: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A setting as it reads on a page, with the heading that it stands under."""

    label: str
    text: str
    section: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What lies ahead. Prices are None where there is no such end; ``stop`` is the nearest of all stops."""

    target: Decimal | None = None
    stop: Decimal | None = None
    rungs: tuple[AheadRung, ...] = ()
    max_safety_orders: int | None = None
    armed: bool = False
    steps: tuple[Step, ...] = ()
    facts: tuple[Fact, ...] = ()


Provider = Callable[[Position, Totals, Decimal], Outlook]
"""(deal, what its fills add up to, taker fee as a fraction) to its outlook."""

_providers: dict[str, Provider] = {}


def register(strategy: str, provider: Provider) -> None:
    """Let ``provider`` answer for the deals of ``strategy``."""
    _providers[strategy] = provider


def outlook_of(position: Position, totals: Totals, fee_rate: Decimal) -> Outlook:
    """Return what lies ahead of the deal; an empty outlook when nobody answers for its strategy."""
    provider: Any = _providers.get(position.strategy)
    return provider(position, totals, fee_rate) if provider else Outlook()
