"""Signals and hooks over the API: actions of the bots resource. Parse, call one service, present."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from bots.models import Signal, SignalHook
from bots.signals import hooks, inlet
from bots.signals.models import ACTIONS, KINDS, LONGEST_LAG, SHORTEST_LAG
from bots.signals.payloads import LONGEST_ID, LONGEST_PAIR, LONGEST_REASONING, alert_of
from bots.signals.views import address_of
from tradebot.core.api import ModelSerializer, Serializer
from tradebot.core.limits import seconds_to_wait
from tradebot.core.viewsets import NoFields, validated

__all__ = ["SignalActions"]


class SignalSerializer(ModelSerializer):
    """A signal with its verdict. ``received_at`` is the server's clock, and what conditions count by."""

    symbol = serializers.CharField(source="product.symbol", default=None, read_only=True, help_text="Null: all pairs.")

    class Meta:
        model = Signal
        fields = [
            "id",
            "kind",
            "symbol",
            "pair",
            "action",
            "confidence",
            "reasoning",
            "source",
            "external_id",
            "sent_at",
            "received_at",
            "verdict",
            "reason",
        ]
        read_only_fields = fields


class NewSignalSerializer(Serializer):
    """What a program or model of yours tells the bot. It sets conditions for a while; it never places an order."""

    kind = serializers.ChoiceField(choices=KINDS)
    symbol = serializers.CharField(
        max_length=LONGEST_PAIR, required=False, help_text="One of the bot's pairs; left out: all of them."
    )
    action = serializers.ChoiceField(choices=ACTIONS, required=False)
    confidence = serializers.FloatField(
        min_value=0, max_value=100, required=False, help_text="0 to 100; opinions (ai_buy, ai_sell) need one."
    )
    reasoning = serializers.CharField(max_length=LONGEST_REASONING, required=False, allow_blank=True)
    external_id = serializers.CharField(
        max_length=LONGEST_ID, required=False, help_text="Your own id: sent again, the signal counts once."
    )
    sent_at = serializers.DateTimeField(required=False)


class HookSerializer(ModelSerializer):
    """The address at which programs without a token tell the bot something."""

    address = serializers.SerializerMethodField()
    open = serializers.BooleanField(source="is_open", read_only=True, help_text="Whether there is a secret for it.")

    class Meta:
        model = SignalHook
        fields = ["address", "open", "secret_made_at", "max_lag_seconds"]
        read_only_fields = fields

    def get_address(self, found: SignalHook) -> str:
        return address_of(self.context["request"], found if found.public_id else None)


class MadeHookSerializer(HookSerializer):
    """The same with a new secret, which is shown this once."""

    secret = serializers.SerializerMethodField()

    class Meta(HookSerializer.Meta):
        fields = [*HookSerializer.Meta.fields, "secret"]
        read_only_fields = fields

    def get_secret(self, found: SignalHook) -> str:
        return str(self.context["secret"])


class HookChangesSerializer(Serializer):
    """How many seconds an alert may have been under way."""

    max_lag_seconds = serializers.IntegerField(min_value=SHORTEST_LAG, max_value=LONGEST_LAG)


class SignalActions:
    """Actions of ``BotViewSet`` about what the bot is told."""

    shows_secrets = frozenset({"renew_hook"})
    get_object: Any
    get_paginated_response: Any
    get_serializer_context: Any
    paginate_queryset: Any

    @extend_schema(responses=SignalSerializer(many=True), filters=False)
    @action(detail=True)
    def signals(self, request: Request, pk: Any = None) -> Response:
        """What the bot was told, with the verdict on each, newest first. Kept for some months."""
        rows = Signal.objects.filter(bot=self.get_object()).select_related("product").order_by("-id")
        return self.get_paginated_response(SignalSerializer(self.paginate_queryset(rows), many=True).data)

    @extend_schema(request=NewSignalSerializer, responses={201: SignalSerializer, 200: SignalSerializer})
    @signals.mapping.post
    def add_signal(self, request: Request, pk: Any = None) -> Response:
        """Tell the bot something. Answers with the verdict: 201, or 200 where this id had come before."""
        bot = self.get_object()
        data = validated(NewSignalSerializer, request)
        if wait := seconds_to_wait("hook", str(bot.pk), *inlet.HOOK_LIMIT):
            raise Throttled(wait=wait)
        data["pair"] = data.pop("symbol", "all")
        if "sent_at" in data:
            data["sent_at"] = data["sent_at"].isoformat()
        taken = inlet.take(bot, alert_of(data), Signal.Source.API)
        code = status.HTTP_201_CREATED if taken.is_new else status.HTTP_200_OK
        return Response(SignalSerializer(taken.signal).data, status=code)

    @extend_schema(responses=HookSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def hook(self, request: Request, pk: Any = None) -> Response:
        """The bot's hook: its address, and whether a secret lets anything in. The secret itself is not kept."""
        found = hooks.hook_of(self.get_object())
        return self._hook(found or SignalHook(public_id="", secret_digest=""))

    @extend_schema(request=None, responses={201: MadeHookSerializer})
    @hook.mapping.post
    def renew_hook(self, request: Request, pk: Any = None) -> Response:
        """Give the hook a new secret, shown in this answer and never again. The one before lets nothing in any more."""
        bot = self.get_object()
        validated(NoFields, request)
        found, secret = hooks.renew_secret(bot, _email(request))
        context = {**self.get_serializer_context(), "secret": secret}
        return Response(MadeHookSerializer(found, context=context).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=HookChangesSerializer, responses=HookSerializer)
    @hook.mapping.patch
    def change_hook(self, request: Request, pk: Any = None) -> Response:
        """Change how late an alert may be."""
        bot = self.get_object()
        data = validated(HookChangesSerializer, request)
        return self._hook(hooks.set_max_lag(bot, data["max_lag_seconds"], _email(request)))

    @extend_schema(responses={204: None})
    @hook.mapping.delete
    def revoke_hook(self, request: Request, pk: Any = None) -> Response:
        """Revoke the secret: nothing comes in by the hook until it gets a new one."""
        hooks.revoke_secret(self.get_object(), _email(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _hook(self, found: SignalHook) -> Response:
        return Response(HookSerializer(found, context=self.get_serializer_context()).data)


def _email(request: Request) -> str:
    assert isinstance(request.user, User)
    return request.user.email
