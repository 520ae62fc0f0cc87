"""Which accounts a person owns or shares, as a scope. The only place where memberships become access."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from accounts.models import Account, Membership, User
from tradebot.core import clock
from tradebot.core.scoping import Scope, bound, detached

__all__ = ["acting_for", "people_of_account", "scope_of"]


def scope_of(user: User) -> Scope:
    """Return the scope of ``user``: own accounts and managed ones to change, observed ones to read."""
    with detached("what a person may reach is decided here"):
        own = Account.objects.filter(owner_id=user.pk).values_list("pk", flat=True)
        shared = (
            Membership.objects.filter(user_id=user.pk)
            .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now()))
            .values_list("account_id", "role")
        )
        readable, editable = set(own), set(own)
        for account_id, role in shared:
            readable.add(account_id)
            if role == Membership.Role.MANAGER:
                editable.add(account_id)
    return Scope(account_ids=frozenset(readable), editable_ids=frozenset(editable), owner_id=user.pk)


def acting_for(user: User) -> Any:
    """Act as ``user``: a context manager for commands, consumers and tests."""
    return bound(scope_of(user))


def people_of_account(account_id: int) -> list[int]:
    """Return the ids of those who may see the account: its owner first, then current members. For events."""
    with detached("events go to everybody who may see the account"):
        owner = list(Account.objects.filter(pk=account_id).values_list("owner_id", flat=True))
        members = (
            Membership.objects.filter(account_id=account_id)
            .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now()))
            .values_list("user_id", flat=True)
        )
        return list(dict.fromkeys([*owner, *members]))
