"""Which account a person is looking at: one of theirs, or all. Kept in the session, chosen in the shell's switcher.

This only narrows what pages show. What may be seen and changed at all is the scope's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.db.models import Q
from django.http import HttpRequest

from accounts.models import Account, Membership, User
from marketdata import sources
from tradebot.core.errors import NotFound

__all__ = ["Choice", "SignedInRequest", "choices", "choose", "in_view", "narrowed", "selected_account"]

SESSION_KEY: Final = "account_id"


class SignedInRequest(HttpRequest):
    """A request that ``login_required`` has let through; for annotations only."""

    user: User


@dataclass(frozen=True, slots=True)
class Choice:
    """An account to look at: ``whose`` says in words that it is one's own, or whose it is and what one may do."""

    account: Account
    whose: str
    editable: bool


def choices(request: HttpRequest) -> list[Choice]:
    """Return the accounts that the person may look at, own ones first. Two queries, asked once per request."""
    found: list[Choice] | None = getattr(request, "_account_choices", None)
    if found is None:
        roles = dict(Membership.objects.filter(user_id=request.user.pk).values_list("account_id", "role"))
        rows = Account.objects.filter(archived_at__isnull=True).select_related("owner")
        own = [Choice(row, "yours", True) for row in rows if row.owner_id == request.user.pk]
        shared = [
            Choice(row, f"{row.owner.email} · {roles[row.pk]}", roles[row.pk] == Membership.Role.MANAGER)
            for row in rows
            if row.owner_id != request.user.pk and row.pk in roles
        ]
        found = own + shared
        request._account_choices = found  # type: ignore[attr-defined]
    return found


def selected_account(request: HttpRequest) -> Account | None:
    """Return the account in view, or None for all. One that is gone, archived or no longer shared counts as all."""
    wanted = request.session.get(SESSION_KEY)
    return next((choice.account for choice in choices(request) if choice.account.pk == wanted), None)


def choose(request: HttpRequest, account_id: str) -> None:
    """Look at one account from now on, or at all of them when ``account_id`` is empty. Raises NotFound."""
    if not account_id:
        request.session.pop(SESSION_KEY, None)
        return
    chosen = next((choice.account for choice in choices(request) if str(choice.account.pk) == account_id), None)
    if chosen is None:
        raise NotFound(message="There is no such account.")
    request.session[SESSION_KEY] = chosen.pk


def in_view(request: HttpRequest) -> list[Account]:
    """Return the account in view, or all of them but recordings, which are another time's and looked at by choice."""
    account = selected_account(request)
    if account is not None:
        return [account]
    return [choice.account for choice in choices(request) if choice.account.exchange != sources.REPLAY]


def narrowed(request: HttpRequest) -> Q:
    """Return the filter for rows of the accounts in view: ``Order.objects.filter(narrowed(request))``.

    With all accounts in view, what belongs to an archived one, or to none any more, is there too.
    """
    account = selected_account(request)
    if account is not None:
        return Q(account_id=account.pk)
    recordings = [choice.account.pk for choice in choices(request) if choice.account.exchange == sources.REPLAY]
    return Q(account__isnull=True) | ~Q(account_id__in=recordings) if recordings else Q()
