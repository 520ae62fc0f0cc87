"""Pictures of figures as SVG, for terminals and documents. Screens draw in the browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

__all__ = ["equity_svg"]

WIDTH, HEIGHT = 960, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 36, 28
MOST_POINTS = 1_200


def equity_svg(times: np.ndarray[Any, Any], values: np.ndarray[Any, Any], *, unit: str) -> str:
    """Return a line chart of ``values`` (in ``unit``) over ``times`` (Unix seconds), drawdown shaded below the peak."""
    if not len(times):
        raise ValueError("there is nothing to draw")
    keep = np.unique(np.linspace(0, len(times) - 1, MOST_POINTS).astype(int))
    times, values = times[keep], values[keep]
    peaks = np.maximum.accumulate(values)
    low, high = float(values.min()), float(peaks.max())
    room = (high - low or 1.0) * 0.06
    low, high = low - room, high + room

    def x(moment: float) -> float:
        return LEFT + (moment - times[0]) / max(times[-1] - times[0], 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    line = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(times.tolist(), values.tolist(), strict=True))
    peak = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(times[::-1].tolist(), peaks[::-1].tolist(), strict=True))
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#e3e6eb"/>'
        f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.4f}</text>'
        for v in np.linspace(low + room, high - room, 5).tolist()
    )
    days = "".join(
        f'<text x="{x(t):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{datetime.fromtimestamp(t, UTC):%d %b}</text>'
        for t in np.linspace(times[0], times[-1], 7)[1:-1].tolist()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Account value in {unit}" font-family="system-ui, sans-serif" font-size="11" fill="#626a78">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="20" fill="#14171c" font-size="13" font-weight="600">Account value, {unit}</text>'
        f'<text x="{WIDTH - RIGHT}" y="20" text-anchor="end">shaded: below the highest value so far</text>'
        f'{grid}{days}<polygon points="{line} {peak}" fill="#b23a0a" opacity="0.12"/>'
        f'<polyline points="{line}" fill="none" stroke="#2353d1" stroke-width="1.8"/></svg>\n'
    )
