"""What lies ahead of a deal, in words: parts of a take profit, both directions, rules of the deal's own side."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from bots.outlook import dca_outlook
from positions.models import Position
from positions.states import Direction, Purpose
from tests.bots.building import fill, holding, settings
from tests.factories import PositionFactory

pytestmark = pytest.mark.django_db

RULE = {"items": [{"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": 30}]}
STEPS = [{"profit_pct": "1", "share_pct": "40"}, {"profit_pct": "2", "share_pct": "60"}]


def position(**given: Any) -> Position:
    found: Position = PositionFactory.build(settings=settings(**given).to_json(), strategy="indicator_dca")
    return found


def test_steps_are_said_one_by_one_and_the_sold_ones_as_done() -> None:
    deal = position(take_profit_steps=STEPS, max_safety_orders=0)
    bought = fill(Direction.LONG, Purpose.BASE_ORDER, 100, 1)
    ahead = dca_outlook(deal, holding(bought), Decimal(0))
    assert [(step.title, step.state, step.price) for step in ahead.steps[:2]] == [
        ("Sell 40 %", "waiting", Decimal(101)),
        ("Sell 60 %", "waiting", Decimal(102)),
    ]
    assert ahead.target == Decimal(101)
    sold = fill(Direction.LONG, Purpose.TAKE_PROFIT, 101, "0.4", minute=1)
    ahead = dca_outlook(deal, holding(bought, sold), Decimal(0))
    assert [(step.title, step.state, step.text) for step in ahead.steps[:1]] == [("Sell 40 %", "off", "Done.")]
    assert (ahead.steps[1].price, ahead.target) == (Decimal(102), Decimal(102))


def test_a_short_buys_back_by_the_rules_of_its_own_side() -> None:
    deal = position(
        direction="both", add_conditions=RULE, take_profit="2", max_safety_orders=1, deviation_reference="base_order"
    )
    deal.direction = Direction.SHORT
    sold = fill(Direction.SHORT, Purpose.BASE_ORDER, 100, 1)
    ahead = dca_outlook(deal, holding(sold, direction=Direction.SHORT), Decimal(0))
    first, second = ahead.steps[:2]
    assert (first.title, first.price) == ("Buy everything back", Decimal(98))
    assert (second.title, second.price) == ("Sell safety order 1, the last", Decimal(102))
    assert "is above 70" in second.more
