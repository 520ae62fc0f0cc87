"""Bots, their decisions and templates as the API shows and takes them. Amounts are strings."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import Account
from bots.models import Bot, BotProduct, BotTemplate, BudgetKind, Decision
from bots.strategies import STRATEGIES
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer

__all__ = [
    "AssignSerializer",
    "BotChangesSerializer",
    "BotSerializer",
    "DecisionSerializer",
    "NewBotSerializer",
    "NewTemplateSerializer",
    "StrategySerializer",
    "TemplateSerializer",
]


@extend_schema_field(OpenApiTypes.OBJECT)
class SettingsField(serializers.DictField):
    """A strategy's settings by name. The strategy's own schema checks them; ``settings-schema`` describes it."""


class BotPairSerializer(ModelSerializer):
    """A pair of a bot, with what was last decided about it and the numbers behind that."""

    symbol = serializers.CharField(source="product.symbol", read_only=True)

    class Meta:
        model = BotProduct
        fields = ["symbol", "product", "enabled", "last_code", "last_message", "last_evidence", "last_changed_at"]
        read_only_fields = fields


class BotSerializer(ModelSerializer):
    """A bot with its pairs."""

    orphaned = serializers.BooleanField(source="is_orphan", read_only=True, help_text="No account: it cannot run.")
    symbols = serializers.SerializerMethodField(help_text="Pairs that are switched on.")
    pairs = BotPairSerializer(source="bot_products", many=True, read_only=True)
    open_deals = serializers.IntegerField(read_only=True)

    class Meta:
        model = Bot
        fields = [
            "id",
            "name",
            "account",
            "orphaned",
            "strategy",
            "settings",
            "settings_version",
            "status",
            "quote_currency",
            "symbols",
            "pairs",
            "budget_kind",
            "budget_pct",
            "budget_fixed",
            "split_budget",
            "open_deals",
            "last_checked_at",
            "last_error",
            "started_at",
            "created_at",
            "archived_at",
        ]
        read_only_fields = fields

    def get_symbols(self, bot: Bot) -> list[str]:
        return [row.product.symbol for row in bot.bot_products.all() if row.enabled]


class BotChangesSerializer(Serializer):
    """What may be changed of a bot; what is left out stays. The service checks the values."""

    name = serializers.CharField(max_length=80, required=False)
    settings = SettingsField(required=False)
    symbols = serializers.ListField(child=serializers.CharField(max_length=40), max_length=1000, required=False)
    budget_kind = serializers.ChoiceField(choices=BudgetKind.choices, required=False)
    budget_pct = AmountSerializerField(required=False)
    budget_fixed = AmountSerializerField(required=False)
    split_budget = serializers.BooleanField(required=False)


class NewBotSerializer(BotChangesSerializer):
    """A bot to make. Settings that are left out are the strategy's defaults."""

    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.editable())
    name = serializers.CharField(max_length=80)
    strategy = serializers.ChoiceField(choices=[(row.name, row.label) for row in STRATEGIES.values()], required=False)
    settings = SettingsField()
    symbols = serializers.ListField(child=serializers.CharField(max_length=40), max_length=1000)


class AssignSerializer(Serializer):
    """Where a bot is to trade from now on."""

    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.editable())


class DecisionSerializer(ModelSerializer):
    """Why a bot did what it did, or did nothing."""

    symbol = serializers.CharField(source="product.symbol", read_only=True, allow_null=True)

    class Meta:
        model = Decision
        fields = ["id", "bot", "position", "symbol", "phase", "action", "code", "message", "evidence", "at"]
        read_only_fields = fields


class TemplateSerializer(ModelSerializer):
    """Settings to start a bot from: a preset that everybody sees, or one of your own."""

    preset = serializers.SerializerMethodField()

    class Meta:
        model = BotTemplate
        fields = ["id", "preset", "slug", "name", "description", "strategy", "settings", "created_at"]
        read_only_fields = fields

    def get_preset(self, template: BotTemplate) -> bool:
        return template.owner_id is None


class NewTemplateSerializer(Serializer):
    """A template to keep, made from a bot's settings as they are."""

    bot = serializers.PrimaryKeyRelatedField(queryset=Bot.objects.all())
    name = serializers.CharField(max_length=80)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)


class ChoiceSerializer(serializers.Serializer[Any]):
    value = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]


class FieldSpecSerializer(serializers.Serializer[Any]):
    """One setting: what it means, its default and its range."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    help = serializers.CharField()
    unit = serializers.CharField()
    section = serializers.CharField()
    kind = serializers.CharField()
    optional = serializers.BooleanField(help_text="May be null, which means off.")
    default = serializers.JSONField()
    minimum = serializers.CharField(allow_null=True)
    maximum = serializers.CharField(allow_null=True)
    choices = ChoiceSerializer(many=True)
    depends_on = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        allow_null=True,
        help_text="It has an effect only while these other settings have one of these values.",
    )


class StrategySerializer(serializers.Serializer[Any]):
    """A strategy, its settings field by field, and the JSON schema they are checked against."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    description = serializers.CharField()
    fields_ = FieldSpecSerializer(many=True)
    json_schema = serializers.DictField()

    def get_fields(self) -> Any:
        fields = super().get_fields()
        return {("fields" if name == "fields_" else name): field for name, field in fields.items()}
