"""Addresses of backtests, sweeps and downloads of candles."""

from __future__ import annotations

from django.urls import path

from bots.backtesting import sweep_views
from bots.backtesting import views as backtest_views

urlpatterns = [
    path("", backtest_views.backtest_list, name="backtests"),
    path("new/", backtest_views.backtest_new, name="backtest_new"),
    path("compare/", backtest_views.backtest_compare, name="backtest_compare"),
    path("history/", backtest_views.download_list, name="downloads"),
    path("history/<int:pk>/cancel/", backtest_views.download_cancel, name="download_cancel"),
    path("history/<int:pk>/remove/", backtest_views.download_remove, name="download_remove"),
    path("sweeps/", sweep_views.sweep_list, name="sweeps"),
    path("sweeps/new/", sweep_views.sweep_new, name="sweep_new"),
    path("sweeps/<int:pk>/", sweep_views.sweep_detail, name="sweep"),
    path("sweeps/<int:pk>/cancel/", sweep_views.sweep_cancel, name="sweep_cancel"),
    path("sweeps/<int:pk>/delete/", sweep_views.sweep_delete, name="sweep_delete"),
    path("sweeps/points/<int:pk>/open/", sweep_views.point_open, name="sweep_point_open"),
    path("sweeps/points/<int:pk>/bot/", sweep_views.point_save_bot, name="sweep_point_bot"),
    path("<int:pk>/", backtest_views.backtest_detail, name="backtest"),
    path("<int:pk>/cancel/", backtest_views.backtest_cancel, name="backtest_cancel"),
    path("<int:pk>/delete/", backtest_views.backtest_delete, name="backtest_delete"),
    path("<int:pk>/bot/", backtest_views.backtest_save_bot, name="backtest_bot"),
    path("<int:pk>/candles/", backtest_views.backtest_candles, name="backtest_candles"),
    path("<int:pk>/deals/<int:number>/", backtest_views.backtest_deal, name="backtest_deal"),
    path("<int:pk>/export/<str:what>/", backtest_views.backtest_export, name="backtest_export"),
]
