"""What the page of one deal shows besides its card: orders with their fills, the time line, the chart. Reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from marketdata.models import Product
from marketdata.services import chart_candles, market_now
from marketdata.timeframes import Timeframe
from positions.cards import DealCard
from positions.models import Fill, Order, Position
from positions.states import (
    ENTRY_PURPOSES,
    KEPT_STRATEGIES,
    MANUAL_PURPOSES,
    SINGLE_EXITS,
    WORKING,
    KeptStrategy,
    OrderStatus,
    Purpose,
    Side,
)
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO, for_money, plain, round_to
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import detached

__all__ = [
    "CHART_TIMEFRAMES",
    "CheckRow",
    "DecisionRow",
    "Moment",
    "OrderRow",
    "SideSum",
    "WorkingRow",
    "chart_data",
    "chart_timeframe",
    "decision_rows",
    "order_rows",
    "side_sums",
    "time_line",
    "working_rows",
]

CHART_TIMEFRAMES: Final = (Timeframe.M1, Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1)
CHART_CANDLES: Final = 300
CHART_MARGIN: Final = 40
MOST_CANDLES: Final = 1500
MOST_MOMENTS: Final = 60


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order with what its fills add up to. ``fee_text`` amounts are by currency, as fees are taken."""

    order: Order
    title: str
    state: str
    state_kind: str
    price: Decimal | None
    base: Decimal
    quote: Decimal
    fees: tuple[tuple[str, Decimal], ...]
    average_after: Decimal | None


@dataclass(frozen=True, slots=True)
class SideSum:
    """What the orders of one side add up to: ``price`` is their average, fees are by currency."""

    title: str
    price: Decimal
    base: Decimal
    quote: Decimal
    fees: tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True, slots=True)
class WorkingRow:
    """An order of the deal that may still fill. ``left`` is what it has not filled yet, in base (None: sized in quote).

    ``share`` is how much of it is filled, in percent. ``is_persons`` marks what somebody placed by hand.
    """

    order: Order
    title: str
    state: str
    state_kind: str
    left: Decimal | None
    share: Decimal | None
    age_seconds: float
    by: str
    is_persons: bool
    is_cancelling: bool

    @property
    def can_change(self) -> bool:
        """Return whether it is a limit close that somebody placed."""
        return self.order.purpose == Purpose.LIMIT_CLOSE and self.order.limit_price is not None

    @property
    def can_cancel_add(self) -> bool:
        """Return whether it is an addition that somebody placed."""
        return self.order.purpose == Purpose.MANUAL_ADD


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A condition that was asked: what it says, how it came out, its value and what it was compared with."""

    label: str
    state: str
    value: float | None
    threshold: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """Something that the bot decided about the deal, with the conditions and numbers behind it."""

    at: datetime
    code: str
    message: str
    acted: bool
    checks: tuple[CheckRow, ...]
    numbers: tuple[tuple[str, Any], ...]

    @property
    def has_more(self) -> bool:
        """Return whether there is anything behind the sentence."""
        return bool(self.checks or self.numbers)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a deal, and who or what did it."""

    at: datetime
    text: str
    actor: str = ""


_STATES: Final = {
    OrderStatus.INTENDED: ("wait", "Written down"),
    OrderStatus.SUBMITTED: ("unknown", "Sent, no answer yet"),
    OrderStatus.OPEN: ("wait", "Resting"),
    OrderStatus.PARTIALLY_FILLED: ("wait", "Partly filled"),
    OrderStatus.FILLED: ("met", "Filled"),
    OrderStatus.CANCELLED: ("wait", "Cancelled"),
    OrderStatus.EXPIRED: ("wait", "Expired"),
    OrderStatus.REJECTED: ("unmet", "Refused"),
}


_TITLES: Final[dict[str, str]] = {
    Purpose.BRACKET_PROFIT: "Take profit",
    Purpose.BRACKET_STOP: "Stop",
}


def state_of(order: Order) -> tuple[str, str]:
    """Return the class and the words for where an order stands."""
    return _STATES[OrderStatus(order.status)]


def title_of(order: Order, strategy: str) -> str:
    """Return what an order of a deal of this strategy is for: "Safety order", "Sale"."""
    if order.purpose == Purpose.BASE_ORDER and strategy in KEPT_STRATEGIES:
        return "Sale" if strategy == KeptStrategy.SALE else "Purchase"
    name = _TITLES.get(order.purpose) or str(order.purpose).replace("_", " ").capitalize()
    if order.purpose == Purpose.SAFETY_ORDER and order.levels > 1:
        return f"{name}s, {order.levels} levels"
    return name


def order_rows(position: Position, orders: Sequence[Order], fills: Iterable[Fill]) -> list[OrderRow]:
    """Return the deal's orders, oldest first, each with its fills and the deal's average entry price after it."""
    by_order: dict[int, list[Fill]] = defaultdict(list)
    for fill in fills:
        by_order[fill.order_id].append(fill)
    rows = []
    level = 0
    entry_base = entry_quote = ZERO
    with for_money():
        for order in orders:
            mine = by_order[order.pk]
            base = sum((fill.base for fill in mine), ZERO)
            quote = sum((fill.quote for fill in mine), ZERO)
            fees: dict[str, Decimal] = defaultdict(Decimal)
            for fill in mine:
                fees[fill.fee_currency] += fill.fee
            is_entry = order.purpose in ENTRY_PURPOSES
            if is_entry:
                entry_base, entry_quote = entry_base + base, entry_quote + quote
            title = title_of(order, position.strategy)
            if order.purpose == Purpose.SAFETY_ORDER and order.levels <= 1:
                title = f"{title} {level + 1}"
            if order.purpose == Purpose.SAFETY_ORDER and base:
                level += max(order.levels, 1)
            kind, state = state_of(order)
            rows.append(
                OrderRow(
                    order=order,
                    title=title,
                    state=state,
                    state_kind=kind,
                    price=quote / base if base else None,
                    base=base,
                    quote=quote,
                    fees=tuple(sorted(fees.items())),
                    average_after=entry_quote / entry_base if is_entry and base else None,
                )
            )
    return rows


def side_sums(rows: Iterable[OrderRow]) -> list[SideSum]:
    """Return what was bought and what was sold in all, the side that came first first; a side without a fill is not."""
    by_side: dict[str, list[OrderRow]] = {}
    for row in rows:
        if row.base:
            by_side.setdefault(row.order.side, []).append(row)
    found = []
    with for_money():
        for side, mine in by_side.items():
            base, quote = sum((row.base for row in mine), ZERO), sum((row.quote for row in mine), ZERO)
            fees: dict[str, Decimal] = defaultdict(Decimal)
            for row in mine:
                for currency, fee in row.fees:
                    fees[currency] += fee
            title = "Bought" if side == Side.BUY else "Sold"
            found.append(SideSum(title, quote / base, base, quote, tuple(sorted(fees.items()))))
    return found


def working_rows(position: Position, orders: Iterable[Order]) -> list[WorkingRow]:
    """Return the deal's orders that may still fill, oldest first."""
    now = clock.now()
    rows = []
    with for_money():
        for order in orders:
            if order.status not in WORKING:
                continue
            size = order.base_size
            kind, state = state_of(order)
            is_persons = order.purpose in MANUAL_PURPOSES
            rows.append(
                WorkingRow(
                    order=order,
                    title=title_of(order, position.strategy),
                    state="Being cancelled" if order.cancel_requested_at else state,
                    state_kind="unknown" if order.cancel_requested_at else kind,
                    left=None if size is None else size - order.filled_base,
                    share=order.filled_base / size * HUNDRED if size else None,
                    age_seconds=max((now - order.created_at).total_seconds(), 0.0),
                    by=order.actor,
                    is_persons=is_persons,
                    is_cancelling=order.cancel_requested_at is not None,
                )
            )
    return rows


# What the bot decided -------------------------------------------------------------------------------------------------


def decision_rows(decisions: Iterable[Any]) -> list[DecisionRow]:
    """Return stored decisions about a deal as its page shows them."""
    return [
        DecisionRow(
            at=decision.at,
            code=decision.code,
            message=decision.message,
            acted=decision.action != "none",
            checks=tuple(_checks(decision.evidence)),
            numbers=tuple(_numbers(decision.evidence)),
        )
        for decision in decisions
    ]


def _checks(evidence: Any) -> Iterator[CheckRow]:
    found = evidence.get("checks") if isinstance(evidence, dict) else None
    for check in found if isinstance(found, list) else ():
        if isinstance(check, dict):
            yield CheckRow(
                label=str(check.get("label", "")),
                state=str(check.get("state", "unknown")),
                value=check.get("value"),
                threshold=check.get("threshold"),
                reason=str(check.get("reason") or ""),
            )


def _numbers(evidence: Any) -> Iterator[tuple[str, Any]]:
    for name, value in evidence.items() if isinstance(evidence, dict) else ():
        if not isinstance(value, list | dict):
            yield name, value


# The time line --------------------------------------------------------------------------------------------------------

_DEEDS: Final = {
    "deal_note": "Note saved",
    "deal_closed_by_hand": "Close asked for",
    "deal_cancelled": "Cancelled, coins kept",
    "limit_close_placed": "Limit close placed",
    "limit_close_changed": "Limit close changed",
    "limit_close_cancelled": "Limit close cancelled",
    "deal_funds_added": "Funds added",
    "deal_add_cancelled": "Addition cancelled",
    "deal_ceiling": "Ceiling changed",
    "deal_settings": "Settings changed",
    "perp_opened": "Position asked for",
    "coins_sold": "Sale asked for",
    "coins_converted": "Conversion asked for",
    "sale_cancelled": "Sale cancelled",
    "purchase_cancelled": "Purchase cancelled",
    "bracket_changed": "Take profit and stop changed",
}


def time_line(position: Position, rows: Sequence[OrderRow]) -> list[Moment]:
    """Return what happened from intent to close, newest first, with who or what acted."""
    moments = []  # what belongs to the same moment is added latest first: the sort below keeps that
    if position.closed_at is not None:
        moments.append(Moment(position.closed_at, f"Deal {position.status}"))
    if position.opened_at is not None:
        moments.append(Moment(position.opened_at, "Deal open"))
    for row in reversed(rows):
        order = row.order
        if order.finished_at is not None:
            verb = {"filled": "filled", "rejected": f"refused ({order.error_code})"}.get(order.status, order.status)
            moments.append(Moment(order.finished_at, f"{row.title} {verb}"))
        moments.append(Moment(order.created_at, f"{row.title} written down", order.actor))
    with detached("who may see a deal may see what was done to it and by whom"):
        entries = AuditEntry.objects.filter(user_id=position.account.owner_id, detail__position_id=position.pk)
        deeds = list(entries.filter(action__in=_DEEDS).order_by("-pk")[:MOST_MOMENTS])
    moments += [Moment(entry.at, _deed(entry, position.product), entry.actor) for entry in deeds]
    return sorted(moments, key=lambda moment: moment.at, reverse=True)[:MOST_MOMENTS]


def _deed(entry: AuditEntry, product: Product) -> str:
    """Return what somebody did, with the values before and after."""
    text, detail = _DEEDS[entry.action], entry.detail
    if entry.action == "deal_settings":
        return "; ".join(str(words) for words in detail.get("words", ())) or text
    if entry.action == "deal_ceiling":
        return f"{text}: {_amount(detail.get('was'))} → {_amount(detail.get('ceiling'))} {product.quote}"
    if entry.action == "deal_funds_added":
        raised = f", ceiling raised to {_amount(detail['raised_to'])}" if detail.get("raised_to") else ""
        return f"{text}: {_amount(detail.get('amount'))} {product.quote}{raised}"
    if entry.action in ("limit_close_placed", "limit_close_changed") and detail.get("price"):
        before = f"{_amount(detail['was'])} → " if detail.get("was") else ""
        return f"{text}: {before}{_amount(detail['price'])}"
    if entry.action == "bracket_changed":
        profit, stop = _amount(detail.get("take_profit")), _amount(detail.get("stop_loss"))
        return f"{text}: take profit {profit}, stop {stop}"
    if entry.action in ("coins_sold", "coins_converted"):
        return f"{text}: {detail.get('gives')} into {detail.get('into')}"
    if entry.action == "perp_opened":
        return f"{text}: {detail.get('leverage')}\u00d7, {_amount(detail.get('base'))} {product.base}"
    if entry.action == "deal_closed_by_hand" and detail.get("state") == "reduced":
        return f"Part closed: {_amount(detail.get('base'))} {product.base}"
    return text


def _amount(text: Any) -> str:
    return plain(Decimal(text)) if text is not None else "none"


# The chart ----------------------------------------------------------------------------------------------------------


def chart_timeframe(asked: str, offered: Sequence[Timeframe], since: datetime, until: datetime) -> Timeframe:
    """Return the timeframe asked for, or the shortest offered in which the time from ``since`` fits on the screen."""
    if asked in offered:
        return Timeframe(asked)
    seconds = (until - since).total_seconds() * 1.3
    fitting = (tf for tf in offered if seconds <= tf.seconds * CHART_CANDLES)
    return next(fitting, offered[-1] if offered else CHART_TIMEFRAMES[-1])


def candle_rows(
    product: Product, timeframe: Timeframe, since: datetime, until: datetime | None = None
) -> list[list[float]]:
    """Return [time, open, high, low, close] of closed candles, from a little before ``since`` to after ``until``.

    ``until`` defaults to now. What lies too far back for one request is left out.
    """
    room = timedelta(seconds=timeframe.seconds * CHART_MARGIN)
    known = market_now(product)
    end = known if until is None else min(until + room, known)
    span = (end - since + room).total_seconds()
    count = min(max(int(span // timeframe.seconds) + 1, CHART_CANDLES // 2), MOST_CANDLES)
    candles = chart_candles(product, timeframe, count, end)
    columns = (candles.time, candles.open, candles.high, candles.low, candles.close)
    return [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def fill_marks(
    fills: Iterable[tuple[Fill, Order]], timeframe: Timeframe, profits: Mapping[int, Decimal | None]
) -> list[dict[str, Any]]:
    """Return one mark per order on the chart: what was done, at the candle in which it began.

    ``profits`` are the percentages that deals have realised, by id: what stands beside an exit.
    """
    marks: dict[int, dict[str, Any]] = {}
    level: dict[int, int] = defaultdict(int)
    for fill, order in fills:
        if order.pk in marks:
            continue
        text = ""
        if order.purpose == Purpose.BASE_ORDER:
            text = "B"
        elif order.purpose == Purpose.SAFETY_ORDER:
            level[order.position_id] += max(order.levels, 1)
            text = str(level[order.position_id])
        elif order.purpose == Purpose.MANUAL_ADD:
            text = "+"
        entry = order.purpose in ENTRY_PURPOSES
        profit = None if entry else profits.get(order.position_id)
        if profit is not None:
            sign = "+" if profit > ZERO else "\u2212" if profit < ZERO else ""
            text = f"{sign}{abs(profit):.1f} %"
        marks[order.pk] = {
            "time": timeframe.open_time(fill.at.timestamp()),
            "kind": ("base" if order.purpose == Purpose.BASE_ORDER else "add") if entry else "exit",
            "side": fill.side,
            "text": text or str(order.purpose).replace("_", " "),
            "won": profit is None or profit >= ZERO,
        }
    return sorted(marks.values(), key=lambda mark: mark["time"])


def chart_data(card: DealCard, fills: Sequence[Fill], timeframe: Timeframe) -> dict[str, Any]:
    """Return candles, fills and price lines of a deal's chart."""
    position, product = card.position, card.position.product
    orders = {order.pk: order for order in card.orders}
    since = position.opened_at or position.created_at
    prices: list[tuple[str, str, Decimal | None]] = []
    if position.closed_at is None:
        rung = card.outlook.rungs[0] if card.outlook.rungs else None
        prices = [
            ("target", "target", None if card.limit_by_hand else card.outlook.target),
            ("average", "average", position.average_price),
            ("next", f"SO {rung.level}" if rung else "", rung.price if rung else None),
            ("stop", "stop", card.outlook.stop),
            ("stop", "liquidation", card.perps.terms.liquidation_price if card.perps else None),
            *(
                ("limit", "limit close", order.limit_price)
                for order in card.orders
                if order.status in WORKING and order.limit_price and order.purpose in SINGLE_EXITS
            ),
        ]
    else:
        prices = [("average", "average", position.average_price)]
    return {
        "product": product.symbol,
        "timeframe": timeframe.value,
        "step": float(product.price_increment),
        "candles": candle_rows(product, timeframe, since, position.closed_at),
        "marks": fill_marks(
            [(fill, orders[fill.order_id]) for fill in fills if fill.order_id in orders],
            timeframe,
            {position.pk: position.realised_pct},
        ),
        "lines": [
            {"kind": kind, "title": title, "price": float(round_to(price, product.price_increment))}
            for kind, title, price in prices
            if price is not None
        ],
    }
