"""What strategies are made of: the market as they see it, the deal as they see it, and what they answer. Pure.

A strategy is a set of functions from values to values. It knows no database, network or clock: times come in as
arguments, and what has to be remembered goes out with the decision (``trail``, ``evaluated_until``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, Protocol

from pydantic import BaseModel

from bots.conditions import Asked, Condition, Since, StateArray, condition_states
from marketdata.indicators import spec_of
from marketdata.series import Candles, FloatArray, closed_count
from marketdata.sources.base import Quote
from marketdata.terms import ProductTerms
from marketdata.timeframes import Timeframe
from positions.ledger import Totals
from positions.states import ENTRY_PURPOSES, Direction, ExitReason, OrderType, Purpose, Side
from tradebot.core.decimals import ZERO, dec, plain

__all__ = [
    "Action",
    "DealView",
    "Decision",
    "FeeRates",
    "InMemoryMarketView",
    "MarketView",
    "OpenContext",
    "OrderPlan",
    "Preset",
    "ProductTerms",
    "Quote",
    "ReasonCode",
    "Strategy",
    "TrailState",
    "WorkingOrder",
]


# The market ---------------------------------------------------------------------------------------------------------


class MarketView(Protocol):
    """One product at one moment. Everything it shows is closed and known by then."""

    @property
    def product(self) -> ProductTerms:
        """Return the product's steps and minimums."""

    @property
    def quote(self) -> Quote | None:
        """Return the current prices, None when they are not known."""

    def series(self, timeframe: Timeframe) -> Candles:
        """Return the closed candles, oldest first; an empty series when there are none."""

    def newest(self, timeframe: Timeframe) -> int | None:
        """Return the opening time (Unix seconds) of the last closed candle, None when there is none."""

    def indicator(
        self, timeframe: Timeframe, name: str, params: Mapping[str, float], output: str | None = None
    ) -> FloatArray:
        """Return the indicator at each candle of :meth:`series`."""

    def states(self, condition: Condition) -> StateArray:
        """Return the state of the condition (negation left out) at each candle of :meth:`series`."""


_NO_CANDLES: Final = Candles.empty()


class InMemoryMarketView:
    """A market view over candle arrays.

    Indicators and condition states are computed once over the whole arrays and shared by every view made from this one
    with :meth:`at`; a view shows the first ``ends[timeframe]`` of them. As both are causal, a replay sees at each
    moment exactly what it would have seen then.
    """

    __slots__ = ("_cache", "_candles", "_ends", "_shown", "product", "quote")

    def __init__(
        self,
        product: ProductTerms,
        candles: Mapping[Timeframe, Candles],
        quote: Quote | None = None,
        ends: Mapping[Timeframe, int] | None = None,
        cache: dict[Any, Any] | None = None,
    ) -> None:
        self.product = product
        self.quote = quote
        self._candles = candles
        self._ends = {timeframe: len(series) for timeframe, series in candles.items()} | dict(ends or {})
        self._cache: dict[Any, Any] = {} if cache is None else cache
        self._shown: dict[Timeframe, Candles] = {}

    def at(self, now_ts: float, quote: Quote | None) -> InMemoryMarketView:
        """Return the view as it was at ``now_ts`` (unix seconds): only candles closed by then, same caches."""
        ends = {timeframe: closed_count(series, timeframe, now_ts) for timeframe, series in self._candles.items()}
        return type(self)(self.product, self._candles, quote, ends, self._cache)

    def series(self, timeframe: Timeframe) -> Candles:
        shown = self._shown.get(timeframe)
        if shown is None:
            full = self._candles.get(timeframe)
            shown = _NO_CANDLES if full is None else full.upto(self._ends[timeframe])
            self._shown[timeframe] = shown
        return shown

    def newest(self, timeframe: Timeframe) -> int | None:
        end = self._ends.get(timeframe, 0)
        return self._candles[timeframe].time.item(end - 1) if end else None

    def indicator(
        self, timeframe: Timeframe, name: str, params: Mapping[str, float], output: str | None = None
    ) -> FloatArray:
        return self._full_indicator(timeframe, name, params, output)[: self._ends.get(timeframe, 0)]

    def _full_indicator(
        self, timeframe: Timeframe, name: str, params: Mapping[str, float], output: str | None
    ) -> FloatArray:
        key = (timeframe, name, tuple(sorted(params.items())), output)
        values: FloatArray | None = self._cache.get(key)
        if values is None:
            spec = spec_of(name)
            values = spec.values(self._candles.get(timeframe, _NO_CANDLES), spec.complete(params), output)
            self._cache[key] = values
        return values

    def states(self, condition: Condition) -> StateArray:
        states: StateArray | None = self._cache.get(condition.key)
        timeframe = condition.timeframe
        if states is None:
            values = self._full_indicator(timeframe, condition.indicator, condition.params, condition.output)
            states = condition_states(condition, self._candles.get(timeframe, _NO_CANDLES), values)
            self._cache[condition.key] = states
        return states[: self._ends.get(timeframe, 0)]


# What goes in -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeeRates:
    """The account's fees on this market as fractions: 0.006 is 0.6 %."""

    maker: Decimal
    taker: Decimal


class OpenContext(NamedTuple):
    """What a bot's state and account allow when a new deal is considered. None is "not known", never zero (F34).

    Amounts are in the pair's quote currency. ``direction`` is one of those that the settings open. ``bot_budget`` is
    the bot's whole budget there (see ``sizing.bot_budget``; for a bot that trades both ways the share of
    ``direction``), ``committed_quote`` what its open deals of that direction have spent, ``free_quote`` and
    ``free_base`` the account's balances without holds and without what is reserved for others. ``largest_minimum`` is
    the largest minimum order in quote among the bot's pairs; None uses this pair's. ``open_deals`` counts this bot's
    active positions of ``direction``, pending ones included. ``account_closed`` says why the account takes no risk, if
    it does not. ``since`` is what was judged for this direction.
    ``volume_24h`` is in quote, ``category`` the coin's category for this owner ("" is unreviewed) and
    ``is_stable_pair`` says that both coins are stable.
    """

    now: datetime
    fee_rates: FeeRates
    open_deals: int
    open_deals_on_pair: int
    bot_budget: Decimal | None
    free_quote: Decimal | None
    split_budget: bool = True
    committed_quote: Decimal = ZERO
    free_base: Decimal | None = None
    largest_minimum: Decimal | None = None
    bot_active: bool = True
    trading_paused: bool = False
    account_closed: Literal["", "read_only", "stopped"] = ""
    last_closed_at: datetime | None = None
    since: Since | None = None
    direction: Direction = Direction.LONG
    volume_24h: Decimal | None = None
    category: str = ""
    is_stable_pair: bool = False


@dataclass(frozen=True, slots=True)
class TrailState:
    """What trailing exits remember about a deal between checks.

    ``armed`` and ``peak`` belong to the trailing take profit (best price since it was armed), ``best`` and ``stop`` to
    the trailing stop (best price since the deal opened, and the price it sells at), ``breached_at`` to the time-out
    that a stop may have to hold for. ``candle_at`` is the close of the recorded candle that the stop has followed last,
    so that looking at a candle twice does not hold its low against the stop that its own close has set.
    """

    armed: bool = False
    peak: Decimal | None = None
    best: Decimal | None = None
    stop: Decimal | None = None
    breached_at: datetime | None = None
    candle_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; unset ones are left out."""
        prices = {"peak": self.peak, "best": self.best, "stop": self.stop}
        result: dict[str, Any] = {name: plain(price) for name, price in prices.items() if price is not None}
        if self.armed:
            result["armed"] = True
        moments = {"breached_at": self.breached_at, "candle_at": self.candle_at}
        return result | {name: moment.isoformat() for name, moment in moments.items() if moment is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> TrailState:
        """Return the state that :meth:`to_json` wrote."""
        data = data or {}
        best, stop, peak = (
            dec(data[name]) if data.get(name) is not None else None for name in ("best", "stop", "peak")
        )
        breached_at, candle_at = (
            datetime.fromisoformat(data[name]) if data.get(name) else None for name in ("breached_at", "candle_at")
        )
        return cls(bool(data.get("armed", False)), peak, best, stop, breached_at, candle_at)


@dataclass(frozen=True, slots=True)
class WorkingOrder:
    """An order of the deal that may still fill. ``is_acknowledged``: the venue has said that it has it.

    ``by_person`` marks what a person placed: nothing here reprices or replaces it (F17), only a protective exit or the
    person may cancel it. ``is_cancelling``: somebody asked the venue to cancel it.
    """

    purpose: Purpose
    order_type: OrderType
    base_size: Decimal
    placed_at: datetime
    filled_base: Decimal = ZERO
    limit_price: Decimal | None = None
    levels: int = 0
    by_person: bool = False
    is_acknowledged: bool = True
    is_cancelling: bool = False

    @property
    def is_entry(self) -> bool:
        """Return whether it enlarges the deal."""
        return self.purpose in ENTRY_PURPOSES

    @property
    def is_resting(self) -> bool:
        """Return whether it lies in the venue's book and nothing else is under way with it."""
        return self.order_type is OrderType.LIMIT and self.is_acknowledged and not self.is_cancelling


@dataclass(frozen=True, slots=True)
class DealView:
    """An open deal as a strategy sees it.

    ``levels_filled`` counts the ladder levels bought, ``budget_quote`` is its ceiling (None: no ceiling). ``orders``
    are those that may still fill. ``free_quote`` and ``wallet_base`` are the account's free balances, None when not
    known. ``missed_limit_exit`` says that the latest limit close of the machine ended unfilled, not by a person's
    hand, with no fill since: the next one goes to the price that fills at once, while the floor holds there.
    """

    totals: Totals
    levels_filled: int
    opened_at: datetime
    trail: TrailState = field(default_factory=TrailState)
    budget_quote: Decimal | None = None
    orders: tuple[WorkingOrder, ...] = ()
    missed_limit_exit: bool = False
    free_quote: Decimal | None = None
    wallet_base: Decimal | None = None
    since: Since | None = None

    @property
    def pending_entry(self) -> bool:
        """Return whether an entry is under way whose outcome comes by itself: wait for it."""
        return any(order.is_entry and not order.is_resting for order in self.orders)

    @property
    def pending_exit(self) -> bool:
        """Return whether a close is under way whose outcome comes by itself: wait for it."""
        return any(not order.is_entry and not order.is_resting for order in self.orders)

    @property
    def resting_entries(self) -> tuple[WorkingOrder, ...]:
        """Return the entries that lie in the book."""
        return tuple(order for order in self.orders if order.is_entry and order.is_resting)

    @property
    def resting_close(self) -> WorkingOrder | None:
        """Return the close that lies in the book; there is one at most (F3)."""
        return next((order for order in self.orders if not order.is_entry and order.is_resting), None)

    @property
    def direction(self) -> Direction:
        """Return which way the deal earns."""
        return self.totals.direction

    @property
    def remaining_base(self) -> Decimal:
        """Return the base still to sell or to buy back."""
        return self.totals.remaining_base


# What comes out -----------------------------------------------------------------------------------------------------


class Action(StrEnum):
    """What is to be done."""

    NONE = "none"
    OPEN = "open"
    ADD = "add"
    CLOSE = "close"
    CANCEL = "cancel"


class ReasonCode(StrEnum):
    """Why a decision is what it is. Stable words: stored, translated and counted."""

    # Doing something
    OPENING = "opening"
    ADDING = "adding"
    TAKE_PROFIT = "take_profit"
    TRAILING_TAKE_PROFIT = "trailing_take_profit"
    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
    MAX_HOLD = "max_hold"
    CLOSE_CONDITION = "close_condition"
    DUST = "dust"
    REPRICING = "repricing"
    UNFILLED = "unfilled"
    # Waiting
    HOLDING = "holding"
    CONDITIONS_NOT_MET = "conditions_not_met"
    ADD_CONDITIONS_NOT_MET = "add_conditions_not_met"
    CLOSE_CONDITIONS_NOT_MET = "close_conditions_not_met"
    TRAIL_ARMED = "trail_armed"
    STOP_WAITING = "stop_waiting"
    ORDER_PENDING = "order_pending"
    LIMIT_RESTING = "limit_resting"
    # Not allowed
    BOT_STOPPED = "bot_stopped"
    TRADING_PAUSED = "trading_paused"
    ACCOUNT_READ_ONLY = "account_read_only"
    ACCOUNT_STOPPED = "account_stopped"
    DEAL_LIMIT = "deal_limit"
    PAIR_DEAL_LIMIT = "pair_deal_limit"
    COOLDOWN = "cooldown"
    SPREAD_TOO_WIDE = "spread_too_wide"
    SLIPPAGE_TOO_HIGH = "slippage_too_high"
    VOLUME_TOO_LOW = "volume_too_low"
    CATEGORY_NOT_ALLOWED = "category_not_allowed"
    STABLE_PAIR = "stable_pair"
    RESERVED = "reserved"
    NO_BUDGET = "no_budget"
    BUDGET_TOO_SMALL = "budget_too_small"
    BUDGET_USED = "budget_used"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    BELOW_MINIMUM = "below_minimum"
    CEILING_REACHED = "ceiling_reached"
    # Not known
    MISSING_PRICE = "missing_price"
    STALE_PRICE = "stale_price"
    STALE_CANDLES = "stale_candles"
    MISSING_BALANCE = "missing_balance"
    MISSING_BUDGET = "missing_budget"
    MISSING_VOLUME = "missing_volume"
    MISSING_BOOK = "missing_book"

    @property
    def is_missing_information(self) -> bool:
        """Return whether nothing was decided because something is not known."""
        return self in _MISSING


_MISSING: Final = frozenset(
    {
        ReasonCode.MISSING_PRICE,
        ReasonCode.STALE_PRICE,
        ReasonCode.STALE_CANDLES,
        ReasonCode.MISSING_BALANCE,
        ReasonCode.MISSING_BUDGET,
        ReasonCode.MISSING_VOLUME,
        ReasonCode.MISSING_BOOK,
    }
)


class OrderPlan(NamedTuple):
    """The order to intend: base floored to the product's increment, and what that comes to at ``price``.

    ``levels`` is the number of ladder levels it buys. ``max_slippage_pct`` is the most that the order book may make it
    worse than the best price, in percent; None asks no book.
    """

    side: Side
    order_type: OrderType
    base_size: Decimal
    price: Decimal
    levels: int = 0
    limit_price: Decimal | None = None
    max_slippage_pct: Decimal | None = None

    @property
    def quote_size(self) -> Decimal:
        """Return what the order comes to in quote at ``price``, without fees."""
        return self.base_size * self.price


@dataclass(frozen=True, slots=True)
class Decision:
    """What a strategy decided, why, and what it wants remembered.

    ``words`` and ``numbers`` give ``message`` and ``evidence``; most looks never read them, so they may be functions
    that work them out when asked. ``cancels`` names the purposes of resting orders that have to be cancelled first,
    their final state known, before all is decided again (F19, F21, F22); with the action ``cancel`` that is all there
    is to do. ``trail`` (managing a deal) and ``evaluated_until`` are to be stored whatever the action is; None means
    leave as it is. ``budget_quote`` is the ceiling a deal opens with. ``evidence`` holds plain JSON values.
    """

    action: Action
    code: ReasonCode
    words: str | Callable[[], str]
    numbers: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    purpose: Purpose | None = None
    exit_reason: ExitReason | None = None
    order: OrderPlan | None = None
    cancels: tuple[Purpose, ...] = ()
    trail: TrailState | None = None
    evaluated_until: dict[str, int] | None = None
    direction: Direction | None = None
    budget_quote: Decimal | None = None

    @property
    def message(self) -> str:
        """Return the reason in words."""
        return self.words if isinstance(self.words, str) else self.words()

    @property
    def evidence(self) -> dict[str, Any]:
        """Return the numbers behind the reason."""
        return dict(self.numbers() if callable(self.numbers) else self.numbers)


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings to start from. ``listed`` presets are offered to users."""

    name: str
    label: str
    description: str
    settings: BaseModel
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy: its settings model and its pure functions."""

    name: str
    label: str
    description: str
    settings_model: type[BaseModel]
    decide_open: Callable[[Any, MarketView, OpenContext], Decision]
    manage: Callable[[Any, DealView, MarketView, datetime, FeeRates], Decision]
    required_series: Callable[[Any], dict[Timeframe, int]]
    presets: tuple[Preset, ...]
    required_signals: Callable[[Any], Mapping[str, Asked]] = lambda _settings: {}
    """What the settings ask for, by kind of signal."""

    def settings_from_json(self, data: Mapping[str, Any]) -> Any:
        """Return validated settings. Raises InvalidInput naming the first field at fault, all in ``detail``."""
        return self.settings_model.from_json(data)  # type: ignore[attr-defined]
