"""The pages of backtests and of downloads of candles. Parse, call one service, present.

A form's own buttons work by a round trip; with scripts only the part that changed is swapped.
"""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import Account
from bots import services
from bots.backtesting import services as backtests
from bots.backtesting.compare import LINE_LETTERS, compared
from bots.backtesting.form_page import RunForm, download_missing, market_of, run_form, take_pair, usual_range
from bots.backtesting.forms import QUICK_RANGES, RunDraft, as_bot_draft, found_run, quick_span
from bots.backtesting.models import Backtest, BacktestDeal, JobStatus, Sweep
from bots.backtesting.pages import (
    candle_window,
    chart_timeframes_of,
    deal_table,
    fill_rows,
    job_row,
    range_text,
    result_page,
)
from bots.forms import BotDraft
from bots.models import Bot
from marketdata import history, sources
from marketdata.models import HistoryDownload, Product
from marketdata.timeframes import Timeframe
from positions.views import person
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.once_pages import acting, acting_when

__all__ = [
    "acted",
    "edit_settings",
    "new_bot",
    "posted_draft",
    "run_arguments",
    "savable_accounts",
    "shown_form",
    "started_draft",
    "tabs_context",
]

PER_PAGE: Final = 30
CANDLES_SHOWN: Final = 400
MOST_COMPARED: Final = len(LINE_LETTERS)
TYPED: Final = "backtest_typed"
EXPORTS: Final = ("deals", "fills", "json")


def _backtest(pk: int) -> Backtest:
    found: Backtest = get_object_or_404(Backtest.objects.select_related("bot"), pk=pk)
    return found


def tabs_context(tab: str) -> dict[str, Any]:
    """Return what the lists of backtests, sweeps and downloads have in common."""
    active = (JobStatus.QUEUED, JobStatus.RUNNING)
    return {
        "nav": "backtests",
        "tab": tab,
        "counts": {
            "runs": Backtest.objects.count(),
            "sweeps": Sweep.objects.count(),
            "downloads": HistoryDownload.objects.filter(status__in=active).count(),
        },
    }


# The lists ----------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def backtest_list(request: HttpRequest) -> HttpResponse:
    """Every backtest of the person, newest first; those under way show how far they have come."""
    rows = Backtest.objects.defer("curve", "monthly", "warnings", "settings").order_by("-pk")
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    found = [job_row(run) for run in page.object_list]
    context = tabs_context("runs") | {
        "page": page,
        "rows": found,
        "active": [row.job.pk for row in found if row.is_active],
        "most": MOST_COMPARED,
        "bots": Bot.objects.filter(archived_at__isnull=True).order_by("name")[:12],
    }
    return render(request, "backtests/list.html", context)


@login_required
@require_GET
def download_list(request: HttpRequest) -> HttpResponse:
    """Downloads of candles and what they brought."""
    rows = HistoryDownload.objects.select_related("product").order_by("-pk")
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    found = [(row, round(history.progress_of(row) * 100), range_text(row.start, row.end)) for row in page.object_list]
    active = [row.pk for row, _, _ in found if row.status in history.UNDER_WAY]
    context = tabs_context("downloads") | {"page": page, "rows": found, "active": active}
    return render(request, "backtests/downloads.html", context)


@login_required
@require_POST
@acting
def download_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask a download to stop; its candles stay."""
    row = get_object_or_404(HistoryDownload, pk=pk)
    history.cancel_download(row)
    messages.success(request, "The download stops. What it has fetched stays.")
    return redirect("downloads")


@login_required
@require_POST
@acting
def download_remove(request: HttpRequest, pk: int) -> HttpResponse:
    """Forget a download that is over; its candles stay."""
    row = get_object_or_404(HistoryDownload, pk=pk)
    try:
        history.remove_download(row)
    except InvalidInput as error:
        messages.error(request, error.message)
    return redirect("downloads")


# The form -----------------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting_when("run")
def backtest_new(request: HttpRequest) -> HttpResponse:
    """Ask for a backtest: of a bot, a template, an earlier run, or the fields of a bot form that was not saved."""
    if request.method == "GET":
        return _form(request, started_draft(request))
    draft, action = posted_draft(request)
    if action == "edit_settings":
        return edit_settings(request, draft)
    form, action = acted(request, draft, action)
    if action != "run":
        return _form(request, draft, form)
    arguments = run_arguments(form)
    if form.parsed is None or form.settings is None or arguments is None:
        return _form(request, draft, form, status=422)
    try:
        run = backtests.start_backtest(
            person(request),
            bot=form.bot,
            strategy=form.settings.strategy,
            settings=form.parsed.to_json(),
            **arguments,
        )
    except InvalidInput as error:
        draft.blame(error)
        return _form(request, draft, form, status=422)
    return redirect("backtest", pk=run.pk)


def run_arguments(form: RunForm) -> dict[str, Any] | None:
    """Return the arguments of ``start_backtest`` besides the settings, or None after blaming fields."""
    found = form.draft.arguments(form.quote)
    if found is not None and found["start"] is not None and found["end"] is not None:
        found["start"], found["end"] = form.fitted(found["start"], found["end"])
    return found


def _form(request: HttpRequest, draft: RunDraft, form: RunForm | None = None, *, status: int = 200) -> HttpResponse:
    context = {
        "nav": "backtests",
        "draft": draft,
        "form": form or shown_form(request, draft),
        "quick_ranges": QUICK_RANGES,
        "sweep": None,
    }
    return render(request, "backtests/new.html", context, status=status)


def shown_form(request: HttpRequest, draft: RunDraft, *, for_sweep: bool = False) -> RunForm:
    """Return what the form shows; settings that are not in sight are 404."""
    try:
        return run_form(draft, person(request), for_sweep=for_sweep)
    except NotFound as error:
        raise Http404(error.message) from error


def started_draft(request: HttpRequest) -> RunDraft:
    """Return what a new form begins with: ``?bot=``, ``?template=``, ``?backtest=`` or ``?sweep=``, or a preset."""
    key = request.GET.get("bot", "")
    if key:
        bot = get_object_or_404(Bot.objects.select_related("account"), pk=int(key[:18]) if key.isdecimal() else 0)
        draft = RunDraft.from_defaults(f"bot:{bot.pk}", backtests.defaults_of(bot))
        draft.name = draft.name or bot.name
    elif (run := _named_run(request)) is not None:
        draft = RunDraft.from_run(run)
    else:
        draft = RunDraft(origin=f"template:{request.GET.get('template', 'balanced')[:40]}")
    draft.exchange = draft.exchange or market_of(person(request))
    usual_range(draft)
    return draft


def _named_run(request: HttpRequest) -> Backtest | Sweep | None:
    try:
        return found_run(request.GET)
    except NotFound as error:
        raise Http404(error.message) from error


def posted_draft(request: HttpRequest) -> tuple[RunDraft, str]:
    """Return what was typed, here or in the bot form, and which button was pressed."""
    arrives = not any(name.startswith("r.") for name in request.POST)
    typed = request.session.pop(TYPED, None) if arrives else None
    draft = RunDraft.from_post(request.POST, typed if isinstance(typed, dict) else {})
    draft.exchange = draft.exchange or market_of(person(request), dict(draft.carried).get("account", ""))
    if arrives:
        draft.name = draft.name or dict(draft.carried).get("name", "")[:120]
        usual_range(draft)
        return draft, "arrive"
    return draft, request.POST.get("action", "run")


def acted(request: HttpRequest, draft: RunDraft, action: str, *, for_sweep: bool = False) -> tuple[RunForm, str]:
    """Do what one of the form's own buttons says, and return what it shows then and what is left to do."""
    act, _, what = action.partition(":")
    if act == "remove_pair":
        draft.symbols = [symbol for symbol in draft.symbols if symbol != what]
    elif act == "add_pair" and what:
        draft.symbols += [what[:40]] if what[:40] not in draft.symbols else []
    elif act in ("add_pair", "run") and draft.wanted_pair:
        take_pair(draft)  # a pair that was typed and not added yet is not lost by starting
        action = "add_pair"
    elif act in ("use_bot", "use_template"):
        draft.origin, draft.carried = f"{act.removeprefix('use_')}:{what[:40]}", []
    elif act == "range":
        held = history.coverage(draft.exchange, draft.symbols) if draft.symbols else []
        stretches: dict[int, tuple[int, int]] = {}
        for row in held:
            start, end = int(row.start.timestamp()), int(row.end.timestamp())
            known = stretches.get(row.product.pk, (start, end))
            stretches[row.product.pk] = min(start, known[0]), max(end, known[1])
        span = quick_span(what, int(clock.now().timestamp()), stretches.values())
        if span is None:
            draft.errors.setdefault("start", "No candles of these pairs are held yet.")
        else:
            draft.set_span(*span)
    if action.startswith("add_pair") and len(draft.symbols) == 1 and draft.exchange == sources.REPLAY:
        draft.timeframe = draft.start = draft.end = ""  # a recording has its own time
        usual_range(draft)
    form = shown_form(request, draft, for_sweep=for_sweep)
    if act == "download" and download_missing(form, person(request)):
        form = shown_form(request, draft, for_sweep=for_sweep)
    return form, action


def edit_settings(request: HttpRequest, draft: RunDraft) -> HttpResponse:
    """Lead to the bot form with these settings. What was typed here is kept until its "Backtest" button is pressed."""
    kind, key = draft.origin_kind, draft.origin_id
    try:
        bot, run = draft.bot(), found_run({kind: key})
    except NotFound as error:
        raise Http404(error.message) from error
    may_edit = bot is not None and Bot.objects.editable().filter(pk=bot.pk).exists()
    shown = None
    if kind == "bot" and bot is not None:
        rows = bot.bot_products.filter(enabled=True).order_by("pk")
        shown = BotDraft.from_bot(bot, list(rows.values_list("product__symbol", flat=True)))
    elif kind != "form":
        shown = as_bot_draft(run) if run is not None else BotDraft()
    request.session[TYPED] = draft.remembered(shown)
    if kind == "form":
        target = reverse("bot_edit", args=[bot.pk]) if bot is not None and may_edit else reverse("bot_new")
        return redirect(target, preserve_request=True)
    if kind == "bot" and bot is not None:
        return redirect("bot_edit", pk=bot.pk) if may_edit else redirect(f"{reverse('bot_new')}?like={bot.pk}")
    return redirect(f"{reverse('bot_new')}?{urlencode({kind: key})}")


# One backtest -------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def backtest_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One backtest: how far it has come, or what came of it."""
    run = _backtest(pk)
    context: dict[str, Any] = {"nav": "backtests", "run": run, "row": job_row(run)}
    if run.status == JobStatus.FINISHED:
        context |= {
            "result": result_page(run),
            "deals": deal_table(run, request.GET),
            "accounts": savable_accounts(run.exchange),
            "bot_name": services.free_name(person(request), run.name[:60]),
        } | _chart_context(request, run)
    elif run.is_over:
        context["result"] = None
    return render(request, "backtests/detail.html", context)


def savable_accounts(exchange: str) -> list[Account]:
    """Return the accounts on which a bot can be made, those on the same market first."""
    rows = Account.objects.editable().filter(archived_at__isnull=True).exclude(exchange="replay")
    return sorted(rows, key=lambda row: (row.exchange != exchange, not row.is_paper, not row.is_default, row.name))


def _chart_context(request: HttpRequest, run: Backtest) -> dict[str, Any]:
    symbol = request.GET.get("chart", "")
    symbols = [str(one) for one in run.symbols]
    symbol = symbol if symbol in symbols else symbols[0] if symbols else ""
    product = Product.objects.filter(exchange=run.exchange, symbol=symbol).first()
    if product is None:
        return {"chart": None}
    offered = chart_timeframes_of(run, product)
    return {
        "chart": product,
        "chart_symbols": symbols,
        "timeframes": offered,
        "timeframe": _timeframe(request, run, offered),
    }


def _timeframe(request: HttpRequest, run: Backtest, offered: list[Timeframe]) -> Timeframe | None:
    """Return the timeframe asked for, or the shortest in which the run fits into a few screens."""
    asked = request.GET.get("timeframe", "")
    if asked in offered:
        return Timeframe(asked)
    fitting = (tf for tf in offered if (run.end - run.start) // tf.seconds <= 3 * CANDLES_SHOWN)
    return next(fitting, offered[-1] if offered else None)


@login_required
@require_GET
def backtest_candles(request: HttpRequest, pk: int) -> HttpResponse:
    """A window of candles of one pair with the marks of the deals: ``?pair=&timeframe=&until=&count=``."""
    run = _backtest(pk)
    symbol = request.GET.get("pair", "") or next(iter(run.symbols), "")
    if symbol not in run.symbols:
        raise Http404
    product = get_object_or_404(Product, exchange=run.exchange, symbol=symbol)
    timeframe = _timeframe(request, run, chart_timeframes_of(run, product)) or Timeframe(run.timeframe)
    until, count = request.GET.get("until", ""), request.GET.get("count", "")
    window = candle_window(
        run,
        product,
        timeframe,
        int(until[:12]) if until.isdecimal() else None,
        int(count[:6]) if count.isdecimal() and int(count[:6]) else CANDLES_SHOWN,
    )
    return JsonResponse(window)


@login_required
@require_GET
def backtest_deal(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """The fills of one simulated deal: a row of the table to scripts, a page of its own without."""
    run = _backtest(pk)
    deal = get_object_or_404(BacktestDeal, backtest=run, number=number)
    product = Product.objects.filter(exchange=run.exchange, symbol=deal.symbol).first()
    context = {"nav": "backtests", "run": run, "deal": deal, "fills": fill_rows(deal), "product": product}
    name = "backtests/_fills.html" if request.headers.get("HX-Request") else "backtests/deal.html"
    return render(request, name, context)


@login_required
@require_POST
@acting
def backtest_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask a backtest to stop."""
    backtests.cancel_backtest(_backtest(pk))
    messages.success(request, "The backtest stops.")
    return redirect("backtests" if request.POST.get("next") == "list" else reverse("backtest", args=[pk]))


@login_required
@require_POST
@acting
def backtest_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a backtest with its deals."""
    run = _backtest(pk)
    try:
        backtests.delete_backtest(run)
    except InvalidInput as error:
        messages.error(request, error.message)
        return redirect("backtest", pk=pk)
    messages.success(request, f"“{run.name}” is deleted.")
    return redirect("backtests")


@login_required
@require_GET
def backtest_export(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Deals or fills as CSV, or everything as JSON."""
    if what not in EXPORTS:
        raise Http404
    run = _backtest(pk)
    if run.status != JobStatus.FINISHED:
        raise Http404
    name = f"backtest-{run.pk}-{slugify(run.name) or 'run'}"
    if what == "json":
        text, kind, name = json.dumps(backtests.as_json(run), indent=1), "application/json", f"{name}.json"
    else:
        text = backtests.deals_csv(run) if what == "deals" else backtests.fills_csv(run)
        kind, name = "text/csv; charset=utf-8", f"{name}-{what}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text, content_type=kind, headers=headers)


@login_required
@require_POST
@acting
def backtest_save_bot(request: HttpRequest, pk: int) -> HttpResponse:
    """Make a stopped bot with these settings on an account of one's choice."""
    run = _backtest(pk)
    made = new_bot(request, run, run.settings, f"backtest “{run.name}”")
    return redirect("bot", pk=made.pk) if made is not None else redirect("backtest", pk=pk)


def new_bot(request: HttpRequest, run: Backtest | Sweep, settings: Any, origin: str) -> Bot | None:
    """Make a stopped bot on the account that the request names; None after telling why not."""
    chosen = request.POST.get("account", "")
    account = get_object_or_404(Account.objects.editable(), pk=int(chosen[:18]) if chosen.isdecimal() else 0)
    wanted = request.POST.get("name", "").strip() or services.free_name(account.owner, run.name[:60])
    try:
        bot = services.create_bot(
            person(request),
            account=account,
            name=wanted,
            strategy=run.strategy,
            settings=settings,
            symbols=[str(symbol) for symbol in run.symbols],
            budget_kind=run.budget_kind,
            budget_pct=run.budget_pct,
            budget_fixed=run.budget_fixed,
            split_budget=run.split_budget,
            origin=origin,
        )
    except InvalidInput as error:
        messages.error(request, f"No bot was made: {error.message}")
        return None
    messages.success(request, f"“{bot.name}” is ready on {account.name}, stopped. Look it over, then start it.")
    return bot


# Comparing ----------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def backtest_compare(request: HttpRequest) -> HttpResponse:
    """Two to six finished runs side by side: ``?run=3&run=5``."""
    asked = [int(text[:18]) for text in request.GET.getlist("run") if text.isdecimal()]
    wanted = list(dict.fromkeys(asked))[:MOST_COMPARED]
    runs = backtests.compare(wanted)[:MOST_COMPARED]
    context: dict[str, Any] = {"nav": "backtests", "wanted": wanted, "most": MOST_COMPARED}
    context["comparison"] = compared(runs) if len(runs) > 1 else None
    others = Backtest.objects.filter(status=JobStatus.FINISHED).exclude(pk__in=[run.pk for run in runs])
    context["others"] = others.only("pk", "name", "status")[:30] if len(runs) < MOST_COMPARED else []
    context["runs"] = runs
    return render(request, "backtests/compare.html", context)
