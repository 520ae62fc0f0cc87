"""The strategies of ``bench_backtest`` for the package ``backtesting``, as its own documentation would write them."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pandas as pd
import talib
from backtesting import Backtest, Strategy

from marketdata.series import Candles


class RsiInOut(Strategy):
    """Buy everything when RSI(14) is below 30, sell it when it is above 70."""

    def init(self) -> None:
        self.rsi = self.I(talib.RSI, self.data.Close, 14)

    def next(self) -> None:
        if not self.position:
            if self.rsi[-1] < 30:
                self.buy(size=0.99)
        elif self.rsi[-1] > 70:
            self.position.close()


class Dca(Strategy):
    """A base order below RSI 30, five safety orders 2 % apart below the average, everything sold 1 % net above it."""

    def init(self) -> None:
        self.rsi = self.I(talib.RSI, self.data.Close, 14)
        self.spent = self.units = 0.0
        self.levels = 0

    def next(self) -> None:
        price = self.data.Close[-1]
        if not self.position:
            self.spent = self.units = 0.0
            self.levels = 0
            if self.rsi[-1] < 30:
                self._buy(10_000.0, price)
            return
        average = self.spent / self.units
        if price >= average * 1.01 * 1.002:
            self.position.close()
        elif self.levels < 5 and price <= average * (1 - 0.02 * (self.levels + 1)):
            self.levels += 1
            self._buy(5_000.0, price)

    def _buy(self, quote: float, price: float) -> None:
        units = int(quote / price)
        self.buy(size=units)
        self.spent += units * price
        self.units += units


def median_of(name: str, candles: Candles, fee: float, runs: int) -> tuple[float, int]:
    """Return the median seconds of ``runs`` runs after one that is not counted, and how many trades there were."""
    frame = pd.DataFrame(
        {
            "Open": candles.open,
            "High": candles.high,
            "Low": candles.low,
            "Close": candles.close,
            "Volume": candles.volume,
        },
        index=pd.to_datetime(candles.time, unit="s"),
    )
    strategy = {"dca": Dca, "rsi": RsiInOut}[name]
    taken, result = [], None
    for _ in range(runs + 1):
        started = time.perf_counter()
        result = _run(frame, strategy, fee)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:]), int(result["# Trades"])


def _run(frame: pd.DataFrame, strategy: type[Strategy], fee: float) -> Any:
    return Backtest(frame, strategy, cash=100_000, commission=fee, trade_on_close=True, finalize_trades=True).run()
