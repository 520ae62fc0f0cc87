"""How far the owner of a bot trusts a coin: their own review, else the operator's word (``marketdata.coins``).

On a shared account the owner's reviews count, whoever looks after the bot: it is the owner's money.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from bots.models import CoinReview
from marketdata import coins
from tradebot.core.scoping import detached

__all__ = ["categories", "overrides_of"]


def overrides_of(owner_ids: Iterable[int], codes: Iterable[str] | None = None) -> dict[int, dict[str, str]]:
    """Return ``{person id: {code: category}}`` of what these people think (of ``codes``, None: of all). One query."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    with detached("what the owner of a bot thinks of a coin decides what the bot opens, whoever acts for it"):
        rows = CoinReview.objects.filter(owner_id__in=set(owner_ids))
        if codes is not None:
            rows = rows.filter(code__in=set(codes))
        for owner_id, code, category in rows.order_by().values_list("owner_id", "code", "category"):
            found[owner_id][code] = category
    return dict(found)


def categories(owner_id: int, codes: Iterable[str]) -> Mapping[str, str]:
    """Return the category of each coin for this person; "" is unreviewed. Two queries."""
    wanted = list(dict.fromkeys(codes))
    known, own = coins.load(wanted), overrides_of([owner_id], wanted).get(owner_id, {})
    return {code: known.effective_category(code, own) for code in wanted}
