#!/usr/bin/env python
"""Tradebot's command line: ``manage.py serve`` runs everything."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradebot.settings")
    if sys.argv[1:2] == ["serve"]:  # it watches processes that load Django and stays small itself
        from tradebot.runtime.supervisor import main

        sys.exit(main(sys.argv[2:]))
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
