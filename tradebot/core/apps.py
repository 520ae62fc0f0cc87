from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "tradebot.core"
    label = "core"
    verbose_name = "Operation"

    def ready(self) -> None:
        from tradebot.core import money  # noqa: F401 (registers the SQLite collation)
        from tradebot.core.decimals import use_money_context

        use_money_context()
