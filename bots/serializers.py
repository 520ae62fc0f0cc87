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
    "BotDocumentSerializer",
    "BotSerializer",
    "BulkAnswerSerializer",
    "BulkPreviewSerializer",
    "BulkSerializer",
    "CopiedSerializer",
    "DecisionSerializer",
    "ImportSerializer",
    "LookSerializer",
    "NewBotSerializer",
    "NewTemplateSerializer",
    "PreviewRequestSerializer",
    "PreviewSerializer",
    "StrategySerializer",
    "TemplateSerializer",
]


class SettingsField(serializers.DictField):
    """A strategy's settings by name. The strategy's own model checks and describes them (``tradebot.api_schema``)."""


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
    settings = SettingsField(read_only=True)
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


class LookLineSerializer(serializers.Serializer[Any]):
    """What was decided about one pair or deal."""

    symbol = serializers.CharField()
    direction = serializers.CharField(allow_blank=True)
    code = serializers.CharField()
    message = serializers.CharField()
    acted = serializers.BooleanField(help_text="An order was placed or cancelled.")


class LookSerializer(serializers.Serializer[Any]):
    """The answer to "look now". ``busy``: a worker is looking at the account, the bot's turn comes within seconds."""

    at = serializers.DateTimeField()
    summary = serializers.CharField()
    busy = serializers.BooleanField()
    orders = serializers.IntegerField(help_text="Orders placed.")
    problem = serializers.CharField(allow_blank=True)
    lines = LookLineSerializer(many=True)


class PreviewRequestSerializer(Serializer):
    """Settings to look at, unsaved. What is left out is as for a new bot; ``shown`` is the pair to show."""

    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.editable())
    strategy = serializers.ChoiceField(choices=[(row.name, row.label) for row in STRATEGIES.values()], required=False)
    settings = SettingsField()
    symbols = serializers.ListField(child=serializers.CharField(max_length=40), max_length=1000)
    budget_kind = serializers.ChoiceField(choices=BudgetKind.choices, required=False)
    budget_pct = AmountSerializerField(required=False)
    budget_fixed = AmountSerializerField(required=False)
    split_budget = serializers.BooleanField(required=False, default=True)
    shown = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")


class RungSerializer(serializers.Serializer[Any]):
    """An order of a ladder and what the deal looks like once it has filled. Level 0 is the base order."""

    level = serializers.IntegerField()
    deviation_pct = AmountSerializerField(help_text="Distance from its reference price.")
    drop_pct = AmountSerializerField(help_text="Distance from the base order's price, against the deal.")
    price = AmountSerializerField()
    size = AmountSerializerField(help_text="In quote.")
    cumulative_cost = AmountSerializerField()
    average_after = AmountSerializerField()
    target_after = AmountSerializerField(allow_null=True)


class ViolationSerializer(serializers.Serializer[Any]):
    """Why a ladder cannot be traded as it is; ``level`` names the rung, null the ladder as a whole."""

    code = serializers.CharField()
    message = serializers.CharField()
    level = serializers.IntegerField(allow_null=True)


class PairLadderSerializer(serializers.Serializer[Any]):
    """One pair's ladder at its present price; without rungs while the price is not known."""

    symbol = serializers.CharField(source="product.symbol")
    price = AmountSerializerField(source="quote.mark", allow_null=True, default=None)
    total_cost = AmountSerializerField(source="report.total_cost", allow_null=True, default=None)
    smallest_budget = AmountSerializerField(source="report.smallest_budget", allow_null=True, default=None)
    rungs = RungSerializer(source="report.rungs", many=True, default=list)
    violations = ViolationSerializer(source="report.violations", many=True, default=list)


class PreviewSideSerializer(serializers.Serializer[Any]):
    """The ladders of one direction with their costs. Null is not known; ``nominal``: sizes are percent of a deal."""

    direction = serializers.CharField()
    share = AmountSerializerField(help_text="Of the bot's budget, as a fraction.")
    budget = AmountSerializerField(allow_null=True)
    deal_budget = AmountSerializerField(allow_null=True)
    deals = serializers.IntegerField()
    nominal = serializers.BooleanField()
    one_deal = AmountSerializerField(allow_null=True)
    all_deals = AmountSerializerField(allow_null=True)
    fundable = serializers.IntegerField(allow_null=True, help_text="Deals that the budget can fully fund.")
    smallest_budget = AmountSerializerField(allow_null=True)
    smallest_pct = AmountSerializerField(allow_null=True)
    minimum = AmountSerializerField(help_text="The largest minimum order of the pairs, in quote.")
    minimum_pair = serializers.CharField(allow_blank=True)
    shown = serializers.CharField(source="shown.product.symbol", allow_null=True, default=None)
    pairs = PairLadderSerializer(many=True)


class PreviewCheckSerializer(serializers.Serializer[Any]):
    """One line of "before you save": fine, wrong (saving would be refused), warn or unknown."""

    state = serializers.CharField()
    text = serializers.CharField()


class PreviewSerializer(serializers.Serializer[Any]):
    """What unsaved settings come to: ladder, capital and what stands against saving, for each direction."""

    quote = serializers.CharField()
    workable = serializers.BooleanField()
    checks = PreviewCheckSerializer(many=True)
    sides = PreviewSideSerializer(many=True)


@extend_schema_field(OpenApiTypes.OBJECT)
class DocumentField(serializers.JSONField):
    """A bot as it was exported."""


class BotDocumentSerializer(serializers.Serializer[Any]):
    """A bot as a document: what a person could have typed, and no ids."""

    format = serializers.CharField()
    version = serializers.IntegerField()
    name = serializers.CharField()
    strategy = serializers.CharField()
    settings = SettingsField()
    symbols = serializers.ListField(child=serializers.CharField())
    budget_kind = serializers.CharField()
    budget_pct = serializers.CharField()
    budget_fixed = serializers.CharField()
    split_budget = serializers.BooleanField()


class ImportSerializer(Serializer):
    """A bot to make from an exported one; ``name`` goes before the document's."""

    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.editable())
    document = DocumentField()
    name = serializers.CharField(max_length=80, required=False, allow_blank=True)


class CopiedSerializer(serializers.Serializer[Any]):
    """A bot made from another one, and the pairs that its account's market does not trade."""

    bot = BotSerializer()
    dropped = serializers.ListField(child=serializers.CharField())
    message = serializers.CharField()


class BulkSerializer(Serializer):
    """Whether the bot is stopped first; a running one opens again as soon as its rule holds."""

    stop = serializers.BooleanField(required=False, default=False)


class BulkDealSerializer(serializers.Serializer[Any]):
    """How one deal came out: closed, dust, working, nothing_held, cancelled or failed."""

    position = serializers.IntegerField(source="position.pk")
    symbol = serializers.CharField(source="position.product.symbol")
    state = serializers.CharField()
    code = serializers.CharField(allow_blank=True)
    message = serializers.CharField()


class BulkAnswerSerializer(serializers.Serializer[Any]):
    """The answer for each deal, and all of them in one sentence."""

    message = serializers.CharField()
    failed = serializers.IntegerField()
    deals = BulkDealSerializer(many=True)


class BulkPreviewSerializer(serializers.Serializer[Any]):
    """What the open deals of a bot add up to now, in ``quote``; null while a price is not known."""

    deals = serializers.IntegerField(source="count")
    quote = serializers.CharField()
    invested = AmountSerializerField()
    value = AmountSerializerField(allow_null=True)
    unrealised = AmountSerializerField(allow_null=True)


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
    settings = SettingsField(read_only=True)

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
