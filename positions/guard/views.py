"""What a person does to an account's guard on its page. Parse, call one service, present."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from accounts import views
from accounts.models import Account, PropGuardRules
from accounts.selection import SignedInRequest
from positions.guard import limits, records, service
from positions.guard.forms import LimitsForm, ReleaseForm, StopForm
from tradebot.core.once_pages import acting

__all__ = ["guard_limits", "guard_release", "guard_stop"]


@login_required
@require_POST
@acting
def guard_limits(request: SignedInRequest, pk: int) -> HttpResponse:
    """Change the limits, or switch the guard on or off."""
    account = views.own_account(request, pk)
    rows = records.rules_of(account) or PropGuardRules(account=account)
    form = LimitsForm(request.POST, instance=rows, auto_id="guard_%s")
    return views.carry_out(
        request,
        account,
        form,
        "guard_form",
        lambda: limits.change_rules(account, request.user.email, **form.changes()),
        "The loss limits are saved.",
    )


@login_required
@require_POST
@acting
def guard_stop(request: SignedInRequest, pk: int) -> HttpResponse:
    """Stop the account by hand, after its name was typed. Whoever may trade on it may stop it."""
    account = get_object_or_404(Account.objects.editable().select_related("owner"), pk=pk)
    form = StopForm(request.POST, expected=account.name, auto_id="stop_%s")
    return views.carry_out(
        request,
        account,
        form,
        "stop_form",
        lambda: service.kill(account, request.user.email, form.cleaned_data["note"]),
        "The account is stopped. Its deals are being closed at market.",
    )


@login_required
@require_POST
@acting
def guard_release(request: SignedInRequest, pk: int) -> HttpResponse:
    """Release a stopped account, after its name was typed."""
    account = views.own_account(request, pk)
    form = ReleaseForm(request.POST, expected=account.name, auto_id="release_%s")
    return views.carry_out(
        request,
        account,
        form,
        "release_form",
        lambda: limits.reset(
            account, request.user.email, form.cleaned_data["confirm"], rebase=form.cleaned_data["rebase"]
        ),
        "The account is released. Its bots stay stopped until you start them.",
    )
