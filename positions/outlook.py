"""What lies ahead of an open deal as its strategy sees it: target, stop, next safety orders, settings in words.

Deals do not know strategies (those stand above them), so each strategy's app registers a function here that answers for
its deals. A deal whose strategy nobody answers for is shown without what lies ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from marketdata import coins
from positions.ledger import Totals
from positions.models import Position

__all__ = [
    "AheadRung",
    "Fact",
    "Outlook",
    "Provider",
    "Step",
    "behind_limit_close",
    "categories_for",
    "outlook_of",
    "register",
    "register_categories",
]


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
    """One thing that the deal waits for: ``lead`` **price** ``text``, with a second line where there is one.

    ``held`` is what a person's limit close keeps from happening: profits and safety orders, never a stop.
    """

    title: str
    state: Literal["waiting", "armed", "held", "off"]
    lead: str = ""
    price: Decimal | None = None
    text: str = ""
    more: str = ""
    kind: Literal["profit", "add", "stop"] = "stop"


@dataclass(frozen=True, slots=True)
class Fact:
    """A setting as it reads on a page, with the heading that it stands under."""

    label: str
    text: str
    section: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What lies ahead. Prices are None where there is no such end; ``stop`` is the nearest of all stops.

    ``own_target`` is the strategy's while a person's limit close takes its place as ``target``.
    """

    target: Decimal | None = None
    own_target: Decimal | None = None
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


def behind_limit_close(outlook: Outlook, price: Decimal) -> Outlook:
    """Return the outlook while a person's limit close at ``price`` rests: it ends the deal, or a stop does.

    The strategy's target and its safety orders wait for it, and say so.
    """
    close = Step("Close at the limit", "waiting", "at", price, ", placed by hand.", kind="profit")
    rest = (
        step if step.kind == "stop" or step.state == "off" else replace(step, state="held") for step in outlook.steps
    )
    return replace(outlook, target=price, own_target=outlook.target, steps=(close, *rest))


# Categories of coins --------------------------------------------------------------------------------------------------

Categories = Callable[[int, Iterable[str]], Mapping[str, str]]
"""(owner's id, currency codes) to what that person thinks of each coin; "" is unreviewed."""


def _of_everybody(owner_id: int, codes: Iterable[str]) -> Mapping[str, str]:
    wanted = list(codes)
    known = coins.load(wanted)
    return {code: known.effective_category(code, {}) for code in wanted}


_categories: list[Categories] = [_of_everybody]


def register_categories(categories: Categories) -> None:
    """Let ``categories`` say what the owner of an account thinks of a coin; the operator's word counts until then."""
    _categories[:] = [categories]


def categories_for(owner_id: int, codes: Iterable[str]) -> Mapping[str, str]:
    """Return the category of each coin as the owner of the account sees it."""
    return _categories[0](owner_id, codes)
