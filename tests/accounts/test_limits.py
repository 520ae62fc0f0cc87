"""Limits and breakers: fair between people, and one account's trouble costs the others no time (F69)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache

from accounts.exchanges.breaker import (
    ACCOUNT_OUTAGES,
    OPEN_SECONDS,
    VENUE_OUTAGES,
    WRITE_PROBE_SECONDS,
    Breaker,
    State,
    breaker_state,
)
from accounts.exchanges.limits import KeyLimiter
from accounts.models import Account
from marketdata.wire.failures import Act
from marketdata.wire.venues import Allowance, Rate
from tests.accounts.live import buy, fake_venue, live_account, ref_of, venue_for
from tests.venue.server import FakeVenue
from tradebot.core.errors import VenueError, VenueThrottled, VenueUnavailable
from tradebot.core.words import OrderStatus
from tradebot.runtime.environment import ROOT

GENEROUS = Allowance(key=Rate(50), address=Rate(12), public=Rate(10))


@dataclass
class Watch:
    """A clock that only waiting moves."""

    at: float = 1_000_000.0
    waits: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.at += seconds

    def key(self, name: str, allowance: Allowance = GENEROUS) -> KeyLimiter:
        return KeyLimiter("https://venue.example", name, allowance, now=self.now, wait=self.wait)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def taken(watch: Watch, limiter: KeyLimiter, act: Act, tries: int = 40) -> int:
    """Return how many places a burst gets within the present window."""
    window, got = int(watch.at), 0
    for _ in range(tries):
        limiter.acquire(act)
        if int(watch.at) != window:
            return got
        got += 1
    return got


# Limits --------------------------------------------------------------------------------------------------------------


def test_a_key_gets_its_allowance_of_a_second_and_no_more(watch):
    allowance = Allowance(key=Rate(5), address=Rate(1000), public=Rate(10))
    assert taken(watch, watch.key("ann", allowance), Act.WRITE) == 5
    assert watch.waits == [pytest.approx(1.0, abs=0.03)]


def test_f69_one_persons_burst_never_takes_the_last_place_of_the_address(watch):
    ann, ben = watch.key("ann"), watch.key("ben")
    for act in (Act.READ, Act.WRITE):
        while ann.try_acquire(act) is None:
            pass
    before = watch.at
    for _ in range(3):
        ben.acquire(Act.READ)
    assert watch.at == before, "ben did not have to wait for ann"


def test_f69_places_are_shared_between_all_who_ask(watch):
    """Four people burst at once, in turns of their own choosing: everybody gets about the same."""
    people = [watch.key(name) for name in ("ann", "ben", "cleo", "dan")]
    got: Counter[str] = Counter()
    for _ in range(6):
        for limiter in people:
            while limiter.try_acquire(Act.WRITE) is None:
                got[limiter.key] += 1
        watch.at += 1
    assert max(got.values()) <= 2 * min(got.values()), got
    assert sum(got.values()) <= 12 * 6


def test_reads_leave_room_for_orders(watch):
    allowance = Allowance(key=Rate(10), address=Rate(1000), public=Rate(10))
    ann = watch.key("ann", allowance)
    assert taken(watch, ann, Act.READ) == 8
    watch.at = int(watch.at) + 1.0
    for _ in range(8):
        ann.acquire(Act.READ)
    before = watch.at
    ann.acquire(Act.WRITE)
    assert watch.at == before


def test_waiting_has_an_end(watch):
    allowance = Allowance(key=Rate(1, 60), address=Rate(100), public=Rate(10))
    ann = watch.key("ann", allowance)
    ann.acquire(Act.WRITE)
    with pytest.raises(VenueThrottled) as caught:
        ann.acquire(Act.WRITE)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 0
    assert sum(watch.waits) <= 2


def test_a_refusal_pauses_the_key_as_long_as_the_venue_says_and_nobody_waits_for_it(watch):
    ann, ben = watch.key("ann"), watch.key("ben")
    assert ann.refused(30) == 30
    with pytest.raises(VenueThrottled) as caught:
        ann.acquire(Act.WRITE)
    assert caught.value.retry_after == pytest.approx(30)
    ben.acquire(Act.WRITE)
    assert watch.waits == []
    watch.at += 31
    ann.acquire(Act.WRITE)


def test_refusals_without_a_time_pause_longer_each_time_and_an_address_pauses_everybody(watch):
    ann, ben = watch.key("ann"), watch.key("ben")
    for seconds in (2, 4, 8):
        assert ann.refused(None) == seconds
        watch.at += seconds
    ben.acquire(Act.READ)
    ann.refused(5, whole_address=True)
    with pytest.raises(VenueThrottled):
        ben.acquire(Act.READ)


def test_refusals_of_requests_under_way_together_are_one_and_none_ends_a_longer_pause(watch):
    ann = watch.key("ann")
    assert [ann.refused(None) for _ in range(4)] == [2, 2, 2, 2]
    assert ann.refused(60) == 60
    assert ann.refused(1) == 60
    watch.at += 59
    with pytest.raises(VenueThrottled):
        ann.acquire(Act.READ)


def test_a_place_is_given_back_to_the_window_that_it_was_taken_from(watch):
    """The address is full and the next window begins in between: nobody gets a place more in it."""
    rate = Rate(3)
    windows = watch.key("ann").windows
    give_back = windows.take("places", rate, 3)
    assert give_back is not None
    watch.at += 1
    give_back()
    assert sum(windows.take("places", rate, 3) is not None for _ in range(9)) == 3


# Breakers ------------------------------------------------------------------------------------------------------------


def breaker(watch: Watch, account_id: int = 7) -> Breaker:
    return Breaker("coinbase", account_id, now=watch.now)


def test_a_breaker_opens_tries_one_and_closes(watch):
    ann = breaker(watch)
    for _ in range(ACCOUNT_OUTAGES):
        ann.check(Act.READ)
        ann.failed()
    with pytest.raises(VenueUnavailable) as caught:
        ann.check(Act.READ)
    assert caught.value.code == "venue_down"
    breaker(watch, 8).check(Act.READ)  # somebody else's is closed
    watch.at += 6
    ann.check(Act.READ)  # the one who tries
    with pytest.raises(VenueUnavailable):
        ann.check(Act.READ)  # everybody else waits for what becomes of it
    ann.succeeded()
    for _ in range(3):
        ann.check(Act.READ)


def test_a_failed_try_opens_it_for_longer(watch):
    ann = breaker(watch)
    for _ in range(ACCOUNT_OUTAGES):
        ann.failed()
    watch.at += 6
    ann.check(Act.READ)
    ann.failed()
    watch.at += 6
    with pytest.raises(VenueUnavailable):
        ann.check(Act.READ)
    watch.at += 5
    ann.check(Act.READ)


def test_an_order_may_try_an_open_breaker_and_a_refused_one_was_not_sent(watch):
    ann = breaker(watch)
    for _ in range(ACCOUNT_OUTAGES):
        ann.failed()
    ann.check(Act.WRITE)
    with pytest.raises(VenueThrottled) as caught:
        ann.check(Act.WRITE)
    assert caught.value.outcome_known


def test_failures_of_requests_under_way_together_are_one_outage(watch):
    ann = breaker(watch)
    for _ in range(ACCOUNT_OUTAGES + 6):
        ann.failed()
    watch.at += 6
    ann.check(Act.READ)
    ann.failed()
    watch.at += 11  # ten seconds, twice as long as the first time
    ann.check(Act.READ)


def test_a_turn_to_try_that_is_refused_elsewhere_is_not_used_up(watch):
    """The account's breaker would let a request try, but somebody else tries the venue's at this moment."""
    ann = breaker(watch, 7)
    for _ in range(ACCOUNT_OUTAGES):
        ann.failed()
    for pk in range(100, 100 + VENUE_OUTAGES - ACCOUNT_OUTAGES):
        breaker(watch, pk).failed()
    watch.at += 6
    breaker(watch, 8).check(Act.READ)  # tries the venue's
    with pytest.raises(VenueUnavailable):
        ann.check(Act.READ)
    breaker(watch, 8).succeeded()
    ann.check(Act.READ)


def test_outages_of_many_open_the_venues_breaker_and_a_success_of_anybody_closes_it(watch):
    people = [breaker(watch, pk) for pk in range(1, VENUE_OUTAGES + 1)]
    for one in people:
        one.failed()
    with pytest.raises(VenueUnavailable):
        breaker(watch, 99).check(Act.READ)
    people[0].succeeded()
    breaker(watch, 99).check(Act.READ)


def test_the_state_can_be_read_for_pages_and_health():
    ann = Breaker("kraken", 7)
    for _ in range(ACCOUNT_OUTAGES):
        ann.failed()
    found = breaker_state("kraken", [7, 8])
    assert (found[7].state, found[7].outages) == (State.OPEN, ACCOUNT_OUTAGES)
    assert found[7].opens_for > 0
    assert found[8].state is State.CLOSED
    assert found[None].state is State.CLOSED


def test_the_document_says_how_often_what_is_left_alone_is_tried():
    said = " ".join((ROOT / "docs" / "venues.md").read_text().split())
    assert f"may try once in {WRITE_PROBE_SECONDS} s" in said
    assert f"for {OPEN_SECONDS:.0f} s and then twice as long each time" in said


# Over HTTP -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[FakeVenue]:
    with fake_venue(VENUE_TIMEOUT_SECONDS=0.3) as venue:
        yield venue


def people(fake: FakeVenue) -> tuple[Account, Any, Account, Any]:
    ann = live_account(fake.add_account("ann", {"USD": "10000"}))
    ben = live_account(fake.add_account("ben", {"USD": "10000"}))
    return ann, venue_for(ann), ben, venue_for(ben)


def cycle(*venues: Any) -> float:
    """Let each account read its balances and place and cancel an order, as a cycle does; return the seconds."""
    started = time.perf_counter()
    for venue in venues:
        for act in (venue.balances, lambda venue=venue: trade(venue)):
            try:
                act()
            except VenueError:
                continue
    return time.perf_counter() - started


def trade(venue: Any) -> None:
    order = buy(base_size=Decimal("0.001"), limit_price=Decimal(50000))
    venue.place(order)
    assert venue.cancel(ref_of(order)).status is OrderStatus.CANCELLED


def middle(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


@pytest.mark.django_db
def test_f69_a_storm_of_429_at_one_account_leaves_the_others_as_fast(fake):
    _, ann, _, ben = people(fake)
    cycle(ann, ben)
    alone = middle([cycle(ben) for _ in range(5)])
    fake.control.fail("status", account="ann", status=429, headers={"Retry-After": "60"}, count=None)
    asked = len([seen for seen in fake.requests if seen.account == "ann"])
    beside = middle([cycle(ann, ben) for _ in range(5)])
    more = len([seen for seen in fake.requests if seen.account == "ann"]) - asked
    assert more == 1, "the account is paused after the first refusal"
    assert beside < 3 * alone + 0.2
    assert ben.balances()["USD"].total == 10000


@pytest.mark.django_db
def test_f69_an_outage_of_one_account_leaves_the_others_as_fast(fake):
    ann_account, ann, ben_account, ben = people(fake)
    cycle(ann, ben)
    alone = middle([cycle(ben) for _ in range(5)])
    fake.control.fail("timeout", account="ann", seconds=30, count=None)
    while breaker_state("coinbase", [ann_account.pk])[ann_account.pk].state is not State.OPEN:
        cycle(ann)
    asked = len([seen for seen in fake.requests if seen.account == "ann"])
    beside = middle([cycle(ann, ben) for _ in range(5)])
    more = len([seen for seen in fake.requests if seen.account == "ann"]) - asked
    assert more <= 5, "nearly all of ann's ten tries were refused before they were sent"
    assert beside < 3 * alone + 0.2
    states = breaker_state("coinbase", [ann_account.pk, ben_account.pk])
    assert states[ben_account.pk].state is State.CLOSED
    assert states[None].state is State.CLOSED
    assert len(fake.control.orders("ben")) == 1 + 5 + 5


@pytest.mark.django_db
def test_a_venue_that_is_back_is_used_again(fake):
    account, ann, _, _ = people(fake)
    fake.control.fail("status", account="ann", status=503, count=None)
    for _ in range(2):
        with pytest.raises(VenueUnavailable):
            ann.balances()
    assert breaker_state("coinbase", [account.pk])[account.pk].state is State.OPEN
    fake.control.clear_faults()
    key = f"breaker:coinbase:account:{account.pk}:open"
    cache.set(key, time.time() - 1, timeout=60)  # its time is over
    assert ann.balances()["USD"].total == 10000
    assert breaker_state("coinbase", [account.pk])[account.pk].state is State.CLOSED


@pytest.mark.django_db
def test_the_venues_own_429_is_kept_to(fake):
    """Its allowance is smaller than what we think: the first refusal ends our requests for a while."""
    _, ann, _, _ = people(fake)
    fake.control.set_limits(3, None)
    for _ in range(3):
        ann.fee_rates()
    with pytest.raises(VenueThrottled) as caught:
        ann.fee_rates()
    assert caught.value.retry_after == 1.0
    with pytest.raises(VenueThrottled):
        ann.fee_rates()
    assert fake.counts["rate limited"] == 1
