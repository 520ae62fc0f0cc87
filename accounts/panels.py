"""Sections of the account page that the apps above accounts bring: a guard, automation.

An account's page cannot know what stands on accounts, so those apps register a section: a template, and a function that
gathers what it shows. A section's own forms post to views of its app, which show the page again when a form is refused
(:func:`accounts.views.account_page`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from accounts.models import Account
from accounts.selection import SignedInRequest

__all__ = ["Panel", "context_of", "register"]

Gather = Callable[[SignedInRequest, Account, Mapping[str, Any]], dict[str, Any] | None]
"""(request, account, forms that were refused by name) to what the template shows; None to leave the section out."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One section: where it stands among the others, its template, and what fills it."""

    place: int
    template: str
    gather: Gather


_panels: list[Panel] = []


def register(place: int, template: str, gather: Gather) -> None:
    """Show a section on every account's page; ``place`` orders the sections. Registering again changes nothing."""
    panel = Panel(place, template, gather)
    if panel not in _panels:
        _panels.append(panel)
        _panels.sort(key=lambda row: row.place)


def context_of(request: SignedInRequest, account: Account, bound: Mapping[str, Any]) -> dict[str, Any]:
    """Return what all sections show, and their templates in order as ``panels``."""
    context: dict[str, Any] = {}
    templates = []
    for panel in _panels:
        found = panel.gather(request, account, bound)
        if found is not None:
            context |= found
            templates.append(panel.template)
    return context | {"panels": templates}
