"""What is done to a bot from its page: start and stop, look now, copies, export and import, all deals at once.

Parse, call one service, present.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import Account
from accounts.selection import selected_account
from bots import bulk, looks, portable, services, templates
from bots.models import Bot
from bots.pages import bot_rows
from positions.views import person
from tradebot.core.errors import InvalidInput, NotFound, TradebotError
from tradebot.core.once_pages import acting
from tradebot.core.scoping import current_scope

SHOWN_LINES: Final = 6


def found_bot(pk: int, *, editable: bool = False) -> Bot:
    """Return the bot with its account and owner, if the person may see (or change) it. Raises Http404."""
    rows = Bot.objects.editable() if editable else Bot.objects.all()
    found: Bot = get_object_or_404(rows.select_related("account", "owner"), pk=pk)
    return found


def _account(given: str) -> Account:
    """Return the account that a form names. Raises Http404."""
    pk = int(given) if given.isdecimal() and len(given) < 19 else 0
    found: Account = get_object_or_404(Account.objects.editable(), pk=pk)
    return found


def _targets() -> list[Account]:
    """Return the accounts that a bot may be made on."""
    return list(Account.objects.editable().filter(archived_at__isnull=True).select_related("owner"))


def _back(request: HttpRequest, bot: Bot) -> HttpResponseRedirect:
    """Return to the page that the button was on, if it is one of ours."""
    target = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return redirect(target) if safe and target.startswith("/") else redirect("bot", pk=bot.pk)


def _act(request: HttpRequest, pk: int, service: Callable[[Bot, str], Bot], done: str) -> HttpResponse:
    """Do one thing to a bot and answer with its row, to HTMX, or with the page it was asked from."""
    bot = found_bot(pk, editable=True)
    try:
        bot = service(bot, person(request).email)
    except NotFound as error:
        raise Http404(error.message) from error
    except TradebotError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, done.format(name=bot.name))
    if request.headers.get("HX-Request") and request.POST.get("row"):
        context = {"row": bot_rows([found_bot(pk)])[0], "editable": current_scope().editable_ids, "swapped": True}
        return render(request, "bots/_row.html", context)
    return _back(request, bot)


# Starting, stopping, looking ----------------------------------------------------------------------------------------


@login_required
@require_POST
@acting
def bot_start(request: HttpRequest, pk: int) -> HttpResponse:
    """Start a bot."""
    return _act(request, pk, services.start_bot, "“{name}” is running.")


@login_required
@require_POST
@acting
def bot_stop(request: HttpRequest, pk: int) -> HttpResponse:
    """Stop a bot: it opens nothing more, and goes on managing its open deals."""
    return _act(
        request, pk, services.stop_bot, "“{name}” is stopped: it opens nothing more and goes on managing open deals."
    )


@login_required
@require_POST
@acting
def bot_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Look at the bot now and say what was decided."""
    bot = found_bot(pk, editable=True)
    try:
        look = looks.run_now(bot, person(request).email)
    except TradebotError as error:
        messages.error(request, error.message)
        return _back(request, bot)
    (messages.error if look.problem else messages.success)(request, look.summary)
    for line in look.lines[:SHOWN_LINES]:
        messages.info(request, line.text)
    if len(look.lines) > SHOWN_LINES:
        messages.info(request, f"And {len(look.lines) - SHOWN_LINES} more, below.")
    return _back(request, bot)


@login_required
@require_POST
@acting
def bot_archive(request: HttpRequest, pk: int) -> HttpResponse:
    """Put a bot away; its deals stay in the history."""
    bot = found_bot(pk, editable=True)
    try:
        services.archive_bot(bot, person(request).email)
    except InvalidInput as error:
        messages.error(request, error.message)
        return redirect("bot", pk=pk)
    messages.success(request, f"“{bot.name}” is archived. Its deals stay in the history.")
    return redirect("bots")


@login_required
@require_POST
@acting
def bot_assign(request: HttpRequest, pk: int) -> HttpResponse:
    """Put a bot on another account."""
    found_bot(pk, editable=True)
    account = _account(request.POST.get("account", ""))

    def assign(bot: Bot, actor: str) -> Bot:
        return services.assign_account(bot, account, actor)

    return _act(request, pk, assign, "“{name}” is on another account now, stopped.")


# Copies -------------------------------------------------------------------------------------------------------------


@login_required
@require_POST
@acting
def bot_clone(request: HttpRequest, pk: int) -> HttpResponse:
    """Make a stopped bot like this one, on the same account."""
    bot = found_bot(pk, editable=True)
    try:
        made = portable.clone_bot(bot, person(request))
    except InvalidInput as error:
        messages.error(request, error.message)
        return redirect("bot", pk=pk)
    messages.success(request, made.message)
    return redirect("bot", pk=made.bot.pk)


@login_required
@require_http_methods(["GET", "POST"])
@acting
def bot_copy(request: HttpRequest, pk: int) -> HttpResponse:
    """Copy a bot to another account: first which one, then the copy."""
    bot = found_bot(pk, editable=True)
    problem, chosen = "", ""
    if request.method == "POST":
        chosen = request.POST.get("account", "")
        account = _account(chosen)
        try:
            made = portable.copy_bot(bot, account, person(request))
        except InvalidInput as error:
            problem = error.message
        else:
            messages.success(request, made.message)
            return redirect("bot", pk=made.bot.pk)
    targets = [account for account in _targets() if account.pk != bot.account_id]
    context = {"nav": "bots", "bot": bot, "targets": targets, "problem": problem, "chosen": chosen}
    return render(request, "bots/copy.html", context, status=422 if problem else 200)


@login_required
@require_GET
def bot_export(request: HttpRequest, pk: int) -> HttpResponse:
    """The bot's settings as a JSON file."""
    bot = found_bot(pk)
    headers = {"Content-Disposition": f'attachment; filename="tradebot-{slugify(bot.name) or "bot"}.json"'}
    text = json.dumps(portable.exported(bot), indent=1, ensure_ascii=False)
    return HttpResponse(text, content_type="application/json; charset=utf-8", headers=headers)


@login_required
@require_http_methods(["GET", "POST"])
@acting
def bot_import(request: HttpRequest) -> HttpResponse:
    """Make a bot from an exported file or text."""
    error: InvalidInput | None = None
    text = request.POST.get("document", "")
    if request.method == "POST":
        account = _account(request.POST.get("account", ""))
        try:
            document = portable.read_document(_given(request, text))
            made = portable.import_bot(person(request), account, document, name=request.POST.get("name", ""))
        except InvalidInput as refusal:
            error = refusal
        else:
            messages.success(request, made.message)
            return redirect("bot", pk=made.bot.pk)
    selected = selected_account(request)
    context = {
        "nav": "bots",
        "accounts": _targets(),
        "chosen": request.POST.get("account", str(selected.pk) if selected else ""),
        "name": request.POST.get("name", "")[: services.MAX_NAME],
        "text": text[: portable.LARGEST_DOCUMENT],
        "problems": _problems(error) if error else [],
        "largest_kb": portable.LARGEST_DOCUMENT // 1024,
    }
    return render(request, "bots/import.html", context, status=422 if error else 200)


def _given(request: HttpRequest, text: str) -> str | bytes:
    """Return what was uploaded, or else what was pasted. Raises InvalidInput before a large file is read."""
    upload: Any = request.FILES.get("file")
    if upload is None:
        return text
    if upload.size is None or upload.size > portable.LARGEST_DOCUMENT:
        raise portable.too_large()
    found: bytes = upload.read()
    return found


def _problems(error: InvalidInput) -> list[tuple[str, str]]:
    """Return every field at fault with what is wrong with it."""
    errors = error.detail.get("errors") or [{"field": error.field or "", "message": error.message}]
    return [(str(entry["field"]), str(entry["message"])) for entry in errors]


@login_required
@require_POST
@acting
def bot_save_template(request: HttpRequest, pk: int) -> HttpResponse:
    """Keep the bot's settings as a template of one's own."""
    bot = found_bot(pk)
    try:
        row = templates.save_as_template(person(request), bot, request.POST.get("name", "") or bot.name)
    except InvalidInput as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"Saved as template “{row.name}”. It is offered when you make a bot.")
    return redirect("bot", pk=pk)


@login_required
@require_POST
@acting
def template_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a template of one's own."""
    try:
        templates.delete_template(templates.find_template(str(pk)))
    except NotFound as error:
        raise Http404(error.message) from error
    messages.success(request, "The template is removed. Bots made from it keep their settings.")
    return redirect("bots")


# All deals at once --------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting
def bot_sell_all(request: HttpRequest, pk: int) -> HttpResponse:
    """Close every open deal of the bot at market: first what it comes to, then the answer for each deal."""
    return _bulk(request, pk, "sell", bulk.sell_all, "closed")


@login_required
@require_http_methods(["GET", "POST"])
@acting
def bot_cancel_all(request: HttpRequest, pk: int) -> HttpResponse:
    """Give every open deal of the bot up and keep the coins: first which ones, then the answer for each deal."""
    return _bulk(request, pk, "cancel", bulk.cancel_all, "cancelled")


def _bulk(request: HttpRequest, pk: int, what: str, service: Any, done: str) -> HttpResponse:
    bot = found_bot(pk, editable=True)
    context: dict[str, Any] = {"nav": "bots", "bot": bot, "what": what}
    if request.method == "POST":
        answers = service(bot, person(request).email, stop="stop" in request.POST)
        context |= {"answers": answers, "said": bulk.said(answers, done), "bot": found_bot(pk)}
    else:
        context["preview"] = bulk.bulk_preview(bot)
    return render(request, "bots/bulk.html", context)
