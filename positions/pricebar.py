"""Where things stand between stop and target: the geometry of a deal's price bar, for long and short alike. Pure.

Left is the stop and right the target whatever the direction, so right is always good. The coloured part lies between
break-even after fees and the present price; it is green exactly when the deal's net profit is above zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from positions.states import Direction
from tradebot.core.decimals import HUNDRED, ZERO, for_money

__all__ = ["PriceBar", "Tick", "price_bar"]

MARGIN = Decimal("0.06")
"""Room beyond the outermost price on an open end, as a share of what is shown."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A safety order on the bar: its place in percent from the left, and whether it is bought."""

    x: str
    done: bool


@dataclass(frozen=True, slots=True)
class PriceBar:
    """Places on the bar in percent from the left, as text. ``start`` and ``width`` are the coloured part.

    ``mark`` and ``even`` are None when not known. An ``open_left`` bar has no stop, an ``open_right`` one no target.
    """

    even: str | None
    mark: str | None
    start: str
    width: str
    gain: bool
    ticks: tuple[Tick, ...]
    open_left: bool
    open_right: bool


def price_bar(
    direction: Direction,
    *,
    stop: Decimal | None,
    target: Decimal | None,
    even: Decimal | None,
    mark: Decimal | None,
    rungs: Iterable[tuple[Decimal, bool]] = (),
) -> PriceBar | None:
    """Return the bar of a deal with these prices; None when there are not two different prices to lay it between.

    ``rungs`` are (price, bought). Prices beyond the ends are drawn at the ends.
    """
    sign = direction.sign
    steps = [(price, done) for price, done in rungs if price > ZERO]
    with for_money():
        shown = [sign * price for price in (even, mark, *(price for price, _ in steps)) if price is not None]
        ends = [sign * price for price in (stop, target) if price is not None]
        if not shown:
            return None
        left = sign * stop if stop is not None else min(shown + ends)
        right = sign * target if target is not None else max(shown + ends)
        room = (right - left) * MARGIN
        if stop is None:
            left -= room
        if target is None:
            right += room
        if right <= left:
            return None

        def place(price: Decimal) -> Decimal:
            return min(max((sign * price - left) / (right - left) * HUNDRED, ZERO), HUNDRED)

        x_even = None if even is None else place(even)
        x_mark = None if mark is None else place(mark)
        start = width = ZERO
        if x_even is not None and x_mark is not None:
            start, width = min(x_even, x_mark), abs(x_even - x_mark)
        return PriceBar(
            even=None if x_even is None else _text(x_even),
            mark=None if x_mark is None else _text(x_mark),
            start=_text(start),
            width=_text(width),
            gain=even is not None and mark is not None and sign * mark > sign * even,
            ticks=tuple(Tick(_text(place(price)), done) for price, done in steps),
            open_left=stop is None,
            open_right=target is None,
        )


def _text(percent: Decimal) -> str:
    return f"{percent:.1f}%"
