"""The exchanges that a person can connect: what each offers, what its keys are called, and a connection by keys.

Everything shown comes from what the code relies on; the table of ``docs/venues.md`` is written from here and a test
holds it true. ccxt is not loaded for any of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from accounts.exchanges import factory
from accounts.exchanges.base import Capabilities, Venue
from accounts.exchanges.ccxt.dialect import KeyField
from accounts.exchanges.ccxt.dialects import DIALECTS
from accounts.models import Account
from marketdata.wire.venues import LIVE
from tradebot.core.errors import InvalidInput

__all__ = ["FEATURES", "KEY_PAGES", "Connectable", "Feature", "offered", "offered_as", "table"]

KEY_PAGES: Final = {"coinbase": "https://portal.cdp.coinbase.com/projects/api-keys"}
"""Where an exchange gives out keys, by slug."""


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
class Connectable:
    """An exchange on the list. ``slug`` is what ``Account.exchange`` holds, ``key_fields`` what a key has."""

    slug: str
    name: str
    capabilities: Capabilities
    key_fields: tuple[KeyField, ...]

    @property
    def key_page(self) -> str:
        """Return where its keys are made; empty when not known."""
        return KEY_PAGES.get(self.slug, "")

    @property
    def wants_passphrase(self) -> bool:
        """Return whether its keys come with a passphrase."""
        return any(field.name == "passphrase" for field in self.key_fields)

    def open_with(self, account: Account) -> Venue:
        """Return a connection by the keys in ``account.credential``. Neither needs to be stored; nothing is kept."""
        return factory.venue_by_keys(account, account.credential)


def offered() -> list[Connectable]:
    """Return the list, in the order in which people are shown it: Coinbase first."""
    return [
        Connectable(slug, info.name, DIALECTS[slug].capabilities, DIALECTS[slug].key_fields)
        for slug, info in LIVE.items()
        if slug in DIALECTS
    ]


def offered_as(slug: str) -> Connectable:
    """Return one of the list. Raises InvalidInput (field exchange)."""
    for venue in offered():
        if venue.slug == slug:
            return venue
    raise InvalidInput("unknown_exchange", "This exchange cannot be connected.", field="exchange")


def table() -> str:
    """Return the capabilities of all exchanges as a Markdown table."""
    listed = offered()
    lines = [
        f"| | {' | '.join(venue.name for venue in listed)} |",
        f"| --- | {' | '.join('---' for _ in listed)} |",
    ]
    for feature in FEATURES:
        offers = " | ".join("yes" if feature.offered(venue.capabilities) else "no" for venue in listed)
        lines.append(f"| {feature.label} | {offers} |")
    lines.append(f"| To connect | {' | '.join(_needed(venue) for venue in listed)} |")
    return "\n".join(lines) + "\n"


def _needed(venue: Connectable) -> str:
    return ", ".join(field.label.lower() for field in venue.key_fields)
