"""A deal of a backtest: its fills, its resting orders and what the strategy remembers about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from accounts.exchanges.paper_rules import Execution
from bots.backtest.spec import SimulatedDeal, SimulatedFill
from bots.backtest.tracks import Track
from bots.backtest.venue import RestingOrder
from bots.strategies.base import TrailState, WorkingOrder
from positions import ledger
from positions.ledger import FillFact, Totals
from positions.states import EXIT_PURPOSES, EXIT_REASON_OF, Direction, ExitReason, OrderType, Purpose, Side
from tradebot.core.decimals import HUNDRED, ZERO, quantize

__all__ = ["Deal"]


@dataclass(slots=True, eq=False)
class Deal:
    """One attempt to trade: a deal from its first fill on. ``created`` is the look at which its base order was placed.

    ``first`` is the look at which the strategy is first asked about it as a deal, ``looked`` the last one. ``wake`` is
    the next look at which it may do something, ``scanned`` the first of those that were passed over and that its trail
    has not seen. ``acted`` is the look of its latest order: a deal gets one order a look.
    """

    number: int
    track: Track
    direction: Direction
    created: int
    budget: Decimal | None
    totals: Totals
    trail: TrailState = field(default_factory=TrailState)
    next_trail: TrailState | None = None
    facts: list[FillFact] = field(default_factory=list)
    fills: list[SimulatedFill] = field(default_factory=list)
    resting: list[RestingOrder] = field(default_factory=list)
    placed_at: dict[int, datetime] = field(default_factory=dict)
    levels: int = 0
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    exit_reason: ExitReason | None = None
    dust_price: Decimal | None = None
    missed_limit_exit: bool = False
    last_exit: tuple[Purpose, ExitReason | None] | None = None
    invested: Decimal = ZERO
    first: int = -1
    acted: int = -1
    wake: int = -1
    looked: int = -1
    scanned: int = -1

    @property
    def is_over(self) -> bool:
        return self.closed_at is not None

    @property
    def has_fills(self) -> bool:
        return bool(self.facts)

    def book(
        self, done: Execution, side: Side, purpose: Purpose, look_time: int, at: datetime, *, is_maker: bool
    ) -> SimulatedFill:
        """Add an execution and return it as a fill; the totals are worked out anew from all fills."""
        terms = self.track.terms
        currency = terms.base if done.fee_in_base else terms.quote
        self.facts.append(FillFact(side, done.price, done.base, done.quote, done.fee, currency, at, purpose))
        fill = SimulatedFill(
            look_time, terms.symbol, side, purpose, done.price, done.base, done.quote, done.fee, currency, is_maker
        )
        self.fills.append(fill)
        self.totals = ledger.totals(self.facts, self.direction, terms.base, terms.quote)
        self.invested = self.totals.remaining_invested
        if self.opened_at is None:
            self.opened_at = at
        self.missed_limit_exit = False
        return fill

    def remember(self) -> None:
        """Take over the trail of the last decision."""
        if self.next_trail is not None:
            self.trail, self.next_trail = self.next_trail, None

    def working(self) -> tuple[WorkingOrder, ...]:
        """Return the resting orders as the strategy sees them."""
        if not self.resting:
            return ()
        return tuple(
            WorkingOrder(
                purpose=order.purpose,
                order_type=OrderType.LIMIT,
                base_size=order.base_size,
                placed_at=self.placed_at[order.number],
                filled_base=order.filled,
                limit_price=order.limit,
                levels=order.levels,
            )
            for order in self.resting
        )

    def claimed_by_closes(self) -> Decimal:
        """Return what the deal's resting closes hold: base of a long, quote of a short."""
        return sum((order.hold for order in self.resting if order.purpose in EXIT_PURPOSES), ZERO)

    @property
    def opening_quote(self) -> Decimal:
        """Return what its resting base order may still spend."""
        return sum((order.rest * order.limit for order in self.resting if order.purpose is Purpose.BASE_ORDER), ZERO)

    def is_dust(self, base: Decimal, price: Decimal) -> bool:
        """Return whether ``base`` is too little for the venue to trade at ``price``."""
        terms = self.track.terms
        return ledger.sellable(base, price, terms.base_increment, terms.min_base, terms.min_quote) == ZERO

    def profit(self) -> Decimal:
        """Return what has been realised, the remainder of a deal closed as dust valued at its dust price."""
        if self.dust_price is not None:
            return quantize(ledger.close_as_dust(self.totals, self.dust_price).profit)
        return quantize(self.totals.realised_profit)

    def result(self, mark: Decimal | None, taker: Decimal) -> SimulatedDeal:
        """Return the deal as a result; an open one is valued at ``mark``."""
        totals = self.totals
        profit, pct = self._earned(mark, taker)
        assert self.opened_at is not None
        return SimulatedDeal(
            number=self.number,
            symbol=self.track.terms.symbol,
            direction=self.direction,
            opened_at=int(self.opened_at.timestamp()),
            closed_at=int(self.closed_at.timestamp()) if self.closed_at else None,
            exit_reason=self.exit_reason,
            invested=quantize(totals.invested_quote),
            profit=profit,
            profit_pct=None if pct is None else quantize(pct),
            fees=quantize(totals.fees_in_quote),
            safety_orders=self.levels,
            fills=self.fills,
        )

    def _earned(self, mark: Decimal | None, taker: Decimal) -> tuple[Decimal, Decimal | None]:
        """Return profit and percent as :meth:`result` tells them."""
        totals = self.totals
        if self.dust_price is not None:
            end = ledger.close_as_dust(totals, self.dust_price)
            return quantize(end.profit), end.pct
        profit, pct = totals.realised()
        if self.is_over or mark is None:
            return quantize(profit), pct
        profit = quantize(quantize(profit) + ledger.unrealised(totals, mark, taker).profit)
        invested = totals.invested_quote
        return profit, profit / invested * HUNDRED if invested > ZERO else None

    def reason(self) -> ExitReason:
        """Return why it ended: the reason of its last exit that traded."""
        assert self.last_exit is not None
        purpose, reason = self.last_exit
        return reason or EXIT_REASON_OF[purpose]
