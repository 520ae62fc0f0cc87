"""The portfolio page, and the small forms on it. Parse, call one service, present."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import manual_transfers
from accounts.forms import blame
from accounts.models import Account, Transfer
from accounts.selection import SignedInRequest
from positions.portfolio import page, untracked
from positions.portfolio.forms import PortfolioFilter, TransferForm
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.once_pages import acting
from tradebot.core.zones import zone_of

__all__ = ["left_out", "portfolio", "transfer_enter", "transfer_remove"]


@login_required
@require_GET
def portfolio(request: SignedInRequest) -> HttpResponse:
    """Show what the accounts in view hold, are worth and earned; to a page that renews itself the changing parts."""
    return _page(request)


@login_required
@require_POST
@acting
def transfer_enter(request: SignedInRequest, pk: int) -> HttpResponse:
    """Enter a deposit or withdrawal of an account whose venue does not list them."""
    account = get_object_or_404(Account.objects.editable(), pk=pk)
    form = TransferForm(request.POST, auto_id="transfer_%s")
    if form.is_valid():
        data = form.cleaned_data
        try:
            manual_transfers.enter(
                account, data["currency"], form.signed_amount, data["at"], data["note"], request.user.email
            )
        except InvalidInput as error:
            blame(form, error)
        else:
            messages.success(request, "The transfer is entered. It counts as money put in, not as profit.")
            return redirect("portfolio")
    return _page(request, transfer_form=form, transfer_account=account)


@login_required
@require_POST
@acting
def transfer_remove(request: SignedInRequest, pk: int) -> HttpResponse:
    """Take out a transfer that was entered by hand."""
    transfer = get_object_or_404(Transfer.objects.editable(), pk=pk)
    try:
        manual_transfers.remove(transfer, request.user.email)
    except InvalidInput as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The transfer is removed.")
    return redirect("portfolio")


@login_required
@require_POST
@acting
def left_out(request: SignedInRequest, pk: int) -> HttpResponse:
    """Leave a currency out of what an account is worth, or count it again."""
    account = get_object_or_404(Account.objects.editable(), pk=pk)
    currency, wanted = request.POST.get("currency", ""), request.POST.get("count") != "yes"
    try:
        untracked.set_left_out(account, currency, wanted, request.user.email)
    except InvalidInput as error:
        messages.error(request, error.message)
    except NotFound as error:
        raise Http404(error.message) from error
    else:
        said = "is left out of what {} is worth." if wanted else "counts in what {} is worth."
        messages.success(request, f"{currency.strip().upper()} {said.format(account.name)}")
    return redirect("portfolio")


def _page(request: SignedInRequest, **bound: Any) -> HttpResponse:
    form = PortfolioFilter(request.GET)
    context = page.gather(request, form, clock.now(), zone_of(request.user.timezone))
    context |= {"nav": "portfolio", "transfer_form": TransferForm(auto_id="transfer_%s"), **bound}
    refused = "transfer_account" in bound
    template = "portfolio/live.html" if request.headers.get("HX-Request") and not refused else "portfolio/page.html"
    return render(request, template, context, status=422 if refused else 200)
