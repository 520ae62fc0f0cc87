from django.apps import AppConfig


class BotsConfig(AppConfig):
    name = "bots"
    verbose_name = "Bots"

    def ready(self) -> None:
        from accounts import panels
        from bots import bulk, outlook
        from bots.autobuy import panel
        from positions.guard import service as guard

        outlook.register_all()
        guard.register_bots(bulk.stop_all)
        panels.register(20, "accounts/_auto_buy.html", panel.gather)
