"""What one bot was told, laid over the market view that everybody shares. Pure.

Candles and indicators come from the shared view and stay shared. Whatever follows from signals is worked out here and
kept here: the overlay belongs to one bot and one look (or one run of a backtest), and is gone with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bots.conditions import Condition, StateArray, condition_states
from bots.strategies.base import MarketView, ProductTerms, Quote
from marketdata.indicators import IndicatorSpec, spec_of
from marketdata.series import Candles, FloatArray
from marketdata.signals import SILENT, UNHEARD, SignalKind, Signals
from marketdata.timeframes import Timeframe

__all__ = ["NO_SIGNALS", "Heard", "HeardView"]

Heard = Mapping[str, Signals]
"""Signals by kind. A kind that is missing has never been heard of."""

NO_SIGNALS: Final[Heard] = {kind.value: SILENT for kind in SignalKind}
"""For a simulation without a bot that could have been told anything: every source counts as silent."""


class HeardView:
    """A market view with the signals of one bot about this product."""

    __slots__ = ("_heard", "_kept", "_shared", "product", "quote", "verdicts")

    def __init__(self, shared: MarketView, heard: Heard) -> None:
        self._shared, self._heard = shared, heard
        self._kept: dict[Any, Any] = {}
        self.product: ProductTerms = shared.product
        self.quote: Quote | None = shared.quote
        self.verdicts: dict[Any, Any] = {}
        """Verdicts on trees, for ``conditions.evaluate``: this bot's own, as the shared view's are everybody's."""

    def series(self, timeframe: Timeframe) -> Candles:
        """Return the closed candles."""
        return self._shared.series(timeframe)

    def newest(self, timeframe: Timeframe) -> int | None:
        """Return the opening time of the last closed candle, None when there is none."""
        return self._shared.newest(timeframe)

    def indicator(
        self, timeframe: Timeframe, name: str, params: Mapping[str, float], output: str | None = None
    ) -> FloatArray:
        """Return the indicator at each closed candle."""
        spec = spec_of(name)
        if not spec.is_private:
            return self._shared.indicator(timeframe, name, params, output)
        key = (timeframe, name, tuple(sorted(params.items())), output)
        values: FloatArray | None = self._kept.get(key)
        if values is None:
            values = self._kept[key] = self._told(spec, timeframe, params, output)
        return values

    def _told(
        self, spec: IndicatorSpec, timeframe: Timeframe, params: Mapping[str, float], output: str | None
    ) -> FloatArray:
        signals = self._heard.get(spec.name, UNHEARD)
        return spec.heard(signals, self.series(timeframe), timeframe, spec.complete(params), output)

    def states(self, condition: Condition) -> StateArray:
        """Return the state of the condition (negation left out) at each closed candle."""
        if not condition.spec.is_private:
            return self._shared.states(condition)
        states: StateArray | None = self._kept.get(condition.key)
        if states is None:
            values = self.indicator(condition.timeframe, condition.indicator, condition.params, condition.output)
            states = condition_states(condition, self.series(condition.timeframe), values)
            self._kept[condition.key] = states
        return states
