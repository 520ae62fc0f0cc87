"""The settings of one deal, as a page and over the API. Parse, call one service, present."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from bots import strategies
from bots.deal_settings import EDITABLE, update_deal_settings
from bots.form_page import VOCABULARY
from bots.forms import BotDraft, SectionView
from bots.serializers import SettingsField
from positions import funds
from positions.booking import totals_of
from positions.models import Position
from positions.outlook import outlook_of
from positions.states import POSITION_ACTIVE, Direction
from positions.views import person
from tradebot.core.api import Serializer
from tradebot.core.decimals import ZERO, for_money
from tradebot.core.errors import InvalidInput, OrderRefused
from tradebot.core.once_pages import acting_when
from tradebot.core.viewsets import OwnedViewSet, validated
from tradebot.templatetags.tradebot import amount

__all__ = ["DealSettingsViewSet", "deal_settings"]

SHORT_TREES: Final = frozenset({"short_add_conditions", "short_close_conditions"})
FIRST: Final = ("Take profit", "Stops", "Safety orders")
LONG_TREES: Final = frozenset({"add_conditions", "close_conditions"})


# The page -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the condition builder needs besides the draft."""

    words: Any
    now_symbol: str = ""
    sentences: Any = None


@login_required
@require_http_methods(["GET", "POST"])
@acting_when("save")
def deal_settings(request: HttpRequest, pk: int) -> HttpResponse:
    """Change the settings of one deal. The form's own buttons only change the form."""
    rows = Position.objects.editable().select_related("product", "account", "bot")
    deal: Position = get_object_or_404(rows, pk=pk)
    if deal.status not in POSITION_ACTIVE:
        messages.error(request, "This deal has ended: its settings stay as they are.")
        return redirect("deal", pk=pk)
    try:
        draft = BotDraft.from_settings(deal.strategy, deal.settings)
    except InvalidInput as error:
        messages.error(request, f"The deal's settings cannot be read: {error.message}")
        return redirect("deal", pk=pk)
    if request.method == "GET":
        return _form(request, deal, draft)
    _take_over(request, deal, draft)
    action = request.POST.get("action", "save")
    draft.apply(action)
    if action != "save":
        return _form(request, deal, draft)
    parsed = draft.parsed()
    if parsed is None:
        return _form(request, deal, draft, status=422)
    new = parsed.to_json()
    version = request.POST.get("version", "")
    try:
        words = update_deal_settings(
            deal,
            {name: new[name] for name in sorted(EDITABLE & set(new))},
            person(request).email,
            version=int(version[:9]) if version.isdecimal() else None,
        )
    except InvalidInput as error:
        draft.blame(error)
        return _form(request, deal, draft, status=422)
    except OrderRefused as error:
        messages.error(request, f"{error.message} [{error.code}]")
        return redirect("deal_settings" if error.code == "changed_meanwhile" else "deal", pk=pk)
    if words:
        messages.success(request, f"Saved for this deal. {'; '.join(words)}.")
        _warn_of_ceiling(request, deal)
    else:
        messages.info(request, "Nothing changed.")
    return redirect("deal", pk=pk)


def _take_over(request: HttpRequest, deal: Position, draft: BotDraft) -> None:
    """Put what was typed into the draft, as far as it may be changed here."""
    data = request.POST.copy()
    data["strategy"] = deal.strategy
    typed = BotDraft.from_post(data)
    shown = _shown_names(deal)
    draft.settings |= {name: value for name, value in typed.settings.items() if name in shown}
    draft.chosen |= {name: value for name, value in typed.chosen.items() if name in shown}
    draft.steps |= {name: value for name, value in typed.steps.items() if name in shown}
    draft.trees |= {name: value for name, value in typed.trees.items() if name in shown}


def _shown_names(deal: Position) -> frozenset[str]:
    """Return what the form shows: of the rules only those that this deal's direction asks."""
    both = deal.settings.get("direction") == "both"
    own = both and deal.settings.get("short_conditions") == "own"
    return EDITABLE - (LONG_TREES if deal.direction == Direction.SHORT and own else SHORT_TREES)


def _form(request: HttpRequest, deal: Position, draft: BotDraft, *, status: int = 200) -> HttpResponse:
    shown = _shown_names(deal)
    sections = [_narrowed(section, shown) for section in draft.sections(deal.product.quote)]
    mirrored = deal.settings.get("direction") == "both" and deal.direction == Direction.SHORT
    context = {
        "nav": "deals",
        "deal": deal,
        "product": deal.product,
        "draft": draft,
        "sections": sorted((section for section in sections if section.fields), key=_place),
        "form": _Rules(VOCABULARY, sentences={}),
        "elsewhere": [(name, text) for name, text in draft.errors.items() if name not in shown],
        "mirrored": mirrored and "add_conditions" in shown,
    }
    return render(request, "bots/deal_settings.html", context, status=status)


def _place(section: SectionView) -> int:
    """Return where a card stands: what is changed most often first."""
    return FIRST.index(section.title) if section.title in FIRST else len(FIRST) + section.is_folded


def _narrowed(section: SectionView, shown: frozenset[str]) -> SectionView:
    return replace(section, fields=tuple(view for view in section.fields if view.spec.name in shown))


def _warn_of_ceiling(request: HttpRequest, deal: Position) -> None:
    """Say so when the ladder that is left costs more than the deal may still spend."""
    left = funds.room_of(deal).left
    rungs = outlook_of(deal, totals_of(deal), ZERO).rungs
    with for_money():
        cost = sum((rung.size for rung in rungs), Decimal(0))
    if left is not None and cost > left:
        quote = deal.product.quote
        messages.warning(
            request,
            f"The safety orders that are left cost {amount(cost, quote)} {quote}, and the deal may spend "
            f"{amount(left, quote)} {quote} more. Raise its ceiling, or the last ones are not bought.",
        )


# The API ------------------------------------------------------------------------------------------------------------


class DealSettingsSerializer(serializers.Serializer[Any]):
    """The settings a deal runs on, their version, and which of them may be changed."""

    settings = SettingsField()
    settings_version = serializers.IntegerField()
    editable = serializers.ListField(child=serializers.CharField())


class DealSettingsChangesSerializer(Serializer):
    """New values by name; what is left out stays. The strategy checks the whole."""

    settings = SettingsField()
    settings_version = serializers.IntegerField(
        required=False, min_value=1, help_text="The version you saw: 409 changed_meanwhile when it is another by now."
    )


class DealSettingsViewSet(OwnedViewSet):
    """The frozen settings of one deal. Changing them affects this deal only."""

    queryset = Position.objects.select_related("product", "account")
    serializer_class = DealSettingsSerializer

    @extend_schema(responses=DealSettingsSerializer)
    def retrieve(self, request: Request, pk: Any = None) -> Response:
        """Answer the settings that the deal runs on."""
        return self._shown(self.get_object())

    @extend_schema(request=DealSettingsChangesSerializer, responses=DealSettingsSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change settings of this deal: targets, stops, safety orders still to come, how orders are carried out."""
        deal = self.get_object()
        asked = validated(DealSettingsChangesSerializer, request)
        assert isinstance(request.user, User)
        update_deal_settings(deal, asked["settings"], request.user.email, version=asked.get("settings_version"))
        return self._shown(self.get_object())

    def _shown(self, deal: Position) -> Response:
        known = strategies.get_strategy(deal.strategy).settings_model.model_fields
        body = {
            "settings": deal.settings,
            "settings_version": deal.settings_version,
            "editable": [name for name in known if name in EDITABLE],
        }
        return Response(DealSettingsSerializer(body).data)
