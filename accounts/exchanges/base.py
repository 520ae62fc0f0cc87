"""The contract of every trading venue, live or paper.

A venue is addressed through the account whose orders it takes. Errors say what is known: ``VenueRejected`` (a clear no,
nothing was placed), ``VenueUnknown`` (the request may have been carried out: ask by client id, never resend),
``VenueUnavailable`` (a read failed, trying later is harmless). Repeating a client id never makes a second order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Final, Protocol
from uuid import UUID

from tradebot.core.words import OrderStatus, OrderType, Side

__all__ = ["NEVER_ARRIVED", "Balance", "NewOrder", "OrderReport", "Trade", "Venue"]

NEVER_ARRIVED: Final = "never_arrived"
"""The code of a client id that was given up before the venue had heard of it."""


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order to place.

    Market buys carry ``quote_size``, the value before fees (spent including fees never exceeds it plus the fee rate's
    share), or a ``base_size`` when so much has to be bought back; everything else carries ``base_size``. ``expires_at``
    is for limit orders; None is good till cancelled. ``reference_price`` is the price that the order was decided at: on
    recordings a market order never fills better than that.
    """

    client_order_id: UUID
    symbol: str
    side: Side
    order_type: OrderType
    base_size: Decimal | None = None
    quote_size: Decimal | None = None
    limit_price: Decimal | None = None
    expires_at: datetime | None = None
    reference_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution. ``price`` is quote per base; ``fee`` is an amount of ``fee_currency``."""

    trade_id: str
    price: Decimal
    base: Decimal
    quote: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What the venue says about one order now: its status and all trades so far, oldest first."""

    client_order_id: UUID
    venue_order_id: str
    status: OrderStatus
    trades: tuple[Trade, ...] = ()
    error_code: str = ""
    error_text: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """What the venue holds of one currency: ``total`` includes ``held``, which working orders have claimed."""

    currency: str
    total: Decimal
    held: Decimal

    @property
    def free(self) -> Decimal:
        return self.total - self.held


class Venue(Protocol):
    """One account's connection to its venue."""

    account_id: int
    lookup_is_definitive: ClassVar[bool]
    """Whether "not found" is final at once: true where the book is in our own database, so that an order it does not
    hold never arrived. Elsewhere a fresh order may not be visible yet: believed after a grace period only (F12)."""

    def balances(self) -> dict[str, Balance]:
        """Return every currency held. Raises VenueUnavailable."""

    def place(self, order: NewOrder) -> OrderReport:
        """Place an order; a known client id returns the existing one. Raises VenueRejected, VenueUnknown."""

    def cancel(self, client_order_id: UUID) -> OrderReport:
        """Ask for a cancel and return the order as it is then, fills that raced included.

        Raises VenueUnknown, VenueRejected.
        """

    def find(self, client_order_id: UUID) -> OrderReport | None:
        """Return the order with that client id, None when the venue does not know it (yet). Raises VenueUnavailable."""

    def find_many(self, client_order_ids: Sequence[UUID]) -> dict[UUID, OrderReport]:
        """Return those orders that the venue knows, in one round trip where it offers that. Raises VenueUnavailable."""

    def forget(self, order: NewOrder) -> OrderReport:
        """Make sure that this client id never becomes an order, and return what it is.

        What the venue has under the id is returned as it stands, untouched. Nothing there: the id is taken by a refusal
        (rejected, :data:`NEVER_ARRIVED`) in the same durable step, so a ``place`` that is still on its way is answered
        with it. Asked only where ``lookup_is_definitive``; a venue that cannot promise it raises VenueRejected
        (``cannot_forget``). Raises VenueUnknown.
        """

    def trades_since(self, moment: datetime) -> list[tuple[UUID | None, str, Side, Trade]]:
        """Return (client id if any, symbol, side, trade) since ``moment``, oldest first. Raises VenueUnavailable."""

    def fee_rates(self) -> tuple[Decimal, Decimal]:
        """Return (maker, taker) as fractions of the quote amount, e.g. 0.006. Raises VenueUnavailable."""
