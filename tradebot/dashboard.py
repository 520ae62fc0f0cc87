"""The dashboard: what the accounts in view earned, hold and decide, and what waits for a person.

Live and paper money never meet in a figure: with both in view the page shows one of them and offers the other. Amounts
stay in their quote currency; ``Show in`` picks one. Only the account value is converted, at present prices, and says
"about". The number of queries does not depend on how many bots or deals there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.contrib.auth.decorators import login_required
from django.db.models import Count, Min, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.models import Account, ExchangeCredential, PropGuardRules
from accounts.selection import SignedInRequest, in_view
from bots.models import Bot, BotProduct
from bots.pages import finished_replays
from positions import figures
from positions.cards import DealCard, deal_cards
from positions.figures import DayProfit, OpenTotals, Period
from positions.guard.panel import standing_of
from positions.models import Order, Position, UnmatchedFill
from positions.portfolio import glance, snapshots
from positions.portfolio.charts import value_chart
from positions.portfolio.holdings import Line, holdings_of, lines, worth_of
from positions.states import EXIT_PURPOSES, POSITION_ACTIVE, ExitReason, OrderStatus, PositionStatus, Purpose
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.health import stale_loops
from tradebot.core.money import amount_total
from tradebot.core.scoping import OwnedQuerySet
from tradebot.core.zones import zone_of
from tradebot.templatetags.tradebot import span

RANGES: Final = ((7, "7 d"), (30, "30 d"), (90, "90 d"), (365, "1 y"))
DEFAULT_RANGE: Final = 90
DAYS_SHOWN: Final = 14
PAIRS_SHOWN: Final = 7
FREE_SHOWN: Final = 3
TRADES_SHOWN: Final = 8
NEEDS_SHOWN: Final = 6
RECENT: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Tab:
    """One of several ways to look at the page; ``query`` leads to it."""

    name: str
    query: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Need:
    """Something that waits for a person: a badge, a sentence about ``name``, and where to go."""

    kind: str
    badge: str
    name: str
    text: str
    url: str = ""
    argument: int | None = None
    action: str = ""


@dataclass(frozen=True, slots=True)
class BotRow:
    """A running bot. Amounts are in its quote currency; ``realised`` and ``won_pct`` are of 30 days."""

    bot: Bot
    quote: str
    unrealised: Decimal | None
    realised: Decimal
    deals: int
    most_deals: int | None
    won_pct: Decimal | None
    invested: Decimal
    needs_you: bool
    decision: str
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class Trade:
    """An order that was filled or refused lately; ``profit`` is what the deal earned that it ended."""

    order: Order
    what: str
    refused: bool
    profit: Decimal | None


@dataclass(frozen=True, slots=True)
class View:
    """What the reader chose to see, read from the address."""

    accounts: list[Account]
    both_kinds: bool
    paper: bool
    currency: str
    days: int
    now: datetime
    zone: ZoneInfo

    @property
    def account_ids(self) -> list[int]:
        return [account.pk for account in self.accounts]

    def query(self, **changes: Any) -> str:
        """Return the address's query with ``changes``."""
        values = {"days": self.days, "in": self.currency} | ({"money": _kind(self.paper)} if self.both_kinds else {})
        return "?" + urlencode(values | changes)


@login_required
@require_GET
def dashboard(request: SignedInRequest) -> HttpResponse:
    """Show the account in view, or all of one kind of money; to a page that renews itself only the changing parts."""
    template = "dashboard/live.html" if request.headers.get("HX-Request") else "dashboard.html"
    return render(request, template, {"nav": "dashboard", **gather(request)})


@login_required
@require_GET
def ticker(request: SignedInRequest) -> HttpResponse:
    """Return the top bar's prices and count of open deals, for pages that stay open."""
    return render(request, "components/ticker_live.html")


def gather(request: SignedInRequest) -> dict[str, Any]:
    """Return everything that the page shows."""
    shown = in_view(request)
    kinds = {row.is_paper for row in shown}
    wanted = request.GET.get("money")
    paper = wanted == _kind(True) if len(kinds) == 2 and wanted else kinds == {True}
    accounts = [row for row in shown if row.is_paper == paper]
    now, zone = clock.now(), zone_of(request.user.timezone)

    positions = Position.objects.filter(account__in=[row.pk for row in accounts])
    active = positions.filter(status__in=POSITION_ACTIVE).select_related("product", "account", "bot").order_by("-id")
    cards = deal_cards(list(active))
    open_by_quote = figures.open_totals(card.figures for card in cards)
    realised = figures.realised(positions, now, zone)
    currencies = sorted({*open_by_quote, *realised}, key=lambda name: _weight(name, realised), reverse=True) or ["USD"]
    currency = request.GET.get("in", "")
    view = View(
        accounts=accounts,
        both_kinds=len(kinds) == 2,
        paper=paper,
        currency=currency if currency in currencies else currencies[0],
        days=_days(request.GET.get("days", ""), positions, now),
        now=now,
        zone=zone,
    )
    days = figures.profit_per_day(positions, now, zone, max(view.days, DAYS_SHOWN)).get(view.currency, [])
    total = realised[view.currency][Period.ALL].profit if view.currency in realised else ZERO
    held = holdings_of(accounts)
    glance.remember(held)
    shown_in = "BTC" if view.currency == "BTC" else "USD"
    curve = snapshots.curve_of(held, shown_in, view.days)
    value = value_chart(curve, {row.day: row for row in days})
    chosen = _curve(request.GET.get("curve", ""), value is not None)
    starts = figures.period_starts(now, zone)
    quarter = positions.filter(closed_at__gte=starts[Period.QUARTER], closed_at__lte=now)
    month = positions.filter(closed_at__gte=starts[Period.MONTH], closed_at__lte=now)
    asked = {"curve": chosen} if "curve" in request.GET else {}
    return {
        "view": view,
        "now": now,
        "money_tabs": _money_tabs(view),
        "currency_tabs": [Tab(name, view.query(**{"in": name}), name == view.currency) for name in currencies],
        "range_tabs": [Tab(name, view.query(days=count, **asked), count == view.days) for count, name in RANGES],
        "value": worth_of(held, view.currency),
        "free": free_of(lines(held, view.currency), view.currency),
        "value_today": snapshots.today_of(curve, now),
        "value_unit": shown_in,
        "value_over_time": value,
        "curve": chosen,
        "curve_tabs": [
            Tab(name, view.query(curve=word), word == chosen)
            for word, name in (("value", "Value"), ("realised", "Realised"))
        ],
        "today": _shown_and_others(realised, view.currency, Period.TODAY),
        "all_time": _shown_and_others(realised, view.currency, Period.ALL),
        "unrealised": open_by_quote.get(view.currency, OpenTotals()),
        "unrealised_others": [(name, row.profit) for name, row in open_by_quote.items() if name != view.currency],
        "win_rate": figures.win_rates(quarter).strategy,
        "open_deals": len(cards),
        "deals_need_you": sum(card.needs_you for card in cards),
        "over_time": added_up(days[-view.days :], total) if days else None,
        "by_day": days[-DAYS_SHOWN:],
        "by_day_chart": day_chart(days[-DAYS_SHOWN:]) if any(row.deals for row in days[-DAYS_SHOWN:]) else None,
        "pairs": [row for row in figures.by_pair(month) if row.quote == view.currency][:PAIRS_SHOWN],
        "trades": recent_trades(view.account_ids),
        "bot_rows": running_bots(view.account_ids, cards, month),
        "bot_count": Bot.objects.filter(account__in=view.account_ids, archived_at__isnull=True).count(),
        "late_loops": (late := stale_loops()),
        "needs": (found := [*needs(request, view, cards), *_loop_needs(late)])[:NEEDS_SHOWN],
        "need_count": len(found),
    }


# Figures ------------------------------------------------------------------------------------------------------------


def free_of(lines: Sequence[Line], currency: str) -> list[tuple[str, Decimal]]:
    """Return what is free of each currency, the shown one first; what is not known is left out (F34)."""
    free = [(line.currency, line.free) for line in lines if line.free]
    return sorted(free, key=lambda row: row[0] != currency)[:FREE_SHOWN]


def added_up(days: Sequence[DayProfit], total: Decimal) -> dict[str, list[Any]]:
    """Return a chart's data: realised profit of each day, and what the days up to it add up to (at last ``total``)."""
    running = total - sum((row.profit for row in days), ZERO)
    sums = []
    for row in days:
        running += row.profit
        sums.append(float(running))
    return {"t": [_midnight(row.day) for row in days], "day": [float(row.profit) for row in days], "total": sums}


def day_chart(days: Sequence[DayProfit]) -> dict[str, list[Any]]:
    """Return a chart's data: realised profit of each day."""
    return {"t": [_midnight(row.day) for row in days], "day": [float(row.profit) for row in days]}


def running_bots(account_ids: Sequence[int], cards: Iterable[DealCard], month: Any) -> list[BotRow]:
    """Return the running bots of these accounts. Three queries."""
    running = Bot.objects.filter(account__in=account_ids, status=Bot.Status.RUNNING).exclude(finished_replays())
    bots = list(running.order_by("name"))
    by_bot: dict[int, list[DealCard]] = defaultdict(list)
    for card in cards:
        if card.position.bot_id is not None:
            by_bot[card.position.bot_id].append(card)
    earned = {
        row["bot_id"]: row
        for row in figures.ended(month)
        .filter(bot__in=bots)
        .values("bot_id")
        .annotate(
            profit=amount_total("realised_quote"), deals=Count("id"), won=Count("id", filter=Q(realised_quote__gt=ZERO))
        )
    }
    decided: dict[int, BotProduct] = {}
    for pair in BotProduct.objects.filter(bot__in=bots, last_changed_at__isnull=False).select_related("product"):
        known = decided.get(pair.bot_id)
        if known is None or pair.last_changed_at > known.last_changed_at:
            decided[pair.bot_id] = pair
    return [_bot_row(bot, by_bot[bot.pk], earned.get(bot.pk), decided.get(bot.pk)) for bot in bots]


def _bot_row(bot: Bot, cards: list[DealCard], earned: Mapping[str, Any] | None, pair: BotProduct | None) -> BotRow:
    sums = figures.open_totals(card.figures for card in cards).get(bot.quote_currency, OpenTotals())
    most = bot.settings.get("max_active_deals")
    decision = bot.last_error or (f"{pair.product.symbol}: {pair.last_message}" if pair and pair.last_message else "")
    return BotRow(
        bot=bot,
        quote=bot.quote_currency,
        unrealised=sums.profit if sums.deals > sums.unpriced or not sums.deals else None,
        realised=earned["profit"] if earned else ZERO,
        deals=len(cards),
        most_deals=most if isinstance(most, int) else None,
        won_pct=Decimal(earned["won"]) / earned["deals"] * HUNDRED if earned and earned["deals"] else None,
        invested=sums.invested,
        needs_you=bool(bot.last_error) or any(card.needs_you for card in cards),
        decision=decision,
        decided_at=pair.last_changed_at if pair and not bot.last_error else bot.last_checked_at,
    )


_STEPS: Final = {Purpose.BASE_ORDER: "base order", Purpose.MANUAL_ADD: "added by hand"}


def recent_trades(account_ids: Sequence[int]) -> list[Trade]:
    """Return the last orders that were filled or refused, newest first. One query."""
    orders = (
        Order.objects.filter(account__in=account_ids, status__in=[OrderStatus.FILLED, OrderStatus.REJECTED])
        .select_related("position__product")
        .order_by("-id")[:TRADES_SHOWN]
    )
    return [_trade(order) for order in orders]


def _trade(order: Order) -> Trade:
    ends = order.purpose in EXIT_PURPOSES
    refused = order.status == OrderStatus.REJECTED
    if order.purpose == Purpose.SAFETY_ORDER:
        what = f"SO {order.sequence}"
    elif ends:
        what = (
            ExitReason(order.exit_reason).value.replace("_", " ")
            if order.exit_reason
            else order.purpose.replace("_", " ")
        )
    else:
        what = _STEPS.get(Purpose(order.purpose), order.purpose.replace("_", " "))
    closed = order.position.status == PositionStatus.CLOSED
    return Trade(order, what, refused, order.position.realised_quote if ends and closed and not refused else None)


# What waits for a person --------------------------------------------------------------------------------------------


def needs(request: SignedInRequest, view: View, cards: Iterable[DealCard]) -> list[Need]:
    """Return what waits for the reader in the accounts in view, the most urgent first. Seven queries."""
    found = _guard_needs(view)
    found += [_deal_need(card) for card in cards if card.note is not None]
    since = view.now - RECENT
    failed = Position.objects.filter(
        account__in=view.account_ids, status=PositionStatus.FAILED, closed_at__gte=since
    ).select_related("product")
    found += [
        Need(
            "failed",
            "Order failed",
            row.product.symbol,
            f"{row.bot_name or 'a deal'} could not open: {row.last_error or 'the order was refused'}"
            + (f" ({row.error_code})." if row.error_code else "."),
            "deal",
            row.pk,
            "See the attempt",
        )
        for row in failed.order_by("-id")[:NEEDS_SHOWN]
    ]
    broken = Bot.objects.filter(account__in=view.account_ids, status=Bot.Status.RUNNING).exclude(last_error="")
    found += [Need("attention", "Bot stuck", row.name, row.last_error, "bot", row.pk, "Open the bot") for row in broken]
    orphans = Bot.objects.filter(owner_id=request.user.pk, account__isnull=True, archived_at__isnull=True)
    found += [
        Need(
            "attention",
            "Orphaned bot",
            row.name,
            "lost its account and cannot run.",
            "bot",
            row.pk,
            "Choose an account",
        )
        for row in orphans
    ]
    unmatched = UnmatchedFill.objects.filter(account__in=view.account_ids, explanation="").select_related("account")
    found += [
        Need(
            "attention",
            "Not ours",
            f"{row.symbol} on {row.account.name}",
            f"was {'bought' if row.side == 'buy' else 'sold'} outside Tradebot; bots may find less than they expect.",
            "unmatched_fills",
            None,
            "Say what it was",
        )
        for row in unmatched[:NEEDS_SHOWN]
    ]
    found += [
        Need(
            "failed",
            "Stopped",
            row.name,
            "was stopped: nothing is bought there.",
            "account",
            row.pk,
            "Open the account",
        )
        for row in view.accounts
        if row.is_killed
    ]
    waiting = Bot.objects.filter(
        account__in=[row.pk for row in view.accounts if not row.is_armed and not row.is_killed]
    )
    counts = waiting.filter(status=Bot.Status.RUNNING).order_by().values("account_id").annotate(count=Count("id"))
    bots = {row["account_id"]: row["count"] for row in counts}
    found += [
        Need(
            "attention",
            "Read-only",
            row.name,
            f"is not armed: {bots[row.pk]} running bot{'' if bots[row.pk] == 1 else 's'} may not buy.",
            "account",
            row.pk,
            "Arm it",
        )
        for row in view.accounts
        if row.pk in bots
    ]
    keys = ExchangeCredential.objects.filter(account__in=view.account_ids).exclude(problem="").select_related("account")
    found += [
        Need("failed", "Keys refused", row.account.name, row.problem, "account", row.account_id, "See the keys")
        for row in keys.defer("api_key", "api_secret", "passphrase")
    ]
    return found


def _guard_needs(view: View) -> list[Need]:
    """Return the guarded accounts that are stopped, or that nothing new is opened on. One query."""
    rows = PropGuardRules.objects.filter(account__in=view.account_ids, enabled=True, account__archived_at__isnull=True)
    found = []
    for row in rows.select_related("account__guard_state").order_by("account__name"):
        standing = standing_of(row, getattr(row.account, "guard_state", None))
        if standing.kind == "running":
            continue
        badge = "Stopped" if standing.is_killed else "Blocked"
        text = f"{'was stopped by its loss limits. ' if standing.is_killed else ''}{standing.words}"
        found.append(Need(standing.kind, badge, row.account.name, text, "account", row.account_id, "See its limits"))
    return found


def _deal_need(card: DealCard) -> Need:
    note, deal = card.note, card.position
    assert note is not None
    badge = next((row.text for row in card.badges if row.kind == "failed"), "Needs you")
    number = f" #{deal.deal_number}" if deal.deal_number else ""
    kind = "failed" if badge != "Needs you" else "attention"
    return Need(
        kind, badge, f"{deal.product.symbol}{number}", f"{note.lead} {note.text}", "deal", deal.pk, "Open the deal"
    )


def _loop_needs(late: Iterable[tuple[str, float | None]]) -> list[Need]:
    return [
        Need(
            "attention",
            "Slow loop",
            name.replace("_", " ").replace(".", " ").capitalize(),
            "has not run yet." if age is None else f"last ran {span(age)} ago, later than it should.",
        )
        for name, age in late
    ]


# Small parts --------------------------------------------------------------------------------------------------------


def _kind(paper: bool) -> str:
    return "paper" if paper else "live"


def _money_tabs(view: View) -> list[Tab]:
    if not view.both_kinds:
        return []
    return [
        Tab("Live", view.query(money="live"), not view.paper),
        Tab("Paper", view.query(money="paper"), view.paper),
    ]


def _curve(text: str, has_value: bool) -> str:
    """Return the curve asked for, or the value as soon as there is one."""
    return text if text in ("value", "realised") else "value" if has_value else "realised"


def _days(text: str, positions: OwnedQuerySet, now: datetime) -> int:
    """Return the range asked for, or the shortest of those up to the usual one that shows every ended deal."""
    if text in {str(count) for count, _ in RANGES}:
        return int(text)
    first = positions.filter(closed_at__isnull=False).aggregate(at=Min("closed_at"))["at"]
    age = (now - first).days + 1 if first else DEFAULT_RANGE
    return next((count for count, _ in RANGES if age <= count <= DEFAULT_RANGE), DEFAULT_RANGE)


def _weight(currency: str, realised: dict[str, dict[Period, figures.Realised]]) -> tuple[int, str]:
    """Currencies with more ended deals come first."""
    return (realised[currency][Period.ALL].deals if currency in realised else 0, currency)


def _shown_and_others(
    realised: dict[str, dict[Period, figures.Realised]], currency: str, period: Period
) -> dict[str, Any]:
    rows = {name: periods[period] for name, periods in realised.items()}
    shown = rows.pop(currency, None)
    return {
        "profit": shown.profit if shown else ZERO,
        "deals": (shown.deals if shown else 0) + sum(row.deals for row in rows.values()),
        "others": [(name, row.profit) for name, row in rows.items() if row.deals],
    }


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time.min, tzinfo=UTC).timestamp())
