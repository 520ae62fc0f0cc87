"""Signals end to end: taken in with a verdict, private to their bot, and what they make a bot do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bots import bot_detail, engine, gates, loading, market_views
from bots.conditions import Tree
from bots.models import Bot, BotProduct, Signal, SignalHook
from bots.signals import hooks, inlet, stored
from bots.signals.payloads import Alert
from bots.strategies import get_strategy
from marketdata.signals import SignalAction, SignalKind
from positions.states import Direction
from tests.bots.world import START, World
from tests.factories import BotFactory, PositionFactory, SignalFactory, SignalHookFactory, UserFactory
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import acting_for_account, detached

pytestmark = pytest.mark.django_db

FLAT = {"AAA-USD": [100.0] * 12, "BBB-USD": [100.0] * 12}


def when(kind: str = "webhook", **changes: Any) -> dict[str, Any]:
    rule = {"indicator": kind, "timeframe": "1m", "operator": "=", "value": 1} | changes
    return {"open_conditions": {"items": [rule]}}


def told(world: World, bot: Bot, minute: int, alert: Alert | None = None, second: int = 30, **changes: Any) -> Signal:
    """Send the bot a signal while the candle ``minute`` is forming."""
    at = world.moment(minute) - timedelta(seconds=60 - second)
    with clock.at(at), acting_for_account(bot.account_id):
        return inlet.take(bot, alert or Alert(**({"pair": "AAA-USD"} | changes)), "api").signal


def opened(world: World) -> list[str]:
    return [deal.product.symbol for deal in world.deals()]


# What a signal makes a bot do ---------------------------------------------------------------------------------------


def test_a_signal_opens_the_pair_it_is_about_once_its_candle_has_closed() -> None:
    world = World(FLAT)
    bot = world.bot(**when())
    world.look(1, bot)
    assert "no signal received" in world.pair(bot).last_message
    told(world, bot, 3)
    world.look(2, bot)
    assert opened(world) == []  # received, but its candle has not closed yet
    world.look(3, bot)
    assert opened(world) == ["AAA-USD"]


def test_a_signal_counts_for_as_many_candles_as_the_rule_says() -> None:
    world = World(FLAT)
    short, long = world.bot(**when()), world.bot(**when(params={"valid_candles": 3}))
    for bot in (short, long):
        told(world, bot, 3)
    world.look(5, short, long)
    assert [deal.bot_id for deal in world.deals()] == [long.pk]


def test_a_signal_about_all_pairs_opens_them_all() -> None:
    world = World(FLAT)
    bot = world.bot(**when())
    told(world, bot, 3, pair="all", every_pair=True)
    world.look(3, bot)
    assert opened(world) == ["AAA-USD", "BBB-USD"]


def test_a_signal_of_another_kind_opens_nothing() -> None:
    world = World(FLAT)
    bot = world.bot(**when("ai_buy"))
    told(world, bot, 3)
    told(world, bot, 3, kind=SignalKind.AI_SELL, confidence=90)
    world.look(3, bot)
    assert opened(world) == []


@pytest.mark.parametrize("kind", ["ai_buy", "ai_sell"])
@pytest.mark.parametrize(("least", "opens"), [(60, True), (80, False)])
def test_f46_the_least_confidence_of_a_rule_is_applied(kind: str, least: int, opens: bool) -> None:
    world = World(FLAT)
    bot = world.bot(**when(kind, params={"min_confidence": least}))
    signal = told(world, bot, 3, kind=SignalKind(kind), confidence=70.0)
    world.look(3, bot)
    assert bool(opened(world)) == opens
    assert signal.verdict == ("accepted" if opens else "low_confidence")


def test_f46_a_sell_signal_opens_no_rule_for_buys() -> None:
    world = World(FLAT)
    buys, sells, any_of_them = (world.bot(**when(output=line)) for line in ("buy", "sell", "any"))
    for bot in (buys, sells, any_of_them):
        told(world, bot, 3, action=SignalAction.SELL)
    world.look(3, buys, sells, any_of_them)
    assert {deal.bot_id for deal in world.deals()} == {sells.pk, any_of_them.pk}


def test_a_close_rule_of_an_open_deal_hears_signals_too() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 103.0, 103.0, 103.0]})
    closing = {"take_profit_mode": "conditions", "close_conditions": when("ai_sell")["open_conditions"]}
    bot = world.bot(**closing)
    world.look(1, bot)
    world.look(2, bot)
    assert [deal.status for deal in world.deals()] == ["open"]
    told(world, bot, 3, kind=SignalKind.AI_SELL, confidence=75.0)
    world.look(3, bot)
    assert [deal.status for deal in world.deals()] == ["closed"]


def test_f43_an_open_deal_hears_signals_by_its_own_frozen_rule() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 103.0, 103.0, 103.0]})
    asks_little = when("ai_sell", params={"min_confidence": 50})["open_conditions"]
    bot = world.bot(take_profit_mode="conditions", close_conditions=asks_little)
    world.look(1, bot)
    with detached("test changes settings"):  # the bot itself asks for no signal any more
        plain = get_strategy(bot.strategy).settings_from_json({"max_safety_orders": 0}).to_json()
        Bot.objects.filter(pk=bot.pk).update(settings=plain, settings_version=2)
    signal = told(world, bot, 3, kind=SignalKind.AI_SELL, confidence=55.0)
    assert signal.verdict == "accepted"
    world.look(3, bot)
    assert "closed" in [deal.status for deal in world.deals()]


def test_f38_a_crossing_by_a_signal_is_acted_on_once() -> None:
    world = World(FLAT)
    rule = when(operator="crosses_above", value=0, params={"valid_candles": 5})
    bot = world.bot(**rule, max_deals_per_pair=2, max_active_deals=2)
    told(world, bot, 3)
    for minute in (2, 3, 4, 5):
        world.look(minute, bot)
    assert opened(world) == ["AAA-USD"]
    told(world, bot, 10)
    for minute in (9, 10, 11):
        world.look(minute, bot)
    assert opened(world) == ["AAA-USD", "AAA-USD"]


# Private ------------------------------------------------------------------------------------------------------------


def test_a_signal_is_seen_by_its_own_bot_alone() -> None:
    """Another user's bot, and another one of the same owner, with the same tree on the same pair, in one chunk."""
    mine = World(FLAT)
    theirs = World({})
    theirs.products = mine.products
    bot, twin, stranger = mine.bot(**when()), mine.bot(**when()), theirs.bot("AAA-USD", "BBB-USD", **when())
    told(mine, bot, 3)
    for _ in range(2):  # the shared view is kept between looks
        mine.look(3, stranger, bot, twin)
        assert [deal.bot_id for deal in mine.deals()] == [bot.pk]
    with detached("test looks"):
        row = BotProduct.objects.get(bot=stranger, product=mine.products["AAA-USD"])
    assert "no signal received" in row.last_message
    assert mine.pair(twin).last_message == row.last_message


def test_nothing_private_is_kept_in_the_shared_views() -> None:
    world = World(FLAT)
    bot = world.bot(**when(params={"valid_candles": 5}))
    told(world, bot, 3)
    world.look(3, bot)
    kept = [view for _, view in market_views._kept.values()]
    assert kept
    for view in kept:
        assert not [key for key in view._cache if "webhook" in str(key)]
        assert not [key for key in view.verdicts if "webhook" in str(key)]


def test_what_a_bot_is_told_leaves_with_the_chunk() -> None:
    world = World(FLAT)
    bot = world.bot(**when())
    told(world, bot, 3)
    with world.at(3) as now:
        chunk = loading.load([bot.pk], now)
        chunk.see(market_views.build(chunk.products, chunk.wanted_series(), now))
        pid = world.products["AAA-USD"].pk
        rule = Tree.model_validate(bot.settings["open_conditions"])
        condition = next(rule.conditions())
        seen = chunk.view(bot.pk, pid)
        assert seen is not None
        assert seen is not chunk.views[pid]
        assert seen is chunk.view(bot.pk, pid)
        assert seen.states(condition)[-1] != chunk.views[pid].states(condition)[-1]
        chunk.see(chunk.views)
        assert chunk.view(bot.pk, pid) is not seen


# Queries ------------------------------------------------------------------------------------------------------------


def queries_of_a_look(world: World, minute: int, *bots: Bot) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        world.look(minute, *bots)
    return [query["sql"] for query in captured]


def about_signals(queries: list[str]) -> int:
    return sum('"bots_signal"' in sql for sql in queries)


def test_a_chunk_reads_signals_in_one_query_however_many_bots_ask() -> None:
    world = World(FLAT)
    bots = [world.bot(**when()) for _ in range(7)]
    for bot in bots:
        told(world, bot, 1)
    world.look(2, *bots)
    one, many = queries_of_a_look(world, 4, bots[0]), queries_of_a_look(world, 4, *bots)
    assert about_signals(one) == about_signals(many) == 1
    assert len(one) == len(many)


def test_bots_without_such_rules_cost_no_query_about_signals() -> None:
    world = World(FLAT)
    rsi = {"open_conditions": {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 1}]}}
    plain, asking = world.bot(**rsi), world.bot(**when())
    world.look(2, plain, asking)
    assert about_signals(queries_of_a_look(world, 3, plain)) == 0
    without = len(queries_of_a_look(world, 4, plain))
    assert len(queries_of_a_look(world, 4, plain, asking)) == without + 1


# Verdicts -----------------------------------------------------------------------------------------------------------


def received(bot: Bot) -> list[Signal]:
    with detached("test looks"):
        return list(Signal.objects.filter(bot=bot).order_by("pk"))


def test_an_id_counts_once_per_bot() -> None:
    world = World(FLAT)
    bot, other = world.bot(), world.bot()
    first, again = (told(world, bot, minute, external_id="a") for minute in (1, 5))
    assert first.pk == again.pk
    assert again.received_at == first.received_at
    assert told(world, other, 5, external_id="a").pk != first.pk
    assert told(world, bot, 5).pk != told(world, bot, 5).pk  # without an id each is one of its own
    assert len(received(bot)) == 3


def test_a_repeated_id_keeps_the_verdict_it_got() -> None:
    world = World(FLAT)
    bot = world.bot()
    told(world, bot, 1, pair="XXX-USD", external_id="a")
    assert told(world, bot, 2, pair="AAA-USD", external_id="a").verdict == "unknown_pair"


def test_an_alert_that_was_under_way_for_too_long_is_too_late() -> None:
    world = World(FLAT)
    bot = world.bot()
    SignalHookFactory(bot=bot, max_lag_seconds=20)
    sent = world.moment(2)
    seen = {}
    for lag in (20, 21, -20, -21):
        with clock.at(sent + timedelta(seconds=lag)), acting_for_account(bot.account_id):
            seen[lag] = inlet.take(bot, Alert(pair="AAA-USD", sent_at=sent), "hook").signal
    assert {lag: signal.verdict for lag, signal in seen.items()} == {
        20: "accepted",
        21: "too_late",
        -20: "accepted",
        -21: "bad",
    }
    assert seen[21].reason == "It was under way for 21 s; 20 s are allowed."


def test_what_came_too_late_sets_no_condition() -> None:
    world = World(FLAT)
    bot = world.bot(**when())
    signal = told(world, bot, 3, sent_at=world.moment(3) - timedelta(minutes=5))
    assert signal.verdict == "too_late"
    world.look(3, bot)
    assert opened(world) == []
    assert "no signal received" in world.pair(bot).last_message


def test_a_pair_that_the_bot_does_not_have_is_unknown() -> None:
    world = World(FLAT)
    bot = world.bot("AAA-USD", **when())
    signal = told(world, bot, 3, pair="BBBUSD")
    assert (signal.verdict, signal.product_id) == ("unknown_pair", None)
    assert signal.reason == "BBBUSD is no pair of this bot; it has AAA-USD."
    world.look(3, bot)
    assert opened(world) == []


def test_an_alert_that_names_no_pair_is_about_the_only_one_and_never_about_several() -> None:
    world = World(FLAT)
    single, several = world.bot("AAA-USD"), world.bot()
    assert told(world, single, 3, pair="").product_id == world.products["AAA-USD"].pk
    assert told(world, several, 3, pair="").verdict == "unknown_pair"


def test_without_a_rule_that_asks_any_confidence_is_taken() -> None:
    world = World(FLAT)
    assert told(world, world.bot(), 3, kind=SignalKind.AI_BUY, confidence=5.0).verdict == "accepted"


def test_settings_that_cannot_be_read_do_not_keep_signals_out() -> None:
    world = World(FLAT)
    bot = world.bot(**when("ai_buy"))
    PositionFactory(bot=bot, product=world.products["AAA-USD"], open=True, strategy="of_yesterday")
    with detached("test breaks settings"):
        Bot.objects.filter(pk=bot.pk).update(settings={"max_active_deals": -1}, settings_version=9)
    assert told(world, bot, 3, kind=SignalKind.AI_BUY, confidence=5.0).verdict == "accepted"


def test_an_archived_bot_is_told_nothing() -> None:
    world = World(FLAT)
    bot = world.bot(running=False)
    with detached("test archives"):
        Bot.objects.filter(pk=bot.pk).update(archived_at=clock.now())
    with pytest.raises(NotFound):
        told(world, bot, 3)


def test_the_first_signal_of_each_kind_and_pair_is_marked_and_no_other() -> None:
    world = World(FLAT)
    bot = world.bot(**when("ai_buy", params={"min_confidence": 80}))
    told(world, bot, 1, pair="XXX-USD")
    told(world, bot, 1, kind=SignalKind.AI_BUY, confidence=10.0)  # of low confidence, but it was heard of
    for pair in ("AAA-USD", "AAA-USD", "BBB-USD", "all"):
        told(world, bot, 2, pair=pair, every_pair=pair == "all")
    told(world, bot, 2, kind=SignalKind.AI_BUY, confidence=90.0)
    assert [row.is_first for row in received(bot)] == [False, True, True, False, True, True, False]


# Retention ----------------------------------------------------------------------------------------------------------


def test_old_signals_go_and_the_first_ones_stay() -> None:
    bot = BotFactory()
    now = clock.now()
    old = SignalFactory(bot=bot, received_at=now - timedelta(days=91))
    first = SignalFactory(bot=bot, received_at=now - timedelta(days=400), is_first=True)
    young = SignalFactory(bot=bot, received_at=now - timedelta(days=89))
    stored.prune(days=90)
    assert [row.pk for row in received(bot)] == [first.pk, young.pk]
    assert old.pk not in {row.pk for row in received(bot)}


def test_a_bot_that_is_told_too_much_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_KEPT", 3)
    bot, other = BotFactory(), BotFactory()
    now = clock.now()
    first = SignalFactory(bot=bot, received_at=now - timedelta(hours=99), is_first=True)
    rows = [SignalFactory(bot=bot, received_at=now - timedelta(hours=9 - number)) for number in range(5)]
    SignalFactory(bot=other, received_at=now - timedelta(hours=50))
    stored.prune(days=90)
    assert [row.pk for row in received(bot)] == [first.pk, *(row.pk for row in rows[2:])]
    assert len(received(other)) == 1


def test_after_pruning_silence_still_has_a_meaning() -> None:
    world = World(FLAT)
    bot = world.bot(**when(value=0))
    told(world, bot, 1)
    told(world, bot, 2)
    stored.prune(days=1)
    world.look(6, bot)
    assert opened(world) == ["AAA-USD"]


# Hooks --------------------------------------------------------------------------------------------------------------


def test_f55_a_secret_is_kept_as_a_digest_and_replaced_or_revoked_at_once() -> None:
    world = World(FLAT)
    bot = world.bot()
    with acting_for_account(bot.account_id):
        hook, secret = hooks.renew_secret(bot, "ann@example.com")
        assert len(secret) >= 43
    with detached("test looks"):
        row = SignalHook.objects.filter(pk=hook.pk).values().get()
    assert secret not in str(row)
    found = hooks.found(hook.public_id, secret)
    assert found is not None
    assert found.bot_id == bot.pk
    assert hooks.found(hook.public_id, secret + "x") is None
    assert hooks.found("nothing", secret) is None
    with acting_for_account(bot.account_id):
        again, new = hooks.renew_secret(bot, "ann@example.com")
    assert again.public_id == hook.public_id
    assert hooks.found(hook.public_id, secret) is None
    assert hooks.found(hook.public_id, new) is not None
    with acting_for_account(bot.account_id):
        hooks.revoke_secret(bot, "ann@example.com")
    assert hooks.found(hook.public_id, new) is None
    assert hooks.found(hook.public_id, "") is None


def test_a_hook_of_an_archived_or_orphaned_bot_is_not_there() -> None:
    hook = SignalHookFactory(secret_digest=hooks.digest_of("s"))
    assert hooks.found(hook.public_id, "s") is not None
    with detached("test archives"):
        Bot.objects.filter(pk=hook.bot_id).update(archived_at=clock.now())
    assert hooks.found(hook.public_id, "s") is None
    with detached("test orphans"):
        Bot.objects.filter(pk=hook.bot_id).update(archived_at=None, account=None)
    assert hooks.found(hook.public_id, "s") is None
    orphan = BotFactory(owner=UserFactory(), account=None)
    with detached("test"), pytest.raises(InvalidInput):
        hooks.renew_secret(orphan, "ann@example.com")


@pytest.mark.parametrize("seconds", [0, 86_401, -5])
def test_how_late_an_alert_may_be_has_limits(seconds: int) -> None:
    world = World(FLAT)
    bot = world.bot()
    with acting_for_account(bot.account_id), pytest.raises(InvalidInput) as refused:
        hooks.set_max_lag(bot, seconds, "ann@example.com")
    assert refused.value.field == "max_lag_seconds"


# Pages' reads -------------------------------------------------------------------------------------------------------


def test_why_no_trade_reads_the_bots_own_signals() -> None:
    world = World(FLAT)
    bot = world.bot(**when(params={"valid_candles": 12}), running=False)
    told(world, bot, 3)
    with acting_for_account(bot.account_id):
        pair = BotProduct.objects.select_related("product").get(bot=bot, product=world.products["AAA-USD"])
        checks = gates.questions_now(bot, pair, Direction.LONG).checks
        assert [(check.value, check.state) for check in checks] == [(1.0, "met")]
        panel = bot_detail._signals(bot)
        assert panel.asked == ["Webhook"]
        assert [row.pair_words for row in panel.recent] == ["AAA-USD"]


def test_a_deals_rules_on_the_bots_page_read_its_signals() -> None:
    world = World({"AAA-USD": [100.0] * 5})
    bot = world.bot(take_profit_mode="conditions", close_conditions=when("ai_sell")["open_conditions"])
    world.look(1, bot)
    with world.at(4), detached("test reads"):
        page = bot_detail.bot_page(Bot.objects.get(pk=bot.pk))
    ((title, _, rows),) = page.why.rules
    assert title == "Rule for closing"
    assert rows[0].reason == "no signal received"


def test_the_engine_looks_at_a_bot_whose_signals_are_many_in_one_read() -> None:
    world = World(FLAT)
    bot = world.bot(**when(params={"valid_candles": 500}))
    for second in range(200):
        SignalFactory(
            bot=bot, product=world.products["AAA-USD"], received_at=world.moment(0) + timedelta(seconds=second)
        )
    assert about_signals(queries_of_a_look(world, 4, bot)) >= 1
    assert opened(world) == ["AAA-USD"]
    assert engine.CHUNK_BOTS == 1000
    assert START
