"""The auto-buy section of the account page: each rule with its last decision in words. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from accounts.models import Account, AutoBuyRule
from accounts.selection import SignedInRequest
from bots.autobuy import rules, service
from bots.autobuy.forms import RuleForm
from bots.models import AutoBuyDecision
from marketdata import sources
from positions import keeping
from positions.models import Position

__all__ = ["Row", "gather"]

TRAIL_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Row:
    """A rule as a row: its purchase under way, if any, and the form that changes it (its owner's)."""

    rule: AutoBuyRule
    working: Position | None
    form: RuleForm | None

    @property
    def state(self) -> tuple[str, str]:
        """Return (kind, badge) as the pages show states."""
        if not self.rule.enabled:
            return "stopped", "Off"
        return ("running", "Buying") if self.working is not None else ("running", "On")


def gather(request: SignedInRequest, account: Account, bound: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the section shows; nothing for recordings, whose clock is not ours. At most five queries."""
    if account.exchange == sources.REPLAY:
        return None
    owned = account.owner_id == request.user.pk and account.archived_at is None
    found = list(AutoBuyRule.objects.filter(account=account).order_by("currency"))
    if not found and not owned:
        return None
    working = {row.product.quote: row for row in keeping.under_way(account.pk, service.MINE)} if found else {}
    rows = [
        Row(
            rule,
            working.get(rule.currency),
            RuleForm(instance=rule, auto_id=f"rule_{rule.pk}_%s") if owned else None,
        )
        for rule in found
    ]
    refused = bound.get("rule_form")
    context: dict[str, Any] = {
        "auto_buy": rows,
        "auto_buy_trail": (
            AutoBuyDecision.objects.filter(account=account).select_related("rule", "position")[:TRAIL_SHOWN]
            if found
            else []
        ),
        "rule_refused": refused is not None,
    }
    if owned:
        context["stable_currencies"] = rules.currencies_for(account)
        context["rule_form"] = RuleForm(instance=AutoBuyRule(enabled=True), auto_id="rule_new_%s")
    return context
