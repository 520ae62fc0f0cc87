"""Backtests of rules that ask for signals: those of the saved bot, silence for every other run, and the same fills."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import User
from bots.backtesting import jobs, plan
from bots.backtesting import services as backtests
from bots.backtesting.form_page import run_form
from bots.backtesting.forms import RunDraft
from bots.models import Backtest, Bot, JobStatus
from bots.signals import inlet
from bots.signals.payloads import Alert
from bots.strategies.heard import NO_SIGNALS
from marketdata.signals import SignalAction, SignalKind
from positions.models import Fill
from tests.bots.world import START, World
from tests.factories import BotTemplateFactory, MembershipFactory, UserFactory
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account, detached, request_holder

pytestmark = pytest.mark.django_db

# Falls by six percent and comes back, again and again.
WAVE = [100.0, 99, 98, 97, 96, 95, 94, 95, 96, 97, 98, 99, 101]
CLOSES = {"AAA-USD": WAVE * 6, "BBB-USD": WAVE[::-1] * 6}


def when(kind: str = "webhook", **changes: Any) -> dict[str, Any]:
    rule = {"indicator": kind, "timeframe": "1m", "operator": "=", "value": 1} | changes
    return {"open_conditions": {"items": [rule]}}


def told(bot: Bot, at: datetime, **alert: Any) -> None:
    with clock.at(at), acting_for_account(bot.account_id):
        assert inlet.take(bot, Alert(**({"pair": "AAA-USD"} | alert)), "api").signal.is_heard


def done(user: User, bot: Bot | None, **changes: Any) -> Backtest:
    given: dict[str, Any] = {"bot": bot, "capital": 10_000, "taker_fee_pct": 0, "maker_fee_pct": 0}
    if bot is None:
        given |= {"exchange": "replay", "symbols": [*CLOSES]}
    with acting_for(user):
        row = backtests.start_backtest(user, slippage_pct=0, **(given | changes))
    with request_holder():
        claimed = jobs.claim_next()
    assert claimed is not None
    assert claimed.pk == row.pk
    with jobs.acting_for_owner(row.owner_id):
        finished = backtests.run_backtest(claimed)
    assert finished.status == JobStatus.FINISHED, finished.error
    return finished


def simulated(backtest: Backtest) -> list[tuple[Any, ...]]:
    with detached("test looks"):
        rows = [
            (fill["at"], deal.symbol, fill["side"], Decimal(fill["price"]), Decimal(fill["base"]))
            for deal in backtest.deals.all()
            for fill in deal.fills
        ]
    return sorted(rows)


def traded(world: World) -> list[tuple[Any, ...]]:
    with detached("test looks"):
        rows = Fill.objects.filter(account=world.account).select_related("position__product")
        return sorted(
            (int(row.at.timestamp()), row.position.product.symbol, row.side, row.price, row.base) for row in rows
        )


def test_a_backtest_of_a_saved_bot_has_the_fills_of_the_cycle_that_heard_the_same_signals() -> None:
    world = World(CLOSES)
    rule = {
        "open_conditions": {
            "join": "or",
            "items": [
                {"indicator": "webhook", "timeframe": "1m", "operator": "crosses_above", "value": 0.5, "output": "buy"},
                {"indicator": "ai_buy", "timeframe": "3m", "operator": "=", "value": 1, "params": {"valid_candles": 2}},
            ],
        },
        "take_profit_mode": "conditions",
        "close_conditions": when("ai_sell", params={"valid_candles": 4})["open_conditions"],
    }
    bot = world.bot(**rule, max_deals_per_pair=1)
    said: list[tuple[int, dict[str, Any]]] = [
        (2, {"action": SignalAction.BUY}),
        (3, {"action": SignalAction.SELL}),
        (9, {"kind": SignalKind.AI_SELL, "confidence": 70.0}),
        (20, {"kind": SignalKind.AI_BUY, "confidence": 59.0}),
        (25, {"kind": SignalKind.AI_BUY, "confidence": 61.0, "pair": "all", "every_pair": True}),
        (37, {"kind": SignalKind.AI_SELL, "confidence": 90.0, "pair": "all", "every_pair": True}),
        (50, {"action": SignalAction.BUY, "pair": "BBB-USD"}),
        (51, {"action": SignalAction.BUY, "pair": "BBB-USD"}),
        (64, {"kind": SignalKind.AI_SELL, "confidence": 90.0, "pair": "BBB-USD"}),
    ]
    for minute in range(len(CLOSES["AAA-USD"])):
        for at, alert in said:
            if at == minute:
                told(bot, world.moment(minute) - timedelta(seconds=20), **alert)
        world.step(minute, bot)
    found = done(world.owner, bot)
    assert len(traded(world)) >= 8
    assert simulated(found) == traded(world)
    assert any("has received and that are still kept were used" in line for line in found.warnings)


def test_signals_received_before_the_range_still_count_and_later_ones_do_not() -> None:
    world = World(CLOSES)
    bot = world.bot(**when(params={"valid_candles": 10}), max_active_deals=1)
    told(bot, world.moment(4))
    begin = START + 8 * 60
    early = done(world.owner, bot, start=begin, end=begin + 30 * 60)
    assert simulated(early)[0][0] == begin + 60
    other = world.bot(**when())
    told(other, world.moment(70))
    assert simulated(done(world.owner, other, start=begin, end=begin + 30 * 60)) == []


def test_a_run_of_no_saved_bot_counts_every_source_as_silent_and_says_so() -> None:
    world = World(CLOSES)
    bot = world.bot(**when())
    told(bot, world.moment(4))
    found = done(world.owner, None, settings=bot.settings, budget_kind="fixed", budget_fixed=5_000)
    assert simulated(found) == []
    assert found.warnings[0] == (
        "Signals (webhook): this run is not of a saved bot, so none has come: their value is 0 throughout."
    )
    silent = get_settings(bot, when(value=0))
    assert simulated(done(world.owner, None, settings=silent, budget_kind="fixed", budget_fixed=5_000))


def get_settings(bot: Bot, changes: dict[str, Any]) -> dict[str, Any]:
    return {**bot.settings, **changes}


def test_a_bot_that_was_told_nothing_opens_nothing_by_signals() -> None:
    world = World(CLOSES)
    bot = world.bot(**when(value=0))
    found = done(world.owner, bot)
    assert simulated(found) == []
    assert "had received none by the end" in found.warnings[0]


def test_before_its_first_signal_a_saved_bot_is_not_silent_but_unknown() -> None:
    world = World(CLOSES)
    bot = world.bot(**when(value=0))
    told(bot, world.moment(20) - timedelta(seconds=30))
    found = done(world.owner, bot)
    assert simulated(found)[0][0] == START + 60 * 22
    assert "when the first one came" in found.warnings[1]


def test_f46_a_sweep_over_the_least_confidence_changes_what_happens() -> None:
    world = World(CLOSES)
    bot = world.bot(**when("ai_buy", params={"min_confidence": 50}))
    told(bot, world.moment(4), kind=SignalKind.AI_BUY, confidence=65.0)
    counts = {}
    for least in (60, 70):
        changed = get_settings(bot, when("ai_buy", params={"min_confidence": least}))
        counts[least] = len(simulated(done(world.owner, bot, settings=changed)))
    assert counts[60] > 0
    assert counts[70] == 0


def test_somebody_who_does_not_see_the_bot_any_more_gets_no_signals_of_it() -> None:
    world = World(CLOSES)
    bot = world.bot(**when())
    told(bot, world.moment(4))
    observer = UserFactory()
    share = MembershipFactory(account=world.account, user=observer)
    assert simulated(done(observer, bot))
    with acting_for(observer):
        row = backtests.start_backtest(observer, bot=bot, capital=10_000, slippage_pct=0)
    with detached("test ends the share"):
        share.delete()
    with request_holder():
        claimed = jobs.claim_next()
    assert claimed is not None
    with jobs.acting_for_owner(observer.pk):
        loaded = plan.load(claimed, plan.parsed_settings(plan.strategies.get_strategy(row.strategy), row.settings))
    assert all(pair.heard is NO_SIGNALS for pair in loaded.pairs)
    assert "not of a saved bot" in loaded.warnings[0]


def test_rules_without_signals_read_none() -> None:
    world = World(CLOSES)
    bot = world.bot()
    told(bot, world.moment(4))
    assert all("ignal" not in line for line in done(world.owner, bot).warnings)


@pytest.mark.parametrize("saved", [True, False])
def test_the_form_says_which_signals_a_run_will_use(saved: bool) -> None:
    world = World(CLOSES)
    bot = world.bot(**when())
    template = BotTemplateFactory(owner=world.owner, settings=bot.settings)
    with acting_for(world.owner):
        draft = RunDraft.from_defaults(f"bot:{bot.pk}" if saved else f"template:{template.pk}", {})
        note = run_form(draft, world.owner).signals_note
    assert note.startswith("Webhook: ")
    assert ("that are still kept are used" in note) == saved
    assert ("the value is 0 throughout" in note) != saved
