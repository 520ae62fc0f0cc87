"""Finished backtests side by side: figures with the best marked, curves in percent, what differs in their settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bots.backtest.statistics import value_of
from bots.backtesting.charts import Plot, Series, plot
from bots.backtesting.models import Backtest
from bots.backtesting.pages import facts_of, job_row, negative, number_of, run_facts

__all__ = ["LINE_LETTERS", "Comparison", "compared"]

LINE_LETTERS: Final = "ABCDEF"

COMPARED: Final = (
    ("Net profit", "return_pct", "signed_pct", 1),
    ("Return a year", "annual_return_pct", "signed_pct", 1),
    ("Against buy and hold", "excess_return_pct", "signed_pct", 1),
    ("Worst drawdown", "max_drawdown_pct", "fall", -1),
    ("Return for each percent of drawdown", "return_per_drawdown", "number", 1),
    ("Profit factor", "profit_factor", "number", 1),
    ("Sharpe ratio", "sharpe", "number", 1),
    ("Sortino ratio", "sortino", "number", 1),
    ("Deals closed", "deals_closed", "count", 0),
    ("Won", "win_rate_pct", "pct", 1),
    ("Average deal", "average_deal_pct", "signed_pct", 1),
    ("Worst deal", "worst_deal_pct", "signed_pct", 1),
    ("Median time in a deal", "median_hours", "hours", 0),
    ("Time in deals", "time_exposure_pct", "pct", 0),
    ("Capital in deals, mean", "capital_exposure_pct", "pct", 0),
    ("Fees paid", "fees", "amount", 0),
)


@dataclass(frozen=True, slots=True)
class ComparedCell:
    """A figure of one run; ``currency`` is the unit of amounts."""

    value: Any
    is_best: bool
    currency: str


@dataclass(frozen=True, slots=True)
class ComparedRow:
    label: str
    kind: str
    cells: tuple[ComparedCell, ...]


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run beside others; ``letter`` names its curve."""

    run: Backtest
    letter: str
    kind: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side: figures, curves in percent, and only what differs in how they were run."""

    runs: tuple[ComparedRun, ...]
    figures: tuple[ComparedRow, ...]
    plot: Plot | None
    cursor: dict[str, Any]
    differences: tuple[tuple[str, tuple[str, ...]], ...]
    same_range: bool


def compared(runs: Sequence[Backtest]) -> Comparison:
    """Return the comparison of two to six finished runs."""
    shown = tuple(ComparedRun(run, LINE_LETTERS[i], f"line-{i + 1}") for i, run in enumerate(runs))
    curves = [(one, *_grown(one.run)) for one in shown]
    series = [Series(one.run.name, one.kind, times, values, one.letter) for one, times, values in curves]
    return Comparison(
        runs=shown,
        figures=tuple(_compared_row(label, name, kind, better, runs) for label, name, kind, better in COMPARED),
        plot=plot(series, unit="\u2009%"),
        cursor={"lines": [{"name": f"{one.letter}", "t": times, "v": values} for one, times, values in curves]},
        differences=tuple(_differences(runs)),
        same_range=len({(run.start, run.end) for run in runs}) == 1,
    )


def _grown(run: Backtest) -> tuple[list[int], list[float]]:
    """Return the equity as the change in percent since the start."""
    curve = run.curve if isinstance(run.curve, dict) else {}
    times, equity = list(curve.get("t") or []), list(curve.get("equity") or [])
    opening = value_of(job_row(run).figures, "equity_start") or (equity[0] if equity else None)
    if not opening:
        return [], []
    return times, [round((value / opening - 1.0) * 100.0, 3) for value in equity]


def _compared_row(label: str, name: str, kind: str, better: int, runs: Sequence[Backtest]) -> ComparedRow:
    """Return one row; ``better`` is 1 where more is better, -1 where less is, 0 where neither is."""
    values = [job_row(run).figures.get(name) for run in runs]
    numbers = [number_of(value) for value in values]
    known = [number for number in numbers if number is not None]
    best = max(number * better for number in known) if better and len(set(known)) > 1 else None
    cells = tuple(
        ComparedCell(
            value=negative(number) if kind == "fall" else value,
            is_best=best is not None and number is not None and number * better == best,
            currency=run.quote_currency,
        )
        for run, value, number in zip(runs, values, numbers, strict=True)
    )
    return ComparedRow(label, kind, cells)


def _differences(runs: Sequence[Backtest]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yield (label, value of each run) of everything in which the runs were not alike."""
    tables = [
        {"Strategy": run.strategy.replace("_", " ")}
        | dict(run_facts(run))
        | {
            f"{fact.section}: {fact.label}" if fact.section else fact.label: fact.value
            for fact in facts_of(run.strategy, run.settings, run.quote_currency)
        }
        for run in runs
    ]
    labels = dict.fromkeys(label for table in tables for label in table)
    for label in labels:
        values = tuple(table.get(label, "–") for table in tables)
        if len(set(values)) > 1:
            yield label, values
