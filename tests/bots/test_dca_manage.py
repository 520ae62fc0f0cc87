"""Managing an open deal, in both directions: stops, profit, conditions, safety orders, remainders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bots.strategies.base import Action, DealView, Decision, FeeRates, ProductTerms, ReasonCode, TrailState
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.indicator_dca import manage
from marketdata.timeframes import Timeframe
from positions.ledger import profit_pct
from positions.states import Direction, ExitReason, OrderType, Purpose, Side
from tests.bots.building import (
    COSTLY,
    FREE,
    GOLDEN,
    NOW,
    TERMS,
    D,
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


def look(chosen: DcaSettings, held: DealView, price: Any, fees: FeeRates = FREE, **more: Any) -> Decision:
    return manage(chosen, held, view(price, **more), NOW, fees)


def away(direction: Direction, pct: Any, price: Any = 100) -> Decimal:
    """Return the price ``pct`` percent better for the deal than ``price`` (worse when below zero)."""
    return D(price) * (1 + direction.sign * D(pct) / 100)


def follow(chosen: DcaSettings, held: DealView, prices: Sequence[Any]) -> Decision:
    """Look at one price after another, each time with the trail of the look before; return the last decision."""
    decision = look(chosen, held, prices[0])
    for price in prices[1:]:
        assert decision.action is Action.NONE, decision.message
        assert decision.trail is not None
        held = replace(held, trail=TrailState.from_json(decision.trail.to_json()))
        decision = look(chosen, held, price)
    return decision


both = pytest.mark.parametrize("direction", Direction)


# Take profit --------------------------------------------------------------------------------------------------------


@both
def test_f45_fixed_take_profit_sells_everything_at_the_target(direction: Direction) -> None:
    held = deal(100, direction=direction)
    assert look(settings(), held, away(direction, "2.99")).code is ReasonCode.HOLDING
    decision = look(settings(), held, away(direction, 3))
    assert (decision.action, decision.purpose, decision.exit_reason) == (Action.CLOSE, PROFIT, ExitReason.TAKE_PROFIT)
    assert decision.order is not None
    assert (decision.order.side, decision.order.order_type) == (direction.exit_side, OrderType.MARKET)
    assert decision.order.base_size == 1
    assert "3.00 % net" in decision.message


@both
def test_f28_the_target_is_net_of_both_fees(direction: Direction) -> None:
    paid = fill(direction, BASE, 100, 1, fee="0.6")
    held = deal(holding(paid, direction=direction), direction=direction)
    assert look(settings(), held, away(direction, "3.5"), COSTLY).action is Action.NONE
    decision = look(settings(), held, away(direction, "4.3"), COSTLY)
    assert decision.action is Action.CLOSE
    assert decision.order is not None
    assert profit_pct(held.totals, decision.order.price, COSTLY.taker) >= 3


@both
def test_f15_the_floor_is_checked_at_the_price_used_not_at_the_mark(direction: Direction) -> None:
    decision = look(settings(), deal(100, direction=direction), away(direction, "3.1"), spread="0.5")
    assert decision.code is ReasonCode.HOLDING


def test_profit_of_the_base_order_alone_asks_for_less() -> None:
    sums = holding(fill(LONG, BASE, 100, 1), fill(LONG, SAFETY, 80, 4, minute=1))
    held = deal(sums, levels_filled=5)
    assert look(settings(), held, 85).action is Action.NONE
    assert look(settings(take_profit_type="base"), held, 85).action is Action.CLOSE


@both
def test_f45_a_trail_arms_at_the_target_and_sells_on_the_pull_back(direction: Direction) -> None:
    trailing = settings(take_profit_mode="trailing")
    prices = [away(direction, pct) for pct in (2, 3, 5, "4.5", "3.9")]
    decision = follow(trailing, deal(100, direction=direction), prices)
    assert decision.exit_reason is ExitReason.TRAILING_TAKE_PROFIT
    assert follow(trailing, deal(100, direction=direction), prices[:-1]).code is ReasonCode.TRAIL_ARMED


@both
def test_f44_an_armed_trail_stays_armed_below_the_target(direction: Direction) -> None:
    trailing = settings(take_profit_mode="trailing", trailing_deviation=2)
    prices = [away(direction, pct) for pct in ("3.1", "2.5", "1.5", "1.0")]
    held = deal(100, direction=direction)
    assert follow(trailing, held, prices[:3]).code is ReasonCode.TRAIL_ARMED
    assert follow(trailing, held, prices).code is ReasonCode.TRAILING_TAKE_PROFIT


def test_a_trailing_take_profit_never_sells_at_a_loss_and_stays_armed() -> None:
    decision = follow(settings(take_profit_mode="trailing"), deal(100), [104, 99])
    assert decision.code is ReasonCode.TRAIL_ARMED
    assert decision.trail is not None
    assert (decision.trail.armed, decision.trail.peak) == (True, 104)


def test_a_deal_edited_to_a_fixed_target_forgets_the_trail() -> None:
    held = deal(100, trail=TrailState(armed=True, peak=D(105)))
    assert look(settings(), held, 101).trail == TrailState()


# Conditions ---------------------------------------------------------------------------------------------------------


def changed(operator: str) -> dict[str, Any]:
    item = {"indicator": "price_change", "timeframe": "1m", "operator": operator, "value": 0}
    return {"items": [item]}


UP = {Timeframe.M1: recent([100.0, 101.0])}
DOWN = {Timeframe.M1: recent([100.0, 99.0])}


@both
def test_close_conditions_need_the_floor_as_well(direction: Direction) -> None:
    chosen = settings(take_profit_mode="conditions", close_conditions=changed(">"))
    held = deal(100, direction=direction)
    assert look(chosen, held, away(direction, 2), series=UP).code is ReasonCode.HOLDING
    assert look(chosen, held, away(direction, 4), series=DOWN).code is ReasonCode.CLOSE_CONDITIONS_NOT_MET
    decision = look(chosen, held, away(direction, 4), series=UP)
    assert (decision.purpose, decision.exit_reason) == (Purpose.CLOSE_CONDITION, ExitReason.CLOSE_CONDITION)
    assert decision.evidence["checks"][0]["state"] == "met"


def test_conditions_mode_without_conditions_is_the_floor_alone() -> None:
    assert look(settings(take_profit_mode="conditions"), deal(100), 103).exit_reason is ExitReason.TAKE_PROFIT


def test_without_a_percentage_the_conditions_alone_close() -> None:
    chosen = settings(take_profit=None, take_profit_mode="conditions", close_conditions=changed("<"))
    assert look(chosen, deal(100), 99, series=DOWN).action is Action.CLOSE


def test_close_conditions_also_close_a_trailing_deal_above_its_target() -> None:
    chosen = settings(take_profit_mode="trailing", close_conditions=changed(">"))
    assert look(chosen, deal(100), 104, series=UP).code is ReasonCode.CLOSE_CONDITION


def test_f38_a_close_crossing_counts_once() -> None:
    chosen = settings(take_profit_mode="conditions", close_conditions=changed("crosses_above"))
    series = {Timeframe.M1: recent([102.0, 101.0, 103.0, 104.0])}
    judged = int(NOW.timestamp()) - 180
    first = look(chosen, deal(100, since={"1m": judged}), 104, series=series)
    assert first.action is Action.CLOSE
    again = look(chosen, deal(100, since=first.evaluated_until), 104, series=series)
    assert again.action is Action.NONE


# Stops --------------------------------------------------------------------------------------------------------------


@both
def test_f45_a_stop_loss_goes_to_market_at_a_loss(direction: Direction) -> None:
    chosen = settings(stop_loss=15)
    held = deal(100, direction=direction, levels_filled=5)
    assert look(chosen, held, away(direction, "-14.9")).action is Action.NONE
    decision = look(chosen, held, away(direction, "-15"))
    assert (decision.purpose, decision.exit_reason) == (Purpose.STOP_LOSS, ExitReason.STOP_LOSS)
    assert decision.order is not None
    assert (decision.order.side, decision.order.order_type) == (direction.exit_side, OrderType.MARKET)


@both
def test_f45_a_trailing_stop_never_loosens(direction: Direction) -> None:
    chosen = settings(trailing_stop=15, take_profit=500 if direction is LONG else 90)
    held = deal(100, direction=direction, levels_filled=5)
    quiet = follow(chosen, held, [away(direction, pct) for pct in (0, 20, 10)])
    assert quiet.trail is not None
    assert quiet.trail.best == away(direction, 20)
    stop = quiet.trail.stop
    assert stop is not None
    wider = replace(held, trail=quiet.trail)
    assert (
        look(settings(trailing_stop=50, take_profit=chosen.take_profit), wider, away(direction, 10)).trail
        == quiet.trail
    )
    assert look(chosen, wider, stop).exit_reason is ExitReason.TRAILING_STOP


@examples(max_examples=60)
@given(st.sampled_from(Direction), st.lists(st.decimals("70", "140", places=2), min_size=1, max_size=25))
def test_f45_stops_only_ever_tighten(direction: Direction, prices: list[Decimal]) -> None:
    chosen = settings(trailing_stop=20, take_profit=90, take_profit_mode="trailing")
    held, before = deal(100, direction=direction, levels_filled=5), None
    for price in prices:
        decision = look(chosen, held, price)
        trail = decision.trail
        assert trail is not None
        assert trail.stop is not None
        if before is not None:
            assert direction.sign * (trail.stop - before) >= 0
        before, held = trail.stop, replace(held, trail=trail)


def test_a_stop_with_a_time_out_has_to_hold() -> None:
    chosen = settings(stop_loss=15, stop_timeout_seconds=60)
    held = deal(100, levels_filled=5)
    first = look(chosen, held, 84)
    assert first.code is ReasonCode.STOP_WAITING
    assert first.trail is not None
    later = NOW + timedelta(seconds=60)
    waiting = replace(held, trail=TrailState.from_json(first.trail.to_json()))
    assert manage(chosen, waiting, view(84, at=later), later, FREE).code is ReasonCode.STOP_LOSS
    recovered = look(chosen, waiting, 90)
    assert recovered.trail is not None
    assert recovered.trail.breached_at is None


def test_the_longest_hold_sells_at_any_profit() -> None:
    held = deal(100, opened_at=NOW - timedelta(hours=5))
    assert look(settings(max_hold_hours=6), held, 99).action is Action.NONE
    decision = look(settings(max_hold_hours=5), held, 99)
    assert decision.exit_reason is ExitReason.MAX_HOLD
    assert "open for 5.0 h" in decision.message


def test_the_stop_loss_comes_before_everything_else() -> None:
    chosen = settings(stop_loss=15, max_hold_hours=1, trailing_stop=15)
    assert look(chosen, deal(100), 84).code is ReasonCode.STOP_LOSS


# What is not known, what is under way -------------------------------------------------------------------------------


def test_f34_without_a_price_nothing_is_done_not_even_a_stop() -> None:
    decision = look(settings(stop_loss=15), deal(100), None)
    assert (decision.action, decision.code) == (Action.NONE, ReasonCode.MISSING_PRICE)
    assert decision.trail is None


def test_an_old_price_takes_no_profit_but_still_stops() -> None:
    at = NOW - timedelta(seconds=90)
    assert look(settings(), deal(100), 110, at=at).code is ReasonCode.STALE_PRICE
    assert look(settings(), deal(100), 90, at=at).code is ReasonCode.STALE_PRICE
    assert look(settings(stop_loss=15), deal(100), 80, at=at).code is ReasonCode.STOP_LOSS
    assert look(settings(stop_loss=15), deal(100), 80, at=NOW - timedelta(hours=1)).code is ReasonCode.STALE_PRICE


def test_a_stop_needs_no_balance_and_no_candles() -> None:
    held = deal(100, wallet_base=None, free_quote=None)
    assert look(settings(stop_loss=15, add_conditions=changed(">")), held, 80).action is Action.CLOSE


def test_f3_nothing_of_the_kind_while_an_order_is_under_way() -> None:
    closing, adding = deal(100, orders=(working(PROFIT),)), deal(100, orders=(working(SAFETY),))
    assert look(settings(), closing, 110).code is ReasonCode.ORDER_PENDING
    assert look(settings(), adding, 97).code is ReasonCode.ORDER_PENDING
    assert look(settings(stop_loss=15), closing, 80).code is ReasonCode.ORDER_PENDING
    assert look(settings(stop_loss=15), adding, 80).code is ReasonCode.STOP_LOSS


def test_f17_a_resting_close_is_left_alone_except_by_a_stop() -> None:
    resting = working(Purpose.LIMIT_CLOSE, limit_price=D(120), by_person=True, placed_at=NOW - timedelta(days=1))
    held = deal(100, orders=(resting,), wallet_base=D(0))
    for price in (110, 125, 97):
        decision = look(settings(), held, price)
        assert (decision.action, decision.code) == (Action.NONE, ReasonCode.LIMIT_RESTING)
    decision = look(settings(stop_loss=15), held, 80)
    assert decision.cancels == (Purpose.LIMIT_CLOSE,)
    assert decision.order is not None
    assert decision.order.base_size == 1


# Remainders ---------------------------------------------------------------------------------------------------------


def test_f20_a_later_close_sells_only_what_is_left() -> None:
    sums = holding(fill(LONG, BASE, 100, 1), fill(LONG, PROFIT, 103, "0.4", minute=1))
    decision = look(settings(), deal(sums), 103)
    assert decision.order is not None
    assert decision.order.base_size == D("0.6")


def test_f25_fees_in_base_are_not_sold_and_the_rest_is_floored() -> None:
    sums = holding(fill(LONG, BASE, 100, 1, fee="0.0061", fee_currency="ETH"))
    terms = replace(TERMS, base_increment=D("0.001"), min_base=D("0.001"))
    decision = look(settings(), deal(sums), 110, terms=terms)
    assert decision.order is not None
    assert decision.order.base_size == D("0.993")


def test_what_the_wallet_lacks_is_not_sold_and_said() -> None:
    decision = look(settings(), deal(100, wallet_base=D("0.9")), 110)
    assert decision.order is not None
    assert decision.order.base_size == D("0.9")
    assert "wallet holds 0.9 of the 1 ETH recorded" in decision.message


def test_f29_a_remainder_is_closed_as_dust_without_an_order() -> None:
    sums = holding(fill(LONG, BASE, 100, "1.000001"), fill(LONG, PROFIT, 110, 1, minute=1))
    decision = look(settings(), deal(sums), 110)
    assert (decision.action, decision.order, decision.exit_reason) == (Action.CLOSE, None, ExitReason.DUST)


def test_f27_a_deal_too_small_to_sell_is_refused_with_the_minimum() -> None:
    terms = replace(TERMS, min_quote=D(500))
    decision = look(settings(), deal(100), 110, terms=terms)
    assert (decision.action, decision.code) == (Action.NONE, ReasonCode.BELOW_MINIMUM)
    assert "minimum of 500 USD" in decision.message


@given(st.decimals("0.01", "500", places=8), st.sampled_from([D(1), D("0.01"), D("0.00000001")]))
def test_f24_never_more_is_sold_than_held(base: Decimal, increment: Decimal) -> None:
    terms = ProductTerms("ETH-USD", "ETH", "USD", D("0.01"), increment, increment, D("0.01"))
    decision = look(settings(), deal(100, base=base), 110, terms=terms)
    if decision.order is not None:
        assert decision.order.base_size <= base
        assert decision.order.base_size % increment == 0


# Safety orders ------------------------------------------------------------------------------------------------------


@both
def test_f45_a_safety_order_is_bought_when_its_price_is_reached(direction: Direction) -> None:
    held = deal(100, direction=direction)
    assert look(settings(), held, away(direction, "-1.99")).action is Action.NONE
    decision = look(settings(), held, away(direction, -2))
    assert (decision.action, decision.purpose) == (Action.ADD, SAFETY)
    order = decision.order
    assert order is not None
    assert (order.side, order.levels) == (direction.entry_side, 1)
    assert abs(order.quote_size - 50) < D("0.000002")


@both
def test_f45_levels_passed_at_once_are_one_order_for_that_many_levels(direction: Direction) -> None:
    chosen = settings(base_order_size=5, volume_scale=2, deviation_reference="base_order")
    decision = look(chosen, deal(100, direction=direction), away(direction, -7))
    assert decision.order is not None
    assert decision.order.levels == 3
    assert abs(decision.order.quote_size - (50 + 100 + 200)) < D("0.000002")
    assert decision.evidence["levels"] == [1, 2, 3]
    assert "safety orders 1-3" in decision.message


@both
def test_f37_sizes_follow_the_filled_base_order_and_the_volume_scale(direction: Direction) -> None:
    sums = holding(
        fill(direction, BASE, 100, "0.8"),
        fill(direction, SAFETY, away(direction, -2), "7", minute=1),
        direction=direction,
    )
    chosen = settings(volume_scale="1.5", deviation_reference="base_order")
    decision = look(chosen, deal(sums, direction=direction, levels_filled=1), away(direction, -4))
    assert decision.order is not None
    assert abs(decision.order.quote_size - D("80") * D("0.5") * D("1.5")) < D("0.000002")


def test_a_safety_order_is_checked_at_the_price_it_pays() -> None:
    assert look(settings(), deal(100), 98, spread="0.1").action is Action.NONE


def test_the_ladder_ends() -> None:
    assert look(settings(), deal(100, levels_filled=5), 50).code is ReasonCode.HOLDING


def test_add_conditions_are_asked_after_the_price() -> None:
    chosen = settings(add_conditions=changed(">"))
    assert look(chosen, deal(100), 99, series=UP).code is ReasonCode.HOLDING
    waiting = look(chosen, deal(100), 97, series=DOWN)
    assert waiting.code is ReasonCode.ADD_CONDITIONS_NOT_MET
    assert "reached safety order 1" in waiting.message
    assert look(chosen, deal(100), 97, series=UP).action is Action.ADD


def test_the_ceiling_is_not_exceeded() -> None:
    held = deal(100, budget_quote=D(140))
    refused = look(settings(), held, 97)
    assert refused.code is ReasonCode.CEILING_REACHED
    assert "40 of the deal's 140 USD" in refused.message
    fits_one = look(settings(deviation_reference="base_order"), deal(100, budget_quote=D(160)), 95)
    assert fits_one.order is not None
    assert fits_one.order.levels == 1


def test_the_last_safety_order_shrinks_by_what_fees_and_slippage_took() -> None:
    decision = look(settings(), deal(100, budget_quote=D(149)), 97)
    assert decision.order is not None
    assert D(48) < decision.order.quote_size <= D("49.000001")


def test_a_short_purse_buys_fewer_levels_or_none() -> None:
    chosen = settings(deviation_reference="base_order")
    one = look(chosen, deal(100, free_quote=D(60)), 95)
    assert one.order is not None
    assert one.order.levels == 1
    none = look(chosen, deal(100, free_quote=D(10)), 95)
    assert none.code is ReasonCode.INSUFFICIENT_BALANCE
    assert "10 USD is free" in none.message


def test_f34_an_unknown_balance_buys_nothing() -> None:
    assert look(settings(), deal(100, free_quote=None), 97).code is ReasonCode.MISSING_BALANCE


def test_f27_a_safety_order_below_the_minimum_is_refused() -> None:
    decision = look(settings(), deal(100), 97, terms=replace(TERMS, min_quote=D(60)))
    assert decision.code is ReasonCode.BELOW_MINIMUM


def test_the_golden_ladder_from_first_to_last() -> None:
    """Prices fall through the golden ladder and recover: five safety orders, each once, then the profit."""
    chosen = settings(**GOLDEN)
    fills, levels = [fill(LONG, BASE, 100, "0.1")], 0
    for price in ("98.5", "98", "96", "95.6", "92.72", "92.72", "89.264", "85.2", "85.1168", "70"):
        decision = look(chosen, deal(holding(*fills), levels_filled=levels, budget_quote=D(142)), price)
        if decision.order is not None:
            fills.append(fill(LONG, SAFETY, price, decision.order.base_size, minute=len(fills)))
            levels += decision.order.levels
    sums = holding(*fills)
    assert (levels, len(fills)) == (5, 6)
    assert abs(sums.entry_quote - D("141.875")) < D("0.00001")
    assert sums.average_price is not None
    assert abs(sums.average_price - D("90.109483")) < D("0.000001")
    held = deal(sums, levels_filled=levels)
    assert look(chosen, held, "91.4611").action is Action.NONE
    assert look(chosen, held, "91.4612").action is Action.CLOSE


@both
def test_f45_a_waiting_deal_says_what_it_waits_for(direction: Direction) -> None:
    decision = look(settings(stop_loss=20), deal(100, direction=direction), 100)
    target, rung, stop = ("103", "98", "80") if direction is LONG else ("97", "102", "120")
    assert f"target {target}" in decision.message
    assert f"next safety order at {rung}" in decision.message
    assert f"stop at {stop}" in decision.message


def test_deciding_changes_nothing_it_was_given() -> None:
    held = deal(100, trail=TrailState(armed=True, peak=D(104)))
    copy = replace(held)
    first, second = (look(settings(take_profit_mode="trailing"), held, 105) for _ in range(2))
    assert held == copy
    for name in ("action", "code", "message", "evidence", "order", "trail", "evaluated_until"):
        assert getattr(first, name) == getattr(second, name)
    assert first.order is None
    assert Side.BUY is LONG.entry_side


def test_what_was_worked_out_for_a_deal_is_worked_out_anew_when_anything_changes() -> None:
    held = deal(100)
    assert look(settings(), held, 103).action is Action.CLOSE
    assert look(settings(take_profit=4), held, 103).action is Action.NONE
    assert look(settings(), held, 103, COSTLY).action is Action.NONE
    assert look(settings(), held, 97).action is Action.ADD
    assert look(settings(), replace(held, levels_filled=1), 97).action is Action.NONE
    assert look(settings(), held, 103).action is Action.CLOSE


def test_a_message_is_the_same_whenever_and_wherever_it_is_asked_for() -> None:
    decisions = [look(settings(stop_loss=15), deal("99.99", levels_filled=n), price) for n, price in ((0, 97), (5, 80))]
    decisions.append(look(settings(), deal("99.99"), "100.123456789"))
    first = [(decision.message, decision.evidence) for decision in decisions]
    with localcontext() as narrow:
        narrow.prec = 12
        assert [(decision.message, decision.evidence) for decision in decisions] == first
