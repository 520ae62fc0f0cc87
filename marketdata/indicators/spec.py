"""What an indicator is: its name, parameters, lines and unit, how much history it needs, and what computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from marketdata.series import Candles, FloatArray, IntArray
from marketdata.signals import Signals
from marketdata.timeframes import Timeframe
from tradebot.core.errors import InvalidInput

Params = Mapping[str, float]
Compute = Callable[[Candles, Params, str], FloatArray]
Hear = Callable[[Signals, IntArray, int, Params, str], FloatArray]
"""(signals, closes in Unix seconds, seconds of a candle, parameters, line) to values."""


class Unit(StrEnum):
    """What an indicator's value is measured in. It sets the scale of the noise band of crossings."""

    POINTS = "points"
    PERCENT = "percent"
    PRICE = "price"
    RATIO = "ratio"
    SIGNAL = "signal"


class Mirroring(StrEnum):
    """What a value becomes when a long's condition is turned into a short's."""

    NONE = "none"
    NEGATE = "negate"
    FROM_HUNDRED = "from_hundred"
    OPPOSITE = "opposite"
    """Another indicator or another line, named by the entry: a buy becomes a sell."""


@dataclass(frozen=True, slots=True)
class IndicatorParam:
    """A parameter: its default and allowed range. ``whole`` parameters are numbers of candles."""

    name: str
    label: str
    default: float
    minimum: float
    maximum: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class IndicatorSpec:
    """One indicator.

    ``needs(params)`` is the number of candles before the first value exists, ``settles(params)`` the number after
    which the value no longer depends on where the series began. ``outputs`` lists the lines, the default first.
    ``of_the_day`` says that every candle since 00:00 UTC counts as well. ``hear`` is set where the values follow from
    what one bot is told rather than from candles: they are private, have no value in a shared view, and are laid over
    it for that bot alone. ``opposite`` and ``opposite_outputs`` name indicator and lines of the other direction.
    """

    name: str
    label: str
    help: str
    params: tuple[IndicatorParam, ...]
    outputs: tuple[str, ...]
    unit: Unit
    mirroring: Mirroring
    needs: Callable[[Params], int]
    settles: Callable[[Params], int]
    compute: Compute
    of_the_day: bool = False
    hear: Hear | None = None
    opposite: str = ""
    opposite_outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_private(self) -> bool:
        """Return whether the values belong to one bot and must not be shared."""
        return self.hear is not None

    def complete(self, given: Params) -> dict[str, float]:
        """Return ``given`` with defaults for what is missing, in the declared order.

        Raises InvalidInput (``invalid_indicator_params``) for unknown names and values that are out of range or, where
        whole numbers are asked for, not whole.
        """
        unknown = set(given) - {param.name for param in self.params}
        if unknown:
            raise _refused(f"{self.label} has no parameter {min(unknown)!r}")
        result: dict[str, float] = {}
        for param in self.params:
            value = float(given.get(param.name, param.default))
            if not param.minimum <= value <= param.maximum:
                raise _refused(
                    f"{self.label}: {param.label} is {value:g}, allowed are {param.minimum:g} to {param.maximum:g}"
                )
            if param.whole and value != int(value):
                raise _refused(f"{self.label}: {param.label} is {value:g}, a whole number is needed")
            result[param.name] = int(value) if param.whole else value
        if "fast" in result and result["fast"] >= result["slow"]:
            raise _refused(f"{self.label}: fast ({result['fast']:g}) must be below slow ({result['slow']:g})")
        return result

    def values(self, candles: Candles, params: Params, output: str | None = None) -> FloatArray:
        """Return the value at each candle; ``params`` are complete, ``output`` defaults to the first."""
        line = output or self.outputs[0]
        if line not in self.outputs:
            raise InvalidInput(
                "unknown_output", f"{self.label} has no line {line!r}, only {', '.join(self.outputs)}", field="output"
            )
        if len(candles) < self.needs(params):
            return np.full(len(candles), np.nan)
        return self.compute(candles, params, line)

    def heard(
        self, signals: Signals, candles: Candles, timeframe: Timeframe, params: Params, output: str | None = None
    ) -> FloatArray:
        """Return the value at each candle of a private indicator, from what its bot was told."""
        if self.hear is None:
            raise ValueError(f"{self.name} follows from candles, not from signals")
        closes = candles.time + timeframe.seconds
        return self.hear(signals, closes, timeframe.seconds, params, output or self.outputs[0])


def _refused(message: str) -> InvalidInput:
    return InvalidInput("invalid_indicator_params", message, field="params")
