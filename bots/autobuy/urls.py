"""Addresses that the auto-buy section posts to, under an account's own."""

from __future__ import annotations

from django.urls import path

from bots.autobuy import views

urlpatterns = [
    path("", views.auto_buy_set, name="auto_buy_set"),
    path("remove/", views.auto_buy_remove, name="auto_buy_remove"),
]
