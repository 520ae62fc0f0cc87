"""The hook, at which programs tell a bot something, and the page on which a person looks after it."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from bots.action_views import found_bot
from bots.models import Bot, Signal, SignalHook
from bots.signals import hooks, inlet
from bots.signals.forms import LagForm
from bots.signals.payloads import fields_of, secret_of
from positions.views import person
from tradebot.core.errors import InvalidInput, TradebotError
from tradebot.core.limits import seconds_to_wait
from tradebot.core.scoping import current_scope

LARGEST_BODY: Final = 16_384
"""Bytes of an alert. TradingView's are shorter by far."""
SECRET_HEADER: Final = "X-Tradebot-Secret"  # noqa: S105 (the header's name)
PER_PAGE: Final = 50


# The inlet ----------------------------------------------------------------------------------------------------------


@csrf_exempt  # no session authorises this request, so none can be abused: the bot's own secret does
@require_POST
def hook(request: HttpRequest, public_id: str) -> HttpResponse:
    """Tell a bot something. 404 for an unknown address and for a wrong secret alike; what is let in gets a verdict.

    The secret comes in a header, or in the body of senders that cannot set headers.
    """
    if wait := seconds_to_wait("hook_address", request.META.get("REMOTE_ADDR", ""), *inlet.ADDRESS_LIMIT):
        return _too_many(wait)
    body = request.read(LARGEST_BODY + 1)
    if len(body) > LARGEST_BODY:
        return _refused(413, "too_large", f"An alert has at most {LARGEST_BODY:,} bytes.")
    found = hooks.found(public_id, request.headers.get(SECRET_HEADER) or _secret_in(body))
    if found is None:
        return _refused(404, "not_found", "There is no such hook, or this is not its secret.")
    if wait := seconds_to_wait("hook", str(found.bot_id), *inlet.HOOK_LIMIT):
        return _too_many(wait)
    taken = inlet.take_from_hook(found, body)
    signal = taken.signal
    answer = {"verdict": signal.verdict, "detail": signal.reason or "Taken.", "new": taken.is_new}
    return JsonResponse(answer, status=400 if signal.verdict == Signal.Verdict.BAD else 200)


def _secret_in(body: bytes) -> str:
    try:
        return secret_of(fields_of(body))
    except InvalidInput:
        return ""


def _refused(status: int, code: str, detail: str) -> JsonResponse:
    return JsonResponse({"code": code, "detail": detail, "field": None}, status=status)


def _too_many(wait: int) -> JsonResponse:
    answer = _refused(429, "throttled", f"Too many alerts. Go on in {wait} s.")
    answer.headers["Retry-After"] = str(wait)
    return answer


# The page -----------------------------------------------------------------------------------------------------------


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def bot_signals(request: HttpRequest, pk: int) -> HttpResponse:
    """A bot's signals with their verdicts, its hook and the hook's secret: made here, shown once, revoked here."""
    bot = found_bot(pk, editable=request.method == "POST")
    shown, form = "", None
    if request.method == "POST":
        action = request.POST.get("action", "")
        try:
            if action == "renew":
                _, shown = hooks.renew_secret(bot, person(request).email)
            elif action == "revoke":
                hooks.revoke_secret(bot, person(request).email)
                messages.success(request, "The secret is revoked. Whatever is sent to the hook is refused from now on.")
            else:
                form = LagForm(request.POST)
                if form.is_valid():
                    hooks.set_max_lag(bot, form.cleaned_data["max_lag_seconds"], person(request).email)
                    messages.success(request, "Saved.")
        except TradebotError as error:
            messages.error(request, error.message)
        if not shown and (form is None or form.is_valid()):
            return redirect("bot_signals", pk=pk)
    return _signals_page(request, bot, shown, form)


def _signals_page(request: HttpRequest, bot: Bot, shown: str, form: LagForm | None) -> HttpResponse:
    found = hooks.hook_of(bot)
    rows = Signal.objects.filter(bot=bot).select_related("product")
    lag = found.max_lag_seconds if found else SignalHook().max_lag_seconds
    context: dict[str, Any] = {
        "nav": "bots",
        "bot": bot,
        "hook": found,
        "address": address_of(request, found),
        "shown": shown,
        "form": form or LagForm(initial={"max_lag_seconds": lag}),
        "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
        "editable": bot.account_id in current_scope().editable_ids and bot.archived_at is None,
        "header": SECRET_HEADER,
        "example": bot.bot_products.values_list("product__symbol", flat=True).first() or "BTC-USD",
    }
    return render(request, "bots/signals.html", context, status=422 if form is not None and form.errors else 200)


def address_of(request: HttpRequest, found: SignalHook | None) -> str:
    """Return the address of a hook as a sender needs it, empty without one."""
    return request.build_absolute_uri(reverse("signal_hook", args=[found.public_id])) if found else ""
