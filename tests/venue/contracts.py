"""The fake venue's perpetuals: contracts, positions that net, margins, stops, funding and liquidation on command.

Simple on purpose. A contract has one price: that is the best bid, one step above it the best ask, both deep. Wallets
are the matching engine's; what contracts claim of them is worked out from positions and orders (``margin_of``). It
knows no HTTP, takes the engine's lock, and speaks Bybit's words and codes, because only Bybit has contracts here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from tests.venue.desk import UNIT
from tests.venue.engine import Engine
from tests.venue.model import ONE, ZERO, floor_to, is_on

CONTRACT_STATUSES = ("New", "PartiallyFilled", "Untriggered")
"""Of orders that work."""


class No(Exception):
    """The venue says no, in Bybit's code and words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(slots=True)
class Contract:
    """A linear perpetual: sizes in base, everything else in quote."""

    name: str
    base: str
    quote: str
    price_increment: Decimal
    base_increment: Decimal
    base_min_size: Decimal
    quote_min_size: Decimal
    max_leverage: Decimal
    funding_minutes: int
    last: Decimal
    rates: list[tuple[datetime, Decimal]] = field(default_factory=list)

    @property
    def word(self) -> str:
        return self.base + self.quote

    @property
    def ask(self) -> Decimal:
        return self.last + self.price_increment


@dataclass(slots=True)
class ContractFill:
    """One execution; ``leaves`` is what was left of its order."""

    fill_id: str
    price: Decimal
    base: Decimal
    fee: Decimal
    is_maker: bool
    kind: str
    leaves: Decimal
    at: datetime


@dataclass(slots=True)
class ContractOrder:
    """An order in a contract. ``rises`` says from which side its trigger is reached."""

    number: int
    order_id: str
    link_id: str
    account: str
    contract: Contract
    side: str
    size: Decimal
    price: Decimal | None
    trigger: Decimal | None
    rises: bool
    reduce_only: bool
    created_at: datetime
    status: str = "New"
    created_by: str = "CreateByUser"
    is_listed: bool = True
    fills: list[ContractFill] = field(default_factory=list)
    hidden_looks: int = 0
    late_looks: int = 0

    @property
    def filled(self) -> Decimal:
        return sum((fill.base for fill in self.fills), ZERO)

    @property
    def remaining(self) -> Decimal:
        return self.size - self.filled

    @property
    def sign(self) -> int:
        return 1 if self.side == "Buy" else -1

    @property
    def is_working(self) -> bool:
        return self.status in CONTRACT_STATUSES


@dataclass(slots=True)
class Held:
    """A position: ``size`` is below zero for a short."""

    size: Decimal = ZERO
    entry: Decimal = ZERO


@dataclass(slots=True)
class LogRow:
    """A line of an account's log: what changed its wallet, and why."""

    log_id: str
    account: str
    contract: Contract
    kind: str
    side: str
    size: Decimal
    price: Decimal
    funding: Decimal
    rate: Decimal
    at: datetime


@dataclass(slots=True)
class Terms:
    """How an account trades contracts."""

    margin_mode: str = "REGULAR_MARGIN"
    is_hedged: bool = False
    is_mode_locked: bool = False
    leverage: dict[str, Decimal] = field(default_factory=dict)


class Contracts:
    """All of it. Everything public takes the engine's lock."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.contracts: dict[str, Contract] = {}
        self.orders: list[ContractOrder] = []
        self.held: dict[tuple[str, str], Held] = {}
        self.terms: dict[str, Terms] = {}
        self.log: list[LogRow] = []

    def add(self, name: str, price: str, **changes: str) -> Contract:
        """Start trading in a perpetual called as we call it: BTC-USDT-PERP."""
        base, quote, _ = name.split("-")
        rules = {
            "price_increment": "0.1",
            "base_increment": "0.001",
            "base_min_size": "0.001",
            "quote_min_size": "5",
            "max_leverage": "100.00",
            **changes,
        }
        terms = {key: Decimal(value) for key, value in rules.items()}
        contract = Contract(name, base, quote, funding_minutes=480, last=Decimal(price), **terms)
        self.contracts[name] = contract
        return contract

    def by_word(self, word: str) -> Contract:
        """Return the contract with Bybit's name. Raises No."""
        for contract in self.contracts.values():
            if contract.word == word:
                return contract
        raise No(10001, "symbol invalid")

    def terms_of(self, account: str) -> Terms:
        return self.terms.setdefault(account, Terms())

    def position(self, account: str, contract: Contract) -> Held:
        return self.held.setdefault((account, contract.name), Held())

    def leverage(self, account: str, contract: Contract) -> Decimal:
        return self.terms_of(account).leverage.get(contract.name, Decimal(10))

    def working(self, account: str = "", contract: Contract | None = None) -> list[ContractOrder]:
        return [
            row
            for row in self.orders
            if row.is_working and account in ("", row.account) and contract in (None, row.contract)
        ]

    # Money ------------------------------------------------------------------------------------------------------------

    def margin_of(self, account: str, currency: str) -> tuple[Decimal, Decimal]:
        """Return what positions and what orders claim of an account's wallet."""
        with self.engine.lock:
            positions = sum(
                (self.position_margin(account, contract) for contract in self._settled_in(currency)),
                ZERO,
            )
            orders = sum(
                (
                    row.remaining * (row.price or ZERO) / self.leverage(account, row.contract)
                    for row in self.working(account)
                    if not row.reduce_only and row.contract.quote == currency
                ),
                ZERO,
            )
            return positions, orders

    def position_margin(self, account: str, contract: Contract) -> Decimal:
        held = self.position(account, contract)
        return abs(held.size) * held.entry / self.leverage(account, contract)

    def _settled_in(self, currency: str) -> Iterator[Contract]:
        return (contract for contract in self.contracts.values() if contract.quote == currency)

    def free(self, account: str, currency: str) -> Decimal:
        return self.engine.wallet(account, currency).available - sum(self.margin_of(account, currency))

    # Orders -----------------------------------------------------------------------------------------------------------

    def place(
        self,
        account: str,
        contract: Contract,
        side: str,
        size: Decimal,
        *,
        link_id: str = "",
        price: Decimal | None = None,
        trigger: Decimal | None = None,
        direction: int = 0,
        reduce_only: bool = False,
        position_idx: int = 0,
    ) -> ContractOrder:
        """Take an order and fill what can be filled. Raises No."""
        with self.engine.lock:
            if (position_idx != 0) != self.terms_of(account).is_hedged:
                raise No(10001, "position idx not match position mode")
            if link_id and any(row.account == account and row.link_id == link_id for row in self.orders):
                raise No(110072, "OrderLinkedID is duplicate")
            order = ContractOrder(
                len(self.orders) + 1,
                self.engine.make_id(),
                link_id,
                account,
                contract,
                side,
                size,
                price,
                trigger,
                direction == 1,
                reduce_only,
                self.engine.now(),
            )
            self._check(order, direction)
            self.orders.append(order)
            if trigger is not None:
                order.status = "Untriggered"
            else:
                self._enter(order)
            return order

    def _check(self, order: ContractOrder, direction: int) -> None:
        contract, price = order.contract, order.price
        if not is_on(order.size, contract.base_increment):
            raise No(10001, "Qty invalid")
        for asked in (price, order.trigger):
            if asked is not None and not is_on(asked, contract.price_increment):
                raise No(10001, "Price invalid")
        if not order.reduce_only and order.size < contract.base_min_size:
            raise No(10001, "The number of contracts exceeds minimum limit allowed")
        if not order.reduce_only and order.size * (price or contract.last) < contract.quote_min_size:
            raise No(110094, "Order does not meet minimum order value")
        if order.trigger is not None and direction not in (1, 2):
            raise No(10001, "TriggerDirection invalid")
        if order.trigger is not None and order.rises and order.trigger <= contract.last:
            raise No(110092, "expect Rising, but trigger_price <= current")
        if order.trigger is not None and not order.rises and order.trigger >= contract.last:
            raise No(110093, "expect Falling, but trigger_price >= current")
        held = self.position(order.account, contract)
        if order.reduce_only:
            if held.size * order.sign >= ZERO:
                raise No(110017, "current position is zero, cannot fix reduce-only order qty")
            return
        value = order.size * (price or contract.ask)
        rate = self.engine.accounts[order.account].taker
        needed = value / self.leverage(order.account, contract) + value * rate
        if needed > self.free(order.account, contract.quote):
            raise No(110007, "ab not enough for new order")

    def _enter(self, order: ContractOrder) -> None:
        contract = order.contract
        touch = contract.ask if order.side == "Buy" else contract.last
        if order.price is None or (order.price - touch) * order.sign >= ZERO:
            self.fill(order, touch, is_maker=False)
            if order.is_working and order.price is None:
                order.status = "Cancelled"

    def fill(
        self,
        order: ContractOrder,
        price: Decimal,
        base: Decimal | None = None,
        *,
        is_maker: bool,
        kind: str = "Trade",
    ) -> None:
        """Fill ``base`` (default: all) of an order; a reduce-only one is cut to what there is."""
        held = self.position(order.account, order.contract)
        if order.reduce_only:
            there = max(-held.size * order.sign, ZERO)
            order.size = order.filled + min(order.remaining, there)
        base = order.remaining if base is None else min(base, order.remaining)
        if base <= ZERO:
            order.status = "Cancelled"
            return
        account = self.engine.accounts[order.account]
        fee = floor_to(base * price * (account.maker if is_maker else account.taker), UNIT)
        self._net(order, held, base, price, fee)
        order.fills.append(
            ContractFill(
                self._next_fill_id(), price, base, fee, is_maker, kind, order.remaining - base, self.engine.now()
            )
        )
        order.status = "PartiallyFilled" if order.remaining else "Filled"
        if not held.size:
            for other in self.working(order.account, order.contract):
                if other.reduce_only and other.status != "Untriggered":
                    other.status = "Cancelled"

    def _next_fill_id(self) -> str:
        return f"fill-{sum(len(row.fills) for row in self.orders) + 1:06d}"

    def _net(self, order: ContractOrder, held: Held, base: Decimal, price: Decimal, fee: Decimal) -> None:
        quote, closing = order.contract.quote, ZERO
        if held.size * order.sign < ZERO:
            closing = min(base, abs(held.size))
            profit = (price - held.entry) * closing * -order.sign
            held.size += closing * order.sign
            self.engine._move(order.account, quote, "contract_profit", profit)
        opening = base - closing
        if opening:
            whole = abs(held.size) + opening
            held.entry = (held.entry * abs(held.size) + price * opening) / whole
            held.size += opening * order.sign
        self.engine._move(order.account, quote, "contract_fee", -fee)
        self._note(order.account, order.contract, "TRADE", order.side, base, price)

    def _note(
        self,
        account: str,
        contract: Contract,
        kind: str,
        side: str,
        size: Decimal,
        price: Decimal,
        funding: Decimal = ZERO,
        rate: Decimal = ZERO,
        at: datetime | None = None,
    ) -> None:
        moment = at or self.engine.now()
        row = LogRow(self.engine.make_id(), account, contract, kind, side, size, price, funding, rate, moment)
        self.log.append(row)

    def cancel(self, order: ContractOrder) -> None:
        """Cancel a working order. Raises No."""
        with self.engine.lock:
            if not order.is_working:
                raise No(110001, "order not exists or too late to cancel")
            order.status = "Deactivated" if order.status == "Untriggered" else "Cancelled"

    # What happens -----------------------------------------------------------------------------------------------------

    def set_price(self, name: str, price: str | Decimal) -> None:
        """Let a contract stand at a price: stops that it reaches are filled there, limit orders at their own price."""
        with self.engine.lock:
            contract = self.contracts[name]
            contract.last = Decimal(price)
            for order in self.working(contract=contract):
                if order.status == "Untriggered" and order.trigger is not None:
                    away = contract.last - order.trigger
                    if away >= ZERO if order.rises else away <= ZERO:
                        order.status = "Triggered"
                        self._enter(order)
                elif order.price is not None:
                    touch = contract.ask if order.side == "Buy" else contract.last
                    if (order.price - touch) * order.sign >= ZERO:
                        self.fill(order, order.price, is_maker=True)

    def fund(self, name: str, rate: str | Decimal, at: datetime | None = None) -> None:
        """Let funding be paid: longs pay shorts while the rate is above zero. ``at`` is when it fell due, by default
        now; it is told from now on.
        """
        with self.engine.lock:
            contract, rate = self.contracts[name], Decimal(rate)
            contract.rates.append((at or self.engine.now(), rate))
            for (account, of), held in self.held.items():
                if of == name and held.size:
                    amount = -held.size * contract.last * rate
                    self.engine._move(account, contract.quote, "funding", amount)
                    side = "Buy" if held.size > ZERO else "Sell"
                    told = rate if side == "Buy" else -rate
                    self._note(account, contract, "SETTLEMENT", side, abs(held.size), contract.last, amount, told, at)

    def liquidate(
        self,
        account: str,
        name: str,
        price: str | Decimal,
        *,
        taken_over: bool = True,
        part: str | Decimal | None = None,
    ) -> str:
        """Close an account's position against its owner's will and return the order's id.

        ``taken_over``: in executions of the type BustTrade and without an order in any list; otherwise by an order of
        Bybit's. ``part`` is how much of it is executed for now; :meth:`finish` does the rest.
        """
        with self.engine.lock:
            contract = self.contracts[name]
            held = self.position(account, contract)
            side, size = ("Sell" if held.size > ZERO else "Buy"), abs(held.size)
            number, order_id = len(self.orders) + 1, self.engine.make_id()
            order = ContractOrder(
                number,
                order_id,
                "",
                account,
                contract,
                side,
                size,
                Decimal(price),
                None,
                False,
                True,
                self.engine.now(),
            )
            order.is_listed = not taken_over
            order.created_by = "CreateByTakeOver_PassThrough" if taken_over else "CreateByLiq"
            self.orders.append(order)
            kind = "BustTrade" if taken_over else "Trade"
            self.fill(order, Decimal(price), None if part is None else Decimal(part), is_maker=False, kind=kind)
            return order.order_id

    def finish(self, order_id: str) -> None:
        """Execute what is left of a liquidation."""
        with self.engine.lock:
            order = next(row for row in self.orders if row.order_id == order_id)
            kind = order.fills[0].kind
            self.fill(order, order.price or ZERO, is_maker=False, kind=kind)

    def drift(self, share: float) -> None:
        """Move every price by a random step of about ``share``, for use by hand."""
        for contract in self.contracts.values():
            change = ONE + Decimal(str(round(self.engine.rng.gauss(0, share), 8)))
            price = max(floor_to(contract.last * change, contract.price_increment), contract.price_increment)
            self.set_price(contract.name, price)
