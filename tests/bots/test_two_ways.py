"""Bots that sell first, bots that trade both ways, and what is left alone for deals and for such bots."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bots import loading, market_views
from bots.models import Bot
from positions import execution
from positions.execution import Intent
from positions.states import Direction, PositionStatus, Purpose
from tests.bots.world import World
from tests.factories import AccountFactory, PaperTermsFactory
from tradebot.core.errors import OrderRefused
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db(transaction=True)

COINS = {"USD": 10_000, "AAA": 100}
BOTH = {"direction": "both", "max_safety_orders": 0, "take_profit": "1"}


def crossing(operator: str, value: float) -> dict[str, Any]:
    return {"items": [{"indicator": "price_change", "timeframe": "1m", "operator": operator, "value": value}]}


def free(world: World, currency: str, minute: int) -> Decimal | None:
    """What new entries of the account may use."""
    with world.at(minute) as now:
        found = loading.load((), now, [world.account.pk])
        found.see(market_views.build(found.products, {}, now))
        return found.free(world.account.pk, currency)


def test_f45_a_short_sells_adds_and_buys_back() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 102.1, 101.5, 99.0, 99.0]}, balances=COINS)
    bot = world.bot(direction="short", cooldown_seconds=3600)
    for minute in range(1, 6):
        world.look(minute, bot)
    (deal,) = world.deals()
    assert (deal.direction, deal.status, deal.safety_orders_filled) == ("short", PositionStatus.CLOSED, 1)
    assert [(order.purpose, order.side) for order in world.orders()] == [
        ("base_order", "sell"),
        ("safety_order", "sell"),
        ("take_profit", "buy"),
    ]
    assert deal.realised_quote > 0


def test_both_sides_open_each_with_its_share_and_its_own_limits() -> None:
    world = World({"AAA-USD": [100.0] * 4}, balances=COINS)
    bot = world.bot(**BOTH, long_share_pct="30", max_active_deals=1, base_order_type="percent", base_order_size="100")
    world.look(1, bot)
    assert [(deal.direction, deal.budget_quote) for deal in world.deals()] == [("long", 1500)]
    world.look(2, bot)  # a pair is opened once a look
    world.look(3, bot)
    assert [(deal.direction, deal.budget_quote) for deal in world.deals()] == [("long", 1500), ("short", 3500)]


def test_each_side_remembers_for_itself() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 101.0, 101.0]}, balances=COINS)
    bot = world.bot(**BOTH, open_conditions=crossing("crosses_below", -0.5))  # mirrored: crosses above 0.5
    world.look(2, bot)
    pair = world.pair(bot)
    assert pair.last_code == pair.short_code == "conditions_not_met"
    assert "crosses below -0.5" in pair.last_message
    assert "crosses above 0.5" in pair.short_message
    closed = int(world.moment(2).timestamp()) - 60
    assert pair.evaluated_until == {"1m": closed, "short 1m": closed}
    world.look(3, bot)
    pair = world.pair(bot)
    assert (pair.last_code, pair.short_code) == ("conditions_not_met", "opening")
    assert pair.evaluated_until == {"1m": closed + 60, "short 1m": closed + 60}
    assert [deal.direction for deal in world.deals()] == ["short"]


def test_a_bot_of_one_direction_uses_the_plain_columns() -> None:
    world = World({"AAA-USD": [100.0] * 4}, balances=COINS)
    bot = world.bot(direction="short", open_conditions=crossing("crosses_above", 0.5))
    world.look(2, bot)
    pair = world.pair(bot)
    assert (pair.last_code, pair.short_code) == ("conditions_not_met", "")
    assert list(pair.evaluated_until) == ["1m"]


def test_f38_a_crossing_of_one_side_is_spent_whatever_the_other_side_does() -> None:
    closes = [100.0, 100.0, 101.0, 101.0, 100.0, 101.0]
    world = World({"AAA-USD": closes}, balances=COINS)
    settings = {**BOTH, "take_profit": "50", "max_active_deals": 9, "max_deals_per_pair": 9}
    bot = world.bot(**settings, open_conditions=crossing("crosses_below", -0.5))
    for minute in (1, 2, 2, 3, 3, 4, 4, 5, 5):
        world.look(minute, bot)
    assert [deal.direction for deal in world.deals()] == ["short", "long", "short"]


# What is spoken for ---------------------------------------------------------------------------------------------------


def test_f36_base_that_open_longs_hold_is_not_sold_short() -> None:
    world = World({"AAA-USD": [100.0] * 5})
    long = world.bot(max_safety_orders=0, take_profit="50")
    short = world.bot(direction="short", max_safety_orders=0)
    world.look(1, long)
    assert world.deals()[0].base_held == 1
    world.look(2, short)
    assert len(world.deals()) == 1
    assert world.pair(short).last_code == "insufficient_balance"
    assert free(world, "AAA", 2) == 0


def test_quote_that_open_shorts_need_to_buy_back_is_not_free() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 110.0, 90.0]}, balances={"USD": 0, "AAA": 5}, fees=True)
    short = world.bot(direction="short", max_safety_orders=0, take_profit="50")
    world.look(1, short)
    (deal,) = world.deals()
    received = deal.quote_received - deal.fees_quote
    assert received == Decimal("99.4")
    assert free(world, "USD", 2) == 0  # 100 at the price sold at, with the fee of buying back
    assert free(world, "USD", 4) == 0  # cheaper now: at least what the sale brought
    long = world.bot(max_safety_orders=0, base_order_size="50")
    world.look(2, long)
    assert len(world.deals()) == 1
    assert world.pair(long).last_code == "insufficient_balance"


def test_the_need_of_a_short_grows_with_the_price() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 150.0]}, balances={"USD": 1_000, "AAA": 5})
    world.look(1, world.bot(direction="short", max_safety_orders=0, take_profit="50"))
    assert free(world, "USD", 2) == 1_000
    assert free(world, "USD", 3) == 950


def test_f34_without_a_price_what_a_short_needs_is_not_known() -> None:
    world = World({"AAA-USD": [100.0] * 3, "BBB-USD": [100.0] * 9}, balances=COINS)
    world.look(1, world.bot("AAA-USD", direction="short", max_safety_orders=0))
    assert free(world, "USD", 7) is None
    long = world.bot("BBB-USD")
    world.look(7, long)
    assert world.pair(long, "BBB-USD").last_code == "missing_balance"


def test_f49_another_accounts_deals_and_bots_take_nothing() -> None:
    world = World({"AAA-USD": [100.0] * 4}, balances={"USD": 150, "AAA": 5})
    other = AccountFactory(exchange="replay", balances={"USD": 150, "AAA": 2})
    PaperTermsFactory(account=other, slippage_pct=0, maker_fee_pct=0, taker_fee_pct=0)
    world.look(1, world.bot(**BOTH, account=other), world.bot(direction="short", max_safety_orders=0, account=other))
    world.look(2, world.bot(max_safety_orders=0))
    assert world.deals(account=world.account)[0].direction == Direction.LONG
    assert free(world, "USD", 2) == 50


# Reservations ---------------------------------------------------------------------------------------------------------


def both_ways(world: World, budget: int, **settings: Any) -> Bot:
    """A running bot that trades both ways, has ``budget`` and whose rule does not hold."""
    bot = world.bot(**{**BOTH, **settings}, open_conditions=crossing("crosses_below", -50))
    with detached("test data"):
        Bot.objects.filter(pk=bot.pk).update(budget_fixed=budget)
    return bot


def test_the_quote_share_of_a_bot_that_trades_both_ways_is_reserved() -> None:
    world = World({"AAA-USD": [100.0] * 6}, balances={"USD": 1_000, "AAA": 100})
    keeper, other = both_ways(world, 1_900), world.bot(max_safety_orders=0)  # 950 for longs, 9.5 AAA for shorts
    world.look(1, keeper, other)
    pair = world.pair(other)
    assert (pair.last_code, pair.last_evidence["reserved"], pair.last_evidence["free"]) == ("reserved", "950", "1000")
    assert pair.last_message == f"1000 USD is free, of which 950 USD is reserved for “{keeper.name}”"
    assert world.deals() == []
    with detached("test data"):
        Bot.objects.filter(pk=keeper.pk).update(status=Bot.Status.STOPPED)
    world.look(2, other)
    assert [deal.bot_id for deal in world.deals()] == [other.pk]


def test_the_base_share_of_a_bot_that_trades_both_ways_is_reserved() -> None:
    world = World({"AAA-USD": [100.0] * 6}, balances={"USD": 1_000, "AAA": 10})
    both_ways(world, 1_900)  # not looked at: it need not be due
    short = world.bot(direction="short", max_safety_orders=0)
    world.look(1, short)
    pair = world.pair(short)
    assert (pair.last_code, pair.last_evidence["reserved"], pair.last_evidence["currency"]) == (
        "reserved",
        "9.5",
        "AAA",
    )
    assert world.deals() == []


def test_what_such_a_bot_has_used_is_reserved_no_more() -> None:
    world = World({"AAA-USD": [100.0] * 6}, balances={"USD": 1_000, "AAA": 100})
    keeper = world.bot(**{**BOTH, "take_profit": "50"}, base_order_size="500")
    with detached("test data"):
        Bot.objects.filter(pk=keeper.pk).update(budget_fixed=1_000)
    other = world.bot(max_safety_orders=0)
    world.look(1, keeper, other)
    assert [(deal.bot_id, deal.direction) for deal in world.deals()] == [(keeper.pk, "long"), (other.pk, "long")]


def test_a_shortage_that_no_reservation_explains_is_called_one() -> None:
    world = World({"AAA-USD": [100.0] * 6}, balances={"USD": 60, "AAA": 100})
    both_ways(world, 20)
    other = world.bot(max_safety_orders=0)
    world.look(1, other)
    assert world.pair(other).last_code == "insufficient_balance"


def test_between_two_bots_that_trade_both_ways_the_older_one_goes_first() -> None:
    world = World({"AAA-USD": [100.0] * 6}, balances={"USD": 150, "AAA": 0})
    older, newer = world.bot(**BOTH), world.bot(**BOTH)
    with detached("test data"):
        Bot.objects.update(budget_fixed=200)
    world.look(1, newer)
    assert world.pair(newer).last_code == "reserved"
    world.look(2, older)
    assert [deal.bot_id for deal in world.deals()] == [older.pk]


def test_open_deals_of_other_bots_may_add_with_what_is_reserved() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 97.0, 97.0]}, balances={"USD": 300, "AAA": 100})
    other = world.bot(max_safety_orders=1, take_profit="50", max_active_deals=1)
    world.look(1, other)
    both_ways(world, 1_000)
    world.look(2, other)
    assert [order.purpose for order in world.orders()] == ["base_order", "safety_order"]


def test_the_intent_itself_leaves_alone_what_deals_hold() -> None:
    """Under the account's lock, whatever was decided before."""
    world = World({"AAA-USD": [100.0] * 5})
    world.look(1, world.bot(max_safety_orders=0, take_profit="50"))
    with world.at(2), pytest.raises(OrderRefused) as refusal:
        execution.intend_open(
            account=world.account,
            bot=None,
            product=world.products["AAA-USD"],
            direction=Direction.SHORT,
            frozen_settings={},
            settings_version=1,
            strategy="indicator_dca",
            budget_quote=Decimal(100),
            max_active_deals=1,
            max_deals_per_pair=1,
            intent=Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=Decimal("0.5")),
        )
    assert (refusal.value.code, refusal.value.detail["kept"]) == ("insufficient_balance", 1)


def test_the_number_of_queries_does_not_grow_with_bots_that_trade_both_ways() -> None:
    world = World({"AAA-USD": [100.0] * 20}, balances=COINS)

    def queries(count: int, minute: int) -> int:
        bots = [both_ways(world, 10) for _ in range(count)]
        world.look(minute, *bots)
        with CaptureQueriesContext(connection) as captured:
            result = world.look(minute + 1, *bots)
        assert (result.bots, result.failed) == (count, 0)
        return len(captured)

    assert queries(2, 2) == queries(12, 6) <= 40


def test_f14_both_ways_a_look_done_twice_at_the_same_moment_does_nothing_more() -> None:
    closes = [100.0, 100.0, 98.0, 101.0, 99.0, 103.0, 97.0, 100.0]
    world = World({"AAA-USD": closes}, balances=COINS)
    bot = world.bot(direction="both", max_safety_orders=1, take_profit="1", safety_order_type="fixed")
    for minute in range(1, len(closes)):
        world.look(minute, bot)
        before = world.fills()
        world.look(minute, bot)
        assert world.fills() == before
    assert {deal.direction for deal in world.deals()} == {"long", "short"}
