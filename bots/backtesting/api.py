"""Backtests and sweeps over the API. Parse, call one service, present. Nothing is traded, whatever is sent here.

Ratios are strings like amounts, so that no list holds a float; the curve's arrays are numbers, for charts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse, JsonResponse
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from bots.backtest.statistics import OBJECTIVES
from bots.backtesting import services as backtests
from bots.backtesting import sweeps
from bots.models import Backtest, BacktestDeal, Bot, BudgetKind, Sweep, SweepPoint
from bots.serializers import SettingsField
from bots.strategies import STRATEGIES
from marketdata.timeframes import Timeframe
from tradebot.core.api import AmountSerializerField, ModelSerializer, Serializer
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.viewsets import NoFields, OwnedViewSet, validated

__all__ = ["BacktestViewSet", "SweepViewSet"]

MOST_IDS = 50


# How they look ------------------------------------------------------------------------------------------------------


def without_floats(value: Any) -> Any:
    """Return JSON values with every float as text."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {name: without_floats(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_floats(inner) for inner in value]
    return value


@extend_schema_field(OpenApiTypes.OBJECT)
class FiguresField(serializers.JSONField):
    """Figures by name; ratios and amounts are strings, counts are numbers, what is not known is null."""

    def to_representation(self, value: Any) -> Any:
        return without_floats(value)


@extend_schema_field({"type": "array", "items": {"type": "object"}})
class RowsField(FiguresField):
    """Rows of figures."""


@extend_schema_field({"type": "array", "items": {"type": "string"}})
class TextsField(serializers.JSONField):
    """A list of texts."""


@extend_schema_field(OpenApiTypes.DATETIME)
class SecondsField(serializers.Field):
    """A moment that is stored in Unix seconds."""

    def to_representation(self, value: int) -> str:
        return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")

    def to_internal_value(self, data: Any) -> Any:
        return serializers.DateTimeField().to_internal_value(data)


JOB_FIELDS = [
    "id",
    "name",
    "bot",
    "strategy",
    "settings",
    "exchange",
    "symbols",
    "timeframe",
    "start",
    "end",
    "quote_currency",
    "balances",
    "budget_kind",
    "budget_pct",
    "budget_fixed",
    "split_budget",
    "maker_fee_pct",
    "taker_fee_pct",
    "slippage_pct",
    "status",
    "progress_pct",
    "cancel_requested",
    "error",
    "wall_ms",
    "created_at",
    "started_at",
    "finished_at",
]


class JobSerializer(ModelSerializer):
    """What backtests and sweeps share."""

    settings = SettingsField(read_only=True)
    symbols = TextsField(read_only=True)
    balances = serializers.DictField(child=serializers.CharField(), read_only=True)
    start = SecondsField(read_only=True)
    end = SecondsField(read_only=True)
    progress_pct = serializers.SerializerMethodField()
    wall_ms = serializers.SerializerMethodField(help_text="Milliseconds that the work took.")

    def get_progress_pct(self, job: Any) -> int:
        return int(job.progress * 100)

    def get_wall_ms(self, job: Any) -> int:
        return round(job.wall_seconds * 1000)


class BacktestSerializer(JobSerializer):
    """A backtest with its figures."""

    statistics = FiguresField(read_only=True)

    class Meta:
        model = Backtest
        fields = [*JOB_FIELDS, "candles", "fills", "fingerprint", "statistics"]
        read_only_fields = fields


class BacktestResultSerializer(BacktestSerializer):
    """A backtest with everything but its deals."""

    monthly = RowsField(read_only=True)
    curve = serializers.DictField(
        child=serializers.ListField(child=serializers.FloatField()),
        read_only=True,
        help_text="t, equity, drawdown, held and invested: arrays of one length, thinned out.",
    )
    warnings = TextsField(read_only=True)

    class Meta(BacktestSerializer.Meta):
        fields = [*BacktestSerializer.Meta.fields, "monthly", "curve", "warnings"]
        read_only_fields = fields


class BacktestDealSerializer(ModelSerializer):
    """One simulated deal with its fills."""

    exit_reason = serializers.CharField(read_only=True, help_text="Empty: still open at the end.")
    fills = RowsField(read_only=True)

    class Meta:
        model = BacktestDeal
        fields = [
            "id",
            "number",
            "symbol",
            "direction",
            "opened_at",
            "closed_at",
            "exit_reason",
            "invested",
            "profit",
            "profit_pct",
            "fees",
            "safety_orders",
            "fills",
        ]
        read_only_fields = fields


class SweepSerializer(JobSerializer):
    """A sweep; its points have an address of their own."""

    parameters = RowsField(read_only=True)

    class Meta:
        model = Sweep
        fields = [*JOB_FIELDS, "parameters", "method", "samples", "seed", "objective", "holdout_pct", "total"]
        read_only_fields = fields


class SweepPointSerializer(ModelSerializer):
    """One combination with its figures; ``holdout`` is filled for the best ones where a part was held out."""

    values = FiguresField(read_only=True)
    score = FiguresField(read_only=True, help_text="The objective as text; null: refused, or not tried yet.")
    statistics = FiguresField(read_only=True)
    holdout = FiguresField(read_only=True)

    class Meta:
        model = SweepPoint
        fields = ["id", "number", "values", "score", "statistics", "holdout", "error"]
        read_only_fields = fields


class HeatMapSerializer(Serializer):
    """Scores over two parameters, ``scores[row][column]``; the others are at their best."""

    x = serializers.CharField()
    y = serializers.CharField()
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.CharField())
    scores = serializers.ListField(child=serializers.ListField(child=serializers.CharField(allow_null=True)))
    points = serializers.ListField(child=serializers.ListField(child=serializers.IntegerField(allow_null=True)))
    best = serializers.ListField(child=serializers.IntegerField(), allow_null=True)


# What they take -----------------------------------------------------------------------------------------------------


class NewBacktestSerializer(Serializer):
    """A backtest to make. Of a bot, or of settings on the pairs of a market; the service checks the values."""

    name = serializers.CharField(max_length=120, required=False)
    bot = serializers.PrimaryKeyRelatedField(queryset=Bot.objects.all(), required=False, allow_null=True)
    strategy = serializers.ChoiceField(choices=[(row.name, row.label) for row in STRATEGIES.values()], required=False)
    settings = SettingsField(required=False)
    exchange = serializers.CharField(max_length=30, required=False)
    symbols = serializers.ListField(child=serializers.CharField(max_length=40), max_length=1000, required=False)
    timeframe = serializers.ChoiceField(choices=[frame.value for frame in Timeframe], required=False, allow_null=True)
    start = serializers.DateTimeField(required=False, allow_null=True, help_text="Left out: all that is held.")
    end = serializers.DateTimeField(required=False, allow_null=True)
    capital = AmountSerializerField(required=False, help_text="Opening amount of the quote currency.")
    balances = serializers.DictField(
        child=AmountSerializerField(), required=False, help_text="Opening amounts by currency, in place of capital."
    )
    budget_kind = serializers.ChoiceField(choices=BudgetKind.choices, required=False)
    budget_pct = AmountSerializerField(required=False)
    budget_fixed = AmountSerializerField(required=False)
    split_budget = serializers.BooleanField(required=False)
    maker_fee_pct = AmountSerializerField(required=False)
    taker_fee_pct = AmountSerializerField(required=False)
    slippage_pct = AmountSerializerField(required=False)


class ParameterSerializer(Serializer):
    """A setting that varies: ``values``, or ``from``, ``to`` and ``step``."""

    path = serializers.CharField(max_length=200, help_text="Such as take_profit or open_conditions.items.0.value.")
    values = serializers.ListField(child=AmountSerializerField(), max_length=2000, required=False)
    from_ = AmountSerializerField(required=False)
    to = AmountSerializerField(required=False)
    step = AmountSerializerField(required=False)

    def get_fields(self) -> Any:
        fields = super().get_fields()
        found = {("from" if name == "from_" else name): field for name, field in fields.items()}
        return found


class NewSweepSerializer(NewBacktestSerializer):
    """A sweep to make: a backtest, and which settings vary."""

    parameters = ParameterSerializer(many=True)
    method = serializers.ChoiceField(choices=Sweep.Method.choices, required=False)
    samples = serializers.IntegerField(min_value=0, max_value=2_000, required=False)
    seed = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False)
    objective = serializers.ChoiceField(choices=[(o.name, o.label) for o in OBJECTIVES.values()], required=False)
    holdout_pct = AmountSerializerField(required=False)


class PointNumberSerializer(Serializer):
    """A point of a sweep by its number."""

    number = serializers.IntegerField(min_value=0, max_value=2**31 - 1)


# Views --------------------------------------------------------------------------------------------------------------


class BacktestFilter(filters.FilterSet):
    """Backtests of one bot, market or state."""

    class Meta:
        model = Backtest
        fields = ["bot", "status", "exchange", "strategy"]


KIND = OpenApiParameter("kind", str, OpenApiParameter.PATH, enum=["deals.csv", "fills.csv", "backtest.json"])
IDS = OpenApiParameter("ids", str, description="Ids with commas between, at most ten.", required=True)


class BacktestViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Your backtests, newest first. They run in the background; nothing is bought or sold."""

    queryset = Backtest.objects.order_by("-id")
    serializer_class = BacktestSerializer
    filterset_class = BacktestFilter
    ordering_fields = ["id", "name", "status", "created_at"]

    def get_serializer_class(self) -> Any:
        return BacktestResultSerializer if self.action == "retrieve" else BacktestSerializer

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return rows if self.action in ("retrieve", "export") else rows.defer("curve", "monthly", "warnings")

    @extend_schema(request=NewBacktestSerializer, responses={201: BacktestSerializer})
    def create(self, request: Request) -> Response:
        """Check a backtest and queue it. Where candles are missing, the answer says what is held."""
        row = backtests.start_backtest(_person(request), **validated(NewBacktestSerializer, request))
        return Response(BacktestSerializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Delete a backtest with its deals. Refused while it runs."""
        backtests.delete_backtest(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=BacktestSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Ask a waiting or running backtest to stop."""
        row = self.get_object()
        validated(NoFields, request)
        return Response(BacktestSerializer(backtests.cancel_backtest(row)).data)

    @extend_schema(responses=BacktestDealSerializer(many=True), filters=False)
    @action(detail=True)
    def deals(self, request: Request, pk: Any = None) -> Response:
        """The deals in the order in which they were opened, with their fills."""
        rows = BacktestDeal.objects.filter(backtest=self.get_object()).order_by("number")
        return self.get_paginated_response(BacktestDealSerializer(self.paginate_queryset(rows), many=True).data)

    @extend_schema(parameters=[KIND], responses={(200, "text/csv"): OpenApiTypes.STR}, filters=False)
    @action(detail=True, url_path=r"export/(?P<kind>deals\.csv|fills\.csv|backtest\.json)", pagination_class=None)
    def export(self, request: Request, pk: Any = None, kind: str = "") -> HttpResponse:
        """Deals or fills as CSV, or everything as JSON."""
        row = self.get_object()
        name = f"backtest-{row.pk}-{kind}" if kind.endswith("csv") else f"backtest-{row.pk}.json"
        answer: HttpResponse
        if kind == "backtest.json":
            answer = JsonResponse(backtests.as_json(row))
        else:
            text = backtests.deals_csv(row) if kind == "deals.csv" else backtests.fills_csv(row)
            answer = HttpResponse(text, content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer

    @extend_schema(parameters=[IDS], responses=BacktestSerializer(many=True), filters=False)
    @action(detail=False, pagination_class=None)
    def compare(self, request: Request) -> Response:
        """Finished backtests side by side, in the order asked for."""
        words = request.query_params.get("ids", "").split(",")
        ids = [int(word) for word in words if word.strip().isascii() and word.strip().isdigit() and len(word) < 18]
        return Response(BacktestSerializer(backtests.compare(ids[:MOST_IDS]), many=True).data)


class SweepFilter(filters.FilterSet):
    """Sweeps of one bot, market or state."""

    class Meta:
        model = Sweep
        fields = ["bot", "status", "exchange", "objective"]


AXES = [
    OpenApiParameter("x", str, description="Path of the parameter that makes the columns."),
    OpenApiParameter("y", str, description="Path of the parameter that makes the rows."),
]


class SweepViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Your sweeps, newest first: one backtest with many settings."""

    queryset = Sweep.objects.order_by("-id")
    serializer_class = SweepSerializer
    filterset_class = SweepFilter
    ordering_fields = ["id", "name", "status", "created_at"]

    @extend_schema(request=NewSweepSerializer, responses={201: SweepSerializer})
    def create(self, request: Request) -> Response:
        """Check a sweep and queue it."""
        data = validated(NewSweepSerializer, request)
        return Response(SweepSerializer(sweeps.start_sweep(_person(request), **data)).data, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Delete a sweep with its points. Refused while it runs."""
        sweeps.delete_sweep(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=SweepSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Ask a waiting or running sweep to stop; points that are done stay."""
        row = self.get_object()
        validated(NoFields, request)
        return Response(SweepSerializer(sweeps.cancel_sweep(row)).data)

    @extend_schema(responses=SweepPointSerializer(many=True), filters=False)
    @action(detail=True)
    def points(self, request: Request, pk: Any = None) -> Response:
        """The points, best first; those without a score come last."""
        rows = sweeps.ranked(self.get_object())
        return self.get_paginated_response(SweepPointSerializer(self.paginate_queryset(rows), many=True).data)

    @extend_schema(parameters=AXES, responses=HeatMapSerializer, filters=False)
    @action(detail=True, url_path="heat-map", pagination_class=None)
    def heat_map(self, request: Request, pk: Any = None) -> Response:
        """Scores over two of the parameters."""
        query = request.query_params
        found = sweeps.heat_map(self.get_object(), query.get("x", ""), query.get("y", ""))
        if found is None:
            raise InvalidInput("one_parameter", "A heat map needs a sweep over two parameters or more.")
        body = {
            "x": found.x,
            "y": found.y,
            "columns": [str(value) for value in found.columns],
            "rows": [str(value) for value in found.rows],
            "scores": without_floats(found.scores),
            "points": found.points,
            "best": found.best,
        }
        return Response(HeatMapSerializer(body).data)

    @extend_schema(request=PointNumberSerializer, responses={201: BacktestSerializer})
    @action(detail=True, methods=["post"], url_path="open-point")
    def open_point(self, request: Request, pk: Any = None) -> Response:
        """Start a backtest with the settings of a point."""
        sweep = self.get_object()
        number = validated(PointNumberSerializer, request)["number"]
        point = SweepPoint.objects.filter(sweep=sweep, number=number).first()
        if point is None:
            raise NotFound(message="The sweep has no such point.")
        return Response(BacktestSerializer(sweeps.open_point(_person(request), point)).data, status=201)


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user
