"""Which looks a backtest may pass over."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bots.backtest.triggers import NEVER, Levels, next_of, next_trigger


def _by_hand(prices: np.ndarray, worst: np.ndarray, start: int, levels: Levels, offset: int) -> int:
    """Return what next_trigger promises at least, one price after the other and without any margin."""
    armed, best = levels.armed_peak, levels.best
    for index in range(start, len(prices)):
        price = prices[index]
        look = index + offset
        if levels.armed_peak > -math.inf:
            armed = max(armed, price)
            if price <= armed * levels.armed_keep:
                return index
        if levels.best > -math.inf:
            best = max(best, price)
            if worst[index] <= best * levels.keep:
                return index
        closes = levels.close_looks is not None and look in levels.close_looks
        adds = levels.add_looks is None or look in levels.add_looks
        if price >= levels.profit or worst[index] <= levels.stop or (price <= levels.rung and adds):
            return index
        if closes and price >= levels.conditional_profit:
            return index
    return NEVER


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("seed", range(12))
def test_a_trigger_is_found_where_one_price_after_the_other_finds_it(seed: int, sign: float):
    rng = np.random.default_rng(seed)
    prices = sign * 100 * np.exp(np.cumsum(rng.normal(0, 0.002, 3000)))
    worst = prices - np.abs(rng.normal(0, 0.1, 3000))
    start, offset = int(rng.integers(0, 200)), int(rng.integers(0, 50))
    at = prices[start]
    keep = 1 - sign * 0.015
    looks = np.flatnonzero(rng.random(3000) < 0.02) + offset
    for levels in (
        Levels(profit=at + 3, stop=at - 4),
        Levels(profit=at + 3, rung=at - 2, add_looks=looks),
        Levels(close_looks=looks, conditional_profit=at + 1),
        Levels(close_looks=looks, conditional_profit=-math.inf),
        Levels(close_looks=looks, conditional_profit=-math.inf, rung=at - 3),
        Levels(best=at, keep=keep),
        Levels(armed_peak=at, armed_keep=keep, stop=at - 5),
        Levels(profit=at + 9, best=at, keep=keep, rung=at - 1.2),
        Levels(),
    ):
        assert next_trigger(prices, worst, start, levels, offset) == _by_hand(prices, worst, start, levels, offset)


def test_a_price_at_a_level_to_the_last_digit_is_never_passed_over():
    prices = np.array([100.0, 100.1, 100.2, 99.9])
    for level in (100.2 * (1 + 1e-12), 100.2, 100.2 * (1 - 1e-12)):
        assert next_trigger(prices, prices, 0, Levels(profit=level), 0) == 2
    for level in (99.9 * (1 + 1e-12), 99.9, 99.9 * (1 - 1e-12)):
        assert next_trigger(prices, prices, 0, Levels(stop=level), 0) == 3


def test_the_next_of_some_looks():
    looks = np.array([3, 7, 8])
    assert [next_of(looks, look) for look in (0, 3, 4, 8, 9)] == [3, 3, 7, 8, NEVER]
