"""A person's own coin categories over the API. Parse, call one service, present."""

from __future__ import annotations

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from bots import coins
from bots.models import CATEGORIES, CoinReview
from tradebot.core.api import ModelSerializer, Serializer
from tradebot.core.viewsets import OwnedViewSet, validated

__all__ = ["CoinReviewViewSet"]


class CoinReviewSerializer(ModelSerializer):
    """What you think of a coin; it goes before what the operator thinks."""

    class Meta:
        model = CoinReview
        fields = ["id", "code", "category", "reason", "updated_at"]
        read_only_fields = fields


class CoinReviewChangesSerializer(Serializer):
    """What may be changed of a review; what is left out stays."""

    category = serializers.ChoiceField(choices=CATEGORIES, required=False)
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True)


class NewCoinReviewSerializer(CoinReviewChangesSerializer):
    """A review to write. A coin that you have reviewed before is reviewed anew."""

    code = serializers.CharField(max_length=20)
    category = serializers.ChoiceField(choices=CATEGORIES)


class EffectiveCategorySerializer(serializers.Serializer[Any]):
    """The category of a coin that counts for your bots, and whose word it is."""

    code = serializers.CharField()
    category = serializers.CharField(help_text="Empty: nobody has reviewed it.")
    whose = serializers.ChoiceField(choices=["own", "operator", ""], help_text="Empty: nobody's.")
    operators = serializers.CharField(help_text="What the operator says; empty: nothing.")


class CoinReviewFilter(filters.FilterSet):
    """Reviews of one category or coin."""

    class Meta:
        model = CoinReview
        fields = ["category", "code"]


class CoinReviewViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Your own coin categories. They count for the bots on your accounts, whoever looks after these."""

    queryset = CoinReview.objects.order_by("code")
    serializer_class = CoinReviewSerializer
    filterset_class = CoinReviewFilter
    ordering_fields = ["code", "category", "updated_at"]

    @extend_schema(request=NewCoinReviewSerializer, responses={201: CoinReviewSerializer, 200: CoinReviewSerializer})
    def create(self, request: Request) -> Response:
        """Put a coin into a category: 201, or 200 where you had reviewed it before."""
        data = validated(NewCoinReviewSerializer, request)
        row, is_new = coins.review(_person(request), data["code"], data["category"], data.get("reason", ""))
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        return Response(CoinReviewSerializer(row).data, status=code)

    @extend_schema(request=CoinReviewChangesSerializer, responses=CoinReviewSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change category or reason of a review."""
        row = self.get_object()
        data = validated(CoinReviewChangesSerializer, request)
        changed, _ = coins.review(
            _person(request), row.code, data.get("category", row.category), data.get("reason", row.reason)
        )
        return Response(CoinReviewSerializer(changed).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Drop a review: the operator's word counts again."""
        coins.drop_review(_person(request), self.get_object().code)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        responses=EffectiveCategorySerializer(many=True),
        parameters=[OpenApiParameter("search", str, description="Part of a code.")],
        filters=False,
    )
    @action(detail=False)
    def effective(self, request: Request) -> Response:
        """Every coin that is known here with the category that counts for your bots."""
        rows = coins.known_coins(str(request.query_params.get("search", ""))[:20])
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(EffectiveCategorySerializer(page, many=True).data)


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user
