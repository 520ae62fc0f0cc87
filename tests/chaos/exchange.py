"""Kill workers that trade at the fake venue while things go wrong there, then compare the books.

    python -m tests.chaos.exchange --lives 1000 --seed 1 --markdown chaos.md

An episode is a venue, a database, some people with dozens of bots, and fifty lives of workers, two at a time. A life
ends by ``kill -9`` at a named step (:mod:`tests.chaos.steps`), by one at a random moment, or by having done its work.
Between lives time jumps, prices move, and other things go wrong at the venue. At the end of an episode nothing goes
wrong any more, reconciliation has its turn, and what the venue knows is compared with what we have written down.

The venue is a process of its own that nobody kills. Workers are forked from a process that has everything imported and
no thread and no connection of its own. All that is planned is drawn by the seed; how the processes interleave is the
machine's affair, so an episode that failed is printed with its seed and its database is kept.

Exit code 1: an order or a fill was lost or doubled, or something else does not agree.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos import exchange_audit, steps
from tests.chaos.exchange_world import (
    BOTS_PER_ACCOUNT,
    SPEED,
    Life,
    Time,
    live,
    open_venue,
    passing,
    populate,
    refresh_balances,
    remember_prices,
)
from tests.chaos.killer import forked, use_database, wait_for
from tests.venue.control import RemoteVenue

AT_ONCE = 2
IMPORTED_ONCE = (
    "ccxt.coinbase",
    "accounts.exchanges.ccxt.venue",
    "accounts.exchanges.ccxt.dialects",
    "bots.engine",
    "bots.strategies.dca_open",
    "positions.limit_close",
    "positions.manual",
    "positions.tasks",
)
"""What workers need, imported before they are forked, so that kills fall into their work."""
LIVES_PER_EPISODE = 50
SETTLING = 3
"""How often reconciliation has its turn at the end, 70 seconds apart: grace periods and leases end by then."""
START = 1_800_000_000.0
RANDOM, NONE = "at random", "not killed"
ORDERS, LOOKS = r"/orders$", "/historical/"
TROUBLES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("timeout", ORDERS, {"when": "before", "seconds": 0.1}),
    ("timeout", ORDERS, {"when": "after", "seconds": 0.1}),
    ("cut", ORDERS, {"when": "before"}),
    ("cut", ORDERS, {"when": "after"}),
    ("half", ORDERS, {}),
    ("status", ORDERS, {"status": 500, "when": "after"}),
    ("status", ORDERS, {"status": 502}),
    ("status", ORDERS, {"status": 503, "when": "after"}),
    ("status", ORDERS, {"status": 429}),
    ("status", "", {"status": 401}),
    ("status", "", {"status": 403}),
    ("delay", "", {"seconds": 0.02}),
    ("partial", "", {"share": "0.4"}),
    ("pending", "", {"looks": 2}),
    ("hidden", "", {"looks": 2}),
    ("late_fills", "", {"looks": 2}),
    ("reject", "", {"reason": "INSUFFICIENT_FUND"}),
    ("venue_cancel", "", {}),
    ("race", "", {"share": "0.5"}),
    ("late_race", "", {"share": "1"}),
    ("duplicate", LOOKS, {}),
    ("reorder", LOOKS, {}),
    ("cut", "batch_cancel", {"when": "after"}),
    ("timeout", "batch_cancel", {"when": "before", "seconds": 0.1}),
    ("status", LOOKS, {"status": 500}),
    ("half", LOOKS, {}),
)
"""What may go wrong at the venue, and where. There is no 429 after an order was taken: it says that nobody looked."""


@dataclass
class Report:
    """What happened in all episodes together."""

    seed: int = 0
    lives: int = 0
    episodes: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    hands: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Return it as Markdown."""
        kills, killed = self.kills, sum(count for step, count in self.kills.items() if step != NONE)
        rows = [
            ("worker lives (runs)", self.lives),
            ("killed by `kill -9`", killed),
            ("ended by themselves", kills[NONE]),
            ("worlds (episodes)", self.episodes),
            ("faults injected", self.faults.total()),
            ("actions by hand", self.hands.total()),
            *((name, self.totals[name]) for name in ("orders", "fills", "deals", "open deals")),
            *((f"**{name}**", self.totals[name]) for name in ("lost", "doubled", "unsettled")),
            ("**differences of any kind**", len(self.problems)),
        ]
        out = [f"Seed {self.seed}, {self.seconds:.0f} s.", "", "| what | number |", "| --- | ---: |"]
        out += [f"| {name} | {number:,} |" for name, number in rows]
        out += ["", "| killed | times | what is left behind |", "| --- | ---: | --- |"]
        out += [f"| {step} | {kills[step]:,} | {left} |" for step, left in steps.STEPS.items()]
        out += [f"| {RANDOM} | {kills[RANDOM]:,} | anything |"]
        out += ["", "| fault at the venue | times |", "| --- | ---: |"]
        out += [f"| {name} | {count:,} |" for name, count in sorted(self.faults.items())]
        return out


@dataclass
class Plan:
    """One life and how it is to end: at the ``nth`` coming to ``step``, or ``after`` so many seconds."""

    life: Life
    step: str
    nth: int
    after: float


def start_venue(seed: int, folder: Path) -> tuple[int, RemoteVenue]:
    """Start a venue in a process of its own; return its pid and the handles."""
    told = folder / "venue"

    def serve() -> None:
        venue = open_venue(seed).start()
        pending = told.with_suffix(".new")
        pending.write_text(venue.url)
        pending.rename(told)
        while os.getppid() != 1:
            time.sleep(0.2)

    pid = forked(serve)
    while not told.exists():
        time.sleep(0.005)
    return pid, RemoteVenue(told.read_text())


def run_life(plan: Plan, remote: RemoteVenue, database: Path, notes: Path) -> None:
    """Be a worker: in a forked process, until killed or done."""
    from django.conf import settings

    use_database(database)
    settings.COINBASE_URL = remote.url

    def note(word: str) -> None:
        with notes.open("a") as lines:
            lines.write(f"{word}\n")

    if plan.step in steps.STEPS:
        steps.arm(plan.step, plan.nth, lambda step: note(f"killed {step}"))
    with passing(plan.life.clock):
        live(plan.life, remote, lambda what: note(f"hand {what}"))


class Episode:
    """A venue, a database and the lives of their workers."""

    def __init__(self, number: int, seed: int, folder: Path, empty: Path, report: Report, bots: int) -> None:
        self.number, self.seed, self.report, self.bots = number, seed, report, bots
        self.folder = folder / f"episode-{number}"
        self.folder.mkdir()
        self.database = self.folder / "db.sqlite3"
        shutil.copy(empty, self.database)
        self.rng = random.Random(seed)
        self.problems: list[str] = []

    def run(self, lives: int) -> None:
        """Live, settle, compare."""
        pid, self.remote = start_venue(self.seed, self.folder)
        try:
            self.clock = Time(time.time(), START)
            self._tell_time()
            self._aside("populate", partial(_populate, self.remote, self.bots))
            protected: dict[str, Any] = {}
            for number in range(0, lives, AT_ONCE):
                self._trouble()
                self._round([self._plan(number + index) for index in range(min(AT_ONCE, lives - number))])
                now = json.loads(self._aside("watch", _watch) or "{}")
                self.problems += exchange_audit.worse_protected(protected, now)
                protected = now
                self._jump(self.rng.choice((5, 50, 50, 60, 75, 130)))
            self._settle()
        finally:
            os.kill(pid, signal.SIGKILL)
            wait_for(pid)
        self._conclude(lives)

    def _plan(self, number: int) -> Plan:
        rng = self.rng
        step = rng.choice([*steps.STEPS, *steps.STEPS, RANDOM, RANDOM, RANDOM, NONE])
        life = Life(number, rng.randrange(1 << 30), rng.randint(1, 3), self.clock)
        return Plan(life, step, rng.choice((1, 1, 2, 3, 5)), rng.uniform(0.05, 1.2))

    def _round(self, plans: list[Plan]) -> None:
        """Let workers live at the same time, until each has ended."""
        notes = {id(plan): self.folder / f"notes-{plan.life.number}" for plan in plans}
        running = {}
        for plan in plans:
            plan.life = Life(plan.life.number, plan.life.seed, plan.life.ticks, self.clock)
            running[forked(partial(run_life, plan, self.remote, self.database, notes[id(plan)]))] = plan
        started, last = time.monotonic(), time.monotonic()
        while running:
            for pid, plan in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self._ended(running.pop(pid), os.waitstatus_to_exitcode(status), notes[id(plan)])
                elif plan.step == RANDOM and time.monotonic() - started > plan.after:
                    os.kill(pid, signal.SIGKILL)
                    plan.after = float("inf")
            if time.monotonic() - last > 0.1:
                self.remote.drift(0.004)
                last = time.monotonic()
            time.sleep(0.003)

    def _ended(self, plan: Plan, code: int, notes: Path) -> None:
        words = notes.read_text().splitlines() if notes.exists() else []
        for word in words:
            kind, _, what = word.partition(" ")
            if kind == "hand":
                self.report.hands[what] += 1
        self.report.lives += 1
        if code == 0:
            self.report.kills[NONE] += 1
        elif code == -signal.SIGKILL:
            self.report.kills[plan.step] += 1
        else:
            self.problems.append(f"life {plan.life.number} ended by itself with code {code}")

    def _trouble(self) -> None:
        """Choose what goes wrong at the venue for a while, and move the market."""
        self.remote.clear_faults()
        for action, path, more in self.rng.sample(TROUBLES, self.rng.randint(0, 6)):
            self.remote.fail(action, path, count=None, probability=self.rng.choice((0.05, 0.15, 0.3)), **more)
        self.remote.drift(self.rng.choice((0.003, 0.01)))

    def _jump(self, seconds: float) -> None:
        self.clock = self.clock.jumped(seconds)
        self._tell_time()

    def _tell_time(self) -> None:
        self.remote.run_clock(self.clock.real, self.clock.market, SPEED)

    def _settle(self) -> None:
        """Let nothing go wrong any more, and give reconciliation its turns."""
        self.report.faults.update(self.remote.faults_happened())
        self.remote.clear_faults()
        for _ in range(SETTLING):
            self._jump(70)
            self._aside("wait", _reconcile)
        self._aside("settle", partial(_settle, self.remote))

    def _aside(self, name: str, work: Any) -> str:
        """Do something in a process of its own that nobody kills; return what it wrote."""
        out = self.folder / f"{name}.json"

        def run() -> None:
            from django.conf import settings

            use_database(self.database)
            settings.COINBASE_URL = self.remote.url
            with passing(self.clock):
                out.write_text(work() or "")

        if wait_for(forked(run)):
            raise SystemExit(f"{name} failed in episode {self.number}, seed {self.seed}; see {self.folder}")
        return out.read_text()

    def _conclude(self, lives: int) -> None:
        report, found = self.report, json.loads((self.folder / "settle.json").read_text())
        report.episodes += 1
        print(f"episode {self.number}: {report.lives} lives so far, {found['orders']} orders", file=sys.stderr)
        self.problems += found["problems"]
        for name in ("orders", "fills", "deals", "lost", "doubled", "unsettled"):
            report.totals[name] += found[name]
        report.totals["open deals"] += found["open_deals"]
        if found["fills"] < lives / 2:
            self.problems.append(f"only {found['fills']} fills: this tried nothing")
        report.problems += [f"episode {self.number} (seed {self.seed}): {problem}" for problem in self.problems]
        if self.problems:
            print(f"episode {self.number}, seed {self.seed}, kept in {self.folder}:")
            print("".join(f"  {problem}\n" for problem in self.problems[:20]))
        else:
            shutil.rmtree(self.folder)


def _populate(remote: RemoteVenue, bots: int) -> str:
    populate(remote, bots=bots)
    return ""


def _watch() -> str:
    return json.dumps(exchange_audit.watch())


def _reconcile() -> str:
    from positions import reconcile

    reconcile.monitor_resting()
    reconcile.reconcile_all()
    return ""


def _settle(remote: RemoteVenue) -> str:
    """Let the loops have their turns undisturbed, then compare the books."""
    from bots import engine
    from positions import reconcile, strangers
    from tradebot.core import clock

    reconcile.settle_at_start()
    remember_prices(remote)
    refresh_balances()
    since = clock.now()
    engine.dispatch(lambda chunk: engine.run_chunk(chunk))
    for _ in range(2):
        _reconcile()
    strangers.report_all_strangers()
    found = exchange_audit.audit(remote)
    found.problems += exchange_audit.not_watched(since)
    return json.dumps(found.__dict__)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-episode", type=int, default=LIVES_PER_EPISODE)
    parser.add_argument("--bots", type=int, default=BOTS_PER_ACCOUNT, help="for each of the four accounts")
    parser.add_argument("--markdown", type=Path, help="write the report there")
    parser.add_argument("--migrated", type=Path, help="a migrated database to begin with a copy of")
    options = parser.parse_args(argv)
    os.environ.setdefault("DEBUG", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")
    import django

    django.setup()
    logging.disable(logging.CRITICAL)
    for name in IMPORTED_ONCE:
        importlib.import_module(name)
    gc.freeze()  # so that no fork looks through, and thereby copies, what all have
    folder, started = Path(tempfile.mkdtemp(prefix="tradebot-chaos-")), time.monotonic()
    rng, report = random.Random(options.seed), Report(options.seed)
    empty = folder / "empty.sqlite3"
    if options.migrated is not None:
        shutil.copy(options.migrated, empty)

    def make_empty() -> None:
        from django.core.management import call_command
        from django.db import connections

        use_database(empty)
        call_command("migrate", verbosity=0)
        connections.close_all()

    if wait_for(forked(make_empty)):
        raise SystemExit("the database could not be made")
    left, number = options.lives, 0
    while left > 0:
        number += 1
        count = min(left, options.per_episode)
        Episode(number, rng.randrange(1 << 30), folder, empty, report, options.bots).run(count)
        left -= count
    report.seconds = time.monotonic() - started
    text = "\n".join(report.lines())
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")
    if not report.problems:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
