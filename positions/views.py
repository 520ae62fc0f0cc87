"""The pages of deals and orders: open deals, one deal, history, every order. Parse, call one service, present."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import User
from accounts.selection import narrowed
from marketdata.services import chart_timeframes, market_now
from marketdata.timeframes import Timeframe
from positions import deal_page, history
from positions.cards import DealCard, currency_totals, deal_card, deal_cards, with_categories
from positions.forms import UNREVIEWED, DealFilter, HistoryFilter, NoteForm, OrderFilter
from positions.models import Fill, Order, Position
from positions.sales.story import story_of
from positions.states import POSITION_ACTIVE, Direction
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.scoping import current_scope

PER_PAGE: Final = 50
DECISIONS: Final = 20
MAIN_SECTIONS: Final = frozenset({"Take profit", "Stops", "Safety orders", "Conditions"})
"""What a deal's settings still decide; the rest had its effect when the deal opened and stands below."""
FAR: Final = Decimal(10) ** 9


def person(request: HttpRequest) -> User:
    """Return who is signed in; the pages here are for signed-in people only."""
    assert isinstance(request.user, User)
    return request.user


# Open deals ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Section:
    """Deals under one heading; live and paper are never under the same."""

    title: str
    is_paper: bool
    cards: list[DealCard]


@login_required
@require_GET
def deals(request: HttpRequest) -> HttpResponse:
    """Every open deal of the account in view, grouped, with totals per currency."""
    rows = Position.objects.filter(narrowed(request), status__in=POSITION_ACTIVE)
    cards = with_categories(deal_cards(list(rows.select_related("product", "account", "bot"))))
    form = DealFilter(request.GET)
    shown = [card for card in cards if _matches(card, form.found)]
    shown.sort(key=_order(form.found["sort"] or "needs"))
    page = Paginator(shown, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "nav": "deals",
        "form": form,
        "count": len(cards),
        "shown_count": len(shown),
        "totals": currency_totals(cards),
        "sections": _sections(page.object_list, form.found["group"] or "currency"),
        "page": page,
        "quotes": _tally(card.position.product.quote for card in cards),
        "shows": _shows(cards),
        "bots": _bot_choices(cards),
        "categories": _tally(card.category or UNREVIEWED for card in cards),
        "editable": current_scope().editable_ids,
        "refreshed_at": clock.now(),
    }
    return render(request, "positions/deals.html", context)


def _matches(card: DealCard, found: dict[str, Any]) -> bool:
    deal = card.position
    return (
        (not found["q"] or found["q"].strip().upper() in deal.product.symbol)
        and (not found["bot"] or deal.bot_id == found["bot"])
        and (not found["quote"] or deal.product.quote == found["quote"])
        and (not found["category"] or (card.category or UNREVIEWED) == found["category"])
        and (not found["show"] or _is(card, found["show"]))
    )


def _is(card: DealCard, what: str) -> bool:
    if what == "needs":
        return card.needs_you
    return card.outlook.armed if what == "trailing" else card.position.direction == Direction.SHORT


def _order(sort: str) -> Any:
    def key(card: DealCard) -> tuple[Any, ...]:
        deal, newest = card.position, -card.position.pk
        if sort == "newest":
            return (newest,)
        if sort in ("target", "stop"):
            distance = card.target_distance_pct if sort == "target" else card.stop_distance_pct
            return (FAR if distance is None else abs(distance), newest)
        return (not card.needs_you, deal.opened_at is None, newest)

    return key


def _sections(cards: Iterable[DealCard], group: str) -> list[_Section]:
    found: dict[tuple[bool, str], _Section] = {}
    for card in cards:
        deal = card.position
        title = {
            "currency": deal.product.quote,
            "bot": deal.bot_name or "No bot",
            "pair": deal.product.symbol,
        }.get(group, "Live deals" if not card.is_paper else "Paper deals")
        section = found.setdefault((card.is_paper, title), _Section(title, card.is_paper, []))
        section.cards.append(card)
    return [found[key] for key in sorted(found)]


def _tally(words: Iterable[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items())


def _shows(cards: Sequence[DealCard]) -> list[tuple[str, str, int]]:
    counted = ((name, label, sum(_is(card, name) for card in cards)) for name, label in DealFilter.SHOWS)
    return [(name, label, count) for name, label, count in counted if count]


def _bot_choices(cards: Iterable[DealCard]) -> list[tuple[int, str, int]]:
    counts: dict[tuple[str, int], int] = {}
    for card in cards:
        if card.position.bot is not None:
            key = (card.position.bot.name, card.position.bot.pk)
            counts[key] = counts.get(key, 0) + 1
    return [(pk, name, count) for (name, pk), count in sorted(counts.items())]


# One deal -----------------------------------------------------------------------------------------------------------


def found_deal(pk: int, *, editable: bool = False) -> Position:
    """Return the deal with product, account and bot, if the person may see (or change) it. Raises Http404."""
    rows = Position.objects.editable() if editable else Position.objects.all()
    found: Position = get_object_or_404(rows.select_related("product", "account", "bot"), pk=pk)
    return found


def _fills(deal: Position) -> list[Fill]:
    return list(Fill.objects.filter(position=deal).order_by("at", "id"))


@login_required
@require_GET
def deal(request: HttpRequest, pk: int) -> HttpResponse:
    """One deal: figures, what happens next, orders and fills, decisions, time line, its own settings."""
    position = found_deal(pk)
    acted = request.GET.get("show") == "acted"
    decisions = position.decisions.all()
    card = deal_card(position)
    rows = deal_page.order_rows(position, card.orders, _fills(position))
    offered, timeframe = _timeframes(request, position)
    context = {
        "nav": "deals" if position.closed_at is None else "history",
        "card": card,
        "deal": position,
        "product": position.product,
        "rows": rows,
        "sums": deal_page.side_sums(rows),
        "filled_count": sum(1 for row in rows if row.base),
        "moments": deal_page.time_line(position, rows),
        "working": deal_page.working_rows(position, card.orders),
        "decisions": deal_page.decision_rows((decisions.exclude(action="none") if acted else decisions)[:DECISIONS]),
        "acted": acted,
        "timeframes": offered,
        "timeframe": timeframe,
        "editable": position.account_id in current_scope().editable_ids,
        "story": story_of(position),
        "note_form": NoteForm(initial={"notes": position.notes}),
        "ceiling_pct": _used_pct(card),
        "main_facts": [fact for fact in card.outlook.facts if fact.section in MAIN_SECTIONS],
        "other_facts": [fact for fact in card.outlook.facts if fact.section not in MAIN_SECTIONS],
    }
    return render(request, "positions/deal.html", context)


def _timeframes(request: HttpRequest, position: Position) -> tuple[list[Timeframe], Timeframe]:
    """Return the timeframes that the deal's chart offers, and the one to show."""
    offered = chart_timeframes(position.product, deal_page.CHART_TIMEFRAMES)
    since, until = position.opened_at or position.created_at, position.closed_at or market_now(position.product)
    return offered, deal_page.chart_timeframe(request.GET.get("timeframe", ""), offered, since, until)


def _used_pct(card: DealCard) -> Decimal | None:
    ceiling, totals = card.position.budget_quote, card.totals
    return totals.entry_quote / ceiling * 100 if ceiling > ZERO and totals is not None else None


@login_required
@require_GET
def deal_chart(request: HttpRequest, pk: int) -> HttpResponse:
    """Candles, fills and price lines of a deal, for its chart."""
    position = found_deal(pk)
    _, timeframe = _timeframes(request, position)
    return JsonResponse(deal_page.chart_data(deal_card(position), _fills(position), timeframe))


# History and orders -------------------------------------------------------------------------------------------------


def _history_rows(request: HttpRequest, tab: str) -> tuple[HistoryFilter, Any]:
    if tab not in history.TABS:
        raise Http404
    form = HistoryFilter(request.GET)
    rows = Position.objects.filter(narrowed(request), status__in=history.TABS[tab][1])
    return form, history.ended_deals(rows, form.found)


@login_required
@require_GET
def deal_history(request: HttpRequest) -> HttpResponse:
    """Closed and failed deals, newest first."""
    tab = request.GET.get("tab", "closed")
    form, rows = _history_rows(request, tab)
    everything = Position.objects.filter(narrowed(request))
    counts = dict(history.without_kept(everything).order_by().values_list("status").annotate(Count("id")))
    context = {
        "nav": "history",
        "tab": tab,
        "tabs": [
            (name, label, sum(counts.get(status, 0) for status in statuses))
            for name, (label, statuses) in history.TABS.items()
        ],
        "form": form,
        "totals": history.sums(rows) if tab == "closed" else [],
        "page": Paginator(rows.select_related("product", "account"), PER_PAGE).get_page(request.GET.get("page")),
        "bots": _past_bots(everything),
    }
    return render(request, "positions/history.html", context)


def _past_bots(rows: Any) -> list[tuple[int, str]]:
    pairs = rows.filter(bot__isnull=False).order_by("bot__name").values_list("bot_id", "bot__name").distinct()
    return list(pairs)


@login_required
@require_GET
def history_export(request: HttpRequest, kind: str) -> HttpResponse:
    """The deals of the history as a file, narrowed as the page is."""
    _, rows = _history_rows(request, request.GET.get("tab", "closed"))
    return _file(kind, "deals", history.export_deals(rows))


@login_required
@require_GET
def order_list(request: HttpRequest) -> HttpResponse:
    """Every order that was ever written down, with its state, its ids and what went wrong."""
    form = OrderFilter(request.GET)
    rows = history.listed_orders(Order.objects.filter(narrowed(request)), form.found)
    page = Paginator(rows.select_related("position__product", "account"), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "nav": "orders",
        "form": form,
        "page": page,
        "rows": [
            (order, deal_page.title_of(order, order.position.strategy), *deal_page.state_of(order))
            for order in page.object_list
        ],
        "bots": _past_bots(Position.objects.filter(narrowed(request))),
    }
    return render(request, "positions/orders.html", context)


@login_required
@require_GET
def order_export(request: HttpRequest, kind: str) -> HttpResponse:
    """The orders as a file, narrowed as the page is."""
    form = OrderFilter(request.GET)
    rows = history.listed_orders(Order.objects.filter(narrowed(request)), form.found)
    return _file(kind, "orders", history.export_orders(rows))


@login_required
@require_GET
def deal_export(request: HttpRequest, pk: int, kind: str) -> HttpResponse:
    """One deal's orders as a file."""
    position = found_deal(pk)
    rows = Order.objects.filter(position=position).order_by("id")
    return _file(kind, f"deal-{position.deal_number or position.attempt_number}", history.export_orders(rows))


def _file(kind: str, name: str, rows: Iterable[dict[str, Any]]) -> HttpResponse:
    content_type, text = (
        ("text/csv", history.as_csv(rows)) if kind == "csv" else ("application/json", history.as_json(rows))
    )
    stamp = timezone.localtime(clock.now()).strftime("%Y-%m-%d")
    disposition = f'attachment; filename="tradebot-{name}-{stamp}.{kind}"'
    return HttpResponse(
        text, content_type=f"{content_type}; charset=utf-8", headers={"Content-Disposition": disposition}
    )
