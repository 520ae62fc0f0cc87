"""Bots, what they decided, and templates over the API. Parse, call one service, present."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from bots import bulk, looks, portable, services, strategies, templates
from bots.capital import Budget
from bots.form_page import merged_checks, sides_of
from bots.models import Bot, BotTemplate, BudgetKind, Decision
from bots.serializers import (
    AssignSerializer,
    BotChangesSerializer,
    BotDocumentSerializer,
    BotSerializer,
    BulkAnswerSerializer,
    BulkPreviewSerializer,
    BulkSerializer,
    CopiedSerializer,
    DecisionSerializer,
    ImportSerializer,
    LookSerializer,
    NewBotSerializer,
    NewTemplateSerializer,
    PreviewRequestSerializer,
    PreviewSerializer,
    StrategySerializer,
    TemplateSerializer,
)
from bots.signals.api import SignalActions
from bots.strategies import STRATEGIES
from bots.strategies.forms import field_specs
from positions.states import POSITION_ACTIVE
from tradebot.core.errors import InvalidInput
from tradebot.core.viewsets import NoFields, OwnedViewSet, validated

__all__ = ["BotViewSet", "TemplateViewSet"]

ENVELOPE = 1024
"""Bytes of an import besides the document: the account and the name."""


class BotFilter(filters.FilterSet):
    """Bots of one account or state; orphaned ones; with or without the archived ones."""

    orphaned = filters.BooleanFilter(field_name="account", lookup_expr="isnull")
    archived = filters.BooleanFilter(field_name="archived_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = Bot
        fields = ["account", "status", "strategy", "quote_currency"]


class BotViewSet(SignalActions, mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Bots of your accounts and of those shared with you."""

    queryset = (
        Bot.objects.prefetch_related("bot_products__product")
        .annotate(open_deals=Count("positions", filter=Q(positions__status__in=sorted(POSITION_ACTIVE))))
        .order_by("id")
    )
    serializer_class = BotSerializer
    filterset_class = BotFilter
    ordering_fields = ["id", "name", "status", "created_at"]

    def _shown(self, bot: Bot, code: int = status.HTTP_200_OK) -> Response:
        fresh = self.get_queryset().get(pk=bot.pk)
        return Response(BotSerializer(fresh, context=self.get_serializer_context()).data, status=code)

    @extend_schema(request=NewBotSerializer, responses={201: BotSerializer})
    def create(self, request: Request) -> Response:
        """Make a stopped bot on an account that you may act on."""
        data = validated(NewBotSerializer, request)
        return self._shown(services.create_bot(_person(request), **data), status.HTTP_201_CREATED)

    @extend_schema(request=BotChangesSerializer, responses=BotSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change a bot. Its open deals keep the settings that they opened with."""
        bot = self.get_object()
        data = validated(BotChangesSerializer, request)
        return self._shown(services.update_bot(bot, actor=_person(request).email, **data))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Archive the bot; deals, orders and fills stay. Refused while deals are open."""
        services.archive_bot(self.get_object(), _person(request).email)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _act(self, request: Request, service: Any) -> Response:
        bot = self.get_object()
        validated(NoFields, request)
        return self._shown(service(bot, _person(request).email))

    @extend_schema(request=None, responses=BotSerializer)
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: Any = None) -> Response:
        """Start the bot: it is looked at within seconds."""
        return self._act(request, services.start_bot)

    @extend_schema(request=None, responses=BotSerializer)
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: Any = None) -> Response:
        """Stop the bot: it opens nothing more, and goes on managing its open deals."""
        return self._act(request, services.stop_bot)

    @extend_schema(request=None, responses=BotSerializer)
    @action(detail=True, methods=["post"])
    def archive(self, request: Request, pk: Any = None) -> Response:
        """Stop the bot and put it away. Refused while deals are open."""
        return self._act(request, services.archive_bot)

    @extend_schema(request=None, responses=LookSerializer)
    @action(detail=True, methods=["post"], url_path="run-now")
    def run_now(self, request: Request, pk: Any = None) -> Response:
        """Look at the bot now and answer what was decided."""
        bot = self.get_object()
        validated(NoFields, request)
        return Response(LookSerializer(looks.run_now(bot, _person(request).email)).data)

    @extend_schema(request=None, responses={201: CopiedSerializer})
    @action(detail=True, methods=["post"])
    def clone(self, request: Request, pk: Any = None) -> Response:
        """Make a stopped bot like this one, on the same account."""
        bot = self.get_object()
        validated(NoFields, request)
        return self._copied(portable.clone_bot(bot, _person(request)))

    @extend_schema(request=AssignSerializer, responses={201: CopiedSerializer})
    @action(detail=True, methods=["post"])
    def copy(self, request: Request, pk: Any = None) -> Response:
        """Make a stopped bot like this one on another account. Pairs that its market does not trade are left out."""
        bot = self.get_object()
        data = validated(AssignSerializer, request)
        return self._copied(portable.copy_bot(bot, data["account"], _person(request)))

    @extend_schema(responses=BotDocumentSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def export(self, request: Request, pk: Any = None) -> Response:
        """The bot as a document that can be imported again."""
        return Response(portable.exported(self.get_object()))

    @extend_schema(request=PreviewRequestSerializer, responses=PreviewSerializer)
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """What unsaved settings come to: the ladder on each pair, its capital, and what stands against saving."""
        data = validated(PreviewRequestSerializer, request)
        strategy = strategies.get_strategy(data.get("strategy", "indicator_dca"))
        parsed = strategy.settings_from_json(data["settings"])
        account = data["account"]
        products = services.checked_products(account.exchange, data["symbols"])
        checked = services.checked_budget(
            data.get("budget_kind", BudgetKind.PERCENT), data.get("budget_pct", 10), data.get("budget_fixed", 0)
        )
        budget = Budget(checked["budget_kind"], checked["budget_pct"], checked["budget_fixed"], data["split_budget"])
        sides = sides_of(parsed, budget, account, products, data["shown"])
        body = {
            "quote": products[0].quote,
            "workable": all(side.preview.is_workable for side in sides),
            "checks": merged_checks(sides),
            "sides": [side.preview for side in sides],
        }
        return Response(PreviewSerializer(body).data)

    @extend_schema(request=ImportSerializer, responses={201: CopiedSerializer})
    @action(detail=False, methods=["post"], url_path="import")
    def import_document(self, request: Request) -> Response:
        """Make a stopped bot from an exported one. Everything in the document is checked as if it had been typed."""
        if int(request.META.get("CONTENT_LENGTH") or 0) > portable.LARGEST_DOCUMENT + ENVELOPE:
            raise portable.too_large()
        data = validated(ImportSerializer, request)
        given = data["document"]
        document = portable.read_document(given) if isinstance(given, str) else given
        if not isinstance(document, dict):
            raise InvalidInput("not_an_object", "An exported bot is a JSON object.", field="document")
        person = _person(request)
        return self._copied(portable.import_bot(person, data["account"], document, name=data.get("name", "")))

    def _copied(self, made: portable.Copy) -> Response:
        fresh = self.get_queryset().get(pk=made.bot.pk)
        body = {"bot": fresh, "dropped": list(made.dropped), "message": made.message}
        return Response(
            CopiedSerializer(body, context=self.get_serializer_context()).data,
            status=status.HTTP_201_CREATED,
        )

    @extend_schema(responses=BulkPreviewSerializer, filters=False)
    @action(detail=True, url_path="bulk-preview", pagination_class=None)
    def bulk_preview(self, request: Request, pk: Any = None) -> Response:
        """What the bot's open deals are worth now, before selling or cancelling them all."""
        return Response(BulkPreviewSerializer(bulk.bulk_preview(self.get_object())).data)

    @extend_schema(request=BulkSerializer, responses=BulkAnswerSerializer)
    @action(detail=True, methods=["post"], url_path="sell-all")
    def sell_all(self, request: Request, pk: Any = None) -> Response:
        """Close every open deal of the bot at market; one answer for each deal, failures included."""
        return self._bulk(request, bulk.sell_all, "closed")

    @extend_schema(request=BulkSerializer, responses=BulkAnswerSerializer)
    @action(detail=True, methods=["post"], url_path="cancel-all")
    def cancel_all(self, request: Request, pk: Any = None) -> Response:
        """Give every open deal of the bot up: orders are cancelled, coins stay in the account."""
        return self._bulk(request, bulk.cancel_all, "cancelled")

    def _bulk(self, request: Request, service: Any, done: str) -> Response:
        bot = self.get_object()
        data = validated(BulkSerializer, request)
        answers = service(bot, _person(request).email, stop=data["stop"])
        body = {
            "message": bulk.said(answers, done),
            "failed": sum(answer.failed for answer in answers),
            "deals": answers,
        }
        return Response(BulkAnswerSerializer(body).data)

    @extend_schema(request=AssignSerializer, responses=BotSerializer)
    @action(detail=True, methods=["post"])
    def assign(self, request: Request, pk: Any = None) -> Response:
        """Put the bot, orphaned or without open deals, on another account of its owner. It is stopped by that."""
        bot = self.get_object()
        data = validated(AssignSerializer, request)
        return self._shown(services.assign_account(bot, data["account"], _person(request).email))

    @extend_schema(responses=DecisionSerializer(many=True), filters=False)
    @action(detail=True)
    def decisions(self, request: Request, pk: Any = None) -> Response:
        """What the bot decided and why, newest first. Kept for some days."""
        rows = Decision.objects.filter(bot=self.get_object()).select_related("product").order_by("-id")
        return self.get_paginated_response(DecisionSerializer(self.paginate_queryset(rows), many=True).data)

    @extend_schema(responses=StrategySerializer(many=True), filters=False)
    @action(detail=False, url_path="settings-schema", pagination_class=None)
    def settings_schema(self, request: Request) -> Response:
        """The strategies and their settings, generated from what the engine itself checks them against."""
        body = [
            {
                "name": strategy.name,
                "label": strategy.label,
                "description": strategy.description,
                "fields": field_specs(strategy.settings_model),
                "json_schema": strategy.settings_model.model_json_schema(),
            }
            for strategy in STRATEGIES.values()
        ]
        return Response(StrategySerializer(body, many=True).data)


class TemplateFilter(filters.FilterSet):
    """Presets or one's own."""

    preset = filters.BooleanFilter(field_name="owner", lookup_expr="isnull")

    class Meta:
        model = BotTemplate
        fields = ["strategy"]


class TemplateViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Presets, which everybody sees, and your own templates. A preset cannot be changed: 403."""

    queryset = (BotTemplate.presets.all() | BotTemplate.objects.all()).order_by("id")
    serializer_class = TemplateSerializer
    filterset_class = TemplateFilter
    ordering_fields = ["id", "name", "created_at"]

    @extend_schema(request=NewTemplateSerializer, responses={201: TemplateSerializer})
    def create(self, request: Request) -> Response:
        """Keep the settings of a bot as a template of your own."""
        data = validated(NewTemplateSerializer, request)
        row = templates.save_as_template(_person(request), data["bot"], data["name"], data.get("description", ""))
        return Response(TemplateSerializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Remove a template of your own; bots made from it keep their settings."""
        templates.delete_template(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user
