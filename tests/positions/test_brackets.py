"""Take profit and stop of perpetual deals: placed after the fill, one ends the other, loud when they do not stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts import perps_settings
from accounts.exchanges import factory as exchanges
from accounts.exchanges.base import ForcedClose, OrderReport
from accounts.models import Account
from marketdata import prices
from marketdata.models import Product
from marketdata.sources.base import Quote
from notifications.models import Event
from positions import brackets, manual, perps
from positions.brackets import ALARM, legs_of
from positions.cards import deal_card
from positions.models import Bracket, Order, Position
from positions.perps_loop import tend_account
from positions.perps_news import DIFFERS, GRACE
from positions.states import Direction, ExitReason, OrderStatus, PositionStatus, Purpose
from tests.accounts.helpers import price
from tests.factories import AccountFactory, ProductFactory
from tests.positions.conftest import MOMENT
from tests.positions.outside import Killed
from tests.positions.outside_perps import OutsidePerps
from tests.positions.test_perps import Futures
from tests.positions.test_perps import desk as paper_desk
from tradebot.core import clock
from tradebot.core.decimals import ZERO
from tradebot.core.errors import InvalidInput, OrderRefused, VenueRejected, VenueUnavailable, VenueUnknown
from tradebot.core.scoping import acting_for_account, detached

D = Decimal
LONG, SHORT = Direction.LONG, Direction.SHORT
STOP, PROFIT = Purpose.BRACKET_STOP, Purpose.BRACKET_PROFIT
desk = paper_desk


@dataclass
class Outside:
    """An account at an exchange outside of our process, with a perpetual at 100."""

    account: Account
    product: Product
    venue: OutsidePerps

    def tell(self, at: int | str) -> None:
        self.venue.price = D(at)
        prices.remember("coinbase", [Quote(self.product.symbol, D(at), D(at), D(at), clock.now())])

    def open(self, direction: Direction = LONG, **asked: Any) -> Position:
        wanted = {"base": D(1), "leverage": 5, "take_profit": D(110), "stop_loss": D(95)} | asked
        if direction is SHORT:
            wanted |= {"take_profit": D(90), "stop_loss": D(105)} | asked
        return perps.open_position(self.account, self.product, direction, actor="a@example.com", **wanted).position

    def tend(self, seconds: float = 0) -> None:
        with clock.at(clock.now() + timedelta(seconds=seconds)):
            tend_account(self.account.pk)

    def notes(self) -> list[dict[str, Any]]:
        with detached("test"):
            return [event.payload for event in Event.objects.filter(kind="notification").order_by("id")]


@pytest.fixture
def outside(db: None) -> Iterator[Outside]:
    with clock.at(MOMENT):
        account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange="coinbase")
        product = ProductFactory(
            exchange="coinbase",
            symbol="BTC-USD-PERP",
            kind="perpetual",
            base_increment=D("0.001"),
            min_base=D("0.001"),
            min_quote=5,
        )
        venue = OutsidePerps(account.pk)
        venue.wallet = {"USD": D(10_000)}
        exchanges.register("coinbase", lambda _account: venue)
        try:
            with acting_for_account(account.pk):
                perps_settings.update(account, "a", enabled=True)
                made = Outside(account, product, venue)
                made.tell(100)
                yield made
        finally:
            exchanges.register("coinbase", None)


def fresh(position: Position) -> Position:
    found: Position = Position.objects.select_related("product", "account", "bracket").get(pk=position.pk)
    return found


# Standing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [LONG, SHORT])
def test_both_legs_stand_reduce_only_as_soon_as_the_position_is_open(outside: Outside, direction: Direction) -> None:
    deal = fresh(outside.open(direction))
    legs = legs_of(deal)
    assert {purpose: order.status for purpose, order in legs.items()} == {STOP: "open", PROFIT: "open"}
    assert deal.status == PositionStatus.OPEN  # a bracket is no close under way
    placed = outside.venue.resting()
    assert [(one.reduce_only, one.base_size, one.side) for one in placed] == [(True, D(1), direction.exit_side)] * 2
    assert {one.trigger_price or one.limit_price for one in placed} == (
        {D(95), D(110)} if direction is LONG else {D(105), D(90)}
    )
    opening = next(one.placed for one in outside.venue.orders.values() if not one.placed.reduce_only)
    assert (opening.leverage, opening.margin_mode, opening.quote_size) == (5, "isolated", None)
    assert deal.error_code == ""


def test_a_live_account_trades_perpetuals_only_after_somebody_switched_them_on(outside: Outside) -> None:
    perps_settings.settings_of(outside.account).delete()
    with pytest.raises(OrderRefused) as refused:
        outside.open()
    assert refused.value.code == "perpetuals_off"


def test_a_venue_without_perpetuals_is_refused_before_anything_is_written(outside: Outside) -> None:
    from accounts.exchanges.base import Capabilities

    outside.venue.capabilities = Capabilities("Spot only")
    with pytest.raises(OrderRefused) as refused:
        outside.open()
    assert (refused.value.code, refused.value.message) == (
        "perpetuals_not_offered",
        "Spot only offers no perpetual futures here.",
    )
    assert not Position.objects.exists()


@pytest.mark.parametrize(("purpose", "reason"), [(PROFIT, ExitReason.TAKE_PROFIT), (STOP, ExitReason.STOP_LOSS)])
def test_the_fill_of_one_leg_cancels_the_other(outside: Outside, purpose: Purpose, reason: ExitReason) -> None:
    deal = outside.open()
    legs = legs_of(deal)
    outside.venue.fill(legs[purpose].client_order_id, "1", D(110 if purpose is PROFIT else 94))
    outside.tend()
    deal = fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, reason)
    assert legs_of(deal) == {}
    assert outside.venue.resting() == []


def test_f19_a_partly_filled_take_profit_shrinks_the_stop(outside: Outside) -> None:
    deal = outside.open()
    outside.venue.fill(legs_of(deal)[PROFIT].client_order_id, "0.4", D(110))
    outside.tend()
    legs = legs_of(fresh(deal))
    assert (legs[STOP].base_size, legs[STOP].sequence) == (D("0.6"), 2)
    assert legs[PROFIT].sequence == 1
    assert {one.trigger_price: one.base_size for one in outside.venue.resting() if one.trigger_price} == {
        D(95): D("0.6")
    }


def test_a_close_by_hand_takes_the_bracket_with_it(outside: Outside) -> None:
    deal = outside.open()
    closing = manual.close_at_market(deal, "a")
    assert closing.state is manual.CloseState.CLOSED
    assert (fresh(deal).status, outside.venue.resting()) == (PositionStatus.CLOSED, [])


def test_a_part_closed_by_hand_leaves_the_rest_protected(outside: Outside) -> None:
    deal = outside.open()
    closing = manual.close_at_market(deal, "a", base=D("0.25"))
    assert closing.state is manual.CloseState.REDUCED
    assert {purpose: order.base_size for purpose, order in legs_of(fresh(deal)).items()} == {
        STOP: D("0.75"),
        PROFIT: D("0.75"),
    }


# Changing -------------------------------------------------------------------------------------------------------------


def test_modifying_replaces_what_changed_and_leaves_the_rest(outside: Outside) -> None:
    deal = outside.open()
    answer = perps.change_bracket(deal, "a", take_profit=D(110), stop_loss=D("97.5"))
    assert "stand as wanted" in answer.message
    legs = legs_of(deal)
    assert (legs[STOP].trigger_price, legs[STOP].sequence, legs[PROFIT].sequence) == (D("97.5"), 2, 1)
    perps.change_bracket(deal, "a", take_profit=None, stop_loss=D("97.5"))
    assert set(legs_of(deal)) == {STOP}
    assert len(outside.venue.resting()) == 1


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"take_profit": D(99), "stop_loss": None}, "take_profit"),
        ({"take_profit": None, "stop_loss": D(101)}, "stop_loss"),
        ({"take_profit": D("1e400"), "stop_loss": None}, "take_profit"),
        ({"take_profit": None, "stop_loss": D(0)}, "stop_loss"),
    ],
)
def test_f23_a_bracket_on_the_wrong_side_changes_nothing(outside: Outside, asked: dict[str, Any], field: str) -> None:
    deal = outside.open()
    with pytest.raises(InvalidInput) as error:
        perps.change_bracket(deal, "a", **asked)
    assert error.value.field == field
    assert {order.sequence for order in legs_of(deal).values()} == {1}


# The alarm ------------------------------------------------------------------------------------------------------------


def test_a_bracket_that_cannot_be_placed_is_a_loud_alarm_and_is_tried_until_it_stands(outside: Outside) -> None:
    refuse(outside)
    deal = fresh(outside.open())
    assert deal.status == PositionStatus.OPEN
    assert (deal.error_code, deal.bracket.alarm_code) == (ALARM, "bad_price")
    assert "stop 95" in deal.last_error
    card = deal_card(deal)
    assert card.needs_you
    assert [badge.text for badge in card.badges if badge.kind == "failed"] == ["Not protected"]
    (note,) = outside.notes()
    assert (note["level"], note["position_id"]) == ("error", deal.pk)
    assert "is not protected" in note["message"]
    outside.tend(seconds=1)  # too early to try again
    assert Order.objects.filter(purpose=STOP).count() == 1
    refuse(outside)
    outside.tend(seconds=6)  # the same again: tried, not told again
    assert (Order.objects.filter(purpose=STOP).count(), len(outside.notes())) == (2, 1)
    outside.tend(seconds=60)
    deal = fresh(deal)
    assert (deal.error_code, deal.bracket.alarm_code, deal.bracket.failures) == ("", "", 0)
    assert set(legs_of(deal)) == {STOP, PROFIT}
    assert [one["level"] for one in outside.notes()] == ["error", "info"]


def refuse(outside: Outside) -> None:
    """Let the venue refuse the next stop."""
    real = outside.venue.place

    def place(order: Any) -> OrderReport:
        if order.trigger_price is not None:
            outside.venue.place = real  # type: ignore[method-assign]
            raise VenueRejected("bad_price", "The venue does not like it.")
        return real(order)

    outside.venue.place = place  # type: ignore[method-assign]


def test_f5_a_leg_whose_answer_was_lost_alarms_and_is_found_not_resent(outside: Outside) -> None:
    real = outside.venue.place

    def place(order: Any) -> OrderReport:
        report = real(order)
        if order.trigger_price is not None:
            outside.venue.place = real  # type: ignore[method-assign]
            raise VenueUnknown("timeout")
        return report

    outside.venue.place = place  # type: ignore[method-assign]
    deal = fresh(outside.open())
    assert deal.bracket.alarm_code == "unconfirmed"
    outside.tend(seconds=10)
    deal = fresh(deal)
    assert (deal.error_code, set(legs_of(deal))) == ("", {STOP, PROFIT})
    assert [one.placed.trigger_price for one in outside.venue.orders.values()].count(D(95)) == 1


@pytest.mark.parametrize("calls", [1, 2])
def test_f14_a_kill_between_the_fill_and_the_bracket_leaves_the_loop_to_place_it(outside: Outside, calls: int) -> None:
    """``calls``: the process dies at the first leg, or at the second one."""
    real, left = outside.venue.place, [calls]

    def place(order: Any) -> OrderReport:
        if order.reduce_only:
            left[0] -= 1
            if not left[0]:
                raise Killed
        return real(order)

    outside.venue.place = place  # type: ignore[method-assign]
    with pytest.raises(Killed):
        outside.open()
    outside.venue.place = real  # type: ignore[method-assign]
    deal = Position.objects.get()
    assert len(outside.venue.resting()) == calls - 1
    for seconds in (1, 40, 120, 200):  # the leg that died was marked as sent: it is asked for, then placed anew
        outside.tend(seconds=seconds)
    deal = fresh(deal)
    assert set(legs_of(deal)) == {STOP, PROFIT}
    assert (deal.status, deal.error_code) == (PositionStatus.OPEN, "")
    assert len(outside.venue.resting()) == 2


def test_f14_a_kill_before_the_opening_fill_is_known_still_ends_protected(outside: Outside) -> None:
    outside.venue.fail("place", Killed(), done=True)
    with pytest.raises(Killed):
        outside.open()
    deal = Position.objects.get()
    assert deal.status == PositionStatus.PENDING
    outside.tend()
    assert fresh(deal).status == PositionStatus.OPEN
    assert len(outside.venue.resting()) == 2


def test_a_venue_that_is_away_does_not_keep_a_passed_stop_waiting(outside: Outside) -> None:
    refuse(outside)
    deal = outside.open()
    outside.tell(94)
    outside.venue.fail("positions", VenueUnavailable("down"))
    with pytest.raises(VenueUnavailable):
        outside.tend()
    deal = fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.STOP_LOSS)
    assert outside.venue.resting() == []


# Venues without stops -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [LONG, SHORT])
def test_where_the_venue_keeps_no_stops_it_is_watched_from_here(outside: Outside, direction: Direction) -> None:
    outside.venue.without_stops()
    deal = fresh(outside.open(direction))
    assert (set(legs_of(deal)), deal.bracket.watched, deal.error_code) == ({PROFIT}, True, "")
    outside.tell(96 if direction is LONG else 104)
    outside.tend()
    assert fresh(deal).status == PositionStatus.OPEN
    outside.tell(95 if direction is LONG else 105)
    outside.tend()
    deal = fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.STOP_LOSS)
    assert outside.venue.resting() == []


def test_a_watched_stop_without_a_price_is_an_alarm(outside: Outside) -> None:
    outside.venue.without_stops()
    deal = outside.open()
    outside.tend(seconds=600)  # the last price is ten minutes old
    deal = fresh(deal)
    assert (deal.error_code, deal.bracket.alarm_code) == (ALARM, "no_price")
    with clock.at(clock.now() + timedelta(seconds=610)):
        outside.tell(100)
        tend_account(outside.account.pk)
    assert fresh(deal).error_code == ""


# What the venue says --------------------------------------------------------------------------------------------------


def test_a_liquidation_elsewhere_is_booked_once(outside: Outside) -> None:
    deal = outside.open()
    outside.venue.liquidate(81)
    for _ in range(2):
        outside.tend()
    deal = fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.LIQUIDATION)
    assert deal.fills.filter(order__purpose=Purpose.LIQUIDATION).count() == 1
    assert deal.realised_quote == D(-19) - D("0.6") - D(1)
    assert isinstance(outside.venue.forced[0], ForcedClose)


def test_f11_a_position_that_differs_is_told_at_the_second_look_and_never_adopted(outside: Outside) -> None:
    deal = outside.open()
    outside.venue.base = D("0.5")  # somebody sold half of it at the venue
    outside.tend()
    assert fresh(deal).error_code == ""
    outside.tend(seconds=GRACE.total_seconds() + 1)
    deal = fresh(deal)
    assert (deal.error_code, deal.base_held) == (DIFFERS, D(1))
    assert len([note for note in outside.notes() if note["code"] == DIFFERS]) == 1
    outside.venue.base = D(1)
    outside.tend(seconds=70)
    assert fresh(deal).error_code == ""


def test_a_position_that_is_gone_can_be_given_up_once_that_is_certain(outside: Outside) -> None:
    deal = outside.open()
    outside.venue.base = ZERO
    for seconds in (0, GRACE.total_seconds() + 1):
        outside.tend(seconds=seconds)
    manual.cancel_deal(deal, "a")
    assert fresh(deal).status == PositionStatus.CANCELLED
    assert outside.venue.resting() == []
    assert fresh(deal).perps_terms.ended_at is not None


# On paper -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "at"), [(LONG, 94), (SHORT, 106)])
def test_a_paper_stop_closes_the_deal_through_the_same_reports(desk: Futures, direction: Direction, at: int) -> None:
    up = direction.sign
    deal = desk.open(direction, take_profit=D(100 + 10 * up), stop_loss=D(100 - 5 * up))
    assert set(legs_of(deal)) == {STOP, PROFIT}
    desk.tell(at)
    tend_account(desk.account.pk)
    deal = desk.fresh(deal)
    assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.STOP_LOSS)
    assert {order.status for order in deal.orders.filter(purpose=PROFIT)} == {OrderStatus.CANCELLED}


def test_a_restart_changes_nothing_and_places_nothing(desk: Futures) -> None:
    deal = desk.open(take_profit=D(110), stop_loss=D(95))
    before = list(Order.objects.order_by("pk").values())
    for _ in range(3):
        tend_account(desk.account.pk)
        brackets.sync(deal, now=True)
    assert list(Order.objects.order_by("pk").values()) == before
    assert Bracket.objects.count() == 1


def test_without_a_bracket_nothing_is_placed_and_nothing_alarms(desk: Futures) -> None:
    deal = desk.open()
    price(100, 100, "BTC-USD-PERP")
    tend_account(desk.account.pk)
    assert (legs_of(deal), desk.fresh(deal).error_code) == ({}, "")
