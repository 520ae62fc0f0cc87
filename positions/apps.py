from django.apps import AppConfig


class PositionsConfig(AppConfig):
    name = "positions"
    verbose_name = "Positions"

    def ready(self) -> None:
        from accounts import panels
        from positions import admission, answers
        from positions.guard import check, panel

        answers.register()
        if check.allow not in admission.CHECKS:
            admission.CHECKS.append(check.allow)
        panels.register(10, "accounts/_guard.html", panel.gather)
