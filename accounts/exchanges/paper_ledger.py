"""The balances of paper accounts and the journal that explains them. The only writer of both.

A :class:`Ledger` lives inside one transaction. It locks the account rows first, always in the order of their ids, so
two of them never wait for each other in a circle and no change is lost (F60); on SQLite the transaction itself is the
lock. Changes are collected in memory and written together by :meth:`Ledger.write`: every change of a total has its
entry, so the sum of a currency's entries is its balance, and neither a total nor what is free of it goes below zero.
Positions in perpetuals, whose margin is part of what is held back, are kept here for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from accounts.models import Account, PaperBalance, PaperEntry, PaperPerp, PaperTrade
from tradebot.core.decimals import ZERO, plain
from tradebot.core.errors import NotFound, TradebotError

__all__ = ["Ledger", "Overdrawn"]


class Overdrawn(TradebotError):
    """A change would take more of a currency than is there, or than is not claimed by resting orders."""

    default_code = "insufficient_funds"


class Ledger:
    """The balances of ``account_ids``, locked until the end of the surrounding transaction.

    ``now`` is the time that entries get. Raises NotFound when the bound scope may not change one of the accounts, or
    when one of them is not a paper account.
    """

    def __init__(self, account_ids: Iterable[int], now: datetime) -> None:
        if not transaction.get_connection().in_atomic_block:
            raise RuntimeError("a ledger lives inside a transaction")
        self.now = now
        ids = sorted(set(account_ids))
        accounts = Account.objects.select_for_update(no_key=True).editable().order_by("pk").filter(pk__in=ids)
        self.accounts: dict[int, Account] = {row.pk: row for row in accounts if row.is_paper}
        if len(self.accounts) != len(ids):
            raise NotFound("no_paper_account", "There is no such paper account.")
        self._balances: dict[tuple[int, str], PaperBalance] = {
            (row.account_id, row.currency): row for row in PaperBalance.objects.filter(account_id__in=ids)
        }
        self._changed: set[tuple[int, str]] = set()
        self._entries: list[PaperEntry] = []
        self._perps: dict[tuple[int, str], PaperPerp] | None = None
        self._moved: set[tuple[int, str]] = set()

    def currencies(self, account_id: int) -> list[str]:
        """Return the currencies that the account has a balance of, zero included."""
        return [currency for owner, currency in self._balances if owner == account_id]

    def balance(self, account_id: int, currency: str) -> PaperBalance:
        """Return the balance as it is after the changes so far; one of zero when there was none."""
        key = (account_id, currency)
        if key not in self._balances:
            self._balances[key] = PaperBalance(account=self.accounts[account_id], currency=currency)
        return self._balances[key]

    def free(self, account_id: int, currency: str) -> Decimal:
        """Return what of the total is not claimed by resting orders."""
        return self.balance(account_id, currency).free

    def require(self, account_id: int, currency: str, amount: Decimal) -> None:
        """Raise Overdrawn unless ``amount`` is free."""
        row = self.balance(account_id, currency)
        if amount > row.free:
            raise Overdrawn(
                message=f"{plain(amount)} {currency} is needed and {plain(row.free)} {currency} is free.",
                currency=currency,
                asked=amount,
                free=row.free,
            )

    def change(
        self,
        account_id: int,
        currency: str,
        amount: Decimal,
        kind: PaperEntry.Kind,
        *,
        trade: PaperTrade | None = None,
        note: str = "",
        symbol: str = "",
        rate: Decimal | None = None,
    ) -> None:
        """Change the total by ``amount`` (signed) and note why. Nothing happens for zero. Raises Overdrawn."""
        if not amount:
            return
        if amount < ZERO:
            self.require(account_id, currency, -amount)
        row = self.balance(account_id, currency)
        row.total += amount
        self._changed.add((account_id, currency))
        self._entries.append(
            PaperEntry(
                account=self.accounts[account_id],
                currency=currency,
                kind=kind,
                amount=amount,
                balance_after=row.total,
                trade=trade,
                note=note,
                symbol=symbol,
                rate=rate,
                at=self.now,
            )
        )

    def claim(self, account_id: int, currency: str, amount: Decimal) -> None:
        """Claim ``amount`` of what is free for a resting order; a negative amount gives it back. Raises Overdrawn."""
        if not amount:
            return
        self.require(account_id, currency, amount)
        row = self.balance(account_id, currency)
        if row.held + amount < ZERO:
            raise Overdrawn("hold_mismatch", f"More {currency} would be given back than is claimed.", currency=currency)
        row.held += amount
        self._changed.add((account_id, currency))

    # Positions in perpetuals -----------------------------------------------------------------------------------------

    def _all_perps(self) -> dict[tuple[int, str], PaperPerp]:
        if self._perps is None:  # accounts that trade spot only do not pay for the query
            rows = PaperPerp.objects.filter(account_id__in=list(self.accounts)).order_by("pk")
            self._perps = {(row.account_id, row.symbol): row for row in rows}
        return self._perps

    def perp(self, account_id: int, symbol: str) -> PaperPerp | None:
        """Return the account's open position in this perpetual, None when there is none."""
        row = self._all_perps().get((account_id, symbol))
        return row if row is not None and row.base else None

    def perps(self, account_id: int) -> list[PaperPerp]:
        """Return all open positions of the account, oldest first."""
        return [row for (owner, _), row in self._all_perps().items() if owner == account_id and row.base]

    def new_perp(self, account_id: int, symbol: str) -> PaperPerp:
        """Return the row for a position that is about to open."""
        key = (account_id, symbol)
        return self._all_perps().setdefault(key, PaperPerp(account=self.accounts[account_id], symbol=symbol))

    def move(self, row: PaperPerp) -> None:
        """Note that the position changed."""
        self._moved.add((row.account_id, row.symbol))

    @property
    def flattened(self) -> list[tuple[int, str]]:
        """The positions, by account id and symbol, that changed and hold nothing any more."""
        return [key for key in sorted(self._moved) if not self._all_perps()[key].base]

    def write(self) -> None:
        """Write what changed. Trades that entries point at have been saved before."""
        rows = [self._balances[key] for key in sorted(self._changed)]
        PaperBalance.objects.bulk_create([row for row in rows if row.pk is None])
        PaperBalance.objects.bulk_update([row for row in rows if row.pk is not None], ["total", "held"])
        PaperEntry.objects.bulk_create(self._entries)
        for key in sorted(self._moved):
            self._all_perps()[key].save()
        self._changed.clear()
        self._moved.clear()
        self._entries = []
