"""Accounts as the API shows and takes them. Amounts are strings."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.models import Account, PaperBalance, PaperEntry, PaperTerms, PerpsSettings
from marketdata import sources
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer
from tradebot.core.scoping import current_scope

__all__ = [
    "AccountSerializer",
    "MoneySerializer",
    "NewAccountSerializer",
    "PaperBalanceSerializer",
    "PaperEntrySerializer",
    "PerpsSettingsSerializer",
    "RenameSerializer",
    "TokenRequestSerializer",
    "TokenSerializer",
]


class PaperBalanceSerializer(ModelSerializer):
    """What a paper account has of one currency."""

    free = AmountSerializerField(read_only=True, help_text="Total less what resting orders have claimed.")

    class Meta:
        model = PaperBalance
        fields = ["currency", "total", "held", "free"]
        read_only_fields = fields


class PaperTermsSerializer(ModelSerializer):
    """What trading on a paper account costs, in percent."""

    class Meta:
        model = PaperTerms
        fields = ["maker_fee_pct", "taker_fee_pct", "slippage_pct", "fee_currency"]
        read_only_fields = fields


class AccountSerializer(ModelSerializer):
    """An account with its paper balances."""

    owner = serializers.EmailField(source="owner.email", read_only=True)
    editable = serializers.SerializerMethodField(help_text="False while it is shared with you to look at only.")
    is_armed = serializers.BooleanField(read_only=True, help_text="Whether orders that take risk are let through.")
    balances = PaperBalanceSerializer(source="paper_balances", many=True, read_only=True)
    terms = PaperTermsSerializer(source="paper_terms", read_only=True, allow_null=True)

    class Meta:
        model = Account
        fields = [
            "id",
            "name",
            "kind",
            "exchange",
            "owner",
            "editable",
            "is_default",
            "trading_state",
            "is_armed",
            "balances",
            "terms",
            "created_at",
            "archived_at",
        ]
        read_only_fields = fields

    def get_editable(self, account: Account) -> bool:
        return account.pk in current_scope().editable_ids


class NewAccountSerializer(Serializer):
    """A paper account to open. It stays on its market for good."""

    name = serializers.CharField(max_length=60)
    exchange = serializers.ChoiceField(
        choices=[sources.COINBASE, sources.SIMULATED], required=False, help_text="Default: what new accounts get."
    )


class PerpsSettingsSerializer(ModelSerializer):
    """How the account trades perpetual futures; what is left out of a change stays."""

    class Meta:
        model = PerpsSettings
        fields = ["enabled", "default_leverage", "max_leverage", "margin_mode"]


class RenameSerializer(Serializer):
    name = serializers.CharField(max_length=60)


class MoneySerializer(Serializer):
    """So much of a currency."""

    currency = serializers.CharField(max_length=20)
    amount = AmountSerializerField()


class PaperEntrySerializer(ModelSerializer):
    """One line of a paper account's journal."""

    order = serializers.SerializerMethodField(help_text="Client id of the order that changed the balance, if one did.")

    class Meta:
        model = PaperEntry
        fields = ["id", "currency", "kind", "amount", "balance_after", "order", "note", "at"]
        read_only_fields = fields

    def get_order(self, entry: PaperEntry) -> str | None:
        return str(entry.trade.order.client_order_id) if entry.trade is not None else None


class TokenRequestSerializer(Serializer):
    """Who wants a token."""

    email = serializers.EmailField()
    password = serializers.CharField(
        max_length=500, trim_whitespace=False, write_only=True, style={"input_type": "password"}
    )
    code = serializers.CharField(
        required=False, max_length=40, write_only=True, help_text="Of the second factor, where one is set up."
    )
    name = serializers.CharField(required=False, max_length=60, write_only=True, help_text="What the token is for.")
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, write_only=True, help_text="Default: valid until it is revoked."
    )


class TokenSerializer(serializers.Serializer[Any]):
    """A token for ``Authorization: Token …``."""

    token = serializers.CharField()
