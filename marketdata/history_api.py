"""Downloads of candles over the API, and what is held. Parse, call one service, present."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from marketdata import history
from marketdata.models import HistoryDownload
from marketdata.timeframes import Timeframe
from tradebot.core.api import ModelSerializer, Serializer
from tradebot.core.viewsets import NoFields, OwnedViewSet, validated

__all__ = ["HistoryViewSet"]


@extend_schema_field(OpenApiTypes.DATETIME)
class SecondsField(serializers.Field):
    """A moment that is stored in Unix seconds."""

    def to_representation(self, value: int) -> str:
        return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")


@extend_schema_field({"type": "array", "items": {"type": "array", "items": {"type": "integer"}}})
class StretchesField(serializers.JSONField):
    """Stretches of time: [[start, end), …] in Unix seconds."""


class HistoryDownloadSerializer(ModelSerializer):
    """A download and how far it is."""

    exchange = serializers.CharField(source="product.exchange", read_only=True)
    symbol = serializers.CharField(source="product.symbol", read_only=True)
    start = SecondsField(read_only=True)
    end = SecondsField(read_only=True)
    gaps = StretchesField(read_only=True, help_text="The longest stretches without trades.")
    progress_pct = serializers.SerializerMethodField()

    class Meta:
        model = HistoryDownload
        fields = [
            "id",
            "exchange",
            "symbol",
            "timeframe",
            "start",
            "end",
            "status",
            "progress_pct",
            "candles",
            "gaps",
            "cancel_requested",
            "error",
            "created_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_progress_pct(self, download: HistoryDownload) -> int:
        return int(history.progress_of(download) * 100)


class NewDownloadSerializer(Serializer):
    """Candles to fetch from a market's public source."""

    exchange = serializers.CharField(max_length=30)
    symbol = serializers.CharField(max_length=40)
    timeframe = serializers.ChoiceField(choices=[frame.value for frame in Timeframe])
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(required=False, allow_null=True, help_text="Left out: until now.")


class CoverageSerializer(Serializer):
    """One stretch of candles that is held."""

    exchange = serializers.CharField(source="product.exchange")
    symbol = serializers.CharField(source="product.symbol")
    timeframe = serializers.CharField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    candles = serializers.IntegerField(help_text="Candles with trades.")
    gap_share = serializers.SerializerMethodField(help_text="Part of all periods without trades, 0 to 1, as text.")

    def get_gap_share(self, row: history.Coverage) -> str:
        return f"{row.gap_share:.6f}"


class HistoryFilter(filters.FilterSet):
    """Downloads in one state."""

    class Meta:
        model = HistoryDownload
        fields = ["status", "timeframe"]


HELD = [OpenApiParameter("exchange", str), OpenApiParameter("symbol", str)]


class HistoryViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Your downloads of candles, newest first. The candles are public data and serve everybody."""

    queryset = HistoryDownload.objects.select_related("product").order_by("-id")
    serializer_class = HistoryDownloadSerializer
    filterset_class = HistoryFilter
    ordering_fields = ["id", "status", "created_at"]

    @extend_schema(request=NewDownloadSerializer, responses={201: HistoryDownloadSerializer})
    def create(self, request: Request) -> Response:
        """Ask for candles; what is held already is not fetched again."""
        row = history.start_download(request.user, **validated(NewDownloadSerializer, request))
        return Response(HistoryDownloadSerializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Forget a download that is over; its candles stay."""
        history.remove_download(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=HistoryDownloadSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Ask a waiting or running download to stop; what it has fetched stays."""
        row = self.get_object()
        validated(NoFields, request)
        return Response(HistoryDownloadSerializer(history.cancel_download(row)).data)

    @extend_schema(parameters=HELD, responses=CoverageSerializer(many=True), filters=False)
    @action(detail=False, pagination_class=None)
    def coverage(self, request: Request) -> Response:
        """Which candles are held: public data, the same for everybody."""
        query = request.query_params
        rows = history.coverage(query.get("exchange", ""), [query["symbol"]] if query.get("symbol") else [])
        return Response(CoverageSerializer(rows, many=True).data)
