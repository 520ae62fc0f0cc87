"""Sales and conversions as the API takes and shows them. Amounts are strings."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.models import Account
from positions.portfolio.serializers import FigureField
from positions.sales.story import StoryState
from positions.serializers import OrderSerializer, PositionSerializer
from tradebot.core.api import AmountSerializerField, Serializer

__all__ = ["ConvertSerializer", "ExchangedSerializer", "OutlookSerializer", "SellSerializer"]


class ConvertSerializer(Serializer):
    """What to convert. Only what is free can be: not in orders, not needed by open deals."""

    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.editable())
    currency = serializers.CharField(max_length=20, help_text="What is given away.")
    into = serializers.CharField(max_length=20, help_text="What is wanted.")
    amount = AmountSerializerField(
        required=False, help_text="Of `currency`, with the fee where it buys. Default: all that is free."
    )


class SellSerializer(ConvertSerializer):
    """What to sell, at market."""

    into = serializers.CharField(
        max_length=20,
        required=False,
        default="",
        help_text="The quote currency. Default: the one that most pairs are quoted in.",
    )


class StepSerializer(serializers.Serializer[Any]):
    """One order, by the order book as it is now."""

    symbol = serializers.CharField(source="step.product.symbol")
    side = serializers.CharField(source="step.side")
    gives = FigureField(help_text="In the currency that it gives, fee included.")
    gives_currency = serializers.CharField(source="step.gives")
    gets = FigureField(help_text="In the currency that it gets, after the fee.")
    gets_currency = serializers.CharField(source="step.gets")
    price = FigureField(help_text="Average over the order book's levels.")
    slippage_pct = FigureField(source="pct", help_text="How much worse than the best price.")
    fee_quote = FigureField(source="fee")
    is_covered = serializers.BooleanField(help_text="False: the book shows less, so it may be worse.")


class OutlookSerializer(serializers.Serializer[Any]):
    """What it would come to now."""

    currency = serializers.CharField(source="plan.currency")
    into = serializers.CharField(source="plan.into")
    free = FigureField(source="plan.free", help_text="What may be sold or converted in all.")
    gives = FigureField()
    gets = FigureField()
    left = FigureField(help_text="What stays of the currency.")
    left_is_dust = serializers.BooleanField(help_text="It is too small for an order of its own.")
    steps = StepSerializer(many=True)


class ExchangedSerializer(serializers.Serializer[Any]):
    """How it stands. ``working``: not confirmed yet, or its second step follows by itself. ``partly``: less was filled
    than asked for. ``stopped``: the second step did not happen, and the money is in the currency in between."""

    state = serializers.ChoiceField(choices=[(state.value, state.value) for state in StoryState])
    message = serializers.CharField()
    order = OrderSerializer()
    position = PositionSerializer(source="story.first")
    second_order = OrderSerializer(source="second", allow_null=True)
    second_position = PositionSerializer(source="story.second", allow_null=True)
