"""Candles per second through the real cycle: a bot over three recorded pairs, database writes included."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest

from accounts.access import acting_for
from accounts.models import User
from bots import replay
from bots.strategies import get_strategy
from tests.chaos import killer


@pytest.mark.django_db(transaction=True)
def test_candles_per_second_of_a_replay(tmp_path: Path) -> None:
    strategy = get_strategy("indicator_dca")
    spec = replay.ReplaySpec(
        files=tuple(killer.write_recording(tmp_path, seed=1)),
        strategy=strategy.name,
        settings=strategy.settings_from_json(killer.SETTINGS).to_json(),
        budget_pct=Decimal(100),
        start={"BTC": Decimal(1)},
        label="bench",
    )
    user = User.objects.create_user("bench@localhost")
    with acting_for(user):
        run, _ = replay.open_run(user, spec)
    cpu, wall = time.process_time(), time.perf_counter()
    with acting_for(user):
        replay.run_to_end(run)
        result = replay.report(run)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    steps = killer.CANDLES
    print(
        f"\nreplay, {result.candles} candles, {steps} steps, {result.fills} fills: {wall:.1f} s wall, {cpu:.1f} s CPU, "
        f"{result.candles / wall:.0f} candles/s, {cpu / steps * 1000:.1f} ms CPU a step"
    )
    assert result.fills > 10
