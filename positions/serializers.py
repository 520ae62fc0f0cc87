"""Deals, orders and fills as the API shows them. Amounts are strings; nothing here is written but a note."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rest_framework import serializers

from positions.figures import DealFigures
from positions.funds import Addition, AddState
from positions.handling import TimeInForce
from positions.limit_close import LimitClosing, LimitState
from positions.manual import NOTE_LENGTH, CloseState, Closing
from positions.models import Fill, Order, Position
from positions.states import OrderType
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer

__all__ = [
    "AddFundsSerializer",
    "AdditionSerializer",
    "CeilingSerializer",
    "ClosePreviewSerializer",
    "ClosingSerializer",
    "DealTickerSerializer",
    "FillSerializer",
    "LimitChangeSerializer",
    "LimitCloseSerializer",
    "LimitClosingSerializer",
    "NotesSerializer",
    "OrderSerializer",
    "PartSerializer",
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


class PartSerializer(Serializer):
    """How much of a deal to close; neither is everything that is left."""

    base = AmountSerializerField(required=False, help_text="In base currency, at most what is left.")
    share_pct = AmountSerializerField(required=False, help_text="Percent of what is left, up to 100.")


class _UntilSerializer(Serializer):
    """How long a limit order waits."""

    time_in_force = serializers.ChoiceField(
        choices=[(word.value, word.value) for word in TimeInForce],
        required=False,
        help_text="gtc: until it is cancelled. gtd: until expires_at.",
    )
    expires_at = serializers.DateTimeField(required=False, help_text="In the future; with gtd only.")

    def to_internal_value(self, data: Any) -> Any:
        """Take the words in capitals as well, as exchanges write them."""
        if isinstance(data, Mapping) and isinstance(data.get("time_in_force"), str):
            data = {**data, "time_in_force": data["time_in_force"].lower()}
        return super().to_internal_value(data)

    def validate_time_in_force(self, value: str) -> TimeInForce:
        return TimeInForce(value)


class LimitCloseSerializer(_UntilSerializer, PartSerializer):
    """A limit close to place: of everything that is left, or of a part."""

    price = AmountSerializerField()


class LimitChangeSerializer(_UntilSerializer):
    """What to change about the resting limit close; what is left out stays."""

    price = AmountSerializerField(required=False)


class AddFundsSerializer(_UntilSerializer):
    """An addition to a deal."""

    amount = AmountSerializerField(help_text="In quote currency.")
    order_type = serializers.ChoiceField(
        choices=[(word.value, word.value) for word in OrderType], default=OrderType.MARKET.value
    )
    price = AmountSerializerField(required=False, help_text="Of a limit order.")
    raise_ceiling = serializers.BooleanField(
        default=False, help_text="Raise the deal's ceiling as far as the amount needs."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Let a limit order have a price, and a market order none."""
        is_limit = attrs.pop("order_type") == OrderType.LIMIT
        if is_limit and attrs.get("price") is None:
            raise serializers.ValidationError({"price": "A limit order has a price."}, code="required")
        if not is_limit and attrs.get("price") is not None:
            raise serializers.ValidationError({"price": "A market order has no price."}, code="contradiction")
        return attrs


class CeilingSerializer(Serializer):
    """The most that a deal may spend."""

    budget_quote = AmountSerializerField(help_text="In quote currency, not below what is spent.")


class DealTickerSerializer(serializers.Serializer[Any]):
    """What the deal's product costs now."""

    symbol = serializers.CharField()
    bid = AmountSerializerField()
    ask = AmountSerializerField()
    mark = AmountSerializerField(help_text="Mid of bid and ask.")
    last = AmountSerializerField()
    exit = AmountSerializerField(help_text="What closing meets: a long's bid, a short's ask.")
    at = serializers.DateTimeField()
    age_seconds = serializers.FloatField()


class ClosePreviewSerializer(serializers.Serializer[Any]):
    """What closing at market now would come to."""

    side = serializers.CharField()
    bid = AmountSerializerField()
    ask = AmountSerializerField()
    remaining = AmountSerializerField(help_text="All that is left of the deal, in base.")
    base = AmountSerializerField(help_text="What would be closed, in base.")
    expected_price = AmountSerializerField(help_text="Average over the order book's levels.")
    slippage_pct = AmountSerializerField(help_text="How much worse than the best price.")
    is_covered = serializers.BooleanField(help_text="False: the book shows less, so it may be worse.")
    fee_quote = AmountSerializerField()
    value_quote = AmountSerializerField()
    profit_quote = AmountSerializerField()
    profit_pct = AmountSerializerField()
    is_dust = serializers.BooleanField(help_text="The remainder is too small to trade.")


class ClosingSerializer(serializers.Serializer[Closing]):
    """How a close stands: ``working`` means sent and not confirmed yet, ``reduced`` that a part is closed."""

    state = serializers.ChoiceField(choices=[(state.value, state.value) for state in CloseState])
    message = serializers.CharField()
    order = OrderSerializer(allow_null=True)
    position = PositionSerializer()


class LimitClosingSerializer(serializers.Serializer[LimitClosing]):
    """How a limit close stands: ``sent`` means not confirmed yet, ``reduced`` filled while the deal goes on."""

    state = serializers.ChoiceField(choices=[(state.value, state.value) for state in LimitState])
    message = serializers.CharField()
    raced = serializers.BooleanField(help_text="It was filled, in whole or in part, before it could be cancelled.")
    order = OrderSerializer(allow_null=True)
    position = PositionSerializer()


class AdditionSerializer(serializers.Serializer[Addition]):
    """How an addition stands: ``sent`` means not confirmed yet."""

    state = serializers.ChoiceField(choices=[(state.value, state.value) for state in AddState])
    message = serializers.CharField()
    raised_to = AmountSerializerField(allow_null=True, help_text="The new ceiling, if it was raised for this.")
    order = OrderSerializer()
    position = PositionSerializer()


def _text(amount: Decimal | None) -> str | None:
    """Return an amount as text, with the 18 places that stored amounts have."""
    return None if amount is None else AmountSerializerField().to_representation(round(amount, 18))
