"""``manage.py serve``. From the command line ``manage.py`` hands over before Django loads; this serves its help."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from tradebot.runtime import supervisor


class Command(BaseCommand):
    help = "Start Tradebot on this machine: pages, worker, scheduler and what they need."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        supervisor.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        demo = False if options["no_demo"] else None
        if code := supervisor.serve(bind=options["bind"], port=options["port"], demo=demo):
            sys.exit(code)
