"""Addresses of the API: its resources, tokens and socket tickets, its schema, and the pages that document it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import IsAuthenticated
from rest_framework.routers import DefaultRouter

from accounts.api import AccountViewSet, TokenView
from bots.api import BotViewSet, TemplateViewSet
from bots.autobuy.api import AutoBuyViewSet
from bots.backtesting.api import BacktestViewSet, SweepViewSet
from bots.coin_api import CoinReviewViewSet
from bots.deal_views import DealSettingsViewSet
from bots.safety_api import PanicRunViewSet, StopTradingView
from marketdata.api import ProductViewSet
from marketdata.history_api import HistoryViewSet
from notifications.api import EventViewSet, SocketTicketView
from positions.api import FillViewSet, OrderViewSet, PositionViewSet
from positions.guard.api import GuardViewSet
from positions.portfolio.api import (
    BalancesView,
    LeftOutViewSet,
    PnlView,
    PortfolioView,
    TransferViewSet,
    ValueSnapshotViewSet,
)
from positions.sales.api import ConvertView, SellView
from positions.unmatched_api import UnmatchedFillViewSet
from tradebot import api_schema

__all__ = ["api_schema", "router", "urlpatterns"]

router = DefaultRouter()
router.register("accounts", AccountViewSet)
router.register("backtests", BacktestViewSet)
router.register("bots", BotViewSet)
router.register("coin-reviews", CoinReviewViewSet)
router.register("events", EventViewSet)
router.register("fills", FillViewSet)
router.register("history", HistoryViewSet)
router.register("left-out", LeftOutViewSet)
router.register("orders", OrderViewSet)
router.register("outside-fills", UnmatchedFillViewSet)
router.register("panic-runs", PanicRunViewSet)
router.register("positions", PositionViewSet)
router.register("products", ProductViewSet)
router.register("snapshots", ValueSnapshotViewSet)
router.register("sweeps", SweepViewSet)
router.register("templates", TemplateViewSet, basename="template")
router.register("transfers", TransferViewSet)
router.include_format_suffixes = False

# The documentation's script comes from an address of its own, so the strict content policy holds on its page too.
docs = SpectacularSwaggerSplitView.as_view(url_name="api_schema", permission_classes=[IsAuthenticated])

of_accounts = [
    ("auto-buy/", AutoBuyViewSet.as_view({"get": "retrieve", "put": "set"}), "auto-buy"),
    ("auto-buy/decisions/", AutoBuyViewSet.as_view({"get": "decisions"}), "auto-buy-decisions"),
    ("auto-buy/remove/", AutoBuyViewSet.as_view({"post": "remove"}), "auto-buy-remove"),
    ("guard/", GuardViewSet.as_view({"get": "retrieve", "patch": "partial_update"}), "guard"),
    ("guard/equity/", GuardViewSet.as_view({"get": "equity"}), "guard-equity"),
    ("guard/history/", GuardViewSet.as_view({"get": "history"}), "guard-history"),
    ("guard/release/", GuardViewSet.as_view({"post": "release"}), "guard-release"),
    ("guard/stop/", GuardViewSet.as_view({"post": "stop"}), "guard-stop"),
]
"""What apps above accounts answer under an account's own address."""

urlpatterns = [
    path("", include(router.urls)),
    re_path(
        r"^positions/(?P<pk>[0-9]+)/settings/$",
        DealSettingsViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
        name="deal-settings",
    ),
    path("stop-trading/", StopTradingView.as_view(), name="api_stop_trading"),
    *(re_path(rf"^accounts/(?P<pk>[0-9]+)/{address}$", view, name=name) for address, view, name in of_accounts),
    path("balances/", BalancesView.as_view(), name="balances"),
    path("pnl/", PnlView.as_view(), name="pnl"),
    path("portfolio/convert/", ConvertView.as_view(), name="api_portfolio_convert"),
    path("portfolio/sell/", SellView.as_view(), name="api_portfolio_sell"),
    path("portfolio/", PortfolioView.as_view(), name="api_portfolio"),
    path("token/", TokenView.as_view(), name="api_token"),
    path("socket-ticket/", SocketTicketView.as_view(), name="socket_ticket"),
    path("schema/", SpectacularAPIView.as_view(permission_classes=[IsAuthenticated]), name="api_schema"),
    path("docs/", login_required(docs), name="api_docs"),
]
