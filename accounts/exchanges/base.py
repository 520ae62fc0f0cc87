"""The contract of every trading venue, live or paper.

A venue is addressed through the account whose orders it takes. Errors say what is known and who has to act
(``error.remedy``):

* ``VenueRejected``: a clear no, nothing was placed; ``VenueDenied``: the same, until a person mends the keys;
* ``VenueUnknown``: the request may have been carried out; ask by client id, never resend (F5);
* ``VenueUnavailable``: a read failed, trying later is harmless; ``VenueThrottled``: it, or an order, was refused
  unseen for the number of requests; nothing was done.

Orders are told by an :class:`OrderRef`, which carries what a venue may need to find one: not every venue finds an order
by our client id alone. Repeating a client id never makes a second order. Amounts are exact; whatever a venue says in
another form than a plain decimal number is no answer.

A venue whose ``capabilities.perpetuals`` is true keeps :class:`PerpsVenue` besides: ask :func:`perps_of` for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Protocol, cast
from uuid import UUID

from marketdata.sources.base import Book, ProductInfo
from tradebot.core.errors import VenueRejected
from tradebot.core.words import Direction, MarginMode, OrderStatus, OrderType, Side

__all__ = [
    "NEVER_ARRIVED",
    "Balance",
    "Capabilities",
    "ForcedClose",
    "FundingMovement",
    "KeyPermissions",
    "Movement",
    "NewOrder",
    "OrderRef",
    "OrderReport",
    "PerpsVenue",
    "Trade",
    "Venue",
    "VenuePosition",
    "VenueTrade",
    "perps_of",
]


NEVER_ARRIVED: Final = "never_arrived"
"""The code of a client id that was given up before the venue had heard of it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue offers, as people are shown it and as our code relies on it."""

    name: str
    finds_by_client_id: bool = True
    """It looks an order up by our client id, or lists orders in a way that lets us."""
    refuses_repeated_client_id: bool = True
    """It answers a repeated client id with the order that it has, or with a no."""
    lookup_is_definitive: bool = False
    """Its "not found" is final at once: true where the book is in our own database, so that an order it does not hold
    never arrived. Elsewhere a fresh order may not be visible yet: believed after a grace period only (F12)."""
    edits_orders: bool = False
    good_till_date: bool = True
    post_only: bool = False
    market_buy_in_quote: bool = True
    tells_permissions: bool = False
    """It says what a key may do, so that one that may withdraw can be warned about."""
    lists_movements: bool = False
    """It lists deposits and withdrawals."""
    perpetuals: bool = False
    """It trades perpetual futures for us and keeps :class:`PerpsVenue`."""
    stop_orders: bool = False
    """It keeps reduce-only stop orders of perpetual positions; elsewhere our own loop watches the stop."""
    one_margin_mode: bool = False
    """All perpetual positions of an account have one margin mode: its own."""
    needs_passphrase: bool = False


@dataclass(frozen=True, slots=True)
class OrderRef:
    """What identifies one order to a venue: our id, the venue's, or both.

    ``venue_order_id`` is empty until it answered, ``client_order_id`` is None where only the venue's is known;
    ``sent_at`` is when the order was sent at the earliest, where a venue has to be asked by time.
    """

    client_order_id: UUID | None
    symbol: str
    venue_order_id: str = ""
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyPermissions:
    """What a key may do; None is not known. ``portfolio`` is what the venue says the key is bound to, if anything."""

    can_view: bool | None
    can_trade: bool | None
    can_withdraw: bool | None
    portfolio: str = ""


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that came from outside the venue (``amount`` above zero) or left it (below zero). Never profit (F35).

    A withdrawal that is not ``is_settled`` has left the balance, and may still come back.
    """

    external_id: str
    currency: str
    amount: Decimal
    at: datetime
    what: str = ""
    is_settled: bool = True


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order to place.

    Market buys carry ``quote_size``, the value before fees (spent including fees never exceeds it plus the fee rate's
    share), or a ``base_size`` when so much has to be bought back; everything else carries ``base_size``. ``expires_at``
    is for limit orders; None is good till cancelled. ``reference_price`` is the price that the order was decided at: on
    recordings a market order never fills better than that.

    Only on perpetual products: ``leverage`` and ``margin_mode`` of an order that opens; ``reduce_only`` for one that
    closes, which never turns a position around; ``trigger_price`` of a stop, a market order that waits until the price
    gets there. Their defaults mean spot.
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
    reduce_only: bool = False
    leverage: int | None = None
    margin_mode: MarginMode | None = None
    trigger_price: Decimal | None = None


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
    """What the venue says about one order now: its status and all trades so far, oldest first.

    ``client_order_id`` is None for an order that was not placed through us; only ``open_orders`` returns those.
    """

    client_order_id: UUID | None
    venue_order_id: str
    status: OrderStatus
    trades: tuple[Trade, ...] = ()
    error_code: str = ""
    error_text: str = ""
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class VenueTrade:
    """One execution with the order it belongs to, as an account's history lists it. ``is_forced``: of a liquidation."""

    trade: Trade
    symbol: str
    side: Side
    client_order_id: UUID | None = None
    venue_order_id: str = ""
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """What the venue holds of one currency: ``total`` includes ``held``, which working orders have claimed and the
    margins of perpetual positions. What those would bring or cost if they were closed now is in neither."""

    currency: str
    total: Decimal
    held: Decimal

    @property
    def free(self) -> Decimal:
        return self.total - self.held


@dataclass(frozen=True, slots=True)
class VenuePosition:
    """A perpetual position as its venue keeps it. ``base`` is its size, above zero; what it does not say is None."""

    symbol: str
    direction: Direction
    base: Decimal
    entry_price: Decimal
    leverage: int | None = None
    margin_mode: MarginMode | None = None
    margin: Decimal | None = None
    liquidation_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class FundingMovement:
    """One funding payment: received above zero, paid below. ``rate`` is a fraction of the position's value."""

    external_id: str
    symbol: str
    amount: Decimal
    at: datetime
    rate: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ForcedClose:
    """A liquidation: an order that the venue placed against a position by itself, with all of its trades."""

    symbol: str
    side: Side
    base: Decimal
    report: OrderReport


class Venue(Protocol):
    """One account's connection to its venue."""

    account_id: int

    @property
    def capabilities(self) -> Capabilities:
        """What this venue offers."""

    # Public data, through the account's own connection

    def products(self) -> list[ProductInfo]:
        """Return what can be traded, with steps and minimums. Raises VenueUnavailable."""

    def book(self, symbol: str, depth: int = 50) -> Book:
        """Return the best levels of each side. Raises VenueUnavailable, NotFound."""

    # The account

    def balances(self) -> dict[str, Balance]:
        """Return every currency held. Raises VenueUnavailable, VenueDenied."""

    def fee_rates(self) -> tuple[Decimal, Decimal]:
        """Return (maker, taker) as fractions of the quote amount, e.g. 0.006. Raises VenueUnavailable, VenueDenied."""

    def permissions(self) -> KeyPermissions:
        """Return what the account's key may do. Raises VenueUnavailable, VenueDenied (the key is not accepted)."""

    def movements_since(self, moment: datetime) -> list[Movement]:
        """Return deposits and withdrawals since ``moment``, oldest first; none where the venue does not list them
        (``capabilities.lists_movements``). Raises VenueUnavailable, VenueDenied."""

    # Orders

    def place(self, order: NewOrder) -> OrderReport:
        """Place an order; a known client id returns the existing one.

        Raises VenueRejected, VenueDenied, VenueThrottled (nothing was placed), VenueUnknown.
        """

    def cancel(self, ref: OrderRef) -> OrderReport:
        """Ask for a cancel and return the order as it is then, fills that raced included.

        Raises VenueUnknown, VenueRejected (``unknown_order``), VenueThrottled.
        """

    def edit(self, ref: OrderRef, base_size: Decimal, limit_price: Decimal) -> OrderReport:
        """Change a resting limit order; both are its new whole size and price. Only with ``edits_orders``.

        Raises VenueRejected (``not_offered``, ``unknown_order`` …), VenueUnknown.
        """

    def find(self, ref: OrderRef) -> OrderReport | None:
        """Return the order, None when the venue does not know it (yet). Raises VenueUnavailable, VenueDenied."""

    def find_many(self, refs: Sequence[OrderRef]) -> dict[UUID, OrderReport]:
        """Return those orders that the venue knows, by client id, in as few round trips as it offers.

        Raises VenueUnavailable, VenueDenied: half an answer is no answer.
        """

    def forget(self, order: NewOrder) -> OrderReport:
        """Make sure that this client id never becomes an order, and return what it is.

        What the venue has under the id is returned as it stands, untouched. Nothing there: the id is taken by a refusal
        (rejected, :data:`NEVER_ARRIVED`) in the same durable step, so a ``place`` that is still on its way is answered
        with it. Asked only with ``lookup_is_definitive``; who cannot promise it raises VenueRejected
        (``cannot_forget``). Raises VenueUnknown.
        """

    def open_orders(self) -> list[OrderReport]:
        """Return all orders that work in the venue's book, ours (with client ids) or not. Raises VenueUnavailable."""

    def trades_since(self, moment: datetime) -> list[VenueTrade]:
        """Return the account's executions since ``moment``, oldest first. Raises VenueUnavailable."""


class PerpsVenue(Venue, Protocol):
    """A venue that trades perpetual futures (``capabilities.perpetuals``). See :func:`perps_of`."""

    def positions(self) -> list[VenuePosition]:
        """Return every open perpetual position. Raises VenueUnavailable, VenueDenied: half an answer is no answer."""

    def funding_since(self, moment: datetime) -> list[FundingMovement]:
        """Return funding paid and received since ``moment``, oldest first. Raises VenueUnavailable, VenueDenied."""

    def forced_closes_since(self, moment: datetime) -> list[ForcedClose]:
        """Return liquidations since ``moment``, oldest first, each whole. Raises VenueUnavailable, VenueDenied."""


def perps_of(venue: Venue) -> PerpsVenue:
    """Return the venue as one that trades perpetuals. Raises VenueRejected (``perpetuals_not_offered``)."""
    if not venue.capabilities.perpetuals:
        raise VenueRejected("perpetuals_not_offered", f"{venue.capabilities.name} offers no perpetual futures here.")
    return cast(PerpsVenue, venue)
