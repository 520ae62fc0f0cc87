"""Opening a deal: every gate refuses with a reason and numbers, and nothing unknown lets an order through."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.strategies.base import Action, InMemoryMarketView, OpenContext, ProductTerms, ReasonCode
from bots.strategies.dca_presets import PRESETS
from bots.strategies.indicator_dca import decide_open
from marketdata.timeframes import Timeframe
from positions.states import Direction, OrderType, Purpose, Side
from tests.bots.building import COSTLY, GOLDEN, NOW, TERMS, D, context, quote, recent, settings, view

FALL = [100 - i * 0.5 for i in range(40)]


def rsi_below(value: float, operator: str = "<") -> dict[str, Any]:
    return {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": operator, "value": value}]}


def test_an_empty_tree_opens_at_once_at_the_ask() -> None:
    decision = decide_open(settings(), view(100, spread=2), context())
    assert (decision.action, decision.purpose) == (Action.OPEN, Purpose.BASE_ORDER)
    order = decision.order
    assert order is not None
    assert (order.side, order.order_type, order.price) == (Side.BUY, OrderType.MARKET, 101)
    assert order.base_size == D("0.99009900")
    assert decision.budget_quote == 1000
    assert decision.message == "no conditions set: open with 0.990099 ETH for 99.999999 USD at 101"


def test_conditions_decide_with_their_values_as_evidence() -> None:
    oversold = decide_open(settings(open_conditions=rsi_below(30)), view(80, {Timeframe.M1: recent(FALL)}), context())
    assert oversold.action is Action.OPEN
    assert oversold.evidence["checks"][0]["state"] == "met"
    rising = decide_open(
        settings(open_conditions=rsi_below(30)), view(80, {Timeframe.M1: recent(FALL[::-1])}), context()
    )
    assert (rising.action, rising.code) == (Action.NONE, ReasonCode.CONDITIONS_NOT_MET)
    assert rising.message == "waiting for: RSI(14) on 1m is below 30 (now 100)"


def test_too_little_history_is_said_with_the_numbers() -> None:
    decision = decide_open(
        settings(open_conditions=rsi_below(30)), view(80, {Timeframe.M1: recent(FALL[:9])}), context()
    )
    assert "needs 15 candles, has 9" in decision.message


@pytest.mark.parametrize(
    ("changes", "where", "code", "words"),
    [
        ({}, {"bot_active": False}, "bot_stopped", "stopped"),
        ({}, {"open_deals": 1}, "deal_limit", "1 of 1 deals"),
        ({"max_active_deals": 5}, {"open_deals": 1, "open_deals_on_pair": 1}, "pair_deal_limit", "1 of 1 deals"),
        ({"cooldown_seconds": 100}, {"last_closed_at": NOW - timedelta(seconds=40)}, "cooldown", "60 of 100 s"),
        ({}, {"bot_budget": D(0)}, "no_budget", "budget is 0 USD"),
        ({}, {"bot_budget": None}, "missing_budget", "not known"),
        ({}, {"free_quote": None}, "missing_balance", "USD is not known"),
        ({}, {"free_quote": D(99)}, "insufficient_balance", "99 USD is free"),
        ({}, {"free_quote": D("100.59"), "fee_rates": COSTLY}, "insufficient_balance", "100.6 USD is needed"),
        ({}, {"committed_quote": D(901)}, "budget_used", "use 901 of 1000 USD"),
        ({}, {"bot_budget": D(9)}, "below_minimum", "base order: 0.9 USD is below the minimum of 1 USD"),
        ({}, {"bot_budget": D(19)}, "below_minimum", "safety order 1"),
        (GOLDEN, {"bot_budget": D(100)}, "over_budget", ""),
        (
            {"max_active_deals": 5, "max_deals_per_pair": 5},
            {"open_deals": 2, "bot_budget": D(50)},
            "deal_limit",
            "fully funds 2 of 5",
        ),
    ],
)
def test_each_gate_refuses_with_its_numbers(
    changes: dict[str, Any], where: dict[str, Any], code: str, words: str
) -> None:
    decision = decide_open(settings(**changes), view(100), context(**where))
    expected = {"over_budget": "budget_too_small"}.get(code, code)
    assert (decision.action, str(decision.code)) == (Action.NONE, expected)
    assert words in decision.message
    assert decision.order is None


def test_a_cooldown_ends() -> None:
    passed = context(last_closed_at=NOW - timedelta(seconds=100))
    assert decide_open(settings(cooldown_seconds=100), view(100), passed).action is Action.OPEN


def test_a_wide_spread_is_refused() -> None:
    decision = decide_open(settings(max_spread="0.5"), view(100, spread=1), context())
    assert decision.code is ReasonCode.SPREAD_TOO_WIDE
    assert "1.000 % apart, allowed are 0.5 %" in decision.message


@pytest.mark.parametrize(
    ("changes", "where", "code", "words"),
    [
        ({"min_volume_24h": 5000}, {"volume_24h": D(4999)}, "volume_too_low", "4999 USD were traded"),
        ({"min_volume_24h": 5000}, {"volume_24h": D(5000)}, "opening", ""),
        ({"min_volume_24h": 5000}, {}, "missing_volume", "not known"),
        ({}, {"volume_24h": None}, "opening", ""),
        ({"allowed_categories": ["approved", "meme"]}, {"category": "meme"}, "opening", ""),
        (
            {"allowed_categories": ["approved", "meme"]},
            {"category": "blacklisted"},
            "category_not_allowed",
            "ETH is blacklisted; allowed are coins that are approved, meme",
        ),
        ({"allowed_categories": ["approved"]}, {"category": ""}, "category_not_allowed", "ETH is unreviewed"),
        ({}, {"category": "blacklisted"}, "opening", ""),
        ({"skip_stable_pairs": True}, {"is_stable_pair": True}, "stable_pair", "two stable coins"),
        ({"skip_stable_pairs": True}, {}, "opening", ""),
        ({}, {"is_stable_pair": True}, "opening", ""),
    ],
)
@pytest.mark.parametrize("direction", Direction)
def test_filters_keep_new_deals_out_in_both_directions(
    changes: dict[str, Any], where: dict[str, Any], code: str, words: str, direction: Direction
) -> None:
    decision = decide_open(settings(**changes), view(100), context(direction=direction, free_base=D(10), **where))
    assert str(decision.code) == code
    assert words in decision.message


def test_f34_an_unknown_volume_judges_nothing() -> None:
    crossing = settings(open_conditions=rsi_below(30, "crosses_above"), min_volume_24h=1)
    assert decide_open(crossing, crossing_look(), context()).evaluated_until is None
    assert decide_open(crossing, crossing_look(), context(volume_24h=D(0))).evaluated_until is not None


@pytest.mark.parametrize("direction", Direction)
def test_f45_a_deal_of_either_direction_opens_on_its_own_side(direction: Direction) -> None:
    chosen = settings(direction="both")
    decision = decide_open(chosen, view(100, spread=2), context(direction=direction, free_base=D(10)))
    assert decision.action is Action.OPEN
    assert decision.direction is direction
    assert decision.order is not None
    assert decision.order.side is direction.entry_side
    assert decision.order.price == (101 if direction is Direction.LONG else 99)


def test_f36_a_short_sells_only_base_that_is_free() -> None:
    short = settings(direction="short")
    enough = context(direction=Direction.SHORT, free_base=D(1), free_quote=D(0))
    assert decide_open(short, view(100), enough).action is Action.OPEN
    lacking = decide_open(short, view(100), context(direction=Direction.SHORT, free_base=D("0.9")))
    assert lacking.code is ReasonCode.INSUFFICIENT_BALANCE
    assert "1 ETH is needed" in lacking.message
    unknown = context(direction=Direction.SHORT, free_base=None)
    assert decide_open(short, view(100), unknown).code is ReasonCode.MISSING_BALANCE


def test_f45_the_short_side_opens_on_the_mirrored_conditions() -> None:
    both = settings(direction="both", open_conditions=rsi_below(30))
    for direction, series in ((Direction.LONG, FALL), (Direction.SHORT, FALL[::-1])):
        where = context(direction=direction, free_base=D(10))
        assert decide_open(both, view(80, {Timeframe.M1: recent(series)}), where).action is Action.OPEN
        turned = view(80, {Timeframe.M1: recent(series[::-1])})
        assert decide_open(both, turned, where).code is ReasonCode.CONDITIONS_NOT_MET


def test_f34_no_price_or_an_old_one_opens_nothing() -> None:
    assert decide_open(settings(), view(None), context()).code is ReasonCode.MISSING_PRICE
    stale = view(100, at=NOW - timedelta(seconds=61))
    assert decide_open(settings(), stale, context()).code is ReasonCode.STALE_PRICE


def test_f39_candles_that_end_hours_ago_open_nothing() -> None:
    old = view(80, {Timeframe.M1: recent(FALL, now=NOW - timedelta(hours=2))})
    decision = decide_open(settings(open_conditions=rsi_below(30)), old, context())
    assert decision.code is ReasonCode.STALE_CANDLES
    assert "7200 s" in decision.message


def test_f30_the_budget_is_split_once() -> None:
    many = settings(max_active_deals=4, base_order_size=10)
    shared = decide_open(many, view(100), context(split_budget=True))
    assert shared.budget_quote == 250
    assert shared.order is not None
    assert shared.order.quote_size == 25
    whole = decide_open(many, view(100), context(split_budget=False))
    assert whole.budget_quote == 1000


def test_a_small_budget_is_shared_by_as_many_deals_as_it_funds() -> None:
    many = settings(max_active_deals=5, base_order_type="automatic", safety_order_size=100)
    decision = decide_open(many, view(100), context(bot_budget=D(15), largest_minimum=D(1)))
    assert decision.budget_quote == D("7.5")


def test_f33_nothing_free_is_nothing() -> None:
    assert decide_open(settings(), view(100), context(free_quote=D(0))).code is ReasonCode.INSUFFICIENT_BALANCE


@given(
    st.decimals("0.00001", "50000", places=8),
    st.sampled_from([D(1), D("0.001"), D("0.00000001"), D("0.5")]),
    st.decimals("1", "100000", places=2),
)
def test_f24_the_base_order_never_costs_more_than_its_share(
    price: Decimal, increment: Decimal, budget: Decimal
) -> None:
    terms = ProductTerms("A-B", "A", "B", D("0.00000001"), increment, increment, D("0.00001"))
    look = InMemoryMarketView(terms, {}, quote(price))
    decision = decide_open(settings(max_safety_orders=0), look, context(bot_budget=budget, free_quote=budget))
    if decision.order is not None:
        assert decision.order.base_size % increment == 0
        assert 0 < decision.order.quote_size <= budget / 10


# Crossings and what has been judged ---------------------------------------------------------------------------------

TURN = [*FALL, 100.0]


def crossing_look(now: Any = NOW, price: Any = 100) -> InMemoryMarketView:
    series = recent(TURN)
    return view(price, {Timeframe.M1: series}).at(now.timestamp(), quote(price, now))


def test_f38_a_crossing_opens_once() -> None:
    crossing = settings(open_conditions=rsi_below(30, "crosses_above"))
    first = decide_open(crossing, crossing_look(), context())
    assert first.action is Action.OPEN
    assert first.evaluated_until == {"1m": int(NOW.timestamp()) - 60}
    again = decide_open(crossing, crossing_look(), context(since=first.evaluated_until))
    assert again.code is ReasonCode.CONDITIONS_NOT_MET


def test_f38_a_crossing_that_could_not_be_judged_is_judged_later() -> None:
    crossing = settings(open_conditions=rsi_below(30, "crosses_above"))
    unknown = decide_open(crossing, crossing_look(), context(free_quote=None))
    assert unknown.code is ReasonCode.MISSING_BALANCE
    assert unknown.evaluated_until is None


def test_a_crossing_while_the_bot_had_no_slot_is_over() -> None:
    crossing = settings(open_conditions=rsi_below(30, "crosses_above"))
    full = decide_open(crossing, crossing_look(), context(open_deals=1))
    assert full.code is ReasonCode.DEAL_LIMIT
    later: OpenContext = context(since=full.evaluated_until)
    assert decide_open(crossing, crossing_look(), later).action is Action.NONE


def test_conditions_without_crossings_have_nothing_to_remember() -> None:
    look = view(80, {Timeframe.M1: recent(FALL)})
    assert decide_open(settings(open_conditions=rsi_below(30)), look, context()).evaluated_until is None


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_presets_open_on_a_falling_market(preset: Any) -> None:
    series = {frame: recent(FALL, frame) for frame in (Timeframe.M1, Timeframe.M5, Timeframe.H1)}
    look = view(80, series, TERMS)
    decision = decide_open(preset.settings, look, context(bot_budget=D(10_000), free_quote=D(10_000)))
    assert decision.action is Action.OPEN, decision.message
