"""The pages on which a coin of an account is sold or converted: what it would come to, then doing it.

Parse, call one service, present. Both steps work without scripts.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from accounts.models import Account
from accounts.selection import SignedInRequest
from marketdata import sources
from positions.intents import unclaimed
from positions.sales import plan, service
from positions.sales.forms import ExchangeForm
from positions.sales.story import StoryState
from positions.sales.ways import Way, ways_from
from tradebot.core.decimals import HUNDRED, ZERO, floor_to, for_money, plain
from tradebot.core.errors import InvalidInput, TradebotError
from tradebot.core.once_pages import acting

__all__ = ["convert", "sell"]

SHARES: Final = (25, 50, 75)
LEVELS: Final = {StoryState.DONE: messages.SUCCESS, StoryState.WORKING: messages.INFO}


@login_required
@require_http_methods(["GET", "POST"])
@acting
def sell(request: SignedInRequest, pk: int) -> HttpResponse:
    """Sell a coin for what its pair is quoted in."""
    return _page(request, pk, selling=True)


@login_required
@require_http_methods(["GET", "POST"])
@acting
def convert(request: SignedInRequest, pk: int) -> HttpResponse:
    """Convert one currency into another one."""
    return _page(request, pk, selling=False)


def _page(request: SignedInRequest, pk: int, *, selling: bool) -> HttpResponse:
    account = _account_to_trade(pk)
    given = request.POST if request.method == "POST" else request.GET
    currency = given.get("currency", "").strip()[:20]
    ways = {name: way for name, way in ways_from(account, currency).items() if way.is_sale or not selling}
    form = _form(given, ways, selling=selling, is_posted=request.method == "POST")
    is_valid = form.is_bound and form.is_valid()
    if request.method == "POST" and is_valid:
        try:
            answer = _carried_out(request, account, currency, form, selling=selling)
        except TradebotError as error:
            form.blame(error)
        else:
            messages.add_message(request, LEVELS.get(answer.state, messages.WARNING), answer.message)
            return redirect("deal", pk=answer.story.last.pk)
    outlook, problem = None, ""
    if is_valid and not form.errors:
        try:
            outlook = plan.outlook(account, currency, form.cleaned_data["into"], form.cleaned_data["amount"])
        except InvalidInput as error:
            form.blame(error)
        except TradebotError as error:
            problem = error.message
    free = _free(account, currency) if ways else None
    chosen = ways.get(str(form["into"].value() or ""))
    context = {
        "nav": "portfolio",
        "account": account,
        "currency": currency,
        "selling": selling,
        "ways": ways,
        "form": form,
        "free": free,
        "shares": _shares(free, chosen),
        "outlook": outlook,
        "exact_amount": "" if outlook is None else plain(outlook.plan.amount),
        "problem": problem,
    }
    return render(request, "portfolio/exchange.html", context, status=422 if request.method == "POST" else 200)


def _account_to_trade(pk: int) -> Account:
    """Return an account that the person may trade on. Raises Http404, also for recordings and archived ones."""
    account: Account = get_object_or_404(Account.objects.editable(), pk=pk, archived_at__isnull=True)
    if account.exchange == sources.REPLAY:
        raise Http404
    return account


def _form(given: Any, ways: dict[str, Way], *, selling: bool, is_posted: bool) -> ExchangeForm:
    """Return the form as it was sent; a sale that nobody has chosen anything for begins with the usual currency."""
    targets = [(name, f"{name}, over {way.over}" if way.over else name) for name, way in ways.items()]
    if is_posted or given.get("into"):
        return ExchangeForm(given, targets=targets)
    if selling and targets:
        return ExchangeForm({"into": targets[0][0], "amount": given.get("amount", "")}, targets=targets)
    first = {"amount": given.get("amount", "")[:40]}
    return ExchangeForm(initial=first, targets=[("", "choose a currency"), *targets])


def _carried_out(
    request: SignedInRequest, account: Account, currency: str, form: ExchangeForm, *, selling: bool
) -> service.Exchanged:
    act = service.sell if selling else service.convert
    found = form.cleaned_data
    who = request.user
    return act(account, currency, found["into"], amount=found["amount"], actor=who.email, created_by=who)


def _free(account: Account, currency: str) -> Decimal | None:
    """Return what may be sold now; None where that is not known."""
    try:
        return unclaimed(account, currency)
    except TradebotError:
        return None


def _shares(free: Decimal | None, way: Way | None) -> list[tuple[int, str]]:
    """Return parts of what is free to choose from, as amounts at the step of what would be sold."""
    if not free:
        return []
    step = Decimal("0.00000001")
    if way is not None:
        step = way.first.product.base_increment if way.first.sells else way.first.product.quote_increment
    with for_money():
        parts = [(share, floor_to(free * share / HUNDRED, step)) for share in SHARES]
    return [(share, plain(amount)) for share, amount in parts if amount > ZERO]
