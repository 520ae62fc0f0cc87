"""Switching an account's own automation off: whoever empties an account does that first, or it buys back (F64)."""

from __future__ import annotations

from accounts.models import Account, AutoBuyRule
from tradebot.core import audit, clock

__all__ = ["switch_off"]


def switch_off(account: Account, actor: str) -> int:
    """Switch every auto-buy rule of the account off and return how many there were; they stay off until a person says.

    Belongs into the transaction of what it precedes. A purchase that works already is a deal like any other: whoever
    clears the account's orders away meets it there.
    """
    rules = list(AutoBuyRule.objects.filter(account=account, enabled=True).select_for_update(no_key=True))
    for rule in rules:
        rule.enabled, rule.changed_at = False, clock.now()
        rule.last_code, rule.last_message, rule.last_numbers = "switched_off", f"Switched off by {actor}."[:400], {}
        rule.save(update_fields=["enabled", "changed_at", "last_code", "last_message", "last_numbers"])
    if rules:
        names = [rule.currency for rule in rules]
        audit.record(
            account.owner_id, actor, "auto_buy_off", f"account:{account.pk}", name=account.name, currencies=names
        )
    return len(rules)
