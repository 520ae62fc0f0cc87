"""The Celery application: JSON only, a static beat schedule, no result back end."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradebot.settings")

app = Celery("tradebot", task_cls="tradebot.core.tasks:ScopedTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
# The monitor cycle has a queue of its own, so that slow work in the other one never delays it. A worker takes both
# unless it is started with -Q.
app.conf.task_default_queue = "default"
app.conf.task_queues = [Queue("cycle"), Queue("default")]
app.autodiscover_tasks()


@setup_logging.connect(dispatch_uid="tradebot logging")
def keep_our_logging(**kwargs: Any) -> None:
    """Django has configured logging (settings.LOGGING); a receiver here keeps Celery from configuring it again."""
