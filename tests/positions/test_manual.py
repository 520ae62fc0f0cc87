"""What a person does by hand, and whether the answer is true."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from accounts.models import PaperBalance
from positions import execution, manual, preview
from positions.manual import CloseFailure, CloseState, Closing
from positions.models import Position
from positions.states import OrderStatus, OrderType, PositionStatus, Purpose
from tests.factories import FillFactory, OrderFactory, PositionFactory, ProductFactory
from tests.positions.conftest import Desk
from tests.positions.helpers import refused
from tradebot.core.errors import InvalidInput, MissingInformation, VenueRejected, VenueUnknown
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import detached

ANN = "ann@example.com"


def audit() -> list[tuple[str, str, str]]:
    with detached("test looks at the audit"):
        return list(AuditEntry.objects.order_by("id").values_list("actor", "action", "target"))


def wrong(field: str) -> Any:
    """Expect that the input is refused with this field named."""
    return pytest.raises(InvalidInput, check=lambda error: error.field == field)


def resting_close(desk: Desk, position: Position) -> execution.Order:
    return desk.place(position, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=Decimal(130))


def test_a_deal_is_closed_at_market_by_hand(paper: Desk) -> None:
    position = paper.open()
    answer = manual.close_at_market(position, ANN)
    assert (answer.state, answer.position.status, answer.position.exit_reason) == ("closed", "closed", "manual")
    assert answer.order is not None
    assert (answer.order.actor, answer.order.order_type) == (ANN, OrderType.MARKET)
    assert answer.message == "The deal is closed."
    assert audit() == [(ANN, "deal_closed_by_hand", "deal 1 BTC-USD")]
    with refused("position_ended"):
        manual.close_at_market(position, ANN)


def test_f21_a_resting_close_is_cancelled_before_the_market_close(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    resting = resting_close(outside, position)
    outside.venue.fill(resting.client_order_id, "0.4")  # not noticed by us yet
    answer = manual.close_at_market(position, ANN)
    resting.refresh_from_db()
    assert (resting.status, resting.filled_base) == (OrderStatus.CANCELLED, Decimal("0.4"))
    assert answer.order is not None
    assert (answer.state, answer.order.base_size) == (CloseState.CLOSED, Decimal("0.6"))
    assert outside.venue.wallet["BTC"] == 0


def test_f21_a_resting_close_that_filled_meanwhile_needs_no_other(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.fill(resting_close(outside, position).client_order_id, "1")
    answer = manual.close_at_market(position, ANN)
    assert (answer.state, answer.order, len(outside.venue.arrivals)) == (CloseState.CLOSED, None, 2)


def test_f21_without_a_confirmed_cancel_nothing_is_sold(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    resting_close(outside, position)
    for _ in range(2):
        outside.venue.fail("cancel", VenueUnknown("timeout"))
    with refused("cancel_unconfirmed"):
        manual.close_at_market(position, ANN)
    assert len(outside.venue.arrivals) == 2
    position.refresh_from_db()
    assert position.status == PositionStatus.CLOSING
    assert manual.close_at_market(position, ANN).state == CloseState.CLOSED  # a moment later


def test_f21_a_close_that_the_venue_has_not_confirmed_is_not_called_closed(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.fail("place", VenueUnknown("timeout"))
    answer = manual.close_at_market(position, ANN)
    assert (answer.state, answer.position.status) == (CloseState.WORKING, PositionStatus.CLOSING)
    again = manual.close_at_market(position, ANN)  # impatience sells nothing twice
    assert (again.state, again.order) == (CloseState.WORKING, answer.order)
    assert len(outside.venue.arrivals) == 1


def test_f21_a_close_that_the_venue_rejects_is_an_error(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.fail("place", VenueRejected("halted", "Trading is halted."))
    with refused("halted"):
        manual.close_at_market(position, ANN)
    position.refresh_from_db()
    assert position.status == PositionStatus.OPEN


def test_closing_a_deal_that_has_bought_nothing_cancels_it(outside: Desk) -> None:
    order = outside.open_limit("1", "90")
    answer = manual.close_at_market(order.position, ANN)
    assert (answer.state, answer.position.status) == (CloseState.NOTHING_HELD, PositionStatus.CANCELLED)


def test_closing_a_remainder_that_is_too_small_closes_it_as_dust(paper: Desk) -> None:
    position = paper.open("1.01")
    with detached("test data"):
        paper.product.min_quote = Decimal(50)
        paper.product.save()
    answer = manual.close_at_market(position, ANN)
    assert (answer.state, answer.position.exit_reason) == (CloseState.DUST, "dust")


def test_closing_many_deals_answers_for_each_of_them(outside: Desk) -> None:
    assert outside.venue is not None
    limits = {"max_active_deals": 3, "max_deals_per_pair": 3}
    deals = [outside.open("100", **limits) for _ in range(3)]
    manual.close_at_market(deals[0], ANN)
    outside.venue.fail("place", VenueRejected("halted"))
    answers = manual.close_all(deals, ANN, Purpose.PANIC_CLOSE)
    assert [type(answer) for answer in answers] == [CloseFailure, CloseFailure, Closing]
    assert [answer.code for answer in answers if isinstance(answer, CloseFailure)] == ["position_ended", "halted"]
    assert answers[2].position.exit_reason == "panic"


def test_f22_cancelling_a_deal_cancels_its_orders_and_keeps_the_coins(paper: Desk) -> None:
    position = paper.open()
    held = position.base_held
    order = paper.place(
        position, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=Decimal("0.01"), limit_price=Decimal(1000)
    )
    manual.cancel_deal(position, ANN)
    order.refresh_from_db()
    assert order.status == OrderStatus.CANCELLED
    assert (position.status, position.exit_reason, position.base_held) == ("cancelled", "cancelled", held)
    assert position.closed_at is not None
    assert PaperBalance.objects.get(currency="USD").held == 0
    assert PaperBalance.objects.get(currency="BTC").total == Decimal("0.5") + held
    assert audit() == [(ANN, "deal_cancelled", "deal 1 BTC-USD")]
    with refused("position_ended"):
        manual.cancel_deal(position, ANN)


def test_f22_a_deal_whose_orders_may_still_fill_is_not_cancelled(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    resting_close(outside, position)
    for _ in range(2):
        outside.venue.fail("cancel", VenueUnknown("timeout"))
    with refused("cancel_unconfirmed"):
        manual.cancel_deal(position, ANN)
    position.refresh_from_db()
    assert position.status == PositionStatus.CLOSING


def test_a_deal_whose_close_filled_meanwhile_cannot_be_cancelled(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.fill(resting_close(outside, position).client_order_id, "1")
    with refused("position_ended"):
        manual.cancel_deal(position, ANN)


def test_a_note_is_kept_with_the_deal(paper: Desk) -> None:
    position = paper.open()
    manual.set_note(position, "  waits for the halving ", ANN)
    position.refresh_from_db()
    assert position.notes == "waits for the halving"
    with pytest.raises(InvalidInput, check=lambda error: error.field == "notes"):
        manual.set_note(position, "x" * 5001, ANN)


def test_the_preview_says_what_the_close_then_brings(paper: Desk) -> None:
    position = paper.open("5000")
    found = preview.close_preview(position)
    assert found.bid < found.ask
    assert found.expected_price <= found.bid
    assert found.slippage_pct >= 0
    answer = manual.close_at_market(position, ANN)
    slippage = Decimal("0.0006")  # the account's own slippage comes on top
    assert abs(answer.position.realised_quote - found.profit_quote) < slippage * 5000
    assert abs(found.fee_quote - found.base * found.expected_price * Decimal("0.006")) < Decimal("1e-15")
    with refused("nothing_to_close"):
        preview.close_preview(answer.position)


def test_the_preview_of_a_part_is_about_that_part(paper: Desk) -> None:
    position = paper.open("1000")
    whole, part = preview.close_preview(position), preview.close_preview(position, share_pct=Decimal(25))
    assert (part.is_part, whole.is_part, part.remaining) == (True, False, whole.base)
    assert abs(part.base - whole.base / 4) < Decimal("1e-8")
    assert abs(part.profit_quote - whole.profit_quote / 4) < Decimal("0.05")
    with wrong("base"):
        preview.close_preview(position, base=whole.base * 2)


# Parts ----------------------------------------------------------------------------------------------------------------


def test_a_part_is_sold_at_market_and_the_deal_goes_on(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")  # 1 BTC
    answer = manual.close_at_market(position, ANN, share_pct=Decimal(40))
    assert (answer.state, answer.position.status) == (CloseState.REDUCED, PositionStatus.OPEN)
    assert position.base_held == Decimal("0.6")
    assert answer.message == "That part is closed. The rest of the deal goes on."
    answer = manual.close_at_market(position, ANN)  # F20: only what is left
    assert answer.order is not None
    assert (answer.state, answer.order.base_size, position.exit_reason) == ("closed", Decimal("0.6"), "manual")


def test_f21_a_part_sold_at_market_cancels_the_resting_close_first(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    resting = resting_close(outside, position)
    outside.venue.fill(resting.client_order_id, "0.5")  # not noticed by us yet
    answer = manual.close_at_market(position, ANN, base=Decimal("0.2"))
    resting.refresh_from_db()
    assert (resting.status, answer.state, position.base_held) == ("cancelled", "reduced", Decimal("0.3"))


def test_f29_a_rest_too_small_to_trade_is_sold_along(quoted: Desk) -> None:
    position = quoted.open("100")
    answer = manual.close_at_market(position, ANN, base=Decimal("0.995"))  # 0.005 is below the smallest order
    assert answer.order is not None
    assert (answer.state, answer.order.base_size) == (CloseState.CLOSED, Decimal(1))


@pytest.mark.parametrize(
    ("size", "field"),
    [
        ({"base": "1.001"}, "base"),
        ({"base": "0"}, "base"),
        ({"base": "-1"}, "base"),
        ({"base": "NaN"}, "base"),
        ({"base": "1e400"}, "base"),
        ({"base": "0.001"}, "base"),  # below the smallest order
        ({"share_pct": "100.5"}, "share_pct"),
        ({"share_pct": "0"}, "share_pct"),
        ({"share_pct": "0.1"}, "share_pct"),
        ({"base": "0.5", "share_pct": "50"}, "share_pct"),
    ],
)
def test_f23_a_part_that_is_not_possible_names_its_field(outside: Desk, size: dict[str, str], field: str) -> None:
    position = outside.open("100")
    with wrong(field):
        manual.close_at_market(position, ANN, **{name: Decimal(value) for name, value in size.items()})
    position.refresh_from_db()
    assert (position.status, position.base_held) == (PositionStatus.OPEN, Decimal(1))


def test_f23_a_part_that_is_too_large_leaves_the_resting_close_alone(outside: Desk) -> None:
    position = outside.open("100")
    resting = resting_close(outside, position)
    with wrong("base"):
        manual.close_at_market(position, ANN, base=Decimal(2))
    resting.refresh_from_db()
    assert resting.status == OrderStatus.OPEN


def test_a_preview_without_a_price_says_so(paper: Desk) -> None:
    unlisted = ProductFactory(symbol="DOGE-USD")
    position = PositionFactory(open=True, bot=paper.bot, product=unlisted)
    FillFactory(order=OrderFactory(position=position))
    with pytest.raises(MissingInformation):
        preview.close_preview(position)
