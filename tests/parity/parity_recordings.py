"""Every preset over eight recorded pairs and over one more: the backtest's fills are the replay's, to the last digit.

``make parity`` runs this; it takes some minutes a preset, because a replay goes through the real cycle. PARITY_STEPS
limits the number of looks of each run.
"""

from __future__ import annotations

import os
import time
from decimal import Decimal
from pathlib import Path

import pytest

from accounts.models import User
from tests.parity.compare import compare
from tests.parity.presets import presets

CANDLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "candles"
STEPS = int(os.environ.get("PARITY_STEPS", "0")) or None
RECORDINGS = {
    "eight pairs against BTC": ("*-BTC_5m_2018-01.csv.gz", "5m", {"BTC": Decimal(1)}),
    "WLD against USDT": ("WLD-USDT_3m_*.csv.gz", "3m", {"USDT": Decimal(10_000)}),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("recording", RECORDINGS)
@pytest.mark.parametrize("name", presets("5m"))
def test_the_fills_of_a_backtest_are_those_of_a_replay(name: str, recording: str) -> None:
    pattern, timeframe, start = RECORDINGS[recording]
    files = sorted(CANDLES.glob(pattern))
    if not files:
        pytest.skip("the recordings are not here")
    user = User.objects.create_user("parity@example.com")
    if name == "both ways":
        start = {**start, **dict.fromkeys({path.name.split("-")[0] for path in files}, Decimal(1000))}
    started = time.perf_counter()
    found = compare(user, files, presets(timeframe)[name], start, steps=STEPS)
    simulated = time.perf_counter() - started - found.replay_seconds
    print(
        f"\n{name}, {recording}: {len(found.replayed)} fills, replay {found.replay_fingerprint} in "
        f"{found.replay_seconds:.0f} s, backtest {found.outcome.fingerprint} (everything else {simulated:.1f} s)"
    )
    assert not found.first_difference, found.first_difference
    assert found.outcome.fingerprint == found.replay_fingerprint
    assert len(found.replayed) > 20
