"""Curves of backtests as drawings for a page. Pure.

A plot is drawn by the server as lines in a box of 1000 × 300, which the page stretches; words stand beside it as text,
so they keep their size on a phone. Scripts only add a cursor. The tables beside a plot hold the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = ["Line", "Plot", "Series", "plot"]

WIDTH: Final = 1000.0
HEIGHT: Final = 300.0
MOST_POINTS: Final = 700
LEVELS: Final = 5
DAYS: Final = 5
MINUS: Final = "\u2212"
THIN: Final = "\u2009"

Number = float | int | None


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: ``values`` at ``times`` (Unix seconds); None is a hole. ``kind`` is its class in the style sheet."""

    name: str
    kind: str
    times: Sequence[int]
    values: Sequence[Number]
    letter: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn curve. ``area`` closes it down to zero (or the lower edge) for a tinted ground."""

    name: str
    kind: str
    letter: str
    path: str
    area: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing. ``levels`` label the horizontal lines from the top down, ``days`` the time axis from left to right.

    ``low``, ``high``, ``first`` and ``last`` are the edges in units of the data, for the script's cursor.
    """

    lines: tuple[Line, ...]
    levels: tuple[str, ...]
    grid: tuple[str, ...]
    days: tuple[str, ...]
    low: float
    high: float
    first: int
    last: int


def plot(series: Sequence[Series], *, unit: str = "", zero: bool = False) -> Plot | None:
    """Return the drawing of ``series`` on common axes, or None where there is nothing to draw.

    ``unit`` follows each level. With ``zero`` the vertical axis contains zero.
    """
    shown = [one for one in series if len(one.times) > 1 and any(_is_number(value) for value in one.values)]
    if not shown:
        return None
    everything = [float(value) for one in shown for value in one.values if _is_number(value) and value is not None]
    if zero:
        everything.append(0.0)
    low, high, step = _edges(min(everything), max(everything))
    first, last = int(min(one.times[0] for one in shown)), int(max(one.times[-1] for one in shown))

    def x(moment: float) -> float:
        return (moment - first) / max(last - first, 1) * WIDTH

    def y(value: float) -> float:
        return (high - value) / (high - low) * HEIGHT

    count = round((high - low) / step)
    places = max(0, min(8, math.ceil(-math.log10(step) - 1e-9)))
    levels = tuple(_written(high - number * step, places, unit) for number in range(count + 1))
    grid = tuple(f"{number * HEIGHT / count:.1f}" for number in range(count + 1))
    ground = y(0.0 if low <= 0.0 <= high else low)
    return Plot(
        lines=tuple(_line(one, x, y, ground) for one in shown),
        levels=levels,
        grid=grid,
        days=_days(first, last),
        low=low,
        high=high,
        first=first,
        last=last,
    )


def _is_number(value: Number) -> bool:
    return value is not None and math.isfinite(value)


def _line(one: Series, x: Callable[[float], float], y: Callable[[float], float], ground: float) -> Line:
    points = _thinned([(t, float(v)) for t, v in zip(one.times, one.values, strict=False) if v is not None])
    places = [f"{x(moment):.1f},{y(value):.1f}" for moment, value in points if math.isfinite(value)]
    path = "M" + "L".join(places)
    area = f"{path}L{x(points[-1][0]):.1f},{ground:.1f}L{x(points[0][0]):.1f},{ground:.1f}Z"
    return Line(one.name, one.kind, one.letter, path, area)


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most about MOST_POINTS points: of each stretch its lowest and highest, so that no spike gets lost."""
    if len(points) <= MOST_POINTS:
        return points
    size = math.ceil(len(points) / (MOST_POINTS / 2))
    kept = [points[0]]
    for start in range(0, len(points), size):
        part = points[start : start + size]
        ends = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        kept += sorted(ends)
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept


def _edges(low: float, high: float) -> tuple[float, float, float]:
    """Return rounded edges of the axis and the step between its levels."""
    if high - low < abs(high) * 1e-9 or high == low:
        room = abs(high) * 0.01 or 1.0
        low, high = low - room, high + room
    raw = (high - low) / (LEVELS - 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.999)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step


def _written(value: float, places: int, unit: str) -> str:
    if abs(value) < 10.0 ** -(places + 1):
        value = 0.0
    text = f"{abs(value):,.{places}f}".replace(",", THIN)
    return f"{MINUS if value < 0 else ''}{text}{unit}"


def _days(first: int, last: int) -> tuple[str, ...]:
    span = last - first
    form = "%d %b %H:%M" if span < 5 * 86_400 else "%d %b" if span < 300 * 86_400 else "%b %Y"
    moments = (first + span * number / (DAYS - 1) for number in range(DAYS))
    return tuple(datetime.fromtimestamp(moment, UTC).strftime(form).lstrip("0") for moment in moments)
