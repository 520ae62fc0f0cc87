"""A value curve as the page's script draws it: numbers as floats, for drawing only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from positions.figures import DayProfit
from positions.portfolio.pnl import DayFigures
from positions.portfolio.snapshots import Curve
from tradebot.core.decimals import ZERO
from tradebot.templatetags.tradebot import places_of_currency, written

__all__ = ["value_chart"]

NAMED = 2
"""Currencies that a mark on the chart names."""


def value_chart(curve: Curve, days: Mapping[date, DayFigures | DayProfit]) -> dict[str, Any] | None:
    """Return the data of the chart ``value``; None while there are fewer than two readings.

    Lists of one length: moments, value and what was put in (None where there was no reading, so that the line has a
    gap), and whether the day's deals won (1), lost (-1) or neither. ``marks`` are transfers: moment and words.
    """
    if len(curve.steps) < 2:
        return None
    rows: list[tuple[int, float | None, float | None, int]] = [(_midnight(day), None, None, 0) for day in curve.gaps]
    seen: set[date] = set()
    for step, put_in in zip(curve.steps, curve.put_in, strict=True):
        day = step.key[0]
        figures = days.get(day) if day not in seen else None
        seen.add(day)
        won = 0 if figures is None or not figures.profit else 1 if figures.profit > ZERO else -1
        rows.append((int(step.at.timestamp()), float(step.value), None if put_in is None else float(put_in), won))
    rows.sort(key=lambda row: row[0])
    return {
        "t": [row[0] for row in rows],
        "value": [row[1] for row in rows],
        "put_in": [row[2] for row in rows],
        "won": [row[3] for row in rows],
        "marks": _marks(curve),
        "unit": curve.currency,
    }


def _marks(curve: Curve) -> list[dict[str, Any]]:
    """Return one mark for each day on which something came in or went out."""
    by_day: dict[date, dict[str, Decimal]] = defaultdict(lambda: defaultdict(lambda: ZERO))
    moments: dict[date, int] = {}
    for transfer in curve.transfers:
        day = transfer.counted_at.date()
        by_day[day][transfer.currency] += transfer.amount
        moments.setdefault(day, int(transfer.counted_at.timestamp()))
    marks = []
    for day, sums in sorted(by_day.items()):
        moved = [(currency, amount) for currency, amount in sums.items() if amount]
        words = [f"{written(amount, places_of_currency(name), plus=True)} {name}" for name, amount in moved[:NAMED]]
        if len(moved) > NAMED:
            words.append(f"and {len(moved) - NAMED} more")
        if words:
            marks.append({"t": moments[day], "text": ", ".join(words)})
    return marks


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time.min, tzinfo=UTC).timestamp())
