"""Executions at the venue that no order of ours explains: what their owner says they were.

They are found by ``positions.reconcile`` and are never added to a deal (F11), whatever they are explained as. What is
explained waits for nobody any more; "I do not know" stays on the list as something to keep an eye on.
"""

from __future__ import annotations

from django.db import transaction

from positions.models import UnmatchedFill
from tradebot.core import audit, clock
from tradebot.core.errors import InvalidInput, NotFound

__all__ = ["explain", "explain_all"]


def explain(fill: UnmatchedFill, explanation: str, actor: str) -> UnmatchedFill:
    """Keep what somebody who may change the account says it was; it may be said again, otherwise.

    Raises InvalidInput (field explanation), NotFound.
    """
    _check(explanation)
    with transaction.atomic():
        rows = UnmatchedFill.objects.editable().select_for_update(of=("self",)).select_related("account")
        row: UnmatchedFill | None = rows.filter(pk=fill.pk).first()
        if row is None:
            raise NotFound("no_fill", "There is no such execution.")
        _explain(row, explanation, actor)
    return row


def explain_all(account_id: int, explanation: str, actor: str) -> int:
    """Say the same of every execution of the account that nobody has explained yet; return how many there were.

    Raises InvalidInput (field explanation).
    """
    _check(explanation)
    with transaction.atomic():
        rows = UnmatchedFill.objects.editable().select_for_update(of=("self",)).select_related("account")
        found = list(rows.filter(account_id=account_id, explanation=""))
        for row in found:
            _explain(row, explanation, actor)
    return len(found)


def _check(explanation: str) -> None:
    if explanation not in UnmatchedFill.Explanation.values:
        words = ", ".join(UnmatchedFill.Explanation.values)
        raise InvalidInput("unknown_explanation", f"It is one of {words}.", field="explanation")


def _explain(row: UnmatchedFill, explanation: str, actor: str) -> None:
    if row.explanation == explanation:
        return
    row.explanation, row.explained_at, row.explained_by = explanation, clock.now(), actor
    row.save(update_fields=["explanation", "explained_at", "explained_by"])
    audit.record(
        row.account.owner_id,
        actor,
        "unmatched_fill_explained",
        f"{row.side} {row.symbol} on {row.account.name}",
        explanation=explanation,
        venue_trade_id=row.venue_trade_id,
        base=row.base,
        price=row.price,
    )
