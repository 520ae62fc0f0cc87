"""Backtests on a seeded random walk: candles per second, memory, the first call of a fresh process, and a peer.

Runs on one core; each figure is the median of five runs after one that is not counted. Where the package
``backtesting`` is installed (``uv pip install backtesting``), the same two strategies run there in the same script and
the ratio is printed. Fees are 0.1 % on both sides.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from decimal import Decimal
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import django
import pytest

from bots.backtest.simulation import simulate
from bots.backtest.spec import Costs, Pair, Spec
from bots.backtest.statistics import summary
from bots.strategies import get_strategy
from marketdata.series import Candles
from marketdata.terms import ProductTerms
from marketdata.timeframes import Timeframe
from tests.bench.walk import walk

FEE = Decimal("0.001")
TERMS = ProductTerms("SIM-USD", "SIM", "USD", Decimal("0.01"), Decimal("0.000001"), Decimal("0.000001"), Decimal("1"))
DCA: dict[str, Any] = {
    "max_safety_orders": 5,
    "price_deviation": "2",
    "take_profit": "1",
    "open_conditions": {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 30}]},
}
RSI_IN_OUT: dict[str, Any] = {
    "base_order_size": "99",
    "max_safety_orders": 0,
    "take_profit": None,
    "take_profit_mode": "conditions",
    "open_conditions": {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": "<", "value": 30}]},
    "close_conditions": {"items": [{"indicator": "rsi", "timeframe": "1m", "operator": ">", "value": 70}]},
}
RUNS = 5


def spec_of(candles: Candles, settings: dict[str, Any]) -> Spec:
    """Return a backtest of ``settings`` with a fresh cache: indicators are part of what is measured."""
    strategy = get_strategy("indicator_dca")
    return Spec(
        strategy=strategy.name,
        settings=strategy.settings_from_json(settings),
        pairs=(Pair(TERMS, {Timeframe.M1: candles}),),
        timeframe=Timeframe.M1,
        balances={"USD": Decimal(100_000)},
        quote="USD",
        costs=Costs(FEE, FEE, Decimal(0), False),
    )


def median_seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Return the median time of ``runs`` calls after one that is not counted."""
    work()
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measured(name: str, count: int, settings: dict[str, Any], peer: str) -> None:
    candles = walk(count)

    def ours() -> Any:
        outcome = simulate(spec_of(candles, settings))
        return outcome, summary(outcome)

    outcome, _ = ours()
    seconds = median_seconds(ours)
    line = f"{count / seconds:,.0f} candles/s ({seconds:.3f} s, {len(outcome.fills)} fills, {outcome.fingerprint})"
    print(f"\n{name}: {line}")
    if find_spec("backtesting") is None:
        print("  backtesting is not installed: no comparison")
        return
    from tests.bench import peer_backtesting

    theirs, trades = peer_backtesting.median_of(peer, candles, float(FEE), runs=1 if count > 500_000 else 3)
    ratio = theirs / seconds
    print(
        f"  backtesting: {count / theirs:,.0f} candles/s ({theirs:.2f} s, {trades} trades): ours is {ratio:.0f} times"
    )


def test_a_dca_over_a_million_candles() -> None:
    measured("(a) DCA, 5 safety orders, 1,000,000 candles", 1_000_000, DCA, "dca")


def test_b_rsi_in_and_out_over_a_hundred_thousand_candles() -> None:
    measured("(b) RSI in and out, 100,000 candles", 100_000, RSI_IN_OUT, "rsi")


def _sweep_share(strand: int) -> tuple[int, str]:
    """Try every second of 200 combinations, candles and indicators shared; return how many and a digest."""
    strategy = get_strategy("indicator_dca")
    base = spec_of(walk(SWEEP_CANDLES), DCA)
    combinations = [
        {**DCA, "take_profit": str(profit), "price_deviation": str(step)}
        for profit in (Decimal("0.5") + Decimal("0.25") * n for n in range(20))
        for step in (Decimal("0.8") + Decimal("0.3") * n for n in range(10))
    ][strand::2]
    digests = []
    for settings in combinations:
        outcome = simulate(replace(base, settings=strategy.settings_from_json(settings)))
        summary(outcome)
        digests.append(outcome.fingerprint)
    return len(combinations), "".join(digests)


SWEEP_CANDLES = 100_000


def test_c_a_sweep_of_two_hundred_combinations() -> None:
    """On two processes, as two workers share a sweep; loading and storing are not in it."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_ready) as pool:
        list(pool.map(_warm, range(2)))
        started = time.perf_counter()
        tried = sum(count for count, _ in pool.map(_sweep_share, range(2)))
        seconds = time.perf_counter() - started
    print(f"\n(c) sweep, {tried} combinations x {SWEEP_CANDLES:,} candles on two processes: {seconds:.1f} s")
    assert tried == 200


def _ready() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradebot.settings")
    django.setup()


def _warm(number: int) -> int:
    time.sleep(0.2)  # so that both processes start and neither takes both calls
    return number


def test_a_fresh_process_needs_no_warming_up() -> None:
    """The first run of a process: its time beside the second's, and the memory that it took at most."""
    code = (
        "import os, time\n"
        "os.environ.setdefault('DEBUG', '1')\n"
        "import django; django.setup()\n"
        "from tests.bench import bench_backtest as bench\n"
        "candles = bench.walk(1_000_000)\n"
        "for _ in range(2):\n"
        "    started = time.perf_counter()\n"
        "    outcome = bench.simulate(bench.spec_of(candles, bench.DCA)); bench.summary(outcome)\n"
        "    print(f'{time.perf_counter() - started:.3f}')\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(int(peak.split()[1]) // 1024)\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tradebot.settings"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, memory = done.stdout.split()[-3:]
    print(f"\nfresh process, 1,000,000 candles: first run {first} s, second {second} s, peak memory {memory} MB")


pytestmark = pytest.mark.filterwarnings("ignore")
