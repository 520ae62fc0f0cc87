"""The figures of accounts put together for API and pages: live and paper apart, each figure by its one function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from accounts.models import Account
from marketdata import sources
from positions.models import Position
from positions.portfolio import holdings, snapshots, untracked
from positions.portfolio.gains import Gain
from positions.portfolio.holdings import AccountHoldings, Bucket, Line, Worth
from positions.portfolio.pnl import Pnl, pnl_of
from positions.portfolio.untracked import Explained
from tradebot.core.errors import NotFound

__all__ = ["Group", "accounts_asked_for", "groups", "kind_of", "pnl_by_kind"]


@dataclass(frozen=True, slots=True)
class Group:
    """Accounts of one kind of money: ``live`` or ``paper``."""

    kind: str
    accounts: list[AccountHoldings]
    worth: Worth
    holdings: list[Line]
    buckets: list[Bucket]
    untracked: list[Explained]
    gain: Gain | None


def kind_of(account: Account) -> str:
    """Return which kind of money an account has."""
    return "paper" if account.is_paper else "live"


def accounts_asked_for(account_id: int | None) -> list[Account]:
    """Return that account of the bound scope, or all of them but archived ones and recordings. Raises NotFound."""
    if account_id is None:
        return list(Account.objects.filter(archived_at__isnull=True).exclude(exchange=sources.REPLAY).order_by("pk"))
    found = list(Account.objects.filter(pk=account_id))
    if not found:
        raise NotFound("no_account", "There is no such account.")
    return found


def groups(accounts: Iterable[Account], into: str) -> list[Group]:
    """Return what these accounts hold and are worth, live ones first. A fixed number of queries for each kind."""
    rows = holdings.holdings_of(accounts)
    explained = untracked.explain(rows)
    found = []
    for kind in ("live", "paper"):
        mine = [row for row in rows if kind_of(row.account) == kind]
        if not mine:
            continue
        ids = {row.account.pk for row in mine}
        found.append(
            Group(
                kind,
                mine,
                holdings.worth_of(mine, into),
                holdings.lines(mine, into),
                holdings.buckets(mine, into),
                [row for row in explained if row.account.pk in ids],
                snapshots.curve_of(mine, into, None).gain,
            )
        )
    return found


def pnl_by_kind(accounts: Sequence[Account], now: datetime, zone: ZoneInfo) -> dict[str, dict[str, Pnl]]:
    """Return profit and loss by kind of money and quote currency."""
    found = {}
    for kind in ("live", "paper"):
        mine = [account.pk for account in accounts if kind_of(account) == kind]
        if mine:
            found[kind] = pnl_of(Position.objects.filter(account__in=mine), now, zone)
    return found
