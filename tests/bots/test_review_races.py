"""A look at a deal, and what happens to the same deal, account or bot between two of its statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.exchanges.paper import match_resting
from accounts.models import PaperBalance
from bots import engine, loading
from bots.deal_settings import update_deal_settings
from bots.models import Bot, Decision
from marketdata import services as market_services
from marketdata.models import Product
from positions import execution, funds, manual
from positions.execution import Intent
from positions.models import Order, Position
from positions.reconcile import reconcile_account
from positions.states import OrderStatus, PositionStatus, Purpose
from tests.bots.stepping import PERSON, by_hand, thin
from tests.bots.world import OPEN_AT_ONCE, World
from tests.factories import AccountFactory, BotFactory, PaperTermsFactory
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account, detached

pytestmark = pytest.mark.django_db(transaction=True)


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], Any], *, load: int) -> None:
    """Let ``do`` happen right after the facts of a look were loaded for the time number ``load`` (1: for the chunk, 2:
    before acting)."""
    real, times = loading.load, [0]

    def loaded(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        times[0] += 1
        if times[0] == load:
            do()
        return found

    monkeypatch.setattr(loading, "load", loaded)


def purposes(world: World) -> list[tuple[str, str]]:
    return [(order.purpose, order.status) for order in world.orders()]


# A person and the cycle ---------------------------------------------------------------------------------------------


def test_a_look_does_not_write_back_the_trail_that_an_edit_has_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"AAA-USD": [100.0, 100.0, 103.0, 104.0, 104.0]})
    bot = world.bot(trailing_stop="2", max_safety_orders=0, take_profit="50")
    world.look(1, bot)
    world.look(2, bot)
    (deal,) = world.deals()
    assert deal.trail["stop"] == "100.94"

    def widen() -> None:
        with acting_for_account(world.account.pk):
            update_deal_settings(deal, {"trailing_stop": "10"}, PERSON)

    meanwhile(monkeypatch, widen, load=1)
    world.look(3, bot)
    (deal,) = world.deals()
    assert "stop" not in deal.trail  # not 101.92, which is 2 % below the best price
    world.look(4, bot)
    (deal,) = world.deals()
    assert deal.trail["stop"] == "93.6"


def test_a_look_does_not_act_on_settings_that_were_changed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"AAA-USD": [100.0, 100.0, 94.0, 94.0]})
    bot = world.bot(stop_loss="5", max_safety_orders=0, take_profit="50")
    world.look(1, bot)
    (deal,) = world.deals()

    def widen() -> None:
        with acting_for_account(world.account.pk):
            update_deal_settings(deal, {"stop_loss": "20"}, PERSON)

    meanwhile(monkeypatch, widen, load=2)
    world.look(2, bot)
    assert purposes(world) == [("base_order", "filled")]
    (deal,) = world.deals()
    assert (deal.status, deal.last_code) == (PositionStatus.OPEN, "")
    world.look(3, bot)
    assert [row.status for row in world.deals()] == [PositionStatus.OPEN]


def test_a_rung_that_fills_while_the_facts_are_read_is_not_bought_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deal's row is read before its orders and fills: a fill in between is in the one and not in the other."""
    world = World({"AAA-USD": [100.0, 100.0, 98.0, 97.9, 97.9]})
    bot = world.bot(take_profit="50", price_deviation="1.5", step_scale="10")
    world.look(1, bot)
    (deal,) = world.deals()
    real = loading._attach_deals

    def attach(bots: Any, active: Any) -> None:
        if not done and len(world.orders()) == 1 and counted():
            done.append(
                execution.submit(
                    execution.intend(
                        deal,
                        Intent(
                            purpose=Purpose.SAFETY_ORDER,
                            sequence=1,
                            base_size=Decimal(1),
                            levels=1,
                            reference_price=Decimal(98),
                        ),
                    )
                )
            )
        real(bots, active)

    calls: list[int] = []

    def counted() -> bool:
        calls.append(1)
        return len(calls) == 2

    done: list[Any] = []
    monkeypatch.setattr(loading, "_attach_deals", attach)
    # The order of another worker, a moment before this look: "one order a look" does not cover it.
    monkeypatch.setattr(engine, "decide", _forgetful(engine.decide))
    world.look(2, bot)
    assert done
    assert purposes(world) == [("base_order", "filled"), ("safety_order", "filled")]


def _forgetful(decide: Callable[..., Any]) -> Callable[..., Any]:
    def decided(facts: Any, chunk: Any) -> Any:
        for deal in facts.deals:
            for order in deal.orders:
                order.created_at = deal.position.created_at
        return decide(facts, chunk)

    return decided


def test_a_step_is_not_sold_on_top_of_what_a_person_sold_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"AAA-USD": [100.0, 100.0, 102.0, 102.0]})
    steps = [{"profit_pct": "1", "share_pct": "50"}, {"profit_pct": "30", "share_pct": "50"}]
    bot = world.bot(take_profit_steps=steps, take_profit="1", max_safety_orders=0)
    world.look(1, bot)
    (deal,) = world.deals()

    def sell_half() -> None:
        with acting_for_account(world.account.pk):
            manual.close_at_market(deal, PERSON, share_pct=Decimal(50))

    meanwhile(monkeypatch, sell_half, load=2)
    world.look(2, bot)
    world.look(3, bot)
    (deal,) = world.deals()
    assert (deal.status, deal.base_sold, deal.base_held) == (PositionStatus.OPEN, Decimal("0.5"), Decimal("0.5"))


def test_safety_orders_leave_room_for_an_addition_that_a_person_has_resting() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 97.9, 97.9, 90.0]})
    bot = world.bot(take_profit="50", price_deviation="2")
    world.look(1, bot)
    (deal,) = world.deals()
    with world.at(1):
        funds.set_ceiling(deal, Decimal(210), PERSON)
    by_hand(world, 1, deal, "91", Purpose.MANUAL_ADD, base_size=Decimal(1))
    world.step(2, bot)
    assert purposes(world) == [("base_order", "filled"), ("manual_add", "open")]
    (deal,) = world.deals()
    assert deal.last_code == "ceiling_reached"
    world.step(4, bot)
    (deal,) = world.deals()
    assert deal.quote_spent <= deal.budget_quote


# Failures stay where they are ---------------------------------------------------------------------------------------


def test_f67_a_deal_that_cannot_be_judged_does_not_keep_the_others_from_their_stops() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 80.0, 80.0], "BBB-USD": [100.0, 100.0, 80.0, 80.0]})
    bot = world.bot(stop_loss="10", max_safety_orders=0, cooldown_seconds=3600)
    world.look(1, bot)
    first, second = world.deals()
    with detached("test data"):
        Position.objects.filter(pk=first.pk).update(trail={"stop": "not a price"})
    result = world.look(2, bot)
    assert result.failed == 1
    first, second = world.deals()
    assert (first.status, second.status) == (PositionStatus.OPEN, PositionStatus.CLOSED)
    with detached("test looks"):
        assert Bot.objects.get(pk=bot.pk).last_error.startswith("deal 1: ")


def test_f67_an_order_that_cannot_be_written_does_not_keep_the_others_from_their_stops() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 80.0, 80.0], "BBB-USD": [100.0, 100.0, 80.0, 80.0]})
    bot = world.bot(stop_loss="10", max_safety_orders=0, cooldown_seconds=3600)
    world.look(1, bot)
    first, _ = world.deals()
    real = execution.intend

    def intend(position: Position, intent: Intent) -> Any:
        if position.pk == first.pk:
            raise RuntimeError("no order can be written for this deal")
        return real(position, intent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "intend", intend)
        result = world.look(2, bot)
    assert (result.failed, result.orders) == (1, 1)
    assert [deal.status for deal in world.deals()] == [PositionStatus.OPEN, PositionStatus.CLOSED]


# What cannot be carried out -----------------------------------------------------------------------------------------


def withdrawn(world: World, currency: str, left: str) -> None:
    with detached("test data"):
        PaperBalance.objects.filter(account=world.account, currency=currency).update(total=Decimal(left))


def test_a_short_whose_buy_back_cannot_be_paid_buys_back_what_can_be() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 120.0, 120.0]}, {"USD": 0, "AAA": 10})
    bot = world.bot(direction="short", stop_loss="10", max_safety_orders=0, take_profit="50", cooldown_seconds=3600)
    world.look(1, bot)
    withdrawn(world, "USD", "60")
    world.look(2, bot)
    assert purposes(world) == [("base_order", "filled"), ("stop_loss", "filled")]
    (deal,) = world.deals()
    assert (deal.base_held, deal.error_code) == (Decimal("-0.505"), "wallet_short")


def test_f27_a_short_whose_buy_back_cannot_be_paid_at_all_is_refused_and_logged_once() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 120.0, 120.0, 120.0, 120.0]}, {"USD": 0, "AAA": 10})
    bot = world.bot(direction="short", stop_loss="10", max_safety_orders=0, take_profit="50", cooldown_seconds=3600)
    world.look(1, bot)
    withdrawn(world, "USD", "0")
    for minute in (2, 3, 4):
        world.look(minute, bot)
    assert purposes(world) == [("base_order", "filled")]
    (deal,) = world.deals()
    assert deal.last_code == "insufficient_balance"
    with detached("test looks"):
        assert Decision.objects.filter(position=deal).exclude(action="open").count() == 1


@pytest.fixture
def moment() -> Iterator[datetime]:
    """The clock stands; the looks of a test move it."""
    now = datetime(2026, 3, 2, 12, 0, 20, tzinfo=UTC)
    with clock.at(now):
        yield now


def simulated_bot(usd: str, **settings: Any) -> Bot:
    market_services.refresh_products("simulated")
    account = AccountFactory(exchange="simulated", balances={"USD": usd})
    PaperTermsFactory(account=account, slippage_pct=Decimal(1))
    return BotFactory(
        account=account,
        settings={**OPEN_AT_ONCE, "max_safety_orders": 0, **settings},
        budget_kind="fixed",
        budget_fixed=Decimal(5_000),
        split_budget=False,
        status=Bot.Status.RUNNING,
        products=[Product.objects.get(exchange="simulated", symbol="BTC-USD")],
    )


def every_minute(bot: Bot, since: datetime, minutes: int) -> None:
    for minute in range(minutes):
        with clock.at(since + timedelta(minutes=minute)):
            engine.run_chunk({bot.account_id: [bot.pk]})


def listed_as(status: str) -> None:
    with detached("test data"):
        Product.objects.filter(exchange="simulated", symbol="BTC-USD").update(status=status)


def test_f27_closes_that_the_venue_rejects_are_not_an_endless_stream(moment: datetime) -> None:
    bot = simulated_bot("1000", max_hold_hours=1, take_profit="400", cooldown_seconds=360_000)
    every_minute(bot, moment, 1)
    listed_as(Product.Status.OFFLINE)
    later = moment + timedelta(hours=1)
    every_minute(bot, later, 40)
    with acting_for_account(bot.account_id):
        (deal,) = Position.objects.all()
        assert (deal.status, deal.last_code) == (PositionStatus.OPEN, "venue_rejected")
        assert 5 <= Order.objects.filter(status=OrderStatus.REJECTED).count() <= 12
    listed_as(Product.Status.ONLINE)
    every_minute(bot, later + timedelta(minutes=40), 6)
    with acting_for_account(bot.account_id):
        deal.refresh_from_db()
        assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, "max_hold")


def test_f27_openings_that_the_venue_rejects_are_not_an_endless_stream(moment: datetime) -> None:
    bot = simulated_bot("100.61")  # enough at the price that is seen, not at the one that a market order gets
    every_minute(bot, moment, 30)
    with acting_for_account(bot.account_id):
        assert {deal.error_code for deal in Position.objects.all()} == {"insufficient_funds"}
        assert 5 <= Position.objects.count() <= 16


def test_f27_a_safety_order_made_smaller_for_want_of_money_leaves_room_for_a_worse_price() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 97.9, 97.9]}, {"USD": 199})
    with acting_for_account(world.account.pk):
        world.terms.slippage_pct = Decimal("0.5")
        world.terms.save()
    bot = world.bot(take_profit="50")
    world.look(1, bot)
    world.look(2, bot)
    assert purposes(world) == [("base_order", "filled"), ("safety_order", "filled")]


def test_a_rung_that_has_filled_in_part_is_left_alone_when_safety_orders_go_to_market() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 99.0, 97.9, 97.9, 97.9]})
    thin([100.0, 100.0, 99.0, 97.9, 97.9, 97.9], 1.0)
    bot = world.bot(safety_order_execution="limit", take_profit="50")
    world.step(1, bot)
    world.step(2, bot)
    with world.at(3) as now:
        match_resting("replay", now, [world.account.pk])
        reconcile_account(world.account.pk)
    assert purposes(world)[1:] == [("safety_order", "partially_filled")]
    (deal,) = world.deals()
    with world.at(3):
        update_deal_settings(deal, {"safety_order_execution": "market"}, PERSON)
    assert world.look(3, bot).orders == 0
    (deal,) = world.deals()
    assert deal.last_code == "holding"
