"""Limit orders of the DCA bot, in both directions: base order, safety orders, take profit, and what gives way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from bots.strategies.base import Action, DealView, Decision, ReasonCode, TrailState, WorkingOrder
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.indicator_dca import decide_open, manage
from marketdata.timeframes import Timeframe
from positions.ledger import totals
from positions.states import Direction, OrderType, Purpose
from tests.bots.building import (
    COSTLY,
    FREE,
    NOW,
    TERMS,
    D,
    context,
    deal,
    fill,
    holding,
    recent,
    settings,
    view,
    working,
)

LONG, SHORT = Direction.LONG, Direction.SHORT
BASE, SAFETY, PROFIT = Purpose.BASE_ORDER, Purpose.SAFETY_ORDER, Purpose.TAKE_PROFIT
both = pytest.mark.parametrize("direction", Direction)


def away(direction: Direction, pct: Any, price: Any = 100) -> Decimal:
    """Return the price ``pct`` percent better for leaving the deal than ``price`` (worse when below zero)."""
    return D(price) * (1 + direction.sign * D(pct) / 100)


def look(chosen: DcaSettings, held: DealView, price: Any, **more: Any) -> Decision:
    return manage(chosen, held, view(price, **more), NOW, FREE)


def unfilled(direction: Direction, *orders: WorkingOrder) -> DealView:
    return deal(totals([], direction, "ETH", "USD"), orders=orders)


# The base order -----------------------------------------------------------------------------------------------------


@both
def test_f45_a_limit_base_order_asks_for_the_mark_at_a_valid_step(direction: Direction) -> None:
    chosen = settings(base_order_execution="limit", slippage_guard=True)
    terms = replace(TERMS, price_increment=D("0.1"))
    where = context(direction=direction, free_base=D(10))
    order = decide_open(chosen, view("100.05", spread=1, terms=terms), where).order
    assert order is not None
    assert (order.order_type, order.limit_price) == (OrderType.LIMIT, D(100) if direction is LONG else D("100.1"))
    assert (order.price, order.max_slippage_pct) == (order.limit_price, None)
    assert order.base_size * order.price <= 100 < (order.base_size + terms.base_increment) * order.price


def test_an_unfilled_limit_base_order_waits_and_is_cancelled_after_the_time_out() -> None:
    chosen = settings(base_order_execution="limit", limit_timeout_seconds=30)
    waiting = look(chosen, unfilled(LONG, working(BASE, limit_price=100, age=29)), 101)
    assert (waiting.action, waiting.code) == (Action.NONE, ReasonCode.LIMIT_RESTING)
    assert "waits at 100, 0 of 1 ETH filled, 29 of 30 s" in waiting.message
    over = look(chosen, unfilled(LONG, working(BASE, limit_price=100, age=30)), None)
    assert (over.action, over.code, over.cancels) == (Action.CANCEL, ReasonCode.UNFILLED, (BASE,))
    assert over.order is None


def test_a_base_order_that_is_under_way_or_gone_is_said_to_be() -> None:
    assert look(settings(), unfilled(LONG, working(BASE)), 100).code is ReasonCode.ORDER_PENDING
    cancelling = working(BASE, limit_price=100, age=999, is_cancelling=True)
    assert look(settings(), unfilled(LONG, cancelling), 100).code is ReasonCode.ORDER_PENDING
    gone = look(settings(), unfilled(LONG), 100)
    assert (gone.action, gone.code) == (Action.NONE, ReasonCode.UNFILLED)


@both
def test_what_filled_of_a_base_order_stays_a_deal_and_the_rest_is_cancelled(direction: Direction) -> None:
    young, old = (working(BASE, 3, limit_price=100, filled_base=D(1), age=age) for age in (59, 60))
    for chosen in (settings(), settings(safety_order_execution="limit")):
        held = deal(100, direction=direction, orders=(young,))
        waiting = look(chosen, held, away(direction, -5))
        assert (waiting.action, waiting.code) == (Action.NONE, ReasonCode.LIMIT_RESTING)
        over = look(chosen, replace(held, orders=(old,)), away(direction, -5))
        assert (over.action, over.cancels) == (Action.CANCEL, (BASE,))
        assert "1 of 3 ETH of the limit base order filled within 60 s" in over.message


@both
def test_f22_a_close_cancels_a_base_order_that_still_fills(direction: Direction) -> None:
    resting = working(BASE, 3, limit_price=100, filled_base=D(1))
    decision = look(settings(), deal(100, direction=direction, orders=(resting,)), away(direction, 4))
    assert (decision.action, decision.code, decision.cancels) == (Action.CLOSE, ReasonCode.TAKE_PROFIT, (BASE,))


# Safety orders ------------------------------------------------------------------------------------------------------

RESTING = settings(safety_order_execution="limit")


def rung(direction: Direction, **changes: Any) -> WorkingOrder:
    """Return the first safety order of a deal of 1 ETH at 100, as the bot would have placed it."""
    decision = look(RESTING, deal(100, direction=direction), 100)
    assert decision.order is not None
    return working(SAFETY, decision.order.base_size, limit_price=decision.order.limit_price, levels=1, **changes)


@both
def test_f45_the_next_safety_order_rests_at_its_price(direction: Direction) -> None:
    decision = look(RESTING, deal(100, direction=direction), 100)
    assert (decision.action, decision.purpose) == (Action.ADD, SAFETY)
    order = decision.order
    assert order is not None
    assert (order.side, order.order_type, order.levels) == (direction.entry_side, OrderType.LIMIT, 1)
    assert order.limit_price == order.price == away(direction, -2)
    assert abs(order.quote_size - 50) < D("0.000002")


def test_prices_of_resting_orders_go_down_for_buys_and_up_for_sells() -> None:
    terms = replace(TERMS, price_increment=D(3))
    for direction, price in ((LONG, 96), (SHORT, 102)):
        order = look(RESTING, deal(100, direction=direction), 100, terms=terms).order
        assert order is not None
        assert order.limit_price == price
    above = look(RESTING, deal(101, direction=SHORT), 100, terms=terms).order
    assert above is not None
    assert above.limit_price == 105


@both
def test_only_one_safety_order_rests_and_it_stays_where_it_belongs(direction: Direction) -> None:
    held = deal(100, direction=direction, orders=(rung(direction, age=9999),))
    decision = look(RESTING, held, away(direction, 1))
    assert (decision.action, decision.code) == (Action.NONE, ReasonCode.HOLDING)
    assert f"a safety order rests at {98 if direction is LONG else 102}" in decision.message


@both
def test_a_safety_order_out_of_place_is_cancelled_to_be_placed_anew(direction: Direction) -> None:
    order = rung(direction)
    assert order.limit_price is not None
    step = TERMS.price_increment
    for limit_price, moves in ((order.limit_price + step, False), (order.limit_price + 2 * step, True)):
        held = deal(100, direction=direction, orders=(replace(order, limit_price=limit_price),))
        decision = look(RESTING, held, 100)
        assert (decision.action is Action.CANCEL) is moves
        if moves:
            assert (decision.code, decision.cancels) == (ReasonCode.REPRICING, (SAFETY,))
    for size, moves in ((order.base_size, False), (order.base_size * 2, True), (order.base_size / 2, True)):
        held = deal(100, direction=direction, orders=(replace(order, base_size=size),))
        assert (look(RESTING, held, 100).action is Action.CANCEL) is moves


@both
def test_f19_a_safety_order_that_has_begun_to_fill_is_left_alone(direction: Direction) -> None:
    order = replace(rung(direction), filled_base=D("0.01"), limit_price=D(50))
    assert look(RESTING, deal(100, direction=direction, orders=(order,)), 100).action is Action.NONE
    at_market = look(settings(), deal(100, direction=direction, orders=(order,)), 100)
    assert at_market.action is Action.NONE


def test_a_safety_order_made_smaller_for_want_of_money_stays_until_there_is_enough() -> None:
    poor = deal(100, free_quote=D("48"))
    small = look(RESTING, poor, 100).order
    assert small is not None
    assert small.quote_size < 48
    resting = working(SAFETY, small.base_size, limit_price=small.limit_price)
    assert look(RESTING, replace(poor, orders=(resting,), free_quote=D(0)), 100).action is Action.NONE
    assert look(RESTING, replace(poor, orders=(resting,), free_quote=None), 100).action is Action.NONE
    assert look(RESTING, replace(poor, orders=(resting,), free_quote=D(9)), 100).action is Action.CANCEL


def test_limit_safety_orders_are_refused_for_the_same_reasons_as_others() -> None:
    for changes, code in (
        ({"free_quote": None}, ReasonCode.MISSING_BALANCE),
        ({"free_quote": D(10)}, ReasonCode.INSUFFICIENT_BALANCE),
        ({"budget_quote": D(120)}, ReasonCode.CEILING_REACHED),
    ):
        decision = look(RESTING, deal(100, **changes), 100)
        assert (decision.action, decision.code) == (Action.NONE, code)
        assert "safety order 1 belongs at 98, but" in decision.message


def test_a_safety_order_is_withdrawn_when_it_is_no_longer_wanted() -> None:
    held = deal(100, orders=(rung(LONG),))
    assert look(settings(), held, 100).cancels == (SAFETY,)
    assert look(settings(safety_order_execution="limit", max_safety_orders=0), held, 100).cancels == (SAFETY,)
    ended = replace(held, budget_quote=D(100))
    assert look(RESTING, ended, 100).cancels == (SAFETY,)


def test_the_ladder_in_the_book_ends() -> None:
    assert look(RESTING, deal(100, levels_filled=5), 99).code is ReasonCode.HOLDING


# Take profit --------------------------------------------------------------------------------------------------------

TO_LIMIT = settings(take_profit_execution="limit")


def closing(age: int = 0, price: Any = 104, direction: Direction = LONG, **changes: Any) -> WorkingOrder:
    price = away(direction, D(price) - 100)
    return working(PROFIT, 1, limit_price=price, age=age, **changes)


@both
def test_f15_a_limit_take_profit_asks_for_the_mark_once_that_is_good_enough(direction: Direction) -> None:
    held = deal(100, direction=direction)
    assert look(TO_LIMIT, held, away(direction, "2.99"), spread="0.5").action is Action.NONE
    order = look(TO_LIMIT, held, away(direction, 3), spread="0.5").order
    assert order is not None
    assert (order.order_type, order.side) == (OrderType.LIMIT, direction.exit_side)
    assert (order.limit_price, order.price) == (away(direction, 3), away(direction, 3))
    assert order.max_slippage_pct is None


@both
def test_an_unfilled_take_profit_moves_to_the_price_that_fills_while_the_floor_holds(direction: Direction) -> None:
    held = deal(100, direction=direction, orders=(closing(59, direction=direction),))
    price = away(direction, 4)
    assert look(TO_LIMIT, held, price, spread=1).code is ReasonCode.LIMIT_RESTING
    held = replace(held, orders=(closing(60, direction=direction),))
    moved = look(TO_LIMIT, held, price, spread=1)
    assert (moved.action, moved.code, moved.cancels) == (Action.CANCEL, ReasonCode.REPRICING, (PROFIT,))
    again = look(TO_LIMIT, replace(held, orders=(), missed_limit_exit=True), price, spread=1)
    assert again.order is not None
    assert again.order.limit_price == away(direction, "3.5")
    # 4 % at the mark, but less than 3 % at the price that fills: it goes on waiting where it is.
    assert look(TO_LIMIT, held, price, spread="2.1").action is Action.NONE


@both
def test_f16_a_missed_take_profit_never_goes_below_its_floor(direction: Direction) -> None:
    held = deal(100, direction=direction, missed_limit_exit=True)
    above = look(TO_LIMIT, held, away(direction, "3.1"), spread="0.5").order
    assert above is not None
    assert above.limit_price == away(direction, "3.1")
    assert look(TO_LIMIT, held, away(direction, "2.9"), spread="0.5").action is Action.NONE


def test_a_take_profit_that_rests_where_it_would_fill_is_not_moved() -> None:
    assert look(TO_LIMIT, deal(100, orders=(closing(600, 104),)), 104).code is ReasonCode.LIMIT_RESTING
    assert look(TO_LIMIT, deal(100, orders=(closing(600, 104),)), 105).code is ReasonCode.LIMIT_RESTING


@both
def test_f17_a_persons_close_is_never_moved(direction: Direction) -> None:
    for order in (
        closing(9999, direction=direction, by_person=True),
        replace(closing(9999), purpose=Purpose.LIMIT_CLOSE),
    ):
        held = deal(100, direction=direction, orders=(order,))
        for move in (-9, 0, "3.5", 9):
            assert look(TO_LIMIT, held, away(direction, move), spread="0.1").action is Action.NONE


@both
def test_nothing_is_added_while_a_close_rests_and_it_makes_way_after_its_time_out(direction: Direction) -> None:
    for chosen in (TO_LIMIT, settings(take_profit_execution="limit", safety_order_execution="limit")):
        held = deal(100, direction=direction, orders=(closing(59, direction=direction),))
        assert look(chosen, held, away(direction, -5)).code is ReasonCode.LIMIT_RESTING
        held = replace(held, orders=(closing(60, direction=direction),))
        assert look(chosen, held, 100).code is ReasonCode.LIMIT_RESTING
        decision = look(chosen, held, away(direction, -5))
        assert (decision.action, decision.cancels) == (Action.CANCEL, (PROFIT,))
        assert "makes way for a safety order" in decision.message
        unaffordable = replace(held, free_quote=D(0), wallet_base=D(0))
        assert look(chosen, unaffordable, away(direction, -5)).action is Action.NONE


def test_what_waits_to_be_added_is_withdrawn_when_a_close_rests() -> None:
    person = working(Purpose.MANUAL_ADD, limit_price=90, by_person=True)
    held = deal(100, orders=(closing(by_person=True), rung(LONG), person))
    decision = look(RESTING, held, 100)
    assert (decision.action, decision.cancels) == (Action.CANCEL, (SAFETY,))


def test_a_resting_close_that_no_longer_earns_the_target_is_withdrawn() -> None:
    held = deal(100, orders=(closing(0, 104),))
    decision = look(settings(take_profit=5, take_profit_execution="limit"), held, 103)
    assert (decision.action, decision.code) == (Action.CANCEL, ReasonCode.REPRICING)
    assert look(settings(take_profit=4, take_profit_execution="limit"), held, 103).action is Action.NONE


@both
def test_f45_a_trailing_take_profit_as_a_limit_order_never_asks_for_a_loss(direction: Direction) -> None:
    chosen = settings(take_profit_mode="trailing", take_profit_execution="limit")
    trail = TrailState(armed=True, peak=away(direction, 5))
    held = deal(100, direction=direction, trail=trail)
    decision = look(chosen, held, away(direction, "3.5"), spread="0.2")
    assert decision.code is ReasonCode.TRAILING_TAKE_PROFIT
    assert decision.order is not None
    assert decision.order.limit_price == away(direction, "3.5")
    resting = replace(held, orders=(closing(60, "103.5", direction),))
    assert look(chosen, resting, away(direction, 2)).code is ReasonCode.REPRICING
    assert look(chosen, resting, away(direction, -1)).code is ReasonCode.LIMIT_RESTING
    missed = look(chosen, replace(held, missed_limit_exit=True), away(direction, 2), spread="0.2").order
    assert missed is not None
    assert missed.limit_price == away(direction, "1.9")


def test_f38_a_close_by_a_crossing_goes_on_after_its_limit_order_was_missed() -> None:
    crossing = {"items": [{"indicator": "price_change", "timeframe": "1m", "operator": "crosses_above", "value": 0}]}
    chosen = settings(take_profit_mode="conditions", close_conditions=crossing, take_profit_execution="limit")
    series = {Timeframe.M1: recent([102.0, 101.0, 103.0, 104.0])}
    judged = int(NOW.timestamp()) - 180
    first = look(chosen, deal(100, since={"1m": judged}), 104, series=series, spread="0.2")
    assert (first.code, first.purpose) == (ReasonCode.CLOSE_CONDITION, Purpose.CLOSE_CONDITION)
    assert first.order is not None
    assert first.order.limit_price == 104
    resting = working(Purpose.CLOSE_CONDITION, limit_price=104, age=60)
    held = deal(100, since=first.evaluated_until, orders=(resting,))
    assert look(chosen, held, "103.9", series=series, spread="0.2").code is ReasonCode.REPRICING
    assert look(chosen, held, "102.9", series=series, spread="0.2").code is ReasonCode.LIMIT_RESTING
    missed = replace(held, orders=(), missed_limit_exit=True)
    again = look(chosen, missed, "103.9", series=series, spread="0.2").order
    assert again is not None
    assert again.limit_price == D("103.8")
    assert look(chosen, replace(missed, missed_limit_exit=False), "103.9", series=series).action is Action.NONE


# What gives way -----------------------------------------------------------------------------------------------------


@both
def test_f16_f21_a_stop_cancels_whatever_rests_and_goes_to_market(direction: Direction) -> None:
    chosen = settings(stop_loss=15, take_profit_execution="limit", slippage_guard=True)
    orders = (closing(direction=direction), working(Purpose.MANUAL_ADD, limit_price=80, by_person=True))
    held = deal(100, direction=direction, orders=orders, wallet_base=D(0), levels_filled=5)
    decision = look(chosen, held, away(direction, -16))
    assert (decision.action, decision.code) == (Action.CLOSE, ReasonCode.STOP_LOSS)
    assert set(decision.cancels) == {PROFIT, Purpose.MANUAL_ADD}
    order = decision.order
    assert order is not None
    assert (order.order_type, order.base_size, order.max_slippage_pct) == (OrderType.MARKET, 1, None)


@both
def test_f22_a_take_profit_at_market_cancels_the_safety_order_that_rests(direction: Direction) -> None:
    held = deal(100, direction=direction, orders=(rung(direction),))
    decision = look(RESTING, held, away(direction, 4))
    assert (decision.action, decision.cancels) == (Action.CLOSE, (SAFETY,))
    assert decision.evaluated_until is None


def test_what_is_decided_again_after_a_cancel_has_not_been_judged() -> None:
    crossing = {"items": [{"indicator": "price_change", "timeframe": "1m", "operator": "crosses_above", "value": 0}]}
    chosen = settings(take_profit_mode="conditions", close_conditions=crossing, safety_order_execution="limit")
    series = {Timeframe.M1: recent([102.0, 101.0, 103.0])}
    decision = look(chosen, deal(100, orders=(rung(LONG),)), 104, series=series)
    assert (decision.code, decision.cancels) == (ReasonCode.CLOSE_CONDITION, (SAFETY,))
    assert decision.evaluated_until is None
    assert look(chosen, deal(100), 104, series=series).evaluated_until is not None


def test_an_order_that_is_being_cancelled_is_waited_for() -> None:
    cancelling = replace(rung(LONG), is_cancelling=True)
    assert look(RESTING, deal(100, orders=(cancelling,)), 104).code is ReasonCode.ORDER_PENDING
    unknown = replace(closing(), is_acknowledged=False)
    assert look(TO_LIMIT, deal(100, orders=(unknown,)), 97).code is ReasonCode.ORDER_PENDING


# The slippage guard -------------------------------------------------------------------------------------------------


@both
def test_the_slippage_guard_is_on_market_orders_that_are_no_stops(direction: Direction) -> None:
    guarded = settings(slippage_guard=True, max_slippage="0.3", stop_loss=15)
    where = context(direction=direction, free_base=D(10))
    held = deal(100, direction=direction)
    decisions = [
        decide_open(guarded, view(100), where),
        look(guarded, held, away(direction, -3)),
        look(guarded, held, away(direction, 4)),
    ]
    assert [decision.order.max_slippage_pct for decision in decisions if decision.order] == [D("0.3")] * 3
    stop = look(guarded, replace(held, levels_filled=5), away(direction, -16)).order
    assert stop is not None
    assert stop.max_slippage_pct is None
    unguarded = look(settings(max_slippage="0.3"), held, away(direction, 4)).order
    assert unguarded is not None
    assert unguarded.max_slippage_pct is None


def test_f28_a_limit_take_profit_is_net_of_both_fees() -> None:
    held = deal(holding(fill(LONG, BASE, 100, 1, fee="0.6")))
    chosen = TO_LIMIT
    assert manage(chosen, held, view("104.2"), NOW, COSTLY).action is Action.NONE
    assert manage(chosen, held, view("104.3"), NOW, COSTLY).action is Action.CLOSE


def test_times_are_those_of_the_order_not_of_the_deal() -> None:
    held = deal(100, opened_at=NOW - timedelta(days=9), orders=(closing(5),))
    assert look(TO_LIMIT, held, 104, spread=1).action is Action.NONE
