"""Writing down who did what, in the transaction that did it. Reading goes through ``AuditEntry`` like any owned row."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from tradebot.core import once
from tradebot.core.decimals import plain
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import detached

__all__ = ["record"]


def record(user_id: int, actor: str, action: str, target: str, **detail: Any) -> None:
    """Write one audit entry.

    ``user_id`` is whose thing it was about (a manager acting on a shared account is the ``actor``, its owner the user),
    ``actor`` an e-mail address or the part of the system, ``action`` a word such as ``paper_deposit``, ``target`` what
    it was done to, ``detail`` the numbers. Where it was asked for with a key, it counts as done under that
    (``tradebot.core.once``). Secrets and amounts as floats do not belong in here.
    """
    entry = AuditEntry(user_id=user_id, actor=actor, action=action, target=target[:120], detail=_json(detail))
    once.acted(action, target)
    with detached("an audit entry belongs to the owner of the thing, whoever acted"):
        entry.save(force_insert=True)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(inner) for inner in value]
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)
