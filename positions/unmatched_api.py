"""Executions that no order of ours explains, over the API."""

from __future__ import annotations

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from positions import unmatched
from positions.models import UnmatchedFill
from tradebot.core.api import ModelSerializer, Serializer
from tradebot.core.viewsets import IdFilter, OwnedViewSet, validated

__all__ = ["UnmatchedFillViewSet"]


class UnmatchedFillSerializer(ModelSerializer):
    """An execution at the venue that belongs to no order of yours here, and what you say it was."""

    class Meta:
        model = UnmatchedFill
        fields = [
            "id",
            "account",
            "venue_trade_id",
            "symbol",
            "side",
            "price",
            "base",
            "at",
            "reported_at",
            "explanation",
            "explained_at",
            "explained_by",
        ]
        read_only_fields = fields


class ExplainSerializer(Serializer):
    """What it was."""

    explanation = serializers.ChoiceField(choices=UnmatchedFill.Explanation.choices)


class UnmatchedFillFilter(filters.FilterSet):
    """Those of one account, and those that are explained or not."""

    account = IdFilter()
    explained = filters.BooleanFilter(field_name="explanation", method="by_explained")

    class Meta:
        model = UnmatchedFill
        fields = ["symbol", "side"]

    def by_explained(self, rows: Any, name: str, value: bool) -> Any:
        return rows.exclude(explanation="") if value else rows.filter(explanation="")


@extend_schema_view(
    list=extend_schema(description="Executions at your venues that no order of yours here explains."),
    retrieve=extend_schema(description="One of them."),
)
class UnmatchedFillViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """They are never added to a deal, whatever they are explained as."""

    queryset = UnmatchedFill.objects.select_related("account").order_by("-id")
    serializer_class = UnmatchedFillSerializer
    filterset_class = UnmatchedFillFilter
    ordering_fields = ["id", "at"]

    @extend_schema(request=ExplainSerializer, responses=UnmatchedFillSerializer)
    @action(detail=True, methods=["post"])
    def explain(self, request: Request, pk: Any = None) -> Response:
        """Say what it was."""
        fill = self.get_object()
        data = validated(ExplainSerializer, request)
        assert isinstance(request.user, User)
        return Response(UnmatchedFillSerializer(unmatched.explain(fill, data["explanation"], request.user.email)).data)
