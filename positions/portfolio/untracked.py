"""Why coins are in an account although no deal holds them, as far as the books tell. And leaving them out of the value.

What the books know of a coin: deals that were cancelled and kept it, transfers from and to outside, executions at the
venue that no order of ours explains. What none of them explains was there before Tradebot was, or is a reward.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.db.models import Q

from accounts.amounts import checked_currency
from accounts.models import Account, LeftOut, Transfer
from marketdata.models import Product
from marketdata.sources.base import PERPETUAL
from positions.models import Position, UnmatchedFill
from positions.portfolio.holdings import AccountHoldings
from positions.states import Direction, KeptStrategy, PositionStatus
from tradebot.core import audit
from tradebot.core.decimals import ZERO
from tradebot.core.errors import NotFound
from tradebot.core.money import AmountSum
from tradebot.core.words import Side

__all__ = ["Explained", "count_again", "explain", "leave_out", "set_left_out"]


@dataclass(frozen=True, slots=True)
class Explained:
    """One untracked coin of one account: amounts of it, by what the books say. They need not add up to all of it."""

    account: Account
    currency: str
    amount: Decimal
    kept: Decimal
    """Of deals that were cancelled without selling and of purchases to keep, less what was sold by hand since."""
    transferred: Decimal
    """Came in from outside, less what went out."""
    traded: Decimal
    """Bought at the venue outside Tradebot, less what was sold there."""

    @property
    def unexplained(self) -> Decimal:
        """Return what none of it explains."""
        known = self.kept + max(self.transferred, ZERO) + max(self.traded, ZERO)
        return max(self.amount - known, ZERO)


def explain(rows: Iterable[AccountHoldings]) -> list[Explained]:
    """Return what the books say about every untracked coin of these accounts. Three queries, or none without any."""
    found = [(row.account, holding) for row in rows for holding in row.holdings if holding.untracked]
    if not found:
        return []
    ids = {account.pk for account, _ in found}
    coins = {holding.currency for _, holding in found}
    kept: dict[tuple[int, str], Decimal] = defaultdict(lambda: ZERO)
    cancelled = Position.objects.filter(
        Q(direction=Direction.LONG) | Q(strategy=KeptStrategy.SALE),
        account__in=ids,
        status=PositionStatus.CANCELLED,
        product__base__in=coins,
        product__kind=Product.Kind.SPOT,
    )
    for account_id, base, amount in cancelled.order_by().values_list("account_id", "product__base", "base_held"):
        kept[account_id, base] += amount  # below zero: a sale of coins of no deal took so much
    moved = Transfer.objects.filter(account__in=ids, currency__in=coins).order_by()
    transferred = {
        (row["account"], row["currency"]): row["sum"]
        for row in moved.values("account", "currency").annotate(sum=AmountSum("amount"))
    }
    traded: dict[tuple[int, str], Decimal] = defaultdict(lambda: ZERO)
    strangers = UnmatchedFill.objects.filter(account__in=ids).exclude(symbol__endswith=PERPETUAL).order_by()
    for account_id, symbol, side, base in strangers.values_list("account_id", "symbol", "side", "base"):
        traded[account_id, symbol.partition("-")[0]] += base if side == Side.BUY else -base
    return [
        Explained(
            account,
            holding.currency,
            holding.untracked,
            max(kept[account.pk, holding.currency], ZERO),
            transferred.get((account.pk, holding.currency), ZERO),
            traded[account.pk, holding.currency],
        )
        for account, holding in found
    ]


def leave_out(account: Account, currency: str, actor: str) -> LeftOut:
    """Do not count ``currency`` in the account's value from now on. Doing it again changes nothing.

    Raises InvalidInput (field currency), NotFound.
    """
    row, code = _editable(account), checked_currency(currency, "currency")
    try:
        with transaction.atomic():
            left = LeftOut.objects.create(account=row, currency=code)
            _note(row, actor, "currency_left_out", code)
    except IntegrityError:
        return LeftOut.objects.get(account=row, currency=code)
    return left


def count_again(left: LeftOut, actor: str) -> None:
    """Count the currency in the account's value again. Raises NotFound."""
    row = _editable(left.account)
    with transaction.atomic():
        if LeftOut.objects.filter(pk=left.pk).delete()[0]:
            _note(row, actor, "currency_counted_again", left.currency)


def set_left_out(account: Account, currency: str, left_out: bool, actor: str) -> None:
    """Leave ``currency`` out of the account's value, or count it again. Raises InvalidInput (currency), NotFound."""
    if left_out:
        leave_out(account, currency, actor)
        return
    row = LeftOut.objects.filter(account=account, currency=checked_currency(currency, "currency")).first()
    if row is not None:
        count_again(row, actor)


def _editable(account: Account) -> Account:
    row: Account | None = Account.objects.editable().filter(pk=account.pk).first()
    if row is None:
        raise NotFound("no_account", "There is no such account.")
    return row


def _note(account: Account, actor: str, action: str, currency: str) -> None:
    audit.record(account.owner_id, actor, action, f"account:{account.pk}", currency=currency)
