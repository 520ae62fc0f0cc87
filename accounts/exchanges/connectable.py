"""Which exchanges a person can connect, what their keys are called there, and a connection by keys not kept yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from accounts.exchanges import factory
from accounts.exchanges.base import Capabilities, Venue
from accounts.exchanges.ccxt.dialect import KeyField
from accounts.exchanges.ccxt.dialects import DIALECTS
from accounts.models import Account
from marketdata.wire.venues import LIVE
from tradebot.core.errors import InvalidInput

__all__ = ["KEY_PAGES", "Connectable", "offered", "offered_as"]

KEY_PAGES: Final = {"coinbase": "https://portal.cdp.coinbase.com/projects/api-keys"}
"""Where an exchange gives out keys, by slug."""


@dataclass(frozen=True, slots=True)
class Connectable:
    """An exchange on the list. ``slug`` is what ``Account.exchange`` holds; ``fields`` are the parts of its keys."""

    slug: str
    name: str
    capabilities: Capabilities
    fields: tuple[KeyField, ...]

    @property
    def key_page(self) -> str:
        """Return where its keys are made; empty when not known."""
        return KEY_PAGES.get(self.slug, "")

    @property
    def wants_passphrase(self) -> bool:
        """Return whether its keys come with a passphrase."""
        return any(field.name == "passphrase" for field in self.fields)

    def open_with(self, account: Account) -> Venue:
        """Return a connection by the keys in ``account.credential``. Neither needs to be stored; nothing is kept."""
        return factory.venue_by_keys(account, account.credential)


def offered() -> list[Connectable]:
    """Return the list, in the order in which people are shown it."""
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
