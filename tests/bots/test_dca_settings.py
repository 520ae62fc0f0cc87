"""The DCA settings: defaults, ranges, what must agree, and that every one of them has an effect."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from bots.strategies import STRATEGIES, get_strategy
from bots.strategies.base import InMemoryMarketView, TrailState
from bots.strategies.dca_presets import PRESETS
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.forms import field_specs, sections
from bots.strategies.indicator_dca import decide_open, manage
from marketdata.timeframes import Timeframe
from positions.ledger import totals
from positions.states import Direction, Purpose
from tests.bots.building import (
    COSTLY,
    FREE,
    GOLDEN,
    NOW,
    TERMS,
    D,
    context,
    deal,
    fill,
    holding,
    quote,
    recent,
    settings,
    view,
    working,
)
from tradebot.core.errors import InvalidInput

LONG, SHORT = Direction.LONG, Direction.SHORT


def rising(operator: str = ">") -> dict[str, Any]:
    """Return a tree that is met when the last candle rose (or fell, with "<")."""
    item = {"indicator": "price_change", "timeframe": "1m", "operator": operator, "value": 0, "params": {"candles": 1}}
    return {"join": "and", "items": [item]}


OWN: dict[str, Any] = {"direction": "both", "short_conditions": "own"}


def steps(*parts: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"profit_pct": profit, "share_pct": share} for profit, share in parts]


def test_defaults_are_those_of_the_rules() -> None:
    got = DcaSettings().to_json()
    assert got["max_active_deals"] == got["max_deals_per_pair"] == 1
    assert (got["base_order_type"], got["base_order_size"], got["max_safety_orders"]) == ("percent", "10", 5)
    assert (got["safety_order_type"], got["safety_order_size"], got["price_deviation"]) == ("percent", "50", "2")
    assert (got["step_scale"], got["volume_scale"], got["deviation_reference"]) == ("1", "1", "average")
    assert (got["take_profit"], got["take_profit_type"], got["take_profit_mode"]) == ("3", "total", "fixed")
    assert (got["trailing_deviation"], got["stop_loss"], got["max_hold_hours"]) == ("1", None, None)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_presets_are_valid_and_survive_json(preset: Any) -> None:
    document = json.loads(json.dumps(preset.settings.to_json()))
    assert DcaSettings.from_json(document) == preset.settings


def test_three_presets_are_offered() -> None:
    assert [preset.name for preset in PRESETS if preset.listed] == ["conservative", "balanced", "aggressive"]


@pytest.mark.parametrize("name", DcaSettings.model_fields)
def test_one_setting_that_is_none_is_refused_by_its_name_whatever_else_is_set(name: str) -> None:
    everything = {"direction": "both", "stop_loss": "50", "trailing_stop": "60", "take_profit": "5"}
    with pytest.raises(InvalidInput) as refused:
        DcaSettings.from_json({**everything, name: {"not": "a setting"}})
    assert name in {str(error["field"]).split(".")[0] for error in refused.value.detail["errors"]}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"colour": "red"}, "colour", "not known"),
        ({"direction": "up"}, "direction", ""),
        ({"direction": "both", "long_share_pct": 100}, "long_share_pct", "99"),
        ({"direction": "short", "take_profit": 100}, "take_profit", "cannot earn 100 %"),
        ({"direction": "both", "take_profit": 250}, "take_profit", "less than 100 %"),
        ({"direction": "short", "stop_loss": 10}, "stop_loss", "number 5 lies 10.00 % away"),
        ({"direction": "short", "trailing_stop": 9}, "trailing_stop", "closer than the deepest safety order"),
        (
            {"direction": "both", "trailing_stop": 30, "deviation_reference": "last_fill"},
            "trailing_stop",
            "number 5 of a short deal lies",
        ),
        ({"direction": "both", "short_open_conditions": "own"}, "short_open_conditions", ""),
        ({"allowed_categories": ["shiny"]}, "allowed_categories", "approved"),
        ({"min_volume_24h": 0}, "min_volume_24h", "greater than 0"),
        ({"limit_timeout_seconds": 9}, "limit_timeout_seconds", "10"),
        ({"base_order_execution": "stop"}, "base_order_execution", "market"),
        ({"max_slippage": 6}, "max_slippage", "5"),
        ({"max_active_deals": 0}, "max_active_deals", "1"),
        ({"max_active_deals": 2, "max_deals_per_pair": 3}, "max_deals_per_pair", "3 deals per pair, but only 2"),
        ({"base_order_size": 101}, "base_order_size", "101 %"),
        ({"base_order_size": 0}, "base_order_size", "greater than 0"),
        ({"base_order_size": "NaN"}, "base_order_size", "finite"),
        ({"base_order_size": "1e400"}, "base_order_size", "1000000000"),
        ({"base_order_size": 50}, "base_order_size", "175.0 %"),
        ({"safety_order_size": 9}, "safety_order_size", "10 to 500"),
        ({"base_order_type": "automatic", "safety_order_type": "fixed"}, "safety_order_type", "percent"),
        ({"price_deviation": "0.05"}, "price_deviation", "0.1"),
        ({"step_scale": 10, "max_safety_orders": 9}, "price_deviation", "no such price"),
        ({"take_profit": 0}, "take_profit", "0.1"),
        ({"take_profit": None}, "take_profit_mode", "needs a percentage"),
        ({"stop_loss": 10}, "stop_loss", "number 5 lies 10.00 % away"),
        ({"stop_loss": 9, "deviation_reference": "base_order"}, "stop_loss", "10.00 %"),
        ({"trailing_stop": 5}, "trailing_stop", "closer than the deepest safety order"),
        ({"stop_timeout_seconds": 60}, "stop_timeout_seconds", "neither"),
        ({"add_conditions": rising(), "max_safety_orders": 0}, "add_conditions", "no safety orders"),
        ({"close_conditions": rising()}, "close_conditions", "before its close conditions"),
        ({"add_conditions": rising(), "safety_order_execution": "limit"}, "add_conditions", "order book"),
        ({"short_open_conditions": rising()}, "short_open_conditions", "direction both"),
        ({"direction": "both", "short_add_conditions": rising()}, "short_add_conditions", "set to own"),
        (OWN | {"short_close_conditions": rising()}, "short_close_conditions", "before its close conditions"),
        (
            OWN | {"short_add_conditions": rising(), "safety_order_execution": "limit"},
            "short_add_conditions",
            "order book",
        ),
        ({"take_profit_steps": steps((3, 50), (2, 50))}, "take_profit_steps", "3, 2 %"),
        ({"take_profit_steps": steps((3, 50), (3, 50))}, "take_profit_steps", "more profit than the one before"),
        ({"take_profit_steps": steps((1, 50), (3, 40))}, "take_profit_steps", "add up to 90 %"),
        ({"take_profit_steps": steps(*((n, 20) for n in range(1, 6)))}, "take_profit_steps", "4"),
        (
            {"take_profit_steps": steps((1, 50), (2, 50)), "take_profit_mode": "trailing"},
            "take_profit_steps",
            "the mode is trailing",
        ),
        ({"take_profit_steps": steps((1, 50), (100, 50)), "direction": "short"}, "take_profit_steps", "cannot earn"),
        ({"take_profit_steps": [{"profit_pct": 1, "share_pct": 0}]}, "take_profit_steps", "greater than 0"),
        ({"open_conditions": {"items": [{"indicator": "moon"}]}}, "open_conditions", "moon"),
    ],
)
def test_what_cannot_work_is_refused_with_the_field_and_the_numbers(
    changes: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        settings(**changes)
    assert refused.value.field == field
    assert words in refused.value.message


def test_all_errors_are_listed_not_only_the_first() -> None:
    with pytest.raises(InvalidInput) as refused:
        settings(price_deviation=50, take_profit=0)
    assert [error["field"] for error in refused.value.detail["errors"]] == ["price_deviation", "take_profit"]


def test_a_stop_just_beyond_the_ladder_is_accepted() -> None:
    assert settings(stop_loss="10.01").stop_loss == D("10.01")
    assert settings(stop_loss=1, max_safety_orders=0).stop_loss == 1


def test_no_take_profit_is_possible_with_conditions() -> None:
    assert settings(take_profit=None, take_profit_mode="conditions", close_conditions=rising()).take_profit is None


def test_every_field_of_the_form_has_words_and_a_section() -> None:
    specs = field_specs(DcaSettings)
    assert [spec.name for spec in specs] == list(DcaSettings.model_fields)
    for spec in specs:
        assert spec.label, spec.name
        assert spec.help, spec.name
        assert spec.section, spec.name
        if spec.kind in ("decimal", "integer"):
            assert spec.maximum is not None, spec.name
        for other, values in (spec.depends_on or {}).items():
            found = next(candidate for candidate in specs if candidate.name == other)
            known = {"true"} if found.kind == "boolean" else {choice.value for choice in found.choices}
            assert set(values) <= known
    assert next(iter(sections(DcaSettings))) == "Deals"


def test_f42_choices_of_the_form_are_accepted_by_the_engine() -> None:
    for spec in field_specs(DcaSettings):
        for choice in spec.choices:
            if spec.kind == "choices":
                assert getattr(settings(**{spec.name: [choice.value]}), spec.name) == (choice.value,)
                continue
            extra: dict[str, Any] = {"max_safety_orders": 0} if choice.value == "automatic" else {}
            assert str(getattr(settings(**extra | {spec.name: choice.value}), spec.name)) == choice.value


def test_the_schema_describes_every_setting() -> None:
    properties = DcaSettings.model_json_schema()["properties"]
    assert set(properties) == set(DcaSettings.model_fields)
    assert properties["price_deviation"]["unit"] == "%"


def test_strategies_are_found_by_name() -> None:
    strategy = get_strategy("indicator_dca")
    assert strategy is STRATEGIES["indicator_dca"]
    assert strategy.settings_from_json({}) == DcaSettings()
    wanted = strategy.required_series(settings(open_conditions=rising()))
    assert set(wanted) == {Timeframe.M1}
    with pytest.raises(InvalidInput):
        get_strategy("martingale")


# What settings mean for a direction -----------------------------------------------------------------------------------


def test_settings_saved_before_a_field_existed_get_its_default() -> None:
    saved = {"take_profit": "2", "open_conditions": rising(), "direction": "long"}
    chosen = settings(**saved)
    assert (chosen.directions, chosen.base_order_execution, chosen.take_profit_steps) == ((LONG,), "market", ())
    assert chosen.limit_timeout_seconds == 60


def test_each_direction_has_its_share_of_the_budget() -> None:
    both = settings(direction="both", long_share_pct=30)
    assert both.directions == (LONG, SHORT)
    assert (both.budget_share(LONG), both.budget_share(SHORT)) == (D("0.3"), D("0.7"))
    short = settings(direction="short", long_share_pct=30)
    assert (short.directions, short.budget_share(LONG), short.budget_share(SHORT)) == ((SHORT,), 0, 1)


def test_f45_a_short_bot_uses_its_conditions_as_they_are_written() -> None:
    chosen = settings(direction="short", open_conditions=rising(), add_conditions=rising())
    assert chosen.open_tree(SHORT) == chosen.open_conditions
    assert chosen.add_tree(SHORT) == chosen.add_conditions


def test_f45_the_short_side_mirrors_the_long_one_or_has_its_own() -> None:
    modes = {"take_profit_mode": "conditions"}
    mirrored = settings(direction="both", close_conditions=rising(), open_conditions=rising(), **modes)
    assert [node.operator for node in mirrored.close_tree(SHORT).items] == ["<"]  # type: ignore[union-attr]
    assert [node.operator for node in mirrored.open_tree(LONG).items] == [">"]  # type: ignore[union-attr]
    own = settings(**OWN, open_conditions=rising(), short_close_conditions=rising(), **modes)
    assert own.open_tree(SHORT).is_empty
    assert own.close_tree(SHORT) == own.short_close_conditions
    assert own.close_tree(LONG).is_empty


def test_f43_the_series_of_both_sides_are_asked_for() -> None:
    hourly = rising()
    hourly["items"][0]["timeframe"] = "1h"
    chosen = settings(**OWN, open_conditions=rising(), short_open_conditions=hourly)
    assert set(get_strategy("indicator_dca").required_series(chosen)) == {Timeframe.M1, Timeframe.H1}


def test_categories_are_kept_once_and_in_order() -> None:
    assert settings(allowed_categories=["meme", "approved", "meme"]).allowed_categories == ("approved", "meme")


def test_steps_replace_the_percentage() -> None:
    chosen = settings(take_profit=None, take_profit_steps=steps((1, 50), (2, 50)))
    assert DcaSettings.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


def test_lists_are_described_for_forms() -> None:
    specs = {spec.name: spec for spec in field_specs(DcaSettings)}
    listed, profits = specs["allowed_categories"], specs["take_profit_steps"]
    assert (listed.kind, listed.default, len(listed.choices)) == ("choices", [], 5)
    assert (profits.kind, profits.max_items) == ("steps", 4)
    assert [part.name for part in profits.parts] == ["profit_pct", "share_pct"]


# F46: every setting has an effect -----------------------------------------------------------------------------------

Outcome = Callable[[DcaSettings, Direction], Any]
CANDLES = {Timeframe.M1: recent([100.0] * 20 + [99.0])}


def away(direction: Direction, pct: Any) -> Decimal:
    """Return the price ``pct`` percent better for the deal than 100 (worse when below zero)."""
    return 100 + direction.sign * D(pct)


def opening(*, spread: Any = 0, **changes: Any) -> Outcome:
    def look(chosen: DcaSettings, direction: Direction) -> Any:
        where = context(**{"direction": direction, "free_base": D(1000)} | changes)
        return decide_open(chosen, view(100, CANDLES, spread=spread), where)

    return look


def opening_as_set(chosen: DcaSettings, _direction: Direction) -> Any:
    """Return the opening in the first of the directions that are set."""
    where = context(direction=chosen.directions[0], free_base=D(1000))
    return decide_open(chosen, view(100, CANDLES), where)


def opening_with_share(chosen: DcaSettings, direction: Direction) -> Any:
    """Return the opening with the direction's share of a budget of 1000."""
    return opening(bot_budget=1000 * chosen.budget_share(direction))(chosen, direction)


def managing(move: Any, levels: int = 0, **changes: Any) -> Outcome:
    """Return a look at a deal with ``levels`` safety orders, ``move`` percent better than its base order."""

    def look(chosen: DcaSettings, direction: Direction) -> Any:
        made = {name: value(direction) if callable(value) else value for name, value in changes.items()}
        held = deal(added(direction, levels), direction=direction, **{"levels_filled": levels} | made)
        return manage(chosen, held, view(away(direction, move), CANDLES), NOW, FREE)

    return look


def added(direction: Direction, count: int) -> Any:
    """Return the totals of a deal with ``count`` safety orders, each 5 worse than the one before."""
    orders = [fill(direction, Purpose.SAFETY_ORDER, away(direction, -5 * n), 2, minute=n) for n in range(1, count + 1)]
    return holding(fill(direction, Purpose.BASE_ORDER, 100, 1), *orders, direction=direction)


def unfilled(direction: Direction) -> Any:
    """Return the totals of a deal whose base order has not filled."""
    return totals([], direction, "ETH", "USD")


def waiting_base_order(chosen: DcaSettings, direction: Direction) -> Any:
    order = working(Purpose.BASE_ORDER, limit_price=100, age=60)
    return manage(chosen, deal(unfilled(direction), orders=(order,)), view(100), NOW, FREE)


FLIPS: dict[str, tuple[dict[str, Any], dict[str, Any], Outcome]] = {
    "direction": ({}, {"direction": "short"}, opening_as_set),
    "long_share_pct": ({"direction": "both"}, {"direction": "both", "long_share_pct": 60}, opening_with_share),
    "short_conditions": (
        {"direction": "both", "open_conditions": rising("<")},
        {"direction": "both", "open_conditions": rising("<"), "short_conditions": "own"},
        opening(direction=Direction.SHORT),
    ),
    "max_active_deals": ({}, {"max_active_deals": 2}, opening(open_deals=1)),
    "max_deals_per_pair": (
        {"max_active_deals": 3},
        {"max_active_deals": 3, "max_deals_per_pair": 2},
        opening(open_deals=1, open_deals_on_pair=1),
    ),
    "cooldown_seconds": ({}, {"cooldown_seconds": 60}, opening(last_closed_at=NOW - timedelta(seconds=30))),
    "max_spread": ({}, {"max_spread": "0.5"}, opening(spread=1)),
    "min_volume_24h": ({}, {"min_volume_24h": 50}, opening(volume_24h=D(49))),
    "allowed_categories": ({}, {"allowed_categories": ["approved"]}, opening(category="meme")),
    "skip_stable_pairs": ({}, {"skip_stable_pairs": True}, opening(is_stable_pair=True)),
    "base_order_type": ({}, {"base_order_type": "automatic"}, opening()),
    "base_order_size": ({}, {"base_order_size": 20}, opening()),
    "max_safety_orders": ({}, {"max_safety_orders": 0}, managing(-3)),
    "safety_order_type": ({}, {"safety_order_type": "fixed", "safety_order_size": 60}, managing(-3)),
    "safety_order_size": ({}, {"safety_order_size": 60}, managing(-3)),
    "price_deviation": ({}, {"price_deviation": 4}, managing(-3)),
    "step_scale": ({}, {"step_scale": 2}, managing(-8, 1)),
    "volume_scale": ({}, {"volume_scale": "1.5"}, managing(-8, 1)),
    "deviation_reference": ({}, {"deviation_reference": "last_fill"}, managing(-13, 2)),
    "take_profit": ({}, {"take_profit": 5}, managing(4)),
    "take_profit_type": ({}, {"take_profit_type": "base"}, managing(-2, 1)),
    "take_profit_mode": ({}, {"take_profit_mode": "trailing"}, managing(4)),
    "trailing_deviation": (
        {"take_profit_mode": "trailing"},
        {"take_profit_mode": "trailing", "trailing_deviation": 5},
        managing(4, trail=lambda direction: TrailState(armed=True, peak=away(direction, 6))),
    ),
    "take_profit_steps": ({}, {"take_profit_steps": steps((2, 50), (5, 50))}, managing(4)),
    "stop_loss": ({}, {"stop_loss": 15}, managing(-16, levels_filled=5)),
    "trailing_stop": (
        {},
        {"trailing_stop": 25},
        managing(1, trail=lambda direction: TrailState(best=away(direction, 40))),
    ),
    "stop_timeout_seconds": (
        {"stop_loss": 15},
        {"stop_loss": 15, "stop_timeout_seconds": 60},
        managing(-16, levels_filled=5),
    ),
    "max_hold_hours": ({}, {"max_hold_hours": 1}, managing(1)),
    "base_order_execution": ({}, {"base_order_execution": "limit"}, opening()),
    "safety_order_execution": ({}, {"safety_order_execution": "limit"}, managing(-1)),
    "take_profit_execution": ({}, {"take_profit_execution": "limit"}, managing(4)),
    "limit_timeout_seconds": (
        {"base_order_execution": "limit"},
        {"base_order_execution": "limit", "limit_timeout_seconds": 61},
        waiting_base_order,
    ),
    "slippage_guard": ({}, {"slippage_guard": True}, managing(4)),
    "max_slippage": ({"slippage_guard": True}, {"slippage_guard": True, "max_slippage": 1}, opening()),
    "open_conditions": ({}, {"open_conditions": rising()}, opening()),
    "add_conditions": ({}, {"add_conditions": rising()}, managing(-3)),
    "close_conditions": (
        {"take_profit_mode": "conditions"},
        {"take_profit_mode": "conditions", "close_conditions": rising()},
        managing(4),
    ),
    "short_open_conditions": (OWN, OWN | {"short_open_conditions": rising()}, opening(direction=Direction.SHORT)),
    "short_add_conditions": (OWN, OWN | {"short_add_conditions": rising()}, managing(-3)),
    "short_close_conditions": (
        OWN | {"take_profit_mode": "conditions"},
        OWN | {"take_profit_mode": "conditions", "short_close_conditions": rising()},
        managing(4),
    ),
}


def test_f46_the_list_above_covers_every_setting() -> None:
    assert set(FLIPS) == set(DcaSettings.model_fields)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("name", FLIPS)
def test_f45_f46_flipping_a_setting_changes_what_the_bot_does(name: str, direction: Direction) -> None:
    before, after, look = FLIPS[name]
    one, other = look(settings(**before), direction), look(settings(**after), direction)
    is_same = (one.action, one.code, one.order, one.cancels) == (other.action, other.code, other.order, other.cancels)
    assert is_same is (name in ("short_add_conditions", "short_close_conditions") and direction is LONG)


def test_f43_a_deal_looks_at_the_timeframes_of_its_own_settings() -> None:
    frozen = settings(add_conditions=rising())
    look = InMemoryMarketView(TERMS, {Timeframe.H1: recent([1.0] * 30, Timeframe.H1)}, quote(97))
    decision = manage(frozen, deal(100), look, NOW, FREE)
    assert decision.evidence["checks"][0]["reason"] == "needs 2 candles, has 0"


def test_prices_with_fees_are_asked_of_the_fee_rates_given() -> None:
    golden = settings(**GOLDEN)
    fee_free, costly = (manage(golden, deal(100, base="0.1"), view(102), NOW, rates) for rates in (FREE, COSTLY))
    assert (fee_free.action, costly.action) == ("close", "none")


def test_settings_are_values() -> None:
    assert settings() == replace(PRESETS[0], settings=settings()).settings
    with pytest.raises(Exception, match="frozen"):
        settings().take_profit = Decimal(1)  # type: ignore[misc]
