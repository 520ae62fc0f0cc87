"""The kill switch and panic sales over the API."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import confirming, trading
from accounts.models import Account, User
from bots import safety
from bots.models import PanicRun, PanicStep
from bots.panic import services
from tradebot.core.api import ModelSerializer, Serializer
from tradebot.core.viewsets import IdFilter, OwnedViewSet, validated

__all__ = ["PanicRunViewSet", "StopTradingView"]


class StopSerializer(Serializer):
    """Which account to stop; without one, all of your own."""

    account = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=2**63 - 1)


class StoppedSerializer(Serializer):
    """What was stopped."""

    accounts = serializers.ListField(child=serializers.IntegerField())
    bots = serializers.IntegerField()
    detail = serializers.CharField()


class StopTradingView(APIView):
    """The kill switch. It asks nothing: arming again does."""

    @extend_schema(request=StopSerializer, responses=StoppedSerializer)
    def post(self, request: Request) -> Response:
        """Stop bots and let nothing more be bought, on one account that you may act on or on all of your own."""
        data = validated(StopSerializer, request)
        user = _person(request)
        if data.get("account") is None:
            stopped = safety.stop_everything(user, user.email)
        else:
            account = Account.objects.editable().filter(pk=data["account"]).first()
            if account is None:
                raise Http404("There is no such account.")
            stopped = safety.stop_account(account, user.email)
        answer = {
            "accounts": [account.pk for account in stopped.accounts],
            "bots": stopped.bots,
            "detail": stopped.message,
        }
        return Response(StoppedSerializer(answer).data)


class PanicStepSerializer(ModelSerializer):
    """One thing that a panic sale does, and how it stands."""

    class Meta:
        model = PanicStep
        fields = [
            "id",
            "kind",
            "state",
            "what",
            "position",
            "order",
            "message",
            "error_code",
            "tries",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields


class PanicRunSerializer(ModelSerializer):
    """A sale of everything that an account's deals hold."""

    steps = PanicStepSerializer(many=True, read_only=True)

    class Meta:
        model = PanicRun
        fields = [
            "id",
            "account",
            "actor",
            "status",
            "started_at",
            "finished_at",
            "orders_left",
            "deals_left",
            "steps",
        ]
        read_only_fields = fields


class NewPanicSerializer(Serializer):
    """The account whose deals are to be sold, its name typed, and a code where money is real."""

    account = serializers.IntegerField(min_value=0, max_value=2**63 - 1)
    name = serializers.CharField(max_length=60)
    code = serializers.CharField(max_length=40, required=False, allow_blank=True, write_only=True)


class PanicRunFilter(filters.FilterSet):
    """Those of one account, or in one state."""

    account = IdFilter()

    class Meta:
        model = PanicRun
        fields = ["status"]


@extend_schema_view(
    list=extend_schema(description="Panic sales of accounts that you may see, newest first."),
    retrieve=extend_schema(description="One of them, step by step."),
)
class PanicRunViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Selling everything of an account at once."""

    queryset = PanicRun.objects.prefetch_related("steps").order_by("-id")
    serializer_class = PanicRunSerializer
    filterset_class = PanicRunFilter
    ordering_fields = ["id", "started_at"]

    @extend_schema(request=NewPanicSerializer, responses={201: PanicRunSerializer})
    def create(self, request: Request) -> Response:
        """Stop the account's bots, cancel its orders and close its deals at market. Answers at once; it goes on."""
        data = validated(NewPanicSerializer, request)
        user = _person(request)
        account = Account.objects.filter(pk=data["account"], owner_id=user.pk).first()
        if account is None:
            raise Http404("There is no such account.")
        trading.check_name(account, data["name"])
        if not account.is_paper:
            confirming.confirm(user, data.get("code", ""))
        run = services.start(account, user.email, data["name"])
        found: Any = self.get_queryset().get(pk=run.pk)
        return Response(PanicRunSerializer(found).data, status=status.HTTP_201_CREATED)


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user
