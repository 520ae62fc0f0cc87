"""The DCA bot in words, with the numbers that the engine acts on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bots.strategies.base import TrailState
from bots.strategies.dca_settings import PRESETS
from bots.strategies.describe import next_actions, settings_facts
from bots.strategies.indicator_dca import manage
from positions.states import Direction
from tests.bots.building import COSTLY, FREE, NOW, D, deal, quote, settings, view


def test_settings_read_as_facts() -> None:
    facts = {fact.name: fact.value for fact in settings_facts(PRESETS[1].settings, "BTC")}  # type: ignore[arg-type]
    assert facts["take_profit"] == "1.5 %"
    assert facts["stop_loss"] == "off"
    assert facts["open_conditions"] == "RSI(14) on 5m is below 35"
    assert facts["add_conditions"] == "by price alone"
    assert "base_order_size" not in facts
    assert "trailing_deviation" not in facts


def test_amounts_carry_the_quote_currency() -> None:
    facts = {fact.name: fact.value for fact in settings_facts(settings(base_order_type="fixed"), "USD")}
    assert facts["base_order_size"] == "10 USD"
    assert facts["safety_order_size"] == "50 %"


def test_without_safety_orders_their_settings_are_not_shown() -> None:
    names = {fact.name for fact in settings_facts(settings(max_safety_orders=0))}
    assert "max_safety_orders" in names
    assert not names & {"price_deviation", "step_scale", "add_conditions"}


@pytest.mark.parametrize("direction", Direction)
def test_f45_what_happens_next_is_what_the_engine_does(direction: Direction) -> None:
    chosen = settings(stop_loss=20)
    held = deal(100, direction=direction)
    coming = next_actions(chosen, held, quote(100), COSTLY)
    assert coming.target_price is not None
    assert coming.next_price is not None
    assert coming.stop_price is not None
    assert (coming.next_level, coming.next_size) == (1, 50)
    hair = direction.sign * D("0.000001")
    for price, actions in (
        (coming.target_price, ("none", "close")),
        (coming.next_price, ("add", "none")),
        (coming.stop_price, ("close", "add")),
    ):
        before, after = (manage(chosen, held, view(price + way * hair), NOW, COSTLY).action for way in (-1, 1))
        assert (before, after) == actions


def test_distances_need_a_price() -> None:
    coming = next_actions(settings(), deal(100), quote(50), FREE)
    assert coming.target_distance_pct == 106
    assert coming.next_distance_pct == 96
    assert next_actions(settings(), deal(100), None, FREE).target_distance_pct is None


@pytest.mark.parametrize(
    ("changes", "held", "words"),
    [
        ({}, {}, "Takes profit at 103, fees included."),
        ({"take_profit_mode": "trailing"}, {}, "At 103 the trailing take profit starts, 1 % behind the best."),
        (
            {"take_profit_mode": "trailing"},
            {"trail": TrailState(armed=True, peak=D(110))},
            "The trailing take profit is armed and closes at 108.9, unless the price runs on.",
        ),
        ({}, {"levels_filled": 5}, "All 5 safety orders are used."),
        ({}, {}, "Safety order 1 of 5 adds 50 USD at 98."),
        ({"stop_loss": 20, "stop_timeout_seconds": 9}, {}, "market at 80 once it has held for 9 s."),
        ({"max_hold_hours": 2}, {}, "After 2024-01-01 13:00 UTC everything is closed at market."),
        ({}, {"resting_close": True}, "A limit close rests"),
        ({"take_profit": None, "take_profit_mode": "conditions"}, {}, "There is no profit target."),
    ],
)
def test_the_lines_say_it_in_words(changes: dict[str, Any], held: dict[str, Any], words: str) -> None:
    lines = next_actions(settings(**changes), replace(deal(100), **held), quote(100), FREE).lines
    assert any(words in line for line in lines), lines


def test_the_end_of_the_longest_hold_is_a_moment() -> None:
    coming = next_actions(settings(max_hold_hours=2), deal(100), None, FREE)
    assert coming.sell_by == NOW + timedelta(hours=1)
