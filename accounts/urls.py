"""Addresses of the account pages, and of what the shell posts to."""

from __future__ import annotations

from django.urls import path

from accounts import safety_views, views

urlpatterns = [
    path("", views.account_list, name="accounts"),
    path("new/", views.account_new, name="account_new"),
    path("connect/", safety_views.exchange_connect, name="exchange_connect"),
    path("switch/", views.switch_account, name="switch_account"),
    path("<int:pk>/", views.account_detail, name="account"),
    path("<int:pk>/deposit/", views.account_deposit, name="account_deposit"),
    path("<int:pk>/withdraw/", views.account_withdraw, name="account_withdraw"),
    path("<int:pk>/reset/", views.account_reset, name="account_reset"),
    path("<int:pk>/terms/", views.account_terms, name="account_terms"),
    path("<int:pk>/rename/", views.account_rename, name="account_rename"),
    path("<int:pk>/default/", views.account_default, name="account_default"),
    path("<int:pk>/share/", views.account_share, name="account_share"),
    path("<int:pk>/share/<int:user_id>/end/", views.account_revoke, name="account_revoke"),
    path("<int:pk>/leave/", views.account_leave, name="account_leave"),
    path("<int:pk>/keys/", safety_views.account_keys, name="account_keys"),
    path("<int:pk>/keys/check/", safety_views.account_keys_check, name="account_keys_check"),
    path("<int:pk>/keys/remove/", safety_views.account_keys_remove, name="account_keys_remove"),
    path("<int:pk>/arm/", safety_views.account_arm, name="account_arm"),
    path("<int:pk>/disarm/", safety_views.account_disarm, name="account_disarm"),
    path("<int:pk>/limits/", safety_views.account_limits, name="account_limits"),
    path("<int:pk>/archive/", views.account_archive, name="account_archive"),
]
