"""The matching engine: one order book for each product, wallets with holds, fees. It knows no HTTP.

Liquidity from outside is what a test says (``set_price``, ``set_book``); orders of accounts meet it, and those of other
accounts. Fills at the same price go to the outside first, then by age. An account never trades with itself. Every
public method takes the one lock, so that the venue is a single sequence of events for all who talk to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from tests.venue.desk import Desk
from tests.venue.model import (
    ONE,
    WORKING,
    ZERO,
    Ask,
    Book,
    Execution,
    Product,
    Refused,
    Status,
    VenueOrder,
    floor_to,
    is_on,
    plain,
)

DEEP = Decimal(1_000_000)
"""What a price set by ``set_price`` offers on each side, in base."""


class Engine(Desk):
    """Matches orders with what the market offers and with each other."""

    def add_product(self, product_id: str, price: str | Decimal, *, alias_of: str = "", **rules: str) -> Product:
        """Start trading in a pair; ``alias_of`` makes it share another one's book. ``rules`` are fields of Product."""
        base, quote = product_id.split("-")
        amounts = {name: Decimal(value) for name, value in rules.items()}
        increment = amounts.pop("price_increment", Decimal("0.01"))
        with self.lock:
            product = Product(
                product_id,
                base,
                quote,
                base_increment=amounts.pop("base_increment", Decimal("0.00000001")),
                quote_increment=amounts.pop("quote_increment", increment),
                price_increment=increment,
                base_min_size=amounts.pop("base_min_size", Decimal("0.00000001")),
                base_max_size=amounts.pop("base_max_size", Decimal(1_000_000)),
                quote_min_size=amounts.pop("quote_min_size", ONE),
                quote_max_size=amounts.pop("quote_max_size", Decimal(150_000_000)),
                book=alias_of or product_id,
            )
            if amounts:
                raise ValueError(f"a product has no {', '.join(amounts)}")
            self.products[product_id] = product
            if not alias_of:
                self.books[product_id] = Book()
                self.set_price(product_id, price)
        return product

    # The market -------------------------------------------------------------------------------------------------------

    def set_price(self, product_id: str, price: str | Decimal) -> None:
        """Let the market stand at ``price``: that is the best bid, one step above it the best ask, both deep."""
        step, price = self.products[product_id].price_increment, Decimal(price)
        bids = [[price - number * step, DEEP] for number in range(5) if price > number * step]
        self.set_book(product_id, bids, [[price + number * step, DEEP] for number in range(1, 6)], last=price)

    def set_book(
        self,
        product_id: str,
        bids: Sequence[Sequence[str | Decimal]],
        asks: Sequence[Sequence[str | Decimal]],
        last: str | Decimal | None = None,
    ) -> None:
        """Replace the liquidity from outside; resting orders that it meets are filled at their own price."""
        with self.lock:
            book = self.book_of(product_id)
            book.bids = sorted(([Decimal(price), Decimal(size)] for price, size in bids), reverse=True)
            book.asks = sorted([Decimal(price), Decimal(size)] for price, size in asks)
            if last is not None or book.last is None:
                price = Decimal(last) if last is not None else (book.bids or book.asks)[0][0]
                self._print(book, price, ZERO, "BUY")
            self._meet_outside(self.products[product_id].book)

    def trade_through(
        self, product_id: str, price: str | Decimal, size: str | Decimal | None = None
    ) -> list[Execution]:
        """Let the market trade at ``price`` for a moment: resting buys at or above it, and sells at or below it, are
        filled at their own price, best first, ``size`` in base altogether."""
        price, left = Decimal(price), None if size is None else Decimal(size)
        done: list[Execution] = []
        with self.lock:
            book_name = self.products[product_id].book
            self._print(self.books[book_name], price, left or ZERO, "SELL")
            for order in self._resting(book_name):
                limit = order.price or ZERO
                if (limit >= price) if order.ask.side == "BUY" else (limit <= price):
                    base = order.remaining if left is None else min(order.remaining, left)
                    if base > ZERO:
                        done.append(self._fill(order, limit, base, is_maker=True))
                        left = None if left is None else left - base
        return done

    def fill_resting(self, order_id: str, base: str | Decimal | None = None) -> Execution:
        """Fill ``base`` (default: all) of a resting order at its price."""
        with self.lock:
            order = self.orders[order_id]
            wanted = order.remaining if base is None else Decimal(base)
            if order.status is not Status.OPEN or wanted > order.remaining or order.price is None:
                raise ValueError(f"{wanted} of {order_id} cannot be filled: it is {order.status}")
            return self._fill(order, order.price, wanted, is_maker=True)

    def _resting(self, book_name: str, side: str = "") -> list[VenueOrder]:
        """Return open limit orders of a book, best price first, older ones first at the same price."""
        rows = [
            order
            for order in self.working.values()
            if order.status is Status.OPEN
            and self.products[order.ask.product_id].book == book_name
            and side in ("", order.ask.side)
        ]
        return sorted(
            rows, key=lambda row: ((-(row.price or ZERO) if row.ask.side == "BUY" else row.price or ZERO), row.number)
        )

    def _meet_outside(self, book_name: str) -> None:
        book = self.books[book_name]
        for order in self._resting(book_name):
            levels = book.asks if order.ask.side == "BUY" else book.bids
            for level in levels:
                limit = order.price or ZERO
                reaches = level[0] <= limit if order.ask.side == "BUY" else level[0] >= limit
                base = min(level[1], order.remaining)
                if reaches and base > ZERO and order.status is Status.OPEN:
                    level[1] -= base
                    self._fill(order, limit, base, is_maker=True)
            levels[:] = [level for level in levels if level[1] > ZERO]

    # Orders -----------------------------------------------------------------------------------------------------------

    def known(self, account: str, client_order_id: str) -> VenueOrder | None:
        """Return the account's first order under a client id."""
        rows = self.by_client.get((account, client_order_id), [])
        return rows[0] if rows else None

    def check(self, account: str, ask: Ask) -> Decimal:
        """Refuse what cannot be placed; return what a resting order would claim of the paying wallet."""
        product = self.products.get(ask.product_id)
        if product is None:
            raise Refused("INVALID_PRODUCT_ID", f"there is no {ask.product_id}", "PREVIEW_INVALID_PRODUCT_ID")
        if product.is_disabled or product.trading_disabled or product.cancel_only or product.view_only:
            raise Refused("PRODUCT_DISABLED", f"{ask.product_id} is not traded", "PREVIEW_PRODUCT_TRADING_DISABLED")
        if ask.limit_price is None and (product.limit_only or product.post_only):
            raise Refused("UNSUPPORTED_ORDER_CONFIGURATION", "limit orders only", "PREVIEW_LIMIT_ONLY")
        self._check_sizes(product, ask)
        claim = self._claim(account, product, ask)
        paying = self.wallet(account, product.quote if ask.side == "BUY" else product.base)
        if claim > paying.available:
            text = f"{plain(claim)} {paying.currency} are needed, {plain(paying.available)} are available"
            raise Refused("INSUFFICIENT_FUND", text, "PREVIEW_INSUFFICIENT_FUND")
        return claim

    def _check_sizes(self, product: Product, ask: Ask) -> None:
        price = ask.limit_price
        if price is not None and (price <= ZERO or not is_on(price, product.price_increment)):
            raise Refused(
                "INVALID_PRICE_PRECISION", "Too many decimals in order price", "PREVIEW_INVALID_PRICE_PRECISION"
            )
        if ask.quote_size is not None:
            if not is_on(ask.quote_size, product.quote_increment):
                raise Refused(
                    "INVALID_SIZE_PRECISION", "Too many decimals in quote size", "PREVIEW_INVALID_SIZE_PRECISION"
                )
            value = ask.quote_size
        else:
            size = ask.base_size or ZERO
            if not is_on(size, product.base_increment):
                raise Refused(
                    "INVALID_SIZE_PRECISION", "Too many decimals in order amount", "PREVIEW_INVALID_SIZE_PRECISION"
                )
            if size < product.base_min_size or size <= ZERO:
                raise Refused("INVALID_ORDER_SIZE", "Order size is too small", "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL")
            if size > product.base_max_size:
                raise Refused("INVALID_ORDER_SIZE", "Order size is too large", "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE")
            value = size * (price or self.book_of(product.product_id).last or ZERO)
        if value < product.quote_min_size:
            raise Refused("INVALID_ORDER_SIZE", "Order value is too small", "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL")
        if value > product.quote_max_size:
            raise Refused("INVALID_ORDER_SIZE", "Order value is too large", "PREVIEW_INVALID_QUOTE_SIZE_TOO_LARGE")

    def _claim(self, account: str, product: Product, ask: Ask) -> Decimal:
        rate = ZERO if ask.fee_in_base else self.accounts[account].taker
        if ask.side == "SELL":
            return ask.base_size or ZERO
        if ask.quote_size is not None:
            return ask.quote_size if ask.quote_with_fees else ask.quote_size * (ONE + rate)
        price = ask.limit_price
        if price is None:
            levels = self.book_of(product.product_id).asks
            price = levels[-1][0] if levels else ZERO
        return (ask.base_size or ZERO) * price * (ONE + rate)

    def place(self, account: str, ask: Ask, *, partial: Decimal | None = None, pending: int = 0) -> VenueOrder:
        """Take an order and match it. Raises Refused.

        ``partial`` is the fraction of what could be filled at once that is; ``pending`` the number of looks at which
        the order is still waiting to be opened.
        """
        with self.lock:
            claim = self.check(account, ask)
            if ask.post_only and self._crosses(account, ask):
                raise Refused("INVALID_LIMIT_PRICE_POST_ONLY", "it would trade at once", "PREVIEW_INVALID_LIMIT_PRICE")
            order_id = self.next_order_ids.pop(0) if self.next_order_ids else self.make_id()
            order = VenueOrder(
                len(self.orders) + 1, order_id, account, ask, self.now(), size=ask.base_size, price=ask.limit_price
            )
            self.orders[order_id] = self.working[order_id] = order
            self.by_client.setdefault((account, ask.client_order_id), []).append(order)
            self._set_hold(order, claim)
            if pending:
                order.status, order.pending_looks = Status.PENDING, pending
                return order
            self._enter(order, partial)
            return order

    def open_pending(self, order: VenueOrder) -> None:
        """Let a pending order into the book."""
        with self.lock:
            if order.status is Status.PENDING:
                order.status, order.pending_looks = Status.OPEN, 0
                self._enter(order, None)

    def _enter(self, order: VenueOrder, partial: Decimal | None) -> None:
        if order.ask.time_in_force == "FOK" and self._fillable(order) < order.remaining:
            self._finish(order, Status.CANCELLED, "it cannot be filled whole")
            return
        self._match(order, partial)
        if order.status is Status.OPEN and order.ask.time_in_force in ("IOC", "FOK"):
            self._finish(order, Status.CANCELLED, "the rest of it could not be filled at once")

    def _offers(self, account: str, ask: Ask) -> list[tuple[Decimal, list[Decimal] | VenueOrder]]:
        """Return what an order could take, best first."""
        name = self.products[ask.product_id].book
        book, buys = self.books[name], ask.side == "BUY"
        offers: list[tuple[Decimal, int, list[Decimal] | VenueOrder]] = [
            (level[0], 0, level) for level in (book.asks if buys else book.bids)
        ]
        offers += [
            (other.price or ZERO, other.number, other)
            for other in self._resting(name, "SELL" if buys else "BUY")
            if other.account != account
        ]
        offers.sort(key=lambda row: (row[0] if buys else -row[0], row[1]))
        limit = ask.limit_price
        return [
            (price, source)
            for price, _, source in offers
            if limit is None or (price <= limit if buys else price >= limit)
        ]

    def _crosses(self, account: str, ask: Ask) -> bool:
        return bool(self._offers(account, ask))

    def _fillable(self, order: VenueOrder) -> Decimal:
        offers = (source for _, source in self._offers(order.account, order.ask))
        return sum((row.remaining if isinstance(row, VenueOrder) else row[1] for row in offers), ZERO)

    def _match(self, order: VenueOrder, partial: Decimal | None) -> None:
        product, account = self.products[order.ask.product_id], self.accounts[order.account]
        book = self.books[product.book]
        by_quote = order.ask.quote_size is not None
        fee_rate = ZERO if order.ask.fee_in_base or not order.ask.quote_with_fees else account.taker
        budget = (order.ask.quote_size or ZERO) / (ONE + fee_rate)
        most = None
        if partial is not None and order.size is not None:
            most = floor_to(order.size * partial, product.base_increment)
        if partial is not None and by_quote:
            budget *= partial
        for price, source in self._offers(order.account, order.ask):
            there = source.remaining if isinstance(source, VenueOrder) else source[1]
            wanted = floor_to(budget / price, product.base_increment) if by_quote else order.remaining
            if most is not None:
                wanted = min(wanted, most - order.filled)
            base = min(there, wanted)
            if base <= ZERO:
                break
            if isinstance(source, VenueOrder):
                self._fill(source, price, base, is_maker=True)
            else:
                source[1] -= base
            self._fill(order, price, base, is_maker=False)
            budget -= base * price
        book.bids[:] = [level for level in book.bids if level[1] > ZERO]
        book.asks[:] = [level for level in book.asks if level[1] > ZERO]
        if by_quote and order.status is Status.OPEN and order.fills and partial is None:
            offers = self._offers(order.account, order.ask)
            if offers and budget < offers[0][0] * product.base_increment:
                self._finish(order, Status.FILLED)

    def cancel(self, order: VenueOrder, message: str = "User requested cancel") -> bool:
        """Cancel a working order; return whether it was one."""
        with self.lock:
            if order.status not in WORKING:
                return False
            self._finish(order, Status.CANCELLED, message)
            return True

    def race_with_cancel(self, order: VenueOrder, share: Decimal) -> None:
        """Fill ``share`` of what is left of an order in the moment in which its cancel arrives."""
        with self.lock:
            step = self.products[order.ask.product_id].base_increment
            base = floor_to(order.remaining * share, step)
            if order.status is Status.OPEN and order.price is not None and base > ZERO:
                self._fill(order, order.price, base, is_maker=True)

    def edit(self, order: VenueOrder, price: Decimal, size: Decimal) -> None:
        """Change price and size (the whole, what is filled included) of an open GTC limit order. Raises Refused."""
        with self.lock:
            if order.status is not Status.OPEN or order.price is None or order.ask.time_in_force != "GTC":
                raise Refused("ORDER_NOT_EDITABLE", "only an open GTC limit order can be edited")
            if size <= order.filled:
                raise Refused("CANNOT_EDIT_TO_BELOW_FILLED_SIZE", "so much of it is filled already")
            held = self._release(order)
            rest = size - order.filled  # what is filled has been paid for
            wanted = Ask(order.ask.product_id, order.ask.side, base_size=rest, limit_price=price, time_in_force="GTC")
            wanted.fee_in_base = order.ask.fee_in_base
            try:
                self.check(order.account, wanted)
            except Refused:
                self._set_hold(order, held)
                raise
            order.edits.append({"price": plain(price), "size": plain(size), "replace_accept_timestamp": ""})
            order.price, order.size = order.ask.limit_price, order.ask.base_size = price, size
            self._set_hold(order, self._hold_left(order))
            self._match(order, None)

    def expire_due(self) -> None:
        """End good-till-date orders whose time is over."""
        with self.lock:
            now = self.now()
            for order in list(self.working.values()):
                if order.ask.end_time is not None and order.ask.end_time <= now:
                    self._finish(order, Status.EXPIRED, "it was good until then")

    def take_looks(self, orders: Iterable[VenueOrder]) -> None:
        """Note that somebody looked: what waits for a number of looks comes one nearer."""
        with self.lock:
            for order in orders:
                if order.hidden_looks:
                    order.hidden_looks -= 1
                    continue
                if order.pending_cancel and order.status in WORKING:
                    if order.race is not None:
                        self.race_with_cancel(order, order.race)
                    self.cancel(order)
                if order.status is Status.PENDING:
                    order.pending_looks -= 1
                    if order.pending_looks <= 0:
                        self.open_pending(order)

    # Looking on -------------------------------------------------------------------------------------------------------

    def candles(self, product_id: str, seconds: int, start: int, end: int) -> list[tuple[int, str, str, str, str, str]]:
        """Return candles that open from ``start`` to ``end`` inclusive (Unix seconds), oldest first."""
        with self.lock:
            book = self.book_of(product_id)
            rows = {row[0]: row for row in book.candles.get(seconds, []) if start <= row[0] <= end}
            made: dict[int, list[Decimal]] = {}
            for at, price, size, _ in book.prints:
                opening = int(at.timestamp()) // seconds * seconds
                if start <= opening <= end:
                    row = made.setdefault(opening, [price, price, price, price, ZERO])
                    row[1], row[2], row[3], row[4] = max(row[1], price), min(row[2], price), price, row[4] + size
            for opening, values in made.items():
                first, high, low, last, volume = (plain(value) for value in values)
                rows.setdefault(opening, (opening, first, high, low, last, volume))
            return [rows[opening] for opening in sorted(rows)]

    def drift(self, share: float = 0.001, rng: Callable[[float, float], float] | None = None) -> None:
        """Move every price by a random step of about ``share``, for use by hand."""
        with self.lock:
            for name, book in self.books.items():
                product, last = self.products[name], book.last or ONE
                change = Decimal(str(round((rng or self.rng.gauss)(0, share), 8)))
                price = max(floor_to(last * (ONE + change), product.price_increment), product.price_increment)
                self.set_price(name, price)
