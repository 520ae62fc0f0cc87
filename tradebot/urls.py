"""Every address of the project. Apps bring their own; nothing else is reachable."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from bots.coin_views import coin_settings
from bots.deal_views import deal_settings
from bots.panic import views as panic_views
from bots.safety_views import stop_trading
from bots.signals.views import hook
from tradebot import dashboard, health_views

urlpatterns = [
    path("healthz", health_views.healthz),
    path("readyz", health_views.readyz),
    path("metrics", health_views.metrics),
    path("", dashboard.dashboard, name="dashboard"),
    path("ticker/", dashboard.ticker, name="ticker"),
    path("stop-trading/", stop_trading, name="stop_trading"),
    path("accounts/<int:pk>/sell-everything/", panic_views.panic_new, name="panic_new"),
    path("panic/<int:pk>/", panic_views.panic_run, name="panic_run"),
    path("accounts/", include("accounts.urls")),
    path("settings/coins/", coin_settings, name="settings_coins"),  # read by bots, so bots bring it
    path("accounts/<int:pk>/guard/", include("positions.guard.urls")),
    path("accounts/<int:pk>/auto-buy/", include("bots.autobuy.urls")),
    path("settings/", include("accounts.settings_urls")),
    path("bots/", include("bots.urls")),
    path("backtests/", include("bots.backtesting.urls")),
    path("deals/<int:pk>/settings/", deal_settings, name="deal_settings"),  # knows strategies, so bots bring it
    path("", include("positions.urls")),  # deals/, history/, orders/
    path("hooks/<str:public_id>/", hook, name="signal_hook"),
    path("api/", include("tradebot.api_urls")),
    path("admin/", admin.site.urls),
    path("auth/", include("allauth.urls")),
]
