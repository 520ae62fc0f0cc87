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
from bots.strategies.dca_settings import PRESETS, DcaSettings
from bots.strategies.forms import field_specs, sections
from bots.strategies.indicator_dca import decide_open, manage
from marketdata.timeframes import Timeframe
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
)
from tradebot.core.errors import InvalidInput


def rising(operator: str = ">") -> dict[str, Any]:
    """Return a tree that is met when the last candle rose (or fell, with "<")."""
    item = {"indicator": "price_change", "timeframe": "1m", "operator": operator, "value": 0, "params": {"candles": 1}}
    return {"join": "and", "items": [item]}


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


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"colour": "red"}, "colour", "not known"),
        ({"direction": "short"}, "direction", "not available yet"),
        ({"direction": "both"}, "direction", "not available yet"),
        ({"direction": "up"}, "direction", ""),
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
            known = {choice.value for found in specs if found.name == other for choice in found.choices}
            assert set(values) <= known
    assert next(iter(sections(DcaSettings))) == "Deals"


def test_f42_choices_of_the_form_are_accepted_by_the_engine() -> None:
    for spec in field_specs(DcaSettings):
        for choice in spec.choices:
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


# F46: every setting has an effect -----------------------------------------------------------------------------------

Outcome = Callable[[DcaSettings], Any]
CANDLES = {Timeframe.M1: recent([100.0] * 20 + [99.0])}


def opening(price: Any = 100, *, spread: Any = 0, **changes: Any) -> Outcome:
    def look(chosen: DcaSettings) -> Any:
        return decide_open(chosen, view(price, CANDLES, spread=spread), context(**changes))

    return look


def managing(price: Any, totals_or_price: Any = 100, *, candles: Any = CANDLES, **changes: Any) -> Outcome:
    def look(chosen: DcaSettings) -> Any:
        return manage(chosen, deal(totals_or_price, **changes), view(price, candles), NOW, FREE)

    return look


def added(count: int) -> Any:
    """Return the totals of a deal with ``count`` safety orders, each 5 lower than the one before."""
    fills = [fill(Direction.LONG, Purpose.SAFETY_ORDER, 100 - 5 * n, 2, minute=n) for n in range(1, count + 1)]
    return holding(fill(Direction.LONG, Purpose.BASE_ORDER, 100, 1), *fills)


FLIPS: dict[str, tuple[dict[str, Any], dict[str, Any], Outcome]] = {
    "max_active_deals": ({}, {"max_active_deals": 2}, opening(open_deals=1)),
    "max_deals_per_pair": (
        {"max_active_deals": 3},
        {"max_active_deals": 3, "max_deals_per_pair": 2},
        opening(open_deals=1, open_deals_on_pair=1),
    ),
    "cooldown_seconds": ({}, {"cooldown_seconds": 60}, opening(last_closed_at=NOW - timedelta(seconds=30))),
    "max_spread": ({}, {"max_spread": "0.5"}, opening(spread=1)),
    "base_order_type": ({}, {"base_order_type": "automatic"}, opening()),
    "base_order_size": ({}, {"base_order_size": 20}, opening()),
    "max_safety_orders": ({}, {"max_safety_orders": 0}, managing(97)),
    "safety_order_type": ({}, {"safety_order_type": "fixed"}, managing(97, base="2")),
    "safety_order_size": ({}, {"safety_order_size": 60}, managing(97)),
    "price_deviation": ({}, {"price_deviation": 4}, managing(97)),
    "step_scale": ({}, {"step_scale": 2}, managing(95, levels_filled=1)),
    "volume_scale": ({}, {"volume_scale": "1.5"}, managing(95, levels_filled=1)),
    "deviation_reference": ({}, {"deviation_reference": "last_fill"}, managing(87, added(2), levels_filled=2)),
    "take_profit": ({}, {"take_profit": 5}, managing(104)),
    "take_profit_type": ({}, {"take_profit_type": "base"}, managing(98, added(1), levels_filled=1)),
    "take_profit_mode": ({}, {"take_profit_mode": "trailing"}, managing(104)),
    "trailing_deviation": (
        {"take_profit_mode": "trailing"},
        {"take_profit_mode": "trailing", "trailing_deviation": 5},
        managing(104, trail=TrailState(armed=True, peak=D(106))),
    ),
    "stop_loss": ({}, {"stop_loss": 15}, managing(84, levels_filled=5)),
    "trailing_stop": ({}, {"trailing_stop": 15}, managing(101, trail=TrailState(best=D(120)))),
    "stop_timeout_seconds": (
        {"stop_loss": 15},
        {"stop_loss": 15, "stop_timeout_seconds": 60},
        managing(84, levels_filled=5),
    ),
    "max_hold_hours": ({}, {"max_hold_hours": 1}, managing(101)),
    "open_conditions": ({}, {"open_conditions": rising()}, opening()),
    "add_conditions": ({}, {"add_conditions": rising()}, managing(97)),
    "close_conditions": (
        {"take_profit_mode": "conditions"},
        {"take_profit_mode": "conditions", "close_conditions": rising()},
        managing(104),
    ),
}


def test_f46_the_list_below_covers_every_setting() -> None:
    assert set(FLIPS) == set(DcaSettings.model_fields) - {"direction"}  # which has one value so far


@pytest.mark.parametrize("name", FLIPS)
def test_f46_flipping_a_setting_changes_what_the_bot_does(name: str) -> None:
    before, after, look = FLIPS[name]
    one, other = look(settings(**before)), look(settings(**after))
    assert (one.action, one.code, one.order) != (other.action, other.code, other.order)


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
