"""The pages of perpetual futures: open positions, opening one, its take profit and stop, an account's settings.

Parse, call one service, present. Opening has two steps that work without scripts: first what it would come to, then
doing it.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from accounts import perps_settings
from accounts.exchanges.factory import venue_of
from accounts.models import Account, PerpsSettings
from accounts.selection import choices, narrowed, selected_account
from marketdata import sources
from positions import perps
from positions.cards import deal_card, deal_cards
from positions.models import Position
from positions.perps_forms import BracketForm, OpenForm, PerpsSettingsForm
from positions.states import POSITION_ACTIVE
from positions.views import found_deal, person
from tradebot.core.decimals import plain
from tradebot.core.errors import InvalidInput, TradebotError
from tradebot.core.once_pages import acting, acting_when
from tradebot.core.scoping import current_scope

__all__ = ["account_perps", "deal_bracket", "perps_list", "perps_new"]


@login_required
@require_GET
def perps_list(request: HttpRequest) -> HttpResponse:
    """Every open position in a perpetual of the accounts in view."""
    rows = Position.objects.filter(narrowed(request), status__in=POSITION_ACTIVE, product__kind="perpetual")
    cards = deal_cards(list(rows.select_related("product", "account", "bot").order_by("-id")))
    context = {
        "nav": "perps",
        "cards": cards,
        "editable": current_scope().editable_ids,
        "account": _account_to_trade(request),
    }
    return render(request, "positions/perps.html", context)


def _account_to_trade(request: HttpRequest) -> Account | None:
    """Return the account that a new position would be on: the one in view, or the person's first; not a recording."""
    mine = [choice.account for choice in choices(request) if choice.editable]
    traded = [account for account in mine if account.exchange != sources.REPLAY]
    shown = selected_account(request)
    if shown is not None:
        return shown if shown in traded else None
    return next((account for account in traded if account.is_default), traded[0] if traded else None)


# Opening --------------------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting_when("open")
def perps_new(request: HttpRequest, pk: int) -> HttpResponse:
    """Open a position on an account: what it would come to, then doing it."""
    account = _editable_account(pk)
    settings = perps_settings.settings_of(account)
    products = perps.products_of(account)
    limits = [perps_settings.most_leverage(settings, row) for row in products] or [settings.max_leverage]
    asked: dict[str, Any] = {"products": products, "most_leverage": (min(limits), max(limits))}
    if request.method == "POST":
        form = OpenForm(request.POST, **asked)
    else:
        first = {"leverage": settings.default_leverage, "margin_mode": settings.margin_mode, **_given(request)}
        form = OpenForm(initial=first, **asked)
    plan = None
    if form.is_bound and form.is_valid():
        try:
            plan, answer = _planned(request, account, dict(form.cleaned_data))
        except TradebotError as error:
            error.field = {"base": "margin", "price": "limit_price"}.get(error.field or "", error.field)
            form.blame(error)
        else:
            if answer is not None:
                (messages.error if answer.bracket.alarm_code else messages.success)(request, answer.message)
                return redirect("deal", pk=answer.position.pk)
    context = {
        "nav": "perps",
        "account": account,
        "settings": settings,
        "products": products,
        "form": form,
        "plan": plan,
        "product": form.cleaned_data.get("product") if plan is not None else None,
        "offered": _offers(account),
    }
    return render(request, "positions/perps_new.html", context, status=422 if form.errors else 200)


def _given(request: HttpRequest) -> dict[str, str]:
    return {name: request.GET[name][:40] for name in ("product", "direction") if name in request.GET}


def _planned(
    request: HttpRequest, account: Account, asked: dict[str, Any]
) -> tuple[perps.Plan | None, perps.Opening | None]:
    """Return what it would come to, or, when that was confirmed, the answer to doing it."""
    product, direction = asked.pop("product"), asked.pop("direction")
    if request.POST.get("action") == "open":
        who = person(request)
        return None, perps.open_position(account, product, direction, actor=who.email, created_by=who, **asked)
    leverage, mode = asked.pop("leverage"), asked.pop("margin_mode")
    plan, _ = perps.plan_of(account, product, direction, leverage, mode, **asked)
    return plan, None


def _offers(account: Account) -> bool:
    """Return whether the account's venue trades perpetuals for us."""
    try:
        return venue_of(account).capabilities.perpetuals
    except TradebotError:
        return False


def _editable_account(pk: int) -> Account:
    """Return an account that the person may trade on. Raises Http404, also for recordings and archived ones."""
    account: Account = get_object_or_404(Account.objects.editable(), pk=pk, archived_at__isnull=True)
    if account.exchange == sources.REPLAY:
        raise Http404
    return account


# Take profit and stop -------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting
def deal_bracket(request: HttpRequest, pk: int) -> HttpResponse:
    """Change take profit and stop of a position."""
    deal = found_deal(pk, editable=True)
    card = deal_card(deal)
    if card.perps is None:
        raise Http404
    bracket = card.perps.bracket
    wanted = {"take_profit": bracket.take_profit, "stop_loss": bracket.stop_loss}
    initial = {name: plain(price) for name, price in wanted.items() if price is not None}
    form = BracketForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            answer = perps.change_bracket(deal, person(request).email, **form.cleaned_data)
        except TradebotError as error:
            form.blame(error)
        else:
            (messages.error if answer.bracket.alarm_code else messages.success)(request, answer.message)
            return redirect("deal", pk=pk)
    context = {
        "nav": "deals",
        "deal": deal,
        "product": deal.product,
        "card": card,
        "form": form,
        "ended": deal.closed_at is not None,
    }
    return render(request, "positions/bracket.html", context, status=422 if form.errors else 200)


# Settings -------------------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting
def account_perps(request: HttpRequest, pk: int) -> HttpResponse:
    """How an account trades perpetuals; the owner's to say."""
    account = get_object_or_404(Account, pk=pk, owner_id=person(request).pk)
    settings = perps_settings.settings_of(account)
    posted = request.POST if request.method == "POST" else None
    form = PerpsSettingsForm(posted, instance=settings if posted is None else PerpsSettings(account=account))
    if posted is not None and form.is_valid():
        try:
            perps_settings.update(account, person(request).email, **form.cleaned_data)
        except InvalidInput as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
        else:
            messages.success(request, "Saved. Open positions stay as they are.")
            return redirect("perps")
    context = {"nav": "perps", "account": account, "form": form}
    return render(request, "positions/perps_settings.html", context, status=422 if form.errors else 200)
