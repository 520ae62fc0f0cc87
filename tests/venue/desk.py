"""What the matching engine keeps: products, books, wallets, orders; and how fills and holds are booked."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from tests.venue.model import (
    ONE,
    WORKING,
    ZERO,
    Account,
    Book,
    Execution,
    Movement,
    Product,
    Refused,
    Status,
    VenueOrder,
    Wallet,
    floor_to,
)

MAKER, TAKER = Decimal("0.004"), Decimal("0.006")
UNIT = Decimal("1e-16")


class Desk:
    """The venue's state. Nothing of it goes away when a client dies."""

    def __init__(self, seed: int = 1) -> None:
        self.lock = threading.RLock()
        self.rng = random.Random(seed)
        self.products: dict[str, Product] = {}
        self.books: dict[str, Book] = {}
        self.accounts: dict[str, Account] = {}
        self.orders: dict[str, VenueOrder] = {}
        self.by_client: dict[tuple[str, str], list[VenueOrder]] = {}
        self.working: dict[str, VenueOrder] = {}
        self.fills: list[Execution] = []
        self.next_order_ids: list[str] = []
        """Ids to give out before those that the engine makes up."""
        self._anchor, self._speed = (time.time(), time.time()), 1.0

    # Set-up -----------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the market's time; :meth:`run_clock` says how it passes."""
        real, market = self._anchor
        return datetime.fromtimestamp(market + (time.time() - real) * self._speed, UTC)

    def run_clock(self, real: float, market: float, speed: float) -> None:
        """Let it be ``market`` (Unix seconds) at ``real``, and time pass ``speed`` times as fast as the machine's."""
        self._anchor, self._speed = (real, market), speed

    def make_id(self) -> str:
        """Return a random, reproducible UUID."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def add_account(
        self, name: str, wallets: Mapping[str, str | Decimal], maker: Decimal = MAKER, taker: Decimal = TAKER
    ) -> Account:
        """Open an account; its wallets are funded by deposits."""
        with self.lock:
            account = Account(name, self.make_id(), self.make_id(), maker, taker)
            self.accounts[name] = account
            for currency, amount in wallets.items():
                self.deposit(name, currency, amount)
        return account

    def deposit(self, account: str, currency: str, amount: str | Decimal) -> Movement:
        """Move money in, or out when ``amount`` is negative."""
        with self.lock:
            amount, wallet = Decimal(amount), self.wallet(account, currency)
            if wallet.available + amount < ZERO:
                raise Refused("INSUFFICIENT_FUND", "there is not so much to withdraw")
            return self._move(account, currency, "deposit" if amount >= ZERO else "withdrawal", amount)

    def wallet(self, account: str, currency: str) -> Wallet:
        """Return an account's wallet, an empty new one where there is none."""
        wallets = self.accounts[account].wallets
        if currency not in wallets:
            wallets[currency] = Wallet(self.make_id(), currency)
        return wallets[currency]

    def _move(self, account: str, currency: str, kind: str, amount: Decimal) -> Movement:
        owner = self.accounts[account]
        movement = Movement(self.make_id(), currency, kind, amount, self.now(), len(owner.movements) + 1)
        owner.movements.append(movement)
        self.wallet(account, currency).balance += amount
        return movement

    def book_of(self, product_id: str) -> Book:
        return self.books[self.products[product_id].book]

    def _print(self, book: Book, price: Decimal, size: Decimal, side: str) -> None:
        book.last = price
        book.prints.append((self.now(), price, size, side))
        if len(book.prints) > 200_000:
            del book.prints[:100_000]

    # Fills and holds --------------------------------------------------------------------------------------------------

    def _fill(self, order: VenueOrder, price: Decimal, base: Decimal, *, is_maker: bool) -> Execution:
        account, product = self.accounts[order.account], self.products[order.ask.product_id]
        buys = order.ask.side == "BUY"
        quote = base * price
        in_base = buys and order.ask.fee_in_base
        fee = floor_to((base if in_base else quote) * (account.maker if is_maker else account.taker), UNIT)
        fill = Execution(
            len(self.fills) + 1,
            self.make_id(),
            order.order_id,
            order.client_order_id,
            order.account,
            product.product_id,
            order.ask.side,
            price,
            base,
            quote,
            fee,
            product.base if in_base else product.quote,
            is_maker,
            order.ask.quote_size is not None,
            self.now(),
        )
        held = self._release(order)
        self.fills.append(fill)
        order.fills.append(fill)
        kind = "advanced_trade_fill"
        base_change, quote_change = (base, -quote) if buys else (-base, quote)
        if in_base:
            base_change -= fee
        else:
            quote_change -= fee
        self._move(order.account, product.base, kind, base_change)
        self._move(order.account, product.quote, kind, quote_change)
        self._print(self.books[product.book], price, base, order.ask.side)
        if order.size is not None and order.remaining <= ZERO:
            self._finish(order, Status.FILLED)
        else:
            paid = quote + (ZERO if in_base else fee)
            self._set_hold(order, max(held - paid, ZERO) if buys and order.price is None else self._hold_left(order))
        return fill

    def _hold_left(self, order: VenueOrder) -> Decimal:
        """Return what a limit order, or a sell, has yet to claim: the dearer fee included."""
        if order.ask.side == "SELL":
            return order.remaining
        rate = ZERO if order.ask.fee_in_base else self.accounts[order.account].taker
        return order.remaining * (order.price or ZERO) * (ONE + rate)

    def _paying(self, order: VenueOrder) -> Wallet:
        product = self.products[order.ask.product_id]
        return self.wallet(order.account, product.quote if order.ask.side == "BUY" else product.base)

    def _release(self, order: VenueOrder) -> Decimal:
        """Give back what an order claims, and return how much that was."""
        held, order.hold = order.hold, ZERO
        self._paying(order).hold -= held
        return held

    def _set_hold(self, order: VenueOrder, amount: Decimal) -> None:
        order.hold = amount
        self._paying(order).hold += amount

    def _finish(self, order: VenueOrder, status: Status, message: str = "") -> None:
        if order.status not in WORKING:
            return
        self._release(order)
        order.status, order.finished_at = status, self.now()
        order.cancel_message, order.pending_cancel = message, False
        self.working.pop(order.order_id, None)
