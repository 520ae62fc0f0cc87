"""A seeded random walk as candles: the same numbers on every machine, for speed measurements and property tests."""

from __future__ import annotations

import numpy as np

from marketdata.series import Candles
from marketdata.timeframes import Timeframe

START = 1_600_000_020 - 1_600_000_020 % 60
"""Opening time of the first candle: a whole minute."""


def walk(count: int, *, seed: int = 7, price: float = 100.0, step_pct: float = 0.08, start: int = START) -> Candles:
    """Return ``count`` one-minute candles of a geometric random walk, prices rounded to two decimals.

    ``step_pct`` is the standard deviation of a minute's change in percent: 0.08 is about 58 % a year, a coin's.
    """
    rng = np.random.default_rng(seed)
    changes = rng.normal(0.0, step_pct / 100.0, count)
    closes = np.maximum(np.round(price * np.exp(np.cumsum(changes)), 2), 0.01)
    opens = np.concatenate(([price], closes[:-1]))
    reach = np.abs(rng.normal(0.0, step_pct / 200.0, (2, count)))
    highs = np.maximum(np.round(np.maximum(opens, closes) * (1 + reach[0]), 2), np.maximum(opens, closes))
    lows = np.maximum(np.round(np.minimum(opens, closes) * (1 - reach[1]), 2), 0.01)
    return Candles(
        time=start + np.arange(count, dtype=np.int64) * Timeframe.M1.seconds,
        open=opens,
        high=highs,
        low=np.minimum(lows, np.minimum(opens, closes)),
        close=closes,
        volume=np.round(rng.uniform(1.0, 100.0, count), 2),
        synthetic=np.zeros(count, dtype=np.bool_),
    )
