"""Every address of the project. Apps bring their own; nothing else is reachable."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from tradebot import dashboard

urlpatterns = [
    path("", dashboard.dashboard, name="dashboard"),
    path("accounts/", include("accounts.urls")),
    path("settings/", include("accounts.settings_urls")),
    path("admin/", admin.site.urls),
    path("auth/", include("allauth.urls")),
]
