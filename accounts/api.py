"""Accounts over the API, and the token that programs sign in with. Parse, call one service, present.

An account's own affairs (name, money, reset) are its owner's: somebody it is shared with gets 403.
"""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.mfa.base.forms import BaseAuthenticateForm
from allauth.mfa.utils import is_mfa_enabled
from django.core.exceptions import ValidationError
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import exceptions, mixins, permissions, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import perps_settings, services, tokens
from accounts.models import Account, PaperEntry, User
from accounts.safety_api import SafetyActions
from accounts.serializers import (
    AccountSerializer,
    MoneySerializer,
    NewAccountSerializer,
    PaperBalanceSerializer,
    PaperEntrySerializer,
    PerpsSettingsSerializer,
    RenameSerializer,
    TokenRequestSerializer,
    TokenSerializer,
)
from marketdata import sources
from tradebot.core.viewsets import MayChange, NoFields, OwnedViewSet, validated

__all__ = ["AccountViewSet", "TokenView"]


class AccountFilter(filters.FilterSet):
    """Accounts of one kind or market, with or without the archived ones."""

    archived = filters.BooleanFilter(field_name="archived_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = Account
        fields = ["kind", "exchange", "is_default"]


class EntryFilter(filters.FilterSet):
    """Journal lines of one currency or kind."""

    class Meta:
        model = PaperEntry
        fields = ["currency", "kind"]


class OwnersOnly(MayChange):
    """An account is rearranged by its owner alone."""

    message = "This account is shared with you. Only its owner may change it."

    def has_object_permission(self, request: Request, view: Any, obj: Account) -> bool:
        return request.method in permissions.SAFE_METHODS or obj.owner_id == request.user.pk


@extend_schema_view(
    list=extend_schema(description="Accounts that you own or that are shared with you."),
    retrieve=extend_schema(description="One account."),
)
class AccountViewSet(SafetyActions, mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Accounts that you own or that are shared with you."""

    queryset = Account.objects.select_related("owner", "paper_terms").prefetch_related("paper_balances").order_by("id")
    serializer_class = AccountSerializer
    permission_classes = [permissions.IsAuthenticated, OwnersOnly]
    filterset_class = AccountFilter
    ordering_fields = ["id", "name", "created_at"]

    def _shown(self, account: Account, code: int = status.HTTP_200_OK) -> Response:
        fresh = self.get_queryset().get(pk=account.pk)
        return Response(AccountSerializer(fresh, context=self.get_serializer_context()).data, status=code)

    @extend_schema(request=NewAccountSerializer, responses={201: AccountSerializer})
    def create(self, request: Request) -> Response:
        """Open a paper account with the usual start balances."""
        data = validated(NewAccountSerializer, request)
        market = data.get("exchange") or sources.default_market()
        account = services.create_paper_account(_person(request), data["name"], market)
        return self._shown(account, status.HTTP_201_CREATED)

    @extend_schema(request=RenameSerializer, responses=AccountSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Give the account another name."""
        account = self.get_object()
        data = validated(RenameSerializer, request)
        return self._shown(services.rename(account, data["name"], actor=_person(request).email))

    @extend_schema(request=MoneySerializer, responses=PaperBalanceSerializer)
    @action(detail=True, methods=["post"])
    def deposit(self, request: Request, pk: Any = None) -> Response:
        """Put paper money in; answers the new balance."""
        account = self.get_object()
        data = validated(MoneySerializer, request)
        balance = services.deposit(account, data["currency"], data["amount"], actor=_person(request).email)
        return Response(PaperBalanceSerializer(balance).data)

    @extend_schema(request=MoneySerializer, responses=PaperBalanceSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: Any = None) -> Response:
        """Take paper money out, at most what is free; answers the new balance."""
        account = self.get_object()
        data = validated(MoneySerializer, request)
        balance = services.withdraw(account, data["currency"], data["amount"], actor=_person(request).email)
        return Response(PaperBalanceSerializer(balance).data)

    @extend_schema(request=PerpsSettingsSerializer, responses=PerpsSettingsSerializer, filters=False)
    @action(detail=True, methods=["get", "patch"], url_path="perps-settings", pagination_class=None)
    def perps_settings(self, request: Request, pk: Any = None) -> Response:
        """How the account trades perpetual futures: read it, or change it. Open positions stay as they are."""
        account = self.get_object()
        if request.method == "GET":
            return Response(PerpsSettingsSerializer(perps_settings.settings_of(account)).data)
        data = validated(PerpsSettingsSerializer, request, partial=True)
        changed = perps_settings.update(account, _person(request).email, **data)
        return Response(PerpsSettingsSerializer(changed).data)

    @extend_schema(request=None, responses=AccountSerializer)
    @action(detail=True, methods=["post"])
    def reset(self, request: Request, pk: Any = None) -> Response:
        """Set a paper account back to its start balances. The journal goes on; open deals and orders forbid it."""
        account = self.get_object()
        validated(NoFields, request)
        services.reset_paper(account, actor=_person(request).email)
        return self._shown(account)

    @extend_schema(request=None, responses={204: None})
    @action(detail=True, methods=["post"], permission_classes=[permissions.IsAuthenticated])
    def leave(self, request: Request, pk: Any = None) -> Response:
        """Give up your share of somebody else's account."""
        account = self.get_object()
        validated(NoFields, request)
        services.leave(account, _person(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        responses=PaperEntrySerializer(many=True),
        parameters=[
            OpenApiParameter("currency", OpenApiTypes.STR),
            OpenApiParameter("kind", OpenApiTypes.STR, enum=PaperEntry.Kind.values),
        ],
        filters=False,
    )
    @action(detail=True)
    def entries(self, request: Request, pk: Any = None) -> Response:
        """The journal of a paper account, newest first: what changed each balance, and which order did."""
        rows = PaperEntry.objects.filter(account=self.get_object()).select_related("trade__order").order_by("-id")
        chosen = EntryFilter(request.query_params, queryset=rows, request=request)
        if not chosen.is_valid():
            raise exceptions.ValidationError(chosen.errors)
        page = self.paginate_queryset(chosen.qs)
        return self.get_paginated_response(PaperEntrySerializer(page, many=True).data)


class TokenView(APIView):
    """The token that programs sign in with. A person has at most one; the settings page shows and replaces it too."""

    permission_classes = [permissions.AllowAny]

    def get_authenticators(self) -> list[Any]:
        # Asking for a token proves who one is by password, whatever session the browser has.
        return [] if self.request is not None and self.request.method == "POST" else super().get_authenticators()

    def get_authenticate_header(self, request: Request) -> str:
        return "Token"  # so that wrong credentials answer 401

    @extend_schema(request=TokenRequestSerializer, responses=TokenSerializer, auth=[])
    def post(self, request: Request) -> Response:
        """Get a new token; one that was there before is refused from now on. Attempts are limited as at sign-in."""
        data = validated(TokenRequestSerializer, request)
        user = _signed_in(request, data)
        token = tokens.renew(user, data.get("name", ""), data.get("expires_at"))
        return Response(TokenSerializer({"token": token}).data)

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Revoke the token: programs that use it are refused from now on, and their sockets closed."""
        if not request.user.is_authenticated:
            raise exceptions.NotAuthenticated
        tokens.revoke(_person(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user


def _signed_in(request: Request, data: dict[str, Any]) -> User:
    """Return who these credentials belong to. Every refusal reads the same, so none tells whether a person exists."""
    refusal = exceptions.AuthenticationFailed("E-mail address, password or code is wrong.", code="wrong_credentials")
    try:
        user = get_adapter(request).authenticate(request._request, email=data["email"], password=data["password"])
        if user is None or not user.is_active:
            raise refusal
        if is_mfa_enabled(user):
            form = BaseAuthenticateForm({"code": data.get("code", "")}, user=user)
            if not form.is_valid():
                raise refusal
            form.authenticator.record_usage()
    except ValidationError as error:  # too many attempts
        raise exceptions.Throttled(detail=" ".join(error.messages)) from error
    found: User = user
    return found
