"""A person's own coin categories, under their settings. Parse, call one service, present."""

from __future__ import annotations

from typing import Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from bots import coins
from positions.views import person
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.words import Category

PER_PAGE: Final = 50
SHOWN: Final = ("q", "show", "page")


@login_required
@require_http_methods(["GET", "POST"])
def coin_settings(request: HttpRequest) -> HttpResponse:
    """Every coin with the category that counts for the person's bots, where it comes from, and their own word."""
    problem, typed = "", ("", "", "")
    if request.method == "POST":
        typed = tuple(request.POST.get(name, "") for name in ("code", "category", "reason"))  # type: ignore[assignment]
        problem = _save(request, *typed)
        if not problem:
            shown = {name: request.POST[name] for name in SHOWN if request.POST.get(name)}
            return redirect(f"{request.path}?{urlencode(shown)}" if shown else request.path)
    given = request.POST if request.method == "POST" else request.GET
    query, own_only = given.get("q", "").strip()[:20], given.get("show") == "own"
    page = Paginator(coins.known_coins(query, own_only=own_only), PER_PAGE).get_page(given.get("page"))
    context = {
        "section": "coins",
        "page": page,
        "query": query,
        "show": "own" if own_only else "",
        "categories": list(Category),
        "problem": problem,
        "typed": typed,
    }
    return render(request, "settings/coins.html", context, status=422 if problem else 200)


def _save(request: HttpRequest, code: str, category: str, reason: str) -> str:
    """Write or drop a review; return what stands against it."""
    try:
        if category:
            row, _ = coins.review(person(request), code, category, reason)
            messages.success(request, f"{row.code} is {row.category} for your bots.")
        else:
            coins.drop_review(person(request), code)
            messages.success(request, f"{code} is seen as the operator sees it.")
    except (InvalidInput, NotFound) as error:
        return error.message
    return ""
