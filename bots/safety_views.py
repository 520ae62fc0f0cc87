"""The kill switch's button, which is on every page."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from accounts.models import Account
from accounts.selection import SignedInRequest
from accounts.views import back
from bots import safety
from tradebot.core.errors import NotFound


@login_required
@require_POST
def stop_trading(request: SignedInRequest) -> HttpResponse:
    """Stop one account that the person may act on, or with ``account=all`` all of their own. Asks nothing."""
    asked = request.POST.get("account", "")
    if asked == "all":
        stopped = safety.stop_everything(request.user, request.user.email)
    else:
        if not (asked.isascii() and asked.isdigit() and len(asked) < 19):
            raise Http404("There is no such account.")
        account = get_object_or_404(Account.objects.editable(), pk=int(asked))
        try:
            stopped = safety.stop_account(account, request.user.email)
        except NotFound as error:
            raise Http404(error.message) from error
    messages.warning(request, stopped.message)
    return back(request, "dashboard")
