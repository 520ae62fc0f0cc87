"""``manage.py import_candles FILE…``: recorded candles become products of the replay market."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketdata.sources.replay import import_file
from tradebot.core.errors import TradebotError


class Command(BaseCommand):
    help = "Import recorded candles (PRODUCT_TIMEFRAME_PERIOD.csv.gz) for replay and backtests."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        for path in options["files"]:
            try:
                series = import_file(path)
            except (TradebotError, OSError) as error:
                raise CommandError(str(error)) from error
            self.stdout.write(f"{series.product.symbol} {series.timeframe}: {path.name}")
