"""Faults of signals and frozen settings, tried on the engine as it runs: with a database, looks and restarts."""

from __future__ import annotations

from typing import Any

import pytest

from bots import market_views
from bots.market_needs import needs
from bots.models import Bot, BotProduct
from positions.models import Position
from positions.states import PositionStatus
from tests.bots.world import World
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db(transaction=True)

PAIR = "AAA-USD"


def rule(operator: str, value: float, timeframe: str = "1m") -> dict[str, Any]:
    parts = {"indicator": "price_change", "timeframe": timeframe, "operator": operator, "value": value}
    return {"items": [parts]}


def opened(world: World, bot: Bot, minute: int, *, restarted: bool = False) -> int:
    """Look, after a restart if asked for, and return how many deals there are."""
    if restarted:
        market_views.forget()
    world.look(minute, bot)
    return len(world.deals())


def change(bot: Bot, **settings: Any) -> None:
    """Save other settings of the bot, as its owner may at any time."""
    with detached("test data"):
        row = Bot.objects.get(pk=bot.pk)
        row.settings = row.settings | settings
        row.settings_version += 1
        row.save()


def test_f38_a_crossing_opens_one_deal_however_often_one_looks() -> None:
    world = World({PAIR: [100.0, 99.0, 98.0, 98.5, 99.0, 99.0]})
    bot = world.bot(open_conditions=rule("crosses_above", 0), max_deals_per_pair=5, take_profit="50")
    assert [opened(world, bot, minute) for minute in (2, 3, 3, 3, 4, 4, 5)] == [0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("restarted", [False, True])
def test_f39_a_crossing_is_caught_up_with_after_two_candles_and_across_a_restart(restarted: bool) -> None:
    world = World({PAIR: [100.0, 99.0, 98.0, 98.5, 99.0, 99.5, 100.0]})
    bot = world.bot(open_conditions=rule("crosses_above", 0), max_deals_per_pair=5, take_profit="50")
    assert opened(world, bot, 2) == 0
    with detached("test looks"):
        assert BotProduct.objects.get(bot=bot).evaluated_until == {"1m": int(world.moment(2).timestamp()) - 60}
    assert opened(world, bot, 4, restarted=restarted) == 1
    assert opened(world, bot, 5, restarted=restarted) == 1


def test_f39_a_crossing_of_long_ago_opens_nothing_after_a_restart() -> None:
    world = World({PAIR: [100.0, 99.0, 98.0, *(98.5 + 0.1 * index for index in range(12))]})
    bot = world.bot(open_conditions=rule("crosses_above", 0), take_profit="50")
    assert opened(world, bot, 2) == 0
    assert opened(world, bot, 12, restarted=True) == 0


def test_f43_a_deal_is_fed_and_judged_by_the_timeframes_it_was_opened_with() -> None:
    world = World({PAIR: [100.0, 100.0, 100.0, 101.5, 101.5]})
    frozen = {"close_conditions": rule(">", 1), "take_profit_mode": "conditions"}
    bot = world.bot(**frozen)
    world.look(1, bot)
    change(bot, open_conditions=rule(">", 90, "4h"), close_conditions=rule(">", 1, "4h"))
    assert "1m" in needs()["replay"][PAIR]
    world.look(2, bot)
    assert [deal.status for deal in world.deals()] == [PositionStatus.OPEN]
    world.look(3, bot)
    (deal,) = world.deals()
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, "close_condition")


def test_f43_a_stopped_bot_still_feeds_the_timeframes_of_its_open_deal() -> None:
    world = World({PAIR: [100.0, 100.0, 100.0]})
    bot = world.bot(close_conditions=rule(">", 1), take_profit_mode="conditions")
    world.look(1, bot)
    change(bot, close_conditions={"items": []}, take_profit_mode="fixed")
    with detached("test data"):
        Bot.objects.filter(pk=bot.pk).update(status=Bot.Status.STOPPED)
    assert set(needs()["replay"][PAIR]) == {"1m"}


def test_f44_an_armed_trail_is_still_followed_below_its_zone_after_a_restart() -> None:
    prices = [100.0, 100.0, 104.0, 102.5, 102.2, 101.5]
    world = World({PAIR: prices})
    bot = world.bot(take_profit="3", take_profit_mode="trailing", trailing_deviation="2", max_safety_orders=0)
    for minute in (1, 2, 3):
        world.look(minute, bot)
    with detached("test looks"):
        assert Position.objects.get().trail["armed"] is True
    market_views.forget()
    world.look(4, bot)
    assert [deal.status for deal in world.deals()] == [PositionStatus.OPEN]
    world.look(5, bot)
    deal = world.deals()[0]
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, "trailing_take_profit")
