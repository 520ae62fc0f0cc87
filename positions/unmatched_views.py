"""Executions that no order of ours explains: the list, and what their owner says they were. Parse, call, present."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.models import Account
from positions import unmatched
from positions.models import UnmatchedFill
from positions.views import person
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.once_pages import acting
from tradebot.core.scoping import current_scope

PER_PAGE = 50


@login_required
@require_GET
def unmatched_fills(request: HttpRequest) -> HttpResponse:
    """List them, those first that nobody has explained; ``account`` narrows to one account, ``show=all`` shows all."""
    rows = UnmatchedFill.objects.select_related("account")
    account, asked = None, request.GET.get("account", "")
    if asked:
        account = Account.objects.filter(pk=asked).first() if asked.isascii() and asked.isdigit() else None
        if account is None:
            raise Http404("There is no such account.")
        rows = rows.filter(account=account)
    waiting = rows.filter(explanation="").count()
    show_all = request.GET.get("show") == "all"
    shown = rows if show_all else rows.filter(explanation__in=["", UnmatchedFill.Explanation.UNKNOWN])
    context = {
        "nav": "accounts",
        "account": account,
        "page": Paginator(shown.order_by("explanation", "-id"), PER_PAGE).get_page(request.GET.get("page")),
        "waiting": waiting,
        "show_all": show_all,
        "explanations": UnmatchedFill.Explanation.choices,
        "editable": current_scope().editable_ids,
    }
    return render(request, "positions/unmatched.html", context)


@login_required
@acting
@require_POST
def unmatched_explain(request: HttpRequest, pk: int) -> HttpResponse:
    """Keep what one of them was, or with ``all`` every one of its account that is not explained yet."""
    fill = UnmatchedFill.objects.editable().filter(pk=pk).first()
    if fill is None:
        raise Http404("There is no such execution.")
    said, actor = request.POST.get("explanation", ""), person(request).email
    try:
        if request.POST.get("all"):
            count = unmatched.explain_all(fill.account_id, said, actor)
            messages.success(request, f"{count} explained. They are in no deal, and will not be.")
        else:
            unmatched.explain(fill, said, actor)
            messages.success(request, "Explained. It is in no deal, and will not be.")
    except InvalidInput as error:
        messages.error(request, error.message)
    except NotFound as error:
        raise Http404(error.message) from error
    return redirect("unmatched_fills")
