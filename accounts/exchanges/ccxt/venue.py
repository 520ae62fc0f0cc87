"""The live venue of one account: the contract of :class:`~accounts.exchanges.base.Venue`, over a dialect.

What holds for every venue:

* A write is sent once. Where the venue would take a repeated client id for a second order, it is looked up first.
* An acceptance without a venue order id is no acceptance (F4): the outcome is unknown.
* After an acceptance or a cancel the order is looked at once, so that what filled at once is booked at once. If that
  look fails after an acceptance, the order is reported as open: that much is certain.
* An order that ended is only reported as ended when all of its trades are there; until then it works, with the trades
  that are known. An order filled without any trade is reported as it is: booking doubts it (F7).
* Trades are reported once each, oldest first, whatever the venue repeats or shuffles.
* The size that is sent is the size that was asked for, digit for digit; nothing is rounded here (F24).
* What has to be set before an order (leverage, margin mode) is set before it; if that fails, no order was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog

from accounts.exchanges.base import (
    Balance,
    Capabilities,
    ForcedClose,
    FundingMovement,
    KeyPermissions,
    Movement,
    NewOrder,
    OrderRef,
    OrderReport,
    Trade,
    VenuePosition,
    VenueTrade,
    perps_of,
)
from accounts.exchanges.breaker import Breaker
from accounts.exchanges.ccxt.connection import Connection
from accounts.exchanges.ccxt.dialect import Dialect, Snapshot, unique
from accounts.exchanges.limits import KeyLimiter
from accounts.exchanges.shape import check_shape
from marketdata import sources
from marketdata.sources.base import Book, ProductInfo
from marketdata.wire.client import client_of
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.errors import VenueError, VenueRejected, VenueThrottled, VenueUnavailable, VenueUnknown
from tradebot.core.words import OrderStatus

__all__ = ["CcxtVenue", "connect"]

log = structlog.get_logger(__name__)

ENDED: Final = (OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED)


def connect(
    account_id: int,
    dialect: Dialect,
    url: str,
    key_name: str,
    api_key: str,
    secret: str,
    password: str = "",
    *,
    read_seconds: float = 10.0,
) -> Connection:
    """Return a connection with these keys. ``key_name`` names the key in the limits without telling it."""
    info = dialect.info
    client = client_of(
        info.slug,
        url,
        default_url=info.url,
        api_key=api_key,
        secret=secret,
        password=password,
        read_seconds=read_seconds,
        options=info.options,
    )
    return Connection(
        client,
        info.name,
        KeyLimiter(url, key_name, info.allowance),
        Breaker(info.slug, account_id),
        dialect.refusal,
        dialect.time,
        dialect.bans_address,
    )


class CcxtVenue:
    """See the module. ``connection`` was made from the account's own keys, see the factory."""

    def __init__(self, account_id: int, dialect: Dialect, connection: Connection) -> None:
        self.account_id = account_id
        self.dialect = dialect
        self.connection = connection

    @property
    def capabilities(self) -> Capabilities:
        """See :meth:`Venue.capabilities`."""
        return self.dialect.capabilities

    # Public data: the same for everybody, so it is asked for without keys ---------------------------------------------

    def products(self) -> list[ProductInfo]:
        """See :meth:`Venue.products`."""
        return sources.get(self.dialect.info.slug).products()

    def book(self, symbol: str, depth: int = 50) -> Book:
        """See :meth:`Venue.book`."""
        return sources.get(self.dialect.info.slug).book(symbol, depth)

    # The account ------------------------------------------------------------------------------------------------------

    def balances(self) -> dict[str, Balance]:
        """See :meth:`Venue.balances`."""
        return self.dialect.balances(self.connection)

    def fee_rates(self) -> tuple[Decimal, Decimal]:
        """See :meth:`Venue.fee_rates`."""
        return self.dialect.fee_rates(self.connection)

    def permissions(self) -> KeyPermissions:
        """See :meth:`Venue.permissions`."""
        return self.dialect.permissions(self.connection)

    def movements_since(self, moment: datetime) -> list[Movement]:
        """See :meth:`Venue.movements_since`."""
        found = {row.external_id: row for row in self.dialect.movements_since(self.connection, moment)}
        return sorted(
            (row for row in found.values() if row.at >= moment.replace(microsecond=0)),
            key=lambda row: (row.at, row.external_id),
        )

    # Orders -----------------------------------------------------------------------------------------------------------

    def place(self, order: NewOrder) -> OrderReport:
        """See :meth:`Venue.place`."""
        check_shape(order)
        if order.reduce_only or order.leverage is not None:
            perps_of(self)  # a dialect that knows no perpetuals would trade coins instead
        ref = OrderRef(order.client_order_id, order.symbol, sent_at=clock.now())
        self._prepare(order.symbol)
        if not self.capabilities.refuses_repeated_client_id and (known := self._before_write(ref)) is not None:
            return known
        self._arrange(order)
        try:
            venue_order_id = self.dialect.create(self.connection, order)
        except VenueRejected as error:
            if error.code != "duplicate_client_id":
                raise
            if (known := self._after_write(ref, error.code)) is not None:
                return known
            raise VenueUnknown(error.code, error.message, **error.detail) from error
        if not venue_order_id:
            raise VenueUnknown("no_order_id", "The venue answered without an order id.", symbol=order.symbol)
        placed = replace(ref, venue_order_id=venue_order_id)
        accepted = OrderReport(order.client_order_id, venue_order_id, OrderStatus.OPEN, symbol=order.symbol)
        try:
            return self.find(placed) or accepted
        except VenueError as error:
            log.info("order.accepted_not_seen_yet", account=self.account_id, code=error.code)
            return accepted

    def _prepare(self, symbol: str) -> None:
        try:
            self.dialect.prepare(self.connection, symbol)
        except VenueUnavailable as error:
            raise _nothing_done(error) from error

    def _arrange(self, order: NewOrder) -> None:
        try:
            self.dialect.arrange(self.connection, order)
        except VenueUnavailable as error:
            raise _nothing_done(error) from error
        except VenueUnknown as error:
            text = f"{self.capabilities.name} did not answer while the account was made ready. The order was not sent."
            raise VenueThrottled(error.code, text, **error.detail) from error

    def _before_write(self, ref: OrderRef) -> OrderReport | None:
        try:
            return self.find(ref)
        except VenueUnavailable as error:
            raise _nothing_done(error) from error

    def cancel(self, ref: OrderRef) -> OrderReport:
        """See :meth:`Venue.cancel`. One look before where the venue's id is needed and not known, one look after."""
        self._prepare(ref.symbol)
        ref = self._with_venue_id(ref)
        try:
            self.dialect.cancel(self.connection, ref)
        except VenueRejected as error:
            # It has ended meanwhile, or is being cancelled already: the look says which.
            found = self._after_write(ref, error.code)
            if found is None:
                raise VenueRejected("unknown_order", "The venue has no such order.", **error.detail) from error
            return found
        found = self._after_write(ref, "cancelled")
        if found is None:
            raise VenueUnknown("not_visible", "The cancel was taken, and the order cannot be seen.")
        return found

    def forget(self, order: NewOrder) -> OrderReport:
        """See :meth:`Venue.forget`: an exchange promises nothing about an id that it has not seen."""
        raise VenueRejected("cannot_forget", f"{self.capabilities.name} cannot rule an order out.")

    def edit(self, ref: OrderRef, base_size: Decimal, limit_price: Decimal) -> OrderReport:
        """See :meth:`Venue.edit`."""
        if not self.capabilities.edits_orders:
            raise VenueRejected("not_offered", f"{self.capabilities.name} does not change orders.")
        self._prepare(ref.symbol)
        ref = self._with_venue_id(ref)
        self.dialect.edit(self.connection, ref, base_size, limit_price)
        found = self._after_write(ref, "edited")
        if found is None:
            raise VenueUnknown("not_visible", "The change was taken, and the order cannot be seen.")
        return found

    def _with_venue_id(self, ref: OrderRef) -> OrderRef:
        if ref.venue_order_id or self.dialect.cancels_by_client_id:
            return ref
        try:
            found = self.dialect.look(self.connection, [ref])
        except VenueUnavailable as error:
            raise _nothing_done(error) from error
        if not found:
            raise VenueRejected("unknown_order", "The venue has no such order.", symbol=ref.symbol)
        return replace(ref, venue_order_id=found[0][1].venue_order_id)

    def _after_write(self, ref: OrderRef, what: str) -> OrderReport | None:
        try:
            return self.find(ref)
        except VenueUnavailable as error:
            raise VenueUnknown(error.code, error.message, **{"after": what, **error.detail}) from error

    # Looking ----------------------------------------------------------------------------------------------------------

    def find(self, ref: OrderRef) -> OrderReport | None:
        """See :meth:`Venue.find`."""
        return next((report for _, report in self._found([ref])), None)

    def find_many(self, refs: Sequence[OrderRef]) -> dict[UUID, OrderReport]:
        """See :meth:`Venue.find_many`."""
        return {ref.client_order_id: report for ref, report in self._found(refs) if ref.client_order_id is not None}

    def _found(self, refs: Sequence[OrderRef]) -> list[tuple[OrderRef, OrderReport]]:
        if not refs:
            return []
        # The wallet that pays is the one of the product that the order was placed on, whatever alias is listed.
        seen = [(ref, replace(order, symbol=ref.symbol)) for ref, order in self.dialect.look(self.connection, refs)]
        trades = self._trades([order for _, order in seen])
        return [(ref, _report(order, trades.get(order.venue_order_id, []))) for ref, order in seen]

    def open_orders(self) -> list[OrderReport]:
        """See :meth:`Venue.open_orders`."""
        seen = list({order.venue_order_id: order for order in self.dialect.working(self.connection)}.values())
        trades = self._trades(seen)
        return [_report(order, trades.get(order.venue_order_id, [])) for order in seen]

    def trades_since(self, moment: datetime) -> list[VenueTrade]:
        """See :meth:`Venue.trades_since`."""
        found = {
            (row.venue_order_id, row.trade.trade_id): row
            for row in self.dialect.trades_since(self.connection, moment)
            if row.trade.at >= moment
        }
        return sorted(found.values(), key=lambda row: (row.trade.at, row.trade.trade_id))

    # Perpetuals -------------------------------------------------------------------------------------------------------

    def positions(self) -> list[VenuePosition]:
        """See :meth:`PerpsVenue.positions`."""
        return self.dialect.positions(self.connection)

    def funding_since(self, moment: datetime) -> list[FundingMovement]:
        """See :meth:`PerpsVenue.funding_since`."""
        found = {row.external_id: row for row in self.dialect.funding_since(self.connection, moment)}
        return sorted((row for row in found.values() if row.at >= moment), key=lambda row: (row.at, row.external_id))

    def forced_closes_since(self, moment: datetime) -> list[ForcedClose]:
        """See :meth:`PerpsVenue.forced_closes_since`."""
        found = {row.report.venue_order_id: row for row in self.dialect.forced_closes_since(self.connection, moment)}
        return sorted(found.values(), key=lambda row: (row.report.trades[-1].at, row.report.venue_order_id))

    # Inside -----------------------------------------------------------------------------------------------------------

    def _trades(self, orders: Sequence[Snapshot]) -> dict[str, list[Trade]]:
        filled = [order for order in orders if order.filled_base > ZERO or order.fill_count]
        if not filled:
            return {}
        return {pk: unique(trades) for pk, trades in self.dialect.trades_of(self.connection, filled).items()}


def _nothing_done(error: VenueUnavailable) -> VenueThrottled:
    """A look that has to come before a write failed, so the write was not sent: that is certain, not unknown."""
    after = error.retry_after if isinstance(error, VenueThrottled) else None
    return VenueThrottled(error.code, f"{error.message} Nothing was sent.", retry_after=after, **error.detail)


def _report(order: Snapshot, trades: list[Trade]) -> OrderReport:
    status = order.status
    there = sum((trade.base for trade in trades), ZERO)
    missing = there < order.filled_base or (order.fill_count is not None and len(trades) < order.fill_count)
    if status in ENDED and missing and not (status is OrderStatus.FILLED and not trades):
        status = OrderStatus.OPEN  # its last trades are not listed yet (F7, F19)
    if status in (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED):
        status = OrderStatus.PARTIALLY_FILLED if trades else OrderStatus.OPEN
    return OrderReport(
        order.client_order_id,
        order.venue_order_id,
        status,
        tuple(trades),
        order.error_code,
        order.error_text,
        order.symbol,
    )
