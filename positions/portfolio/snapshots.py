"""The daily value of each account: taken by a loop, read by charts.

``take_all``, for each account that has no row for today yet (recordings and archived accounts aside):

1. What it holds and what that costs is read, in the account's own scope.
2. Unless everything is known and fresh, nothing is written: a value without a coin or without an account's balances
   would be too low, and look like a loss (F34). The next run tries again; a day that ends without an answer has no row.
3. Otherwise the row is inserted. Two runs at once insert one: the database holds one row a day.

One account's failure does not stop the rest (F67).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

import structlog
from django.db.models import Exists, Min, OuterRef

from accounts.models import Account, Transfer, ValueSnapshot
from marketdata import sources
from positions.portfolio.gains import Flow, Gain, History, Reading, Step, gain_of, steps_of
from positions.portfolio.holdings import AccountHoldings, Worth, holdings_of, worth_of
from tradebot.core import clock, health
from tradebot.core.decimals import plain, quantize
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["LOOPS", "Curve", "Taken", "curve_of", "take", "take_all", "today_of", "why_not"]

log = structlog.get_logger(__name__)

LOOPS: Final = {"value snapshots": 900}
health.LOOPS.update(LOOPS)


@dataclass(slots=True)
class Taken:
    """What a run did: accounts whose value was written down, those that have to wait with the reason, and failures."""

    taken: list[int] = field(default_factory=list)
    waiting: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


def take_all() -> Taken:
    """Write down today's value of every account that has none yet (see above)."""
    today = clock.now().date()
    with all_accounts("the value of every account is written down"):
        taken = ValueSnapshot.objects.filter(account=OuterRef("pk"), date=today)
        rows = Account.objects.filter(archived_at__isnull=True).exclude(exchange=sources.REPLAY)
        ids = list(rows.filter(~Exists(taken)).order_by("pk").values_list("pk", flat=True))
    result = Taken()
    for account_id in ids:
        try:
            reason = take(account_id)
        except Exception as error:  # noqa: BLE001 (the loop's edge)
            result.failed[account_id] = f"{type(error).__name__}: {error}"
            log.warning("snapshots.account_failed", account=account_id, error=result.failed[account_id])
            continue
        if reason:
            result.waiting[account_id] = reason
        else:
            result.taken.append(account_id)
    if result.waiting:
        log.info("snapshots.waiting", accounts=len(result.waiting), first=next(iter(result.waiting.values())))
    return result


def take(account_id: int) -> str:
    """Write down what the account is worth today, once; return why not, or nothing when it is done."""
    with acting_for_account(account_id):
        account = Account.objects.get(pk=account_id)
        found = holdings_of([account])[0]
        usd, btc = worth_of([found], "USD"), worth_of([found], "BTC")
        if reason := why_not(usd) or why_not(btc):
            return reason
        assert usd.amount is not None
        assert btc.amount is not None
        row = ValueSnapshot(
            account=account,
            date=found.now.date(),
            taken_at=found.told.at or found.now,
            value_usd=quantize(usd.amount),
            value_btc=quantize(btc.amount),
            by_currency=_made_of(found),
            complete=not usd.left_out,
            left_out=list(usd.left_out),
        )
        ValueSnapshot.objects.bulk_create([row], ignore_conflicts=True)
    return ""


def why_not(worth: Worth) -> str:
    """Return why this value is not one to write down, in words; nothing when it is."""
    if worth.unknown or worth.amount is None:
        return "The balances are not known."
    if worth.stale:
        return "The balances are old."
    if worth.unpriced:
        return f"There is no price of {', '.join(worth.unpriced)}."
    return ""


def _made_of(found: AccountHoldings) -> dict[str, dict[str, str]]:
    return {
        row.currency: {
            "total": plain(row.total),
            **{
                into.lower(): plain(quantize(value))
                for into in ("USD", "BTC")
                if (value := row.value(into)) is not None
            },
        }
        for row in found.holdings
        if not row.left_out
    }


# Reading --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curve:
    """Value over time: ``steps`` with a value, and the days that have none although they lie in between.

    ``put_in`` is, for each step, what had been put in by then: the first value and all transfers since. ``transfers``
    are those since the first step, oldest first.
    """

    currency: str
    steps: list[Step]
    put_in: list[Decimal | None]
    gaps: list[date]
    transfers: list[Transfer]
    gain: Gain | None


def curve_of(rows: Sequence[AccountHoldings], into: str, days: int | None) -> Curve:
    """Return the value of these accounts together over the last ``days`` days (None: all), the present at its end.

    Three queries. The present is left out while it is not known for certain.
    """
    accounts = [row.account for row in rows]
    now = rows[0].now if rows else clock.now()
    since = None if days is None else now.date() - timedelta(days=days)
    snapshots = ValueSnapshot.objects.filter(account__in=accounts).order_by("date")
    transfers = Transfer.objects.filter(account__in=accounts).order_by("counted_at", "pk")
    if since is not None:
        snapshots = snapshots.filter(date__gte=since)
        transfers = transfers.filter(counted_at__gte=datetime.combine(since, time.min, tzinfo=UTC))
    name = "value_usd" if into == "USD" else "value_btc"
    readings: dict[int, dict[tuple[date, int], Reading]] = defaultdict(dict)
    for account_id, day, at, value in snapshots.values_list("account_id", "date", "taken_at", name):
        readings[account_id][day, 0] = Reading(at, value)
    for row in rows:
        present = worth_of([row], into)
        if present.is_certain and present.amount is not None:
            readings[row.account.pk][now.date(), 1] = Reading(row.told.at or now, present.amount)
    moved = list(transfers)
    flows: dict[int, list[Flow]] = defaultdict(list)
    for transfer in moved:
        flows[transfer.account_id].append(Flow(transfer.counted_at, getattr(transfer, name)))
    first = ValueSnapshot.objects.filter(account__in=accounts).order_by().values("account").annotate(date=Min("date"))
    begun = {row["account"]: (row["date"], 0) for row in first}
    ids = [account.pk for account in accounts]
    steps = steps_of([History(readings[pk], flows[pk], begun.get(pk)) for pk in ids])
    return Curve(
        currency=into,
        steps=steps,
        put_in=_added_up(steps),
        gaps=_gaps(steps),
        transfers=[row for row in moved if steps and steps[0].at < row.counted_at <= steps[-1].at],
        gain=gain_of(steps),
    )


def today_of(curve: Curve, now: datetime) -> Gain | None:
    """Return what was earned since today's first reading, transfers aside; None while there is none, or no present."""
    return gain_of([step for step in curve.steps if step.key[0] == now.date()])


def _added_up(steps: Iterable[Step]) -> list[Decimal | None]:
    found: list[Decimal | None] = []
    total: Decimal | None = None
    for step in steps:
        if not found:
            total = step.value
        elif total is not None:
            total = None if step.put_in is None else total + step.put_in
        found.append(total)
    return found


def _gaps(steps: Sequence[Step]) -> list[date]:
    if len(steps) < 2:
        return []
    there = {step.key[0] for step in steps}
    first, last = steps[0].key[0], steps[-1].key[0]
    days = (first + timedelta(days=number) for number in range((last - first).days))
    return [day for day in days if day not in there]
