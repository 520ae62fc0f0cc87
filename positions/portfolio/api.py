"""Portfolio, balances, profit, transfers and daily values over the API. Parse, call one service, present."""

from __future__ import annotations

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import manual_transfers
from accounts.models import LeftOut, Transfer, User, ValueSnapshot
from positions.portfolio import overview, untracked
from positions.portfolio.holdings import holdings_of
from positions.portfolio.serializers import (
    BalancesSerializer,
    LeftOutSerializer,
    NewLeftOutSerializer,
    NewTransferSerializer,
    PnlQuerySerializer,
    PnlSerializer,
    PortfolioQuerySerializer,
    PortfolioSerializer,
    TransferSerializer,
    ValueSnapshotSerializer,
)
from tradebot.core import clock
from tradebot.core.viewsets import OwnedViewSet, validated
from tradebot.core.zones import zone_of

__all__ = [
    "BalancesView",
    "LeftOutViewSet",
    "PnlView",
    "PortfolioView",
    "TransferViewSet",
    "ValueSnapshotViewSet",
]


def _asked(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    query = serializer(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return dict(query.validated_data)


class PortfolioView(APIView):
    """What accounts hold and are worth."""

    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="portfolio", parameters=[PortfolioQuerySerializer], responses=PortfolioSerializer)
    def get(self, request: Request) -> Response:
        """Answer holdings, quote currencies, worth and gain, live and paper money apart."""
        asked = _asked(PortfolioQuerySerializer, request)
        accounts = overview.accounts_asked_for(asked.get("account"))
        body = {"currency": asked["currency"], "groups": overview.groups(accounts, asked["currency"])}
        return Response(PortfolioSerializer(body).data)


class BalancesView(APIView):
    """What each account holds."""

    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="balances", parameters=[PortfolioQuerySerializer], responses=BalancesSerializer)
    def get(self, request: Request) -> Response:
        """Answer every balance by account and currency, with how old it is."""
        asked = _asked(PortfolioQuerySerializer, request)
        rows = holdings_of(overview.accounts_asked_for(asked.get("account")))
        into = asked["currency"]
        balances = [
            {
                **{name: getattr(holding, name) for name in _AMOUNTS},
                "account": row.account.pk,
                "price": holding.price(into),
                "value": holding.value(into),
            }
            for row in rows
            for holding in row.holdings
        ]
        return Response(BalancesSerializer({"currency": into, "balances": balances, "accounts": rows}).data)


_AMOUNTS = (
    "currency",
    "is_money",
    "total",
    "in_orders",
    "in_deals",
    "free",
    "untracked",
    "missing",
    "left_out",
)


class PnlView(APIView):
    """What deals earned, by calendar period."""

    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="pnl", parameters=[PnlQuerySerializer], responses=PnlSerializer)
    def get(self, request: Request) -> Response:
        """Answer realised and unrealised profit, fees and win rates per quote currency, live and paper money apart."""
        asked = _asked(PnlQuerySerializer, request)
        zone, now = zone_of(_person(request).timezone), clock.now()
        found = overview.pnl_by_kind(overview.accounts_asked_for(asked.get("account")), now, zone)
        today = now.astimezone(zone).date()
        groups = [
            {
                "kind": kind,
                "quotes": [
                    {
                        "quote": row.quote,
                        "open": row.open,
                        "periods": list(row.periods.values()),
                        "days": row.window(today, asked["days"]),
                    }
                    for row in quotes.values()
                ],
            }
            for kind, quotes in found.items()
        ]
        return Response(PnlSerializer({"zone": zone.key, "as_of": now, "groups": groups}).data)


class TransferFilter(filters.FilterSet):
    """Transfers by account, currency, source and time."""

    after = filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")
    before = filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = Transfer
        fields = ["account", "currency", "source"]


@extend_schema_view(
    list=extend_schema(description="Transfers, newest first."), retrieve=extend_schema(description="One transfer.")
)
class TransferViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Money that came into accounts or left them. Read from venues; entered by hand where those do not list it."""

    queryset = Transfer.objects.order_by("-at", "-id")
    serializer_class = TransferSerializer
    filterset_class = TransferFilter
    ordering_fields = ["id", "at"]

    @extend_schema(request=NewTransferSerializer, responses={201: TransferSerializer})
    def create(self, request: Request) -> Response:
        """Enter a transfer of an account whose venue does not list them."""
        data = validated(NewTransferSerializer, request)
        made = manual_transfers.enter(
            data["account"],
            data["currency"],
            data["amount"],
            data["at"],
            data.get("note", ""),
            _person(request).email,
        )
        return Response(TransferSerializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Take out a transfer that was entered by hand."""
        manual_transfers.remove(self.get_object(), _person(request).email)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ValueSnapshotFilter(filters.FilterSet):
    """Daily values by account and day."""

    after = filters.DateFilter(field_name="date", lookup_expr="gte")
    before = filters.DateFilter(field_name="date", lookup_expr="lt")

    class Meta:
        model = ValueSnapshot
        fields = ["account", "complete"]


@extend_schema_view(
    list=extend_schema(description="Daily values, newest first. A day whose value was not known is not among them."),
    retrieve=extend_schema(description="One daily value."),
)
class ValueSnapshotViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """What accounts were worth day by day."""

    queryset = ValueSnapshot.objects.order_by("-date", "-id")
    serializer_class = ValueSnapshotSerializer
    filterset_class = ValueSnapshotFilter
    ordering_fields = ["id", "date"]


class LeftOutFilter(filters.FilterSet):
    """What is left out of one account, or of which accounts a currency is."""

    class Meta:
        model = LeftOut
        fields = ["account", "currency"]


@extend_schema_view(
    list=extend_schema(description="Currencies that are not counted in what accounts are worth."),
    retrieve=extend_schema(description="One currency that is left out of one account."),
)
class LeftOutViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Currencies that their owner does not want counted in what an account is worth."""

    queryset = LeftOut.objects.order_by("id")
    serializer_class = LeftOutSerializer
    filterset_class = LeftOutFilter
    ordering_fields = ["id", "currency"]

    @extend_schema(request=NewLeftOutSerializer, responses={201: LeftOutSerializer})
    def create(self, request: Request) -> Response:
        """Leave a currency out, such as a token without a market. Doing it again changes nothing."""
        data = validated(NewLeftOutSerializer, request)
        made = untracked.leave_out(data["account"], data["currency"], _person(request).email)
        return Response(LeftOutSerializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Count the currency again."""
        untracked.count_again(self.get_object(), _person(request).email)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user
