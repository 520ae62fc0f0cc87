"""Perpetual deals as the API shows and takes them. Amounts are strings."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.models import Account
from marketdata.models import Product
from positions.models import Bracket, PerpsTerms
from positions.perps import OpenState
from positions.serializers import OrderSerializer, PositionSerializer
from positions.states import Direction
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer
from tradebot.core.words import MarginMode

__all__ = [
    "BracketChangeSerializer",
    "BracketSerializer",
    "ModifyBracketSerializer",
    "OpenPerpSerializer",
    "OpeningSerializer",
    "PerpSerializer",
]


class PerpsTermsSerializer(ModelSerializer):
    """What makes the deal a perpetual one; null where the venue has not told yet."""

    class Meta:
        model = PerpsTerms
        fields = [
            "leverage",
            "margin_mode",
            "initial_margin",
            "margin",
            "entry_price",
            "liquidation_price",
            "funding_quote",
            "last_funding_at",
            "checked_at",
        ]
        read_only_fields = fields


class BracketSerializer(ModelSerializer):
    """The take profit and stop that are wanted. ``alarm_code`` is empty while they stand at the venue."""

    class Meta:
        model = Bracket
        fields = ["take_profit", "stop_loss", "watched", "alarm_code", "alarm_text", "alarm_at", "updated_at"]
        read_only_fields = fields


class PerpSerializer(PositionSerializer):
    """A deal in a perpetual, with its terms and its bracket."""

    perps = PerpsTermsSerializer(source="perps_terms", read_only=True)
    bracket = BracketSerializer(read_only=True)

    class Meta(PositionSerializer.Meta):
        fields = [*PositionSerializer.Meta.fields, "perps", "bracket"]
        read_only_fields = fields


class ModifyBracketSerializer(Serializer):
    """Both are set: null is none."""

    take_profit = AmountSerializerField(allow_null=True)
    stop_loss = AmountSerializerField(allow_null=True)


class OpenPerpSerializer(Serializer):
    """A position to open. What is left out comes from the account's settings; without a price it is at market."""

    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.editable())
    product = serializers.PrimaryKeyRelatedField(queryset=Product.objects.filter(kind=Product.Kind.PERPETUAL))
    direction = serializers.ChoiceField(choices=[(word.value, word.value) for word in Direction])
    margin = AmountSerializerField(required=False, help_text="In quote currency, without the fee. Or give base.")
    base = AmountSerializerField(required=False, help_text="The size in base currency. Or give margin.")
    leverage = serializers.IntegerField(required=False, min_value=1, max_value=10)
    margin_mode = serializers.ChoiceField(choices=[(word.value, word.value) for word in MarginMode], required=False)
    price = AmountSerializerField(required=False, help_text="Makes it a limit order.")
    take_profit = AmountSerializerField(required=False, allow_null=True)
    stop_loss = AmountSerializerField(required=False, allow_null=True)

    def validate_direction(self, value: str) -> Direction:
        return Direction(value)


class OpeningSerializer(serializers.Serializer[Any]):
    """How an opening stands: ``sent`` means not confirmed yet."""

    state = serializers.ChoiceField(choices=[(state.value, state.value) for state in OpenState])
    message = serializers.CharField()
    order = OrderSerializer()
    bracket = BracketSerializer()
    position = PositionSerializer()


class BracketChangeSerializer(serializers.Serializer[Any]):
    """What became of a change of take profit and stop."""

    message = serializers.CharField()
    bracket = BracketSerializer()
    position = PositionSerializer()
