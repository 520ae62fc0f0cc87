"""The cycle: claims, leases, stages, isolation of failures, and looks that can be cut off and done again."""

from __future__ import annotations

import functools
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.exchanges.paper import PaperVenue
from bots import engine, loading, memory
from bots.conditions import evaluation
from bots.models import Bot, BotProduct, Decision
from positions import execution
from positions.models import Position
from positions.reconcile import reconcile_account
from positions.states import OrderStatus, OrderType, PositionStatus, Purpose
from tests.bots.world import World
from tests.factories import AccountFactory, BotFactory, PaperTermsFactory, UserFactory
from tradebot.core import clock, stopping
from tradebot.core.models import GlobalSettings, LoopState
from tradebot.core.scoping import ForeignRow, acting_for_account, detached, scope_or_none

pytestmark = pytest.mark.django_db(transaction=True)


def live_bot(**values):
    """A running bot on the simulated market that is due."""
    return BotFactory(status=Bot.Status.RUNNING, next_check_at=clock.now() - timedelta(seconds=1), **values)


# Claims and leases --------------------------------------------------------------------------------------------------


def test_f1_two_dispatchers_hand_a_due_bot_out_once():
    bots = [live_bot() for _ in range(3)]
    now = clock.now()
    first, second = engine.claim_due(now), engine.claim_due(now)
    assert sorted(pk for ids in first.values() for pk in ids) == sorted(bot.pk for bot in bots)
    assert second == {}


def test_f2_the_claim_is_committed_before_anything_is_handed_out():
    bot = live_bot()
    seen = []

    def send(chunk):
        with detached("test looks"):
            seen.append(Bot.objects.get(pk=bot.pk).next_check_at > clock.now())
        assert not connection.in_atomic_block

    assert engine.dispatch(send) == 1
    assert seen == [True]


def test_an_account_is_never_split_over_two_chunks(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK_BOTS", 3)
    accounts = [AccountFactory() for _ in range(4)]
    for account in accounts:
        for _ in range(2):
            live_bot(account=account)
    chunks = []
    assert engine.dispatch(chunks.append) == 8
    seen = [account for chunk in chunks for account in chunk]
    assert sorted(seen) == sorted(set(seen)) == sorted(account.pk for account in accounts)
    assert all(len(ids) == 2 for chunk in chunks for ids in chunk.values())


def test_recordings_are_left_to_their_own_clock():
    world = World({"AAA-USD": [100.0] * 3})
    world.bot()
    assert engine.claim_due(clock.now()) == {}


def test_stopped_bots_without_deals_and_orphans_are_not_due():
    BotFactory(next_check_at=None)
    BotFactory(account=None, owner=UserFactory(), next_check_at=clock.now() - timedelta(seconds=5))
    assert engine.claim_due(clock.now()) == {}


def test_f1_a_leased_account_is_left_to_who_holds_the_lease():
    world = World({"AAA-USD": [100.0] * 3})
    bot = world.bot()
    with world.at(1) as now:
        assert engine._lease([world.account.pk], "other worker", now) == {world.account.pk: "paper"}
    assert world.look(1, bot).bots == 0
    with world.at(1):
        engine._release([world.account.pk], "other worker")
    assert world.look(1, bot).bots == 1


def test_a_lease_of_a_dead_worker_runs_out():
    world = World({"AAA-USD": [100.0] * 5})
    bot = world.bot()
    with world.at(1) as now:
        engine._lease([world.account.pk], "dead worker", now)
    assert world.look(2, bot).bots == 1  # a minute later


# Trading ------------------------------------------------------------------------------------------------------------


def test_a_deal_opens_adds_and_takes_profit():
    world = World({"AAA-USD": [100.0, 100.0, 97.9, 99.0, 101.0, 101.0]})
    bot = world.bot(cooldown_seconds=3600)
    for minute in range(1, 6):
        world.look(minute, bot)
    (deal,) = world.deals()
    assert deal.status == PositionStatus.CLOSED
    assert [(order.purpose, order.status) for order in world.orders()] == [
        ("base_order", "filled"),
        ("safety_order", "filled"),
        ("take_profit", "filled"),
    ]
    assert deal.safety_orders_filled == 1
    assert deal.realised_quote > 0
    assert deal.deal_number == 1
    with detached("test looks"):
        actions = list(Decision.objects.order_by("pk").values_list("action", flat=True))
    assert [action for action in actions if action != "none"] == ["open", "add", "close"]


def test_a_stopped_bot_closes_its_deals_and_opens_none():
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 102.0, 102.0], "BBB-USD": [50.0] * 5})
    bot = world.bot("AAA-USD")
    world.look(1, bot)
    with detached("test data"):
        Bot.objects.filter(pk=bot.pk).update(status=Bot.Status.STOPPED)
    world.look(3, bot)
    (deal,) = world.deals()
    assert deal.status == PositionStatus.CLOSED
    world.look(4, bot)
    assert len(world.deals()) == 1
    with detached("test looks"):
        assert Bot.objects.get(pk=bot.pk).next_check_at is None


def test_the_operators_pause_stops_opens_but_not_exits():
    world = World({"AAA-USD": [100.0, 100.0, 102.0, 102.0], "BBB-USD": [50.0] * 4})
    first, second = world.bot("AAA-USD"), world.bot("BBB-USD")
    world.look(1, first)
    GlobalSettings.load()
    GlobalSettings.objects.update(trading_paused=True)
    world.look(2, first, second)
    assert [deal.status for deal in world.deals()] == [PositionStatus.CLOSED]
    with detached("test looks"):
        assert BotProduct.objects.get(bot=second).last_code == "trading_paused"


def test_f70_a_worker_that_is_told_to_end_begins_no_new_order():
    world = World({"AAA-USD": [100.0] * 3})
    bot = world.bot()
    stopping.stop()
    try:
        assert world.look(1, bot).orders == 0
    finally:
        stopping.go_on()
    assert world.deals() == []
    assert world.look(2, bot).orders == 1


def test_f34_an_unknown_price_makes_no_order_and_says_so():
    world = World({"AAA-USD": [100.0] * 3})
    bot = world.bot()
    world.look(60, bot)  # long after the recording ended
    assert world.orders() == []
    with detached("test looks"):
        pair = BotProduct.objects.get(bot=bot)
    assert pair.last_code in {"missing_price", "stale_price", "stale_candles"}
    assert pair.last_message


def test_f27_an_order_below_the_minimum_is_refused_once_and_logged_once():
    world = World({"AAA-USD": [100.0] * 6})
    product = world.products["AAA-USD"]
    product.min_quote = Decimal(500)
    product.save()
    bot = world.bot()
    for minute in range(1, 6):
        world.look(minute, bot)
    assert world.orders() == []
    with detached("test looks"):
        assert Decision.objects.filter(bot=bot).count() == 1
        assert "500" in BotProduct.objects.get(bot=bot).last_message


def test_f68_a_decision_is_written_when_it_changes_not_on_every_look():
    world = World({"AAA-USD": [100.0] * 10})
    bot = world.bot(open_conditions={"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 30}]})
    for minute in range(1, 9):
        world.look(minute, bot)
    with detached("test looks"):
        assert Decision.objects.filter(bot=bot).count() == 1
        assert Bot.objects.get(pk=bot.pk).last_checked_at == world.moment(8)


def test_f21_a_stop_replaces_a_resting_close_and_sells_everything_at_market():
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 88.0, 88.0]})
    bot = world.bot(max_safety_orders=0, stop_loss="10")
    world.look(1, bot)
    (deal,) = world.deals()
    with world.at(2):
        intent = execution.Intent(
            purpose=Purpose.LIMIT_CLOSE,
            sequence=1,
            order_type=OrderType.LIMIT,
            limit_price=Decimal(120),
            actor="person",
        )
        resting = execution.submit(execution.intend(deal, intent))
    assert resting.status == OrderStatus.OPEN
    world.look(3, bot)
    assert [(order.purpose, order.status) for order in world.orders()] == [
        ("base_order", "filled"),
        ("limit_close", "cancelled"),
        ("stop_loss", "filled"),
    ]
    (deal,) = world.deals()
    assert (deal.status, deal.exit_reason, deal.base_held) == (PositionStatus.CLOSED, "stop_loss", 0)


# Failures stay where they are ---------------------------------------------------------------------------------------


def test_f67_a_bot_with_broken_settings_does_not_stop_the_others():
    world = World({"AAA-USD": [100.0] * 3})
    broken, sound = world.bot(), world.bot()
    with detached("test data"):
        Bot.objects.filter(pk=broken.pk).update(settings={"take_profit": "a lot"})
    result = world.look(1, broken, sound)
    assert (result.bots, result.failed) == (2, 1)
    assert [deal.bot_id for deal in world.deals()] == [sound.pk]
    with detached("test looks"):
        assert Bot.objects.get(pk=broken.pk).last_error
        assert Bot.objects.get(pk=sound.pk).last_error == ""


def test_f67_an_unknown_strategy_does_not_stop_the_others():
    world = World({"AAA-USD": [100.0] * 3})
    broken, sound = world.bot(), world.bot()
    with detached("test data"):
        Bot.objects.filter(pk=broken.pk).update(strategy="astrology")
    world.look(1, broken, sound)
    assert [deal.bot_id for deal in world.deals()] == [sound.pk]


def test_f67_deals_of_a_bot_with_broken_settings_are_managed_by_their_own():
    world = World({"AAA-USD": [100.0, 100.0, 102.0, 102.0]})
    bot = world.bot()
    world.look(1, bot)
    with detached("test data"):
        Bot.objects.filter(pk=bot.pk).update(settings={"take_profit": "a lot"}, settings_version=2)
    world.look(2, bot)
    assert [deal.status for deal in world.deals()] == [PositionStatus.CLOSED]
    with detached("test looks"):
        assert Bot.objects.get(pk=bot.pk).last_error


def test_f67_a_deal_with_broken_settings_stops_neither_its_bot_nor_the_chunk():
    world = World({"AAA-USD": [100.0, 100.0, 102.0, 102.0], "BBB-USD": [100.0, 100.0, 102.0, 102.0]})
    first, second = world.bot(), world.bot()
    world.look(1, first, second)
    broken = world.deals()[0]
    with detached("test data"):
        Position.objects.filter(pk=broken.pk).update(settings={"take_profit": "a lot"}, settings_version=2)
    world.look(2, first, second)
    assert [deal.status for deal in world.deals()][:4] == ["open", "closed", "closed", "closed"]


def test_the_numbers_of_an_unchanged_reason_are_written_now_and_then():
    world = World({"AAA-USD": [100.0 + number % 3 / 10 for number in range(40)]})
    bot = world.bot(take_profit="50")
    seen = set()
    for minute in range(1, 30):
        world.look(minute, bot)
        seen.add(world.deals()[0].last_changed_at)
    assert len(seen) == 3


def test_f71_a_loop_that_fails_is_seen_to_fail():
    from tradebot.core import health

    with pytest.raises(RuntimeError, match="out of order"), health.loop("test loop", 5):
        raise RuntimeError("out of order")
    state = LoopState.objects.get(pk="test loop")
    assert (state.failures, state.last_success_at) == (1, None)
    assert "out of order" in state.last_error


# Isolation ----------------------------------------------------------------------------------------------------------


def test_f49_each_bot_trades_on_its_own_account_with_its_own_money():
    world = World({"AAA-USD": [100.0] * 3})
    other = AccountFactory(exchange="replay", balances={"USD": 150})
    PaperTermsFactory(account=other, slippage_pct=0, maker_fee_pct=0, taker_fee_pct=0)
    mine, theirs = world.bot(), world.bot(account=other)
    world.look(1, mine, theirs)
    assert {deal.bot_id: deal.account_id for deal in world.deals()} == {mine.pk: world.account.pk, theirs.pk: other.pk}
    with detached("test looks"):
        assert world.account.paper_balances.get(currency="USD").total == 9_900
        assert other.paper_balances.get(currency="USD").total == 50
    assert scope_or_none() is None


# Cut off and done again ---------------------------------------------------------------------------------------------

# Falls twice in a row after each crossing: a crossing that is not spent with its order would buy again.
PRICES = [
    100.0,
    100.0,
    97.9,
    97.5,
    97.3,
    97.6,
    97.0,
    96.0,
    99.0,
    101.6,
    101.0,
    101.0,
    98.0,
    98.6,
    97.4,
    96.9,
    101.5,
    101.5,
]
SAME = ("deal_number", "attempt_number", "status", "average_price", "realised_quote", "safety_orders_filled", "trail")


class Killed(BaseException):
    """Stands for the process dying: nothing catches it."""


class DiesEveryOtherTime:
    """Calls what it stands for and dies before or after it, every other time, so that the next attempt gets through."""

    def __init__(self, call, *, after):
        self.call, self.after, self.times, self.deaths = call, after, 0, 0

    def __get__(self, instance, owner):
        return functools.partial(self, instance) if instance is not None else self

    def __call__(self, *args, **kwargs):
        self.times += 1
        if self.times % 2 == 0:
            return self.call(*args, **kwargs)
        self.deaths += 1
        if self.after:
            self.call(*args, **kwargs)
        raise Killed


STEPS = {
    "after the intent": (execution, "submit", False),
    "after the mark, before it is sent": (PaperVenue, "place", False),
    "after the venue took it, before the answer": (PaperVenue, "place", True),
    "after it was booked": (execution, "submit", True),
    "before what was decided is written": (engine._Look, "_write", False),
    "after what was decided is written": (engine._Look, "_write", True),
}


def run(world, bot, minutes):
    """What a driver does: reconcile, look; after a death the same moment again."""
    for minute in minutes:
        while True:
            try:
                with world.at(minute):
                    reconcile_account(world.account.pk)
                world.look(minute, bot)
                break
            except Killed:
                continue


def crossing(level):
    """The change over one candle, in percent, crosses below ``level``."""
    return {"items": [{"indicator": "price_change", "timeframe": "1m", "operator": "crosses_below", "value": level}]}


SETTINGS = {
    "plain": {},
    "trailing, with crossings": {
        "take_profit_mode": "trailing",
        "trailing_deviation": "0.5",
        "open_conditions": crossing(-0.5),
        "add_conditions": crossing(-0.3),
        "max_safety_orders": 6,
        "price_deviation": "0.2",
    },
}


MARKET = {"AAA-USD": PRICES, "BBB-USD": [price * 2 for price in PRICES]}


def outcome(world):
    """What a run left behind, without ids."""
    return world.fills(), [[getattr(deal, name) for name in SAME] for deal in world.deals(account=world.account)]


@functools.cache
def undisturbed(settings):
    """The outcome of the run that nobody cut off: made once, for it is the same whatever it is compared with."""
    world = World(MARKET)
    run(world, world.bot(**SETTINGS[settings]), range(1, len(PRICES) - 1))
    return outcome(world)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("step", STEPS)
def test_f14_a_look_cut_off_at_any_step_ends_in_the_same_state(step, settings, monkeypatch):
    expected = undisturbed(settings)
    world = World(MARKET)
    bot = world.bot(**SETTINGS[settings])
    owner, name, after = STEPS[step]
    dying = DiesEveryOtherTime(getattr(owner, name), after=after)
    monkeypatch.setattr(owner, name, dying)
    run(world, bot, range(1, len(PRICES) - 1))
    assert dying.deaths > 3
    assert outcome(world) == expected
    assert len(world.fills()) > 5
    assert {order.status for order in world.orders(account=world.account)} == {"filled"}


def test_f1_the_same_look_twice_does_nothing_more():
    world = World({"AAA-USD": PRICES})
    bot = world.bot()
    for minute in range(1, len(PRICES)):
        world.look(minute, bot)
        before = world.fills()
        world.look(minute, bot)
        assert world.fills() == before


# Figures ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def idle_world():
    world = World({f"{letter}{letter}{letter}-USD": [100.0] * 30 for letter in "ABCDE"})
    return world


def copies(model, count):
    """Return ``count`` bots like ``model``, itself among them, with its pairs."""
    with detached("test data"):
        pairs = list(model.bot_products.all())
        same = ("account_id", "owner_id", "settings", "quote_currency", "budget_kind", "budget_fixed", "status")
        values = {name: getattr(model, name) for name in same}
        bots = Bot.objects.bulk_create([Bot(**values, name=f"{model.name} copy {n}") for n in range(count - 1)])
        BotProduct.objects.bulk_create(
            [BotProduct(bot=bot, product_id=pair.product_id) for bot in bots for pair in pairs]
        )
    return [model, *bots]


def queries_for(world, count, minute):
    never = {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 1}]}
    bots = copies(world.bot(open_conditions=never), count)
    world.look(minute, *bots)  # the first look writes each pair's reason
    with CaptureQueriesContext(connection) as queries:
        result = world.look(minute + 1, *bots)
    assert (result.bots, result.orders, result.failed) == (count, 0, 0)
    return len(queries)


def test_the_number_of_queries_does_not_grow_with_idle_bots(idle_world):
    few = queries_for(idle_world, 10, 20)
    many = queries_for(idle_world, 500, 20)
    assert many == few <= 40


def test_the_number_of_queries_does_not_grow_with_accounts(idle_world):
    never = {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 1}]}

    def queries(count):
        bots = []
        for _ in range(count):
            account = AccountFactory(exchange="replay", balances={"USD": 100})
            bots.append(idle_world.bot(account=account, open_conditions=never))
        idle_world.look(20, *bots)
        with CaptureQueriesContext(connection) as captured:
            idle_world.look(21, *bots)
        return len(captured)

    assert queries(2) == queries(20)


def test_the_number_of_queries_does_not_grow_with_open_deals(idle_world):
    settings = {"take_profit": "50", "max_active_deals": 5, "max_deals_per_pair": 1}

    def queries(count, minute):
        bots = [idle_world.bot(**settings) for _ in range(count)]
        for _ in range(2):
            idle_world.look(minute, *bots)
            minute += 1
        with CaptureQueriesContext(connection) as captured:
            assert idle_world.look(minute, *bots).orders == 0
        assert len(idle_world.deals(bot__in=[bot.pk for bot in bots], status="open")) == 5 * count
        return len(captured)

    assert queries(1, 2) == queries(6, 8) <= 40


def test_the_first_look_writes_every_reason_in_few_statements(idle_world):
    never = {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 1}]}
    bots = copies(idle_world.bot(open_conditions=never), 100)
    with CaptureQueriesContext(connection) as captured:
        idle_world.look(20, *bots)
    updates = [query["sql"] for query in captured if "bots_botproduct" in query["sql"] and "UPDATE" in query["sql"]]
    assert len(updates) == 1
    with detached("test looks"):
        written = BotProduct.objects.filter(last_code="conditions_not_met", last_changed_at=idle_world.moment(20))
        assert written.count() == Decision.objects.count() == 500
        assert written.exclude(last_message="").exclude(last_evidence={}).count() == 500


def test_equal_settings_are_read_once_and_equal_rules_asked_once(idle_world, monkeypatch):
    asked = []
    evaluated = evaluation._evaluated
    monkeypatch.setattr(evaluation, "_evaluated", lambda *args: asked.append(args[0]) or evaluated(*args))
    rule = {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 1}]}
    bots = [idle_world.bot(open_conditions=rule, take_profit=profit) for profit in ("1", "1", "2")]
    with idle_world.at(20) as now:
        found = [loading.load([bot.pk], now).bots[bot.pk].settings for bot in bots]
    assert found[0] is found[1]
    assert found[0] is not found[2]
    idle_world.look(20, *bots)
    assert len(asked) == 5  # one for each product


def test_a_row_of_an_account_outside_the_scope_is_not_written(idle_world):
    bot = idle_world.bot()
    pair = idle_world.pair(bot)
    with acting_for_account(AccountFactory().pk), pytest.raises(ForeignRow):
        memory.write(BotProduct, {pair.pk: {"last_code": "opening"}}, [idle_world.account.pk])
    assert idle_world.pair(bot).last_code == ""
