"""How public market data looks in the API. Amounts are strings, candle data are numbers."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from marketdata.models import Product
from marketdata.series import Candles
from marketdata.timeframes import Timeframe
from tradebot.core.api import AmountSerializerField, ModelSerializer

__all__ = ["CandlesQuerySerializer", "CandlesSerializer", "ProductSerializer", "TickerSerializer", "candle_rows"]

MOST_CANDLES = 1_000


class ProductSerializer(ModelSerializer):
    """A product with its terms."""

    class Meta:
        model = Product
        fields = [
            "id",
            "exchange",
            "symbol",
            "base",
            "quote",
            "price_increment",
            "base_increment",
            "quote_increment",
            "min_base",
            "min_quote",
            "status",
            "kind",
            "volume_24h",
            "price_change_24h",
            "refreshed_at",
        ]
        read_only_fields = fields


class CandlesQuerySerializer(serializers.Serializer):
    """What may be asked of the candles action."""

    timeframe = serializers.ChoiceField(choices=[frame.value for frame in Timeframe], default=Timeframe.H1.value)
    count = serializers.IntegerField(min_value=1, max_value=MOST_CANDLES, default=300)


class CandleSerializer(serializers.Serializer):
    """One closed candle; ``synthetic`` marks a period without trades."""

    time = serializers.IntegerField(help_text="Opening time, Unix seconds UTC.")
    open = serializers.FloatField()
    high = serializers.FloatField()
    low = serializers.FloatField()
    close = serializers.FloatField()
    volume = serializers.FloatField(help_text="In base currency.")
    synthetic = serializers.BooleanField()


class CandlesSerializer(serializers.Serializer):
    """Closed candles, oldest first."""

    product = serializers.CharField()
    timeframe = serializers.CharField()
    candles = CandleSerializer(many=True)


class TickerSerializer(serializers.Serializer):
    """A product's price at a moment."""

    symbol = serializers.CharField()
    bid = AmountSerializerField()
    ask = AmountSerializerField()
    last = AmountSerializerField()
    mark = AmountSerializerField(help_text="Mid of bid and ask.")
    at = serializers.DateTimeField()
    volume_24h = serializers.FloatField(allow_null=True)
    change_24h = serializers.FloatField(allow_null=True)


def candle_rows(candles: Candles) -> list[dict[str, Any]]:
    """Return candles as rows for :class:`CandlesSerializer`."""
    names = ("time", "open", "high", "low", "close", "volume", "synthetic")
    columns = [getattr(candles, name).tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
