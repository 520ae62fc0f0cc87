"""What a test may do to the venue, and see of it, in the same words from inside its process and from any other.

``venue.control.set_price("BTC-USD", "61000")`` inside, ``RemoteVenue(url).set_price("BTC-USD", "61000")`` elsewhere:
that is ``POST /_control/set_price`` with ``[["BTC-USD", "61000"], {}]``. Amounts go in and out as strings.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.venue.bybit_shapes import contract_order
from tests.venue.faults import Fault
from tests.venue.model import plain

if TYPE_CHECKING:
    from tests.venue.server import FakeVenue


class Control:
    """The handles. Everything public is reachable over HTTP as well."""

    def __init__(self, venue: FakeVenue) -> None:
        self._venue = venue

    # The market -------------------------------------------------------------------------------------------------------

    def set_price(self, product_id: str, price: str) -> None:
        """Let the market stand at a price, deep on both sides; resting orders that it reaches are filled, and stops."""
        market = self._venue.contracts if product_id in self._venue.contracts.contracts else self._venue.engine
        market.set_price(product_id, price)

    def set_prices(self, prices: dict[str, str]) -> None:
        """The same for several products."""
        for product_id, price in prices.items():
            self.set_price(product_id, price)

    def prices(self) -> dict[str, list[str]]:
        """Return best bid, best ask and last price of each product, "0" where there is none."""
        with self._venue.engine.lock:
            found = {}
            for name in self._venue.engine.products:
                book = self._venue.engine.book_of(name)
                best = [levels[0][0] if levels else 0 for levels in (book.bids, book.asks)]
                found[name] = [plain(Decimal(value)) for value in (*best, book.last or 0)]
            return found

    def drift(self, share: float) -> None:
        """Move every price by a random step of about ``share``."""
        self._venue.engine.drift(share)
        self._venue.contracts.drift(share)

    def set_book(self, product_id: str, bids: Sequence[Sequence[str]], asks: Sequence[Sequence[str]]) -> None:
        """Let these levels (price, base) be all there is."""
        self._venue.engine.set_book(product_id, bids, asks)

    def trade_through(self, product_id: str, price: str, size: str | None = None) -> list[dict[str, Any]]:
        """Let the market trade at a price for a moment; resting orders that it passes are filled."""
        return [fill.to_json() for fill in self._venue.engine.trade_through(product_id, price, size)]

    def fill(self, order_id: str, base: str | None = None) -> dict[str, Any]:
        """Fill a resting order, a part of it or all."""
        return self._venue.engine.fill_resting(order_id, base).to_json()

    def cancel_by_venue(self, order_id: str, message: str = "Cancelled by the venue") -> bool:
        """Cancel an order as the venue may for reasons of its own."""
        return self._venue.engine.cancel(self._venue.engine.orders[order_id], message)

    def double(self, order_id: str) -> str:
        """Place an order again under the same client id, as a venue that does not look at it would; return its id."""
        known = self._venue.engine.orders[order_id]
        return self._venue.engine.place(known.account, known.ask).order_id

    def set_candles(self, product_id: str, seconds: int, rows: list[list[Any]]) -> None:
        """Give a product's candles: opening time (Unix seconds), open, high, low, close, volume; oldest first."""
        book = self._venue.engine.book_of(product_id)
        book.candles[seconds] = [(int(row[0]), *(str(value) for value in row[1:6])) for row in rows]  # type: ignore[misc]

    def set_product(self, product_id: str, **flags: Any) -> None:
        """Change a product's rules, e.g. ``trading_disabled=True`` or ``quote_min_size="5"``."""
        product = self._venue.engine.products[product_id]
        for name, value in flags.items():
            setattr(product, name, type(getattr(product, name))(value))

    def deposit(self, account: str, currency: str, amount: str) -> str:
        """Move money in, or out when the amount is negative; return the movement's id."""
        return self._venue.engine.deposit(account, currency, Decimal(amount)).movement_id

    def set_movement(self, account: str, movement_id: str, status: str) -> None:
        """Say how far a movement has come: ``pending`` (it has left its wallet all the same), ``completed``."""
        with self._venue.engine.lock:
            for row in self._venue.engine.accounts[account].movements:
                if row.movement_id == movement_id:
                    row.status = status

    def set_fees(self, account: str, maker: str, taker: str) -> None:
        """Change what trading costs an account (fractions)."""
        owner = self._venue.engine.accounts[account]
        owner.maker, owner.taker = Decimal(maker), Decimal(taker)

    # Perpetuals -------------------------------------------------------------------------------------------------------

    def fund(self, product_id: str, rate: str) -> None:
        """Let funding be paid now: longs pay shorts while the rate is above zero."""
        self._venue.contracts.fund(product_id, rate)

    def liquidate(self, account: str, product_id: str, price: str, **how: Any) -> str:
        """Close an account's position against its owner's will, see ``Contracts.liquidate``; return the order's id."""
        return self._venue.contracts.liquidate(account, product_id, price, **how)

    def finish_liquidation(self, order_id: str) -> None:
        """Execute what is left of a liquidation."""
        self._venue.contracts.finish(order_id)

    def trade_contract(self, account: str, product_id: str, side: str, size: str, link_id: str = "") -> str:
        """Trade at market as somebody would at the venue itself; return the order's id."""
        contract = self._venue.contracts.contracts[product_id]
        return self._venue.contracts.place(account, contract, side, Decimal(size), link_id=link_id).order_id

    def set_contract_terms(self, account: str, **terms: Any) -> None:
        """Change how an account trades contracts: ``margin_mode``, ``is_hedged``, ``is_mode_locked``."""
        for name, value in terms.items():
            setattr(self._venue.contracts.terms_of(account), name, value)

    def contract_orders(self, account: str) -> list[dict[str, Any]]:
        """Return an account's orders in contracts as the venue lists them, oldest first."""
        with self._venue.engine.lock:
            return [contract_order(row) for row in self._venue.contracts.orders if row.account == account]

    def contract_position(self, account: str, product_id: str) -> dict[str, str]:
        """Return an account's position: its signed ``size`` and ``entry`` price."""
        with self._venue.engine.lock:
            held = self._venue.contracts.position(account, self._venue.contracts.contracts[product_id])
            return {"size": plain(held.size), "entry": plain(held.entry)}

    # Keys, clocks, limits ---------------------------------------------------------------------------------------------

    def open_account(self, name: str, wallets: dict[str, str], algorithm: str = "ES256") -> dict[str, str]:
        """Open an account and return a key to it."""
        key = self._venue.add_account(name, wallets, algorithm=algorithm)
        return {"name": key.name, "secret": key.secret}

    def revoke(self, key_name: str) -> None:
        """Let requests signed by a key be refused from now on."""
        self._venue.keyring.keys[key_name].is_revoked = True

    def set_clock_skew(self, seconds: float) -> None:
        """Let the venue's clock be ahead of ours: tokens are judged by it, ``time`` tells it."""
        for one in (self._venue, self._venue.coinbase, self._venue.binance, self._venue.bybit):
            one.clock_skew = seconds

    def shift_time(self, seconds: float) -> None:
        """Let the market's time (of orders and fills, not of tokens) be ahead of the machine's."""
        now = time.time()
        self._venue.engine.run_clock(now, now + seconds, 1.0)

    def run_clock(self, real: float, market: float, speed: float) -> None:
        """Let the market's time be ``market`` at ``real`` (Unix seconds both) and pass ``speed`` times as fast."""
        self._venue.engine.run_clock(real, market, speed)

    def set_limits(self, private: int | None, public: int | None) -> None:
        """Allow so many requests a second for each key and each address; None is without limit."""
        self._venue.limiter.private, self._venue.limiter.public = private, public

    # Faults -----------------------------------------------------------------------------------------------------------

    def fail(self, action: str, path: str = "", **settings: Any) -> None:
        """Let something go wrong: see :mod:`tests.venue.faults`."""
        self._venue.faults.add(Fault(action, path, **settings))

    def clear_faults(self) -> None:
        """Let everything go well from now on."""
        self._venue.faults.clear()

    def faults_happened(self) -> dict[str, int]:
        """Return how often each kind of fault has happened."""
        return dict(self._venue.faults.happened)

    # Looking on -------------------------------------------------------------------------------------------------------

    def orders(self, account: str = "") -> list[dict[str, Any]]:
        """Return all orders, or an account's, oldest first."""
        with self._venue.engine.lock:
            rows = list(self._venue.engine.orders.values())
            return [row.to_json() for row in rows if account in ("", row.account)]

    def order(self, client_order_id: str) -> dict[str, Any] | None:
        """Return the order with a client id; two of them are an error of whoever placed them."""
        rows = [row for row in self.orders() if row["client_order_id"] == client_order_id]
        if len(rows) > 1:
            raise ValueError(f"{len(rows)} orders have the client id {client_order_id}")
        return rows[0] if rows else None

    def fills(self, account: str = "") -> list[dict[str, Any]]:
        """Return all fills, or an account's, oldest first."""
        with self._venue.engine.lock:
            return [row.to_json() for row in self._venue.engine.fills if account in ("", row.account)]

    def balances(self, account: str) -> dict[str, dict[str, str]]:
        """Return an account's wallets: ``total`` and the part on ``hold``."""
        with self._venue.engine.lock:
            wallets = self._venue.engine.accounts[account].wallets
            return {name: {"total": plain(row.balance), "hold": plain(row.hold)} for name, row in wallets.items()}

    def count(self) -> dict[str, int]:
        """Return how many requests there were by method and path."""
        return dict(self._venue.counts)

    # Over HTTP --------------------------------------------------------------------------------------------------------

    def answer(self, name: str, raw: bytes) -> tuple[int, Any]:
        """Carry out a control request. An error of a test is told to the test."""
        handle = None if name.startswith("_") or name == "answer" else getattr(self, name, None)
        if handle is None:
            return 404, {"error": f"there is no handle called {name}"}
        try:
            positional, named = json.loads(raw) if raw else ([], {})
            return 200, {"value": handle(*positional, **named)}
        except Exception as error:  # noqa: BLE001 (whatever it is, the caller has to see it)
            return 400, {"error": repr(error)}


class RemoteVenue:
    """The same handles, from another process."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Any:
        def call(*positional: Any, **named: Any) -> Any:
            body = json.dumps([positional, named]).encode()
            request = urllib.request.Request(f"{self.url}/_control/{name}", body, method="POST")  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (loopback)
                    return json.loads(answer.read())["value"]
            except urllib.error.HTTPError as error:
                raise RuntimeError(error.read().decode()) from None

        return call
