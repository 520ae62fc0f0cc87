"""Public market data for any signed-in user: products, candles, tickers. Nothing here can be changed."""

from __future__ import annotations

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from marketdata import market, services
from marketdata.models import Product
from marketdata.serializers import (
    CandlesQuerySerializer,
    CandlesSerializer,
    ProductSerializer,
    TickerSerializer,
    candle_rows,
)
from marketdata.timeframes import Timeframe
from tradebot.core.errors import MissingInformation

__all__ = ["ProductViewSet"]


class ProductFilter(filters.FilterSet):
    """Products of one market, one quote currency, one status."""

    class Meta:
        model = Product
        fields = ["exchange", "base", "quote", "status", "kind"]


class ProductViewSet(viewsets.ReadOnlyModelViewSet):
    """Products of all markets. Market data is the same for everybody."""

    queryset = Product.objects.all()
    serializer_class = ProductSerializer
    permission_classes = [IsAuthenticated]
    filterset_class = ProductFilter
    filter_backends = [filters.DjangoFilterBackend, SearchFilter, OrderingFilter]
    search_fields = ["symbol", "base"]
    ordering_fields = ["symbol", "volume_24h", "price_change_24h"]

    @extend_schema(parameters=[CandlesQuerySerializer], responses=CandlesSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def candles(self, request: Request, pk: Any = None) -> Response:
        """Closed candles, oldest first, gaps filled flat and marked synthetic."""
        query = CandlesQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        product = self.get_object()
        timeframe = Timeframe.parse(query.validated_data["timeframe"])
        candles = services.chart_candles(product, timeframe, query.validated_data["count"])
        return Response({"product": product.symbol, "timeframe": timeframe.value, "candles": candle_rows(candles)})

    @extend_schema(responses=TickerSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def ticker(self, request: Request, pk: Any = None) -> Response:
        """Bid, ask, last and mark. Answers 409 ``unknown_price`` when the price is not known."""
        product = self.get_object()
        quote = market.fresh_quotes(product.exchange, [product.symbol]).get(product.symbol)
        if quote is None:
            raise MissingInformation("unknown_price", f"The price of {product.symbol} is not known at this moment.")
        return Response(TickerSerializer(quote).data)
