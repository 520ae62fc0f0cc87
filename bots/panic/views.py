"""Selling everything of an account: what it would come to, the confirmation, and how it goes. Parse, call, present."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods

from accounts import confirming, forms, trading
from accounts.safety_forms import ArmForm
from accounts.selection import SignedInRequest
from accounts.views import own_account
from bots.models import Bot, PanicRun, PanicStep
from bots.panic import services
from tradebot.core.errors import InvalidInput
from tradebot.core.once_pages import acting


@login_required
@acting
@sensitive_post_parameters("code")
@require_http_methods(["GET", "POST"])
def panic_new(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show what there is to sell, and sell it after the account's name was typed and the second factor confirmed."""
    account = own_account(request, pk)
    if (under_way := services.running_run(account)) is not None:
        return redirect("panic_run", pk=under_way.pk)
    ready = account.is_paper or confirming.has_second_factor(request.user)
    takes_codes = confirming.takes_codes(request.user)
    form = ArmForm(request.POST if request.method == "POST" else None, account=account, takes_codes=takes_codes)
    if request.method == "POST" and ready and form.is_valid():
        try:
            trading.check_name(account, form.cleaned_data["name"])
            if not account.is_paper:
                confirming.confirm(request.user, form.cleaned_data["code"], request)
            run = services.start(account, request.user.email, form.cleaned_data["name"])
        except InvalidInput as error:
            forms.blame(form, error)
        else:
            return redirect("panic_run", pk=run.pk)
    context = {
        "nav": "accounts",
        "account": account,
        "form": form,
        "ready": ready,
        "ready_mail": ready or confirming.may_set_one_up(request.user),
        "takes_codes": takes_codes,
        "outlook": services.outlook(account),
        "bots": Bot.objects.filter(account=account, status=Bot.Status.RUNNING).count(),
        "last": PanicRun.objects.filter(account=account).first(),
    }
    return render(request, "panic/new.html", context, status=200 if request.method == "GET" else 422)


@login_required
@require_GET
def panic_run(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show how a panic sale goes, step by step, and what is left when it has ended."""
    run = get_object_or_404(PanicRun.objects.select_related("account"), pk=pk)
    steps = list(PanicStep.objects.filter(run=run).select_related("position__product", "order"))
    over = sum(step.state in (PanicStep.State.DONE, PanicStep.State.FAILED) for step in steps)
    context: dict[str, Any] = {
        "nav": "accounts",
        "run": run,
        "account": run.account,
        "steps": steps,
        "over": over,
        "failed": sum(step.state == PanicStep.State.FAILED for step in steps),
        "owned": run.account.owner_id == request.user.pk,
    }
    return render(request, "panic/run.html", context)
