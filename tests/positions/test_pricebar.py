"""The price bar: right is always good, and its colour agrees with the profit."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from positions.pricebar import price_bar
from positions.states import Direction

PRICES = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(100_000), places=4)


def test_f45_a_short_is_the_mirror_of_a_long() -> None:
    long = price_bar(
        Direction.LONG,
        stop=Decimal(80),
        target=Decimal(120),
        even=Decimal(100),
        mark=Decimal(90),
        rungs=[(Decimal(95), True)],
    )
    short = price_bar(
        Direction.SHORT,
        stop=Decimal(120),
        target=Decimal(80),
        even=Decimal(100),
        mark=Decimal(110),
        rungs=[(Decimal(105), True)],
    )
    assert long == short
    assert long is not None
    assert (long.even, long.mark, long.start, long.width, long.gain) == ("50.0%", "25.0%", "25.0%", "25.0%", False)


def test_open_ends_leave_room_beyond_the_outermost_price() -> None:
    bar = price_bar(Direction.LONG, stop=None, target=Decimal(110), even=Decimal(100), mark=Decimal(90))
    assert bar is not None
    assert bar.open_left
    assert not bar.open_right
    assert 0 < float(bar.mark.rstrip("%") if bar.mark else 0) < 20


def test_what_cannot_be_laid_out_has_no_bar() -> None:
    assert price_bar(Direction.LONG, stop=None, target=None, even=None, mark=None) is None
    assert price_bar(Direction.LONG, stop=None, target=None, even=Decimal(5), mark=Decimal(5)) is None
    assert price_bar(Direction.LONG, stop=Decimal(9), target=Decimal(9), even=Decimal(9), mark=None) is None


@given(st.sampled_from(Direction), PRICES, PRICES, PRICES, PRICES, st.lists(PRICES, max_size=4))
def test_everything_stays_on_the_bar_and_green_means_profit(
    direction: Direction, stop: Decimal, target: Decimal, even: Decimal, mark: Decimal, rungs: list[Decimal]
) -> None:
    bar = price_bar(
        direction, stop=stop, target=target, even=even, mark=mark, rungs=[(price, False) for price in rungs]
    )
    if bar is None:
        return
    places = [bar.even, bar.mark, bar.start, bar.width, *(tick.x for tick in bar.ticks)]
    assert all(place is not None and 0 <= float(place.rstrip("%")) <= 100 for place in places)
    assert bar.gain == (direction.sign * (mark - even) > 0)
