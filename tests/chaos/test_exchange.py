"""Workers that trade at the fake venue, killed and lied to, lose and double nothing; and the audit would notice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from positions.models import Fill, Order, Position, UnmatchedFill
from tests.chaos import exchange_audit, steps
from tests.chaos.exchange_audit import audit, watch, worse_protected
from tests.chaos.exchange_world import Life, Time, live, open_venue, passing, populate
from tests.prepared import DATABASE
from tests.venue.control import RemoteVenue
from tradebot.core.scoping import detached

ROOT = Path(__file__).resolve().parents[2]


def chaos(lives: int, seed: int, *more: str) -> str:
    """Run chaos in a process of its own and return its report; fails with what it printed where anything was wrong."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"DEBUG": "1", "DJANGO_SETTINGS_MODULE": "tests.chaos.settings", "LOG_LEVEL": "ERROR"}
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", "tests.chaos.exchange", "--lives", str(lives), "--seed", str(seed), *more]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figure(report: str, what: str) -> int:
    """Return a number of the report."""
    found = re.search(rf"^\| \**{re.escape(what)}\** \| ([\d,]+) \|", report, re.MULTILINE)
    assert found, report
    return int(found.group(1).replace(",", ""))


@pytest.mark.slow
def test_f5_f14_f18_killed_workers_lose_and_double_nothing_at_an_exchange(prepared: Path) -> None:
    report = chaos(8, 5, "--bots", "3", "--migrated", str(prepared / DATABASE))
    assert figure(report, "killed by `kill -9`") >= 3
    assert figure(report, "fills") >= 5
    assert figure(report, "faults injected") >= 1
    assert [figure(report, what) for what in ("lost", "doubled", "unsettled", "differences of any kind")] == [0] * 4


@pytest.fixture
def world(transactional_db: None, settings: Any) -> Iterator[RemoteVenue]:
    """A venue at which one worker has traded for two ticks, undisturbed."""
    with open_venue(7) as venue:
        remote = RemoteVenue(venue.url)
        settings.COINBASE_URL = venue.url
        clock = Time(time.time(), 1_800_000_000.0)
        remote.run_clock(clock.real, clock.market, 4.0)
        with passing(clock):
            populate(remote, accounts=1, bots=3)
            live(Life(0, 4, 2, clock), remote, lambda _: None)
        yield remote


def _lose_a_fill() -> None:
    fill = Fill.objects.first()
    assert fill is not None
    Fill.objects.filter(pk=fill.pk).delete()


def _book_another_fee() -> None:
    fill = Fill.objects.first()
    assert fill is not None
    Fill.objects.filter(pk=fill.pk).update(fee=fill.fee + Decimal("0.000000000000000001"))


def _forget_an_order() -> None:
    order = Order.objects.filter(status="filled").first()
    assert order is not None
    Order.objects.filter(pk=order.pk).update(client_order_id="00000000-0000-0000-0000-000000000001")


def _take_it_for_working() -> None:
    order = Order.objects.filter(status="filled").first()
    assert order is not None
    Order.objects.filter(pk=order.pk).update(status="open")


def _miscount_a_deal() -> None:
    deal = Position.objects.filter(status="open").first()
    assert deal is not None
    Position.objects.filter(pk=deal.pk).update(quote_spent=deal.quote_spent + 1)


def _call_it_a_strangers() -> None:
    fill = Fill.objects.select_related("account").first()
    assert fill is not None
    UnmatchedFill.objects.create(
        account=fill.account,
        venue_trade_id="x",
        symbol="AAA-USD",
        side=fill.side,
        price=fill.price,
        base=fill.base,
        at=fill.at,
    )


TAMPERING: dict[Callable[[], None], str] = {
    _lose_a_fill: "is not in the ledger",
    _book_another_fee: "the venue says",
    _forget_an_order: "is unknown to us",
    _take_it_for_working: "at the venue and open here",
    _miscount_a_deal: "are not those of its fills",
    _call_it_a_strangers: "reported as nobody's",
}


@pytest.mark.slow
def test_the_audit_notices_what_it_is_there_for(world: RemoteVenue) -> None:
    from django.db import transaction

    assert audit(world).problems == []
    assert audit(world).fills >= 3
    for tamper, words in TAMPERING.items():
        with transaction.atomic():
            with detached("the test tampers with the books"):
                tamper()
            found = audit(world).problems
            transaction.set_rollback(True)
        assert any(words in problem for problem in found), (tamper.__name__, found)
    assert audit(world).problems == []
    order = world.orders()[0]
    world.double(order["order_id"])
    found_now = audit(world)
    assert found_now.doubled == 1
    world.deposit(order["account"], "USD", "1")
    assert any("by our fills" in problem for problem in audit(world).problems)


@pytest.mark.slow
def test_the_watch_notices_lost_protection(world: RemoteVenue) -> None:
    before = watch()
    assert before
    assert worse_protected(before, watch()) == []
    first = next(iter(before))
    before[first]["trail"] = {"armed": True, "best": "5"}
    assert len(worse_protected(before, watch())) == 2
    before[first]["settings"] = "other"
    assert any("frozen" in problem for problem in worse_protected(before, watch()))


@pytest.mark.slow
def test_the_audit_notices_a_bot_that_nobody_looks_at(world: RemoteVenue) -> None:
    assert exchange_audit.not_watched(datetime(2027, 1, 15, tzinfo=UTC)) == []
    assert len(exchange_audit.not_watched(datetime(2027, 2, 15, tzinfo=UTC))) == 3


def test_every_step_of_the_protocol_has_its_hook() -> None:
    assert steps.STEPS.keys() == steps._HOOKS.keys()
