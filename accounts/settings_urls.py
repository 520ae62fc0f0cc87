"""Addresses of a person's own settings. Password, second factor and sessions are allauth's, under ``auth/``."""

from __future__ import annotations

from django.urls import path

from accounts import settings_views as views

urlpatterns = [
    path("", views.profile, name="settings"),
    path("theme/", views.theme, name="theme"),
    path("security/", views.security, name="settings_security"),
    path("api/", views.api_token, name="settings_api"),
]
