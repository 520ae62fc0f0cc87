"""Addresses that the guard's section posts to, under an account's own."""

from __future__ import annotations

from django.urls import path

from positions.guard import views

urlpatterns = [
    path("limits/", views.guard_limits, name="guard_limits"),
    path("release/", views.guard_release, name="guard_release"),
    path("stop/", views.guard_stop, name="guard_stop"),
]
