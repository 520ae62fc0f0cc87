"""The guard as the API shows and takes it. Amounts are strings; ``null`` is "not known"."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.models import EquitySnapshot, PropGuardEvent, PropGuardState
from positions.guard.panel import Standing
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer

__all__ = [
    "GuardEquitySerializer",
    "GuardEventSerializer",
    "GuardReleaseSerializer",
    "GuardRulesSerializer",
    "GuardSerializer",
    "GuardStopSerializer",
]


class GuardRulesSerializer(Serializer):
    """An account's limits. All of them may be left out when they are changed."""

    enabled = serializers.BooleanField(required=False)
    currency = serializers.CharField(max_length=20, required=False)
    initial_deposit = AmountSerializerField(required=False)
    daily_limit_pct = AmountSerializerField(required=False, help_text="Percent of the equity that the day began with.")
    total_limit_pct = AmountSerializerField(required=False, help_text="Percent of the initial deposit.")
    max_spread_pct = AmountSerializerField(required=False, help_text="Percent of the mid price.")
    equity_max_age_seconds = serializers.IntegerField(required=False, min_value=5, max_value=300)
    day_start = serializers.TimeField(required=False, help_text="Time of day, such as 17:00.")
    day_zone = serializers.CharField(max_length=64, required=False, help_text="Such as America/New_York.")


class GuardLimitSerializer(serializers.Serializer[Any]):
    """One limit and how much of it is used."""

    limit_pct = AmountSerializerField()
    base = AmountSerializerField(source="drawdown.base", allow_null=True, default=None)
    limit = AmountSerializerField(source="drawdown.limit", allow_null=True, default=None)
    lost = AmountSerializerField(allow_null=True)
    lost_pct = AmountSerializerField(allow_null=True, help_text="Of its base.")
    left = AmountSerializerField(source="drawdown.left", allow_null=True, default=None)


class GuardStateSerializer(ModelSerializer):
    class Meta:
        model = PropGuardState
        fields = [
            "last_equity",
            "last_equity_at",
            "day_began_at",
            "day_start_equity",
            "day_measured_at",
            "day_moved",
            "total_moved",
            "breached_at",
            "failed_at",
            "error_code",
            "error_text",
            "killed_at",
            "kill_reason",
            "kill_message",
            "kill_numbers",
            "killed_by",
            "settled_at",
            "closing_error",
        ]
        read_only_fields = fields


class GuardSerializer(serializers.Serializer[Any]):
    """Where an account's guard stands."""

    status = serializers.SerializerMethodField(help_text="off, on, blocked or stopped.")
    message = serializers.CharField(source="words")
    rules = GuardRulesSerializer()
    state = GuardStateSerializer(allow_null=True)
    daily = GuardLimitSerializer()
    total = GuardLimitSerializer()
    equity_age_seconds = serializers.IntegerField(source="age_seconds", allow_null=True)
    next_day_at = serializers.DateTimeField()

    def get_status(self, standing: Standing) -> str:
        return standing.badge.lower()


class GuardStopSerializer(Serializer):
    confirm = serializers.CharField(max_length=60, help_text="The account's name.")
    note = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class GuardReleaseSerializer(Serializer):
    confirm = serializers.CharField(max_length=60, help_text="The account's name.")
    rebase = serializers.BooleanField(
        default=False, help_text="The present equity becomes the initial deposit, needed below the total limit."
    )


class GuardEventSerializer(ModelSerializer):
    """One line of a guard's history."""

    class Meta:
        model = PropGuardEvent
        fields = ["id", "kind", "message", "numbers", "actor", "at"]
        read_only_fields = fields


class GuardEquitySerializer(ModelSerializer):
    """What the account was worth at a moment."""

    class Meta:
        model = EquitySnapshot
        fields = ["at", "equity", "currency"]
        read_only_fields = fields
