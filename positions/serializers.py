"""Deals, orders and fills as the API shows them. Amounts are strings; nothing here is written but a note."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rest_framework import serializers

from positions.figures import DealFigures
from positions.manual import NOTE_LENGTH, CloseState, Closing
from positions.models import Fill, Order, Position
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer

__all__ = [
    "ClosePreviewSerializer",
    "ClosingSerializer",
    "FillSerializer",
    "NotesSerializer",
    "OrderSerializer",
    "PositionSerializer",
]


class FillSerializer(ModelSerializer):
    """An execution that the venue confirmed."""

    symbol = serializers.CharField(source="position.product.symbol", read_only=True)

    class Meta:
        model = Fill
        fields = [
            "id",
            "account",
            "position",
            "order",
            "symbol",
            "venue_trade_id",
            "side",
            "price",
            "base",
            "quote",
            "fee",
            "fee_currency",
            "is_maker",
            "at",
        ]
        read_only_fields = fields


class TradeSerializer(ModelSerializer):
    """A fill within its deal."""

    class Meta:
        model = Fill
        fields = [
            "id",
            "order",
            "venue_trade_id",
            "side",
            "price",
            "base",
            "quote",
            "fee",
            "fee_currency",
            "is_maker",
            "at",
        ]
        read_only_fields = fields


class OrderSerializer(ModelSerializer):
    """An order, from its intent to its end."""

    symbol = serializers.CharField(source="position.product.symbol", read_only=True)

    class Meta:
        model = Order
        fields = [
            "id",
            "account",
            "position",
            "symbol",
            "client_order_id",
            "venue_order_id",
            "purpose",
            "sequence",
            "side",
            "order_type",
            "base_size",
            "quote_size",
            "limit_price",
            "expires_at",
            "levels",
            "exit_reason",
            "status",
            "hold_currency",
            "hold_amount",
            "filled_base",
            "filled_quote",
            "error_code",
            "error_text",
            "actor",
            "created_at",
            "submitted_at",
            "finished_at",
        ]
        read_only_fields = fields


class PositionSerializer(ModelSerializer):
    """A deal with its trades. Prices and unrealised figures are null where no price is known, never zero (F34)."""

    symbol = serializers.CharField(source="product.symbol", read_only=True)
    exchange = serializers.CharField(source="product.exchange", read_only=True)
    quote_currency = serializers.CharField(source="product.quote", read_only=True)
    mark_price = serializers.SerializerMethodField(help_text="Mid of bid and ask, while the deal runs.")
    unrealised_quote = serializers.SerializerMethodField(help_text="Net of the fees of selling now.")
    profit_quote = serializers.SerializerMethodField(help_text="Realised and unrealised, net of fees.")
    profit_pct = serializers.SerializerMethodField(help_text="In percent of all that was invested.")
    trades = TradeSerializer(source="fills", many=True, read_only=True)

    class Meta:
        model = Position
        fields = [
            "id",
            "uid",
            "account",
            "bot",
            "bot_name",
            "product",
            "symbol",
            "exchange",
            "quote_currency",
            "strategy",
            "direction",
            "status",
            "deal_number",
            "attempt_number",
            "settings",
            "settings_version",
            "budget_quote",
            "base_bought",
            "base_sold",
            "base_held",
            "quote_spent",
            "quote_received",
            "fees_quote",
            "average_price",
            "realised_quote",
            "realised_pct",
            "mark_price",
            "unrealised_quote",
            "profit_quote",
            "profit_pct",
            "safety_orders_filled",
            "trail",
            "last_code",
            "last_message",
            "last_evidence",
            "exit_reason",
            "notes",
            "error_code",
            "last_error",
            "created_at",
            "opened_at",
            "closed_at",
            "trades",
        ]
        read_only_fields = fields

    def _figures(self, position: Position) -> DealFigures:
        figures: DealFigures = self.context["figures"][position.pk]
        return figures

    def get_mark_price(self, position: Position) -> str | None:
        return _text(self._figures(position).mark)

    def get_unrealised_quote(self, position: Position) -> str | None:
        unrealised = self._figures(position).unrealised
        return None if unrealised is None else _text(unrealised.profit)

    def get_profit_quote(self, position: Position) -> str | None:
        return _text(self._figures(position).profit)

    def get_profit_pct(self, position: Position) -> str | None:
        return _text(self._figures(position).profit_pct)


class NotesSerializer(Serializer):
    """What a person writes down about a deal."""

    notes = serializers.CharField(max_length=NOTE_LENGTH, allow_blank=True)


class ClosePreviewSerializer(serializers.Serializer[Any]):
    """What closing at market now would come to."""

    bid = AmountSerializerField()
    ask = AmountSerializerField()
    base = AmountSerializerField()
    expected_price = AmountSerializerField(help_text="Average over the order book's levels.")
    slippage_pct = AmountSerializerField()
    fee_quote = AmountSerializerField()
    value_quote = AmountSerializerField()
    profit_quote = AmountSerializerField()
    profit_pct = AmountSerializerField()
    is_dust = serializers.BooleanField(help_text="The remainder is too small to trade.")


class ClosingSerializer(serializers.Serializer[Closing]):
    """How a close stands: ``working`` means sent and not confirmed yet."""

    state = serializers.ChoiceField(choices=[(state.value, state.value) for state in CloseState])
    message = serializers.CharField()
    order = OrderSerializer(allow_null=True)
    position = PositionSerializer()


def _text(amount: Decimal | None) -> str | None:
    """Return an amount as text, with the 18 places that stored amounts have."""
    return None if amount is None else AmountSerializerField().to_representation(round(amount, 18))
