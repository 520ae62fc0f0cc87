"""``manage.py history``: fetch candles of a long range into the candle store, here and now, without a worker.

    manage.py history BTC-USD 5m --from 2023-01-01 --to 2024-01-01 --exchange coinbase
    manage.py history --held

What is held already is not fetched again; a command that was interrupted goes on where it was when it is given again.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata import history, sources
from marketdata.models import HistoryDownload
from tradebot.core.errors import TradebotError
from tradebot.core.scoping import Scope, bound

__all__ = ["Command"]

BAR = 40


class Command(BaseCommand):
    help = "Fetch candles of a long range from a market's public source, or list what is held."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("product", nargs="?", default="", help="such as BTC-USD")
        parser.add_argument("timeframe", nargs="?", default="", help="such as 5m")
        parser.add_argument("--exchange", default="", help="coinbase or simulated (default: the one of new accounts)")
        parser.add_argument("--from", dest="start", default="", help="first day or moment, UTC")
        parser.add_argument("--to", dest="end", default="", help="end of the range, UTC, not included (default: now)")
        parser.add_argument("--user", default="", help="e-mail of the person who asks (default: the first one)")
        parser.add_argument("--held", action="store_true", help="list what is held and fetch nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["held"]:
                self._list(options)
            else:
                self._fetch(options)
        except TradebotError as error:
            raise CommandError(f"{error.field or 'history'}: {error.message}") from error

    def _list(self, options: dict[str, Any]) -> None:
        rows = history.coverage(options["exchange"], [options["product"].upper()] if options["product"] else [])
        for row in rows:
            stretch = f"{row.start:%Y-%m-%d %H:%M} to {row.end:%Y-%m-%d %H:%M}"
            gaps = f"{row.gap_share:.1%} without trades"
            name = f"{row.product.exchange} {row.product.symbol}"
            self.stdout.write(f"{name:<24}{row.timeframe:<5}{stretch}  {row.candles:,} candles, {gaps}")
        if not rows:
            self.stdout.write("Nothing is held.")

    def _fetch(self, options: dict[str, Any]) -> None:
        for name, label in (("product", "PRODUCT"), ("timeframe", "TIMEFRAME"), ("start", "--from")):
            if not options[name]:
                raise CommandError(f"{label} is missing; see --help")
        users = get_user_model().objects.order_by("pk")
        user = users.filter(email=options["user"].lower()).first() if options["user"] else users.first()
        if user is None:
            raise CommandError("user: there is nobody with that e-mail address")
        with bound(Scope(owner_id=user.pk)):
            row = history.start_download(
                user,
                exchange=options["exchange"] or sources.default_market(),
                symbol=options["product"],
                timeframe=options["timeframe"],
                start=_moment(options["start"], "from"),
                end=_moment(options["end"], "to") if options["end"] else None,
                inline=True,
            )
            row = self._run(row)
        if row.status != HistoryDownload.Status.FINISHED:
            raise CommandError(row.error or f"It is {row.get_status_display().lower()}.")
        gaps = f", {len(row.gaps)} stretches without trades" if row.gaps else ""
        self.stdout.write(f"{row.candles:,} candles fetched{gaps}.")

    def _run(self, row: HistoryDownload) -> HistoryDownload:
        try:
            return history.run_download(row, _progress, tell=False)
        except KeyboardInterrupt:
            history.stop_claimed(row)
            self.stderr.write("\nStopped; what was fetched is kept.")
            sys.exit(130)


def _moment(text: str, argument: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{argument}: {text!r} is no date, such as 2024-01-31") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _progress(share: float) -> None:
    if not sys.stderr.isatty():
        return
    filled = int(BAR * share)
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (BAR - filled)}] {share:.0%}" + ("\n" if share >= 1 else ""))
    sys.stderr.flush()
