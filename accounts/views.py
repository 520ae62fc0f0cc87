"""The account pages: what there is, what is free, where it came from, what trading costs. Parse, call, present."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.forms import BaseForm
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import confirming, forms, panels, safety_forms, selection, services, trading
from accounts.models import (
    Account,
    ExchangeCredential,
    Membership,
    PaperBalance,
    PaperEntry,
    PaperTerms,
    VenueBalance,
    VenueFunds,
)
from accounts.selection import SignedInRequest
from marketdata import sources
from tradebot.core.decimals import ZERO
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.once_pages import acting
from tradebot.core.scoping import current_scope

ENTRIES_PER_PAGE = 50


def back(request: SignedInRequest, fallback: str) -> HttpResponseRedirect:
    """Return to the page that a small form was on, if it is one of ours."""
    target = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return redirect(target if safe and target.startswith("/") else fallback)


@login_required
@require_POST
def switch_account(request: SignedInRequest) -> HttpResponse:
    """Look at one account, or at all of them."""
    try:
        selection.choose(request, request.POST.get("account", ""))
    except NotFound as error:
        raise Http404(error.message) from error
    return back(request, "dashboard")


@login_required
@require_GET
def account_list(request: SignedInRequest) -> HttpResponse:
    """Every account that the person owns or shares, with what it holds."""
    accounts = [choice.account for choice in selection.choices(request)]
    balances = _balances(accounts)
    rows = [{"choice": choice, "balances": balances[choice.account.pk]} for choice in selection.choices(request)]
    return render(request, "accounts/list.html", {"nav": "accounts", "rows": rows})


@login_required
@require_http_methods(["GET", "POST"])
@acting
def account_new(request: SignedInRequest) -> HttpResponse:
    """Make a paper account."""
    if request.method == "GET":
        form = forms.NewAccountForm(initial={"exchange": sources.default_market()})
    else:
        form = forms.NewAccountForm(request.POST)
        if form.is_valid():
            try:
                account = services.create_paper_account(request.user, **form.cleaned_data)
            except InvalidInput as error:
                forms.blame(form, error)
            else:
                messages.success(request, f"{account.name} is ready.")
                return redirect("account", pk=account.pk)
    return render(request, "accounts/new.html", {"nav": "accounts", "form": form}, status=_status(form))


@login_required
@require_GET
def account_detail(request: SignedInRequest, pk: int) -> HttpResponse:
    """One account: balances, journal, terms, and what may be done with it."""
    return account_page(request, one_account(request, pk))


@login_required
@require_POST
@acting
def account_deposit(request: SignedInRequest, pk: int) -> HttpResponse:
    """Put paper money in."""
    return _money(request, pk, services.deposit, "deposit_form", "Put in")


@login_required
@require_POST
@acting
def account_withdraw(request: SignedInRequest, pk: int) -> HttpResponse:
    """Take paper money out."""
    return _money(request, pk, services.withdraw, "withdraw_form", "Took out")


@login_required
@require_POST
@acting
def account_reset(request: SignedInRequest, pk: int) -> HttpResponse:
    """Start a paper account over, after its name was typed."""
    account = own_account(request, pk)
    form = forms.ResetForm(request.POST, expected=account.name, auto_id="reset_%s")
    return carry_out(
        request,
        account,
        form,
        "reset_form",
        lambda: services.reset_paper(account, request.user.email),
        "The account starts over.",
    )


@login_required
@require_POST
@acting
def account_terms(request: SignedInRequest, pk: int) -> HttpResponse:
    """Change what trading on a paper account costs."""
    account = own_account(request, pk)
    form = forms.TermsForm(request.POST, instance=PaperTerms(account=account), auto_id="terms_%s")
    return carry_out(
        request,
        account,
        form,
        "terms_form",
        lambda: services.update_terms(account, request.user.email, **form.cleaned_data),
        "Fees and slippage are saved. They count from the next order.",
    )


@login_required
@require_POST
@acting
def account_rename(request: SignedInRequest, pk: int) -> HttpResponse:
    """Give the account another name."""
    account = own_account(request, pk)
    form = forms.RenameForm(request.POST, auto_id="rename_%s")
    return carry_out(
        request,
        account,
        form,
        "rename_form",
        lambda: services.rename(account, form.cleaned_data["name"], request.user.email),
        "The name is saved.",
    )


@login_required
@require_POST
@acting
def account_default(request: SignedInRequest, pk: int) -> HttpResponse:
    """Make it the account that new bots start on."""
    account = own_account(request, pk)
    try:
        services.set_default(account, request.user.email)
    except InvalidInput as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"New bots start on {account.name}.")
    return redirect("account", pk=pk)


@login_required
@require_POST
@acting
def account_archive(request: SignedInRequest, pk: int) -> HttpResponse:
    """Put the account away; its history stays."""
    account = own_account(request, pk)
    try:
        services.archive_account(account, request.user.email)
    except InvalidInput as error:
        messages.error(request, error.message)
        return redirect("account", pk=pk)
    messages.success(request, f"{account.name} is archived. Its history stays.")
    return redirect("accounts")


@login_required
@require_POST
@acting
def account_share(request: SignedInRequest, pk: int) -> HttpResponse:
    """Let another person look at the account, or act on it."""
    account = own_account(request, pk)
    form = forms.ShareForm(request.POST, auto_id="share_%s")
    return carry_out(
        request,
        account,
        form,
        "share_form",
        lambda: services.share(
            account, form.cleaned_data["email"], form.cleaned_data["role"], None, request.user.email
        ),
        "If that address belongs to a confirmed person here, they now see the account.",
    )


@login_required
@require_POST
@acting
def account_revoke(request: SignedInRequest, pk: int, user_id: int) -> HttpResponse:
    """End somebody's share of one's own account."""
    try:
        services.revoke(own_account(request, pk), user_id, request.user.email)
    except NotFound as error:
        raise Http404(error.message) from error
    messages.success(request, "The share has ended.")
    return redirect("account", pk=pk)


@login_required
@require_POST
@acting
def account_leave(request: SignedInRequest, pk: int) -> HttpResponse:
    """Give up one's own share of somebody else's account."""
    account = one_account(request, pk)
    try:
        services.leave(account, request.user)
    except NotFound as error:
        raise Http404(error.message) from error
    except InvalidInput as error:
        messages.error(request, error.message)
        return redirect("account", pk=pk)
    messages.success(request, f"You have left {account.name}.")
    return redirect("accounts")


def one_account(request: SignedInRequest, pk: int) -> Account:
    """Return an account to look at."""
    return get_object_or_404(Account.objects.select_related("owner"), pk=pk)


def own_account(request: SignedInRequest, pk: int) -> Account:
    """Return an account to change: the person's own. A shared one is looked at, not rearranged."""
    return get_object_or_404(Account, pk=pk, owner_id=request.user.pk)


def _money(request: SignedInRequest, pk: int, act: Callable[..., Any], name: str, done: str) -> HttpResponse:
    account = own_account(request, pk)
    form = forms.MoneyForm(request.POST, auto_id=f"{name}_%s")
    data = form.data
    said = f"{done} {data.get('amount', '').strip()} {data.get('currency', '').strip().upper()}."
    return carry_out(
        request,
        account,
        form,
        name,
        lambda: act(account, form.cleaned_data["currency"], form.cleaned_data["amount"], request.user.email),
        said,
    )


def carry_out(
    request: SignedInRequest, account: Account, form: BaseForm, name: str, act: Callable[[], Any], done: str
) -> HttpResponse:
    """Run one service for a valid form and return to the account, or show the form with its errors."""
    if form.is_valid():
        try:
            act()
        except InvalidInput as error:
            forms.blame(form, error)
        else:
            messages.success(request, done)
            return redirect("account", pk=account.pk)
    return account_page(request, account, **{name: form})


def account_page(request: SignedInRequest, account: Account, **bound_forms: BaseForm) -> HttpResponse:
    """Show the account, with the forms that were refused as they were typed."""
    owned = account.owner_id == request.user.pk
    context: dict[str, Any] = {
        "nav": "accounts",
        "account": account,
        "owned": owned,
        "balances": _balances([account])[account.pk],
        "editable": account.pk in current_scope().editable_ids,
        "limits": trading.limits_of(account),
        "unexplained": account.unmatched_fills.filter(explanation="").count() if not account.is_paper else 0,
    }
    if not account.is_paper:
        keys = ExchangeCredential.objects.filter(account=account)
        context["keys"] = keys.defer("api_key", "api_secret", "passphrase").first()
        context["funds"] = VenueFunds.objects.filter(account=account).first()
    if account.is_paper:
        entries = PaperEntry.objects.filter(account=account).select_related("trade__order")
        terms = PaperTerms.objects.filter(account=account).first() or PaperTerms(account=account)
        currency = request.GET.get("currency", "")
        if currency:
            entries = entries.filter(currency=currency)
        context |= {
            "page": Paginator(entries, ENTRIES_PER_PAGE).get_page(request.GET.get("page")),
            "currency": currency,
            "terms": terms,
        }
        if owned:
            context |= {
                "deposit_form": forms.MoneyForm(auto_id="deposit_form_%s"),
                "withdraw_form": forms.MoneyForm(auto_id="withdraw_form_%s"),
                "reset_form": forms.ResetForm(expected=account.name, auto_id="reset_%s"),
                "terms_form": forms.TermsForm(instance=terms, auto_id="terms_%s"),
            }
    if owned:
        ready = account.is_paper or confirming.has_second_factor(request.user)
        takes_codes = confirming.takes_codes(request.user)
        context |= {
            "ready": ready,
            "ready_mail": ready or confirming.may_set_one_up(request.user),
            "takes_codes": takes_codes,
            "arm_form": safety_forms.ArmForm(account=account, takes_codes=takes_codes, auto_id="arm_%s"),
            "limits_form": safety_forms.LimitsForm(
                instance=context["limits"], account=account, asks_code=ready, auto_id="limits_%s"
            ),
            "rename_form": forms.RenameForm(initial={"name": account.name}, auto_id="rename_%s"),
            "share_form": forms.ShareForm(auto_id="share_%s"),
            "members": Membership.objects.filter(account=account).select_related("user").order_by("user__email"),
        }
    context |= panels.context_of(request, account, bound_forms) | bound_forms
    refused = any(form.errors for form in bound_forms.values())
    return render(request, "accounts/detail.html", context, status=422 if refused else 200)


def _balances(accounts: list[Account]) -> dict[int, list[Any]]:
    """Return the balances of each account that are not empty, by account id: on paper as they are, on an exchange as
    it said last. Two queries."""
    rows: dict[int, list[Any]] = {account.pk: [] for account in accounts}
    for model in (PaperBalance, VenueBalance):
        for balance in model.objects.filter(account__in=accounts).exclude(total=ZERO):
            rows[balance.account_id].append(balance)
    return rows


def _status(form: BaseForm) -> int:
    return 422 if form.is_bound and form.errors else 200
