"""An account's auto-buy rules over the API. Parse, call one service, present.

Rules are the owner's: somebody the account is shared with may read them and gets 403 for more.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import permissions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api import OwnersOnly
from accounts.models import Account, AutoBuyRule, User
from bots.autobuy import rules
from bots.models import AutoBuyDecision
from positions.states import OrderType
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer
from tradebot.core.viewsets import OwnedViewSet, validated

__all__ = ["AutoBuyViewSet"]


class AutoBuyRuleSerializer(ModelSerializer):
    """A rule with its last decision in words."""

    class Meta:
        model = AutoBuyRule
        fields = [
            "currency",
            "coin",
            "enabled",
            "minimum",
            "order_type",
            "limit_offset_pct",
            "last_code",
            "last_message",
            "last_numbers",
            "last_looked_at",
            "changed_at",
        ]
        read_only_fields = fields


class AutoBuyChangeSerializer(Serializer):
    """A rule to make, or what to change about the one of that currency."""

    currency = serializers.CharField(max_length=20)
    coin = serializers.CharField(max_length=20, required=False)
    enabled = serializers.BooleanField(required=False)
    minimum = AmountSerializerField(required=False)
    order_type = serializers.ChoiceField(choices=[kind.value for kind in OrderType], required=False)
    limit_offset_pct = AmountSerializerField(required=False, help_text="Percent below the best bid.")


class AutoBuyCurrencySerializer(Serializer):
    currency = serializers.CharField(max_length=20)


class AutoBuyDecisionSerializer(ModelSerializer):
    """What a rule decided: why it bought, or why not."""

    currency = serializers.CharField(source="rule.currency", read_only=True)

    class Meta:
        model = AutoBuyDecision
        fields = ["id", "currency", "code", "message", "numbers", "position", "at"]
        read_only_fields = fields


class AutoBuyViewSet(OwnedViewSet):
    """The auto-buy rules of one account, one for each stable currency."""

    queryset = Account.objects.select_related("owner")
    serializer_class = AutoBuyRuleSerializer
    permission_classes = [permissions.IsAuthenticated, OwnersOnly]

    @extend_schema(responses=AutoBuyRuleSerializer(many=True))
    def retrieve(self, request: Request, pk: Any = None) -> Response:
        """Return the account's rules."""
        rows = AutoBuyRule.objects.filter(account=self.get_object()).order_by("currency")
        return Response(AutoBuyRuleSerializer(rows, many=True).data)

    @extend_schema(request=AutoBuyChangeSerializer, responses=AutoBuyRuleSerializer)
    def set(self, request: Request, pk: Any = None) -> Response:
        """Make a rule, or change the one of that currency. Switching one off cancels what it has resting."""
        account = self.get_object()
        data = validated(AutoBuyChangeSerializer, request)
        rule = rules.set_rule(account, data.pop("currency"), _email(request), **data)
        return Response(AutoBuyRuleSerializer(rule).data)

    @extend_schema(request=AutoBuyCurrencySerializer, responses={204: None})
    def remove(self, request: Request, pk: Any = None) -> Response:
        """Take the rule of a currency away; what it has resting is cancelled."""
        account = self.get_object()
        rules.remove_rule(account, validated(AutoBuyCurrencySerializer, request)["currency"], _email(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=AutoBuyDecisionSerializer(many=True), filters=False)
    def decisions(self, request: Request, pk: Any = None) -> Response:
        """What the rules decided, newest first: each change of mind and each purchase."""
        rows = AutoBuyDecision.objects.filter(account=self.get_object()).select_related("rule").order_by("-id")
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(AutoBuyDecisionSerializer(page, many=True).data)


def _email(request: Request) -> str:
    assert isinstance(request.user, User)
    return request.user.email
