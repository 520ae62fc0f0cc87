"""The pages of bots: the list, one bot, the form. Parse, call one service, present."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Page, Paginator
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import Account
from accounts.selection import narrowed, selected_account
from bots import services, templates
from bots.action_views import found_bot
from bots.backtesting.forms import as_bot_draft, found_run
from bots.bot_detail import bot_chart, bot_page
from bots.form_page import form_page
from bots.forms import BotDraft
from bots.models import Bot
from bots.pages import BotRow, bot_rows, finished_replays
from bots.signals.views import address_of
from marketdata.models import Product
from marketdata.services import chart_timeframes, market_now
from marketdata.timeframes import Timeframe
from positions.deal_page import CHART_TIMEFRAMES, chart_timeframe
from positions.views import person
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.once_pages import acting_when
from tradebot.core.scoping import current_scope

PER_PAGE: Final = 50
CHART_DAYS: Final = 3
CHART_CANDLES: Final = 110
STATES: Final = (("", "All"), ("running", "Running"), ("stopped", "Stopped"), ("orphaned", "Without account"))
SORTS: Final = {"name": "Name", "profit": "Profit", "deals": "Open deals", "newest": "Newest"}


def _bots() -> Any:
    return Bot.objects.filter(archived_at__isnull=True).select_related("account", "owner")


def _may_edit(bot: Bot) -> bool:
    scope = current_scope()
    return bot.owner_id == scope.owner_id if bot.account_id is None else bot.account_id in scope.editable_ids


# The list -----------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def bot_list(request: HttpRequest) -> HttpResponse:
    """Every bot of the account in view with its figures and its last decision."""
    everything = _bots().filter(narrowed(request))
    state, query, sort = request.GET.get("state", ""), request.GET.get("q", "").strip(), request.GET.get("sort", "name")
    found = list(_narrowed_list(everything, state, query))
    page, rows = _sorted(found, sort if sort in SORTS else "name", request)
    context = {
        "nav": "bots",
        "rows": rows,
        "page": page,
        "count": everything.count(),
        "found_count": len(found),
        "running": everything.filter(status=Bot.Status.RUNNING).exclude(finished_replays()).count(),
        "state": state,
        "states": STATES,
        "sort": sort,
        "sorts": SORTS.items(),
        "query": query,
        "presets": templates.presets(),
        "own_templates": templates.own_templates(person(request)),
        "can_create": bool(current_scope().editable_ids),
        "editable": current_scope().editable_ids,
    }
    return render(request, "bots/list.html", context)


def _narrowed_list(rows: Any, state: str, query: str) -> Any:
    if state == "running":
        rows = rows.filter(status=state).exclude(finished_replays())
    elif state == "stopped":
        rows = rows.filter(Q(status=state) | finished_replays())
    elif state == "orphaned":
        rows = rows.filter(account__isnull=True)
    return rows.filter(name__icontains=query[:80]) if query else rows


def _sorted(bots: list[Bot], sort: str, request: HttpRequest) -> tuple[Page[Any], list[BotRow]]:
    """Return a page and its rows. Name and age are known before; profit and deals need the figures of every bot."""
    number = request.GET.get("page")
    if sort in ("profit", "deals"):
        everything = bot_rows(bots)
        everything.sort(key=lambda row: -(row.realised if sort == "profit" else row.open_deals))
        page: Page[Any] = Paginator(everything, PER_PAGE).get_page(number)
        return page, list(page.object_list)
    bots.sort(key=lambda bot: (-bot.pk,) if sort == "newest" else (bot.name.lower(), bot.pk))
    page = Paginator(bots, PER_PAGE).get_page(number)
    return page, bot_rows(list(page.object_list))


# One bot ------------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def bot_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One bot: figures, why it did not trade, open deals, chart, decisions, settings and their changes."""
    bot = found_bot(pk)
    acted = request.GET.get("show") == "acted"
    page = bot_page(
        bot, request.GET.get("pair", ""), request.GET.get("side", ""), acted, request.GET.get("trail", "1")[:9]
    )
    moves = Account.objects.editable().filter(owner_id=bot.owner_id, archived_at__isnull=True)
    may_edit = _may_edit(bot)
    context = {
        "nav": "bots",
        "bot": bot,
        "page": page,
        "row": page.row,
        "chart_pair": page.chosen.product if page.chosen else None,
        "timeframe": _timeframe(request, page.chosen.product) if page.chosen else "",
        "timeframes": chart_timeframes(page.chosen.product, CHART_TIMEFRAMES) if page.chosen else [],
        "acted": acted,
        "editable": may_edit,
        "hook_address": address_of(request, page.signals.hook),
        "moves": moves.exclude(pk=bot.account_id) if not page.cards and may_edit else [],
    }
    return render(request, "bots/detail.html", context)


def _timeframe(request: HttpRequest, product: Product) -> Timeframe:
    now, offered = clock.now(), chart_timeframes(product, CHART_TIMEFRAMES)
    return chart_timeframe(request.GET.get("timeframe", "15m"), offered, now - timedelta(days=CHART_DAYS), now)


@login_required
@require_GET
def bot_candles(request: HttpRequest, pk: int, product_pk: int) -> HttpResponse:
    """Candles of one of the bot's pairs with its entries, adds and exits, for the chart."""
    bot = found_bot(pk)
    product = get_object_or_404(Product, pk=product_pk)
    if not bot.bot_products.filter(product=product).exists():
        raise Http404
    timeframe = _timeframe(request, product)
    since = market_now(product) - timedelta(seconds=timeframe.seconds * CHART_CANDLES)
    return JsonResponse(bot_chart(bot, product, timeframe, since))


# The form -----------------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting_when("save", "save_start")
def bot_new(request: HttpRequest) -> HttpResponse:
    """Make a bot: empty, from a template, or like another one. The form's own buttons only change the form."""
    if request.method == "GET":
        return _form(request, _new_draft(request), None)
    draft, action = _posted(request)
    if action not in ("save", "save_start"):
        return _form(request, draft, None, take_pair=action == "add_pair")
    account = Account.objects.editable().filter(pk=draft.account_id if draft.account_id.isdecimal() else 0).first()
    if account is None:
        draft.errors["account"] = "Choose an account."
    parsed, budget = draft.parsed(), draft.budget()
    if account is None or parsed is None or budget is None:
        return _form(request, draft, None, status=422)
    try:
        bot = services.create_bot(person(request), account=account, strategy=draft.strategy, **draft.arguments(parsed))
        if action == "save_start":
            services.start_bot(bot, person(request).email)
    except InvalidInput as error:
        draft.blame(error)
        return _form(request, draft, None, status=422)
    state = "running" if action == "save_start" else "ready; start it when you like"
    messages.success(request, f"“{bot.name}” is {state}.")
    return redirect("bot", pk=bot.pk)


@login_required
@require_http_methods(["GET", "POST"])
@acting_when("save")
def bot_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a bot. Open deals keep the settings they opened with."""
    bot = found_bot(pk, editable=True)
    if request.method == "GET":
        symbols = list(bot.bot_products.filter(enabled=True).order_by("pk").values_list("product__symbol", flat=True))
        return _form(request, BotDraft.from_bot(bot, symbols), bot)
    draft, action = _posted(request)
    if draft.strategy != bot.strategy:
        raise Http404
    if action != "save":
        return _form(request, draft, bot, take_pair=action == "add_pair")
    parsed, budget = draft.parsed(), draft.budget()
    if parsed is None or budget is None:
        return _form(request, draft, bot, status=422)
    try:
        changed = services.update_bot(bot, actor=person(request).email, **draft.arguments(parsed))
    except InvalidInput as error:
        draft.blame(error)
        return _form(request, draft, bot, status=422)
    open_deals = services.open_deal_count(bot)
    kept = f" The {open_deals} open deals keep the settings they opened with." if open_deals else ""
    messages.success(
        request, "Saved." + kept if changed.settings_version != bot.settings_version else "Nothing changed."
    )
    return redirect("bot", pk=pk)


@login_required
@require_POST
def bot_preview(request: HttpRequest) -> HttpResponse:
    """The ladder, its checks and the errors of what is typed, for the form's live side."""
    bot_pk = request.POST.get("bot", "")
    bot = found_bot(int(bot_pk[:18]), editable=True) if bot_pk.isdecimal() else None
    draft, _ = _posted(request)
    return render(request, "bots/_live.html", {"form": form_page(draft, bot), "draft": draft, "live": True})


def _posted(request: HttpRequest) -> tuple[BotDraft, str]:
    try:
        draft = BotDraft.from_post(request.POST)
    except InvalidInput as error:
        raise Http404(error.message) from error
    action = request.POST.get("action", "save")
    draft.apply(action)
    if draft.wanted_pair and action in ("save", "save_start"):
        action = "add_pair"  # a pair that was typed and not added yet is not lost by saving
    return draft, action


def _new_draft(request: HttpRequest) -> BotDraft:
    """Return what a new form starts from: ``?template=``, ``?like=`` another bot, a ``?backtest=`` or ``?sweep=``, or
    the usual preset."""
    account = selected_account(request)
    if like := request.GET.get("like", ""):
        bot = found_bot(int(like[:18]) if like.isdecimal() else 0)
        symbols = list(bot.bot_products.filter(enabled=True).order_by("pk").values_list("product__symbol", flat=True))
        draft = BotDraft.from_bot(bot, symbols)
        draft.name = services.free_name(bot.owner, bot.name)
    elif slug := request.GET.get("template", ""):
        try:
            template = templates.find_template(slug)
        except NotFound as error:
            raise Http404(error.message) from error
        draft = BotDraft.from_settings(template.strategy, template.settings)
        draft.name = services.free_name(person(request), template.name)
    elif request.GET.keys() & {"backtest", "sweep"}:
        try:
            run = found_run(request.GET)
        except NotFound as error:
            raise Http404(error.message) from error
        draft = as_bot_draft(run) if run is not None else BotDraft.empty()
        draft.name = services.free_name(person(request), draft.name)
    else:
        draft = BotDraft.empty()
    if account is not None and not request.GET.get("like"):
        draft.account_id = str(account.pk)
    return draft


def _form(
    request: HttpRequest, draft: BotDraft, bot: Bot | None, *, status: int = 200, take_pair: bool = False
) -> HttpResponse:
    form = form_page(draft, bot, take_pair=take_pair)
    context = {
        "nav": "bots",
        "form": form,
        "draft": draft,
        "bot": bot,
        "sections": draft.sections(form.quote),
    }
    return render(request, "bots/form.html", context, status=status)
