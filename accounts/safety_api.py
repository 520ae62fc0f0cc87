"""Keys, arming and limits of accounts over the API: what the pages do, with the second factor's code in the body.

A program signs in with a token, so a code is asked for each time. Keys go in and are never part of an answer.
"""

from __future__ import annotations

from typing import Any

from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import extend_schema
from rest_framework import permissions, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import confirming, credentials, trading
from accounts.models import Account, ExchangeCredential, TradingLimits, User
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer
from tradebot.core.viewsets import MayChange, NoFields, validated

__all__ = ["KeyFactsSerializer", "SafetyActions", "TradingLimitsSerializer"]


class KeysSerializer(Serializer):
    """An exchange's keys, as it gives them out."""

    api_key = serializers.CharField(max_length=credentials.LONGEST, write_only=True, trim_whitespace=False)
    api_secret = serializers.CharField(max_length=credentials.LONGEST, write_only=True, trim_whitespace=False)
    passphrase = serializers.CharField(
        max_length=credentials.LONGEST, required=False, allow_blank=True, write_only=True, trim_whitespace=False
    )
    accept_withdrawal = serializers.BooleanField(
        required=False, default=False, write_only=True, help_text="Say so when the key may withdraw and is wanted."
    )
    code = serializers.CharField(max_length=40, write_only=True, help_text="Of the second factor.")


class ConnectSerializer(KeysSerializer):
    """An exchange account to connect."""

    exchange = serializers.CharField(max_length=40, write_only=True)
    name = serializers.CharField(max_length=60, write_only=True)


class ArmSerializer(Serializer):
    """The account's name, typed, and the second factor's code where money is real."""

    name = serializers.CharField(max_length=60)
    code = serializers.CharField(max_length=40, required=False, allow_blank=True, write_only=True)


class KeyFactsSerializer(ModelSerializer):
    """What the exchange said about an account's keys. The keys themselves are not part of any answer."""

    class Meta:
        model = ExchangeCredential
        fields = [
            "version",
            "can_view",
            "can_trade",
            "can_withdraw",
            "portfolio",
            "updated_at",
            "checked_at",
            "problem",
        ]
        read_only_fields = fields


class TradingLimitsSerializer(ModelSerializer):
    """The most that one order, a day's loss and the open deals may come to; null is no limit."""

    class Meta:
        model = TradingLimits
        fields = [
            "currency",
            "largest_order",
            "largest_order_pct",
            "daily_loss",
            "daily_loss_pct",
            "max_open_deals",
            "updated_at",
        ]
        read_only_fields = fields


class LimitChangeSerializer(Serializer):
    """Limits to set; what is left out stays, null takes one away. ``code`` is needed to loosen those of live money."""

    currency = serializers.CharField(max_length=20, required=False)
    largest_order = AmountSerializerField(required=False, allow_null=True)
    largest_order_pct = AmountSerializerField(required=False, allow_null=True)
    daily_loss = AmountSerializerField(required=False, allow_null=True)
    daily_loss_pct = AmountSerializerField(required=False, allow_null=True)
    max_open_deals = serializers.IntegerField(required=False, allow_null=True, max_value=trading.MOST_DEALS)
    code = serializers.CharField(max_length=40, required=False, allow_blank=True, write_only=True)


class SafetyActions:
    """Actions of the accounts' viewset."""

    @extend_schema(request=ConnectSerializer, responses={201: None})
    @action(detail=False, methods=["post"], url_path="connect")
    @sensitive_variables()
    def connect(self, request: Request) -> Response:
        """Connect an exchange account: the keys are tried, and kept only when the exchange takes them."""
        data = validated(ConnectSerializer, request)
        user = _person(request)
        keys = credentials.read_keys(data["exchange"], data["api_key"], data["api_secret"], data.get("passphrase", ""))
        confirming.confirm(user, data["code"])
        account, _ = credentials.connect(
            user, data["exchange"], data["name"], keys, accept_withdrawal=data["accept_withdrawal"]
        )
        return self._shown(account, status.HTTP_201_CREATED)  # type: ignore[attr-defined]

    @extend_schema(methods=["GET"], request=None, responses=KeyFactsSerializer)
    @extend_schema(methods=["PUT"], request=KeysSerializer, responses=KeyFactsSerializer)
    @extend_schema(methods=["DELETE"], request=None, responses={204: None})
    @action(detail=True, methods=["get", "put", "delete"])
    @sensitive_variables()
    def keys(self, request: Request, pk: Any = None) -> Response:
        """What the exchange says about the account's keys; put others in their place, or remove them at once."""
        account: Account = self.get_object()  # type: ignore[attr-defined]
        user = _person(request)
        if request.method == "DELETE":
            credentials.remove_keys(account, user.email)
            return Response(status=status.HTTP_204_NO_CONTENT)
        if request.method == "PUT":
            data = validated(KeysSerializer, request)
            keys = credentials.read_keys(
                account.exchange, data["api_key"], data["api_secret"], data.get("passphrase", "")
            )
            confirming.confirm(user, data["code"])
            credentials.replace_keys(account, user.email, keys, accept_withdrawal=data["accept_withdrawal"])
        found = ExchangeCredential.objects.filter(account=account).first()
        return Response(KeyFactsSerializer(found).data if found is not None else None)

    @extend_schema(request=None, responses=KeyFactsSerializer)
    @action(detail=True, methods=["post"], url_path="check-keys")
    def check_keys(self, request: Request, pk: Any = None) -> Response:
        """Ask the exchange again what the account's keys may do."""
        account = self.get_object()  # type: ignore[attr-defined]
        validated(NoFields, request)
        return Response(KeyFactsSerializer(credentials.check_again(account, _person(request).email)).data)

    @extend_schema(request=ArmSerializer)
    @action(detail=True, methods=["post"])
    def arm(self, request: Request, pk: Any = None) -> Response:
        """Let the account trade, also after it was stopped."""
        account = self.get_object()  # type: ignore[attr-defined]
        data = validated(ArmSerializer, request)
        trading.check_name(account, data["name"])
        if not account.is_paper:
            confirming.confirm(_person(request), data.get("code", ""))
        return self._shown(trading.arm(account, _person(request).email, data["name"]))  # type: ignore[attr-defined]

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], permission_classes=[permissions.IsAuthenticated, MayChange])
    def disarm(self, request: Request, pk: Any = None) -> Response:
        """Make a live account read-only at once."""
        account = self.get_object()  # type: ignore[attr-defined]
        validated(NoFields, request)
        return self._shown(trading.disarm(account, _person(request).email))  # type: ignore[attr-defined]

    @extend_schema(methods=["GET"], request=None, responses=TradingLimitsSerializer)
    @extend_schema(methods=["PATCH"], request=LimitChangeSerializer, responses=TradingLimitsSerializer)
    @action(detail=True, methods=["get", "patch"])
    def limits(self, request: Request, pk: Any = None) -> Response:
        """The account's limits, and how to change them: tighter at once, looser on live money with a code."""
        account = self.get_object()  # type: ignore[attr-defined]
        if request.method == "PATCH":
            data = validated(LimitChangeSerializer, request)
            code = data.pop("code", "")
            if code:
                confirming.confirm(_person(request), code)
            trading.set_limits(account, _person(request).email, confirmed=bool(code), **data)
        return Response(TradingLimitsSerializer(trading.limits_of(account)).data)


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user
