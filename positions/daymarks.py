"""What an account has earned or lost since its owner's day began: the figure that a daily loss limit watches.

A mark holds what the open deals had earned (realised and unrealised, net of fees) when the day began. What they and
all later deals have earned now, less the mark, is the day's result: a deal that was under water yesterday does not
count again today. A loop keeps the newest figure beside the mark, and the last one before midnight is the next mark.
After a time without the loop a day is counted from the last figure that is known, so that a loss is never missed.

Everything is from prices, fees and balances on record: nothing asks a venue, so :func:`result_of_day` may be used under
the account's lock. What is not known raises, and never counts as zero (F34).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from django.db import transaction
from django.db.models import Q

from accounts.balances import fees_of
from accounts.models import Account, TradingLimits
from marketdata import market
from positions import ledger
from positions.booking import totals_by_position
from positions.models import DayMark, Position
from positions.states import POSITION_ACTIVE, KeptStrategy, PositionStatus
from positions.worth import rates
from tradebot.core import clock, health
from tradebot.core.decimals import ZERO, dec, for_money, plain
from tradebot.core.errors import MissingInformation, TradebotError
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["LOOP", "LOOP_SECONDS", "DayResult", "mark_account", "mark_all", "result_of_day"]

log = structlog.get_logger(__name__)
LOOP: Final = "day marks"
LOOP_SECONDS: Final = 60
health.LOOPS[LOOP] = LOOP_SECONDS

Results = dict[str, Decimal]
"""Amounts by quote currency (F32)."""


@dataclass(frozen=True, slots=True)
class DayResult:
    """The day's result in one currency, and the moment from which it is counted."""

    amount: Decimal
    since: datetime


def result_of_day(account: Account, currency: str, now: datetime | None = None) -> DayResult:
    """Return what the account has earned (below zero: lost) today, in ``currency``. Raises MissingInformation."""
    moment = now or clock.now()
    mark = DayMark.objects.filter(account=account).first()
    if mark is None:
        raise MissingInformation("day_not_marked", "What the account had earned when the day began is not known yet.")
    if mark.day == _today(account, moment):
        since, before = mark.at, _read(mark.results)
    else:
        since, before = mark.latest_at, _read(mark.latest)
    earned = _results(account, since)
    quotes = {quote for quote in {*earned, *before} if earned.get(quote, ZERO) != before.get(quote, ZERO)}
    prices = rates(account.exchange, currency, quotes)
    total = ZERO
    with for_money():
        for quote in sorted(quotes):
            if quote not in prices:
                raise MissingInformation("missing_price", f"What {quote} is worth in {currency} is not known.")
            total += (earned.get(quote, ZERO) - before.get(quote, ZERO)) * prices[quote]
    return DayResult(total, since)


def mark_all() -> int:
    """Keep the marks of all accounts whose daily loss is limited; return how many. One failure stops no other (F67)."""
    watched = Q(daily_loss__isnull=False) | Q(daily_loss_pct__isnull=False)
    with all_accounts("every account with a daily loss limit has its day marked"):
        ids = list(TradingLimits.objects.filter(watched).order_by("account_id").values_list("account_id", flat=True))
        DayMark.objects.exclude(account_id__in=ids).delete()  # so that a limit set anew counts from then
    done = 0
    for account_id in ids:
        try:
            with acting_for_account(account_id):
                mark_account(Account.objects.select_related("owner").get(pk=account_id))
            done += 1
        except TradebotError as error:
            log.info("day.not_marked", account=account_id, code=error.code)
        except Exception:  # the loop's edge
            log.exception("day.not_marked", account=account_id)
    return done


def mark_account(account: Account, now: datetime | None = None) -> DayMark:
    """Begin the account's day if it has begun, and keep the newest figure. Raises MissingInformation."""
    moment = now or clock.now()
    today = _today(account, moment)
    with transaction.atomic():
        mark = DayMark.objects.select_for_update().filter(account=account).first()
        if mark is not None and mark.day != today:
            mark.day, mark.at, mark.results = today, mark.latest_at, mark.latest
            mark.save()
    found = _written(_results(account, None))
    with transaction.atomic():
        if mark is None:
            mark = DayMark(account=account, day=today, at=moment, results=found)
        mark.latest_at, mark.latest = moment, found
        mark.save()
    return mark


def _results(account: Account, since: datetime | None) -> Results:
    """Return what the running deals have earned, and with ``since`` those that ended after it, by quote currency."""
    wanted = Q(status__in=POSITION_ACTIVE)
    if since is not None:
        wanted |= Q(closed_at__gte=since)
    rows = Position.objects.filter(wanted, account=account).exclude(strategy=KeptStrategy.SALE)  # sold, not owed
    deals = list(rows.select_related("product"))
    # Coins that a cancelled deal left in the account go on earning and losing: giving it up hides nothing.
    holding = [
        deal
        for deal in deals
        if deal.status in POSITION_ACTIVE or (deal.status == PositionStatus.CANCELLED and not deal.product.is_perpetual)
    ]
    totals = {pk: found for pk, found in totals_by_position(holding).items() if not found.is_flat}
    quotes = market.quotes(account.exchange, {deal.product.symbol for deal in holding if deal.pk in totals})
    taker = fees_of([account.pk])[account.pk][1] if totals else ZERO
    earned: Results = defaultdict(lambda: ZERO)
    with for_money():
        for deal in deals:
            earned[deal.product.quote] += deal.realised_quote
            if (held := totals.get(deal.pk)) is None:
                continue
            quote = quotes.get(deal.product.symbol)
            if quote is None:
                raise MissingInformation("missing_price", f"There is no current price of {deal.product.symbol}.")
            earned[deal.product.quote] += ledger.unrealised(held, quote.mark, taker).profit
    return dict(earned)


def _today(account: Account, now: datetime) -> date:
    try:
        zone = ZoneInfo(account.owner.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = ZoneInfo("UTC")
    return now.astimezone(zone).date()


def _read(stored: dict[str, Any]) -> Results:
    return {quote: dec(amount) for quote, amount in stored.items()}


def _written(results: Results) -> dict[str, str]:
    return {quote: plain(amount) for quote, amount in results.items()}
