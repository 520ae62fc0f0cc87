"""Which exchanges a person can connect, what their keys are called there, and how a connection is made of them.

A venue's module puts itself on the list by :func:`offer`. ``open_with`` makes a connection of an account that may not
be stored yet, from the keys in ``account.credential``: so keys are tried before anything is kept. It must not keep a
client of such an account, whose id is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accounts.exchanges.base import Capabilities, Venue
from accounts.models import Account
from tradebot.core.errors import InvalidInput

__all__ = ["Connectable", "offer", "offered", "offered_as", "withdraw"]


@dataclass(frozen=True, slots=True)
class Connectable:
    """An exchange on the list. ``slug`` is what ``Account.exchange`` holds, ``key_page`` where its keys are made."""

    slug: str
    name: str
    capabilities: Capabilities
    open_with: Callable[[Account], Venue]
    key_label: str = "API key"
    secret_label: str = "API secret"  # noqa: S105 (what the field is called)
    key_page: str = ""
    advice: str = ""


_offers: dict[str, Connectable] = {}


def offer(venue: Connectable) -> None:
    """Put an exchange on the list, in place of one with the same slug."""
    _offers[venue.slug] = venue


def withdraw(slug: str) -> None:
    """Take an exchange off the list."""
    _offers.pop(slug, None)


def offered() -> list[Connectable]:
    """Return the list, by name."""
    return sorted(_offers.values(), key=lambda venue: venue.name.lower())


def offered_as(slug: str) -> Connectable:
    """Return one of the list. Raises InvalidInput (field exchange)."""
    found = _offers.get(slug)
    if found is None:
        raise InvalidInput("unknown_exchange", "This exchange cannot be connected.", field="exchange")
    return found
