from django.apps import AppConfig


class BotsConfig(AppConfig):
    name = "bots"
    verbose_name = "Bots"

    def ready(self) -> None:
        from bots import bulk, outlook
        from positions.guard import service as guard

        outlook.register_all()
        guard.register_bots(bulk.stop_all)
