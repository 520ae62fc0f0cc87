"""Deals, orders and fills over the API. Parse, call one service, present."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from positions import manual
from positions.figures import deal_figures
from positions.models import Fill, Order, Position
from positions.serializers import (
    ClosePreviewSerializer,
    ClosingSerializer,
    FillSerializer,
    NotesSerializer,
    OrderSerializer,
    PositionSerializer,
)
from tradebot.core.viewsets import IdFilter, NoFields, OwnedViewSet, validated

__all__ = ["FillViewSet", "OrderViewSet", "PositionViewSet"]


class PositionFilter(filters.FilterSet):
    """Deals by where they stand, what they trade, and when they ended."""

    status = filters.MultipleChoiceFilter(choices=Position._meta.get_field("status").choices)
    product = IdFilter(field_name="product_id")
    symbol = filters.CharFilter(field_name="product__symbol", lookup_expr="iexact")
    closed_after = filters.IsoDateTimeFilter(field_name="closed_at", lookup_expr="gte")
    closed_before = filters.IsoDateTimeFilter(field_name="closed_at", lookup_expr="lt")

    class Meta:
        model = Position
        fields = ["account", "bot", "direction", "exit_reason"]


class OrderFilter(filters.FilterSet):
    """Orders by where they stand and what they belong to."""

    status = filters.MultipleChoiceFilter(choices=Order._meta.get_field("status").choices)
    position = IdFilter(field_name="position_id")
    bot = IdFilter(field_name="position__bot_id")
    symbol = filters.CharFilter(field_name="position__product__symbol", lookup_expr="iexact")

    class Meta:
        model = Order
        fields = ["account", "purpose", "side", "order_type"]


class FillFilter(filters.FilterSet):
    """Fills by what they belong to and when they happened."""

    position = IdFilter(field_name="position_id")
    order = IdFilter(field_name="order_id")
    symbol = filters.CharFilter(field_name="position__product__symbol", lookup_expr="iexact")
    after = filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")
    before = filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = Fill
        fields = ["account", "side"]


class PositionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Deals with their trades."""

    queryset = Position.objects.select_related("product", "account").prefetch_related("fills").order_by("-id")
    serializer_class = PositionSerializer
    filterset_class = PositionFilter
    ordering_fields = ["id", "created_at", "opened_at", "closed_at", "deal_number"]

    def get_serializer(self, instance: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Hand the serializer the figures of the deals it is to show, in a fixed number of queries."""
        context = dict(self.get_serializer_context())
        if isinstance(instance, Position | list | tuple):
            context["figures"] = _figures([instance] if isinstance(instance, Position) else instance)
        return PositionSerializer(instance, *args, **{**kwargs, "context": context})

    @extend_schema(request=NotesSerializer, responses=PositionSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Keep a note with the deal."""
        position = self.get_object()
        data = validated(NotesSerializer, request)
        manual.set_note(position, data["notes"], _email(request))
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(responses=ClosePreviewSerializer, filters=False)
    @action(detail=True, url_path="close-preview", pagination_class=None)
    def close_preview(self, request: Request, pk: Any = None) -> Response:
        """Answer what closing at market now would come to, from the order book."""
        return Response(ClosePreviewSerializer(manual.close_preview(self.get_object())).data)

    @extend_schema(request=None, responses=ClosingSerializer)
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: Any = None) -> Response:
        """Close the deal, really at market: resting orders are cancelled first. The answer is what the venue said."""
        position = self.get_object()
        validated(NoFields, request)
        closing = manual.close_at_market(position, _email(request))
        shown = self.get_object()
        context = {**self.get_serializer_context(), "figures": _figures([shown])}
        body = {"state": closing.state, "message": closing.message, "order": closing.order, "position": shown}
        return Response(ClosingSerializer(body, context=context).data)  # type: ignore[arg-type]

    @extend_schema(request=None, responses=PositionSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Give the deal up without selling: its orders are cancelled, its coins stay in the account."""
        position = self.get_object()
        validated(NoFields, request)
        manual.cancel_deal(position, _email(request))
        return Response(self.get_serializer(self.get_object()).data)


class OrderViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Orders, newest first."""

    queryset = Order.objects.select_related("position__product").order_by("-id")
    serializer_class = OrderSerializer
    filterset_class = OrderFilter
    ordering_fields = ["id", "created_at", "finished_at"]


class FillViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Executions that venues confirmed, newest first."""

    queryset = Fill.objects.select_related("position__product").order_by("-at", "-id")
    serializer_class = FillSerializer
    filterset_class = FillFilter
    ordering_fields = ["id", "at"]


def _figures(positions: Sequence[Position]) -> dict[int, Any]:
    return {row.position.pk: row for row in deal_figures(positions)}


def _email(request: Request) -> str:
    assert isinstance(request.user, User)
    return request.user.email
