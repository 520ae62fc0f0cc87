from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate


class CoreConfig(AppConfig):
    name = "tradebot.core"
    label = "core"
    verbose_name = "Operation"

    def ready(self) -> None:
        from tradebot.core import money  # noqa: F401 (registers the SQLite collation)
        from tradebot.core.decimals import use_money_context

        use_money_context()
        pre_migrate.connect(_before_migrate, sender=self)
        post_migrate.connect(_after_migrate, sender=self)


def _before_migrate(using: str, plan: list[Any], **kwargs: Any) -> None:
    connection = connections[using]
    if connection.vendor == "postgresql":
        from tradebot.core.postgres import rules

        rules.before_migrate(connection, plan)


def _after_migrate(using: str, **kwargs: Any) -> None:
    connection = connections[using]
    if connection.vendor == "postgresql":
        from tradebot.core.postgres import rules

        rules.after_migrate(connection)
