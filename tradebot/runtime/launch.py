"""Start of a supervised process: ``python -m tradebot.runtime.launch (daphne|celery) arguments``.

Importing takes most of a process's start, and preparing the database takes as long again, so both happen at the same
time: a gated process imports everything first and then waits for the word on its standard input.
"""

from __future__ import annotations

import os
import sys

from tradebot.runtime.children import GATE_WORD

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Import, wait for the gate if there is one, become the program."""
    program = arguments[0]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradebot.settings")
    if program == "daphne":
        from daphne.cli import CommandLineInterface  # before anything else may bring in Twisted's default reactor

    import django

    django.setup()
    from tradebot.celery import app

    app.loader.import_default_modules()
    if program == "daphne":
        import tradebot.urls  # noqa: F401 (the pages)
    if os.environ.pop("TRADEBOT_GATED", "") and sys.stdin.read() != GATE_WORD:
        sys.exit(1)  # the supervisor is gone
    if program == "daphne":
        CommandLineInterface().run(arguments[1:])
    else:
        sys.exit(app.start(arguments[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
