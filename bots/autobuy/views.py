"""What a person does to an account's auto-buy rules on its page. Parse, call one service, present."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts import views
from accounts.selection import SignedInRequest
from bots.autobuy import rules
from bots.autobuy.forms import RemoveForm, RuleForm
from tradebot.core.errors import NotFound
from tradebot.core.once_pages import acting

__all__ = ["auto_buy_remove", "auto_buy_set"]


@login_required
@require_POST
@acting
def auto_buy_set(request: SignedInRequest, pk: int) -> HttpResponse:
    """Make a rule, or change the one of that currency."""
    account = views.own_account(request, pk)
    form = RuleForm(request.POST, auto_id="rule_new_%s")
    return views.carry_out(
        request,
        account,
        form,
        "rule_form",
        lambda: rules.set_rule(account, form.cleaned_data["currency"], request.user.email, **form.changes()),
        "The rule is saved. It is looked at within half a minute.",
    )


@login_required
@require_POST
@acting
def auto_buy_remove(request: SignedInRequest, pk: int) -> HttpResponse:
    """Take a rule away; what it has resting is cancelled."""
    account = views.own_account(request, pk)
    form = RemoveForm(request.POST)
    try:
        rules.remove_rule(account, form.data.get("currency", ""), request.user.email)
    except NotFound as error:
        raise Http404(error.message) from error
    messages.success(request, "The rule is gone.")
    return redirect("account", pk=account.pk)
