"""The guard's rows as everything around it reads and adds to them, its history, and how its people are told."""

from __future__ import annotations

from datetime import datetime, time
from decimal import Decimal
from typing import Any, Final

from accounts.access import people_of_account
from accounts.models import Account, PropGuardEvent, PropGuardRules, PropGuardState
from notifications import outbox
from positions.booking import announce
from tradebot.core import clock
from tradebot.core.decimals import plain, quantize

__all__ = ["ACTOR", "in_words", "is_killed", "money", "rules_of", "state_of", "tell", "write_event"]

ACTOR: Final = "prop guard"


def rules_of(account: Account) -> PropGuardRules | None:
    """Return the account's rules, fresh; None when it never had any."""
    return PropGuardRules.objects.filter(account_id=account.pk).first()


def is_killed(account_id: int) -> bool:
    """Return whether the account's guard has stopped it."""
    return bool(PropGuardState.objects.filter(account_id=account_id, killed_at__isnull=False).exists())


def state_of(account: Account) -> PropGuardState:
    """Return where the account stands, fresh; a new row, not saved yet, when nothing is known."""
    return PropGuardState.objects.filter(account_id=account.pk).first() or PropGuardState(account=account)


def write_event(account: Account, kind: PropGuardEvent.Kind, message: str, actor: str, **numbers: Any) -> None:
    """Add a line to the guard's history."""
    PropGuardEvent.objects.create(
        account=account, kind=kind, message=message[:400], numbers=in_words(numbers), actor=actor[:254], at=clock.now()
    )


def in_words(value: Any) -> Any:
    """Return ``value`` as JSON holds it: amounts and moments as text, whatever they are nested in."""
    if isinstance(value, dict):
        return {name: in_words(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [in_words(inner) for inner in value]
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime | time):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int) else str(value)


def tell(account: Account, code: str, level: str, message: str) -> None:
    """Tell everybody who may see the account."""
    payload = {"code": code, "level": level, "message": message, "account_id": account.pk}
    announce(account.pk, lambda: outbox.publish(people_of_account(account.pk), "notification", payload, account.pk))


def money(value: Decimal) -> str:
    """Return an amount as sentences show it."""
    return f"{quantize(value, 2):,.2f}".replace(",", " ")
