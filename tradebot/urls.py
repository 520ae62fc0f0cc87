"""Every address of the project. Apps bring their own; nothing else is reachable."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from bots.deal_views import deal_settings
from tradebot import dashboard, health_views

urlpatterns = [
    path("healthz", health_views.healthz),
    path("readyz", health_views.readyz),
    path("metrics", health_views.metrics),
    path("", dashboard.dashboard, name="dashboard"),
    path("ticker/", dashboard.ticker, name="ticker"),
    path("accounts/", include("accounts.urls")),
    path("accounts/<int:pk>/guard/", include("positions.guard.urls")),
    path("accounts/<int:pk>/auto-buy/", include("bots.autobuy.urls")),
    path("settings/", include("accounts.settings_urls")),
    path("bots/", include("bots.urls")),
    path("backtests/", include("bots.backtesting.urls")),
    path("deals/<int:pk>/settings/", deal_settings, name="deal_settings"),  # knows strategies, so bots bring it
    path("", include("positions.urls")),  # deals/, history/, orders/
    path("api/", include("tradebot.api_urls")),
    path("admin/", admin.site.urls),
    path("auth/", include("allauth.urls")),
]
