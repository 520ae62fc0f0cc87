"""What a backtest is given and what it gives back. Pure values.

Times are Unix seconds UTC. A look happens at the close of each candle of ``Spec.timeframe``; its prices are that
candle's close. Money is Decimal; the equity curve is float64, for charts and ratios only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from accounts.exchanges.paper_rules import Costs
from bots.strategies.heard import NO_SIGNALS, Heard
from marketdata.series import Candles, FloatArray, IntArray
from marketdata.terms import ProductTerms
from marketdata.timeframes import Timeframe
from positions.states import Direction, ExitReason, Purpose, Side
from tradebot.core.decimals import HUNDRED, ZERO, plain

__all__ = ["Cancelled", "Costs", "Outcome", "Pair", "SimulatedDeal", "SimulatedFill", "Spec"]


class Cancelled(Exception):
    """Somebody asked the simulation to stop."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair: its terms and its closed candles by timeframe, ``Spec.timeframe`` among them, gaps filled.

    ``cache`` keeps indicators and condition states between runs over the same candles, as a sweep makes them. ``heard``
    is what the bot was told about the pair, by kind of signal; without a bot every source counts as silent.
    """

    terms: ProductTerms
    candles: Mapping[Timeframe, Candles]
    category: str = ""
    is_stable_pair: bool = False
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    heard: Heard = field(default_factory=lambda: NO_SIGNALS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Spec:
    """A backtest: settings (of the strategy's own model), pairs in the order in which they are looked at, and money.

    ``balances`` are the opening balances by currency. ``start`` and ``end`` (exclusive, both optional) bound the closes
    of the candles that are traded on; candles before ``start`` still warm the indicators.
    """

    strategy: str
    settings: Any
    pairs: tuple[Pair, ...]
    timeframe: Timeframe
    balances: Mapping[str, Decimal]
    quote: str
    costs: Costs
    budget_kind: str = "percent"
    budget_pct: Decimal = HUNDRED
    budget_fixed: Decimal = ZERO
    split_budget: bool = True
    start: int | None = None
    end: int | None = None


class SimulatedFill(NamedTuple):
    """One execution, as the paper venue would report it. ``price`` is quote per base."""

    at: int
    symbol: str
    side: Side
    purpose: Purpose
    price: Decimal
    base: Decimal
    quote: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool


@dataclass(slots=True)
class SimulatedDeal:
    """One deal. Amounts are in quote; ``profit`` is net of fees, of an open deal at its last price."""

    number: int
    symbol: str
    direction: Direction
    opened_at: int
    closed_at: int | None = None
    exit_reason: ExitReason | None = None
    invested: Decimal = ZERO
    profit: Decimal = ZERO
    profit_pct: Decimal | None = None
    fees: Decimal = ZERO
    safety_orders: int = 0
    fills: list[SimulatedFill] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened. ``times`` are the looks, ``equity`` the value of everything at each of them in ``quote``.

    ``invested`` is how much of the equity was in deals at each look (quote, at the price paid), ``held`` the
    buy-and-hold curve: the opening equity split evenly over the pairs at their first prices, without fees.
    """

    quote: str
    candles: int
    fills: tuple[SimulatedFill, ...]
    deals: tuple[SimulatedDeal, ...]
    times: IntArray
    equity: FloatArray
    invested: FloatArray
    held: FloatArray
    realised: Decimal
    unrealised: Decimal
    fees: Decimal
    balances: Mapping[str, Decimal]

    @property
    def fingerprint(self) -> str:
        """Return a hash over all fills: when, what, at which price, how much and at what fee, to the last digit."""
        digest = hashlib.sha256()
        for fill in self.fills:
            amounts = "|".join(plain(value) for value in (fill.price, fill.base, fill.quote, fill.fee))
            at = datetime.fromtimestamp(fill.at, UTC).isoformat()
            digest.update(f"{at}|{fill.symbol}|{fill.side}|{amounts}|{fill.fee_currency}\n".encode())
        return digest.hexdigest()[:16]
