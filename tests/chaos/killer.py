"""Kill a replay with ``kill -9`` at random moments, go on, and compare with a run that nobody disturbed.

    python -m tests.chaos.killer --runs 200 --seed 1

A process with everything imported forks the worker, so that a run costs a fraction of a second and the kills fall into
the work and not into the start. Every run has a database of its own. Exit code 1 means that an order was lost or
doubled, or that a figure is off; what differs is printed.
"""

from __future__ import annotations

import argparse
import csv
import gc
import gzip
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CANDLES, STEP_SECONDS, START = 240, 300, 1_700_000_100
SETTINGS = {
    "max_active_deals": 3,
    "max_deals_per_pair": 1,
    "base_order_type": "automatic",
    "max_safety_orders": 3,
    "safety_order_size": "100",
    "price_deviation": "0.8",
    "take_profit": "0.7",
    "take_profit_mode": "trailing",
    "trailing_deviation": "0.3",
    "stop_loss": "6",
    "cooldown_seconds": 600,
    "open_conditions": {"items": [{"indicator": "rsi", "timeframe": "5m", "operator": "<", "value": 55}]},
}


@dataclass(frozen=True)
class Outcome:
    """What a finished run left behind, without ids and wall-clock times."""

    fingerprint: str
    fills: int
    deals: list[Any]
    balances: list[Any]
    problems: list[str]


def write_recording(folder: Path, seed: int, candles: int = CANDLES) -> list[Path]:
    """Write three random walks with jumps as candle files and return their paths."""
    rng = random.Random(seed)
    paths = []
    for name, price in (("AAA", 0.05), ("BBB", 0.002), ("CCC", 0.4)):
        path = folder / f"{name}-BTC_5m_chaos.csv.gz"
        with gzip.open(path, "wt", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["time", "open", "high", "low", "close", "volume"])
            for number in range(candles):
                opening, price = price, price * (1 + rng.gauss(0, 0.006) - 0.00002)
                high, low = max(opening, price) * 1.001, min(opening, price) * 0.999
                row = [f"{value:.8f}" for value in (opening, high, low, price)]
                writer.writerow([START + number * STEP_SECONDS, *row, 5000])
        paths.append(path)
    return paths


def forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked process and return its pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def use_database(path: Path) -> None:
    """Point this (forked) process at the database file."""
    from django.db import connections

    connections.close_all()
    connections["default"].settings_dict["NAME"] = str(path)
    connections["default"].close()


def replay_all(paths: list[Path]) -> None:
    """Open or go on with the run, and do all that is left of it."""
    from decimal import Decimal

    from accounts.access import acting_for
    from accounts.models import User
    from bots import replay
    from bots.strategies import get_strategy
    from tests.chaos import killer

    strategy = get_strategy("indicator_dca")
    spec = replay.ReplaySpec(
        files=tuple(paths),
        strategy=strategy.name,
        settings=strategy.settings_from_json(killer.SETTINGS).to_json(),
        budget_pct=Decimal(100),
        start={"BTC": Decimal(1)},
        label="chaos",
    )
    user = User.objects.get(email="chaos@localhost")
    with acting_for(user):
        run, _ = replay.open_run(user, spec)
    with acting_for(user):
        replay.run_to_end(run)
        replay.report(run)


def prepare() -> None:
    """Make the tables, and one person."""
    from django.core.management import call_command

    from accounts.models import User

    call_command("migrate", verbosity=0)
    User.objects.create_user("chaos@localhost")


def inspect() -> Outcome:
    """Look at what a run left behind, and check what must always hold."""
    from django.db.models import Count

    from accounts.models import PaperBalance, PaperEntry, PaperOrder, PaperTrade
    from bots.models import ReplayRun
    from bots.replay import fingerprint
    from positions import booking
    from positions.models import Fill, Order, Position
    from tradebot.core.money import AmountSum
    from tradebot.core.scoping import all_accounts

    problems = []
    with all_accounts("chaos looks at what is left"):
        fills = list(Fill.objects.select_related("position__product").order_by("at", "pk"))
        trades = {str(trade.trade_id): trade for trade in PaperTrade.objects.all()}
        ours = {fill.venue_trade_id: fill for fill in fills}
        if lost := trades.keys() - ours.keys():
            problems.append(f"{len(lost)} venue trades are not in the ledger")
        if invented := ours.keys() - trades.keys():
            problems.append(f"{len(invented)} fills are unknown to the venue")
        problems += [
            f"amounts of {key} differ" for key in trades.keys() & ours.keys() if trades[key].base != ours[key].base
        ]
        twice = PaperOrder.objects.values("client_order_id").annotate(n=Count("id")).filter(n__gt=1)
        problems += [f"client id {row['client_order_id']} {row['n']} times" for row in twice]
        if stray := PaperOrder.objects.exclude(client_order_id__in=Order.objects.values("client_order_id")).count():
            problems.append(f"{stray} venue orders belong to no order of ours")
        if working := Order.objects.exclude(status__in=["filled", "cancelled", "rejected", "expired"]).count():
            problems.append(f"{working} orders are still working")
        for balance in PaperBalance.objects.all():
            entries = PaperEntry.objects.filter(account=balance.account_id, currency=balance.currency)
            total = entries.order_by().aggregate(s=AmountSum("amount"))["s"] or 0
            if total != balance.total:
                problems.append(f"entries of {balance.currency} sum to {total}, the balance is {balance.total}")
            if balance.held:
                problems.append(f"{balance.held} {balance.currency} is still held")
        names = [
            "attempt_number",
            "deal_number",
            "status",
            "average_price",
            "realised_quote",
            "base_held",
            "exit_reason",
        ]
        deals = []
        for position in Position.objects.select_related("product", "account").order_by("pk"):
            stored = [str(getattr(position, name)) for name in names]
            booking.recompute(position)
            if stored != [str(getattr(position, name)) for name in names]:
                problems.append(f"totals of deal {position.attempt_number} are not those of its fills")
            deals.append([position.product.symbol, *stored, position.exit_reason, position.trail])
        balances = [[row.currency, str(row.total)] for row in PaperBalance.objects.order_by("currency")]
        if (runs := ReplayRun.objects.count()) != 1:
            problems.append(f"{runs} runs in place of one")
    return Outcome(fingerprint(fills), len(fills), deals, balances, problems)


def outcome_of(path: Path, folder: Path) -> Outcome:
    """Inspect the database in a process of its own, so that this one never opens a connection."""
    report = folder / "outcome.json"

    def look() -> None:
        use_database(path)
        report.write_text(json.dumps(inspect().__dict__))

    wait_for(forked(look))
    return Outcome(**json.loads(report.read_text()))


def wait_for(pid: int) -> int:
    """Wait until the process has ended and return its exit code; negative is the signal that ended it."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def run_with_kills(path: Path, paths: list[Path], rng: random.Random, longest: float) -> int:
    """Do a run to its end, killing it at random moments; return the number of kills."""
    kills = 0

    def work() -> None:
        use_database(path)
        replay_all(paths)

    while True:
        pid = forked(work)
        deadline = time.monotonic() + rng.uniform(0.02, longest)
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                if code:
                    raise SystemExit(f"the worker ended by itself with code {code}")
                return kills
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        if wait_for(pid) == 0:
            return kills
        kills += 1
        longest *= 1.15  # so that every run gets to its end


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--candles", type=int, default=CANDLES, help="length of the recordings")
    parser.add_argument("--migrated", type=Path, help="a migrated database to begin with a copy of")
    options = parser.parse_args(argv)
    import django

    django.setup()
    import bots.replay  # noqa: F401 (imported once, before the forks)

    gc.freeze()  # so that no fork looks through, and thereby copies, what all have

    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="tradebot-chaos-"))
    started = time.monotonic()
    try:
        return _compare(options.runs, options.candles, folder, rng, started, options.migrated)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compare(runs: int, candles: int, folder: Path, rng: random.Random, started: float, migrated: Path | None) -> int:
    from django.db import connections

    paths = write_recording(folder, rng.randrange(1 << 30), candles)
    empty, undisturbed = folder / "empty.sqlite3", folder / "undisturbed.sqlite3"
    if migrated is not None:
        shutil.copy(migrated, empty)

    def make_empty() -> None:
        use_database(empty)
        prepare()
        connections.close_all()  # so that the file is complete without its write-ahead log

    if wait_for(forked(make_empty)):
        raise SystemExit("the database could not be made")
    shutil.copy(empty, undisturbed)

    def undisturbed_run() -> None:
        use_database(undisturbed)
        replay_all(paths)

    clocked = time.monotonic()
    if wait_for(forked(undisturbed_run)):
        raise SystemExit("the undisturbed run failed")
    length = time.monotonic() - clocked
    expected = outcome_of(undisturbed, folder)
    print(
        f"undisturbed: {expected.fills} fills of {len(expected.deals)} deals in {length:.1f} s, {expected.fingerprint}"
    )
    kills = wrong = 0
    for number in range(1, runs + 1):
        path = folder / f"run{number}.sqlite3"
        shutil.copy(empty, path)
        killed = run_with_kills(path, paths, rng, length * 0.6)
        kills += killed
        got = outcome_of(path, folder)
        differences = [
            name
            for name in ("fingerprint", "fills", "deals", "balances")
            if getattr(got, name) != getattr(expected, name)
        ]
        if differences or got.problems:
            wrong += 1
            print(f"run {number} ({killed} kills): {', '.join(differences)} differ; {got.problems}")
            for had, has in zip(expected.deals, got.deals, strict=False):
                if had != has:
                    print(f"  expected {had}\n  got      {has}")
        for left in folder.glob(f"run{number}.sqlite3*"):
            left.unlink()
    if expected.problems or expected.fills < 10:
        wrong += 1
        print(f"the undisturbed run itself: {expected.problems}")
    took = time.monotonic() - started
    print(f"{runs} runs, {kills} kills, {wrong} wrong, {took:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
