"""The DCA bot in words, with the numbers that the engine acts on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bots.strategies.base import TrailState
from bots.strategies.dca_presets import PRESETS
from bots.strategies.describe import next_actions, settings_facts
from bots.strategies.indicator_dca import manage
from positions.states import Direction, Purpose
from tests.bots.building import COSTLY, FREE, NOW, D, deal, quote, settings, view, working


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
        ({}, {"orders": (working(Purpose.TAKE_PROFIT, limit_price=103),)}, "A limit close rests at 103"),
        ({"take_profit": None, "take_profit_mode": "conditions"}, {}, "There is no profit target."),
    ],
)
def test_the_lines_say_it_in_words(changes: dict[str, Any], held: dict[str, Any], words: str) -> None:
    lines = next_actions(settings(**changes), replace(deal(100), **held), quote(100), FREE).lines
    assert any(words in line for line in lines), lines


def test_the_end_of_the_longest_hold_is_a_moment() -> None:
    coming = next_actions(settings(max_hold_hours=2), deal(100), None, FREE)
    assert coming.sell_by == NOW + timedelta(hours=1)


def facts_of(**changes: Any) -> dict[str, str]:
    return {fact.name: fact.value for fact in settings_facts(settings(**changes), "USD")}


def test_filters_and_switches_read_as_facts() -> None:
    set_ones = facts_of(allowed_categories=["meme", "approved"], min_volume_24h=5000, slippage_guard=True)
    assert set_ones["allowed_categories"] == "approved, meme"
    assert set_ones["min_volume_24h"] == "5000 USD"
    assert (set_ones["slippage_guard"], set_ones["max_slippage"]) == ("on", "0.5 %")
    plain_ones = facts_of()
    assert (plain_ones["allowed_categories"], plain_ones["min_volume_24h"]) == ("any", "any")
    assert (plain_ones["skip_stable_pairs"], plain_ones["take_profit_steps"]) == ("off", "off")


def test_only_what_has_an_effect_is_shown() -> None:
    hidden = {"max_slippage", "limit_timeout_seconds", "long_share_pct", "short_conditions", "short_open_conditions"}
    assert not hidden & set(facts_of())
    assert facts_of(take_profit_execution="limit")["limit_timeout_seconds"] == "60 s"
    own = facts_of(direction="both", short_conditions="own", take_profit_mode="conditions")
    assert own["long_share_pct"] == "50 %"
    assert own["short_open_conditions"] == "at once"
    assert own["short_close_conditions"] == "by profit alone"
    assert "safety_order_execution" not in facts_of(max_safety_orders=0)


def test_f45_a_short_waits_for_its_own_conditions() -> None:
    rule = {"items": [{"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": 30}]}
    chosen = settings(direction="both", add_conditions=rule)
    for direction, words in ((Direction.LONG, "is below 30"), (Direction.SHORT, "is above 70")):
        lines = next_actions(chosen, deal(100, direction=direction), quote(100), FREE).lines
        assert any(f"adds 50 USD at {98 if direction is Direction.LONG else 102}" in line for line in lines)
        assert any(words in line for line in lines)


def test_limit_orders_are_said_to_be_limit_orders() -> None:
    chosen = settings(take_profit_execution="limit", safety_order_execution="limit")
    lines = next_actions(chosen, deal(100), quote(100), FREE).lines
    assert "Takes profit at 103 as a limit order, fees included." in lines
    assert "Safety order 1 of 5 adds 50 USD at 98 as a limit order." in lines
