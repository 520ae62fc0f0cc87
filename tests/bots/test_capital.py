"""What a form says that an account may spend: the engine's own figures."""

from __future__ import annotations

from decimal import Decimal

import pytest

from accounts.access import acting_for
from bots import capital
from bots.capital import Purse
from bots.models import Bot
from tests.bots.world import World
from tests.factories import AccountFactory
from tests.positions.conftest import desk_outside
from tradebot.core import clock
from tradebot.core.errors import VenueUnavailable
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db(transaction=True)


def purse(world: World, minute: int, besides: Bot | None = None) -> Purse:
    with clock.at(world.moment(minute)), acting_for(world.owner):
        return capital.purse_of(world.account, "USD", besides)


def test_an_account_without_deals_may_spend_what_it_has() -> None:
    world = World({"AAA-USD": [100.0] * 4}, fees=True)
    found = purse(world, 1)
    assert (found.free, found.value, found.problem) == (10_000, 10_000, "")
    assert found.fee_rates.taker == Decimal("0.006")


def test_f31_open_deals_are_worth_something_but_not_free() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 110.0, 110.0]})
    world.look(1, world.bot(max_safety_orders=0, take_profit="50"))
    assert (purse(world, 2).free, purse(world, 2).value) == (9_900, 10_010)


def test_f31_what_a_resting_order_holds_is_still_the_accounts() -> None:
    world = World({"AAA-USD": [100.0] * 5})
    bot = world.bot(safety_order_execution="limit", take_profit="50", max_safety_orders=1)
    world.step(1, bot)
    world.step(2, bot)
    found = purse(world, 2)
    assert found.free is not None
    assert (round(found.free, 2), found.value) == (9_800, 10_000)


def test_what_a_short_has_to_buy_back_is_not_free() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 110.0, 110.0]}, balances={"USD": 1_000, "AAA": 5})
    world.look(1, world.bot(direction="short", max_safety_orders=0, take_profit="50"))
    found = purse(world, 2)
    assert (found.free, found.value) == (990, 990)  # sold at 100, buys back at 110


def test_what_a_bot_that_trades_both_ways_has_reserved_is_free_for_itself_only() -> None:
    world = World({"AAA-USD": [100.0] * 4}, balances={"USD": 1_000, "AAA": 5})
    keeper = world.bot(direction="both", long_share_pct="30")
    with detached("test data"):
        Bot.objects.filter(pk=keeper.pk).update(budget_fixed=1_000)
    assert (purse(world, 1).free, purse(world, 1).value) == (700, 1_000)
    assert purse(world, 1, keeper).free == 1_000


def test_f34_without_a_price_the_value_is_not_known() -> None:
    world = World({"AAA-USD": [100.0] * 3})
    world.look(1, world.bot(max_safety_orders=0))
    found = purse(world, 60)
    assert (found.free, found.value, found.problem) == (9_900, None, "a price is not known")


def test_a_venue_that_does_not_answer_is_named() -> None:
    with desk_outside() as desk, acting_for(desk.account.owner):
        assert desk.venue is not None
        desk.venue.fail("balances", VenueUnavailable("unavailable", "The venue does not answer."))
        found = capital.purse_of(desk.account, "USD")
    assert found == Purse("USD", None, None, capital.ASSUMED_FEES, "The venue does not answer.")


def test_f49_another_account_of_the_same_person_adds_nothing() -> None:
    world = World({"AAA-USD": [100.0] * 4})
    AccountFactory(owner=world.owner, exchange="replay", balances={"USD": 5_000})
    assert (purse(world, 1).free, purse(world, 1).value) == (10_000, 10_000)
