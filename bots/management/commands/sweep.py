"""``manage.py sweep``: try many settings on the same candles, here and now, without a worker.

    manage.py sweep --bot 7 --vary take_profit=1,1.5,2 --vary price_deviation=1:3:0.5 --holdout 30

Exit code 0: finished; 1: refused or failed; 130: stopped.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.access import acting_for
from bots.backtest.statistics import OBJECTIVES
from bots.backtesting import cli, jobs, sweeps
from bots.models import JobStatus, Sweep, SweepPoint

__all__ = ["Command"]


class Command(BaseCommand):
    help = "Try many settings on the same candles and print the best ones. Nothing is bought or sold."

    def add_arguments(self, parser: CommandParser) -> None:
        cli.add_arguments(parser)
        parser.add_argument(
            "--vary",
            action="append",
            default=[],
            metavar="PATH=VALUES",
            help="a setting and its values: take_profit=1,2,3, or from:to:step",
        )
        parser.add_argument("--random", type=int, default=0, metavar="N", help="draw N samples in place of all")
        parser.add_argument("--seed", type=int, default=1, help="which samples are drawn")
        parser.add_argument("--objective", default="return_pct", help=f"one of {', '.join(OBJECTIVES)}")
        parser.add_argument("--holdout", default="0", help="percent of the range kept for judging the best one")
        parser.add_argument("--top", type=int, default=10, help="how many of the best to print")

    def handle(self, *args: Any, **options: Any) -> None:
        cli.words(lambda: self._sweep(options), "sweep")

    def _sweep(self, options: dict[str, Any]) -> None:
        user = cli.person(options["user"])
        with acting_for(user):
            row = sweeps.start_sweep(
                user,
                parameters=[_parameter(text) for text in options["vary"]],
                method="random" if options["random"] else "grid",
                samples=options["random"],
                seed=options["seed"],
                objective=options["objective"],
                holdout_pct=options["holdout"],
                inline=True,
                **cli.arguments_of(options),
            )
            try:
                row = sweeps.run_to_end(row, None if options["json"] else cli.bar, tell=False)
            except KeyboardInterrupt:
                jobs.stop_claimed(row)
                self.stderr.write("\nStopped.")
                sys.exit(cli.CANCELLED_CODE)
            if row.status != JobStatus.FINISHED:
                raise CommandError(row.error or f"It is {row.get_status_display().lower()}.")
            found = sweeps.top(row, options["top"])
            if options["json"]:
                self.stdout.write(json.dumps(_document(row, found)))
            else:
                self._print(row, found)

    def _print(self, row: Sweep, found: list[SweepPoint]) -> None:
        objective = OBJECTIVES[row.objective]
        refused = SweepPoint.objects.filter(sweep=row).exclude(error="").count()
        self.stdout.write(f"Sweep {row.pk}: {row.total} points, {refused} refused, {row.wall_seconds:.1f} s")
        for place, point in enumerate(found, start=1):
            values = ", ".join(f"{path}={value}" for path, value in point.values.items())
            self.stdout.write(
                f"{place:>3}. {objective.label} {point.score:,.4g} {objective.unit}".rstrip() + f"  {values}"
            )
        if found and found[0].holdout:
            held = found[0].holdout.get(row.objective)
            shown = "-" if held is None else f"{float(held):,.4g} {objective.unit}".rstrip()
            self.stdout.write(f"On the part that was held out, the best one has {shown}.")


def _parameter(text: str) -> dict[str, Any]:
    path, equals, values = text.partition("=")
    if not equals or not values:
        raise CommandError(f"vary: {text!r} is not PATH=VALUES")
    if values.count(":") == 2:
        first, last, step = values.split(":")
        return {"path": path, "from": first, "to": last, "step": step}
    return {"path": path, "values": values.split(",")}


def _document(row: Sweep, found: list[SweepPoint]) -> dict[str, Any]:
    points = [
        {
            "number": point.number,
            "values": point.values,
            "score": point.score,
            "statistics": point.statistics,
            "holdout": point.holdout,
        }
        for point in found
    ]
    return {
        "id": row.pk,
        "name": row.name,
        "status": str(row.status),
        "total": row.total,
        "objective": row.objective,
        "wall_seconds": round(row.wall_seconds, 3),
        "best": points,
    }
