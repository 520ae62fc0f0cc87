"""The indicators that conditions compare: one registry for the engine, the forms and the schema (F42). Pure.

Each entry is causal: the value at candle i from the whole series equals the value from the first i + 1 candles, so an
array computed once serves a replay at every index without looking ahead. Values are float64, oldest first, NaN where
there is not enough history. Formulas are TA-Lib's unless said otherwise.

* ``registry``: every indicator there is.
* ``spec``: what an entry says of itself.
* ``formulas``, ``bull_flag``: the arithmetic; ``settling``: how much history it takes.
"""

from __future__ import annotations

from marketdata.indicators.registry import INDICATORS, LEAST_HISTORY, candles_wanted, spec_of
from marketdata.indicators.spec import IndicatorSpec, Mirroring, Unit

__all__ = ["INDICATORS", "LEAST_HISTORY", "IndicatorSpec", "Mirroring", "Unit", "candles_wanted", "spec_of"]
