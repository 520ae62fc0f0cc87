"""Celery tasks: each starts without a scope and leaves none; ids of somebody else's rows reach nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from celery import shared_task

from marketdata import services as market_services
from notifications.models import Event
from tests.isolation.world import ADDRESS, PRIVATE, SHARED, World
from tradebot.celery import app
from tradebot.core.scoping import acting_for_account, detached, scope_or_none
from tradebot.core.tasks import ScopedTask

app.loader.import_default_modules()
TASKS: Final = sorted(name for name in app.tasks if not name.startswith(("celery.", "tests.")))


def nothing(world: World) -> list[Any]:
    return []


def foreign_chunk(world: World) -> list[Any]:
    """Bob's account with Ann's bots: what a dispatcher gone wrong would hand out."""
    with detached("the proof looks for Bob's account"):
        bobs = world.bob.accounts.get().pk
    return [[[bobs, [world.shared["bot"].pk, world.private["bot"].pk, world.private["orphan"].pk]]]]


def foreign_sweep(world: World) -> list[Any]:
    """Ann's sweep as if it were Bob's."""
    return [world.bob.pk, world.private["sweep"].pk, 0, 1]


def foreign_run(world: World) -> list[Any]:
    """Ann's panic sale. It has ended, so nobody's message carries it on."""
    return [world.private["panic"].pk]


def foreign_account(world: World) -> list[Any]:
    """Ann's account, which is not stopped: a message alone cancels nothing."""
    return [world.private["account"].pk]


def foreign_download(world: World) -> list[Any]:
    """Ann's download as if it were Bob's."""
    with detached("the proof looks for the claim"):
        claim = world.private["download"].started_at
    return [world.bob.pk, world.private["download"].pk, claim.isoformat() if claim else ""]


ARGUMENTS: Final[dict[str, Callable[[World], list[Any]]]] = {
    "accounts.tasks.clear_sessions": nothing,
    "bots.autobuy.tasks.prune": nothing,
    "bots.autobuy.tasks.run": nothing,
    "bots.autobuy.tasks.run_account": foreign_account,
    "accounts.tasks.read_account_transfers": foreign_account,
    "accounts.tasks.read_transfers": nothing,
    "bots.backtesting.tasks.recover": nothing,
    "bots.backtesting.tasks.sweep_strand": foreign_sweep,
    "bots.backtesting.tasks.work": nothing,
    "bots.panic.tasks.go_on": foreign_run,
    "bots.panic.tasks.go_on_with_all": nothing,
    "bots.tasks.dispatch_cycle": nothing,
    "bots.tasks.prune_decisions": nothing,
    "bots.tasks.prune_signals": nothing,
    "bots.tasks.refresh_candles": nothing,
    "bots.tasks.refresh_prices": nothing,
    "bots.tasks.refresh_products": nothing,
    "bots.tasks.run_chunk": foreign_chunk,
    "marketdata.tasks.download_history": foreign_download,
    "marketdata.tasks.download_next": nothing,
    "marketdata.tasks.recover_downloads": nothing,
    "notifications.tasks.prune_events": nothing,
    "positions.tasks.cancel_entries": foreign_account,
    "positions.tasks.cancel_entries_of_stopped": nothing,
    "positions.tasks.go_on_with_sales": nothing,
    "positions.tasks.go_on_with_sales_of": foreign_account,
    "positions.tasks.mark_days": nothing,
    "positions.tasks.ask_for_balances": nothing,
    "positions.tasks.close_account": foreign_account,
    "positions.tasks.close_after_guard": nothing,
    "positions.tasks.compare_account": foreign_account,
    "positions.tasks.measure_after_reading": foreign_account,
    "positions.tasks.measure_guarded": nothing,
    "positions.tasks.monitor_resting": nothing,
    "positions.tasks.poll_account": foreign_account,
    "positions.tasks.tend_account": foreign_account,
    "positions.tasks.tend_perpetuals": nothing,
    "positions.tasks.prune_equity": nothing,
    "positions.tasks.read_late_funding": nothing,
    "positions.tasks.reconcile": nothing,
    "positions.tasks.reconcile_account": foreign_account,
    "positions.tasks.refresh_account": foreign_account,
    "positions.tasks.report_unmatched_fills": nothing,
    "positions.tasks.take_value_snapshots": nothing,
    "tradebot.core.tasks.prune_action_keys": nothing,
}
"""What each task is given. A task that takes ids of rows is given Ann's where Bob's belong."""

OVER_ALL: Final = {
    "accounts.tasks.read_account_transfers": "looks after the account it is given, in that account's scope",
    "accounts.tasks.read_transfers": "reads the transfers of everybody, each account in a scope of its own",
    "bots.autobuy.tasks.run": "buys for everybody's rules, each account in a scope of its own",
    "bots.autobuy.tasks.run_account": "buys for the account it is given, in that account's scope",
    "positions.tasks.measure_after_reading": "looks after the account it is given, in that account's scope",
    "positions.tasks.measure_guarded": "measures everybody's guarded accounts, each in a scope of its own",
    "bots.backtesting.tasks.recover": "queues everybody's backtests and sweeps again whose worker died",
    "bots.backtesting.tasks.work": "takes whoever's turn it is, and works in that person's scope",
    "marketdata.tasks.download_next": "takes whoever's turn it is, and works in that person's scope",
    "marketdata.tasks.recover_downloads": "hands everybody's downloads out again whose worker died",
    "bots.tasks.dispatch_cycle": "claims due bots of everybody",
    "bots.panic.tasks.go_on_with_all": "goes on with panic sales of everybody, each in a scope of its account",
    "positions.tasks.cancel_entries_of_stopped": "takes back entries of every stopped account, each in its own scope",
    "positions.tasks.mark_days": "marks the day of every account with a limit, and drops marks that nothing needs",
    "positions.tasks.ask_for_balances": "asks every exchange account's venue, each in a scope of its own",
    "positions.tasks.compare_account": "looks after the account it is given, in that account's scope",
    "positions.tasks.tend_account": "looks after the account it is given, in that account's scope",
    "positions.tasks.monitor_resting": "matches resting orders of everybody, each account in a scope of its own",
    "positions.tasks.go_on_with_sales": "goes on with sales of everybody, each account in a scope of its own",
    "positions.tasks.go_on_with_sales_of": "looks after the account it is given, in that account's scope",
    "positions.tasks.tend_perpetuals": "settles perpetuals of everybody, each account in a scope of its own",
    "positions.tasks.read_late_funding": "hands out exchange accounts of everybody, each to a task in its own scope",
    "positions.tasks.reconcile": "settles orders of everybody, each account in a scope of its own",
    "positions.tasks.report_unmatched_fills": "looks at every exchange account, each in a scope of its own",
    "positions.tasks.take_value_snapshots": "writes down what accounts are worth, each in a scope of its own",
}
"""Tasks that may change Ann's rows, because they look after everybody's."""


@pytest.fixture
def world(made: World, db: None) -> World:
    market_services.refresh_products("simulated")
    return made


def test_every_task_has_arguments_to_be_tried_with() -> None:
    assert set(TASKS) == set(ARGUMENTS)
    assert set(OVER_ALL) <= set(TASKS)


def test_every_scheduled_task_exists() -> None:
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_starts_without_a_scope_and_leaves_none(world: World, name: str) -> None:
    task = app.tasks[name]
    assert isinstance(task, ScopedTask)
    with acting_for_account(world.private["account"].pk):
        before = scope_or_none()
        task.apply(ARGUMENTS[name](world), throw=True)
        assert scope_or_none() is before
    task.apply(ARGUMENTS[name](world), throw=True)
    assert scope_or_none() is None


@pytest.mark.parametrize("name", [name for name in TASKS if name not in OVER_ALL])
def test_a_task_reaches_nothing_through_foreign_ids(world: World, name: str) -> None:
    before = world.fingerprint()
    app.tasks[name].apply(ARGUMENTS[name](world), throw=True)
    assert world.fingerprint() == before


@pytest.mark.parametrize("name", TASKS)
def test_nobody_is_told_about_somebody_elses_rows(world: World, name: str) -> None:
    app.tasks[name].apply(ARGUMENTS[name](world), throw=True)
    with detached("the proof reads what people were told"):
        for person, hidden in ((world.bob, (SHARED, PRIVATE, ADDRESS)), (world.olga, (PRIVATE,))):
            told = str(list(Event.objects.filter(user=person).values()))
            assert not any(mark in told for mark in hidden), name


def test_a_task_that_forgets_its_scope_would_be_seen(world: World) -> None:
    """The counter-check: a task that leaves a scope behind does not hand it to the next one."""
    seen = []

    @shared_task(name="tests.isolation.leaky")
    def leaky() -> None:
        seen.append(scope_or_none())
        acting_for_account(world.private["account"].pk).__enter__()

    leaky.apply(throw=True)
    leaky.apply(throw=True)
    assert seen == [None, None]
