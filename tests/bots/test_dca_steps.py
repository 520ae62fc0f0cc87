"""Taking profit in steps, in both directions: what is due at which price, and what becomes of small parts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.strategies.base import Action, DealView, Decision, FeeRates, ReasonCode
from bots.strategies.dca_manage import take_profit_price
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.describe import next_actions, settings_facts
from bots.strategies.indicator_dca import manage
from positions.ledger import FillFact, Totals
from positions.states import Direction, ExitReason, OrderType, Purpose
from tests.bots.building import COSTLY, FREE, NOW, TERMS, D, deal, fill, holding, quote, settings, view, working

LONG, SHORT = Direction.LONG, Direction.SHORT
BASE, SAFETY, PROFIT = Purpose.BASE_ORDER, Purpose.SAFETY_ORDER, Purpose.TAKE_PROFIT
both = pytest.mark.parametrize("direction", Direction)


def steps(*parts: tuple[Any, Any], **changes: Any) -> DcaSettings:
    return settings(take_profit_steps=[{"profit_pct": p, "share_pct": s} for p, s in parts], **changes)


THREE = steps((2, 30), (4, 30), (6, 40))


def away(direction: Direction, pct: Any) -> Decimal:
    return 100 + direction.sign * D(pct)


def look(chosen: DcaSettings, held: DealView, price: Any, fees: FeeRates = FREE, **more: Any) -> Decision:
    return manage(chosen, held, view(price, **more), NOW, fees)


def sold(direction: Direction, *parts: tuple[Any, Any], base: Any = 1) -> Totals:
    """Return a deal of ``base`` at 100 of which ``parts`` (base, price) are sold."""
    exits: list[FillFact] = [
        fill(direction, PROFIT, price, part, minute=number) for number, (part, price) in enumerate(parts, start=1)
    ]
    return holding(fill(direction, BASE, 100, base), *exits, direction=direction)


@both
def test_f45_each_step_sells_its_share_at_its_price(direction: Direction) -> None:
    held = deal(sold(direction), direction=direction)
    assert look(THREE, held, away(direction, "1.99")).code is ReasonCode.HOLDING
    first = look(THREE, held, away(direction, 2))
    assert (first.action, first.purpose, first.exit_reason) == (Action.CLOSE, PROFIT, ExitReason.TAKE_PROFIT)
    assert first.order is not None
    assert (first.order.base_size, first.order.side) == (D("0.3"), direction.exit_side)
    assert "reached step 1 of 3" in first.message


@both
def test_f20_a_step_that_is_sold_is_not_sold_again(direction: Direction) -> None:
    after = deal(sold(direction, ("0.3", away(direction, 2))), direction=direction)
    assert look(THREE, after, away(direction, 3)).action is Action.NONE
    second = look(THREE, after, away(direction, 4)).order
    assert second is not None
    assert second.base_size == D("0.3")
    partly = deal(sold(direction, ("0.1", away(direction, 2))), direction=direction)
    rest = look(THREE, partly, away(direction, 2)).order
    assert rest is not None
    assert rest.base_size == D("0.2")


@both
def test_steps_passed_at_once_are_one_order_and_the_last_sells_everything(direction: Direction) -> None:
    held = deal(sold(direction, base="1.23456789"), direction=direction)
    jump = look(THREE, held, away(direction, 5)).order
    assert jump is not None
    assert jump.base_size == D("0.74074073")
    last = look(THREE, held, away(direction, 6)).order
    assert last is not None
    assert last.base_size == D("1.23456789")


@both
def test_a_safety_order_makes_an_earlier_step_due_again(direction: Direction) -> None:
    fills = [
        fill(direction, BASE, 100, 1),
        fill(direction, PROFIT, away(direction, 2), "0.3", minute=1),
        fill(direction, SAFETY, away(direction, -2), 1, minute=2),
    ]
    held = deal(holding(*fills, direction=direction), direction=direction, levels_filled=1)
    order = look(THREE, held, away(direction, "1.5")).order
    assert order is not None
    assert order.base_size == D("0.3")


def test_f27_a_part_below_the_minimum_waits_for_the_next_step() -> None:
    terms = replace(TERMS, min_quote=D(40))
    held = deal(sold(LONG))
    assert look(THREE, held, 102, terms=terms).code is ReasonCode.HOLDING
    second = look(THREE, held, 104, terms=terms).order
    assert second is not None
    assert second.base_size == D("0.6")
    roomy = look(steps((2, 30), (4, 20), (6, 50)), held, 104, terms=terms).order
    assert roomy is not None
    assert roomy.base_size == D("0.5")


def test_f29_a_rest_that_would_be_dust_is_sold_along() -> None:
    terms = replace(TERMS, min_quote=D(15))
    order = look(steps((2, 90), (4, 10)), deal(sold(LONG)), 102, terms=terms).order
    assert order is not None
    assert order.base_size == 1


@both
def test_f28_steps_are_net_of_both_fees(direction: Direction) -> None:
    paid = holding(fill(direction, BASE, 100, 1, fee="0.6"), direction=direction)
    held = deal(paid, direction=direction)
    assert look(THREE, held, away(direction, 3), COSTLY).action is Action.NONE
    assert look(THREE, held, away(direction, "3.3"), COSTLY).action is Action.CLOSE


@both
def test_steps_as_limit_orders_ask_for_the_mark(direction: Direction) -> None:
    chosen = steps((2, 50), (4, 50), take_profit_execution="limit")
    held = deal(sold(direction), direction=direction)
    order = look(chosen, held, away(direction, 2), spread="0.2").order
    assert order is not None
    assert (order.order_type, order.base_size, order.limit_price) == (OrderType.LIMIT, D("0.5"), away(direction, 2))
    resting = working(PROFIT, "0.5", limit_price=away(direction, "2.5"), age=60)
    moved = look(chosen, replace(held, orders=(resting,)), away(direction, "2.3"), spread="0.2")
    assert moved.code is ReasonCode.REPRICING
    waits = look(chosen, replace(held, orders=(resting,)), away(direction, 2), spread="0.2")
    assert waits.code is ReasonCode.LIMIT_RESTING


def test_a_partial_sale_cancels_the_machines_entries_and_the_whole_one_also_a_persons() -> None:
    orders = (
        working(SAFETY, "0.51020408", limit_price=98),
        working(Purpose.MANUAL_ADD, limit_price=90, by_person=True),
    )
    chosen = steps((2, 50), (4, 50), safety_order_execution="limit")
    held = deal(sold(LONG), orders=orders)
    assert look(chosen, held, 102).cancels == (SAFETY,)
    assert look(chosen, held, 104).cancels == (SAFETY, Purpose.MANUAL_ADD)


def test_the_next_target_is_the_first_step_that_is_not_sold() -> None:
    for parts, price in (((), 102), ((("0.3", 102),), 104), ((("0.6", 103),), 106), ((("0.29999", 102),), 104)):
        assert take_profit_price(THREE, deal(sold(LONG, *parts)), FREE) == price


def test_steps_read_as_facts_and_sentences() -> None:
    facts = {fact.name: fact.value for fact in settings_facts(THREE)}
    assert facts["take_profit_steps"] == "30 % at 2 %, 30 % at 4 %, 40 % at 6 %"
    assert "take_profit" not in facts
    lines = next_actions(THREE, deal(sold(LONG)), quote(100), FREE).lines
    assert "Takes profit in steps, fees included: 30 % at 102, 30 % at 104, 40 % at 106." in lines


@given(
    st.sampled_from(Direction),
    st.decimals("0.05", "50", places=6),
    st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True),
    st.sampled_from([D("0.00000001"), D("0.001"), D("0.5")]),
)
def test_f24_steps_never_sell_more_than_there_is_and_end_with_nothing(
    direction: Direction, base: Decimal, profits: list[int], increment: Decimal
) -> None:
    base = (base // increment) * increment
    if not base:
        return
    share = D(100) / len(profits)
    shares = [share.quantize(D(1))] * (len(profits) - 1)
    chosen = steps(*zip(sorted(profits), [*shares, 100 - sum(shares)], strict=True))
    terms = replace(TERMS, base_increment=increment, min_base=increment)
    fills, minute = [fill(direction, BASE, 100, base)], 0
    for profit in sorted(profits):
        sums = holding(*fills, direction=direction)
        if sums.is_flat:
            break
        order = look(chosen, deal(sums, direction=direction), away(direction, profit), terms=terms).order
        if order is None:
            continue
        assert 0 < order.base_size <= sums.remaining_base
        assert order.base_size % increment == 0
        minute += 1
        fills.append(fill(direction, PROFIT, away(direction, profit), order.base_size, minute=minute))
    assert holding(*fills, direction=direction).is_flat
