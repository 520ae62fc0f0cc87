"""How many candles an indicator needs before it has a value, and before the value has forgotten where it began."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from marketdata.indicators.spec import Params

FORGOTTEN: Final = 1e-6
"""A smoothed average is settled once the weight of everything before its window is below this."""


def counted(name: str, extra: int = 0) -> Callable[[Params], int]:
    """Return what counts as many candles as the parameter says, and ``extra`` more."""
    return lambda params: int(params[name]) + extra


def always(count: int) -> Callable[[Params], int]:
    """Return what counts so many candles, whatever the parameters."""
    return lambda _params: count


def settled(needs: Callable[[Params], int], name: str, tail: Callable[[float], int]) -> Callable[[Params], int]:
    """Return what counts the candles that are needed and the tail that the parameter's average has besides."""
    return lambda params: needs(params) + tail(params[name])


def ema_tail(period: float) -> int:
    """Return after how many candles an exponential average has forgotten its seed."""
    return math.ceil(math.log(FORGOTTEN) / math.log(1 - 2 / (period + 1))) if period > 1 else 1


def wilder_tail(period: float) -> int:
    """Return after how many candles a Wilder average has forgotten its seed."""
    return math.ceil(math.log(FORGOTTEN) / math.log(1 - 1 / period)) if period > 1 else 1


def macd_needs(params: Params) -> int:
    return int(params["slow"]) + int(params["signal"]) - 1


def macd_settles(params: Params) -> int:
    return macd_needs(params) + ema_tail(params["slow"]) + ema_tail(params["signal"])


def stochastic_needs(params: Params) -> int:
    return int(params["period"]) + int(params["smooth"]) - 1
