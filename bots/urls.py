"""Addresses of bots."""

from __future__ import annotations

from django.urls import path

from bots import views

urlpatterns = [
    path("", views.bot_list, name="bots"),
    path("new/", views.bot_new, name="bot_new"),
    path("preview/", views.bot_preview, name="bot_preview"),
    path("templates/<int:pk>/delete/", views.template_delete, name="template_delete"),
    path("<int:pk>/", views.bot_detail, name="bot"),
    path("<int:pk>/edit/", views.bot_edit, name="bot_edit"),
    path("<int:pk>/start/", views.bot_start, name="bot_start"),
    path("<int:pk>/stop/", views.bot_stop, name="bot_stop"),
    path("<int:pk>/check/", views.bot_check, name="bot_check"),
    path("<int:pk>/archive/", views.bot_archive, name="bot_archive"),
    path("<int:pk>/assign/", views.bot_assign, name="bot_assign"),
    path("<int:pk>/template/", views.bot_save_template, name="bot_save_template"),
    path("<int:pk>/export/", views.bot_export, name="bot_export"),
    path("<int:pk>/candles/<int:product_pk>/", views.bot_candles, name="bot_candles"),
]
