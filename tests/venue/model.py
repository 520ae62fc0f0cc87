"""The values of the matching engine: products, wallets, orders, executions, books. Amounts are Decimal."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Any

ZERO = Decimal(0)
ONE = Decimal(1)


def plain(value: Decimal) -> str:
    """Return a number as a venue writes it: no exponent, no trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_FLOOR) * step


def is_on(value: Decimal, step: Decimal) -> bool:
    return value % step == 0


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Status(StrEnum):
    """Where an order stands; the words are Coinbase's."""

    PENDING = "PENDING"
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"


WORKING = (Status.PENDING, Status.OPEN)


class Refused(Exception):
    """The venue says no, and nothing has happened. ``reason`` is Coinbase's word, e.g. INSUFFICIENT_FUND."""

    def __init__(self, reason: str, message: str, preview: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.preview = reason, message, preview


class Malformed(Exception):
    """The request itself is wrong; ``field`` names what."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field_name, f"{field_name}: {message}"


@dataclass(slots=True)
class Product:
    """A pair that can be traded. ``book`` is the product whose order book it shares: BTC-USDC trades in BTC-USD's."""

    product_id: str
    base: str
    quote: str
    base_increment: Decimal
    quote_increment: Decimal
    price_increment: Decimal
    base_min_size: Decimal
    base_max_size: Decimal
    quote_min_size: Decimal
    quote_max_size: Decimal
    book: str
    is_disabled: bool = False
    trading_disabled: bool = False
    cancel_only: bool = False
    limit_only: bool = False
    post_only: bool = False
    view_only: bool = False
    status: str = "online"


@dataclass(slots=True)
class Wallet:
    """What an account has of one currency; ``hold`` is the part that working orders have claimed."""

    uuid: str
    currency: str
    balance: Decimal = ZERO
    hold: Decimal = ZERO

    @property
    def available(self) -> Decimal:
        return self.balance - self.hold


@dataclass(slots=True)
class Movement:
    """A line of a wallet's history: a deposit, a withdrawal, or one side of a trade."""

    movement_id: str
    currency: str
    kind: str
    amount: Decimal
    at: datetime
    number: int
    status: str = "completed"


@dataclass(slots=True)
class Account:
    """Somebody's portfolio at the venue: wallets, and what trading costs them (fractions)."""

    name: str
    user_id: str
    portfolio_id: str
    maker: Decimal
    taker: Decimal
    wallets: dict[str, Wallet] = field(default_factory=dict)
    movements: list[Movement] = field(default_factory=list)


@dataclass(slots=True)
class Execution:
    """One fill of one order. ``fee`` is an amount of ``fee_currency``; ``number`` counts the venue's fills."""

    number: int
    trade_id: str
    order_id: str
    client_order_id: str
    account: str
    product_id: str
    side: str
    price: Decimal
    base: Decimal
    quote: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    size_in_quote: bool
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return it as the control interface shows it."""
        return {
            "number": self.number,
            "trade_id": self.trade_id,
            "order_id": self.order_id,
            "client_order_id": self.client_order_id,
            "account": self.account,
            "product_id": self.product_id,
            "side": self.side,
            "price": plain(self.price),
            "base": plain(self.base),
            "quote": plain(self.quote),
            "fee": plain(self.fee),
            "fee_currency": self.fee_currency,
            "is_maker": self.is_maker,
            "at": stamp(self.at),
        }


@dataclass(slots=True)
class Ask:
    """An order as a client asks for it, checked for shape and not yet for money.

    Exactly one of ``base_size`` and ``quote_size`` is given. ``limit_price`` None is a market order. ``time_in_force``
    is GTC, GTD, IOC or FOK.
    """

    product_id: str
    side: str
    client_order_id: str = ""
    base_size: Decimal | None = None
    quote_size: Decimal | None = None
    limit_price: Decimal | None = None
    time_in_force: str = "IOC"
    post_only: bool = False
    end_time: datetime | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    fee_in_base: bool = False
    quote_with_fees: bool = True
    """Whether ``quote_size`` includes the fee, as on Coinbase."""


@dataclass(slots=True)
class VenueOrder:
    """An order as the venue knows it."""

    number: int
    order_id: str
    account: str
    ask: Ask
    created_at: datetime
    status: Status = Status.OPEN
    size: Decimal | None = None
    price: Decimal | None = None
    fills: list[Execution] = field(default_factory=list)
    hold: Decimal = ZERO
    cancel_message: str = ""
    reject_reason: str = ""
    pending_cancel: bool = False
    edits: list[dict[str, str]] = field(default_factory=list)
    finished_at: datetime | None = None
    # What faults make of it: how many more looks it stays invisible, pending, or without its fills.
    hidden_looks: int = 0
    pending_looks: int = 0
    late_looks: int = 0
    race: Decimal | None = None

    @property
    def client_order_id(self) -> str:
        return self.ask.client_order_id

    @property
    def filled(self) -> Decimal:
        return sum((fill.base for fill in self.fills), ZERO)

    @property
    def value(self) -> Decimal:
        return sum((fill.quote for fill in self.fills), ZERO)

    @property
    def fees(self) -> Decimal:
        return sum((fill.fee for fill in self.fills), ZERO)

    @property
    def remaining(self) -> Decimal:
        return (self.size or ZERO) - self.filled

    def to_json(self) -> dict[str, Any]:
        """Return it as the control interface shows it."""
        return {
            "order_id": self.order_id,
            "client_order_id": self.client_order_id,
            "account": self.account,
            "product_id": self.ask.product_id,
            "side": self.ask.side,
            "status": str(self.status),
            "size": None if self.size is None else plain(self.size),
            "quote_size": None if self.ask.quote_size is None else plain(self.ask.quote_size),
            "price": None if self.price is None else plain(self.price),
            "filled": plain(self.filled),
            "value": plain(self.value),
            "fees": plain(self.fees),
            "hold": plain(self.hold),
            "pending_cancel": self.pending_cancel,
            "created_at": stamp(self.created_at),
        }


@dataclass(slots=True)
class Book:
    """Liquidity from outside, best first, and what has been traded. Orders of our accounts rest beside it."""

    bids: list[list[Decimal]] = field(default_factory=list)
    asks: list[list[Decimal]] = field(default_factory=list)
    last: Decimal | None = None
    prints: list[tuple[datetime, Decimal, Decimal, str]] = field(default_factory=list)
    candles: dict[int, list[tuple[int, str, str, str, str, str]]] = field(default_factory=lambda: defaultdict(list))
    """Given candles by seconds, oldest first: opening time, open, high, low, close, volume. Prints make the others."""
