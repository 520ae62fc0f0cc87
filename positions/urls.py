"""Addresses of deals, history and orders."""

from __future__ import annotations

from django.urls import path, re_path

from positions import action_views, perps_views, views

urlpatterns = [
    path("deals/", views.deals, name="deals"),
    path("deals/<int:pk>/", views.deal, name="deal"),
    path("deals/<int:pk>/chart/", views.deal_chart, name="deal_chart"),
    path("deals/<int:pk>/add-funds/", action_views.deal_add_funds, name="deal_add_funds"),
    path("deals/<int:pk>/bracket/", perps_views.deal_bracket, name="deal_bracket"),
    path("deals/<int:pk>/cancel/", action_views.deal_cancel, name="deal_cancel"),
    path("deals/<int:pk>/cancel-add/", action_views.deal_cancel_add, name="deal_cancel_add"),
    path("deals/<int:pk>/ceiling/", action_views.deal_ceiling, name="deal_ceiling"),
    path("deals/<int:pk>/close/", action_views.deal_close, name="deal_close"),
    path("deals/<int:pk>/limit-close/", action_views.deal_limit_close, name="deal_limit_close"),
    path("deals/<int:pk>/limit-close/cancel/", action_views.deal_limit_cancel, name="deal_limit_cancel"),
    path("deals/<int:pk>/limit-close/change/", action_views.deal_limit_change, name="deal_limit_change"),
    path("deals/<int:pk>/note/", action_views.deal_note, name="deal_note"),
    path("deals/<int:pk>/ticker/", action_views.deal_ticker, name="deal_ticker"),
    re_path(r"^deals/(?P<pk>[0-9]{1,18})/orders\.(?P<kind>csv|json)$", views.deal_export, name="deal_export"),
    path("history/", views.deal_history, name="history"),
    re_path(r"^history/export\.(?P<kind>csv|json)$", views.history_export, name="history_export"),
    path("perps/", perps_views.perps_list, name="perps"),
    path("perps/<int:pk>/new/", perps_views.perps_new, name="perps_new"),
    path("perps/<int:pk>/settings/", perps_views.account_perps, name="perps_settings"),
    path("orders/", views.order_list, name="orders"),
    re_path(r"^orders/export\.(?P<kind>csv|json)$", views.order_export, name="order_export"),
]
