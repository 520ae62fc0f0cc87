"""Addresses of deals, history, orders and the portfolio."""

from __future__ import annotations

from django.urls import path, re_path

from positions import action_views, perps_views, unmatched_views, views
from positions.portfolio import views as portfolio_views
from positions.sales import views as sales_views

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
    path("outside-fills/", unmatched_views.unmatched_fills, name="unmatched_fills"),
    path("outside-fills/<int:pk>/explain/", unmatched_views.unmatched_explain, name="unmatched_explain"),
    path("history/", views.deal_history, name="history"),
    re_path(r"^history/export\.(?P<kind>csv|json)$", views.history_export, name="history_export"),
    path("perps/", perps_views.perps_list, name="perps"),
    path("perps/<int:pk>/new/", perps_views.perps_new, name="perps_new"),
    path("perps/<int:pk>/settings/", perps_views.account_perps, name="perps_settings"),
    path("orders/", views.order_list, name="orders"),
    re_path(r"^orders/export\.(?P<kind>csv|json)$", views.order_export, name="order_export"),
    path("portfolio/", portfolio_views.portfolio, name="portfolio"),
    path("portfolio/accounts/<int:pk>/convert/", sales_views.convert, name="coins_convert"),
    path("portfolio/accounts/<int:pk>/sell/", sales_views.sell, name="coins_sell"),
    path("portfolio/accounts/<int:pk>/left-out/", portfolio_views.left_out, name="portfolio_left_out"),
    path("portfolio/accounts/<int:pk>/transfers/", portfolio_views.transfer_enter, name="transfer_enter"),
    path("portfolio/transfers/<int:pk>/remove/", portfolio_views.transfer_remove, name="transfer_remove"),
]
