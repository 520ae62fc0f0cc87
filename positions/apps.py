from django.apps import AppConfig


class PositionsConfig(AppConfig):
    name = "positions"
    verbose_name = "Positions"

    def ready(self) -> None:
        from accounts import panels
        from positions import admission, answers, perps_worth
        from positions.guard import check, equity, panel

        answers.register()
        equity.register(perps_worth.equity_part)
        if check.allow not in admission.CHECKS:
            admission.CHECKS.append(check.allow)
        panels.register(10, "accounts/_guard.html", panel.gather)
