"""What differs from venue to venue: how an order is put, how orders are looked up, what words mean.

:class:`Dialect` says what :class:`~accounts.exchanges.ccxt.venue.CcxtVenue` needs of each; the rules that are the same
everywhere (never send twice, look before and after, half an answer is none) are the venue's. A dialect holds no state:
one object serves all accounts, each call brings its connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from accounts.exchanges.base import (
    Balance,
    Capabilities,
    ForcedClose,
    FundingMovement,
    KeyPermissions,
    Movement,
    NewOrder,
    OrderRef,
    Trade,
    VenuePosition,
    VenueTrade,
)
from accounts.exchanges.ccxt.connection import Connection
from marketdata.wire.client import Exchanged
from marketdata.wire.failures import Refusal
from marketdata.wire.venues import VenueInfo
from tradebot.core.decimals import ZERO
from tradebot.core.errors import VenueRejected
from tradebot.core.words import OrderStatus, Side

__all__ = ["Dialect", "KeyField", "Snapshot", "numbers_of", "unique"]


@dataclass(frozen=True, slots=True)
class KeyField:
    """Something a person has to enter to connect an account; ``name`` is the credential's column."""

    name: str
    label: str
    help: str = ""
    lines: int = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An order as a venue lists it, without its trades: ``filled_base`` and, where it says so, how many there are."""

    client_order_id: UUID | None
    venue_order_id: str
    symbol: str
    side: Side
    status: OrderStatus
    filled_base: Decimal = ZERO
    fill_count: int | None = None
    error_code: str = ""
    error_text: str = ""
    created_at: datetime | None = None
    size_in_quote: bool = False
    trade_ids: tuple[str, ...] = ()
    """The ids of its trades, where the venue names them with the order."""


class Dialect(ABC):
    """One venue's ways."""

    info: ClassVar[VenueInfo]
    capabilities: ClassVar[Capabilities]
    key_fields: ClassVar[tuple[KeyField, ...]]
    # Errors and clocks ------------------------------------------------------------------------------------------------

    def refusal(self, body: Any, status: int | None) -> Refusal | None:
        """Return what a complete answer says no to, None when it says nothing of the kind."""
        return None

    def bans_address(self, wire: Exchanged) -> bool:
        """Return whether "too many requests" was said to the address rather than to the key."""
        return wire.status == 418

    def time(self, client: Any) -> float:
        """Ask the venue for its time, Unix seconds, without a key."""
        return float(client.fetch_time()) / 1000

    # Reading ----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def balances(self, link: Connection) -> dict[str, Balance]:
        """See :meth:`Venue.balances`."""

    @abstractmethod
    def fee_rates(self, link: Connection) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""

    @abstractmethod
    def permissions(self, link: Connection) -> KeyPermissions:
        """See :meth:`Venue.permissions`."""

    def movements_since(self, link: Connection, moment: datetime) -> list[Movement]:
        """See :meth:`Venue.movements_since`; in any order, repeated or not."""
        return []

    @abstractmethod
    def look(self, link: Connection, refs: Sequence[OrderRef]) -> list[tuple[OrderRef, Snapshot]]:
        """Return those orders that the venue knows, each with how it was asked for: by the venue's id where a reference
        has one, else by ours. Half an answer raises VenueUnavailable."""

    @abstractmethod
    def working(self, link: Connection) -> list[Snapshot]:
        """Return every order that works in the venue's book."""

    @abstractmethod
    def trades_of(self, link: Connection, orders: Sequence[Snapshot]) -> dict[str, list[Trade]]:
        """Return the trades of these orders by venue order id; in any order, repeated or not."""

    @abstractmethod
    def trades_since(self, link: Connection, moment: datetime) -> list[VenueTrade]:
        """See :meth:`Venue.trades_since`; in any order, repeated or not."""

    def prepare(self, link: Connection, symbol: str) -> None:
        """Learn what is needed to write about ``symbol``, before anything is sent.

        Raises VenueUnavailable, VenueRejected (``unknown_product``).
        """
        return None

    # Acting -----------------------------------------------------------------------------------------------------------

    def arrange(self, link: Connection, order: NewOrder) -> None:
        """Make the account ready for an order that is about to be put: leverage and margin mode as it says.

        Nothing that is done here is an order, and all of it may be done again. Raises VenueRejected when the account
        cannot be made ready, VenueUnavailable, VenueUnknown.
        """
        return None

    @abstractmethod
    def create(self, link: Connection, order: NewOrder) -> str:
        """Put an order to the venue in one request and return the id it got there.

        Raises VenueRejected, VenueDenied, VenueThrottled; VenueUnknown also when the answer holds no id (F4).
        """

    @abstractmethod
    def cancel(self, link: Connection, ref: OrderRef) -> None:
        """Ask for a cancel; ``ref`` has the venue's id where the venue needs it. VenueRejected: it cannot be cancelled,
        ``unknown_order`` among them."""

    def edit(self, link: Connection, ref: OrderRef, base_size: Decimal, limit_price: Decimal) -> None:
        """Change size and price of a resting order. Raises VenueRejected (``not_offered``)."""
        raise VenueRejected("not_offered", f"{self.capabilities.name} does not change orders.")

    # Perpetuals, asked of those with ``capabilities.perpetuals`` ------------------------------------------------------

    def positions(self, link: Connection) -> list[VenuePosition]:
        """See :meth:`PerpsVenue.positions`."""
        raise self._without_perpetuals()

    def funding_since(self, link: Connection, moment: datetime) -> list[FundingMovement]:
        """See :meth:`PerpsVenue.funding_since`; in any order, repeated or not."""
        raise self._without_perpetuals()

    def forced_closes_since(self, link: Connection, moment: datetime) -> list[ForcedClose]:
        """See :meth:`PerpsVenue.forced_closes_since`; in any order. One whose trades are not all there is left out."""
        raise self._without_perpetuals()

    def _without_perpetuals(self) -> VenueRejected:
        return VenueRejected("perpetuals_not_offered", f"{self.capabilities.name} offers no perpetual futures here.")

    cancels_by_client_id: ClassVar[bool] = False
    """Whether a cancel or edit finds the order without the venue's id."""


def numbers_of(order: NewOrder) -> dict[str, Decimal]:
    """Return the numbers behind an order, for the error that may come of it."""
    asked = {"base_size": order.base_size, "quote_size": order.quote_size, "limit_price": order.limit_price}
    return {name: value for name, value in asked.items() if value is not None}


def unique(trades: Iterable[Trade]) -> list[Trade]:
    """Return trades once each, by their id, oldest first."""
    by_id = {trade.trade_id: trade for trade in trades}
    return sorted(by_id.values(), key=lambda trade: (trade.at, trade.trade_id))
