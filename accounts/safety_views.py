"""Connecting an exchange, its keys, arming and limits. Parse, confirm who asks, call one service, present."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from accounts import confirming, credentials, forms, safety_forms, trading
from accounts.exchanges.connectable import offered, offered_as
from accounts.models import Account
from accounts.selection import SignedInRequest
from accounts.views import account_page, own_account
from tradebot.core.errors import InvalidInput, NotFound, TradebotError
from tradebot.core.once_pages import acting

SECRET_FIELDS = ("api_key", "api_secret", "passphrase", "code")


# Keys -----------------------------------------------------------------------------------------------------------------


@login_required
@never_cache
@sensitive_post_parameters(*SECRET_FIELDS)
@sensitive_variables("form")
@require_http_methods(["GET", "POST"])
def exchange_connect(request: SignedInRequest) -> HttpResponse:
    """Connect an exchange account: its keys are tried, and kept only when the venue takes them."""
    asked = request.POST.get("exchange") or request.GET.get("exchange") or offered()[0].slug
    try:
        venue = offered_as(asked)
    except InvalidInput:
        venue = offered()[0]
    context: dict[str, Any] = {
        "nav": "accounts",
        "venue": venue,
        "venues": offered(),
        "ready": confirming.has_second_factor(request.user),
        "ready_mail": confirming.may_set_one_up(request.user),
        "takes_codes": confirming.takes_codes(request.user),
    }
    asks_code = not confirming.confirmed_for_keys(request)
    if request.method == "GET" or not context["ready"]:
        context["form"] = safety_forms.ConnectForm(
            venue=venue,
            asks_code=asks_code,
            takes_codes=context["takes_codes"],
            initial={"name": f"{venue.name} main"},
        )
        return render(request, "accounts/connect.html", context, status=200 if request.method == "GET" else 422)
    form = safety_forms.ConnectForm(request.POST, venue=venue, asks_code=asks_code, takes_codes=context["takes_codes"])

    def connect() -> Account:
        keys = credentials.read_keys(venue.slug, *form.keys)
        accept = form.cleaned_data["accept_withdrawal"]
        return credentials.connect(request.user, venue.slug, form.cleaned_data["name"], keys, accept_withdrawal=accept)[
            0
        ]

    account = _with_keys(request, form, connect)
    if account is None:
        return render(request, "accounts/connect.html", {**context, "form": form}, status=422)
    messages.success(request, f"{account.name} is connected. It is read-only: nothing is bought until you arm it.")
    return redirect("account", pk=account.pk)


@login_required
@never_cache
@sensitive_post_parameters(*SECRET_FIELDS)
@sensitive_variables("form")
@require_http_methods(["GET", "POST"])
def account_keys(request: SignedInRequest, pk: int) -> HttpResponse:
    """Put other keys in the place of an account's."""
    account = own_account(request, pk)
    if account.is_paper:
        return redirect("account", pk=pk)
    venue = offered_as(account.exchange)
    ready = confirming.has_second_factor(request.user)
    asks_code = not confirming.confirmed_for_keys(request)
    context: dict[str, Any] = {
        "nav": "accounts",
        "venue": venue,
        "account": account,
        "ready": ready,
        "ready_mail": confirming.may_set_one_up(request.user),
        "takes_codes": confirming.takes_codes(request.user),
    }
    if request.method == "GET" or not ready:
        context["form"] = safety_forms.KeysForm(venue=venue, asks_code=asks_code, takes_codes=context["takes_codes"])
        return render(request, "accounts/connect.html", context, status=200 if request.method == "GET" else 422)
    form = safety_forms.KeysForm(request.POST, venue=venue, asks_code=asks_code, takes_codes=context["takes_codes"])

    def replace() -> Any:
        keys = credentials.read_keys(venue.slug, *form.keys)
        accept = form.cleaned_data["accept_withdrawal"]
        return credentials.replace_keys(account, request.user.email, keys, accept_withdrawal=accept)

    if _with_keys(request, form, replace) is None:
        return render(request, "accounts/connect.html", {**context, "form": form}, status=422)
    messages.success(request, "The keys are replaced. The ones before are not used any more: delete them at the venue.")
    return redirect("account", pk=pk)


def _with_keys(request: SignedInRequest, form: safety_forms.KeysForm, act: Callable[[], Any]) -> Any:
    """Confirm who asks, then ``act``; None, and errors in the form, when either is refused. Fields come back empty."""
    if not form.is_valid():
        return None
    try:
        if "code" in form.fields:
            confirming.confirm(request.user, form.cleaned_data["code"], request)
            confirming.remember_for_keys(request)
            del form.fields["code"]
        return act()
    except InvalidInput as error:
        forms.blame(form, error)
        if error.code == "key_may_withdraw":
            form.show_warning()
    except TradebotError as error:
        form.add_error(None, f"{error.message} Nothing was stored. [{error.code}]")
    return None


@login_required
@acting
@require_POST
def account_keys_check(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask the venue again what the account's keys may do."""
    account = own_account(request, pk)
    try:
        row = credentials.check_again(account, request.user.email)
    except TradebotError as error:
        messages.error(request, f"{error.message} [{error.code}]")
    else:
        if row.problem:
            messages.error(request, row.problem)
        else:
            messages.success(request, "The exchange takes the key. What it may do is as shown.")
    return redirect("account", pk=pk)


@login_required
@acting
@require_POST
def account_keys_remove(request: SignedInRequest, pk: int) -> HttpResponse:
    """Forget the account's keys at once."""
    account = own_account(request, pk)
    try:
        credentials.remove_keys(account, request.user.email)
    except InvalidInput as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The keys are removed. Delete them at the exchange as well.")
    return redirect("account", pk=pk)


# Trading --------------------------------------------------------------------------------------------------------------


@login_required
@acting
@sensitive_post_parameters("code")
@require_POST
def account_arm(request: SignedInRequest, pk: int) -> HttpResponse:
    """Let the account trade, after its name was typed and the second factor confirmed."""
    account = own_account(request, pk)
    form = safety_forms.ArmForm(
        request.POST, account=account, takes_codes=confirming.takes_codes(request.user), auto_id="arm_%s"
    )
    if form.is_valid():
        try:
            trading.check_name(account, form.cleaned_data["name"])  # a code is not spent on a misspelt name
            if not account.is_paper:
                confirming.confirm(request.user, form.cleaned_data["code"], request)
            account = trading.arm(account, request.user.email, form.cleaned_data["name"])
        except InvalidInput as error:
            forms.blame(form, error)
        else:
            done = "trades again" if account.is_paper else "is armed: orders there use real money from now on"
            messages.success(
                request, f"{account.name} {done}. Bots that were stopped stay stopped until you start them."
            )
            return redirect("account", pk=pk)
    return account_page(request, account, arm_form=form)


@login_required
@acting
@require_POST
def account_disarm(request: SignedInRequest, pk: int) -> HttpResponse:
    """Make the account read-only, in one click."""
    account = _editable(pk)
    try:
        trading.disarm(account, request.user.email)
    except InvalidInput as error:
        messages.error(request, error.message)
    except NotFound as error:
        raise Http404(error.message) from error
    else:
        messages.success(request, f"{account.name} is read-only. Open deals are still managed and can be closed.")
    return redirect("account", pk=pk)


@login_required
@acting
@sensitive_post_parameters("code")
@require_POST
def account_limits(request: SignedInRequest, pk: int) -> HttpResponse:
    """Set the account's limits: tighter at once, looser on a live account with the second factor."""
    account = own_account(request, pk)
    before = trading.limits_of(account)
    form = safety_forms.LimitsForm(request.POST, instance=before, account=account, asks_code=True, auto_id="limits_%s")
    if form.is_valid():
        try:
            loose = bool(trading.loosened(before, form.limits)) and not account.is_paper
            if loose:
                confirming.confirm(request.user, form.cleaned_data["code"], request)
            trading.set_limits(account, request.user.email, confirmed=loose, **form.limits)
        except InvalidInput as error:
            forms.blame(form, error)
        else:
            messages.success(request, "The limits are saved. They hold from the next order.")
            return redirect("account", pk=pk)
    return account_page(request, account, limits_form=form)


def _editable(pk: int) -> Account:
    found: Account = get_object_or_404(Account.objects.editable(), pk=pk)
    return found
