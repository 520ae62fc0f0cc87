"""Read-only and stopped accounts, and limits: what passes under the account's lock, and what does not."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Account, TradingLimits
from positions import daymarks, execution, manual, standstill
from positions.execution import Intent
from positions.models import DayMark, Order, Position
from positions.states import OrderStatus, OrderType, Purpose
from tests.factories import PositionFactory, TradingLimitsFactory
from tests.positions.conftest import MOMENT, Desk
from tests.positions.helpers import refused
from tradebot.core import clock
from tradebot.core.scoping import detached

D = Decimal


def move(desk: Desk, state: str) -> None:
    Account.objects.filter(pk=desk.account.pk).update(trading_state=state)


def limit(desk: Desk, **limits: Any) -> TradingLimits:
    row: TradingLimits = TradingLimitsFactory(account=desk.account, **limits)
    return row


def mark_days() -> int:
    """Run the loop, as its task does: without the desk's scope."""
    with detached("test runs a loop"):
        return daymarks.mark_all()


def take_back() -> int:
    with detached("test runs a loop"):
        return standstill.cancel_entries_of_stopped()


# States ---------------------------------------------------------------------------------------------------------------


def test_a_read_only_account_opens_nothing(quoted: Desk) -> None:
    move(quoted, "read_only")
    with refused("account_read_only"):
        quoted.intend_open()
    assert not Position.objects.exists()


def test_a_stopped_account_opens_and_adds_nothing_whoever_asks(quoted: Desk) -> None:
    deal = quoted.open()
    move(quoted, "killed")
    with refused("account_stopped"):
        quoted.place(deal, Purpose.SAFETY_ORDER, quote_size=D(50))
    with refused("account_stopped"):
        quoted.place(deal, Purpose.MANUAL_ADD, quote_size=D(50), actor="a person")
    Account.objects.filter(pk=quoted.account.pk).update(trading_state="armed")
    assert quoted.place(deal, Purpose.MANUAL_ADD, quote_size=D(50)).status == OrderStatus.FILLED


@pytest.mark.parametrize("state", ["read_only", "killed"])
def test_f63_what_only_reduces_risk_passes_in_any_state(quoted: Desk, state: str) -> None:
    deal = quoted.open()
    limit(quoted, largest_order=D(1), daily_loss=D(1), max_open_deals=1)
    move(quoted, state)

    assert manual.close_at_market(deal, "a person").state == manual.CloseState.CLOSED


def test_a_paper_account_is_never_read_only_but_can_be_stopped(paper: Desk) -> None:
    move(paper, "read_only")
    assert paper.open().status == "open"
    move(paper, "killed")
    with refused("account_stopped"):
        paper.intend_open(max_active_deals=2, max_deals_per_pair=2)


def test_entries_that_rest_on_a_stopped_account_are_taken_back_and_closes_are_not(quoted: Desk) -> None:
    deal = quoted.open()
    close = quoted.place(deal, Purpose.LIMIT_CLOSE, order_type=OrderType.LIMIT, limit_price=D(200))
    entry = quoted.open_limit("1", "50", max_active_deals=2, max_deals_per_pair=2)
    unsent = quoted.intend_open(max_active_deals=3, max_deals_per_pair=3)
    assert standstill.cancel_entries(quoted.account.pk) == 0
    move(quoted, "killed")

    assert take_back() == 2

    assert {order.pk: order.status for order in Order.objects.filter(pk__in=[close.pk, entry.pk, unsent.pk])} == {
        close.pk: OrderStatus.OPEN,
        entry.pk: OrderStatus.CANCELLED,
        unsent.pk: OrderStatus.CANCELLED,
    }
    assert take_back() == 0


# The largest order ----------------------------------------------------------------------------------------------------


def test_an_order_above_the_limit_is_refused_with_the_numbers(quoted: Desk) -> None:
    limit(quoted, largest_order=D("99.99"))
    with refused("order_too_large") as caught:
        quoted.intend_open("100")
    assert (caught.value.detail["asked"], caught.value.detail["limit"]) == (D(100), D("99.99"))

    assert quoted.open("99").status == "open"


def test_the_largest_order_may_be_a_share_of_the_account(paper: Desk) -> None:
    """10,000 USD and half a bitcoin: at the present price the account is worth more than the dollars alone."""
    limit(paper, largest_order_pct=D(1))
    with refused("order_too_large") as caught:
        paper.intend_open("5000")
    assert D(100) < caught.value.detail["limit"] < D(5000)


def test_a_limit_in_a_currency_without_a_price_blocks(quoted: Desk) -> None:
    limit(quoted, largest_order=D(1000), currency="GBP")
    with refused("limit_unknown"):
        quoted.intend_open("100")


def test_a_limit_in_coins_is_worked_out_at_the_present_price(quoted: Desk) -> None:
    limit(quoted, largest_order=D(1), currency="BTC")
    with refused("order_too_large"):
        quoted.intend_open("101")
    assert quoted.open("99").status == "open"


# Open deals -----------------------------------------------------------------------------------------------------------


def test_no_more_deals_than_the_owner_allows_whatever_the_bots_do(quoted: Desk) -> None:
    limit(quoted, max_open_deals=1)
    deal = quoted.open()
    with refused("open_deals_limit"):
        quoted.intend_open(max_active_deals=5, max_deals_per_pair=5)
    assert quoted.place(deal, Purpose.SAFETY_ORDER, quote_size=D(50)).status == OrderStatus.FILLED


# The day's loss -------------------------------------------------------------------------------------------------------


def test_a_daily_limit_blocks_until_the_day_is_marked(quoted: Desk) -> None:
    limit(quoted, daily_loss=D(50))
    with refused("limit_unknown"):
        quoted.intend_open()
    mark_days()
    assert quoted.open().status == "open"


def test_what_is_lost_today_counts_realised_and_unrealised(quoted: Desk) -> None:
    limit(quoted, daily_loss=D(50))
    mark_days()
    quoted.open("1000")
    quoted.tell(97)
    assert -D(50) < daymarks.result_of_day(quoted.account, "USD").amount < -D(40)
    quoted.tell(94)
    with refused("daily_loss_reached") as caught:
        quoted.intend_open(max_active_deals=2, max_deals_per_pair=2)
    assert caught.value.detail["lost"] > D(60)

    manual.close_at_market(Position.objects.get(), "a person")
    with refused("daily_loss_reached"):
        quoted.intend_open(max_active_deals=2, max_deals_per_pair=2)


def test_a_deal_that_was_under_water_yesterday_does_not_count_again_today(quoted: Desk) -> None:
    limit(quoted, daily_loss=D(50))
    mark_days()
    quoted.open("1000")
    quoted.tell(90)
    mark_days()
    with refused("daily_loss_reached"):
        quoted.intend_open(max_active_deals=2, max_deals_per_pair=2)

    with clock.at(MOMENT + timedelta(days=1)):
        quoted.tell(90)
        assert quoted.intend_open(max_active_deals=2, max_deals_per_pair=2).status == OrderStatus.INTENDED
        mark_days()
        assert daymarks.result_of_day(quoted.account, "USD").amount == 0


def test_the_day_is_the_owners(quoted: Desk) -> None:
    owner = quoted.account.owner
    owner.timezone = "Pacific/Auckland"  # 13 hours ahead: there it is the next day already
    owner.save()
    limit(quoted, daily_loss=D(50))
    mark_days()
    assert DayMark.objects.get().day == MOMENT.date() + timedelta(days=1)


def test_a_loss_without_the_loop_is_not_missed(quoted: Desk) -> None:
    """The machine was off over midnight: the day is counted from the last figure that is known."""
    quoted.open("1000")
    limit(quoted, daily_loss=D(50))
    mark_days()
    with clock.at(MOMENT + timedelta(days=1)):
        quoted.tell(90)
        mark_days()
        with refused("daily_loss_reached"):
            quoted.intend_open(max_active_deals=2, max_deals_per_pair=2)


def test_giving_a_losing_deal_up_hides_nothing(quoted: Desk) -> None:
    limit(quoted, daily_loss=D(50))
    mark_days()
    deal = quoted.open("1000")
    quoted.tell(90)
    manual.cancel_deal(deal, "a person")
    with refused("daily_loss_reached"):
        quoted.intend_open()


def test_f34_a_price_that_is_not_known_blocks_a_daily_limit(quoted: Desk) -> None:
    limit(quoted, daily_loss=D(50))
    mark_days()
    quoted.open("1000")
    with clock.at(MOMENT + timedelta(minutes=10)), refused("limit_unknown"):
        quoted.intend_open(
            max_active_deals=2,
            max_deals_per_pair=2,
            intent=Intent(purpose=Purpose.BASE_ORDER, sequence=1, quote_size=D(100), reference_price=D(100)),
        )


def test_a_deal_of_yesterday_that_closes_today_counts_what_it_lost_today(quoted: Desk) -> None:
    quoted.open("1000")
    limit(quoted, daily_loss=D(50))
    quoted.tell(90)
    mark_days()
    with clock.at(MOMENT + timedelta(days=1)):
        quoted.tell(90)
        mark_days()
        quoted.tell(88)
        manual.close_at_market(Position.objects.get(), "a person")
        lost = daymarks.result_of_day(quoted.account, "USD").amount
    assert -D(25) < lost < -D(15)


def test_marks_go_with_the_limit_that_needs_them(quoted: Desk) -> None:
    row = limit(quoted, daily_loss=D(50))
    mark_days()
    assert DayMark.objects.count() == 1
    row.delete()
    mark_days()
    assert DayMark.objects.count() == 0


def test_f67_an_account_that_cannot_be_marked_keeps_no_other_one(quoted: Desk) -> None:
    limit(quoted, daily_loss=D(50))
    broken = PositionFactory(open=True, product__exchange="coinbase", product__symbol="NONE-USD")
    TradingLimitsFactory(account=broken.account, daily_loss=D(50))
    assert mark_days() >= 1


def test_f62_two_orders_at_once_do_not_both_pass_a_limit_for_one(quoted: Desk) -> None:
    """The check counts under the account's lock, in the transaction that writes the order."""
    limit(quoted, max_open_deals=1)
    execution.submit(quoted.intend_open(max_active_deals=9, max_deals_per_pair=9))
    with refused("open_deals_limit"):
        quoted.intend_open(max_active_deals=9, max_deals_per_pair=9)
