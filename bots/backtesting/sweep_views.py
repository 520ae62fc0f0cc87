"""The pages of parameter sweeps: the list, the form, one sweep with its heat map. Parse, call one service, present."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from bots import strategies
from bots.backtest.statistics import OBJECTIVES
from bots.backtesting import sweeps
from bots.backtesting.form_page import RunForm
from bots.backtesting.forms import QUICK_RANGES, RunDraft, SweepDraft
from bots.backtesting.models import Sweep, SweepPoint
from bots.backtesting.pages import job_row
from bots.backtesting.sweep_pages import sweep_page
from bots.backtesting.views import (
    acted,
    edit_settings,
    new_bot,
    posted_draft,
    run_arguments,
    savable_accounts,
    shown_form,
    started_draft,
    tabs_context,
)
from positions.views import person
from tradebot.core.errors import InvalidInput
from tradebot.core.once_pages import acting, acting_when

PER_PAGE: Final = 30
BEST_SHOWN: Final = 20


def _sweep(pk: int) -> Sweep:
    found: Sweep = get_object_or_404(Sweep.objects.select_related("bot"), pk=pk)
    return found


def _point(pk: int) -> SweepPoint:
    found: SweepPoint = get_object_or_404(SweepPoint.objects.select_related("sweep"), pk=pk)
    return found


@login_required
@require_GET
def sweep_list(request: HttpRequest) -> HttpResponse:
    """Every sweep of the person, newest first."""
    page = Paginator(Sweep.objects.defer("settings").order_by("-pk"), PER_PAGE).get_page(request.GET.get("page"))
    rows = [job_row(sweep) for sweep in page.object_list]
    context = tabs_context("sweeps") | {
        "page": page,
        "rows": rows,
        "active": [row.job.pk for row in rows if row.is_active],
    }
    return render(request, "backtests/sweeps.html", context)


# The form -----------------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting_when("run")
def sweep_new(request: HttpRequest) -> HttpResponse:
    """Ask for a sweep: a backtest's form, and which settings vary how."""
    if request.method == "GET":
        key = request.GET.get("sweep", "")
        sweep = SweepDraft.from_sweep(_sweep(int(key[:18]))) if key.isdecimal() else SweepDraft.empty()
        draft = started_draft(request)
        form = shown_form(request, draft, for_sweep=True)
        if not key.isdecimal():
            sweep.suggest(form.sweepable)
        return _form(request, draft, sweep, form)
    draft, action = posted_draft(request)
    sweep = SweepDraft.from_post(request.POST)
    if action == "edit_settings":
        return edit_settings(request, draft)
    form, action = acted(request, draft, action, for_sweep=True)
    if action != "run":
        return _form(request, draft, sweep, form)
    own, arguments = sweep.arguments(draft.errors), run_arguments(form)
    if form.parsed is None or form.settings is None or arguments is None:
        return _form(request, draft, sweep, form, status=422)
    try:
        row = sweeps.start_sweep(
            person(request),
            bot=form.bot,
            strategy=form.settings.strategy,
            settings=form.parsed.to_json(),
            **own,
            **arguments,
        )
    except InvalidInput as error:
        draft.blame(error)
        return _form(request, draft, sweep, form, status=422)
    return redirect("sweep", pk=row.pk)


def _form(
    request: HttpRequest, draft: RunDraft, sweep: SweepDraft, form: RunForm | None = None, *, status: int = 200
) -> HttpResponse:
    form = form or shown_form(request, draft, for_sweep=True)
    labels = {one["path"]: one for one in form.sweepable}
    for parameter in sweep.parameters:
        parameter.setting = labels.get(parameter.path)
    context = {
        "nav": "backtests",
        "draft": draft,
        "form": form,
        "quick_ranges": QUICK_RANGES,
        "sweep": sweep,
        "combinations": sweep.count(),
        "objectives": OBJECTIVES.values(),
        "methods": Sweep.Method.choices,
    }
    return render(request, "backtests/new.html", context, status=status)


# One sweep ----------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def sweep_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One sweep: how far it has come, the heat map over two settings, the best combinations."""
    sweep = _sweep(pk)
    context: dict[str, Any] = {"nav": "backtests", "sweep": sweep, "row": job_row(sweep)}
    paths = {str(parameter.get("path", "")) for parameter in sweep.parameters}
    x, y = (request.GET.get(name, "") for name in ("x", "y"))
    heat = None
    if len(paths) > 1:
        heat = sweeps.heat_map(sweep, x if x in paths and x != y else "", y if y in paths and x != y else "")
    context["page"] = sweep_page(sweep, heat, sweeps.top(sweep, BEST_SHOWN), _labels(sweep))
    context["accounts"] = savable_accounts(sweep.exchange)
    return render(request, "backtests/sweep.html", context)


def _labels(sweep: Sweep) -> dict[str, str]:
    """Return the names of the settings that can vary, by path."""
    try:
        settings = strategies.get_strategy(sweep.strategy).settings_from_json(sweep.settings)
    except InvalidInput:
        return {}
    return {
        str(one["path"]): f"{one['label']}{f', {unit}' if (unit := one.get('unit')) else ''}"
        for one in sweeps.sweepable(settings)
    }


@login_required
@require_POST
@acting
def sweep_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask a sweep to stop; what has been tried stays."""
    sweeps.cancel_sweep(_sweep(pk))
    messages.success(request, "The sweep stops. What has been tried stays.")
    return redirect("sweeps") if request.POST.get("next") == "list" else redirect("sweep", pk=pk)


@login_required
@require_POST
@acting
def sweep_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a sweep with its points."""
    sweep = _sweep(pk)
    try:
        sweeps.delete_sweep(sweep)
    except InvalidInput as error:
        messages.error(request, error.message)
        return redirect("sweep", pk=pk)
    messages.success(request, f"“{sweep.name}” is deleted.")
    return redirect("sweeps")


@login_required
@require_POST
@acting
def point_open(request: HttpRequest, pk: int) -> HttpResponse:
    """Start a backtest with the settings of one combination."""
    point = _point(pk)
    try:
        run = sweeps.open_point(person(request), point)
    except InvalidInput as error:
        messages.error(request, error.message)
        return redirect("sweep", pk=point.sweep_id)
    return redirect("backtest", pk=run.pk)


@login_required
@require_POST
@acting
def point_save_bot(request: HttpRequest, pk: int) -> HttpResponse:
    """Make a stopped bot with the settings of one combination."""
    point = _point(pk)
    origin = f"sweep “{point.sweep.name}”, combination {point.number}"
    made = new_bot(request, point.sweep, sweeps.settings_of(point), origin)
    return redirect("bot", pk=made.pk) if made is not None else redirect("sweep", pk=point.sweep_id)
