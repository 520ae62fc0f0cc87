from django.apps import AppConfig


class TradebotConfig(AppConfig):
    name = "tradebot"
    verbose_name = "Tradebot"

    def ready(self) -> None:
        from tradebot import celery  # noqa: F401 (every process sends tasks through this application)
