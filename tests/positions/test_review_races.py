"""Two people, or a person and the cycle, at the same deal between two statements of a service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Account
from bots import services
from bots.models import Bot
from positions import execution, funds, handling, limit_close, manual, reconcile
from positions.booking import conclude
from positions.execution import Intent
from positions.models import Order, Position
from positions.states import OrderStatus, PositionStatus, Purpose
from tests.factories import AccountFactory, BotFactory, ProductFactory
from tests.positions.conftest import MOMENT, Desk
from tests.positions.helpers import in_threads
from tests.positions.outside import OutsideVenue
from tradebot.core.errors import InvalidInput, OrderRefused, VenueUnknown
from tradebot.core.scoping import acting_for_account, detached

pytestmark = pytest.mark.django_db(transaction=True)

ANN = "ann@example.com"
D = Decimal


@pytest.fixture
def venue(outside: Desk) -> OutsideVenue:
    assert outside.venue is not None
    return outside.venue


@pytest.fixture
def deal(outside: Desk) -> Position:
    """A long deal that holds 1 BTC, bought at 100."""
    return outside.open("100")


def once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, do: Callable[[], Any]) -> None:
    """Let ``do`` happen right before the next call of ``owner.name``."""
    real = getattr(owner, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        do()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, called)


def held(deal: Position) -> Decimal:
    deal.refresh_from_db()
    return deal.base_held


# Asked for twice ----------------------------------------------------------------------------------------------------


def test_a_part_that_two_requests_close_at_the_same_moment_is_sold_once(
    deal: Position, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Position.objects.get(pk=deal.pk)
    once(monkeypatch, handling, "stop_orders", lambda: manual.close_at_market(other, ANN, share_pct=D(50)))
    with pytest.raises(OrderRefused, check=lambda error: error.code == "duplicate_intent"):
        manual.close_at_market(deal, ANN, share_pct=D(50))
    assert held(deal) == D("0.5")


def written_down(deal: Position, purpose: Purpose) -> None:
    """Another process has decided on a close at market and is about to send it."""
    other = Position.objects.get(pk=deal.pk)
    handling.ask_for_funds(other)
    execution.intend(other, Intent(purpose=purpose, sequence=execution.next_sequence(other, purpose)))


@pytest.mark.parametrize("purpose", [Purpose.MANUAL_CLOSE, Purpose.STOP_LOSS])
def test_f21_a_close_that_was_written_down_a_moment_ago_is_not_cancelled_by_another_one(
    deal: Position, venue: OutsideVenue, monkeypatch: pytest.MonkeyPatch, purpose: Purpose
) -> None:
    """Each used to take the other for an order in the way: both were refused, and the deal stayed open."""
    once(monkeypatch, handling, "stop_orders", lambda: written_down(deal, purpose))
    closing = manual.close_at_market(deal, ANN)
    assert (closing.state, held(deal), deal.status) == ("closed", 0, PositionStatus.CLOSED)
    closes = Order.objects.filter(position=deal).exclude(purpose="base_order")
    assert list(closes.values_list("purpose", "status")) == [(purpose, OrderStatus.FILLED)]


def test_f21_a_stop_that_was_written_down_a_moment_ago_is_not_cancelled_by_a_limit_close(
    deal: Position, venue: OutsideVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, handling, "stop_orders", lambda: written_down(deal, Purpose.STOP_LOSS))
    venue.fail("place", VenueUnknown("timeout"))
    with pytest.raises(OrderRefused, check=lambda error: error.code == "close_working"):
        limit_close.place(deal, ANN, D(200))
    stop = Order.objects.get(position=deal, purpose="stop_loss")
    assert (stop.status, stop.cancel_requested_at) == (OrderStatus.SUBMITTED, None)
    assert not Order.objects.filter(position=deal, purpose="limit_close").exists()


def test_f5_a_part_whose_close_was_not_confirmed_is_not_sold_again_by_asking_again(
    deal: Position, venue: OutsideVenue
) -> None:
    venue.fail("place", VenueUnknown("timeout"), done=True)
    assert manual.close_at_market(deal, ANN, share_pct=D(50)).state == "working"
    assert manual.close_at_market(deal, ANN, share_pct=D(50)).state == "reduced"
    assert held(deal) == D("0.5")
    assert manual.close_at_market(deal, ANN).state == "closed"


def test_f5_all_of_a_deal_is_closed_though_a_part_of_it_was_under_way(deal: Position, venue: OutsideVenue) -> None:
    venue.fail("place", VenueUnknown("timeout"), done=True)
    assert manual.close_at_market(deal, ANN, share_pct=D(50)).state == "working"
    assert manual.close_at_market(deal, ANN).state == "closed"


def test_a_part_that_two_requests_close_at_a_limit_is_sold_once(
    deal: Position, venue: OutsideVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Position.objects.get(pk=deal.pk)

    def first() -> None:
        order = limit_close.place(other, ANN, D(100), base=D("0.5")).order
        assert order is not None
        venue.fill(order.client_order_id, "0.5")
        reconcile.reconcile_account(deal.account_id)

    once(monkeypatch, handling, "stop_orders", first)
    with pytest.raises(OrderRefused, check=lambda error: error.code == "duplicate_intent"):
        limit_close.place(deal, ANN, D(100), base=D("0.5"))
    assert held(deal) == D("0.5")


def test_f20_a_limit_close_that_two_requests_change_is_replaced_once(
    deal: Position, venue: OutsideVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_close.place(deal, ANN, D(130), base=D("0.5"))
    other = Position.objects.get(pk=deal.pk)

    def first() -> None:
        order = limit_close.change(other, ANN, price=D(100)).order
        assert order is not None
        venue.fill(order.client_order_id, "0.5")
        reconcile.reconcile_account(deal.account_id)

    once(monkeypatch, handling, "stop_orders", first)
    with pytest.raises(OrderRefused):
        limit_close.change(deal, ANN, price=D(100))
    assert held(deal) == D("0.5")
    assert not deal.orders.filter(status=OrderStatus.OPEN).exists()


def test_an_amount_that_two_requests_add_is_added_once(quoted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    deal = quoted.open("100")
    other = Position.objects.get(pk=deal.pk)
    once(monkeypatch, funds, "_intent", lambda: funds.add_funds(other, D(50), ANN))
    with pytest.raises((OrderRefused, InvalidInput)):
        funds.add_funds(deal, D(50), ANN)
    assert held(deal) == D("1.5")


# Sent and cancelled at the same moment --------------------------------------------------------------------------------


def test_f19_an_order_that_is_just_being_sent_is_not_called_cancelled(
    outside: Desk, venue: OutsideVenue, deal: Position, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has marked a safety order and is about to send it; a person closes the deal. The venue, whose word is
    final, does not know the order yet."""
    venue.capabilities = replace(venue.capabilities, lookup_is_definitive=True)
    answers: list[str] = []

    def close() -> None:
        try:
            answers.append(manual.close_at_market(Position.objects.get(pk=deal.pk), ANN).state)
        except OrderRefused as refusal:
            answers.append(refusal.code)

    once(monkeypatch, venue, "place", close)
    outside.place(deal, Purpose.SAFETY_ORDER, base_size=D(1))
    assert answers == ["cancel_unconfirmed"]
    deal.refresh_from_db()
    assert (deal.status, deal.base_held) == (PositionStatus.OPEN, D(2))
    assert manual.close_at_market(deal, ANN).state == "closed"


def test_an_order_that_was_sent_meanwhile_is_not_ended_as_one_that_was_never_sent(
    outside: Desk, venue: OutsideVenue
) -> None:
    order = outside.intend_open()
    stale = Order.objects.get(pk=order.pk)
    venue.fail("place", VenueUnknown("timeout"), done=True)
    execution.submit(order)
    conclude(stale, OrderStatus.CANCELLED, "stale_intent", "It was never sent.")
    reconcile.reconcile_account(outside.account.pk)
    order.refresh_from_db()
    assert (order.status, order.position.status) == (OrderStatus.FILLED, PositionStatus.OPEN)


@pytest.mark.parametrize("known", [OrderStatus.REJECTED, OrderStatus.CANCELLED])
def test_an_order_that_the_venue_has_taken_meanwhile_is_not_called_lost(
    outside: Desk, venue: OutsideVenue, known: OrderStatus
) -> None:
    venue.fail("place", VenueUnknown("timeout"), done=True)
    order = outside.open_limit("1", "90")
    stale = Order.objects.get(pk=order.pk)
    reconcile.reconcile_account(outside.account.pk)
    conclude(stale, known, "never_arrived", "The venue never received it.")
    order.refresh_from_db()
    assert order.status == OrderStatus.OPEN


# A bot that is stopped while it opens -------------------------------------------------------------------------------


@pytest.mark.usefixtures("many_connections")
@pytest.mark.parametrize("end", ["stop", "archive"])
def test_a_bot_that_is_put_away_while_it_opens_keeps_no_deal_that_nobody_watches(end: str) -> None:
    account: Account = AccountFactory(balances={"USD": 10_000})
    bots = [BotFactory(account=account, status=Bot.Status.RUNNING, next_check_at=MOMENT) for _ in range(6)]
    desk = Desk(account, bots[0], ProductFactory())

    def work(number: int) -> Any:
        with acting_for_account(account.pk):
            bot = Bot.objects.get(pk=bots[number // 2].pk)
            if number % 2:
                return desk.intend_open("10", bot=bot)
            try:
                return services.stop_bot(bot, ANN) if end == "stop" else services.archive_bot(bot, ANN)
            except InvalidInput as refusal:
                return refusal

    in_threads(2 * len(bots), work)
    with detached("test looks"):
        for bot in Bot.objects.filter(pk__in=[bot.pk for bot in bots]):
            if Position.objects.filter(bot=bot).exists():
                assert bot.archived_at is None
                assert bot.next_check_at is not None
