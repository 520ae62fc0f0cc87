"""What accounts hold, by account id and currency (F47): a balance is never looked up without naming its account.

What is not known is absent, never zero (F34): an account that the bound scope does not hold, or whose venue has not
said, has no entry at all. An account that is known and holds none of a currency has no entry for that currency.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from accounts.exchanges.base import Balance
from accounts.models import Account, PaperBalance
from tradebot.core.decimals import ZERO
from tradebot.core.errors import MissingInformation

__all__ = ["balances_of", "free_balance"]


def balances_of(account_ids: Iterable[int]) -> dict[int, dict[str, Balance]]:
    """Return ``{account id: {currency: balance}}`` of the accounts whose balances are known. Two queries."""
    paper = Account.objects.filter(pk__in=list(account_ids), kind=Account.Kind.PAPER)
    known: dict[int, dict[str, Balance]] = {pk: {} for pk in paper.order_by().values_list("pk", flat=True)}
    if known:
        for row in PaperBalance.objects.filter(account_id__in=list(known)):
            known[row.account_id][row.currency] = Balance(row.currency, row.total, row.held)
    return known


def free_balance(account: Account, currency: str) -> Decimal:
    """Return what of ``currency`` the account holds and no resting order has claimed; 0 when it holds none.

    Raises MissingInformation (``balance_unknown``) when the account's balances are not known.
    """
    balances = balances_of([account.pk]).get(account.pk)
    if balances is None:
        raise MissingInformation("balance_unknown", "The account's balances are not known.", currency=currency)
    return balances[currency].free if currency in balances else ZERO
