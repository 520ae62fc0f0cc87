#!/usr/bin/env python
"""Tradebot's command line: ``manage.py serve`` runs everything."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradebot.settings")
    if sys.argv[1:2] == ["serve"]:  # it watches processes that load Django and stays small itself
        from tradebot.runtime.supervisor import main

        sys.exit(main(sys.argv[2:]))
    from django.conf import settings
    from django.core.management import execute_from_command_line

    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)  # the database of an installation that was never started
    execute_from_command_line(sys.argv)
