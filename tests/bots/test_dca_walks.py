"""Looking seldom is as good as looking always: what a deal remembers hangs on its best price and on what it crossed.

A backtest skips candles at which nothing can happen. It looks at the best price of a stretch and at the next trigger;
trails and decisions must come out as if it had looked at every candle.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bots.strategies.base import Action, DealView, Decision
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.indicator_dca import manage
from positions.states import Direction
from tests.bots.building import COSTLY, NOW, deal, settings, view

KINDS: dict[str, dict[str, Any]] = {
    "trailing take profit": {"take_profit": "2", "take_profit_mode": "trailing", "trailing_deviation": "1.5"},
    "trailing stop": {"take_profit": "90", "trailing_stop": "6"},
    "stop time-out": {"take_profit": "90", "stop_loss": "5", "stop_timeout_seconds": 240},
    "trailing stop with time-out": {"take_profit": "90", "trailing_stop": "4", "stop_timeout_seconds": 180},
    "all of them": {
        "take_profit": "2",
        "take_profit_mode": "trailing",
        "trailing_deviation": "3",
        "stop_loss": "7",
        "trailing_stop": "9",
        "stop_timeout_seconds": 120,
        "max_hold_hours": 1,
    },
}
MINUTE = timedelta(minutes=1)

walks = st.lists(st.integers(-160, 160), min_size=2, max_size=60)


def prices_of(moves: list[int]) -> list[Decimal]:
    """Return a walk from 100 in steps of hundredths of a percent of 100."""
    price, found = Decimal(100), []
    for move in moves:
        price = max(price + Decimal(move) / 100, Decimal(50))
        found.append(price)
    return found


def at(minute: int) -> datetime:
    return NOW + minute * MINUTE


class Walk:
    """A deal that is looked at now and then."""

    def __init__(self, chosen: DcaSettings, direction: Direction, prices: list[Decimal]) -> None:
        self.chosen, self.prices = chosen, prices
        self.deal: DealView = deal(100, direction=direction, opened_at=at(-20))

    def look(self, minute: int) -> Decision:
        moment = at(minute)
        market = view(self.prices[minute], at=moment, spread="0.04")
        decision = manage(self.chosen, self.deal, market, moment, COSTLY)
        assert decision.trail is not None
        self.deal = replace(self.deal, trail=decision.trail)
        return decision


@pytest.mark.parametrize("kind", KINDS)
@examples(max_examples=80, deadline=None)
@given(st.sampled_from(Direction), walks)
def test_f14_f45_looking_at_extremes_and_triggers_leaves_the_same_trail(
    kind: str, direction: Direction, moves: list[int]
) -> None:
    chosen = settings(max_safety_orders=0, **KINDS[kind])
    prices = prices_of(moves)
    always, seldom = Walk(chosen, direction, prices), Walk(chosen, direction, prices)
    stretch: list[int] = []
    before: tuple[Any, ...] = ()
    for minute in range(len(prices)):
        seen = always.look(minute)
        trail = always.deal.trail
        # What a backtest can tell beforehand: arming, a stop that is hit or no longer, anything that acts.
        state = (seen.action, seen.code, trail.armed, trail.breached_at is None)
        if state == before and minute < len(prices) - 1:
            stretch.append(minute)
            continue
        if stretch:
            seldom.look(max(stretch, key=lambda index: direction.sign * prices[index]))
        stretch, before = [], state
        found = seldom.look(minute)
        assert seldom.deal.trail == trail
        for name in ("action", "code", "message", "evidence", "order"):
            assert getattr(found, name) == getattr(seen, name)
        if seen.action is not Action.NONE:
            return


@pytest.mark.parametrize("kind", KINDS)
@examples(max_examples=30, deadline=None)
@given(st.sampled_from(Direction), walks)
def test_f38_looking_twice_changes_nothing(kind: str, direction: Direction, moves: list[int]) -> None:
    chosen = settings(max_safety_orders=0, **KINDS[kind])
    prices = prices_of(moves)
    walk = Walk(chosen, direction, prices)
    for minute in range(len(prices)):
        first = walk.look(minute)
        trail = walk.deal.trail
        again = walk.look(minute)
        assert walk.deal.trail == trail
        assert (first.action, first.code, first.order) == (again.action, again.code, again.order)
        if first.action is not Action.NONE:
            return
