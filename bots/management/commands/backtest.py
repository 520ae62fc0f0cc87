"""``manage.py backtest``: try a bot or settings on candles that are held, here and now, without a worker.

    manage.py backtest --bot 7 --from 2024-01-01 --to 2024-07-01
    manage.py backtest --bot preset:balanced --files candles/*-BTC_5m_2018-01.csv.gz --balance BTC=1

The result is stored like any other and shows on the person's pages. Exit code 0: finished; 1: refused or failed; 130:
stopped.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.access import acting_for
from bots.backtesting import cli, jobs
from bots.backtesting import services as backtests
from bots.models import Backtest, JobStatus

__all__ = ["Command"]


class Command(BaseCommand):
    help = "Try a bot or settings on candles and print what came of it. Nothing is bought or sold."

    def add_arguments(self, parser: CommandParser) -> None:
        cli.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        cli.words(lambda: self._backtest(options), "backtest")

    def _backtest(self, options: dict[str, Any]) -> None:
        user = cli.person(options["user"])
        with acting_for(user):
            row = backtests.start_backtest(user, **cli.arguments_of(options), inline=True)
            try:
                row = backtests.run_backtest(row, progress=None if options["json"] else cli.bar, tell=False)
            except KeyboardInterrupt:
                jobs.stop_claimed(row)
                self.stderr.write("\nStopped.")
                sys.exit(cli.CANCELLED_CODE)
            if row.status != JobStatus.FINISHED:
                raise CommandError(row.error or f"It is {row.get_status_display().lower()}.")
            if options["json"]:
                self.stdout.write(json.dumps({"id": row.pk, "name": row.name, **document(row)}))
            else:
                self._print(row)

    def _print(self, row: Backtest) -> None:
        f, quote = row.statistics, row.quote_currency
        rows = [
            ("Backtest", f"{row.pk}: {row.name}"),
            ("Candles", f"{row.candles:,} of {row.timeframe}, {len(row.symbols)} pairs"),
            (
                "Return",
                f"{_pct(f['return_pct'])} ({_money(f['profit'])} {quote}), {_pct(f['annual_return_pct'])} a year",
            ),
            ("Buy and hold", f"{_pct(f['hold_return_pct'])}, drawdown {_number(f['hold_max_drawdown_pct'])} %"),
            ("Max drawdown", f"{_number(f['max_drawdown_pct'])} %, {_number(f['underwater_days'])} days under water"),
            ("Sharpe, Sortino", f"{_number(f['sharpe'])}, {_number(f['sortino'])}"),
            ("Deals", f"{f['deals_closed']} closed ({_number(f['win_rate_pct'])} % won), {f['deals_open']} open"),
            ("Average deal", f"{_pct(f['average_deal_pct'])}, {_number(f['mean_hours'])} hours"),
            ("Profit factor", _number(f["profit_factor"])),
            ("Realised", f"{_money(f['realised'])} {quote}, unrealised {_money(f['unrealised'])} {quote}"),
            ("Fees", f"{_money(f['fees'])} {quote}"),
            ("Fills", f"{row.fills}, fingerprint {row.fingerprint}"),
            ("Wall time", f"{row.wall_seconds:.2f} s"),
        ]
        for name, value in rows:
            self.stdout.write(f"{name:<17}{value}")
        for warning in row.warnings:
            self.stderr.write(f"Note: {warning}")


def document(row: Backtest) -> dict[str, Any]:
    """Return what ``--json`` prints besides id and name."""
    return {
        "status": str(row.status),
        "symbols": row.symbols,
        "timeframe": row.timeframe,
        "start": row.start,
        "end": row.end,
        "candles": row.candles,
        "fills": row.fills,
        "fingerprint": row.fingerprint,
        "statistics": row.statistics,
        "monthly": row.monthly,
        "warnings": row.warnings,
        "wall_seconds": round(row.wall_seconds, 3),
    }


def _pct(value: Any) -> str:
    return "-" if value is None else f"{value:+.2f} %"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _money(value: Any) -> str:
    return f"{Decimal(value):.8f}".rstrip("0").rstrip(".")
