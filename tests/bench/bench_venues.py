"""What live accounts cost: ccxt, a client, an order; and one account's storm or outage beside another's cycle."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from accounts.exchanges.breaker import State, breaker_state
from tests.accounts.live import buy, fake_venue
from tests.accounts.test_limits import cycle, middle, people
from tradebot.runtime.environment import ROOT

LOADING = """
import pathlib, time, requests
def held():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024
before = held()
started = time.perf_counter()
import ccxt
loaded = time.perf_counter() - started
from marketdata.wire.client import client_of
started = time.perf_counter()
client_of("coinbase", "http://127.0.0.1:1", default_url="https://api.coinbase.com")
made = time.perf_counter() - started
print(f"ccxt: {loaded:.2f} s, first client: {made * 1000:.0f} ms, {held() - before:.0f} MB, where an account is live")
"""


def test_loading() -> None:
    done = subprocess.run([sys.executable, "-c", LOADING], cwd=ROOT, capture_output=True, text=True, check=True)
    print(done.stdout.strip())


@pytest.mark.django_db
def test_an_order_and_the_others() -> None:
    with fake_venue(VENUE_TIMEOUT_SECONDS=0.3) as fake:
        account, ann, _, ben = people(fake)
        cycle(ann, ben)
        placed = []
        for _ in range(20):
            started = time.perf_counter()
            ben.place(buy())
            placed.append(time.perf_counter() - started)
            time.sleep(0.2)
        print(f"market order with its look and fills: {middle(placed) * 1000:.0f} ms (3 requests, loopback)")
        time.sleep(2)
        alone = middle([cycle(ben) for _ in range(5)])
        fake.control.fail("status", account="ann", status=429, headers={"Retry-After": "60"}, count=None)
        time.sleep(2)
        storm = middle([cycle(ann, ben) for _ in range(5)])
        print(f"cycle of one account: {alone * 1000:.0f} ms alone, {storm * 1000:.0f} ms beside one in a 429 storm")
    with fake_venue(VENUE_TIMEOUT_SECONDS=0.3) as fake:
        account, ann, _, ben = people(fake)
        cycle(ann, ben)
        fake.control.fail("timeout", account="ann", seconds=30, count=None)
        while breaker_state("coinbase", [account.pk])[account.pk].state is not State.OPEN:
            cycle(ann)
        time.sleep(2)
        outage = middle([cycle(ann, ben) for _ in range(5)])
        print(f"cycle of one account: {alone * 1000:.0f} ms alone, {outage * 1000:.0f} ms beside one in an outage")
