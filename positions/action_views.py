"""What is done to a deal from its pages: closing, at market or at a limit, adding, its ceiling, cancelling, notes.

Parse, call one service, present. Every page works without scripts: what is refused comes back as it was typed, with the
reason beside the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from positions import funds, limit_close, manual, preview
from positions.cards import DealCard, deal_card
from positions.forms import AddFundsForm, CeilingForm, LimitChangeForm, LimitCloseForm, NoteForm, PartForm
from positions.models import Position
from positions.preview import Ticker
from positions.states import POSITION_ACTIVE, Direction
from positions.views import found_deal, person
from tradebot.core.decimals import ceil_to, floor_to, plain
from tradebot.core.errors import InvalidInput, TradebotError
from tradebot.core.once_pages import acting

SHARES = (25, 50, 75, 100)


def _context(deal: Position, **more: Any) -> dict[str, Any]:
    is_long = deal.direction == Direction.LONG
    return {
        "nav": "deals",
        "deal": deal,
        "product": deal.product,
        "ended": deal.status not in POSITION_ACTIVE,
        "verb": "Sell" if is_long else "Buy back",
        "add_verb": "Buy" if is_long else "Sell",
        **more,
    }


def _refused(request: HttpRequest, error: TradebotError) -> None:
    messages.error(request, f"{error.message} [{error.code}]")


def _act(request: HttpRequest, pk: int, service: Callable[[Position, str], Any]) -> HttpResponse:
    """Do one thing to a deal and go back to its page with the answer."""
    deal = found_deal(pk, editable=True)
    try:
        answer = service(deal, person(request).email)
    except TradebotError as error:
        _refused(request, error)
    else:
        messages.success(request, answer.message)
    return redirect("deal", pk=pk)


# Closing at market ----------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting
def deal_close(request: HttpRequest, pk: int) -> HttpResponse:
    """Close at market, all or a part: first what it would come to, then the honest answer to doing it."""
    deal = found_deal(pk, editable=True)
    form = PartForm(request.POST if request.method == "POST" else request.GET)
    is_valid = form.is_valid()
    if request.method == "POST" and is_valid:
        try:
            closing = manual.close_at_market(deal, person(request).email, **form.part)
        except InvalidInput as error:
            form.blame(error)
        except TradebotError as error:
            _refused(request, error)
            return redirect("deal", pk=pk)
        else:
            messages.success(request, closing.message)
            return redirect("deal", pk=pk)
    found, problem = None, ""
    try:
        found = preview.close_preview(deal, **(form.part if is_valid and not form.errors else {}))
    except InvalidInput as error:
        form.blame(error)
    except TradebotError as error:
        problem = error.message
    status = 422 if request.method == "POST" else 200
    shares = [(share, _is_share(form, share)) for share in SHARES]
    context = _context(deal, preview=found, problem=problem, form=form, shares=shares)
    return render(request, "positions/close.html", context, status=status)


def _is_share(form: PartForm, share: int) -> bool:
    """Return whether this share is the one that was chosen; nothing chosen is everything."""
    base, chosen = form.data.get("base"), form.data.get("share_pct")
    return not base and (chosen or "100") == str(share)


# Closing at a limit ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _PriceHint:
    """A price that one may want to close at, and what that would bring."""

    name: str
    price: Decimal
    profit: Decimal | None


@login_required
@require_http_methods(["GET", "POST"])
@acting
def deal_limit_close(request: HttpRequest, pk: int) -> HttpResponse:
    """Close at a limit: place one, or change the one that rests."""
    deal = found_deal(pk, editable=True)
    form: LimitCloseForm | LimitChangeForm
    if request.method == "GET":
        resting = limit_close.resting(deal)
        given = {"price": request.GET["price"][:40]} if "price" in request.GET else {}
        if resting is None:
            form = LimitCloseForm(initial=_usual_price(deal) | given)
        else:
            until = {"time_in_force": "gtd", "expires_at": resting.expires_at} if resting.expires_at else {}
            form = LimitChangeForm(initial={"price": resting.limit_price, **until, **given})
        return _limit_page(request, deal, form)
    form = LimitCloseForm(request.POST)
    return _limit(request, deal, form, lambda asked: limit_close.place(deal, person(request).email, **asked))


def _usual_price(deal: Position) -> dict[str, str]:
    """Return the deal's own target, at the product's step, as the price that a limit close begins with."""
    target, step = deal_card(deal).outlook.target, deal.product.price_increment
    if target is None:
        return {}
    return {"price": plain(ceil_to(target, step) if deal.direction == Direction.LONG else floor_to(target, step))}


@login_required
@require_POST
@acting
def deal_limit_change(request: HttpRequest, pk: int) -> HttpResponse:
    """Give the limit close that rests another price or another end."""
    deal = found_deal(pk, editable=True)
    form = LimitChangeForm(request.POST)
    return _limit(request, deal, form, lambda asked: limit_close.change(deal, person(request).email, **asked))


@login_required
@require_POST
@acting
def deal_limit_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Cancel the limit close that rests."""
    return _act(request, pk, limit_close.cancel)


def _limit(
    request: HttpRequest,
    deal: Position,
    form: LimitCloseForm | LimitChangeForm,
    service: Callable[[dict[str, Any]], limit_close.LimitClosing],
) -> HttpResponse:
    if form.is_valid():
        try:
            answer = service(form.cleaned_data)
        except TradebotError as error:
            form.blame(error)
        else:
            messages.success(request, answer.message)
            return redirect("deal", pk=deal.pk)
    return _limit_page(request, deal, form, status=422)


def _limit_page(
    request: HttpRequest, deal: Position, form: LimitCloseForm | LimitChangeForm, *, status: int = 200
) -> HttpResponse:
    card = deal_card(deal)
    ticker = _ticker(deal)
    context = _context(
        deal,
        card=card,
        form=form,
        ticker=ticker,
        resting=limit_close.resting(deal),
        changing=isinstance(form, LimitChangeForm),
        hints=_hints(card, ticker),
    )
    return render(request, "positions/limit.html", context, status=status)


def _ticker(deal: Position) -> Ticker | None:
    try:
        return preview.ticker(deal)
    except TradebotError:
        return None


def _hints(card: DealCard, ticker: Ticker | None) -> list[_PriceHint]:
    """Return prices to choose from, at the product's steps, best for the deal first."""
    is_long, step = card.position.direction == Direction.LONG, card.position.product.price_increment
    prices = [("Target", card.outlook.own_target or card.outlook.target), ("Break-even", card.even)]
    if ticker is not None:
        bid, ask = "Best bid", "Best ask"
        if is_long:
            bid += ", fills at once"
        else:
            ask += ", fills at once"
        prices += [(ask, ticker.ask), ("Middle", ticker.mark), (bid, ticker.bid)]
    rounded = ceil_to if is_long else floor_to
    found = [(name, rounded(price, step)) for name, price in prices if price is not None]
    hints = [_PriceHint(name, price, card.profit_at(price)) for name, price in found if price > 0]
    return sorted(hints, key=lambda hint: hint.price, reverse=is_long)


@login_required
@require_GET
def deal_ticker(request: HttpRequest, pk: int) -> HttpResponse:
    """The deal's prices now, as a fragment that renews itself."""
    deal = found_deal(pk)
    return render(request, "positions/_ticker.html", _context(deal, ticker=_ticker(deal)))


# Adding ---------------------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting
def deal_add_funds(request: HttpRequest, pk: int) -> HttpResponse:
    """Add to a deal within its ceiling, or raise that with it."""
    deal = found_deal(pk, editable=True)
    form = AddFundsForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            answer = funds.add_funds(deal, actor=person(request).email, **form.cleaned_data)
        except TradebotError as error:
            form.blame(error)
        else:
            messages.success(request, answer.message)
            return redirect("deal", pk=pk)
    context = _context(
        deal,
        card=deal_card(deal),
        form=form,
        ticker=_ticker(deal),
        room=funds.room_of(deal),
        resting=funds.resting_add(deal),
        closing=limit_close.resting(deal),
    )
    return render(request, "positions/add.html", context, status=422 if request.method == "POST" else 200)


@login_required
@require_POST
@acting
def deal_cancel_add(request: HttpRequest, pk: int) -> HttpResponse:
    """Cancel the addition that rests."""
    return _act(request, pk, funds.cancel_add)


def _cent(deal: Position) -> Decimal:
    """Return the smallest amount of the quote currency that pages write."""
    return deal.product.quote_increment or deal.product.price_increment


@login_required
@require_http_methods(["GET", "POST"])
@acting
def deal_ceiling(request: HttpRequest, pk: int) -> HttpResponse:
    """Set the most that a deal may spend."""
    deal = found_deal(pk, editable=True)
    form = CeilingForm(
        request.POST if request.method == "POST" else None,
        initial={"budget_quote": plain(ceil_to(deal.budget_quote, _cent(deal))) if deal.budget_quote else ""},
    )
    if request.method == "POST" and form.is_valid():
        try:
            deal = funds.set_ceiling(deal, form.cleaned_data["budget_quote"], person(request).email)
        except TradebotError as error:
            form.blame(error)
        else:
            messages.success(request, f"The ceiling is {plain(deal.budget_quote)} {deal.product.quote} now.")
            return redirect("deal", pk=pk)
    context = _context(deal, form=form, room=funds.room_of(deal))
    return render(request, "positions/ceiling.html", context, status=422 if request.method == "POST" else 200)


# Giving up, notes -----------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
@acting
def deal_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Give a deal up without selling: its orders are cancelled, its coins stay."""
    deal = found_deal(pk, editable=True)
    if request.method == "POST":
        try:
            manual.cancel_deal(deal, person(request).email)
        except TradebotError as error:
            _refused(request, error)
        else:
            messages.success(request, "The deal is cancelled. Its coins stay in the account.")
        return redirect("deal", pk=pk)
    return render(request, "positions/cancel.html", _context(deal, card=deal_card(deal)))


@login_required
@require_POST
@acting
def deal_note(request: HttpRequest, pk: int) -> HttpResponse:
    """Keep a note with the deal."""
    deal = found_deal(pk, editable=True)
    form = NoteForm(request.POST)
    if form.is_valid():
        manual.set_note(deal, form.cleaned_data["notes"], person(request).email)
        messages.success(request, "Note saved.")
    else:
        messages.error(request, str(form.errors["notes"][0]))
    return redirect("deal", pk=pk)
