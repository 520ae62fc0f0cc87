"""The exchanges that an account can be connected to, and what each offers, for pages and documents.

Everything shown comes from what the code relies on; ``docs/venues.md`` is written from here and a test holds it true.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from accounts.exchanges.base import Capabilities
from accounts.exchanges.ccxt.dialect import KeyField
from accounts.exchanges.ccxt.dialects import DIALECTS

__all__ = ["FEATURES", "Feature", "VenueCard", "all_venues", "get", "table"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One line of the table of capabilities: what it is called, and what a venue says about it."""

    label: str
    help: str
    offered: Callable[[Capabilities], bool]


FEATURES: Final = (
    Feature("Finds orders by our id", "After a lost answer an order is found again.", lambda it: it.finds_by_client_id),
    Feature(
        "Refuses a repeated id",
        "Without it, an order is looked up before each new one is sent: one more request.",
        lambda it: it.refuses_repeated_client_id,
    ),
    Feature("Market buy by value", "So much of the quote currency is spent.", lambda it: it.market_buy_in_quote),
    Feature("Orders that expire", "Good till a date.", lambda it: it.good_till_date),
    Feature("Changes orders", "Size and price of a resting order.", lambda it: it.edits_orders),
    Feature("Tells what a key may do", "A key that may withdraw is warned about.", lambda it: it.tells_permissions),
    Feature(
        "Lists deposits and withdrawals",
        "They are kept apart from profit. Elsewhere they have to be entered by hand.",
        lambda it: it.lists_movements,
    ),
    Feature("Perpetual futures", "By hand, settled in USDT, with leverage.", lambda it: it.perpetuals),
    Feature(
        "Keeps stops of perpetuals",
        "A stop closes a position whether we are there or not. Elsewhere it is watched from here.",
        lambda it: it.stop_orders,
    ),
    Feature("Needs a passphrase", "Chosen when the key is made.", lambda it: it.needs_passphrase),
)


@dataclass(frozen=True, slots=True)
class VenueCard:
    """An exchange as people are shown it: its name, what it offers, and what is entered to connect an account."""

    slug: str
    name: str
    capabilities: Capabilities
    key_fields: tuple[KeyField, ...]

    def features(self) -> list[tuple[Feature, bool]]:
        """Return every feature with whether this exchange has it."""
        return [(feature, feature.offered(self.capabilities)) for feature in FEATURES]


def all_venues() -> list[VenueCard]:
    """Return every exchange that an account can be connected to, Coinbase first."""
    return [get(slug) for slug in DIALECTS]


def get(slug: str) -> VenueCard:
    """Return one of them. Raises KeyError."""
    dialect = DIALECTS[slug]
    return VenueCard(slug, dialect.info.name, dialect.capabilities, dialect.key_fields)


def table() -> str:
    """Return the capabilities of all venues as a Markdown table."""
    cards = all_venues()
    lines = [
        f"| | {' | '.join(card.name for card in cards)} |",
        f"| --- | {' | '.join('---' for _ in cards)} |",
    ]
    for feature in FEATURES:
        offers = " | ".join("yes" if feature.offered(card.capabilities) else "no" for card in cards)
        lines.append(f"| {feature.label} | {offers} |")
    lines.append(f"| To connect | {' | '.join(_needed(card) for card in cards)} |")
    return "\n".join(lines) + "\n"


def _needed(card: VenueCard) -> str:
    return ", ".join(field.label.lower() for field in card.key_fields)
