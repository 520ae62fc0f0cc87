"""Every preset over eight recorded pairs and over one more: the backtest's fills are the replay's, to the last digit.

``make parity`` runs this. All presets go through one replay, each with an account of its own in the same chunk, as bots
of many people do on the server; it takes minutes, because that is the real cycle. PARITY_STEPS limits the number of
looks.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from accounts.models import User
from tests.parity.compare import Asked, compare
from tests.parity.presets import presets

CANDLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "candles"
STEPS = int(os.environ.get("PARITY_STEPS", "0")) or None
RECORDINGS = {
    "eight pairs against BTC": ("*-BTC_5m_2018-01.csv.gz", "5m", {"BTC": Decimal(1)}),
    "WLD against USDT": ("WLD-USDT_3m_*.csv.gz", "3m", {"USDT": Decimal(10_000)}),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("recording", RECORDINGS)
def test_the_fills_of_backtests_are_those_of_a_replay(recording: str) -> None:
    pattern, timeframe, start = RECORDINGS[recording]
    files = sorted(CANDLES.glob(pattern))
    if not files:
        pytest.skip("the recordings are not here")
    coins = dict.fromkeys({path.name.split("-")[0] for path in files}, Decimal(1000))
    asked = {
        name: Asked(settings, {**start, **coins} if name == "both ways" else start)
        for name, settings in presets(timeframe).items()
    }
    found = compare(User.objects.create_user("parity@example.com"), files, asked, steps=STEPS)
    print(f"\n{recording}, all presets beside each other, {next(iter(found.values())).replay_seconds:.0f} s:")
    for name, one in found.items():
        print(
            f"  {name}: {len(one.replayed)} fills, replay {one.replay_fingerprint}, backtest {one.outcome.fingerprint}"
        )
    for name, one in found.items():
        assert not one.first_difference, f"{name}: {one.first_difference}"
        assert one.outcome.fingerprint == one.replay_fingerprint
        assert len(one.replayed) > 20
