"""Deals as the pages show them: figures, price bar, badges, what needs a person. Reads, never writes.

The figures come from ``positions.figures``, what lies ahead from ``positions.outlook``; this puts them side
by side. However many deals there are, :func:`deal_cards` costs the same number of queries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from positions import figures, ledger
from positions.booking import totals_of
from positions.brackets import ALARM
from positions.figures import DealFigures, Levels, OpenTotals
from positions.ledger import Totals, Unrealised
from positions.models import Order, Position
from positions.outlook import Outlook, behind_limit_close, categories_for, outlook_of
from positions.perps_card import CLOSE_TO_LIQUIDATION_PCT, PerpsCard, liquidation_distance_pct, perps_cards
from positions.perps_card import outlook_of as outlook_of_perpetual
from positions.perps_news import DIFFERS, TERMS_DIFFER
from positions.pricebar import PriceBar, price_bar
from positions.states import (
    ENTRY_PURPOSES,
    SINGLE_EXITS,
    WORKING,
    Direction,
    OrderStatus,
    OrderType,
    PositionStatus,
    Purpose,
)
from tradebot.core import clock
from tradebot.core.decimals import ZERO, for_money

__all__ = [
    "MOST_PIPS",
    "Badge",
    "CurrencyTotal",
    "DealCard",
    "Note",
    "currency_totals",
    "deal_card",
    "deal_cards",
    "with_categories",
]

MOST_PIPS: Final = 10
"""More safety orders than this are written as numbers only."""


@dataclass(frozen=True, slots=True)
class Badge:
    """A state in words; ``kind`` is its class in the stylesheet."""

    kind: str
    text: str
    price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Why a deal needs somebody: what happened, and the way out."""

    lead: str
    text: str


@dataclass(frozen=True, slots=True)
class _Trouble:
    badge: str
    lead: str


PERPS_ERRORS: Final = {
    ALARM: _Trouble("Not protected", "Not protected."),
    DIFFERS: _Trouble("Differs", "The venue disagrees."),
    TERMS_DIFFER: _Trouble("Other terms", "Changed at the venue."),
}
"""Error codes of perpetual deals that are about the position, not about an order."""


@dataclass(frozen=True, slots=True)
class DealCard:
    """One deal with everything a list or its own page shows. Prices and figures are None when not known."""

    figures: DealFigures
    outlook: Outlook
    fee_rate: Decimal | None
    orders: tuple[Order, ...]
    bar: PriceBar | None
    badges: tuple[Badge, ...]
    note: Note | None
    category: str = ""
    perps: PerpsCard | None = None

    @property
    def liquidation_distance_pct(self) -> Decimal | None:
        """How far a perpetual's mark may still move against it, in percent; None when not known."""
        return None if self.perps is None else liquidation_distance_pct(self.perps, self.figures)

    @property
    def position(self) -> Position:
        return self.figures.position

    @property
    def totals(self) -> Totals | None:
        return self.figures.totals

    @property
    def mark(self) -> Decimal | None:
        return self.figures.mark

    @property
    def even(self) -> Decimal | None:
        return self.figures.break_even

    @property
    def unrealised(self) -> Unrealised | None:
        """What closing now would bring; None without a price or when nothing is held."""
        return self.figures.unrealised if self.held else None

    @property
    def held(self) -> Decimal | None:
        """The base still to sell or to buy back; None when there is nothing."""
        return (self.totals.remaining_base or None) if self.totals is not None else None

    @property
    def is_paper(self) -> bool:
        return self.position.account.is_paper

    @property
    def needs_you(self) -> bool:
        return self.note is not None

    @property
    def is_open(self) -> bool:
        """Whether it holds something: an attempt without a fill does not."""
        return self.position.status in (PositionStatus.OPEN, PositionStatus.CLOSING)

    @property
    def age_seconds(self) -> float:
        since = self.position.opened_at or self.position.created_at
        return ((self.position.closed_at or clock.now()) - since).total_seconds()

    @property
    def invested(self) -> Decimal | None:
        return self.figures.invested

    @property
    def pips(self) -> tuple[bool, ...]:
        """One per allowed safety order, true when bought; empty when there are too many to count at a glance."""
        most = self.outlook.max_safety_orders or 0
        bought = self.position.safety_orders_filled
        return tuple(level <= bought for level in range(1, most + 1)) if most <= MOST_PIPS else ()

    @property
    def limit_close(self) -> Order | None:
        """The close at a limit that rests, if one does."""
        exits = (order for order in self.orders if order.status in WORKING and order.purpose in SINGLE_EXITS)
        return next((order for order in exits if order.order_type == OrderType.LIMIT), None)

    @property
    def limit_by_hand(self) -> Order | None:
        """The limit close that somebody placed, if it still works."""
        placed = (order for order in self.orders if order.status in WORKING and order.purpose == Purpose.LIMIT_CLOSE)
        return next(placed, None)

    @property
    def target_distance_pct(self) -> Decimal | None:
        return self.figures.distance_pct(self.outlook.target)

    @property
    def stop_distance_pct(self) -> Decimal | None:
        return self.figures.distance_pct(self.outlook.stop)

    @property
    def target_profit(self) -> Decimal | None:
        return self.profit_at(self.outlook.target)

    @property
    def stop_profit(self) -> Decimal | None:
        return self.profit_at(self.outlook.stop)

    def profit_at(self, price: Decimal | None) -> Decimal | None:
        """Return what closing all of it at ``price`` would earn, net of fees; None when that is not known."""
        if price is None or self.totals is None or self.fee_rate is None or not self.held:
            return None
        return ledger.unrealised(self.totals, price, self.fee_rate).profit


def deal_cards(positions: Sequence[Position]) -> list[DealCard]:
    """Return the cards of ``positions`` in their order. Their products, accounts and bots should be loaded already."""
    if not positions:
        return []
    ahead: dict[int, tuple[Outlook, Decimal]] = {}
    perps = perps_cards(positions)

    def levels_of(position: Position, totals: Totals, fee_rate: Decimal) -> Levels:
        terms = perps.get(position.pk)
        outlook = outlook_of(position, totals, fee_rate) if terms is None else outlook_of_perpetual(terms)
        ahead[position.pk] = outlook, fee_rate
        nearest = outlook.rungs[0].price if outlook.rungs else None
        return Levels(outlook.target, outlook.stop, nearest, outlook.max_safety_orders)

    rows = figures.deal_figures(positions, levels_of)
    orders: dict[int, list[Order]] = defaultdict(list)
    for order in Order.objects.filter(position_id__in=[position.pk for position in positions]).order_by("pk"):
        orders[order.position_id].append(order)
    cards = []
    for row in rows:
        outlook, fee_rate = ahead.get(row.position.pk, (Outlook(), None))
        cards.append(_card(row, outlook, fee_rate, tuple(orders[row.position.pk]), perps.get(row.position.pk)))
    return cards


def with_categories(cards: Sequence[DealCard]) -> list[DealCard]:
    """Return the cards with what the owner of each deal's account thinks of its coin; "" is unreviewed."""
    codes: dict[int, set[str]] = defaultdict(set)
    for card in cards:
        codes[card.position.account.owner_id].add(card.position.product.base)
    known = {owner_id: categories_for(owner_id, sorted(wanted)) for owner_id, wanted in codes.items()}

    def of(card: DealCard) -> str:
        return known[card.position.account.owner_id].get(card.position.product.base, "")

    return [replace(card, category=of(card)) for card in cards]


def deal_card(position: Position) -> DealCard:
    """Return the card of one deal, of an ended one too: with what its settings were, though nothing lies ahead."""
    card = deal_cards([position])[0]
    if position.closed_at is None or card.outlook.facts:
        return card
    past = outlook_of(position, totals_of(position), card.fee_rate or ZERO)
    return replace(card, outlook=Outlook(max_safety_orders=past.max_safety_orders, facts=past.facts))


def _card(
    row: DealFigures,
    outlook: Outlook,
    fee_rate: Decimal | None,
    orders: tuple[Order, ...],
    perps: PerpsCard | None = None,
) -> DealCard:
    placed = next(
        (o for o in orders if o.status in WORKING and o.purpose == Purpose.LIMIT_CLOSE and o.limit_price), None
    )
    if placed is not None and placed.limit_price is not None:
        outlook = behind_limit_close(outlook, placed.limit_price)
    bar = None
    if row.totals is not None and not row.totals.is_flat:
        bar = price_bar(
            Direction(row.position.direction),
            stop=outlook.stop,
            target=outlook.target,
            even=row.break_even,
            mark=row.mark,
            rungs=[*_bought(orders), *((rung.price, False) for rung in outlook.rungs)],
        )
    note = _note(row.position, orders, outlook)
    if note is None and perps is not None and row.is_active:
        note = _perps_note(perps, row)
    badges = _badges(row.position, orders, outlook, note)
    return DealCard(
        figures=row,
        outlook=outlook,
        fee_rate=fee_rate,
        orders=orders,
        bar=bar,
        badges=tuple(badges) if perps is None else (Badge("plain", perps.label), *badges),
        note=note,
        perps=perps,
    )


def _perps_note(perps: PerpsCard, row: DealFigures) -> Note | None:
    distance = liquidation_distance_pct(perps, row)
    if distance is not None and distance < CLOSE_TO_LIQUIDATION_PCT:
        return Note("Close to liquidation.", "Close a part of it, or all, while the price is yours to choose.")
    return None


def _bought(orders: Iterable[Order]) -> list[tuple[Decimal, bool]]:
    with for_money():
        return [
            (order.filled_quote / order.filled_base, True)
            for order in orders
            if order.purpose == Purpose.SAFETY_ORDER and order.filled_base > ZERO
        ]


def _last_entry(orders: Iterable[Order]) -> Order | None:
    return max((order for order in orders if order.purpose in ENTRY_PURPOSES), key=lambda order: order.pk, default=None)


def _badges(position: Position, orders: tuple[Order, ...], outlook: Outlook, note: Note | None) -> Iterable[Badge]:
    if position.status == PositionStatus.PENDING:
        yield Badge("plain", "Opening")
    resting = [o for o in orders if o.status in WORKING and o.purpose in SINGLE_EXITS and o.limit_price]
    if position.status == PositionStatus.CLOSING and not resting:
        yield Badge("plain", "Closing")
    last = _last_entry(orders)
    if position.closed_at is None and position.error_code in PERPS_ERRORS:
        yield Badge("failed", PERPS_ERRORS[position.error_code].badge)
    elif position.error_code or (last is not None and last.status == OrderStatus.REJECTED):
        yield Badge("failed", "Order failed")
    elif note is not None:
        yield Badge("attention", "Needs you")
    if outlook.armed:
        yield Badge("info", "Trailing armed")
    for order in resting:
        yield Badge("plain", "Limit close", order.limit_price)


def _note(position: Position, orders: tuple[Order, ...], outlook: Outlook) -> Note | None:
    """Return what a person has to know, the most urgent thing first; None when the deal looks after itself."""
    if position.closed_at is not None:
        return None
    last = _last_entry(orders)
    if (known := PERPS_ERRORS.get(position.error_code)) is not None:
        return Note(known.lead, position.last_error)
    if position.error_code:
        return Note("The last step failed", f"({position.error_code}): {position.last_error}")
    if last is not None and last.status == OrderStatus.REJECTED:
        return Note("The last order was refused", f"({last.error_code}): {last.error_text}")
    if position.bot_id is None and not position.product.is_perpetual:
        return Note("No bot looks after this deal.", "Close it, or keep the coins by cancelling it.")
    most = outlook.max_safety_orders
    used_up = most and position.safety_orders_filled >= most and outlook.stop is None
    if used_up and outlook.rungs == () and not outlook.armed:
        return Note("Ladder used up.", f"All {most} safety orders are bought and no stop is set.")
    return None


# Totals -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CurrencyTotal:
    """Open deals of one kind of money and one quote currency."""

    is_paper: bool
    quote: str
    sums: OpenTotals

    @property
    def worth(self) -> Decimal:
        """What was put in and what it has gained: comparable for longs and shorts, net of fees."""
        return self.sums.invested + self.sums.profit


def currency_totals(cards: Iterable[DealCard]) -> list[CurrencyTotal]:
    """Return totals per kind of money and quote currency, live first: paper never adds to live (F32)."""
    by_kind: dict[bool, list[DealFigures]] = {False: [], True: []}
    for card in cards:
        by_kind[card.is_paper].append(card.figures)
    return [
        CurrencyTotal(is_paper, quote, sums)
        for is_paper, rows in by_kind.items()
        for quote, sums in sorted(figures.open_totals(rows).items())
    ]
