"""Start of a supervised process: ``python -m tradebot.runtime.launch (web|worker|backtests|beat) arguments``.

Importing takes most of a process's start, and preparing the database takes as long again, so both happen at the same
time: a gated process imports everything first and then waits for the word on its standard input.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings

from tradebot.runtime.children import GATE_WORD

__all__ = ["main"]

NICENESS = 10


def main(program: str, arguments: list[str]) -> None:
    """Become the program, which imports, passes the gate, and works until it is stopped."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradebot.settings")
    {"web": web, "worker": worker, "backtests": backtests, "beat": beat}[program](arguments)


def web(arguments: list[str]) -> None:
    """Serve pages, API and sockets; ``arguments`` are Daphne's."""
    from daphne.cli import CommandLineInterface  # before anything else may bring in Twisted's default reactor

    _import_everything()
    import tradebot.urls  # noqa: F401 (the pages)

    _wait_at_the_gate()
    CommandLineInterface().run(arguments)


def worker(arguments: list[str]) -> None:
    """Carry out tasks; ``arguments`` are those of ``celery worker``."""
    from celery.exceptions import SecurityWarning

    _import_everything()
    from tradebot.celery import app

    _wait_at_the_gate()
    # Its concern is pickle in the hands of root; nothing but JSON is accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    sys.exit(app.start(["--quiet", "worker", *arguments]))


def backtests(arguments: list[str]) -> None:
    """Carry out backtests, sweeps and downloads, after everything else; ``arguments`` are for ``celery worker``."""
    os.nice(NICENESS)
    # What is imported is shared by the processes that are forked from this one as long as nobody writes to it.
    gc.disable()
    _import_everything()
    gc.enable()
    gc.freeze()
    from celery.signals import task_prerun

    task_prerun.connect(_put_work_back_on_sigterm, weak=False)
    worker(arguments)


def _put_work_back_on_sigterm(**kwargs: object) -> None:
    """Before each task: when told to end, let it put its job back into the queue rather than die in its midst.

    The pool sets signal handlers of its own after everything that can be said before the first task.
    """
    from tradebot.core import stopping

    signal.signal(signal.SIGTERM, lambda signum, frame: stopping.stop())


def beat(arguments: list[str]) -> None:
    """Send due tasks by name; ``arguments`` is the file that remembers when. Needs no Django, so it stays small."""
    from logging.config import dictConfig

    from celery.beat import Service
    from django.conf import settings

    from tradebot.celery import app

    dictConfig(settings.LOGGING)
    app.task_cls = "celery.app.task:Task"  # ours would load the models, and nothing runs here
    service = Service(app, schedule_filename=arguments[0])
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))  # the service ends its loop on this
    _wait_at_the_gate()
    service.start()


def _import_everything() -> None:
    import django

    django.setup()
    from tradebot.celery import app

    app.loader.import_default_modules()


def _wait_at_the_gate() -> None:
    if os.environ.pop("TRADEBOT_GATED", "") and sys.stdin.read() != GATE_WORD:
        sys.exit(1)  # the supervisor is gone


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
