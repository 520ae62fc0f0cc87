from django.apps import AppConfig


class PositionsConfig(AppConfig):
    name = "positions"
    verbose_name = "Positions"

    def ready(self) -> None:
        from positions import admission
        from positions.guard import check

        admission.CHECKS.append(check.allow)
