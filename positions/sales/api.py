"""Selling and converting over the API. Parse, call one service, present."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from positions.figures import deal_figures
from positions.sales import plan, service
from positions.sales.serializers import ConvertSerializer, ExchangedSerializer, OutlookSerializer, SellSerializer
from tradebot.core.once_api import Repeatable
from tradebot.core.viewsets import validated

__all__ = ["ConvertView", "SellView"]


class SellView(Repeatable, APIView):
    """Selling coins that no deal holds."""

    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="portfolio_sell_preview", parameters=[SellSerializer], responses=OutlookSerializer)
    def get(self, request: Request) -> Response:
        """Answer what a sale would come to now, from the order book. Nothing is sold."""
        asked = _asked(SellSerializer, request)
        into = service.sold_for(asked["account"], asked["currency"], asked["into"])
        found = plan.outlook(asked["account"], asked["currency"], into, asked.get("amount"))
        return Response(OutlookSerializer(found).data)

    @extend_schema(operation_id="portfolio_sell", request=SellSerializer, responses={201: ExchangedSerializer})
    def post(self, request: Request) -> Response:
        """Sell coins of no deal at market. 400 names the field with what is free or the smallest order."""
        asked = validated(SellSerializer, request)
        return _answered(service.sell(**asked, **_by(request)))


class ConvertView(Repeatable, APIView):
    """Converting one currency into another one."""

    permission_classes = [IsAuthenticated]

    @extend_schema(
        operation_id="portfolio_convert_preview", parameters=[ConvertSerializer], responses=OutlookSerializer
    )
    def get(self, request: Request) -> Response:
        """Answer what a conversion would come to now, from the order books. Nothing is converted."""
        return Response(OutlookSerializer(plan.outlook(**_asked(ConvertSerializer, request))).data)

    @extend_schema(operation_id="portfolio_convert", request=ConvertSerializer, responses={201: ExchangedSerializer})
    def post(self, request: Request) -> Response:
        """Convert at market: by one order where the market trades the pair, else by two over a common quote currency.

        If the second one is refused, the money stays in that currency: state ``stopped``, and why.
        """
        asked = validated(ConvertSerializer, request)
        return _answered(service.convert(**asked, **_by(request)))


def _asked(serializer: type[Any], request: Request) -> dict[str, Any]:
    query = serializer(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return dict(query.validated_data)


def _by(request: Request) -> dict[str, Any]:
    assert isinstance(request.user, User)
    return {"actor": request.user.email, "created_by": request.user}


def _answered(found: service.Exchanged) -> Response:
    deals = [deal for deal in (found.story.first, found.story.second) if deal is not None]
    context = {"figures": {row.position.pk: row for row in deal_figures(deals)}}
    return Response(ExchangedSerializer(found, context=context).data, status=status.HTTP_201_CREATED)
