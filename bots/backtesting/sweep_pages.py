"""What a sweep shows: the heat map over two settings, the best combinations, and whether they hold on other candles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bots.backtest.statistics import OBJECTIVES, Objective
from bots.backtesting.models import Sweep, SweepPoint
from bots.backtesting.pages import JobRow, job_row, negative, number_of, run_facts
from bots.backtesting.sweeps import HeatMap

__all__ = ["SweepPage", "sweep_page"]


@dataclass(frozen=True, slots=True)
class HeatCell:
    score: float | None
    heat: str
    is_best: bool
    point: int | None
    title: str


@dataclass(frozen=True, slots=True)
class HeatRow:
    value: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True)
class PointRow:
    """One combination in the table of the best."""

    rank: int
    point: SweepPoint
    values: tuple[str, ...]
    figures: Mapping[str, Any]
    holdout: Mapping[str, Any]
    held_score: float | None
    worse: bool

    @property
    def fall(self) -> float | None:
        return negative(self.figures.get("max_drawdown_pct"))

    @property
    def held_fall(self) -> float | None:
        return negative(self.holdout.get("max_drawdown_pct"))


@dataclass(slots=True)
class SweepPage:
    """What a sweep shows."""

    row: JobRow
    labels: dict[str, str]
    x: str
    y: str
    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    points: list[PointRow]
    objective: Objective
    tried: int
    refused: int
    overfitted: str
    run_facts: list[tuple[str, str]]
    legend: tuple[tuple[str, float, float], ...] = ()

    @property
    def x_label(self) -> str:
        return self.labels.get(self.x, self.x)

    @property
    def y_label(self) -> str:
        return self.labels.get(self.y, self.y)

    @property
    def places(self) -> int:
        """Return how many digits after the point tell the scores apart."""
        largest = max((abs(edge) for _, low, high in self.legend for edge in (low, high)), default=0.0)
        return 0 if largest >= 1000 else 1 if largest >= 10 else 2

    @property
    def parameters(self) -> list[tuple[str, str]]:
        return list(self.labels.items())


def sweep_page(sweep: Sweep, heat: HeatMap | None, best: Sequence[SweepPoint], labels: Mapping[str, str]) -> SweepPage:
    """Return the page of ``sweep`` from its heat map, its best points and the names of its settings."""
    objective = OBJECTIVES.get(sweep.objective) or Objective(sweep.objective, sweep.objective.replace("_", " "))
    paths = [str(parameter.get("path", "")) for parameter in sweep.parameters]
    names = {path: labels.get(path, path) for path in paths}
    points = [_point_row(sweep, objective, paths, number, point) for number, point in enumerate(best, start=1)]
    rows, legend = _heat_rows(heat, objective, names)
    return SweepPage(
        row=job_row(sweep),
        labels=names,
        x=heat.x if heat else "",
        y=heat.y if heat else "",
        columns=tuple(_text(value) for value in heat.columns) if heat else (),
        rows=rows,
        points=points,
        objective=objective,
        tried=SweepPoint.objects.filter(sweep=sweep, score__isnull=False).count(),
        refused=SweepPoint.objects.filter(sweep=sweep).exclude(error="").count(),
        overfitted=_overfitted(objective, points),
        run_facts=run_facts(sweep),
        legend=legend,
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _heat_rows(
    heat: HeatMap | None, objective: Objective, names: Mapping[str, str]
) -> tuple[tuple[HeatRow, ...], tuple[tuple[str, float, float], ...]]:
    if heat is None:
        return (), ()
    sign = 1.0 if objective.higher_is_better else -1.0
    known = [score * sign for line in heat.scores for score in line if score is not None]
    if not known:
        return (), ()
    low, high = min(known), max(known)
    rows = []
    for i, (value, line) in enumerate(zip(heat.rows, heat.scores, strict=True)):
        cells = []
        for j, score in enumerate(line):
            title = f"{names.get(heat.y, heat.y)} {_text(value)}, {names.get(heat.x, heat.x)} {_text(heat.columns[j])}"
            level = 0 if score is None else _level(score * sign, low, high)
            cells.append(HeatCell(score, f"ht{level}" if level else "", heat.best == (i, j), heat.points[i][j], title))
        rows.append(HeatRow(_text(value), tuple(cells)))
    return tuple(rows), _legend(low, high, sign)


def _level(score: float, low: float, high: float) -> int:
    return 3 if high <= low else min(6, 1 + int((score - low) / (high - low) * 6))


def _legend(low: float, high: float, sign: float) -> tuple[tuple[str, float, float], ...]:
    """Return (class, from, to) of each colour, worst first, in the objective's own numbers."""
    if high <= low:
        return (("ht3", low * sign, high * sign),)
    step = (high - low) / 6
    return tuple((f"ht{n + 1}", (low + n * step) * sign, (low + (n + 1) * step) * sign) for n in range(6))


GROWING: Final = frozenset({"return_pct", "profit", "realised", "deals_closed", "fees", "excess_return_pct"})
"""Figures that grow with the length of the range: the part held out is expected to bring its share of them."""


def _point_row(sweep: Sweep, objective: Objective, paths: Sequence[str], rank: int, point: SweepPoint) -> PointRow:
    figures = point.statistics if isinstance(point.statistics, dict) else {}
    holdout = point.holdout if isinstance(point.holdout, dict) else {}
    held = number_of(holdout.get(objective.name))
    worse = held is not None and point.score is not None and _is_worse(sweep, objective, point.score, held)
    values = tuple(_text(point.values.get(path, "")) for path in paths)
    return PointRow(rank, point, values, figures, holdout, held, worse)


def _is_worse(sweep: Sweep, objective: Objective, score: float, held: float) -> bool:
    """Return whether the part held out brought less than half of what the other part promised."""
    expected = score
    if objective.name in GROWING and sweep.holdout_pct < 100:
        expected = score * float(sweep.holdout_pct) / float(100 - sweep.holdout_pct)
    if not objective.higher_is_better:
        return held > expected * 1.5 if expected > 0 else held > 0
    return held < expected / 2 if expected > 0 else held < expected * 1.5


def _overfitted(objective: Objective, points: Sequence[PointRow]) -> str:
    """Return a sentence of warning when the best settings did much worse on candles that they were not chosen on."""
    judged = [row for row in points if row.held_score is not None]
    if not judged:
        return ""
    worse = sum(row.worse for row in judged)
    if not judged[0].worse and worse * 2 < len(judged):
        return ""
    label = objective.label[:1].lower() + objective.label[1:]
    if judged[0].worse:
        which = f"The best settings reached less than half of their {label} on the part that was held out"
    else:
        which = f"{worse} of the best {len(judged)} settings fell behind on the part that was held out"
    return (
        f"{which}. They are likely fitted to these candles rather than to the market: prefer a broad good area in the "
        "heat map, try a longer range, or vary less."
    )
