"""An account's guard over the API. Parse, call one service, present.

Limits and releases are the owner's: somebody it is shared with gets 403. Whoever may trade on it may stop it.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import permissions
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api import OwnersOnly
from accounts.models import Account, EquitySnapshot, PropGuardEvent, PropGuardRules, PropGuardState, User
from positions.guard import limits, service
from positions.guard.panel import standing_of
from positions.guard.serializers import (
    GuardEquitySerializer,
    GuardEventSerializer,
    GuardReleaseSerializer,
    GuardRulesSerializer,
    GuardSerializer,
    GuardStopSerializer,
)
from positions.models import Position
from positions.states import POSITION_ACTIVE
from tradebot.core.errors import InvalidInput
from tradebot.core.viewsets import MayChange, OwnedViewSet, validated

__all__ = ["GuardViewSet"]


@extend_schema_view(
    retrieve=extend_schema(description="Where the account's guard stands.", responses=GuardSerializer),
)
class GuardViewSet(OwnedViewSet):
    """The prop-firm guard of one account."""

    queryset = Account.objects.select_related("owner")
    serializer_class = GuardSerializer
    permission_classes = [permissions.IsAuthenticated, OwnersOnly]

    def get_permissions(self) -> Any:
        if self.action == "stop":
            return [permissions.IsAuthenticated(), MayChange()]
        return super().get_permissions()

    def retrieve(self, request: Request, pk: Any = None) -> Response:
        """Return rules, state, and how much of each limit is used."""
        return _shown(self.get_object())

    @extend_schema(request=GuardRulesSerializer, responses=GuardSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change limits, or switch the guard on or off."""
        account = self.get_object()
        limits.change_rules(account, _email(request), **validated(GuardRulesSerializer, request))
        return _shown(account)

    @extend_schema(request=GuardStopSerializer, responses=GuardSerializer)
    def stop(self, request: Request, pk: Any = None) -> Response:
        """Stop the account: bots stop, deals are closed at market, nothing is opened until it is released."""
        account = self.get_object()
        data = validated(GuardStopSerializer, request)
        if data["confirm"].strip() != account.name:
            raise InvalidInput("not_confirmed", "This is not the account's name.", field="confirm")
        service.kill(account, _email(request), data["note"])
        return _shown(account)

    @extend_schema(request=GuardReleaseSerializer, responses=GuardSerializer)
    def release(self, request: Request, pk: Any = None) -> Response:
        """Release a stopped account. Its bots and automation stay off."""
        account = self.get_object()
        data = validated(GuardReleaseSerializer, request)
        limits.reset(account, _email(request), data["confirm"], rebase=data["rebase"])
        return _shown(account)

    @extend_schema(responses=GuardEventSerializer(many=True), filters=False)
    def history(self, request: Request, pk: Any = None) -> Response:
        """The guard's history, newest first: limits changed, days, stops and releases."""
        page = self.paginate_queryset(PropGuardEvent.objects.filter(account=self.get_object()).order_by("-id"))
        return self.get_paginated_response(GuardEventSerializer(page, many=True).data)

    @extend_schema(responses=GuardEquitySerializer(many=True), filters=False)
    def equity(self, request: Request, pk: Any = None) -> Response:
        """What the account was worth, every five minutes, newest first, for ninety days."""
        page = self.paginate_queryset(EquitySnapshot.objects.filter(account=self.get_object()).order_by("-at"))
        return self.get_paginated_response(GuardEquitySerializer(page, many=True).data)


def _shown(account: Account) -> Response:
    found = PropGuardRules.objects.filter(account=account).first() or PropGuardRules(account=account)
    state = PropGuardState.objects.filter(account=account).first()
    still_open = Position.objects.filter(account=account, status__in=POSITION_ACTIVE).count()
    return Response(GuardSerializer(standing_of(found, state, still_open)).data)


def _email(request: Request) -> str:
    assert isinstance(request.user, User)
    return request.user.email
