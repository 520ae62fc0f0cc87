"""Addresses of bots."""

from __future__ import annotations

from django.urls import path

from bots import action_views, views
from bots.signals import views as signal_views

urlpatterns = [
    path("", views.bot_list, name="bots"),
    path("import/", action_views.bot_import, name="bot_import"),
    path("new/", views.bot_new, name="bot_new"),
    path("preview/", views.bot_preview, name="bot_preview"),
    path("templates/<int:pk>/delete/", action_views.template_delete, name="template_delete"),
    path("<int:pk>/", views.bot_detail, name="bot"),
    path("<int:pk>/archive/", action_views.bot_archive, name="bot_archive"),
    path("<int:pk>/assign/", action_views.bot_assign, name="bot_assign"),
    path("<int:pk>/cancel-all/", action_views.bot_cancel_all, name="bot_cancel_all"),
    path("<int:pk>/candles/<int:product_pk>/", views.bot_candles, name="bot_candles"),
    path("<int:pk>/clone/", action_views.bot_clone, name="bot_clone"),
    path("<int:pk>/copy/", action_views.bot_copy, name="bot_copy"),
    path("<int:pk>/edit/", views.bot_edit, name="bot_edit"),
    path("<int:pk>/export/", action_views.bot_export, name="bot_export"),
    path("<int:pk>/run/", action_views.bot_run, name="bot_run"),
    path("<int:pk>/sell-all/", action_views.bot_sell_all, name="bot_sell_all"),
    path("<int:pk>/signals/", signal_views.bot_signals, name="bot_signals"),
    path("<int:pk>/start/", action_views.bot_start, name="bot_start"),
    path("<int:pk>/stop/", action_views.bot_stop, name="bot_stop"),
    path("<int:pk>/template/", action_views.bot_save_template, name="bot_save_template"),
]
