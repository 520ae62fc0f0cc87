"""The admin application with the project's own site. In ``tradebot.apps`` a second configuration would be ambiguous."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig

__all__ = ["TradebotAdminConfig"]


class TradebotAdminConfig(AdminConfig):
    """Django's admin with :class:`tradebot.admin_site.TradebotAdminSite` as its site."""

    default_site = "tradebot.admin_site.TradebotAdminSite"
