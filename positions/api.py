"""Deals, orders and fills over the API. Parse, call one service, present."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import Http404
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from positions import funds, limit_close, manual, perps, preview
from positions.figures import deal_figures
from positions.limit_close import LimitClosing
from positions.models import Fill, Order, Position
from positions.perps_serializers import (
    BracketChangeSerializer,
    ModifyBracketSerializer,
    OpeningSerializer,
    OpenPerpSerializer,
    PerpSerializer,
)
from positions.serializers import (
    AddFundsSerializer,
    AdditionSerializer,
    CeilingSerializer,
    ClosePreviewSerializer,
    ClosingSerializer,
    DealTickerSerializer,
    FillSerializer,
    LimitChangeSerializer,
    LimitCloseSerializer,
    LimitClosingSerializer,
    NotesSerializer,
    OrderSerializer,
    PartSerializer,
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

    # Looking ----------------------------------------------------------------------------------------------------------

    @extend_schema(responses=DealTickerSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def ticker(self, request: Request, pk: Any = None) -> Response:
        """Bid, ask, mark and last price of the deal's product, with their age. 409 when the price is not known."""
        return Response(DealTickerSerializer(preview.ticker(self.get_object())).data)

    @extend_schema(responses=ClosePreviewSerializer, filters=False)
    @action(detail=True, url_path="close-preview", pagination_class=None)
    def close_preview(self, request: Request, pk: Any = None) -> Response:
        """Answer what closing all of it at market now would come to, from the order book."""
        return Response(ClosePreviewSerializer(preview.close_preview(self.get_object())).data)

    @extend_schema(parameters=[PartSerializer], responses=ClosePreviewSerializer, filters=False)
    @action(detail=True, url_path="slippage-check", pagination_class=None)
    def slippage_check(self, request: Request, pk: Any = None) -> Response:
        """Answer what closing what is left, or a part of it, at market now would come to, from the order book."""
        position = self.get_object()
        asked = PartSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        return Response(ClosePreviewSerializer(preview.close_preview(position, **asked.validated_data)).data)

    # Closing ----------------------------------------------------------------------------------------------------------

    @extend_schema(request=PartSerializer, responses=ClosingSerializer)
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: Any = None) -> Response:
        """Close the deal or a part of it, really at market: resting orders are cancelled first.

        The answer is what the venue said.
        """
        position = self.get_object()
        part = validated(PartSerializer, request)
        closing = manual.close_at_market(position, _email(request), **part)
        body = {"state": closing.state, "message": closing.message, "order": closing.order}
        return self._answered(ClosingSerializer, body)

    @extend_schema(request=LimitCloseSerializer, responses=LimitClosingSerializer)
    @action(detail=True, methods=["post"], url_path="limit-close")
    def limit_close(self, request: Request, pk: Any = None) -> Response:
        """Place a limit close of everything that is left, or of a part. Other resting orders are cancelled first.

        A deal has one at most: 409 ``limit_close_working`` when there is one, which can be changed.
        """
        position = self.get_object()
        asked = validated(LimitCloseSerializer, request)
        return self._limit_closing(limit_close.place(position, _email(request), **asked))

    @extend_schema(request=LimitChangeSerializer, responses=LimitClosingSerializer)
    @action(detail=True, methods=["post"], url_path="update-limit-close")
    def update_limit_close(self, request: Request, pk: Any = None) -> Response:
        """Replace the resting limit close, once its cancel is confirmed, for what it has not filled yet."""
        position = self.get_object()
        asked = validated(LimitChangeSerializer, request)
        return self._limit_closing(limit_close.change(position, _email(request), **asked))

    @extend_schema(request=None, responses=LimitClosingSerializer)
    @action(detail=True, methods=["post"], url_path="cancel-limit-close")
    def cancel_limit_close(self, request: Request, pk: Any = None) -> Response:
        """Cancel the resting limit close. The answer says whether it was filled at that moment."""
        position = self.get_object()
        validated(NoFields, request)
        return self._limit_closing(limit_close.cancel(position, _email(request)))

    @extend_schema(request=None, responses=PositionSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Give the deal up without selling: its orders are cancelled, its coins stay in the account."""
        position = self.get_object()
        validated(NoFields, request)
        manual.cancel_deal(position, _email(request))
        return Response(self.get_serializer(self.get_object()).data)

    # Perpetuals -------------------------------------------------------------------------------------------------------

    @extend_schema(request=OpenPerpSerializer, responses={201: OpeningSerializer})
    @action(detail=False, methods=["post"], url_path="open-perp")
    def open_perp(self, request: Request) -> Response:
        """Open a position in a perpetual future by one order, with its take profit and stop."""
        asked = validated(OpenPerpSerializer, request)
        account, product, direction = (asked.pop(name) for name in ("account", "product", "direction"))
        limit = asked.pop("price", None)
        found = perps.open_position(
            account, product, direction, actor=_email(request), created_by=request.user, limit_price=limit, **asked
        )
        body = {"state": found.state, "message": found.message, "order": found.order, "bracket": found.bracket}
        return self._answered(OpeningSerializer, body, found.position, status.HTTP_201_CREATED)

    @extend_schema(responses=PerpSerializer, filters=False)
    @action(detail=True, url_path="perp", pagination_class=None)
    def perp(self, request: Request, pk: Any = None) -> Response:
        """The deal with its terms as a perpetual and its bracket. 404 for a deal that is none."""
        position = self.get_object()
        if not position.product.is_perpetual:
            raise Http404
        context = {**self.get_serializer_context(), "figures": _figures([position])}
        return Response(PerpSerializer(position, context=context).data)

    @extend_schema(request=ModifyBracketSerializer, responses=BracketChangeSerializer)
    @action(detail=True, methods=["post"], url_path="modify-tp-sl")
    def modify_tp_sl(self, request: Request, pk: Any = None) -> Response:
        """Set take profit and stop of a perpetual deal; null is none. The answer says whether they stand."""
        position = self.get_object()
        asked = validated(ModifyBracketSerializer, request)
        found = perps.change_bracket(position, _email(request), **asked)
        return self._answered(BracketChangeSerializer, {"message": found.message, "bracket": found.bracket})

    # Adding -----------------------------------------------------------------------------------------------------------

    @extend_schema(request=AddFundsSerializer, responses=AdditionSerializer)
    @action(detail=True, methods=["post"], url_path="add-funds")
    def add_funds(self, request: Request, pk: Any = None) -> Response:
        """Add to the deal within its ceiling, or raise that with it. It does not count as a safety order."""
        position = self.get_object()
        asked = validated(AddFundsSerializer, request)
        return self._addition(funds.add_funds(position, asked.pop("amount"), _email(request), **asked))

    @extend_schema(request=None, responses=AdditionSerializer)
    @action(detail=True, methods=["post"], url_path="cancel-add-funds")
    def cancel_add_funds(self, request: Request, pk: Any = None) -> Response:
        """Cancel the addition that rests as a limit order. The answer says whether it was filled at that moment."""
        position = self.get_object()
        validated(NoFields, request)
        return self._addition(funds.cancel_add(position, _email(request)))

    @extend_schema(request=CeilingSerializer, responses=PositionSerializer)
    @action(detail=True, methods=["post"])
    def resize(self, request: Request, pk: Any = None) -> Response:
        """Set the most that the deal may spend: not below what it has spent."""
        position = self.get_object()
        asked = validated(CeilingSerializer, request)
        funds.set_ceiling(position, asked["budget_quote"], _email(request))
        return Response(self.get_serializer(self.get_object()).data)

    def _limit_closing(self, found: LimitClosing) -> Response:
        body = {"state": found.state, "message": found.message, "raced": found.raced, "order": found.order}
        return self._answered(LimitClosingSerializer, body)

    def _addition(self, found: funds.Addition) -> Response:
        body = {"state": found.state, "message": found.message, "raised_to": found.raised_to, "order": found.order}
        return self._answered(AdditionSerializer, body)

    def _answered(
        self, serializer: Any, body: dict[str, Any], made: Position | None = None, code: int = status.HTTP_200_OK
    ) -> Response:
        """Answer with what happened and the deal as it is now: the one of the address, or the one that was ``made``."""
        shown = self.get_object() if made is None else self.get_queryset().get(pk=made.pk)
        context = {**self.get_serializer_context(), "figures": _figures([shown])}
        return Response(serializer({**body, "position": shown}, context=context).data, status=code)


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
