"""The base class of every Celery task: a scope never outlives the task that opened it, and log lines name the task.

A context variable left set in one task is visible to the next one of the same worker thread, so each call runs in a
copy of the context, without any scope; the body opens the one it needs.
"""

from __future__ import annotations

import contextvars
from typing import Any

import structlog
from celery import Task, shared_task

from tradebot.core.scoping import request_holder

__all__ = ["ScopedTask", "prune_action_keys"]


class ScopedTask(Task):
    """Runs the body without any scope and forgets whatever scope the body left behind."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return contextvars.copy_context().run(self._run_unscoped, *args, **kwargs)

    def _run_unscoped(self, *args: Any, **kwargs: Any) -> Any:
        with request_holder(), structlog.contextvars.bound_contextvars(task=self.name, task_id=self.request.id):
            return self.run(*args, **kwargs)


@shared_task
def prune_action_keys() -> None:
    """Forget what requests were answered a day ago (``tradebot.core.once``)."""
    from tradebot.core import once  # models are not loaded when Celery asks for the base class

    once.prune()
