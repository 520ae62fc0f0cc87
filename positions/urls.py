"""Addresses of deals, history and orders."""

from __future__ import annotations

from django.urls import path, re_path

from positions import views

urlpatterns = [
    path("deals/", views.deals, name="deals"),
    path("deals/<int:pk>/", views.deal, name="deal"),
    path("deals/<int:pk>/chart/", views.deal_chart, name="deal_chart"),
    path("deals/<int:pk>/close/", views.deal_close, name="deal_close"),
    path("deals/<int:pk>/cancel/", views.deal_cancel, name="deal_cancel"),
    path("deals/<int:pk>/note/", views.deal_note, name="deal_note"),
    re_path(r"^deals/(?P<pk>[0-9]{1,18})/orders\.(?P<kind>csv|json)$", views.deal_export, name="deal_export"),
    path("history/", views.deal_history, name="history"),
    re_path(r"^history/export\.(?P<kind>csv|json)$", views.history_export, name="history_export"),
    path("orders/", views.order_list, name="orders"),
    re_path(r"^orders/export\.(?P<kind>csv|json)$", views.order_export, name="order_export"),
]
