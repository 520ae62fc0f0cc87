"""Backtest and replay through the real cycle agree to the last digit: a slice of it, of every preset.

All of it, over the recorded pairs, is ``make parity``. Here the candles are a seeded walk, so that it runs everywhere.
"""

from __future__ import annotations

import csv
import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from accounts.models import User
from marketdata.timeframes import Timeframe
from tests.bench.walk import walk
from tests.parity.compare import Asked, compare
from tests.parity.presets import presets

STEPS = 180


def _recording(folder: Path, symbol: str, seed: int, price: float) -> Path:
    """Write a walk as a five-minute recording, wild enough for every exit to happen in a day."""
    candles = walk(STEPS + 120, seed=seed, price=price, step_pct=0.55, start=1_600_000_200)
    path = folder / f"{symbol}_5m_walk.csv.gz"
    with gzip.open(path, "wt", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow(["time", "open", "high", "low", "close", "volume"])
        start = int(candles.time[0])
        for n in range(len(candles)):
            if n % 97 == 5:
                continue  # a gap: nobody traded
            values = (candles.open[n], candles.high[n], candles.low[n], candles.close[n], candles.volume[n] * 20)
            rows.writerow([start + n * Timeframe.M5.seconds, *(repr(float(value)) for value in values)])
    return path


@pytest.mark.django_db(transaction=True)
def test_the_fills_of_backtests_are_those_of_the_cycle(tmp_path: Path) -> None:
    user = User.objects.create_user("parity@example.com")
    files = [_recording(tmp_path, "AAA-USD", 1, 100.0), _recording(tmp_path, "BBB-USD", 2, 7.0)]
    start, coins = {"USD": Decimal(5000)}, {"AAA": Decimal(20), "BBB": Decimal(300)}
    asked = {
        name: Asked(settings, start | coins if name == "both ways" else start)
        for name, settings in presets("5m").items()
    }
    asked["stops"].settings["min_volume_24h"] = "6000000"  # reached after a while, and never by the cheaper of the two
    for name, found in compare(user, files, asked, steps=STEPS).items():
        assert not found.first_difference, f"{name}: {found.first_difference}"
        assert found.outcome.fingerprint == found.replay_fingerprint, name
        assert len(found.replayed) >= 5, name
