"""Limit orders through the cycle: what rests, what is cancelled first, and looks that are cut off in between."""

from __future__ import annotations

import functools
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.exchanges.paper import PaperVenue, match_resting
from accounts.models import PaperOrder
from bots import engine, loading
from bots.models import Bot, Decision
from marketdata import services as market_services
from marketdata import sources
from marketdata.models import Product
from marketdata.sources.simulated import SimulatedSource
from positions import execution
from positions.models import Order
from positions.reconcile import reconcile_account
from positions.states import OrderStatus, OrderType, PositionStatus, Purpose
from tests.bots.test_engine import DiesEveryOtherTime, Killed
from tests.bots.world import OPEN_AT_ONCE, World
from tests.factories import AccountFactory, BotFactory, PaperTermsFactory
from tradebot.core import clock
from tradebot.core.errors import VenueUnavailable, VenueUnknown
from tradebot.core.scoping import acting_for_account, detached

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bid and ask are half a percent away from the close, so an order at the mark waits."""
    monkeypatch.setattr(sources.get("replay"), "half_spread", Decimal("0.005"))


def purposes(world: World) -> list[tuple[str, str]]:
    return [(order.purpose, order.status) for order in world.orders()]


def stop(bot: Bot) -> None:
    with detached("test data"):
        Bot.objects.filter(pk=bot.pk).update(status=Bot.Status.STOPPED)


def held(world: World) -> Decimal:
    with detached("test looks"):
        return world.account.paper_balances.get(currency="USD").held


# The base order -------------------------------------------------------------------------------------------------------


def test_a_limit_base_order_rests_and_holds_its_limit_price() -> None:
    world = World({"AAA-USD": [100.0] * 4}, fees=True)
    bot = world.bot(base_order_execution="limit", limit_timeout_seconds=600)
    world.step(1, bot)
    (order,) = world.orders()
    assert (order.order_type, order.limit_price, order.status) == (OrderType.LIMIT, 100, OrderStatus.OPEN)
    assert order.hold_amount == held(world) == Decimal("100.6")
    world.step(2, bot)
    assert len(world.orders()) == 1


def test_an_unfilled_base_order_is_cancelled_when_its_time_is_over() -> None:
    world = World({"AAA-USD": [100.0] * 6})
    bot = world.bot(base_order_execution="limit", limit_timeout_seconds=60, cooldown_seconds=3600)
    world.step(1, bot)
    world.step(2, bot)
    (deal,) = world.deals()
    assert (deal.status, deal.deal_number, held(world)) == (PositionStatus.CANCELLED, None, 0)
    assert purposes(world) == [("base_order", "cancelled")]
    with detached("test looks"):
        row = Decision.objects.get(position=deal, action="cancel")
    assert (row.code, row.phase) == ("unfilled", "open")


def test_a_stopped_bots_unfilled_base_order_is_cancelled_at_the_next_look() -> None:
    world = World({"AAA-USD": [100.0] * 4})
    bot = world.bot(base_order_execution="limit", limit_timeout_seconds=3600)
    world.step(1, bot)
    stop(bot)
    world.step(2, bot)
    assert [deal.status for deal in world.deals()] == [PositionStatus.CANCELLED]
    assert (purposes(world), held(world)) == ([("base_order", "cancelled")], 0)
    world.step(3, bot)
    with detached("test looks"):
        assert Bot.objects.get(pk=bot.pk).next_check_at is None


def test_f17_a_stopped_bots_order_that_a_person_placed_stays() -> None:
    world = World({"AAA-USD": [100.0] * 4})
    bot = world.bot(base_order_execution="limit", limit_timeout_seconds=3600)
    world.step(1, bot)
    with detached("test data"):
        Order.objects.update(actor="ann@example.com")
    stop(bot)
    world.step(2, bot)
    assert purposes(world) == [("base_order", "open")]


def test_deals_about_to_open_count_as_budget_used() -> None:
    world = World({"AAA-USD": [100.0] * 4, "BBB-USD": [100.0] * 4})
    bot = world.bot(base_order_execution="limit", base_order_type="percent", base_order_size="80", max_safety_orders=0)
    with detached("test data"):
        Bot.objects.filter(pk=bot.pk).update(budget_fixed=150)
    world.step(1, bot)
    assert len(world.orders()) == 1
    assert world.pair(bot, "BBB-USD").last_code == "budget_used"


# What is seen of orders -----------------------------------------------------------------------------------------------


def deal_view(world: World, bot: Bot, minute: int) -> Any:
    with world.at(minute) as now:
        chunk = loading.load([bot.pk], now)
        return chunk.deal_view(chunk.bots[bot.pk].deals[0])


def test_orders_are_seen_as_what_they_are() -> None:
    world = World({"AAA-USD": [100.0] * 6})
    bot = world.bot(safety_order_execution="limit", take_profit="50")
    world.step(1, bot)
    world.step(2, bot)
    view = deal_view(world, bot, 3)
    (rung,) = view.resting_entries
    assert (rung.purpose, rung.limit_price, rung.by_person, rung.placed_at) == (
        Purpose.SAFETY_ORDER,
        Decimal("98.49"),
        False,
        world.moment(2),
    )
    with detached("test data"):
        Order.objects.filter(purpose="safety_order").update(cancel_requested_at=world.moment(2))
    assert deal_view(world, bot, 3).pending_entry
    with detached("test data"):
        Order.objects.filter(purpose="safety_order").update(cancel_requested_at=None, status="submitted")
    assert deal_view(world, bot, 3).pending_entry
    with detached("test data"):
        Order.objects.filter(purpose="safety_order").update(status="open", actor="ann@example.com")
    assert deal_view(world, bot, 3).resting_entries[0].by_person


def test_a_missed_limit_exit_is_one_that_nothing_has_filled_since() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 103.0, 103.0, 103.0]})
    bot = world.bot(take_profit_execution="limit", limit_timeout_seconds=3600, max_safety_orders=0)
    world.step(1, bot)
    world.step(2, bot)
    assert purposes(world)[-1] == ("take_profit", "open")
    assert not deal_view(world, bot, 2).missed_limit_exit
    with world.at(3):
        execution.cancel(world.orders()[-1], "bot")
    assert deal_view(world, bot, 3).missed_limit_exit
    with detached("test data"):
        Order.objects.filter(purpose="take_profit").update(finished_at=world.moment(0))
    assert not deal_view(world, bot, 3).missed_limit_exit  # something has filled since
    with detached("test data"):
        Order.objects.filter(purpose="take_profit").update(finished_at=world.moment(3), actor="ann@example.com")
    assert not deal_view(world, bot, 3).missed_limit_exit


@pytest.mark.parametrize(("by_person", "closes"), [(True, []), (False, ["close_condition"])])
def test_a_close_that_a_person_cancelled_is_judged_anew_with_its_conditions(by_person: bool, closes: list[str]) -> None:
    """The rule held at the third candle and not at the fourth. What the machine takes back itself stays decided."""
    rising = {"items": [{"indicator": "price_change", "timeframe": "1m", "operator": ">", "value": "0"}]}
    world = World({"AAA-USD": [100.0, 100.0, 103.0, 103.0, 103.0, 104.0]})
    bot = world.bot(
        take_profit_mode="conditions",
        close_conditions=rising,
        take_profit_execution="limit",
        limit_timeout_seconds=3600,
        max_safety_orders=0,
        cooldown_seconds=3600,
    )
    world.step(1, bot)
    world.step(2, bot)
    first = world.orders()[-1]
    assert (first.purpose, first.status) == ("close_condition", "open")
    with world.at(3):
        execution.cancel(first, "ann@example.com" if by_person else "bot")
        execution.cancel(first, "system")
    assert deal_view(world, bot, 3).missed_limit_exit is not by_person
    world.step(3, bot)
    assert [order.purpose for order in world.orders()[2:]] == closes
    if by_person:
        world.step(5, bot)
        assert [order.purpose for order in world.orders()[2:]] == ["close_condition"]  # its rule holds again


def test_a_persons_wish_to_cancel_outlives_the_machines_asking_again() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 103.0, 103.0, 103.0]})
    bot = world.bot(take_profit_execution="limit", limit_timeout_seconds=3600, max_safety_orders=0)
    world.step(1, bot)
    world.step(2, bot)
    order = world.orders()[-1]
    asked = []
    with world.at(3):
        for actor in ("bot", "ann@example.com", "system", "bot"):
            execution._request_cancel(order, actor)
            asked.append(order.cancel_actor)
    assert asked == ["bot", "ann@example.com", "ann@example.com", "ann@example.com"]


def test_f15_an_unfilled_limit_exit_goes_to_the_bid_when_its_time_is_over() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 103.0, 103.0, 103.0, 103.0]})
    bot = world.bot(take_profit_execution="limit", limit_timeout_seconds=60, max_safety_orders=0, cooldown_seconds=3600)
    for minute in range(1, 5):
        world.step(minute, bot)
    assert purposes(world) == [("base_order", "filled"), ("take_profit", "cancelled"), ("take_profit", "filled")]
    first, second = world.orders(purpose="take_profit")
    assert (first.limit_price, second.limit_price) == (103, Decimal("102.48"))


# What goes first ------------------------------------------------------------------------------------------------------


def test_f21_f22_a_stop_cancels_what_rests_and_sells_everything_in_the_same_look() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 85.0]})
    bot = world.bot(safety_order_execution="limit", stop_loss="10", take_profit="50", cooldown_seconds=3600)
    world.step(1, bot)
    world.step(2, bot)
    assert purposes(world)[-1] == ("safety_order", "open")
    world.look(3, bot)  # its rung would have filled, had anybody asked
    assert purposes(world) == [("base_order", "filled"), ("safety_order", "cancelled"), ("stop_loss", "filled")]
    (deal,) = world.deals()
    assert (deal.status, deal.base_held, held(world)) == (PositionStatus.CLOSED, 0, 0)


def test_f19_a_fill_that_raced_with_the_cancel_is_sold_along() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 85.0, 85.0]})
    bot = world.bot(safety_order_execution="limit", stop_loss="10", take_profit="50", cooldown_seconds=3600)
    world.step(1, bot)
    world.step(2, bot)
    with world.at(3) as now:
        match_resting("replay", now, [world.account.pk])  # filled at the venue, not noticed here
    world.look(3, bot)
    bought = sum(order.filled_base for order in world.orders(side="buy"))
    sold = sum(order.filled_base for order in world.orders(side="sell"))
    assert purposes(world)[1] == ("safety_order", "filled")
    assert bought == sold > 1


def test_f5_while_a_cancel_is_not_confirmed_nothing_else_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 85.0, 85.0]})
    bot = world.bot(safety_order_execution="limit", stop_loss="10", take_profit="50", cooldown_seconds=3600)
    world.step(1, bot)
    world.step(2, bot)
    cancel = PaperVenue.cancel

    def lost(*args: Any) -> Any:
        raise VenueUnknown("timeout")

    monkeypatch.setattr(PaperVenue, "cancel", lost)
    assert world.look(3, bot).orders == 0
    assert purposes(world)[-1] == ("safety_order", "open")
    (deal,) = world.deals()
    assert deal.last_code == "order_pending"
    assert "has not confirmed" in deal.last_message
    monkeypatch.setattr(PaperVenue, "cancel", cancel)
    with world.at(4):
        reconcile_account(world.account.pk)
    world.look(4, bot)
    assert purposes(world)[1:] == [("safety_order", "cancelled"), ("stop_loss", "filled")]


def test_a_cancel_is_no_order_but_a_deal_gets_one_order_a_look() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 100.0]})
    bot = world.bot(safety_order_execution="limit", take_profit="50")
    world.step(1, bot)
    world.step(2, bot)
    with detached("test data"):  # as after an edit: the rung that rests is not the one that is wanted
        Order.objects.filter(purpose="safety_order").update(limit_price=90)
        PaperOrder.objects.filter(status="open").update(limit_price=90)
    assert world.look(3, bot).orders == 1
    assert purposes(world)[1:] == [("safety_order", "cancelled"), ("safety_order", "open")]
    with detached("test looks"):
        assert list(Decision.objects.filter(action="cancel").values_list("code", "phase")) == [("repricing", "add")]
    assert world.look(3, bot).orders == 0


# Cut off and done again -----------------------------------------------------------------------------------------------

PRICES = [100.0, 100.0, 99.0, 97.5, 96.0, 97.0, 99.9, 101.2, 101.0, 99.0, 97.0, 95.0, 90.0, 90.0, 91.0, 92.0]
LIMITS = {
    "base_order_execution": "limit",
    "safety_order_execution": "limit",
    "take_profit_execution": "limit",
    "limit_timeout_seconds": 60,
    "stop_loss": "6",
    "max_active_deals": 1,
}
STEPS = {
    "before a cancel is asked": (PaperVenue, "cancel", False),
    "after the venue cancelled, before the answer": (PaperVenue, "cancel", True),
    "after a cancel was booked": (execution, "cancel", True),
    "after the intent": (execution, "submit", False),
    "after the venue took it, before the answer": (PaperVenue, "place", True),
    "before what was decided is written": (engine._Look, "_write", False),
}


def run(world: World, bot: Bot) -> None:
    """What a driver does: match, reconcile, look; after a death the same moment again."""
    for minute in range(1, len(PRICES)):
        while True:
            try:
                world.step(minute, bot)
                break
            except Killed:
                continue


def outcome(world: World) -> tuple[list[Any], list[Any]]:
    """What a run left behind, without ids."""
    same = ("deal_number", "status", "average_price", "realised_quote", "safety_orders_filled", "exit_reason")
    return world.fills(), [[getattr(deal, name) for name in same] for deal in world.deals(account=world.account)]


@functools.cache
def undisturbed() -> tuple[list[Any], list[Any]]:
    """The outcome of the run that nobody cut off: made once, for it is the same whatever it is compared with."""
    world = World({"AAA-USD": PRICES})
    run(world, world.bot(**LIMITS))
    return outcome(world)


@pytest.mark.parametrize("step", STEPS)
def test_f14_a_look_with_limit_orders_cut_off_at_any_step_ends_in_the_same_state(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = undisturbed()
    world = World({"AAA-USD": PRICES})
    bot = world.bot(**LIMITS)
    owner, name, after = STEPS[step]
    dying = DiesEveryOtherTime(getattr(owner, name), after=after)
    monkeypatch.setattr(owner, name, dying)
    run(world, bot)
    assert dying.deaths > 1
    assert outcome(world) == expected
    assert len(world.fills()) > 4


# Slippage -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(db: None) -> tuple[Bot, Any]:
    """A bot on the simulated market, which has a book, that wants to spend a lot at once."""
    market_services.refresh_products("simulated")
    account = AccountFactory(exchange="simulated", balances={"USD": 1_000_000_000})
    PaperTermsFactory(account=account)
    settings = {
        **OPEN_AT_ONCE,
        "base_order_size": "100000000",
        "max_safety_orders": 0,
        "slippage_guard": True,
        "max_slippage": "0.05",
    }
    bot = BotFactory(
        account=account,
        settings=settings,
        budget_kind="fixed",
        budget_fixed=Decimal(200_000_000),
        split_budget=False,
        status=Bot.Status.RUNNING,
        next_check_at=clock.now() - timedelta(seconds=5),
        products=[Product.objects.get(exchange="simulated", symbol="BTC-USD")],
    )
    return bot, account


def guarded_look(bot: Bot, account: Any) -> Any:
    engine.run_chunk({account.pk: [bot.pk]})
    with detached("test looks"):
        return bot.bot_products.get()


def test_an_order_that_would_slip_too_far_is_refused_with_the_numbers(guarded: tuple[Bot, Any]) -> None:
    pair = guarded_look(*guarded)
    assert pair.last_code == "slippage_too_high"
    assert Decimal(pair.last_evidence["slippage_pct"]) > Decimal("0.05")
    assert pair.last_evidence["allowed_pct"] == "0.05"
    assert "worse than the best price" in pair.last_message or "more than" in pair.last_message
    with acting_for_account(guarded[1].pk):
        assert not Order.objects.exists()


def test_an_order_that_the_book_takes_well_goes_through_the_guard(guarded: tuple[Bot, Any]) -> None:
    bot, account = guarded
    with detached("test data"):
        Bot.objects.filter(pk=bot.pk).update(settings={**bot.settings, "base_order_size": "50"}, settings_version=2)
    assert guarded_look(bot, account).last_code == "opening"


def test_f34_a_book_that_cannot_be_read_opens_nothing(
    guarded: tuple[Bot, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*args: Any, **kwargs: Any) -> Any:
        raise VenueUnavailable("unavailable", "The market does not answer.")

    monkeypatch.setattr(SimulatedSource, "book", unreadable)
    pair = guarded_look(*guarded)
    assert (pair.last_code, pair.evaluated_until) == ("missing_book", {})
    with acting_for_account(guarded[1].pk):
        assert not Order.objects.exists()


def test_a_recording_has_no_book_to_ask() -> None:
    world = World({"AAA-USD": [100.0] * 4})
    bot = world.bot(slippage_guard=True, max_slippage="0.01", base_order_size="4000", max_safety_orders=0)
    world.look(1, bot)
    assert purposes(world) == [("base_order", "filled")]
