"""Whatever way the venue's reports come in, the same fills and totals come out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.exchanges.base import OrderReport, Trade
from positions import execution
from positions.execution import Intent
from positions.models import Order
from positions.states import FINAL, TRANSITIONS, OrderStatus, OrderType, PositionStatus, Purpose
from tests.positions.conftest import MOMENT, Desk, desk_outside
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account

pytestmark = pytest.mark.django_db
DERIVED = [
    "status", "exit_reason", "deal_number", "opened_at", "closed_at", "dust_price", "base_bought", "base_sold",
    "base_held", "quote_spent", "quote_received", "fees_quote", "average_price", "realised_quote", "realised_pct",
    "safety_orders_filled",
]  # fmt: skip
slow = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class Story:
    """What happened to one order at the venue: its pieces in thousandths of base, and how it ended."""

    pieces: list[int]
    prices: list[int]
    ending: OrderStatus

    @property
    def base(self) -> Decimal:
        return Decimal(sum(self.pieces)) / 1000

    @property
    def size(self) -> Decimal:
        return self.base if self.ending is OrderStatus.FILLED else self.base + 1

    def reports(self, order: Order, name: str, fee_currency: str) -> list[OrderReport]:
        """Return what the venue said after each piece, and at the end."""
        trades = [
            Trade(
                f"{name}{n}",
                Decimal(price),
                Decimal(piece) / 1000,
                Decimal(piece) * price / 1000,
                Decimal(piece) * (price if fee_currency == "USD" else 1) / 200_000,
                fee_currency,
                True,
                MOMENT + timedelta(seconds=n),
            )
            for n, (piece, price) in enumerate(zip(self.pieces, self.prices, strict=True))
        ]
        said = [(OrderStatus.OPEN, 0)]
        said += [
            (OrderStatus.PARTIALLY_FILLED, n) for n in range(1, len(trades) + (self.ending is not OrderStatus.FILLED))
        ]
        said += [(self.ending, len(trades))]
        return [OrderReport(order.client_order_id, f"v-{name}", status, tuple(trades[:n])) for status, n in said]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    pieces = draw(st.lists(st.integers(50, 3000), min_size=1, max_size=4))
    prices = draw(st.lists(st.integers(80, 120), min_size=len(pieces), max_size=len(pieces)))
    ending = draw(st.sampled_from([OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED]))
    return Story(pieces, prices, ending)


def sent(order: Order) -> Order:
    """Mark the order as sent; the reports come from the story."""
    Order.objects.filter(pk=order.pk).update(status=OrderStatus.SUBMITTED, submitted_at=clock.now())
    order.refresh_from_db()
    return order


def tell(order: Order, reports: list[OrderReport]) -> None:
    """Apply reports one by one; the order never moves backwards and fills never shrink."""
    for report in reports:
        before, filled = OrderStatus(order.status), order.filled_base
        execution.apply_report(order, report)
        after = OrderStatus(order.status)
        assert after is before or before not in FINAL
        assert before not in TRANSITIONS[after]
        assert order.filled_base >= filled
        assert order.hold_amount >= 0


def live(desk: Desk, entry: Story, leave: Story, fee: str, orderings: list[list[int]] | None) -> dict[str, object]:
    """Live through a deal and return what is written down at the end. ``orderings`` pick the reports, in any order."""
    first = desk.intend_open(
        intent=Intent(
            purpose=Purpose.BASE_ORDER,
            sequence=1,
            order_type=OrderType.LIMIT,
            base_size=entry.size,
            limit_price=Decimal(120),
        )
    )
    opening = entry.reports(sent(first), "in", fee)
    tell(first, opening if orderings is None else pick(opening, orderings[0]))
    position = first.position
    found: dict[str, object] = {}
    if position.status == PositionStatus.OPEN and position.base_held >= leave.base:
        exit_size = min(leave.size, position.base_held)
        if exit_size * 80 >= 5 and exit_size >= Decimal("0.01"):
            last = execution.intend(
                position,
                Intent(
                    purpose=Purpose.TAKE_PROFIT,
                    sequence=1,
                    order_type=OrderType.LIMIT,
                    base_size=exit_size,
                    limit_price=Decimal(80),
                ),
            )
            closing = leave.reports(sent(last), "out", "USD")
            tell(last, closing if orderings is None else pick(closing, orderings[1]))
            if orderings is not None:
                tell(first, pick(opening, orderings[0])[::-1])  # and the old ones once more
            position = last.position
            found["out"] = (last.status, last.filled_base, last.filled_quote, last.hold_amount)
    position.refresh_from_db()
    first.refresh_from_db()
    found["in"] = (first.status, first.filled_base, first.filled_quote, first.hold_amount)
    found["fills"] = sorted(position.fills.values_list("venue_trade_id", "base", "quote", "fee"))
    found |= {name: getattr(position, name) for name in DERIVED}
    execution.recompute(position)
    assert {name: getattr(position, name) for name in DERIVED} == {name: found[name] for name in DERIVED}
    return found


def pick(reports: list[OrderReport], numbers: list[int]) -> list[OrderReport]:
    """Return reports in the order of ``numbers``, repeats included, the last one certainly among them."""
    chosen = [reports[number % len(reports)] for number in numbers]
    middle = len(chosen) // 2
    return [*chosen[:middle], reports[-1], *chosen[middle:]]


@slow
@given(
    entry=stories(),
    leave=stories(),
    fee=st.sampled_from(["USD", "BTC"]),
    orderings=st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=2, max_size=2),
)
def test_reports_repeated_reordered_and_left_out_give_the_same_fills_and_totals(
    db: None, entry: Story, leave: Story, fee: str, orderings: list[list[int]]
) -> None:
    told = []
    for order in (None, orderings):
        with clock.at(MOMENT), desk_outside() as desk, acting_for_account(desk.account.pk):
            assert desk.venue is not None
            desk.venue.wallet = {"USD": Decimal(10**9), "BTC": Decimal(10**9)}
            told.append(live(desk, entry, leave, fee, order))
    assert told[0] == told[1]


def test_a_final_report_that_came_too_early_is_completed_by_a_late_one(outside: Desk) -> None:
    order = sent(
        outside.intend_open(
            intent=Intent(
                purpose=Purpose.BASE_ORDER,
                sequence=1,
                order_type=OrderType.LIMIT,
                base_size=Decimal(3),
                limit_price=Decimal(100),
            )
        )
    )
    whole = Story([500, 700], [90, 95], OrderStatus.CANCELLED).reports(order, "in", "USD")[-1]
    early = OrderReport(whole.client_order_id, whole.venue_order_id, whole.status, whole.trades[:1])
    tell(order, [early, whole, early])
    assert (order.status, order.filled_base, order.position.base_held) == ("cancelled", Decimal("1.2"), Decimal("1.2"))


def test_a_report_about_another_order_is_refused(outside: Desk) -> None:
    order = sent(outside.intend_open())
    stranger = OrderReport(execution.client_order_id(order.position.uid, "x", 1), "v", OrderStatus.FILLED)
    with pytest.raises(ValueError, match="another order"):
        execution.apply_report(order, stranger)
