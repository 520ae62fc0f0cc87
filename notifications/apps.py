from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out


def close_sockets_on_sign_out(user: Any, **kwargs: Any) -> None:
    """Sockets of other sessions reconnect by themselves; those of this session cannot (F54)."""
    from notifications.outbox import close_sockets

    if user is not None:
        close_sockets(user.pk)


class NotificationsConfig(AppConfig):
    name = "notifications"
    verbose_name = "Notifications"

    def ready(self) -> None:
        user_logged_out.connect(close_sockets_on_sign_out, dispatch_uid="close sockets on sign-out")
