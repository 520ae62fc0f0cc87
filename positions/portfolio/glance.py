"""What accounts are worth, at a glance: the figure in the top bar of every page, kept for a moment.

It is private, so its key names what it is and whose: ``worth:account:7``; an account's and a user's 7 cannot meet, nor
two kinds of figures (F47). Only accounts of the bound scope are read or written, so a figure that is kept is shown to
nobody else. Nothing decides by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from accounts.models import Account
from positions.portfolio.holdings import DISPLAY, AccountHoldings, Worth, holdings_of, worth_of
from tradebot.core.decimals import ZERO
from tradebot.core.scoping import ForeignRow, current_scope

__all__ = ["key", "remember", "worth_at_a_glance"]

log = structlog.get_logger(__name__)

KEPT_SECONDS: Final = 20


def key(account_id: int) -> str:
    """Return the cache key of an account's worth."""
    return f"worth:account:{account_id}"


def worth_at_a_glance(accounts: Sequence[Account], into: str, *, ask: bool = False) -> Worth:
    """Return what these accounts are worth together, from what is kept as far as it is; None unless all is certain.

    With ``ask`` markets are asked for prices that are not there; without it nobody waits. Raises ForeignRow for an
    account outside the bound scope.
    """
    _check([row.pk for row in accounts])
    kept = _read(accounts, into)
    missing = [row for row in accounts if row.pk not in kept or (ask and kept[row.pk].amount is None)]
    if missing:
        found = holdings_of(missing, ask=ask)
        remember(found)
        kept |= {row.account.pk: _certain(worth_of([row], into)) for row in found}
    worths = [kept[row.pk].amount for row in accounts]
    known = [amount for amount in worths if amount is not None]
    return Worth(into, sum(known, ZERO) if known and len(known) == len(worths) else None)


def _certain(worth: Worth) -> Worth:
    return worth if worth.is_certain else Worth(worth.currency, None)


def remember(rows: Iterable[AccountHoldings]) -> None:
    """Keep what these accounts are worth, or that it is not known for certain. Raises ForeignRow outside the scope."""
    found = list(rows)
    _check([row.account.pk for row in found])
    values = {}
    for row in found:
        worths = [worth_of([row], into) for into in DISPLAY]
        amounts = {worth.currency: str(worth.amount) if worth.is_certain else None for worth in worths}
        values[key(row.account.pk)] = json.dumps(amounts)
    if not values:
        return
    try:
        cache.set_many(values, timeout=KEPT_SECONDS)
    except (RedisError, OSError) as error:
        log.error("glance.cache_unavailable", error=str(error))


def _read(accounts: Sequence[Account], into: str) -> dict[int, Worth]:
    if not accounts:
        return {}
    try:
        values: dict[str, Any] = cache.get_many([key(row.pk) for row in accounts])
    except (RedisError, OSError) as error:
        log.error("glance.cache_unavailable", error=str(error))
        return {}
    found = {}
    for row in accounts:
        try:
            amount = json.loads(str(values[key(row.pk)]))[into]
            found[row.pk] = Worth(into, None if amount is None else Decimal(amount))
        except (KeyError, ValueError, TypeError, ArithmeticError):
            continue
    return found


def _check(account_ids: Iterable[int]) -> None:
    scope = current_scope()
    if not scope.unlimited and not set(account_ids) <= scope.account_ids:
        raise ForeignRow("that account is outside the bound scope")
