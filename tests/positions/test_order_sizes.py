"""What an order is for: sizes and prices at the product's steps, minimums, the free balance, and what is left over."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from decimal import Decimal

import pytest

from accounts.models import PaperBalance
from positions import booking, execution
from positions.booking import ref_of
from positions.execution import Intent
from positions.intents import means
from positions.models import Order, Position
from positions.states import Direction, ExitReason, OrderStatus, OrderType, PositionStatus, Purpose
from tests.positions.conftest import MOMENT, Desk
from tests.positions.helpers import refused
from tests.positions.outside import Fault
from tradebot.core import clock
from tradebot.core.errors import OrderRefused, VenueUnavailable, VenueUnknown
from tradebot.core.scoping import detached

# Sizes and prices -----------------------------------------------------------------------------------------------------


def test_f24_sizes_and_buy_prices_are_floored_and_sell_prices_raised(outside: Desk) -> None:
    order = outside.open_limit("1.0009999", "90.019")
    assert (order.base_size, order.limit_price) == (Decimal("1"), Decimal("90.01"))
    assert outside.venue is not None
    outside.venue.fill(order.client_order_id, "1")
    report = outside.venue.find(ref_of(order))
    assert report is not None
    execution.apply_report(order, report)
    sell = {"order_type": OrderType.LIMIT, "limit_price": Decimal("110.001"), "base_size": Decimal("0.5559")}
    close = outside.place(order.position, Purpose.TAKE_PROFIT, **sell)
    assert (close.base_size, close.limit_price) == (Decimal("0.555"), Decimal("110.01"))


def test_f24_whole_number_increments_are_floored_too(outside: Desk) -> None:
    with detached("test data"):
        outside.product.base_increment = outside.product.min_base = Decimal(1)
        outside.product.save()
    assert outside.open_limit("7.99", "90").base_size == 7


def test_f25_a_fee_taken_in_base_makes_the_last_sell_smaller(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.fee_in_base = True
    position = outside.open("100")
    assert position.base_held == Decimal("0.994")
    order = outside.place(position, Purpose.TAKE_PROFIT)
    assert (order.base_size, order.status) == (Decimal("0.994"), OrderStatus.FILLED)
    assert (order.position.status, outside.venue.wallet["BTC"]) == ("closed", 0)


def test_an_unknown_price_means_no_new_order(outside: Desk) -> None:
    intent = Intent(purpose=Purpose.BASE_ORDER, sequence=1, quote_size=Decimal(100))
    with refused("missing_price"):
        outside.intend_open(intent=intent)


def test_f27_an_amount_below_the_minimum_is_refused_with_the_numbers(outside: Desk) -> None:
    with pytest.raises(OrderRefused) as caught:
        outside.intend_open("4.99")
    assert (caught.value.code, caught.value.detail) == (
        "below_minimum",
        {"asked": Decimal("4.99"), "minimum": Decimal(5), "currency": "USD"},
    )
    small = Intent(
        purpose=Purpose.BASE_ORDER, sequence=1, base_size=Decimal("0.0099"), reference_price=Decimal(100_000)
    )
    with pytest.raises(OrderRefused, check=lambda error: error.detail["currency"] == "BTC"):
        outside.intend_open(intent=small)
    assert not Order.objects.exists()
    assert not Position.objects.exists()


def test_f29_a_remainder_too_small_to_trade_closes_at_its_current_value(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.price = Decimal(4)  # one BTC is now worth less than the smallest order
    with refused("closed_as_dust"):
        execution.intend(position, Intent(purpose=Purpose.STOP_LOSS, sequence=1, reference_price=outside.venue.price))
    position.refresh_from_db()
    assert (position.status, position.exit_reason, position.dust_price) == ("closed", "dust", 4)
    assert position.realised_quote == Decimal(4) - Decimal("100.6")
    assert position.realised_pct is not None
    assert Decimal("-97") < position.realised_pct < Decimal("-96")
    assert len(outside.venue.arrivals) == 1


def test_f29_what_a_close_leaves_below_the_minimum_is_valued_not_written_off(outside: Desk) -> None:
    position = outside.open("100")
    order = outside.place(position, Purpose.TAKE_PROFIT, base_size=Decimal("0.995"))
    position = order.position
    assert (position.status, position.exit_reason) == (PositionStatus.CLOSED, ExitReason.TAKE_PROFIT)
    assert (position.base_held, position.dust_price) == (Decimal("0.005"), 100)
    assert position.realised_quote == Decimal("99.5") * Decimal("0.994") + Decimal("0.5") - Decimal("100.6")


def test_f20_a_later_close_sells_only_what_is_left(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    first = outside.place(position, Purpose.TAKE_PROFIT, order_type=OrderType.LIMIT, limit_price=Decimal(110))
    outside.venue.fill(first.client_order_id, "0.7")
    execution.cancel(first, "bot")
    assert first.position.status == PositionStatus.OPEN
    last = outside.place(position, Purpose.TAKE_PROFIT, 2, base_size=Decimal(1))
    assert (last.base_size, last.position.status) == (Decimal("0.3"), PositionStatus.CLOSED)


# Balances -------------------------------------------------------------------------------------------------------------


def test_f36_an_entry_leaves_alone_what_open_deals_hold(paper: Desk) -> None:
    long = paper.open("100")
    coins = PaperBalance.objects.get(currency="BTC").total
    everything = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=coins)
    with refused("insufficient_balance"):
        paper.intend_open(intent=everything, direction=Direction.SHORT)
    rest = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=coins - long.base_held)
    assert paper.intend_open(intent=rest, direction=Direction.SHORT).base_size == coins - long.base_held


def test_a_close_that_rests_is_not_counted_twice(paper: Desk) -> None:
    """What it holds is not free already; the rest of the deal's base is not free because it is the deal's (F31)."""
    long = paper.open("100")
    coins = PaperBalance.objects.get(currency="BTC").total
    paper.place(long, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=Decimal(900_000))
    rest = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=coins - long.base_held)
    assert paper.intend_open(intent=rest, direction=Direction.SHORT).base_size == coins - long.base_held


def test_an_entry_leaves_alone_what_open_shorts_buy_back_with(paper: Desk) -> None:
    intent = Intent(purpose=Purpose.BASE_ORDER, sequence=1, base_size=Decimal("0.1"))
    short = execution.submit(paper.intend_open(intent=intent, direction=Direction.SHORT)).position
    free = PaperBalance.objects.get(currency="USD").free
    need = max(Decimal("0.1") * (booking.mark_of(short) or 0) * Decimal("1.006"), short.quote_received)
    with refused("insufficient_balance"):
        paper.intend_open(str(free / Decimal("1.007")))
    assert paper.intend_open(str((free - need) / Decimal("1.007"))).status == OrderStatus.INTENDED


def test_orders_on_their_way_count_against_the_balance(outside: Desk) -> None:
    assert outside.venue is not None
    outside.venue.wallet["USD"] = Decimal(250)
    limits = {"max_active_deals": 5, "max_deals_per_pair": 5}
    outside.venue.fail("place", VenueUnknown())
    execution.submit(outside.intend_open("100", **limits))
    outside.intend_open("100", **limits)
    with pytest.raises(OrderRefused) as caught:
        outside.intend_open("100", **limits)
    assert caught.value.detail == {"needed": Decimal("100.6"), "free": Decimal("48.8"), "currency": "USD"}


def test_a_wallet_with_a_little_less_sells_what_there_is_and_notes_it(outside: Desk) -> None:
    assert outside.venue is not None
    position = outside.open("100")
    outside.venue.wallet["BTC"] -= Decimal("0.004")
    order = outside.place(position, Purpose.STOP_LOSS)
    assert order.filled_base == Decimal("0.996")
    position = order.position
    assert (position.error_code, position.status) == ("wallet_short", "closed")  # the rest is below the minimum
    assert position.dust_price == 100


def test_an_unknown_balance_holds_no_close_up(outside: Desk) -> None:
    assert outside.venue is not None
    order = outside.intend_open("100")
    with clock.at(MOMENT + timedelta(seconds=1)):
        position = execution.submit(order).position
        outside.venue.fail("balances", VenueUnavailable())  # so what is known is older than the deal's coins
        assert outside.place(position, Purpose.STOP_LOSS).position.status == PositionStatus.CLOSED


def test_money_is_spent_on_a_recent_word_of_the_exchange_only(outside: Desk) -> None:
    assert outside.venue is not None
    outside.ask()
    outside.venue.fail("balances", VenueUnavailable())
    with clock.at(MOMENT + means.ENTRY_AGE + timedelta(seconds=1)), refused("balance_unknown"):
        outside.intend_open()


def test_f10_what_was_ordered_since_the_exchange_was_asked_is_not_free(outside: Desk) -> None:
    """Filled, resting or unanswered: the answer that is known shows none of it."""
    assert outside.venue is not None
    outside.venue.wallet = {"USD": Decimal(1000)}
    outside.ask()
    many = {"max_active_deals": 9, "max_deals_per_pair": 9}
    with clock.at(MOMENT + timedelta(seconds=1)):
        outside.venue.faults["balances"] = deque(Fault(VenueUnavailable(), False) for _ in range(9))
        outside.open("300", **many)
        outside.open_limit("3", "90", **many)
        outside.venue.fail("place", VenueUnknown())
        outside.open("200", **many)
        with refused("insufficient_balance"):
            outside.intend_open("240", **many)
        free = execution.free_balance(outside.account, "USD")
        assert 1000 - 300 - 270 - 200 - 10 < free < 1000 - 300 - 270 - 200


def test_an_unknown_balance_means_no_new_order(outside: Desk) -> None:
    assert outside.venue is not None
    for call in ("balances", "fees"):
        outside.venue.fail(call, VenueUnavailable())
        with refused("balance_unknown"):
            outside.intend_open()
    assert not Position.objects.exists()
